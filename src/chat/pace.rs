//! How fast one user may send: a token bucket kept as a single number, and buckets for many.

use super::UserId;
use super::fading::Fading;
use super::late::{self, Late};

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
        self.take_sent(now_us, now_us, per_second)
    }

    /// The same for what was sent at `sent_us` and comes up a little later: the bucket has not run over
    /// meanwhile.
    fn take_sent(&mut self, sent_us: u64, now_us: u64, per_second: u32) -> bool {
        if per_second == 0 {
            return true;
        }
        let step_us = 1_000_000 / u64::from(per_second).min(1_000_000);
        let full_at_us = self.full_at_us.max(sent_us) + step_us;
        let allowed = full_at_us.saturating_sub(now_us) <= step_us * u64::from(per_second);
        if allowed {
            self.full_at_us = full_at_us;
        }
        allowed
    }
}

/// Buckets of all users who took something lately. A full bucket is as good as none, so there are never
/// many more than users took something within a second.
pub struct Paces {
    per_second: u32,
    buckets: Fading<Pace>,
    late: Late,
}

/// What has waited for longer is counted by the time at which it was sent. The burst of a bucket makes
/// up for shorter waits.
const LATE_US: u64 = 1_000_000;

impl Paces {
    /// Buckets that hold `per_second` tokens and gain as many each second; 0: no limit.
    pub fn new(per_second: u32) -> Paces {
        Paces { per_second, buckets: Fading::default(), late: Late::default() }
    }

    /// Takes one token of a user's. `now_us`: microseconds on any clock; one that goes back a little
    /// only makes a user wait for that little.
    pub fn take(&mut self, user: UserId, now_us: u64) -> bool {
        self.take_sent(user, now_us, now_us)
    }

    /// The same for what was sent at `sent_us`: what had to wait was not sent faster for that. What was
    /// sent while nothing was taken has a bucket beside that of the rest.
    pub fn take_sent(&mut self, user: UserId, sent_us: u64, now_us: u64) -> bool {
        if self.per_second == 0 {
            return true;
        }
        let sent_us = sent_us.clamp(now_us.saturating_sub(late::OLDEST_US), now_us);
        if now_us - sent_us > LATE_US {
            return self.late.take(user, sent_us, now_us, self.per_second);
        }
        let bucket = self.buckets.of(user, |pace| pace.full_at_us > now_us);
        bucket.take_sent(sent_us, now_us, self.per_second)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fading::FEW;
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

    #[test]
    fn each_user_has_a_bucket_and_full_ones_are_forgotten() {
        let mut paces = Paces::new(2);
        for user in 0..100_000 {
            assert!(paces.take(user, user * 1_000), "the first of user {user}");
            assert!(paces.buckets.entries.len() <= 2 * FEW, "a thousand users a second");
        }
        let now = 1_000_000_000;
        assert_eq!((0..10).filter(|_| paces.take(7, now)).count(), 2);
        assert!(paces.take(8, now));
        assert!(!paces.take(7, now - 100), "a clock that goes back a little gives nothing away");
        let waited = 1_000_000_000_000;
        assert!(
            (0..10).all(|step| paces.take_sent(9, waited - 5_000_000 + step * 500_000, waited)),
            "it waited"
        );
        assert_eq!(
            (0..10).filter(|_| paces.take_sent(9, waited + 1, waited)).count(),
            2,
            "sent by a wrong clock"
        );
        let mut free = Paces::new(0);
        assert!((0..100_000).all(|_| free.take(1, 0)));
    }
}
