//! Says how far a long command is, on standard error: a bar on a terminal, else a line now and then.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Between two lines where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// Between two looks at the clock, in items.
const LOOK_ITEMS: u64 = 1_024;

/// One part of a long command.
pub struct Progress {
    what: &'static str,
    begun: Instant,
    told: Instant,
    items: u64,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Begins a part that reads so many bytes.
    pub fn new(what: &'static str, bytes: u64) -> Progress {
        Progress::with(what, bytes, "{prefix:>9} [{bar:30}] {bytes}/{total_bytes} {msg} eta {eta}")
    }

    /// Begins a part of so many items; for [`Progress::item`], what is done is their number.
    pub fn counted(what: &'static str, items: u64) -> Progress {
        Progress::with(what, items, "{prefix:>9} [{bar:30}] of {len}: {msg} eta {eta}")
    }

    fn with(what: &'static str, whole: u64, form: &str) -> Progress {
        let bar = io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(whole), ProgressDrawTarget::stderr_with_hz(4));
            if let Ok(style) = ProgressStyle::with_template(form) {
                bar.set_style(style);
            }
            bar.set_prefix(what);
            bar
        });
        Progress { what, begun: Instant::now(), told: Instant::now(), items: 0, bar }
    }

    /// One item more; so much of the whole is `done`.
    pub fn item(&mut self, done: u64) {
        self.items += 1;
        if !self.items.is_multiple_of(LOOK_ITEMS) {
            return;
        }
        match &self.bar {
            Some(bar) => {
                bar.set_position(done);
                bar.set_message(format!("{} ({}/s)", self.items, self.rate()));
            }
            None if self.told.elapsed() >= LINE_INTERVAL => {
                self.told = Instant::now();
                self.line("so far");
            }
            None => {}
        }
    }

    /// What is being done with all of them now.
    pub fn note(&self, what: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(format!("{}, {what}", self.items)),
            None => self.line(what),
        }
    }

    fn rate(&self) -> u128 {
        u128::from(self.items) * 1_000 / self.begun.elapsed().as_millis().max(1)
    }

    fn line(&self, state: &str) {
        let seconds = self.begun.elapsed().as_secs_f64();
        // Nobody to hear it is no mistake.
        let _ = writeln!(
            io::stderr(),
            "{}: {} {state}, {seconds:.1} s, {}/s",
            self.what,
            self.items,
            self.rate()
        );
    }

    /// The part is done.
    pub fn finish(self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        self.line("in all");
    }
}
