//! How fast one user may send: a token bucket kept as a single number.

/// A token bucket in the form of the generic cell rate algorithm: it remembers only the moment at
/// which the bucket would be full again.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    /// Microseconds on the caller's clock.
    full_at_us: u64,
}

impl Pace {
    /// Takes one token from a bucket that holds `per_second` and gains as many each second.
    /// `per_second` 0: no limit. `now_us`: microseconds on any clock that does not go back.
    pub fn take(&mut self, now_us: u64, per_second: u32) -> bool {
        if per_second == 0 {
            return true;
        }
        let step_us = 1_000_000 / u64::from(per_second).min(1_000_000);
        let full_at_us = self.full_at_us.max(now_us) + step_us;
        let allowed = full_at_us - now_us <= step_us * u64::from(per_second);
        if allowed {
            self.full_at_us = full_at_us;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_the_rate() {
        let mut pace = Pace::default();
        let burst = (0..1000).filter(|_| pace.take(5, 10)).count();
        assert_eq!(burst, 10);
        let second = (0..1000).filter(|ms| pace.take(5 + ms * 1000, 10)).count();
        assert_eq!(second, 9, "one each 100 ms after the first");
        assert!(pace.take(3_000_000, 10), "full again");
        assert!((0..100_000).all(|_| pace.take(5, 0)), "0 is no limit");
    }
}
