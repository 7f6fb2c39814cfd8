//! What the other workers have of something that is counted for the whole host: connections of an
//! address, connections of a user.
//!
//! Workers tell each other their counts through the storage writer ([`super::address`]). A worker knows
//! exactly what it has itself, and of the others what they said last.

use std::collections::HashMap;
use std::hash::Hash;

type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// Counts of the other workers, by worker. As large as there are connections elsewhere.
pub struct Elsewhere<K>(Map<u16, Map<K, u32>>);

impl<K> Default for Elsewhere<K> {
    fn default() -> Elsewhere<K> {
        Elsewhere(Map::default())
    }
}

/// What the others have of one thing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Others {
    /// On all of them together.
    pub connections: usize,
    /// How many of them have any.
    pub workers: u32,
}

impl<K: Eq + Hash> Elsewhere<K> {
    /// Another worker's news; `afresh`: what it said before is void.
    pub fn hear(&mut self, worker: u16, afresh: bool, counts: impl IntoIterator<Item = (K, u32)>) {
        let theirs = self.0.entry(worker).or_default();
        if afresh {
            *theirs = Map::default();
        }
        for (key, count) in counts {
            if count == 0 {
                theirs.remove(&key);
            } else {
                theirs.insert(key, count);
            }
        }
    }

    /// What the others have of this.
    pub fn of(&self, key: &K) -> Others {
        let counts = self.0.values().filter_map(|theirs| theirs.get(key));
        counts.fold(Others::default(), |others, count| Others {
            connections: others.connections + usize::try_from(*count).unwrap_or(usize::MAX),
            workers: others.workers + 1,
        })
    }
}
