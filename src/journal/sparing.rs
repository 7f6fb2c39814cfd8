//! Lines of the program's log that could be many: one is said, then none for a while.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Time between two of the same kind.
const PERIOD: Duration = Duration::from_secs(10);

/// One kind of line; usually a `static` beside where it is said.
pub struct Sparing(Mutex<Option<Instant>>);

impl Sparing {
    /// None was said yet.
    pub const fn new() -> Sparing {
        Sparing(Mutex::new(None))
    }

    /// Whether to say one now; the caller does so.
    pub fn is_due(&self) -> bool {
        let (mut said, now) = (self.0.lock(), Instant::now());
        let due = said.is_none_or(|said| now.duration_since(said) >= PERIOD);
        if due {
            *said = Some(now);
        }
        due
    }
}

impl Default for Sparing {
    fn default() -> Sparing {
        Sparing::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_and_then_none() {
        let sparing = Sparing::new();
        assert!(sparing.is_due());
        assert!(!sparing.is_due());
    }
}
