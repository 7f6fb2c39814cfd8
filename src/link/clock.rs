//! A clock that all processes of the host read alike: how long something waited between two of them,
//! in whichever buffer, is the difference.

use rustix::time::{ClockId, clock_gettime};

/// Microseconds of the system's monotonic clock; it never goes back and knows no date.
pub fn now_us() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let micros = now.tv_sec.saturating_mul(1_000_000).saturating_add(now.tv_nsec / 1_000);
    u64::try_from(micros).unwrap_or(0)
}
