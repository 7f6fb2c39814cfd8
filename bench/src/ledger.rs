//! Who was told what. Each thread writes down its own part; `judge` puts the parts together.
//!
//! - *lost*: acked, but not delivered to a member that was connected throughout.
//! - *duplicated*: the same message, or the same `seq`, a second time on one connection.
//! - *out of order*: a `seq` below one that came before. A server that gives no `seq` is judged by
//!   what remains: one sender's messages may not overtake each other.
//! - *foreign*: content that was never sent (or was changed), a room that is not the receiver's, a
//!   `seq` that others were told differently, an ack nobody asked for, a message although refused.

use crate::mark::Mark;
use crate::packet::{Ack, Delivery};
use crate::plan::Plan;
use crate::report::Example;
use crate::seen::Seen;

/// Faults of one kind that are told one by one.
pub const EXAMPLES: usize = 10;

/// What became of a message that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Nothing yet.
    Unanswered,
    /// Nothing, and the connection that waited for it is gone.
    Orphaned,
    /// Granted.
    Acked,
    /// Not granted.
    Refused,
}

/// What one thread knows of one room's messages, by number.
#[derive(Default)]
pub struct Room {
    /// Only at the room's home.
    pub fates: Vec<Fate>,
    /// Whether any of them is `Refused`.
    pub refused: bool,
    /// As first heard; 0: not heard.
    pub seqs: Vec<u64>,
}

/// What one connection was told.
pub struct Receiver {
    /// Number in the plan.
    pub user: u32,
    /// Its only room.
    pub room: u32,
    /// Still, and all the time.
    pub connected: bool,
    /// What it got.
    pub seen: Seen,
    last_seq: u64,
    /// One more than the last number of each sender, for servers without `seq`.
    last_of: Vec<u32>,
}

/// The kinds of fault, in the order they are reported.
#[derive(Clone, Copy)]
pub enum Kind {
    /// Acked, not delivered.
    Lost,
    /// Delivered again.
    Duplicated,
    /// Delivered after a later one.
    OutOfOrder,
    /// Not what was sent, or not there.
    Foreign,
}

/// Counts of each kind and the first few, by user number.
#[derive(Default)]
pub struct Faults {
    /// By kind.
    pub counts: [u64; 4],
    /// By kind; the names are filled in at the end.
    pub examples: [Vec<(u32, Example)>; 4],
}

impl Faults {
    /// Counts one more and keeps it if it is among the first.
    pub fn note(
        &mut self,
        kind: Kind,
        user: u32,
        room: u32,
        number: Option<u32>,
        seq: Option<u64>,
        what: &'static str,
    ) {
        self.counts[kind as usize] += 1;
        let examples = &mut self.examples[kind as usize];
        if examples.len() < EXAMPLES {
            examples
                .push((user, Example { who: String::new(), room, message: number, seq, what: what.into() }));
        }
    }
}

/// One thread's part of the truth.
pub struct Ledger {
    /// By index in the plan.
    pub rooms: Vec<Room>,
    /// This thread's users.
    pub receivers: Vec<Receiver>,
    /// What was noticed on the way.
    pub faults: Faults,
    /// Whether any delivery had a `seq`.
    pub heard_seq: bool,
}

impl Ledger {
    /// For the thread that serves `users`; receivers are known by their place in that list.
    pub fn new(plan: &Plan, users: &[u32]) -> Ledger {
        let slow = plan.slow();
        let receiver = |&user: &u32| Receiver {
            user,
            room: plan.room_of(user),
            connected: !slow[user as usize], // a reader that never reads is owed nothing
            seen: Seen::default(),
            last_seq: 0,
            last_of: vec![],
        };
        Ledger {
            rooms: (0..plan.rooms).map(|_| Room::default()).collect(),
            receivers: users.iter().map(receiver).collect(),
            faults: Faults::default(),
            heard_seq: false,
        }
    }

    /// A message is about to be sent to a room: its number.
    pub fn sent(&mut self, room: u32) -> u32 {
        let fates = &mut self.rooms[room as usize].fates;
        let number = u32::try_from(fates.len()).unwrap_or(u32::MAX);
        fates.push(Fate::Unanswered);
        number
    }

    /// The answer to a message of that room, which the caller knows to be waiting for it.
    pub fn answered(&mut self, receiver: usize, ack: &Ack) {
        let Receiver { user, room, .. } = self.receivers[receiver];
        let log = &mut self.rooms[room as usize];
        log.refused |= !ack.ok;
        log.fates[ack.id as usize] = if ack.ok { Fate::Acked } else { Fate::Refused };
        if let Some(seq) = ack.seq.filter(|_| ack.ok)
            && !log.agrees(ack.id, seq)
        {
            self.faults.note(Kind::Foreign, user, room, Some(ack.id), Some(seq), "acked with another seq");
        }
    }

    /// An ack nobody was waiting for.
    pub fn unasked(&mut self, receiver: usize, ack: &Ack) {
        let Receiver { user, room, .. } = self.receivers[receiver];
        self.faults.note(Kind::Foreign, user, room, Some(ack.id), ack.seq, "an ack nobody waits for");
    }

    /// A message event; `mark` is what its content says, `own_room` whether it names the receiver's
    /// room. True if it is a message of that room, for the first time.
    pub fn delivered(
        &mut self,
        receiver: usize,
        mark: Option<Mark>,
        event: &Delivery,
        own_room: bool,
    ) -> bool {
        let to = &mut self.receivers[receiver];
        let mut note = |kind, number, what| self.faults.note(kind, to.user, to.room, number, event.seq, what);
        let Some(mark) = mark else {
            note(Kind::Foreign, None, "content that was never sent");
            return false;
        };
        let number = Some(mark.number);
        if !own_room || mark.room != to.room {
            note(Kind::Foreign, number, "a room that is not the receiver's");
            return false;
        }
        if !to.seen.insert(mark.number) {
            note(Kind::Duplicated, number, "the message came before");
            return false;
        }
        let Some(seq) = event.seq else {
            if overtaken(&mut to.last_of, mark) {
                note(Kind::OutOfOrder, number, "a later one of its sender came before");
            }
            return true;
        };
        self.heard_seq = true;
        if !self.rooms[to.room as usize].agrees(mark.number, seq) {
            note(Kind::Foreign, number, "another seq than others were told");
        }
        if seq == to.last_seq {
            note(Kind::Duplicated, number, "the seq came before");
        } else if seq < to.last_seq {
            note(Kind::OutOfOrder, number, "a higher seq came before");
        }
        to.last_seq = to.last_seq.max(seq);
        true
    }

    /// The highest `seq` a receiver was told; 0: none.
    pub fn last_seq(&self, receiver: usize) -> u64 {
        self.receivers[receiver].last_seq
    }

    /// A connection broke, waiting for answers to `unanswered`: nothing counts as owed to it.
    pub fn gone(&mut self, receiver: usize, unanswered: impl Iterator<Item = u32>) {
        let to = &mut self.receivers[receiver];
        to.connected = false;
        for number in unanswered {
            self.rooms[to.room as usize].fates[number as usize] = Fate::Orphaned;
        }
    }
}

impl Room {
    /// Whether `seq` is what was heard of that message before, if anything was.
    pub fn agrees(&mut self, number: u32, seq: u64) -> bool {
        let at = number as usize;
        if self.seqs.len() <= at {
            self.seqs.resize(at + 1, 0);
        }
        let known = &mut self.seqs[at];
        if *known == 0 {
            *known = seq;
        }
        *known == seq
    }
}

/// Whether a later message of the same sender came before this one.
fn overtaken(last_of: &mut Vec<u32>, mark: Mark) -> bool {
    let slot = usize::from(mark.slot);
    if last_of.len() <= slot {
        last_of.resize(slot + 1, 0);
    }
    let next = mark.number.saturating_add(1);
    let late = next < last_of[slot];
    last_of[slot] = last_of[slot].max(next);
    late
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
