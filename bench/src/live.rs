//! What can be shown while a run goes on: a [`Snapshot`] at least once a second.

use serde::{Deserialize, Serialize};

use crate::series::{Errors, Row};

/// The stages of a run as they are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Signing users up.
    SignUp,
    /// Logging them in.
    LogIn,
    /// Making rooms.
    Rooms,
    /// Dialling.
    Connect,
    /// The load, warm-up included.
    Load,
    /// Waiting for what is still owed.
    Drain,
}

impl Step {
    /// In words.
    pub fn name(self) -> &'static str {
        match self {
            Step::SignUp => "sign up",
            Step::LogIn => "log in",
            Step::Rooms => "rooms",
            Step::Connect => "connect",
            Step::Load => "load",
            Step::Drain => "drain",
        }
    }
}

/// How far a run is.
#[derive(Clone, Copy, Debug)]
pub struct Snapshot<'a> {
    /// What is being done.
    pub step: Step,
    /// How far that is: users, rooms or connections; of the load, seconds.
    pub progress: Progress,
    /// The second that has just ended; from `Connect` on, once for each second, else `None`.
    pub row: Option<&'a Row>,
    /// All until now.
    pub totals: &'a Totals,
}

/// How far something is that has a known end.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    /// Done so far.
    pub done: u64,
    /// Of so many.
    pub total: u64,
    /// Since its beginning.
    pub elapsed_s: f64,
}

impl Progress {
    /// Done per second.
    pub fn per_s(&self) -> f64 {
        self.done as f64 / self.elapsed_s.max(1e-9)
    }

    /// Seconds left at that rate, once anything is done.
    pub fn eta_s(&self) -> Option<f64> {
        (self.done > 0).then(|| self.total.saturating_sub(self.done) as f64 / self.per_s())
    }
}

/// Counts since the run began.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Totals {
    /// Open now.
    pub connections: u64,
    /// Sent.
    pub sent: u64,
    /// Granted.
    pub acked: u64,
    /// First deliveries.
    pub delivered: u64,
    /// Left more than a millisecond after their time.
    pub late: u64,
    /// Duplicated, out of order or foreign so far.
    pub faults: u64,
    /// By kind.
    pub errors: Errors,
    /// Seconds in which the load tester may have set the pace.
    pub bottleneck_s: u64,
}

impl Totals {
    /// Adds one second.
    pub fn add(&mut self, row: &Row) {
        self.connections = row.connections;
        self.sent += row.sent;
        self.acked += row.acked;
        self.delivered += row.delivered;
        self.late += row.late;
        self.faults += row.faults;
        self.errors += row.errors;
        self.bottleneck_s += u64::from(row.generator.bottleneck);
    }

    /// Adds another machine's.
    pub fn add_all(&mut self, other: &Totals) {
        self.connections += other.connections;
        self.sent += other.sent;
        self.acked += other.acked;
        self.delivered += other.delivered;
        self.late += other.late;
        self.faults += other.faults;
        self.errors += other.errors;
        self.bottleneck_s += other.bottleneck_s;
    }
}

/// Who is told how far a run is.
pub type Audience<'a> = dyn FnMut(&Snapshot) + 'a;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_takes_as_long_as_what_is_done() {
        let progress = Progress { done: 25, total: 100, elapsed_s: 5.0 };
        assert_eq!((progress.per_s(), progress.eta_s()), (5.0, Some(15.0)));
        assert_eq!(Progress { done: 0, total: 9, elapsed_s: 1.0 }.eta_s(), None);
    }
}
