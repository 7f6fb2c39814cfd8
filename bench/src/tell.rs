//! How the outcome is told: a few lines for people, correctness first, and JSON.

use std::fmt::{self, Display};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;

use crate::args::Output;
use crate::fail_if::Judged;
use crate::hdr::Percentiles;
use crate::report::{Actions, Correctness, Disruption, Messages, Report, Server};

const MIB: f64 = 1024.0 * 1024.0;

impl Report {
    /// Prints the summary, and writes the JSON where it was wished for: `-` is stdout, which is
    /// then left to it alone.
    pub fn publish(&self, json: Option<&Path>) -> io::Result<()> {
        let Some(path) = json else {
            return write!(io::stdout(), "{self}");
        };
        match path == Path::new("-") {
            true => write!(io::stderr(), "{self}")?,
            false => write!(io::stdout(), "{self}")?,
        }
        write_json(self, path)
    }
}

/// Finds out before a run whether its reports can be written after it. Files that are there stay as they
/// are, and none is left that was not. Pipes and devices are not tried: whoever reads one would hear its end.
pub fn can_write(output: &Output) -> io::Result<()> {
    if output.json.is_some() && output.json == output.html {
        return Err(io::Error::other("--json and --html name the same file"));
    }
    for path in output.json.iter().filter(|_| !output.json_on_stdout()).chain(&output.html) {
        let named = |why: io::Error| io::Error::new(why.kind(), format!("{}: {why}", path.display()));
        let there = fs::metadata(path);
        if there.as_ref().is_ok_and(|found| !found.is_file() && !found.is_dir()) {
            continue;
        }
        OpenOptions::new().append(true).create(true).open(path).map_err(named)?;
        if there.is_err() {
            fs::remove_file(path).map_err(named)?;
        }
    }
    Ok(())
}

/// Writes JSON to a file; `-` is stdout.
pub fn write_json(value: &impl Serialize, path: &Path) -> io::Result<()> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    if path == Path::new("-") {
        return io::stdout().write_all(text.as_bytes());
    }
    let named = |why: io::Error| io::Error::new(why.kind(), format!("{}: {why}", path.display()));
    fs::write(path, text).map_err(named)
}

impl Report {
    /// The server's memory under load, where it tells: in the first row, the most, in the last.
    fn target_memory(&self) -> Option<(u64, u64, u64)> {
        let loaded = self.series.iter().filter(|row| row.sent > 0);
        let memory = || loaded.clone().filter_map(|row| row.target.as_ref()).map(|target| target.rss_bytes);
        Some((memory().next()?, memory().max()?, memory().next_back()?))
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.correctness)?;
        let asked = &self.plan;
        writeln!(f, "{} on {}: {} users, {} rooms", self.scenario, self.target, asked.users, asked.rooms)?;
        let setup = &self.setup;
        let (signups, logins, rooms) = (setup.signups_per_s, setup.logins_per_s, setup.rooms_per_s);
        writeln!(f, "setup        {signups:.0} signups/s, {logins:.0} logins/s, {rooms:.0} rooms/s")?;
        let connections = &self.connections;
        let broken = |reasons: &std::collections::BTreeMap<String, u64>| reasons.values().sum::<u64>();
        writeln!(
            f,
            "connections  {} ready, {} failed, {} broken; {:.0}/s",
            connections.connected,
            broken(&connections.failed),
            broken(&connections.dropped),
            connections.connects_per_s,
        )?;
        writeln!(f, "handshake    {}", connections.handshake_ms)?;
        if connections.recovery_ms.count > 0 || connections.interrupted > 0 {
            let (broke, back) = (connections.interrupted, connections.recovery_ms);
            writeln!(f, "recovery     {broke} broken on purpose, {} came back; {back}", back.count)?;
        }
        if connections.slow_readers > 0 {
            let (slow, closed) = (connections.slow_readers, connections.slow_readers_closed);
            writeln!(f, "slow readers {slow}, {closed} of them closed by the server")?;
        }
        if let Some(messages) = &self.messages {
            write!(f, "{messages}")?;
        }
        if let Some(server) = &self.server {
            write!(f, "{server}")?;
        }
        writeln!(f, "{}", self.actions)?;
        for disruption in &self.disruptions {
            writeln!(f, "{disruption}")?;
        }
        for judged in &self.thresholds {
            writeln!(f, "{judged}")?;
        }
        for warning in &self.preflight.warnings {
            writeln!(f, "beware       {warning}")?;
        }
        if let Some((first, most, last)) = self.target_memory() {
            let [first, most, last] = [first, most, last].map(|bytes| bytes as f64 / MIB);
            writeln!(f, "target       {first:.1} MiB at first, {most:.1} at most, {last:.1} in the end")?;
        }
        write!(f, "generator    {:.2} CPU s in {:.1} s", self.generator_cpu_s, asked.duration_s)?;
        match self.totals.bottleneck_s {
            0 => writeln!(f),
            seconds => writeln!(f, "; BEWARE, in {seconds} s it may have set the pace itself"),
        }
    }
}

impl Display for Actions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Actions { typing_sent, typing_heard, history, search, reconnects } = self;
        write!(f, "beside       typing {typing_sent} sent, {typing_heard} heard; {reconnects} reconnects")?;
        for (name, action) in [("history", history), ("search", search)] {
            if action.ms.count > 0 || !action.failed.is_empty() {
                write!(f, "\n{name:<12} {} answered; {}", action.ms.count, action.ms)?;
            }
            for (why, count) in &action.failed {
                write!(f, "\n  {count} × {why}")?;
            }
        }
        Ok(())
    }
}

impl Display for Disruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Disruption { what, at_s, pid, failed, interrupted, recovery_ms, all_back_ms, ack_ms_max } = self;
        write!(f, "{what} at {at_s:.1} s")?;
        if let Some(pid) = pid {
            write!(f, " (process {pid})")?;
        }
        if let Some(why) = failed {
            return write!(f, ": not done, {why}");
        }
        write!(f, ": {interrupted} connections broke, {} back", recovery_ms.count)?;
        if recovery_ms.count > 0 {
            write!(f, ", the last after {all_back_ms:.0} ms")?;
        }
        write!(f, "; longest ack {ack_ms_max:.0} ms")
    }
}

impl Display for Judged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (verdict, found) = match (self.broken, self.found) {
            (Some(true), Some(found)) => ("BROKEN", format!("found {found:.3}")),
            (Some(false), Some(found)) => ("kept", format!("found {found:.3}")),
            _ => ("NOT JUDGED", "this run has no such figure".to_owned()),
        };
        write!(f, "threshold    {verdict}: fail if {}; {found}", self.condition)
    }
}

impl Display for Correctness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Correctness { lost, duplicated, out_of_order, foreign, unanswered, .. } = self;
        write!(f, "lost {lost}, duplicated {duplicated}, out of order {out_of_order}, foreign {foreign}")?;
        if *unanswered > 0 {
            write!(f, "; unanswered {unanswered}")?;
        }
        for (kind, examples) in self.examples.iter().filter(|(_, examples)| !examples.is_empty()) {
            write!(f, "\n  {}:", kind.replace('_', " "))?;
            for example in examples {
                write!(f, "\n    {} in room {}: {}", example.who, example.room, example.what)?;
                if let Some(number) = example.message {
                    write!(f, ", message {number}")?;
                }
                if let Some(seq) = example.seq {
                    write!(f, ", seq {seq}")?;
                }
            }
        }
        Ok(())
    }
}

impl Display for Messages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Messages { sent, acked, refused, unsent, delivered, late, lag_ms_max, .. } = self;
        writeln!(
            f,
            "messages     {sent} sent, {acked} acked, {refused} refused, {unsent} unsent, {delivered} delivered"
        )?;
        writeln!(f, "sending      {late} late by more than 1 ms, {lag_ms_max:.1} ms at most")?;
        writeln!(f, "acks         {:.0}/s; {}", self.acks_per_s, self.ack_ms)?;
        writeln!(f, "deliveries   {:.0}/s; {}", self.deliveries_per_s, self.delivery_ms)?;
        for (what, count) in self.refusals.iter().chain(&self.other_packets) {
            writeln!(f, "  {count} × {what}")?;
        }
        Ok(())
    }
}

impl Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "server       {:.2} CPU s", self.cpu_s)?;
        if let Some(cost) = self.cpu_s_per_million_deliveries {
            write!(f, ", {cost:.2} per million deliveries")?;
        }
        if let Some(cost) = self.cpu_s_per_million_acks {
            write!(f, ", {cost:.2} per million acks")?;
        }
        let [idle, connected, end] = [self.rss_bytes_idle, self.rss_bytes_connected, self.rss_bytes_end]
            .map(|bytes| bytes as f64 / MIB);
        let each = self.rss_bytes_per_connection;
        writeln!(
            f,
            "\nmemory       {idle:.1} MiB idle, {connected:.1} connected ({each:.0} bytes each), {end:.1} end"
        )
    }
}

impl Display for Percentiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Percentiles { p50, p90, p99, p99_9, p99_99, max, .. } = self;
        write!(
            f,
            "ms p50 {p50:.2} p90 {p90:.2} p99 {p99:.2} p99.9 {p99_9:.2} p99.99 {p99_99:.2} max {max:.2}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_written_is_known_before_and_nothing_is_left_behind() {
        let dir = std::env::temp_dir().join(format!("minitalk-can-write-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let (new, old) = (dir.join("new.json"), dir.join("old.html"));
        fs::write(&old, "kept").unwrap();
        let output = |json: &Path, html: &Path| Output {
            json: Some(json.to_owned()),
            html: Some(html.to_owned()),
            fail_if: vec![],
        };
        can_write(&output(&new, &old)).unwrap();
        assert_eq!((new.exists(), fs::read_to_string(&old).unwrap().as_str()), (false, "kept"));
        can_write(&output(Path::new("-"), Path::new("/dev/null"))).unwrap();
        for (wrong, told) in [
            (output(&dir.join("none/x.json"), &old), "none/x.json: No such file"),
            (output(&new, &dir), "Is a directory"),
            (output(&old, &old), "name the same file"),
        ] {
            let why = can_write(&wrong).unwrap_err().to_string();
            assert!(why.contains(told), "{why}");
        }
        fs::remove_dir_all(dir).unwrap();
    }
}
