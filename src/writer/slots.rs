//! A hash table of places in a ring: finds an entry of a sliding window by its key, in four bytes
//! an entry. It keeps no keys; the window does.

/// No entry: the window never holds this many.
const EMPTY: u32 = u32::MAX;

/// Entries of the smallest table.
const SMALLEST: usize = 16;

/// Places, found by the hash of what is there. Open addressing, at most half full.
pub struct Slots {
    table: Vec<u32>,
    len: usize,
}

impl Slots {
    /// An empty table.
    pub fn new() -> Slots {
        Slots { table: vec![EMPTY; SMALLEST], len: 0 }
    }

    /// The place of the entry with that hash for which `is_it` holds.
    pub fn find(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let mut at = self.home(hash);
        while self.table[at] != EMPTY {
            if is_it(self.table[at]) {
                return Some(self.table[at]);
            }
            at = self.behind(at);
        }
        None
    }

    /// Adds the place of an entry that is not there yet. `hash_of` answers the hash of any place that
    /// was added.
    pub fn insert(&mut self, hash: u64, place: u32, hash_of: impl Fn(u32) -> u64) {
        if (self.len + 1) * 2 > self.table.len() {
            let doubled = vec![EMPTY; self.table.len() * 2];
            let old = std::mem::replace(&mut self.table, doubled);
            for place in old.into_iter().filter(|place| *place != EMPTY) {
                self.put(hash_of(place), place);
            }
        }
        self.put(hash, place);
        self.len += 1;
    }

    /// Removes a place, if it is there.
    pub fn remove(&mut self, hash: u64, place: u32, hash_of: impl Fn(u32) -> u64) {
        let mut at = self.home(hash);
        while self.table[at] != place {
            if self.table[at] == EMPTY {
                return;
            }
            at = self.behind(at);
        }
        self.len -= 1;
        // Entries behind move up, so that none is cut off from its home by the gap.
        let mut gap = at;
        loop {
            at = self.behind(at);
            if self.table[at] == EMPTY {
                break;
            }
            let home = self.home(hash_of(self.table[at]));
            if self.distance(home, at) >= self.distance(gap, at) {
                self.table[gap] = self.table[at];
                gap = at;
            }
        }
        self.table[gap] = EMPTY;
    }

    fn put(&mut self, hash: u64, place: u32) {
        let mut at = self.home(hash);
        while self.table[at] != EMPTY {
            at = self.behind(at);
        }
        self.table[at] = place;
    }

    fn home(&self, hash: u64) -> usize {
        // The table's length is a power of two.
        usize::try_from(hash & (self.table.len() as u64 - 1)).unwrap_or(0)
    }

    fn behind(&self, at: usize) -> usize {
        (at + 1) & (self.table.len() - 1)
    }

    fn distance(&self, from: usize, to: usize) -> usize {
        to.wrapping_sub(from) & (self.table.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Few hashes, so that entries crowd and wrap around.
        #[test]
        fn behaves_like_a_map(steps in prop::collection::vec((0u32..60, 0u64..40, any::<bool>()), 0..400)) {
            let mut slots = Slots::new();
            let mut model: HashMap<u32, u64> = HashMap::new();
            for (place, hash, add) in steps {
                if add && !model.contains_key(&place) {
                    slots.insert(hash, place, |place| model[&place]);
                    model.insert(place, hash);
                } else if !add && let Some(&hash) = model.get(&place) {
                    slots.remove(hash, place, |place| model[&place]);
                    model.remove(&place);
                }
                for place in 0..60 {
                    let found = model.get(&place).and_then(|hash| slots.find(*hash, |found| found == place));
                    prop_assert_eq!(found.is_some(), model.contains_key(&place));
                }
            }
            prop_assert_eq!(slots.len, model.len());
        }
    }
}
