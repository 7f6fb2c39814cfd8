//! One timing wheel for all connections: pings, pong deadlines, handshake deadlines.
//!
//! Moving a deadline later needs no call: the wheel hands the connection out at the old time and its
//! owner puts it back.

use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use super::table::Key;

/// Time between two turns of a wheel, at least and at most.
const TICK: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_millis(50);

/// Ticks in the shortest time that is to be kept, so that being late for one matters little.
const FINENESS: u32 = 20;

/// Ticks in one revolution (51.2 s at most); later deadlines wait at the far end and are put back.
const TICKS: usize = 1024;

/// Connections by the tick at which they want attention.
pub struct Wheel {
    ticks: Vec<Vec<Key>>,
    /// The tick that is next to be handed out, and when it is due.
    next: usize,
    next_at: Instant,
    /// A deadline is noticed at most this much late.
    tick: Duration,
}

impl Wheel {
    /// An empty wheel that starts now, for times of which this is the shortest.
    pub fn new(now: Instant, shortest: Duration) -> Wheel {
        let tick = (shortest / FINENESS).clamp(*TICK.start(), *TICK.end());
        Wheel { ticks: (0..TICKS).map(|_| Vec::new()).collect(), next: 0, next_at: now + tick, tick }
    }

    /// When the wheel wants to be turned next.
    pub fn next_at(&self) -> Instant {
        self.next_at
    }

    /// Hands the connection out at the first tick after `at`, or at the end of the revolution;
    /// answers when that will be.
    pub fn insert(&mut self, key: Key, at: Instant) -> Instant {
        let wait = at.saturating_duration_since(self.next_at).as_nanos().div_ceil(self.tick.as_nanos());
        let ahead = usize::try_from(wait).unwrap_or(TICKS).min(TICKS - 1);
        self.ticks[(self.next + ahead) % TICKS].push(key);
        self.next_at + self.tick * u32::try_from(ahead).unwrap_or(0)
    }

    /// Moves everything due by `now` to `due`.
    pub fn turn(&mut self, now: Instant, due: &mut Vec<Key>) {
        while self.next_at <= now {
            // The emptied tick gives its memory back: an idle wheel should hold nothing.
            due.append(&mut std::mem::take(&mut self.ticks[self.next]));
            self.next = (self.next + 1) % TICKS;
            self.next_at += self.tick;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(slot: u32) -> Key {
        Key { slot, generation: 1 }
    }

    #[test]
    fn due_once_and_never_early() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start, Duration::from_secs(20));
        let deadlines = [0, 1, 49, 50, 51, 1_000, 25_000, 51_000];
        for (slot, ms) in (0..).zip(deadlines) {
            wheel.insert(key(slot), start + Duration::from_millis(ms));
        }
        let mut seen = vec![None; deadlines.len()];
        let mut due = Vec::new();
        for ms in (0..=51_200).step_by(10) {
            wheel.turn(start + Duration::from_millis(ms), &mut due);
            for key in due.drain(..) {
                assert_eq!(seen[key.slot as usize].replace(ms), None, "handed out twice");
            }
        }
        for (at, deadline) in seen.into_iter().zip(deadlines) {
            let at = at.expect("handed out");
            assert!(at >= deadline && at <= deadline + 100, "{deadline} at {at}");
        }
    }

    #[test]
    fn short_times_make_a_fine_wheel() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start, Duration::from_millis(200));
        assert_eq!(
            wheel.insert(key(1), start + Duration::from_millis(301)),
            start + Duration::from_millis(310)
        );
        let mut due = Vec::new();
        wheel.turn(start + Duration::from_millis(309), &mut due);
        assert_eq!(due, []);
        wheel.turn(start + Duration::from_millis(310), &mut due);
        assert_eq!(due, [key(1)]);
        assert_eq!(Wheel::new(start, Duration::ZERO).tick, *TICK.start());
    }

    #[test]
    fn far_deadlines_come_out_at_the_end_of_a_revolution() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start, Duration::from_secs(20));
        wheel.insert(key(7), start + Duration::from_secs(3_600));
        let mut due = Vec::new();
        wheel.turn(start + *TICK.end() * 1024, &mut due);
        assert_eq!(due, [key(7)]);
    }
}
