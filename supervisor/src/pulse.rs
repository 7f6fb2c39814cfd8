//! Whether a child still does its work. Pure: the caller says what happened and when.
//!
//! The supervisor asks each child that serves, one question at a time; the part of the child that does
//! the work answers. A process that is stopped, or whose loop hangs, does not, although the kernel calls
//! it alive. A child that is still coming up is not asked: reading its files back may take any time.

use std::time::{Duration, Instant};

/// Time from an answer to the next question.
const ASK_INTERVAL: Duration = Duration::from_secs(1);
/// The part of its limit after which a silent child is no longer counted as serving.
const DOUBT: u32 = 4;

/// The questions to one child.
#[derive(Debug)]
pub(crate) struct Pulse {
    /// Longest time from a question to its answer.
    limit: Duration,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// The last question was answered; the next is due then.
    Due(Instant),
    /// Asked then, and not answered.
    Asked(Instant),
}

/// What a child's silence means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    /// It answers.
    Well,
    /// It has been silent for this long: not to be counted on.
    Silent(Duration),
    /// It has been silent for too long.
    Hung(Duration),
}

impl Pulse {
    /// Of a child that has just said that it serves.
    pub(crate) fn new(limit: Duration, now: Instant) -> Pulse {
        Pulse { limit, state: State::Due(now) }
    }

    /// Whether a question is due.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        matches!(self.state, State::Due(at) if at <= now)
    }

    /// When to look again even if the child says nothing.
    pub(crate) fn next_look(&self, now: Instant) -> Instant {
        match self.state {
            State::Due(at) => at,
            State::Asked(at) => (at + self.limit).min(now + self.doubt()),
        }
    }

    /// A question was put.
    pub(crate) fn asked(&mut self, now: Instant) {
        self.state = State::Asked(now);
    }

    /// An answer came.
    pub(crate) fn answered(&mut self, now: Instant) {
        self.state = State::Due(now + ASK_INTERVAL.min(self.doubt()));
    }

    /// The supervisor itself was away, perhaps with everybody else: an open question counts from now.
    pub(crate) fn forgive(&mut self, now: Instant) {
        if let State::Asked(_) = self.state {
            self.state = State::Asked(now);
        }
    }

    pub(crate) fn health(&self, now: Instant) -> Health {
        let State::Asked(at) = self.state else { return Health::Well };
        match now.saturating_duration_since(at) {
            silence if silence >= self.limit => Health::Hung(silence),
            silence if silence >= self.doubt() => Health::Silent(silence),
            _ => Health::Well,
        }
    }

    fn doubt(&self) -> Duration {
        doubt(self.limit)
    }
}

/// How long a child may be silent, or the supervisor away, before that means something.
pub(crate) fn doubt(limit: Duration) -> Duration {
    limit / DOUBT
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(8);

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn one_that_answers_is_asked_again_after_a_while() {
        let start = Instant::now();
        let mut pulse = Pulse::new(LIMIT, start);
        for round in 0..100 {
            let now = start + seconds(round);
            assert!(pulse.is_due(now));
            pulse.asked(now);
            assert!(!pulse.is_due(now + seconds(100)), "one question at a time");
            pulse.answered(now);
            assert_eq!(pulse.health(now + seconds(100)), Health::Well);
            assert!(!pulse.is_due(now));
            assert_eq!(pulse.next_look(now), now + ASK_INTERVAL);
        }
    }

    #[test]
    fn silence_is_first_doubted_and_then_too_long() {
        let start = Instant::now();
        let mut pulse = Pulse::new(LIMIT, start);
        pulse.asked(start);
        assert_eq!(pulse.health(start + seconds(1)), Health::Well);
        assert_eq!(pulse.next_look(start), start + seconds(2));
        assert_eq!(pulse.health(start + seconds(2)), Health::Silent(seconds(2)));
        assert_eq!(pulse.next_look(start + seconds(7)), start + LIMIT);
        assert_eq!(pulse.health(start + LIMIT), Health::Hung(LIMIT));
        pulse.answered(start + LIMIT);
        assert_eq!(pulse.health(start + LIMIT), Health::Well);
    }

    #[test]
    fn nobody_is_blamed_for_the_supervisors_own_absence() {
        let start = Instant::now();
        let mut pulse = Pulse::new(LIMIT, start);
        pulse.asked(start);
        pulse.forgive(start + seconds(100));
        assert_eq!(pulse.health(start + seconds(101)), Health::Well);
        assert_eq!(pulse.health(start + seconds(108)), Health::Hung(LIMIT));
        pulse.answered(start + seconds(108));
        pulse.forgive(start + seconds(200));
        assert!(pulse.is_due(start + seconds(200)));
    }
}
