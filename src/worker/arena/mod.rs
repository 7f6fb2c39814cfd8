//! Live challenges on this worker: its sockets in them, and the mirror of who is in and how far.
//!
//! The storage writer decides everything in one order ([`crate::link::arena`]); a worker tells it what its
//! sockets say ([`socket`]), mirrors what comes back ([`mirror`]), and hands it out to its sockets
//! ([`news`]), framed once for all of a challenge ([`batch`]). Those who only watch hear it as
//! well ([`watch`]).
//!
//! # Bounds
//!
//! A newcomer to a crowd is told of [`NEAREST`] others at once and of the rest in pieces of [`PIECE`], each
//! when it has taken what it was sent before. What a socket says of its position goes to the writer at most
//! once per half of `challenge.update_tick`, the latest. After a hand-out a challenge rests in proportion to
//! its sockets here, so that under load each write carries more.

pub mod batch;
pub mod mirror;
pub mod news;
pub mod socket;
pub mod watch;

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use self::batch::Batch;
use self::mirror::Mirror;
use self::watch::{ALIVE, Events, Watchers};
use crate::challenge::{ChallengeId, EntryId};
use crate::chat::UserId;
use crate::engine::table::Key;
use crate::metrics::histogram::{Histogram, WAITING};

/// Participants in `CONNECTED`, at most.
pub const NEAREST: usize = 100;

/// Participants in one piece of what follows it.
const PIECE: usize = 100;

/// Pieces sent in one turn, at most.
const PIECES_PER_TURN: usize = 64;

/// A newcomer with more than this waiting, in bytes, is not sent another piece.
const PIECE_BEHIND_BYTES: usize = 16 << 10;

/// Rest after a hand-out, for each socket that was written to; `challenge.update_tick` at most.
const REST_PER_SOCKET: Duration = Duration::from_micros(80);

/// Everything a worker knows of live challenges.
#[derive(Default)]
pub struct Arena {
    courses: HashMap<ChallengeId, Course, foldhash::fast::RandomState>,
    /// Sockets of which it is not known, since the link came back, whether they are in.
    adrift: HashMap<(ChallengeId, UserId), Seat, foldhash::fast::RandomState>,
    /// Challenges with something to hand out.
    dirty: Vec<ChallengeId>,
    /// Newcomers that have not been told of everybody.
    telling: VecDeque<Key>,
    /// Sockets with a position that the writer has not been told.
    records: Vec<Key>,
    /// When it may be told the next ones.
    records_at: Option<Instant>,
    /// Those who only watch.
    pub watchers: Watchers,
    /// What operators watch.
    pub counters: Counters,
}

/// What operators watch, besides what the storage writer counts.
pub struct Counters {
    /// Sockets in a challenge.
    pub seated: u64,
    /// Tickets that let nobody in: used, too old, or never there.
    pub tickets_refused: u64,
    /// From a socket's handshake until it was in.
    pub enter: Histogram,
}

impl Default for Counters {
    fn default() -> Counters {
        Counters { seated: 0, tickets_refused: 0, enter: Histogram::new(&WAITING) }
    }
}

/// A live challenge, and the sockets here that are in it.
struct Course {
    mirror: Mirror,
    seats: HashMap<UserId, Seat, foldhash::fast::RandomState>,
    batch: Batch,
    /// The same for those who watch, as far as there were any after the latest hand-out.
    watched: Vec<u8>,
    is_watched: bool,
    /// Sockets to close behind the next hand-out.
    leaving: Vec<(Key, u16, &'static str)>,
    /// When the next hand-out may be.
    rests_until: Option<Instant>,
    is_dirty: bool,
    /// `USER_LEFT` of those whose time is over in this batch.
    expired: usize,
}

/// A socket in a challenge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seat {
    key: Key,
    entry: EntryId,
    /// How many bytes the batch had when it came.
    from: usize,
}

impl Course {
    fn new(mirror: Mirror) -> Course {
        Course {
            mirror,
            seats: HashMap::default(),
            batch: Batch::default(),
            watched: Vec::new(),
            is_watched: false,
            leaving: Vec::new(),
            rests_until: None,
            is_dirty: false,
            expired: 0,
        }
    }
}

impl Arena {
    /// A challenge that can be entered now.
    pub fn mirror(&self, challenge: ChallengeId) -> Option<&Mirror> {
        self.courses.get(&challenge).map(|course| &course.mirror)
    }

    /// Sockets of a user, of whatever challenges.
    pub fn sockets_of(&self, user: UserId) -> Vec<Key> {
        let seated = self.courses.values().filter_map(|course| course.seats.get(&user));
        let adrift = self.adrift.iter().filter_map(|((_, whose), seat)| (*whose == user).then_some(seat));
        seated.chain(adrift).map(|seat| seat.key).collect()
    }

    /// One more who only watches, and whose connection may be silent for so long. `None`: there are as many as
    /// there may be.
    pub fn watch(&mut self, challenge: ChallengeId, silence: Duration) -> Option<Events> {
        let events = self.watchers.enter(challenge, ALIVE.min(silence / 3))?;
        if let Some(course) = self.courses.get_mut(&challenge) {
            course.is_watched = true;
        }
        Some(events)
    }

    /// When it wants to be looked after.
    pub fn next_at(&self) -> Option<Instant> {
        let dirty = self.dirty.iter().filter_map(|challenge| self.courses.get(challenge)?.rests_until).min();
        let records = self.records_at.filter(|_| !self.records.is_empty());
        [dirty, records].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::challenge::{Distance, Schedule};
    use crate::link::arena::LiveChallenge;
    use crate::wire::challenge::Spectacle;

    #[tokio::test]
    async fn nothing_is_framed_for_a_broadcast_that_nobody_watches() {
        let mut arena = Arena::default();
        let schedule = Schedule { ready_ms: 0, start_ms: 1, end_ms: 2 };
        let facts = LiveChallenge { challenge: 1, broadcast: true, distance: Distance::One, schedule };
        arena.courses.insert(1, Course::new(Mirror::new(facts)));
        let framed = |arena: &mut Arena| {
            let course = arena.courses.get_mut(&1).unwrap();
            course.watch(&Spectacle::Start { timestamp: 1 });
            !std::mem::take(&mut course.watched).is_empty()
        };
        assert!(!framed(&mut arena));
        let events = arena.watch(1, ALIVE).unwrap();
        assert!(framed(&mut arena));
        drop(events);
        assert!(
            !arena.watchers.tell(1, &Bytes::from_static(b"x")),
            "that it has gone is found out by telling"
        );
    }
}
