//! What is shown while a run goes on: on a terminal a few lines that are drawn anew in place, elsewhere
//! a plain line a second.
//!
//! Each drawing leaves the terminal as it was, with the cursor below the last line: there is nothing
//! to put back when the run is interrupted, panics or is killed.

use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use crate::args::Output;
use crate::chart::short;
use crate::live::{Progress, Snapshot, Step};
use crate::series::{Errors, Generator, Row};

/// At least so long from one plain line to the next, unless something else is being done.
const PLAIN_EVERY: Duration = Duration::from_secs(1);

/// Characters of the bar.
const BAR: u64 = 24;

const MIB: f64 = 1024.0 * 1024.0;

const BOLD: &str = "\x1b[1m";
const RED: &str = "\x1b[31m";
const PLAIN: &str = "\x1b[0m";

/// Where it is shown, and what is shown there now.
pub struct Screen {
    out: Box<dyn Write>,
    terminal: bool,
    /// Lines of the terminal.
    height: usize,
    /// Lines drawn last.
    drawn: usize,
    told: Option<(Step, Instant)>,
    title: String,
    cores: usize,
}

impl Screen {
    /// On standard output, unless that is kept for JSON.
    pub fn new(title: String, output: &Output) -> Screen {
        let (out, terminal, rows): (Box<dyn Write>, bool, usize) = match output.json_on_stdout() {
            false => (Box::new(io::stdout()), io::stdout().is_terminal(), rows(io::stdout())),
            true => (Box::new(io::stderr()), io::stderr().is_terminal(), rows(io::stderr())),
        };
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Screen { out, terminal, height: rows, drawn: 0, told: None, title, cores }
    }

    /// Shows how far the run is. That nobody may be looking any more is no reason to end it.
    pub fn show(&mut self, now: &Snapshot) {
        if self.terminal {
            let mut lines = self.lines(now);
            lines.truncate(self.height.saturating_sub(1));
            let drawing = drawing(&lines, self.drawn);
            self.drawn = lines.len();
            self.put(&drawing);
        } else if self.is_due(now) {
            let line = plain(now);
            self.put(&format!("{line}\n"));
        }
    }

    fn put(&mut self, text: &str) {
        self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush()).ok();
    }

    fn is_due(&mut self, now: &Snapshot) -> bool {
        let due = now.row.is_some()
            || self.told.is_none_or(|(step, at)| step != now.step || at.elapsed() >= PLAIN_EVERY);
        if due {
            self.told = Some((now.step, Instant::now()));
        }
        due
    }

    /// The lines on a terminal.
    fn lines(&self, now: &Snapshot) -> Vec<String> {
        let head = format!("{BOLD}{}{PLAIN}   {}", self.title, doing(now));
        let mut lines = vec![head, format!("{} {}", bar(&now.progress), progress(now)), String::new()];
        let Some(row) = now.row else { return lines };
        let Row { connections, sent, delivered, ack_ms, delivery_ms, generator, .. } = row;
        lines.push(format!(
            "connections {:>9}     sent/s {:>9}     delivered/s {:>9}",
            connections,
            short(*sent as f64),
            short(*delivered as f64)
        ));
        lines.push(format!("ack      p50 {:>9.2} ms    p99 {:>9.2} ms", ack_ms.p50, ack_ms.p99));
        lines.push(format!("delivery p50 {:>9.2} ms    p99 {:>9.2} ms", delivery_ms.p50, delivery_ms.p99));
        let totals = now.totals;
        let faults =
            format!("{} duplicated, out of order or foreign so far; lost: known at the end", totals.faults);
        lines.push(marked(format!("faults   {faults}"), totals.faults > 0));
        lines.push(marked(format!("errors   {}", errors(&totals.errors)), totals.errors.total() > 0));
        if let Some(target) = &row.target {
            let (memory, count) = (target.rss_bytes as f64 / MIB, target.processes.len());
            let mut line = format!("server   {memory:.0} MiB in {count} processes");
            if let (Some(storage), Some(unanswered)) = (target.queue_storage, target.queue_unanswered) {
                line += &format!("; {storage} wait for the storage writer, {unanswered} for its answer");
            }
            lines.push(line);
        }
        let (used, cores, lag) = (generator.cpu_share, self.cores, generator.lag_ms);
        lines.push(format!("tester   {used:.2} of {cores} cores, latest message {lag:.1} ms late"));
        if generator.bottleneck {
            lines.push(marked(format!("         {}", bottleneck(generator)), true));
        }
        lines.push(String::new());
        lines.push("Ctrl-C ends the load early; what was sent is still judged and reported.".to_owned());
        lines
    }
}

/// What keeps the load tester from being in time, and what to do about it.
fn bottleneck(generator: &Generator) -> &'static str {
    if generator.cpu_share >= THREAD_BUSY {
        "the load tester itself is the bottleneck: use more machines (--shard)"
    } else {
        "the load tester is late, waiting for a core: other programs, maybe the server, keep them busy"
    }
}

/// So many cores in use that one thread may have no time left.
const THREAD_BUSY: f64 = 0.9;

/// Lines of a terminal; without one, plenty.
fn rows(terminal: impl AsFd) -> usize {
    match rustix::termios::tcgetwinsize(terminal) {
        Ok(size) if size.ws_row > 0 => usize::from(size.ws_row),
        _ => usize::MAX,
    }
}

/// Draws lines over those drawn before. Long ones are cut by the terminal, which is not to wrap them
/// meanwhile.
fn drawing(lines: &[String], over: usize) -> String {
    let up = if over > 0 { format!("\x1b[{over}A") } else { String::new() };
    let lines: String = lines.iter().map(|line| format!("\r\x1b[2K{line}\n")).collect();
    format!("\x1b[?7l{up}{lines}\r\x1b[J\x1b[?7h")
}

fn marked(line: String, wrong: bool) -> String {
    if wrong { format!("{RED}{line}{PLAIN}") } else { line }
}

/// What is being done, with the name of the phase.
fn doing(now: &Snapshot) -> String {
    match now.row {
        Some(row) if now.step == Step::Load => format!("load, phase {}", row.phase),
        _ => now.step.name().to_owned(),
    }
}

fn bar(progress: &Progress) -> String {
    let done = (progress.done * BAR).checked_div(progress.total).unwrap_or(0).min(BAR);
    let part = |count: u64, sign: &str| (0..count).map(|_| sign).collect::<String>();
    format!("[{}{}]", part(done, "#"), part(BAR - done, "-"))
}

/// How far it is in words: done, rate, time left.
fn progress(now: &Snapshot) -> String {
    let Progress { done, total, .. } = now.progress;
    let unit = match now.step {
        Step::SignUp | Step::LogIn => "users",
        Step::Rooms => "rooms",
        Step::Connect => "connections",
        Step::Load => "s",
        Step::Drain => "deliveries",
    };
    let mut text = format!("{done}/{total} {unit}");
    if now.step != Step::Load {
        text += &format!(", {}/s", short(now.progress.per_s().round()));
    }
    if let Some(left) = now.progress.eta_s().filter(|_| done < total) {
        text += &format!(", {} s left", left.ceil());
    }
    text
}

fn errors(errors: &Errors) -> String {
    let Errors { refused, unsent, failed, dropped, other } = errors;
    format!(
        "{refused} refused, {unsent} unsent, {failed} not connected, {dropped} connections lost, {other} other"
    )
}

/// One line about a second.
fn plain(now: &Snapshot) -> String {
    let Some(row) = now.row else {
        return format!("{}: {}", now.step.name(), progress(now));
    };
    let Row { at_s, phase, connections, sent, delivered, ack_ms, delivery_ms, .. } = row;
    let mut line = format!(
        "{at_s} s {phase}: {connections} connections, {sent} sent/s, {delivered} delivered/s, \
         ack p50 {:.2} p99 {:.2} ms, delivery p50 {:.2} p99 {:.2} ms, {} errors, {} faults",
        ack_ms.p50,
        ack_ms.p99,
        delivery_ms.p50,
        delivery_ms.p99,
        now.totals.errors.total(),
        now.totals.faults
    );
    if let Some(target) = &row.target {
        line += &format!(", server {:.0} MiB", target.rss_bytes as f64 / MIB);
        if let Some(waiting) = target.queue_storage {
            line += &format!(", queue {waiting}");
        }
    }
    if row.generator.bottleneck {
        line += &format!("; {}", bottleneck(&row.generator));
    }
    line
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::live::Totals;
    use crate::watch::Target;

    #[derive(Clone, Default)]
    struct Heard(Arc<Mutex<Vec<u8>>>);

    impl Write for Heard {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Heard {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    fn screen(terminal: bool) -> (Screen, Heard) {
        let (heard, title) = (Heard::default(), "quick on 127.0.0.1:4000".to_owned());
        let out = Box::new(heard.clone());
        (Screen { out, terminal, height: 24, drawn: 0, told: None, title, cores: 2 }, heard)
    }

    fn row() -> Row {
        let target = Target {
            rss_bytes: 300 << 20,
            queue_storage: Some(4),
            queue_unanswered: Some(5),
            ..Target::default()
        };
        let generator = Generator { cpu_share: 1.99, lag_ms: 250.0, bottleneck: true };
        Row {
            at_s: 7,
            phase: "celebration".into(),
            sent: 1500,
            connections: 30,
            target: Some(target),
            generator,
            ..Row::default()
        }
    }

    fn load<'a>(row: Option<&'a Row>, totals: &'a Totals) -> Snapshot<'a> {
        let progress = Progress { done: 15, total: 30, elapsed_s: 15.0 };
        Snapshot { step: Step::Load, progress, row, totals }
    }

    #[test]
    fn on_a_terminal_it_is_drawn_in_place_and_nothing_stays_switched_on() {
        let (mut screen, heard) = screen(true);
        let (row, totals) = (row(), Totals { faults: 3, ..Totals::default() });
        screen.show(&load(None, &totals));
        assert_eq!(screen.drawn, 3);
        screen.show(&load(Some(&row), &totals));
        let text = heard.text();
        assert!(text.contains("\x1b[3A"), "over the three lines before: {text:?}");
        for told in [
            "[############------------] 15/30 s, 15 s left",
            "load, phase celebration",
            "sent/s      1.5k",
            "3 duplicated",
            "300 MiB",
            "4 wait for the storage writer, 5 for its answer",
            "1.99 of 2 cores",
            "the load tester itself is the bottleneck",
        ] {
            assert!(text.contains(told), "{told:?} in {text}");
        }
        assert!(
            text.ends_with("\x1b[?7h")
                && text.matches("\x1b[?7l").count() == text.matches("\x1b[?7h").count()
        );
        assert!(screen.drawn < 24);
        (screen.height, screen.drawn) = (6, 0);
        screen.show(&load(Some(&row), &totals));
        assert_eq!(screen.drawn, 5, "a low terminal is not scrolled");
    }

    #[test]
    fn without_one_there_is_a_line_for_each_second_and_for_each_step() {
        let (mut screen, heard) = screen(false);
        let (mut row, totals) = (row(), Totals::default());
        let step = |step, done| Snapshot {
            step,
            progress: Progress { done, total: 30, elapsed_s: 1.0 },
            row: None,
            totals: &totals,
        };
        (0..30).for_each(|done| screen.show(&step(Step::SignUp, done)));
        screen.show(&step(Step::LogIn, 0));
        screen.show(&load(Some(&row), &totals));
        row.generator.cpu_share = 0.2;
        screen.show(&load(Some(&row), &totals));
        let text = heard.text();
        for told in ["the load tester itself is the bottleneck", "late, waiting for a core"] {
            assert_eq!(text.matches(told).count(), 1, "{text}");
        }
        assert!(!text.contains('\x1b') && text.starts_with("sign up: 0/30 users"), "{text}");
        assert_eq!(text.matches("log in: 0/30 users").count(), 1);
        assert_eq!(text.matches("7 s celebration: 30 connections, 1500 sent/s").count(), 2, "{text}");
        assert!(text.contains("server 300 MiB, queue 4"), "{text}");
    }
}
