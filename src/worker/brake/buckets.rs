//! Buckets for any number of whoever is named by a hash, in memory of one size.

use std::time::Duration;

/// Entries of one table, of 16 bytes each.
const ENTRIES: usize = 32_768;

/// Entries among which one makes room.
const WAYS: usize = 8;

/// Buckets of misses, each kept as the moment at which all will be forgiven.
pub struct Buckets {
    /// How many a bucket holds; 0: no limit.
    most: u32,
    /// Time for one to be forgiven, in microseconds.
    step_us: u64,
    table: Table,
}

/// Values by hash: a hash and its value, 0 for an empty entry.
pub struct Table(Vec<[u64; 2]>);

impl Table {
    /// Nothing yet.
    pub fn new() -> Table {
        // Zeroed memory costs nothing before it is used.
        Table(vec![[0; 2]; ENTRIES])
    }

    fn ways(&mut self, hash: u64) -> &mut [[u64; 2]] {
        let set = usize::try_from(hash).unwrap_or(0) % (ENTRIES / WAYS);
        &mut self.0[set * WAYS..(set + 1) * WAYS]
    }

    /// What stands under a hash.
    pub fn get(&mut self, hash: u64) -> Option<u64> {
        self.ways(hash).iter().find(|entry| entry[0] == hash && entry[1] > 0).map(|entry| entry[1])
    }

    /// Puts a value in place of the same one's or of the lowest.
    pub fn put(&mut self, hash: u64, value: u64) {
        let ways = self.ways(hash);
        let own = ways.iter().position(|entry| entry[0] == hash);
        let lowest = || (0..WAYS).min_by_key(|at| ways[*at][1]).unwrap_or(0);
        let at = own.unwrap_or_else(lowest);
        ways[at] = [hash, value];
    }

    /// Every hash and its value.
    pub fn entries(&self) -> impl Iterator<Item = (u64, u64)> {
        self.0.iter().filter(|entry| entry[1] > 0).map(|entry| (entry[0], entry[1]))
    }
}

impl Buckets {
    /// Nobody has missed; a bucket is forgiven whole in `window`.
    pub fn new(most: u32, window: Duration) -> Buckets {
        let window_us = u64::try_from(window.as_micros()).unwrap_or(u64::MAX);
        Buckets { most, step_us: window_us / u64::from(most.max(1)), table: Table::new() }
    }

    /// How long until one more miss is allowed, in microseconds.
    pub fn wait(&mut self, hash: u64, now_us: u64) -> u64 {
        if self.most == 0 {
            return 0;
        }
        let forgiven_at = self.table.get(hash).unwrap_or(0).max(now_us);
        (forgiven_at + self.step_us).saturating_sub(now_us + self.step_us * u64::from(self.most))
    }

    /// Counts a miss.
    pub fn miss(&mut self, hash: u64, now_us: u64) {
        if self.most > 0 {
            let forgiven_at = self.table.get(hash).unwrap_or(0).max(now_us) + self.step_us;
            // What other workers tell may come on top of a full one.
            self.table.put(hash, forgiven_at.min(now_us + self.step_us * u64::from(self.most)));
        }
    }
}
