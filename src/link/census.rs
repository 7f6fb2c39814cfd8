//! How many connections somebody has on the whole host: the pure part, of both ends of the link.
//!
//! Each worker counts what it has itself and tells the storage writer of every change ([`Untold`]). The
//! writer has the only table of everything, [`Census`], and tells a worker what is elsewhere of a key only
//! where that matters: when the worker has some of it as well, and when there are so many altogether that
//! no worker may let in another. The worker keeps it in [`Elsewhere`]. So what is on one worker and below
//! its limit, as nearly everything is, costs one entry on the whole host, and its coming and going is told
//! to nobody.
//!
//! What a worker holds is always what the writer last told it, and the writer tells of every difference,
//! the last one being that nothing is to be known any more. So when all frames have arrived every worker
//! knows what is true of what it has, and nothing else but what is full. A connection of the link begins
//! with nothing told by either end.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;

use super::frame::Others;

type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// Keys in one frame, at most.
pub const KEYS_PER_FRAME: usize = 4_096;

/// Tables of fewer entries are never made smaller.
const SMALL_TABLE: usize = 1_024;

/// The writer's table. Workers are numbered by the caller.
pub struct Census<K> {
    /// So many of a key are told to all workers.
    limit: u32,
    workers: Vec<u16>,
    /// What one worker has alone: 16 bytes for a user.
    alone: Map<K, Share>,
    /// What several have, with two shares or more.
    shared: Map<K, Vec<Share>>,
}

/// What one worker has of something, never 0.
#[derive(Clone, Copy)]
struct Share {
    worker: u16,
    count: u32,
}

impl<K: Copy + Eq + Hash> Census<K> {
    /// Nobody is there. No worker lets in more than `limit` of a key if it knows of them.
    pub fn new(limit: u32) -> Census<K> {
        Census { limit, workers: Vec::new(), alone: Map::default(), shared: Map::default() }
    }

    /// A worker is there, and has nothing until it says so. `tell` is called with what it has to know.
    pub fn enter(&mut self, worker: u16, mut tell: impl FnMut(u16, K, Others)) {
        self.workers.push(worker);
        let alone = self.alone.iter().map(|(key, share)| (key, std::slice::from_ref(share)));
        for (key, shares) in alone.chain(self.shared.iter().map(|(key, shares)| (key, &shares[..]))) {
            if self.is_full(shares) {
                tell(worker, *key, elsewhere(worker, shares));
            }
        }
    }

    /// A worker has so many of a key. `tell` is called for every worker that has to know, with what is
    /// elsewhere as it sees it.
    pub fn set(&mut self, worker: u16, key: K, count: u32, mut tell: impl FnMut(u16, K, Others)) {
        let before = self.shares(&key);
        let mut after = before.clone();
        after.retain(|share| share.worker != worker);
        if count > 0 {
            after.push(Share { worker, count });
        }
        if [&before, &after].iter().any(|shares| shares.len() > 1 || self.is_full(shares)) {
            for worker in &self.workers {
                let others = self.told_to(*worker, &after);
                if others != self.told_to(*worker, &before) {
                    tell(*worker, key, others);
                }
            }
        }
        self.put(key, &after);
    }

    /// A worker is gone, with all that it had.
    pub fn leave(&mut self, worker: u16, mut tell: impl FnMut(u16, K, Others)) {
        self.workers.retain(|other| *other != worker);
        let has = |shares: &[Share]| shares.iter().any(|share| share.worker == worker);
        let full = self.alone.iter().filter(|(_, share)| share.worker == worker && share.count >= self.limit);
        let shared = self.shared.iter().filter(|(_, shares)| has(shares)).map(|(key, _)| *key);
        let concerns: Vec<K> = full.map(|(key, _)| *key).chain(shared).collect();
        for key in concerns {
            self.set(worker, key, 0, &mut tell);
        }
        self.alone.retain(|_, share| share.worker != worker);
        trim(&mut self.alone);
    }

    /// What a worker is to know of a key.
    fn told_to(&self, worker: u16, shares: &[Share]) -> Others {
        if self.is_full(shares) || shares.iter().any(|share| share.worker == worker) {
            elsewhere(worker, shares)
        } else {
            Others::default()
        }
    }

    fn is_full(&self, shares: &[Share]) -> bool {
        shares.iter().fold(0, |sum: u32, share| sum.saturating_add(share.count)) >= self.limit
    }

    fn shares(&self, key: &K) -> Shares {
        match self.alone.get(key) {
            Some(share) => smallvec::smallvec![*share],
            None => self.shared.get(key).map(|shares| Shares::from_slice(shares)).unwrap_or_default(),
        }
    }

    fn put(&mut self, key: K, shares: &Shares) {
        if let [share] = shares[..] {
            self.alone.insert(key, share);
        } else if self.alone.remove(&key).is_some() {
            trim(&mut self.alone);
        }
        if shares.len() > 1 {
            self.shared.insert(key, shares.to_vec());
        } else if self.shared.remove(&key).is_some() {
            trim(&mut self.shared);
        }
    }
}

/// A copy of a key's shares.
type Shares = smallvec::SmallVec<[Share; 8]>;

fn elsewhere(worker: u16, shares: &[Share]) -> Others {
    let others = shares.iter().filter(|share| share.worker != worker);
    others.fold(Others::default(), |others, share| Others {
        connections: others.connections.saturating_add(share.count),
        workers: others.workers + 1,
    })
}

/// Gives memory back when a table has become much emptier.
fn trim<K: Eq + Hash, V>(map: &mut Map<K, V>) {
    if map.capacity() > SMALL_TABLE && map.len() < map.capacity() / 8 {
        map.shrink_to(2 * map.len());
    }
}

/// A worker's table: one entry for each key that it shares with other workers, or that is full elsewhere.
pub struct Elsewhere<K>(Map<K, Others>);

impl<K> Default for Elsewhere<K> {
    fn default() -> Elsewhere<K> {
        Elsewhere(Map::default())
    }
}

impl<K: Eq + Hash> Elsewhere<K> {
    /// The writer's news.
    pub fn hear(&mut self, news: impl IntoIterator<Item = (K, Others)>) {
        for (key, others) in news {
            if others == Others::default() {
                self.0.remove(&key);
            } else {
                self.0.insert(key, others);
            }
        }
        trim(&mut self.0);
    }

    /// What the others have of this.
    pub fn of(&self, key: &K) -> Others {
        self.0.get(key).copied().unwrap_or_default()
    }

    /// The link begins anew: what is true will be told.
    pub fn forget(&mut self) {
        self.0 = Map::default();
    }
}

/// Keys whose count the writer has not been told.
pub struct Untold<K>(HashSet<K, foldhash::fast::RandomState>);

impl<K> Default for Untold<K> {
    fn default() -> Untold<K> {
        Untold(HashSet::default())
    }
}

impl<K: Copy + Eq + Hash> Untold<K> {
    /// A key's count has changed, or has never been told.
    pub fn add(&mut self, key: K) {
        self.0.insert(key);
    }

    /// Everything is told.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Nobody is there to be told: all of it will be when there is.
    pub fn forget(&mut self) {
        self.0 = HashSet::default();
    }

    /// Takes the keys of the next frame out, at most [`KEYS_PER_FRAME`].
    pub fn take(&mut self) -> Vec<K> {
        if self.0.len() <= KEYS_PER_FRAME {
            return std::mem::take(&mut self.0).into_iter().collect();
        }
        let keys: Vec<K> = self.0.iter().take(KEYS_PER_FRAME).copied().collect();
        for key in &keys {
            self.0.remove(key);
        }
        keys
    }
}

#[cfg(test)]
mod tests;
