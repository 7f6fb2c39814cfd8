//! How far a challenge is, by the clock alone.

use serde::{Deserialize, Serialize};

/// How far a challenge is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Status {
    /// Can be joined.
    Recruiting,
    /// About to start: can be joined and entered.
    Ready,
    /// Under way: who was in can come back.
    Running,
    /// Over.
    Done,
}

impl Status {
    /// The spelling clients see.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Recruiting => "RECRUITING",
            Status::Ready => "READY",
            Status::Running => "RUNNING",
            Status::Done => "DONE",
        }
    }

    /// Whether there may be somebody in it.
    pub fn is_live(self) -> bool {
        matches!(self, Status::Ready | Status::Running)
    }
}

/// The times of a challenge, as Unix time in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// From when on it can be entered; not behind the start.
    pub ready_ms: i64,
    /// When it starts.
    pub start_ms: i64,
    /// When it is over.
    pub end_ms: i64,
}

impl Schedule {
    /// How far it is at a time.
    pub fn at(&self, now_ms: i64) -> Status {
        if now_ms >= self.end_ms {
            Status::Done
        } else if now_ms >= self.start_ms {
            Status::Running
        } else if now_ms >= self.ready_ms {
            Status::Ready
        } else {
            Status::Recruiting
        }
    }

    /// When the status of a time ends; `None`: never.
    pub fn next_after(&self, now_ms: i64) -> Option<i64> {
        match self.at(now_ms) {
            Status::Recruiting => Some(self.ready_ms.min(self.start_ms)),
            Status::Ready => Some(self.start_ms),
            Status::Running => Some(self.end_ms),
            Status::Done => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_time_begins_its_status() {
        let schedule = Schedule { ready_ms: 10, start_ms: 20, end_ms: 30 };
        for (now, status) in [
            (9, Status::Recruiting),
            (10, Status::Ready),
            (19, Status::Ready),
            (20, Status::Running),
            (29, Status::Running),
            (30, Status::Done),
        ] {
            assert_eq!(schedule.at(now), status, "{now}");
        }
    }

    proptest! {
        #[test]
        fn a_challenge_only_goes_forward(
            ready_ms in 0..50i64, to_start in 0..50i64, to_end in 0..50i64, now in 0..200i64, later in 0..200i64,
        ) {
            let start_ms = ready_ms + to_start;
            let schedule = Schedule { ready_ms, start_ms, end_ms: start_ms + to_end };
            prop_assert!(schedule.at(now) <= schedule.at(now + later));
            if let Some(next) = schedule.next_after(now) {
                prop_assert!(next > now);
                prop_assert_eq!(schedule.at(next - 1), schedule.at(now));
                prop_assert!(schedule.at(next) > schedule.at(now));
            } else {
                prop_assert_eq!(schedule.at(now), Status::Done);
            }
        }
    }
}
