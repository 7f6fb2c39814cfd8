//! Time as all threads of a run see it, and chance.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant, SystemTime};

/// Nanoseconds in a second.
pub const SECOND_NS: u64 = 1_000_000_000;

/// The run's clock: nanoseconds since it was made, the same on every thread. It also knows what the
/// wall clock said at that moment, and does not follow it when that is set anew.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    begun: Instant,
    begun_unix_ns: u64,
}

impl Clock {
    /// Starts at 0.
    pub fn start() -> Clock {
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Clock { begun: Instant::now(), begun_unix_ns: ns(since_1970) }
    }

    /// Nanoseconds since the start.
    pub fn now_ns(self) -> u64 {
        ns(self.begun.elapsed())
    }

    /// The second of the wall clock at a moment of this one, since 1970 in UTC.
    pub fn unix_s(self, at_ns: u64) -> u64 {
        (self.begun_unix_ns + at_ns) / SECOND_NS
    }

    /// The same in milliseconds.
    pub fn unix_ms(self, at_ns: u64) -> u64 {
        (self.begun_unix_ns + at_ns) / 1_000_000
    }

    /// The moment a second of the wall clock begins; 0 if that was before the start.
    pub fn second_ns(self, unix_s: u64) -> u64 {
        (unix_s * SECOND_NS).saturating_sub(self.begun_unix_ns)
    }
}

/// A duration in nanoseconds, 584 years at most.
pub fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A random number from the standard library's hash keys, which the system seeds.
pub fn random() -> u32 {
    u32::try_from(RandomState::new().hash_one(0_u8) >> 32).unwrap_or_default()
}
