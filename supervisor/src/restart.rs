//! Whether and when a dead child is started again. Pure: the caller says what happened and when.
//!
//! A child that has served is always replaced, at once the first time and with a growing pause, never
//! past [`PAUSE_MAX`], while it keeps dying: a host whose workers are killed again and again must be
//! back within a second each time. A child that never gets to serve, or says itself that it cannot
//! live, is a clear end: trying for ever would only hide the reason.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::child::EXIT_CANNOT_LIVE;

/// The pause doubles from here.
const PAUSE_FIRST: Duration = Duration::from_millis(20);
/// Longest pause before a restart; leaves the child most of a second to get ready.
const PAUSE_MAX: Duration = Duration::from_millis(250);
/// A child that served this long is healthy: its death counts as the first one again.
const CALM: Duration = Duration::from_secs(10);
/// Deaths in a row before getting ready, after which it is given up.
const UNREADY_DEATHS: u32 = 5;

/// How a child came to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The system could not start it; the text says why.
    NotStarted(String),
    /// It exited with this code.
    Exited(i32),
    /// This signal killed it.
    Killed(i32),
    /// It is gone, and the system does not say how.
    Unknown,
}

/// What to do about a death.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Start it again after this pause.
    Again(Duration),
    /// Stop the host.
    GiveUp(Why),
}

/// Why starting it again would not help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It said so, by its exit code.
    CannotLive,
    /// It died this often in a row without getting ready.
    NeverReady(u32),
}

/// The deaths of one child and its predecessors in the same place.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct History {
    has_served: bool,
    /// Deaths since the last calm.
    recent: u32,
    /// Deaths in a row before getting ready.
    unready: u32,
}

impl History {
    /// Judges a death. `served`: for how long it had been ready; none: it never was.
    pub fn died(&mut self, end: &End, served: Option<Duration>) -> Verdict {
        if *end == End::Exited(i32::from(EXIT_CANNOT_LIVE)) {
            return Verdict::GiveUp(Why::CannotLive);
        }
        match served {
            Some(served) => {
                self.has_served = true;
                self.unready = 0;
                if served >= CALM {
                    self.recent = 0;
                }
            }
            None if self.has_served && is_from_outside(end) => {}
            None => self.unready += 1,
        }
        if self.unready >= UNREADY_DEATHS {
            return Verdict::GiveUp(Why::NeverReady(self.unready));
        }
        let pause = pause(self.recent);
        self.recent = self.recent.saturating_add(1);
        Verdict::Again(pause)
    }
}

/// Whether an end says nothing about the child itself. Once a host has served, somebody's `kill -9`
/// or a moment without memory for a new process must not bring it down.
fn is_from_outside(end: &End) -> bool {
    match end {
        End::NotStarted(_) => true,
        End::Killed(signal) => *signal == nix::libc::SIGKILL,
        End::Exited(_) | End::Unknown => false,
    }
}

fn pause(earlier_deaths: u32) -> Duration {
    match earlier_deaths.checked_sub(1) {
        None => Duration::ZERO,
        Some(doublings) => PAUSE_FIRST.saturating_mul(1 << doublings.min(8)).min(PAUSE_MAX),
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::NotStarted(error) => write!(f, "could not be started: {error}"),
            End::Exited(code) => write!(f, "ended with exit code {code}"),
            End::Unknown => f.write_str("is gone"),
            End::Killed(signal) => match nix::sys::signal::Signal::try_from(*signal) {
                Ok(name) => write!(f, "was killed by {name}"),
                Err(_) => write!(f, "was killed by signal {signal}"),
            },
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::CannotLive => f.write_str("cannot live, its own last line says why"),
            Why::NeverReady(times) => write!(f, "died {times} times in a row before it was ready"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KILLED: End = End::Killed(9);
    const CRASHED: End = End::Exited(101);
    const A_MOMENT: Option<Duration> = Some(Duration::from_millis(900));

    #[test]
    fn a_child_that_served_is_replaced_at_once() {
        let mut history = History::default();
        assert_eq!(history.died(&CRASHED, A_MOMENT), Verdict::Again(Duration::ZERO));
    }

    #[test]
    fn one_that_keeps_dying_after_serving_waits_longer_but_is_never_given_up() {
        let mut history = History::default();
        let mut last = Duration::ZERO;
        for death in 0..1_000 {
            let Verdict::Again(pause) = history.died(&CRASHED, A_MOMENT) else {
                panic!("given up at death {death}");
            };
            assert!(pause >= last && pause <= PAUSE_MAX, "{pause:?} after {last:?}");
            last = pause;
        }
        assert_eq!(last, PAUSE_MAX);
    }

    #[test]
    fn a_calm_time_forgives() {
        let mut history = History::default();
        for _ in 0..20 {
            history.died(&KILLED, A_MOMENT);
        }
        assert_eq!(history.died(&KILLED, Some(CALM)), Verdict::Again(Duration::ZERO));
    }

    #[test]
    fn one_that_never_gets_ready_is_given_up() {
        for end in [CRASHED, KILLED, End::Exited(0), End::NotStarted("no such file".to_owned())] {
            let mut history = History::default();
            for _ in 1..UNREADY_DEATHS {
                assert!(matches!(history.died(&end, None), Verdict::Again(_)), "{end}");
            }
            let end = history.died(&end, None);
            assert_eq!(end, Verdict::GiveUp(Why::NeverReady(UNREADY_DEATHS)));
        }
    }

    #[test]
    fn getting_ready_in_between_starts_the_count_again() {
        let mut history = History::default();
        for _ in 0..10 {
            for _ in 1..UNREADY_DEATHS {
                assert!(matches!(history.died(&CRASHED, None), Verdict::Again(_)));
            }
            assert!(matches!(history.died(&CRASHED, A_MOMENT), Verdict::Again(_)));
        }
    }

    #[test]
    fn on_a_host_that_served_a_kill_during_the_start_is_no_verdict_on_the_child() {
        let mut history = History::default();
        history.died(&KILLED, A_MOMENT);
        for _ in 0..100 {
            assert!(matches!(history.died(&KILLED, None), Verdict::Again(_)));
        }
        for _ in 1..UNREADY_DEATHS {
            assert!(matches!(history.died(&CRASHED, None), Verdict::Again(_)));
        }
        assert!(matches!(history.died(&CRASHED, None), Verdict::GiveUp(_)));
    }

    #[test]
    fn one_that_says_it_cannot_live_is_believed() {
        let mut history = History::default();
        assert_eq!(history.died(&End::Exited(3), None), Verdict::GiveUp(Why::CannotLive));
        assert_eq!(history.died(&End::Exited(3), A_MOMENT), Verdict::GiveUp(Why::CannotLive));
    }
}
