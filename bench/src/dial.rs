//! Whom one thread dials next, and which handshakes have taken too long. No sockets, no clock.

use std::collections::VecDeque;

use crate::plan::Plan;

/// Handshakes under way at once on one thread; keeps a slow server's accept queue from overflowing.
const OPENING_MAX: usize = 256;

/// Longest time from dialling to being in the namespace.
const HANDSHAKE_NS_MAX: u64 = 30_000_000_000;

/// Pause before looking again whether enough of them have ended; their events wake the thread anyway.
const FULL_PAUSE_NS: u64 = 1_000_000;

/// One thread's list of users to dial.
pub struct Dialler {
    users: Vec<u32>,
    /// How many of them have been dialled.
    dialled: usize,
    /// Deadline, table key and user of handshakes, oldest first; finished ones until they are met.
    opening: VecDeque<(u64, usize, u32)>,
    begun_ns: u64,
    interval_ns: u64,
}

impl Dialler {
    /// Dials `users` in order at this thread's share of the plan's rate, from now on.
    pub fn new(plan: &Plan, users: Vec<u32>, now_ns: u64) -> Dialler {
        let interval_ns = plan.connect_interval_ns.saturating_mul(u64::from(plan.threads));
        Dialler { users, dialled: 0, opening: VecDeque::new(), begun_ns: now_ns, interval_ns }
    }

    /// Forgets handshakes that have ended, as far as they are the oldest, and gives the keys of
    /// those that have taken too long; `opening` tells whether one is still under way.
    pub fn overdue(&mut self, now_ns: u64, opening: impl Fn(usize, u32) -> bool) -> Vec<usize> {
        let mut overdue = vec![];
        while let Some(&(deadline, key, user)) = self.opening.front() {
            let under_way = opening(key, user);
            if under_way && now_ns < deadline {
                break;
            }
            self.opening.pop_front();
            overdue.extend(under_way.then_some(key));
        }
        overdue
    }

    /// The next to dial, if one is due: its place in the list and the user.
    pub fn next(&mut self, now_ns: u64) -> Option<(usize, u32)> {
        if self.next_due_ns(now_ns) > now_ns {
            return None;
        }
        let place = self.dialled;
        self.dialled += 1;
        self.users.get(place).map(|user| (place, *user))
    }

    /// A handshake is under way.
    pub fn began(&mut self, key: usize, user: u32, now_ns: u64) {
        self.opening.push_back((now_ns.saturating_add(HANDSHAKE_NS_MAX), key, user));
    }

    /// Whether one more handshake may be under way.
    pub fn has_room(&self) -> bool {
        self.opening.len() < OPENING_MAX
    }

    /// When to ask again; a moment later while enough are under way, never once all are dialled.
    pub fn next_due_ns(&self, now_ns: u64) -> u64 {
        if self.dialled >= self.users.len() {
            return u64::MAX;
        }
        let due = self.begun_ns.saturating_add((self.dialled as u64).saturating_mul(self.interval_ns));
        if self.opening.len() >= OPENING_MAX { due.max(now_ns.saturating_add(FULL_PAUSE_NS)) } else { due }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dialler(users: u32) -> Dialler {
        Dialler {
            users: (0..users).collect(),
            dialled: 0,
            opening: VecDeque::new(),
            begun_ns: 0,
            interval_ns: 10,
        }
    }

    #[test]
    fn users_are_dialled_at_the_rate() {
        let mut dialler = dialler(3);
        assert_eq!(dialler.next(0), Some((0, 0)));
        assert_eq!((dialler.next(9), dialler.next_due_ns(9)), (None, 10));
        assert_eq!((dialler.next(25), dialler.next(25)), (Some((1, 1)), Some((2, 2))));
        assert_eq!((dialler.next(99), dialler.next_due_ns(99)), (None, u64::MAX));
    }

    #[test]
    fn so_many_handshakes_at_once_and_no_more() {
        let mut dialler = dialler(1000);
        while let Some((place, user)) = dialler.next(1_000_000) {
            dialler.began(place, user, 0);
        }
        assert_eq!(dialler.dialled, OPENING_MAX);
        assert!(dialler.overdue(1_000_000, |key, _| key >= 10).is_empty());
        assert_eq!(dialler.next(1_000_000), Some((OPENING_MAX, 256)), "ten have ended");
    }

    #[test]
    fn a_handshake_that_never_ends_is_given_up() {
        let mut dialler = dialler(2);
        dialler.began(7, 0, 0);
        assert!(dialler.overdue(HANDSHAKE_NS_MAX - 1, |_, _| true).is_empty());
        assert_eq!(dialler.overdue(HANDSHAKE_NS_MAX, |_, _| true), [7]);
        assert!(dialler.overdue(HANDSHAKE_NS_MAX, |_, _| true).is_empty());
    }
}
