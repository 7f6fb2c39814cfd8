//! The latest of everybody, a bounded number at a time: who waits longest comes first, so nobody starves,
//! and of one user only the newest is kept, so nobody hears something older after something newer.

use std::collections::{BTreeMap, HashMap};

use crate::chat::UserId;

/// What has not been told yet.
#[derive(Clone, Debug)]
pub struct Updates<T> {
    /// Users by when the first of what they wait with came.
    order: BTreeMap<u64, UserId>,
    latest: HashMap<UserId, (u64, T), foldhash::fast::RandomState>,
    turn: u64,
}

impl<T> Default for Updates<T> {
    fn default() -> Updates<T> {
        Updates { order: BTreeMap::new(), latest: HashMap::default(), turn: 0 }
    }
}

impl<T> Updates<T> {
    /// This is the newest of a user from now on.
    pub fn put(&mut self, user: UserId, value: T) {
        if let Some((_, latest)) = self.latest.get_mut(&user) {
            *latest = value;
            return;
        }
        self.turn += 1;
        self.order.insert(self.turn, user);
        self.latest.insert(user, (self.turn, value));
    }

    /// What waits of one user, to be told now or not at all.
    pub fn remove(&mut self, user: UserId) -> Option<T> {
        let (turn, value) = self.latest.remove(&user)?;
        self.order.remove(&turn);
        Some(value)
    }

    /// What is to be told next.
    pub fn take(&mut self, limit: usize) -> Vec<(UserId, T)> {
        let mut taken = Vec::with_capacity(limit.min(self.latest.len()));
        while taken.len() < limit
            && let Some((_, user)) = self.order.pop_first()
        {
            taken.extend(self.latest.remove(&user).map(|(_, value)| (user, value)));
        }
        taken
    }

    /// Nothing waits.
    pub fn is_empty(&self) -> bool {
        self.latest.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn nobody_starves_and_nothing_older_comes_after_something_newer(
            steps in prop::collection::vec((0..12u64, 0..4u8), 1..200), limit in 1..5usize,
        ) {
            let mut updates = Updates::default();
            let mut told: HashMap<UserId, usize> = HashMap::new();
            let mut put: HashMap<UserId, usize> = HashMap::new();
            let mut waits: HashMap<UserId, usize> = HashMap::new();
            for (at, (user, what)) in steps.into_iter().enumerate() {
                if what > 0 {
                    updates.put(user, at);
                    put.insert(user, at);
                    waits.entry(user).or_default();
                    continue;
                }
                let taken = updates.take(limit);
                prop_assert!(taken.len() <= limit);
                for (user, value) in taken {
                    prop_assert_eq!(put[&user], value);
                    prop_assert!(told.insert(user, value).is_none_or(|before| before < value));
                    waits.remove(&user);
                }
                for ticks in waits.values_mut() {
                    *ticks += 1;
                    prop_assert!(*ticks < 12usize.div_ceil(limit));
                }
            }
            while !updates.is_empty() {
                told.extend(updates.take(limit));
            }
            prop_assert_eq!(told, put);
        }
    }

    #[test]
    fn what_is_removed_is_not_told() {
        let mut updates = Updates::default();
        updates.put(1, "a");
        updates.put(2, "b");
        updates.put(1, "c");
        assert_eq!(updates.remove(1), Some("c"));
        assert_eq!(updates.remove(1), None);
        assert_eq!(updates.take(9), [(2, "b")]);
        assert!(updates.is_empty());
    }
}
