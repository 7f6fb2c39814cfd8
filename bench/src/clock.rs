//! Time as all threads of a run see it, and chance.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

/// The run's clock: nanoseconds since it was made, the same on every thread.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// Starts at 0.
    pub fn start() -> Clock {
        Clock(Instant::now())
    }

    /// Nanoseconds since the start.
    pub fn now_ns(self) -> u64 {
        ns(self.0.elapsed())
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
