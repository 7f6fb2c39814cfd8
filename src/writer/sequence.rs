//! The one order: which number a message gets, and whether it has one already.
//!
//! Pure: no files, no sockets, no clock. On one host the order is a counter; on several it will be
//! the order of a shared stream, and only this module will change.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};

use super::slots::Slots;
use crate::chat::{OpId, UserId};

/// What an earlier message was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Earlier {
    /// Its place in the order.
    pub seq: u64,
    /// The operation that stored it.
    pub id: OpId,
    /// Unix time in milliseconds.
    pub timestamp_ms: i64,
}

/// What to do with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Store it under this number.
    Store(u64),
    /// It has been stored: the same operation, or the same user's same `clientId`.
    Repeats(Earlier),
}

/// The order's end and the latest messages before it.
pub struct Sequence {
    next: u64,
    window: usize,
    /// Number of the first entry of `latest`.
    first: u64,
    latest: VecDeque<Entry>,
    by_op: Slots,
    by_client: Slots,
    op_hash: foldhash::quality::RandomState,
    /// Two keyed hashes make a name that no client can make collide.
    client_hash: [RandomState; 2],
}

struct Entry {
    id: OpId,
    timestamp_ms: i64,
    /// Hash of user and `clientId`; 0: there is none.
    client: u128,
}

impl Sequence {
    /// Begins after message `last`; remembers the latest `window` messages (at most 2³⁰).
    pub fn new(last: u64, window: usize) -> Sequence {
        Sequence {
            next: last + 1,
            window: window.min(1 << 30),
            first: last + 1,
            latest: VecDeque::new(),
            by_op: Slots::new(),
            by_client: Slots::new(),
            op_hash: foldhash::quality::RandomState::default(),
            client_hash: [RandomState::new(), RandomState::new()],
        }
    }

    /// The number of the next message that is stored.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Decides about one message, and counts it if it is new.
    pub fn decide(&mut self, id: OpId, user: UserId, client_id: Option<&str>, timestamp_ms: i64) -> Decision {
        let client = client_id.map_or(0, |client_id| self.client_name(user, client_id));
        if let Some(earlier) = self.find_op(id).or_else(|| self.find_client(client)) {
            return Decision::Repeats(earlier);
        }
        let seq = self.next;
        self.next += 1;
        self.push(Entry { id, timestamp_ms, client });
        Decision::Store(seq)
    }

    /// Whether a message has been given a number; counts nothing.
    pub fn find(&self, id: OpId, user: UserId, client_id: Option<&str>) -> Option<Earlier> {
        let client = client_id.map_or(0, |client_id| self.client_name(user, client_id));
        self.find_op(id).or_else(|| self.find_client(client))
    }

    /// Counts a message of which nothing is known but that it had this number's place.
    pub fn recall_unknown(&mut self) {
        // No worker has the number 0, so that nothing repeats it.
        self.recall(OpId { instance: 0, count: self.next }, 0, None, 0);
    }

    /// Counts a message that is in the log, whatever it may repeat.
    pub fn recall(&mut self, id: OpId, user: UserId, client_id: Option<&str>, timestamp_ms: i64) {
        let client = client_id.map_or(0, |client_id| self.client_name(user, client_id));
        self.next += 1;
        self.push(Entry { id, timestamp_ms, client });
    }

    /// Takes back every number from `seq` on, and what was remembered of their messages.
    pub fn roll_back(&mut self, seq: u64) {
        while self.next > seq {
            self.next -= 1;
            if self.latest.is_empty() {
                self.first = self.next;
            } else {
                self.forget(self.next);
                self.latest.pop_back();
            }
        }
    }

    fn push(&mut self, entry: Entry) {
        if self.window == 0 {
            self.first = self.next;
            return;
        }
        if self.latest.len() == self.window {
            self.forget(self.first);
            self.latest.pop_front();
            self.first += 1;
        }
        let place = place(self.next - 1);
        let (op, client) = (self.op_hash.hash_one(entry.id), entry.client);
        self.latest.push_back(entry);
        let Sequence { latest, by_op, by_client, op_hash, first, .. } = self;
        let at = |place: u32| &latest[index(*first, place)];
        by_op.insert(op, place, |place| op_hash.hash_one(at(place).id));
        if client != 0 {
            by_client.insert(low(client), place, |place| low(at(place).client));
        }
    }

    /// Takes an entry out of the tables; it must still be in `latest`.
    fn forget(&mut self, seq: u64) {
        let Sequence { latest, by_op, by_client, op_hash, first, .. } = self;
        let at = |place: u32| &latest[index(*first, place)];
        let place = place(seq);
        let entry = at(place);
        by_op.remove(op_hash.hash_one(entry.id), place, |place| op_hash.hash_one(at(place).id));
        if entry.client != 0 {
            by_client.remove(low(entry.client), place, |place| low(at(place).client));
        }
    }

    fn find_op(&self, id: OpId) -> Option<Earlier> {
        let place = self.by_op.find(self.op_hash.hash_one(id), |place| self.at(place).id == id)?;
        Some(self.earlier(place))
    }

    fn find_client(&self, client: u128) -> Option<Earlier> {
        if client == 0 {
            return None;
        }
        let place = self.by_client.find(low(client), |place| self.at(place).client == client)?;
        Some(self.earlier(place))
    }

    fn at(&self, place: u32) -> &Entry {
        &self.latest[index(self.first, place)]
    }

    fn earlier(&self, place: u32) -> Earlier {
        let entry = self.at(place);
        let seq = self.first + index(self.first, place) as u64;
        Earlier { seq, id: entry.id, timestamp_ms: entry.timestamp_ms }
    }

    fn client_name(&self, user: UserId, client_id: &str) -> u128 {
        let [high, low] = &self.client_hash;
        let name =
            u128::from(high.hash_one((user, client_id))) << 64 | u128::from(low.hash_one((user, client_id)));
        name.max(1)
    }
}

/// The low bits of a number: the window is so short that they tell its entries apart.
fn place(seq: u64) -> u32 {
    u32::try_from(seq % (1 << PLACE_BITS)).unwrap_or(0)
}

/// One less than the bits of a place, since [`Slots`] needs one that is none.
const PLACE_BITS: u32 = 31;

fn index(first: u64, at: u32) -> usize {
    let distance = at.wrapping_sub(place(first)) % (1 << PLACE_BITS);
    usize::try_from(distance).unwrap_or(usize::MAX)
}

fn low(name: u128) -> u64 {
    u64::try_from(name & u128::from(u64::MAX)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn op(count: u64) -> OpId {
        OpId { instance: 9, count }
    }

    #[test]
    fn numbers_have_no_gaps_and_repetitions_get_the_first() {
        let mut sequence = Sequence::new(10, 100);
        assert_eq!(sequence.decide(op(1), 1, Some("a"), 5), Decision::Store(11));
        assert_eq!(sequence.decide(op(2), 2, Some("a"), 6), Decision::Store(12), "another user's");
        let first = Earlier { seq: 11, id: op(1), timestamp_ms: 5 };
        assert_eq!(sequence.decide(op(1), 1, Some("a"), 7), Decision::Repeats(first));
        assert_eq!(sequence.decide(op(3), 1, Some("a"), 7), Decision::Repeats(first));
        assert_eq!(sequence.decide(op(1), 1, None, 7), Decision::Repeats(first));
        assert_eq!(sequence.decide(op(3), 1, None, 8), Decision::Store(13));
        assert_eq!(sequence.next(), 14);
    }

    #[test]
    fn what_is_rolled_back_was_never_there() {
        let mut sequence = Sequence::new(0, 2);
        for count in 1..=4 {
            sequence.decide(op(count), 1, Some(&count.to_string()), 0);
        }
        sequence.roll_back(3);
        assert_eq!(sequence.decide(op(9), 1, Some("4"), 0), Decision::Store(3));
        assert_eq!(sequence.decide(op(4), 1, Some("9"), 0), Decision::Store(4));
        sequence.roll_back(1);
        assert_eq!(sequence.decide(op(4), 1, Some("9"), 0), Decision::Store(1));
        assert!(matches!(sequence.decide(op(4), 1, None, 0), Decision::Repeats(Earlier { seq: 1, .. })));
    }

    #[test]
    fn the_window_may_be_nothing() {
        let mut sequence = Sequence::new(0, 0);
        assert_eq!(sequence.decide(op(1), 1, Some("a"), 0), Decision::Store(1));
        assert_eq!(sequence.decide(op(1), 1, Some("a"), 0), Decision::Store(2));
        sequence.roll_back(2);
        assert_eq!(sequence.next(), 2);
    }

    proptest! {
        /// Against a list that is searched from its end.
        #[test]
        fn remembers_exactly_the_window(
            start in prop::sample::select(vec![0u64, (1 << 31) - 3, (1 << 32) - 3]),
            window in 1usize..8,
            steps in prop::collection::vec((0u64..12, 0u64..2, prop::option::of(0u8..4), 0usize..20), 0..200),
        ) {
            let mut sequence = Sequence::new(start, window);
            let mut log = Vec::<(u64, OpId, Option<(u64, String)>)>::new();
            let mut oldest = 0;
            for (count, user, client, back) in steps {
                if back == 0 {
                    let kept = log.len().saturating_sub(2);
                    log.truncate(kept);
                    oldest = oldest.min(kept);
                    sequence.roll_back(start + 1 + kept as u64);
                }
                let client = client.map(|client| (user, client.to_string()));
                oldest = oldest.max(log.len().saturating_sub(window));
                let known = log[oldest..].iter().find(|(_, id, _)| *id == op(count)).or_else(|| {
                    log[oldest..].iter().find(|(_, _, its)| client.is_some() && *its == client)
                });
                let decided = sequence.decide(op(count), user, client.as_ref().map(|(_, id)| id.as_str()), 0);
                match known {
                    Some((seq, id, _)) => {
                        let earlier = Earlier { seq: *seq, id: *id, timestamp_ms: 0 };
                        prop_assert_eq!(decided, Decision::Repeats(earlier));
                    }
                    None => {
                        let seq = start + 1 + log.len() as u64;
                        prop_assert_eq!(decided, Decision::Store(seq));
                        log.push((seq, op(count), client));
                        oldest = oldest.max(log.len().saturating_sub(window));
                    }
                }
            }
        }
    }
}
