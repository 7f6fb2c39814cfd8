//! How a run and its outcome are told: a line a second, and a few lines in the end, correctness first.

use std::fmt::{self, Display};
use std::io::{self, IsTerminal, Write};

use super::faults::Faults;
use super::kills::Killed;
use super::report::RaceReport;
use super::tally::{Counts, Row};
use crate::args::Output;

const MIB: f64 = 1024.0 * 1024.0;

/// Where a run is told: a line a second, on a terminal always the same one.
pub struct Screen {
    out: Box<dyn Write>,
    terminal: bool,
}

impl Screen {
    /// On standard output, unless that is kept for JSON.
    pub fn new(output: &Output) -> Screen {
        let (out, terminal): (Box<dyn Write>, bool) = match output.json_on_stdout() {
            false => (Box::new(io::stdout()), io::stdout().is_terminal()),
            true => (Box::new(io::stderr()), io::stderr().is_terminal()),
        };
        Screen { out, terminal }
    }

    /// Says something once. That nobody may be listening is no reason to end a run.
    pub fn say(&mut self, text: &str) {
        writeln!(self.out, "{text}").and_then(|()| self.out.flush()).ok();
    }

    /// Tells a second.
    pub fn show(&mut self, row: &Row, came: usize, members: usize) {
        let Row { at_s, stage, connections, heard, errors, faults, .. } = row;
        let [login, enter, connect] = [row.login_ms, row.enter_ms, row.connect_ms].map(|ms| ms.p99);
        let line = format!(
            "{at_s} s {stage}: {came}/{members} members, {connections} connections, {heard} heard/s, p99 login \
             {login:.1} enter {enter:.1} connect {connect:.1} ms, {errors} errors, {faults} faults"
        );
        // Lines of a terminal are not wrapped meanwhile, so that the next one stands where this one did.
        let text =
            if self.terminal { format!("\r\x1b[?7l\x1b[2K{line}\x1b[?7h") } else { format!("{line}\n") };
        self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush()).ok();
    }

    /// Leaves the line of a terminal.
    pub fn end(&mut self) {
        if self.terminal {
            self.say("");
        }
    }
}

impl Display for RaceReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.correctness)?;
        let (plan, latencies) = (&self.plan, &self.latencies);
        let challenges: Vec<String> = plan.challenges.iter().map(u64::to_string).collect();
        let rate = (plan.connect_rate_per_s * 100.0).round() / 100.0; // a third of 100 has no end
        let (users, stay) = (plan.users, plan.duration_s);
        let challenges = challenges.join(", ");
        writeln!(f, "challenge {challenges} on {}: {users} members, {rate}/s, {stay} s", self.target)?;
        if let Some(after_s) = self.ended_early_s {
            writeln!(f, "ended early  after {after_s:.1} s")?;
        }
        write!(f, "{}", self.counts)?;
        let kinds = [
            ("login", &latencies.login_ms),
            ("join", &latencies.join_ms),
            ("enter", &latencies.enter_ms),
            ("connect", &latencies.connect_ms),
            ("pong", &latencies.pong_ms),
            ("update", &latencies.update_ms),
            ("recovery", &latencies.recovery_ms),
        ];
        for (name, found) in kinds.into_iter().filter(|(_, found)| found.count > 0) {
            writeln!(f, "{name:<12} {found}")?;
        }
        let errors: u64 = self.errors.values().sum();
        writeln!(f, "errors       {errors}, {:.4} % of all calls and handshakes", self.error_rate * 100.0)?;
        for (what, count) in &self.errors {
            writeln!(f, "  {count} × {what}")?;
        }
        for killed in &self.disruptions {
            writeln!(f, "{killed}")?;
        }
        if let Some(ranked) = self.ranked {
            writeln!(f, "ranking      {ranked} members were looked for")?;
        }
        if let Some(server) = &self.server {
            let [idle, connected, end] =
                [server.rss_bytes_idle, server.rss_bytes_connected, server.rss_bytes_end]
                    .map(|bytes| bytes as f64 / MIB);
            let (cpu, percent) = (server.cpu_s, server.cpu_percent);
            writeln!(f, "server       {cpu:.2} CPU s, {percent:.1} % of this machine while all were there")?;
            writeln!(f, "memory       {idle:.1} MiB idle, {connected:.1} when all were there, {end:.1} end")?;
        }
        for judged in &self.thresholds {
            writeln!(f, "{judged}")?;
        }
        for warning in &self.warnings {
            writeln!(f, "beware       {warning}")?;
        }
        writeln!(f, "generator    {:.2} CPU s while all were there", self.generator_cpu_s)
    }
}

impl Display for Killed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Killed { what, at_s, pid, failed, interrupted, recovery_ms, all_back_ms } = self;
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
        Ok(())
    }
}

impl Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Faults { lost, duplicated, out_of_order, foreign, unanswered, examples } = self;
        write!(f, "lost {lost}, duplicated {duplicated}, out of order {out_of_order}, foreign {foreign}")?;
        write!(f, ", unanswered {unanswered}")?;
        for (kind, examples) in examples {
            write!(f, "\n  {}:", kind.replace('_', " "))?;
            for one in examples {
                write!(f, "\n    member {} about {}: {}", one.who, one.about, one.what)?;
            }
        }
        Ok(())
    }
}

impl Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { begun, logged_in, joined, joined_before, entered, connected, .. } = self;
        writeln!(
            f,
            "members      {begun} begun, {logged_in} logged in, {joined} joined and {joined_before} had before, \
             {entered} tickets, {connected} connected"
        )?;
        let Counts { dropped, interrupted, reentered, finished, quit, .. } = self;
        writeln!(
            f,
            "             {dropped} lost their connection, {interrupted} by a kill, {reentered} came back, \
             {finished} finished, {quit} quit"
        )?;
        let Counts { pings, pongs, records, heard_entered, heard_left, heard_updates, .. } = self;
        writeln!(
            f,
            "messages     {pings} PING, {pongs} PONG, {records} RECORD; heard {heard_entered} USER_ENTERED, \
             {heard_left} USER_LEFT, {heard_updates} PARTICIPANT_UPDATE"
        )
    }
}
