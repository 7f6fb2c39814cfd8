//! How much users sent while what they sent could not be taken.
//!
//! What waited comes out of several queues, one after the other, so the moments of sending go back and
//! forth, and no single number per user says whether there was room at one of them. So what was let
//! through is kept by the moment of sending for as long as something may still come that is as old.

use super::UserId;
use super::fading::Fading;

/// Length of a slot: moments within one are not told apart.
const SLOT_US: u64 = 100_000;

/// What is older counts as this old.
pub const OLDEST_US: u64 = 60_000_000;

/// One token, in the parts that buckets are counted in.
const TOKEN: i64 = 1_000_000;

/// What was let through of each user, by slot of sending.
#[derive(Default)]
pub struct Late {
    users: Fading<Vec<Slot>>,
}

#[derive(Clone, Copy)]
struct Slot {
    number: u64,
    count: i64,
}

impl Late {
    /// Whether a message that was sent at `sent_us` keeps its user, over whatever time, within
    /// `per_second` tokens each second and as many at once.
    pub fn take(&mut self, user: UserId, sent_us: u64, now_us: u64, per_second: u32) -> bool {
        let oldest = now_us.saturating_sub(OLDEST_US) / SLOT_US;
        let slots = self.users.of(user, |slots| slots.last().is_some_and(|last| last.number >= oldest));
        slots.retain(|slot| slot.number >= oldest);
        let number = (sent_us / SLOT_US).max(oldest);
        let at = match slots.binary_search_by_key(&number, |slot| slot.number) {
            Ok(at) => at,
            Err(at) => {
                slots.insert(at, Slot { number, count: 0 });
                at
            }
        };
        let burst = i64::from(per_second) * TOKEN;
        let gain = burst / 10;
        let own = slots[at].count * TOKEN - gain;
        let fullest =
            own + over(slots[..at].iter().rev(), number, gain) + over(slots[at + 1..].iter(), number, gain);
        let allowed = fullest + TOKEN <= burst;
        if allowed {
            slots[at].count += 1;
        } else if slots[at].count == 0 {
            slots.remove(at);
        }
        allowed
    }
}

/// The most by which slots beside `from`, taken outwards without a hole, hold more than was gained in them.
fn over<'a>(slots: impl Iterator<Item = &'a Slot>, from: u64, gain: i64) -> i64 {
    let (mut most, mut count) = (0, 0);
    for slot in slots {
        count += slot.count * TOKEN;
        let passed = i64::try_from(slot.number.abs_diff(from)).unwrap_or(i64::MAX);
        most = most.max(count - passed.saturating_mul(gain));
    }
    most
}

#[cfg(test)]
mod tests {
    use super::super::fading::FEW;
    use super::*;

    const SECOND: u64 = 1_000_000;
    const NOW: u64 = 1_000 * SECOND;

    /// Messages that one user sent every `every_us` for four seconds over each of `queues` queues, which are
    /// emptied one after the other; answers how many are let through, and of how many.
    fn let_through(queues: u64, every_us: u64) -> (usize, usize) {
        let mut late = Late::default();
        let sent: Vec<u64> = (0..queues)
            .flat_map(|queue| {
                (NOW - 5 * SECOND..NOW - SECOND)
                    .step_by(usize::try_from(every_us).unwrap())
                    .map(move |at| at + queue)
            })
            .collect();
        (sent.iter().filter(|at| late.take(7, **at, NOW, 10)).count(), sent.len())
    }

    #[test]
    fn the_order_of_the_queues_does_not_matter() {
        assert_eq!(let_through(1, 100_000), (40, 40));
        assert_eq!(let_through(2, 200_000), (40, 40));
        assert_eq!(let_through(4, 400_000), (40, 40));
    }

    #[test]
    fn a_flood_gets_a_burst_and_the_rate() {
        for queues in 1..4 {
            let (taken, of) = let_through(queues, 10_000);
            assert!((40..=50).contains(&taken), "{taken} of {of}");
        }
        let mut late = Late::default();
        assert_eq!((0..100).filter(|_| late.take(1, NOW - SECOND, NOW, 10)).count(), 11, "all at once");
        assert!(late.take(2, NOW - SECOND, NOW, 10), "another user");
    }

    #[test]
    fn what_is_too_old_is_forgotten() {
        let mut late = Late::default();
        for user in 0..100_000 {
            let now = NOW + user * SECOND;
            assert!(late.take(user, 0, now, 1), "of user {user}");
            assert!(late.users.entries.len() <= FEW && late.users.entries[&user].len() == 1);
        }
    }
}
