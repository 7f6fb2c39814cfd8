//! Who was told what. Each thread writes down its own part; the parts are judged together at the end.
//!
//! - *lost*: acked, but not delivered to a member that was connected throughout.
//! - *duplicated*: the same message, or the same `seq`, a second time on one connection.
//! - *out of order*: a `seq` below one that came before. A server that gives no `seq` is judged by
//!   what remains: one sender's messages may not overtake each other.
//! - *foreign*: content that was never sent (or was changed), a room that is not the receiver's, a
//!   `seq` that others were told differently, an ack nobody asked for, a message although refused.

use std::collections::BTreeMap;

use crate::mark::Mark;
use crate::packet::{Ack, Delivery};
use crate::plan::Plan;
use crate::report::{Correctness, Example};
use crate::seen::Seen;

/// Faults of one kind that are told one by one.
const EXAMPLES: usize = 10;

/// What became of a message that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Unanswered,
    Acked,
    Refused,
}

/// What one thread knows of one room's messages, by number.
#[derive(Default)]
struct Room {
    /// Only at the room's home.
    fates: Vec<Fate>,
    /// Whether any of them is `Refused`.
    refused: bool,
    /// As first heard; 0: not heard.
    seqs: Vec<u64>,
}

struct Receiver {
    user: u32,
    room: u32,
    connected: bool,
    seen: Seen,
    last_seq: u64,
    /// One more than the last number of each sender, for servers without `seq`.
    last_of: Vec<u32>,
}

/// The kinds of fault, in the order they are reported.
#[derive(Clone, Copy)]
enum Kind {
    Lost,
    Duplicated,
    OutOfOrder,
    Foreign,
}

/// Counts of each kind and the first few, by user number.
#[derive(Default)]
struct Faults {
    counts: [u64; 4],
    examples: [Vec<(u32, Example)>; 4],
}

impl Faults {
    fn note(
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
            examples.push((user, Example { who: String::new(), room, message: number, seq, what }));
        }
    }
}

/// One thread's part of the truth.
pub struct Ledger {
    rooms: Vec<Room>,
    receivers: Vec<Receiver>,
    faults: Faults,
    heard_seq: bool,
}

impl Ledger {
    /// For the thread that serves `users`; receivers are known by their place in that list.
    pub fn new(plan: &Plan, users: &[u32]) -> Ledger {
        let receiver = |&user| Receiver {
            user,
            room: plan.room_of(user),
            connected: true,
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

    /// A connection broke: nothing counts as lost for it.
    pub fn gone(&mut self, receiver: usize) {
        self.receivers[receiver].connected = false;
    }
}

impl Room {
    /// Whether `seq` is what was heard of that message before, if anything was.
    fn agrees(&mut self, number: u32, seq: u64) -> bool {
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

/// Puts the parts together and finds what only the whole can show.
pub fn judge(plan: &Plan, ledgers: Vec<Ledger>) -> Correctness {
    let mut whole = Faults::default();
    let mut rooms: Vec<Room> = (0..plan.rooms).map(|_| Room::default()).collect();
    let heard_seq = ledgers.iter().any(|ledger| ledger.heard_seq);
    let mut receivers: Vec<Receiver> = vec![];
    for ledger in ledgers {
        for (count, part) in whole.counts.iter_mut().zip(ledger.faults.counts) {
            *count += part;
        }
        for (examples, part) in whole.examples.iter_mut().zip(ledger.faults.examples) {
            examples.extend(part.into_iter().take(EXAMPLES - examples.len()));
        }
        for (at, (room, part)) in (0..).zip(rooms.iter_mut().zip(ledger.rooms)) {
            merge(room, part, at, &mut whole);
        }
        receivers.extend(ledger.receivers);
    }
    receivers.sort_by_key(|receiver| receiver.user);
    for receiver in &receivers {
        owed(receiver, &rooms, &mut whole);
    }
    let unanswered =
        rooms.iter().flat_map(|room| &room.fates).filter(|fate| **fate == Fate::Unanswered).count();
    let [lost, duplicated, out_of_order, foreign] = whole.counts;
    let named = |(user, example)| Example { who: plan.name_of(user), ..example };
    let examples = ["lost", "duplicated", "out_of_order", "foreign"]
        .into_iter()
        .zip(whole.examples.map(|list| list.into_iter().map(named).collect()))
        .collect::<BTreeMap<_, Vec<_>>>();
    let judged_by = if heard_seq { "seq" } else { "content" };
    Correctness {
        lost,
        duplicated,
        out_of_order,
        foreign,
        unanswered: unanswered as u64,
        judged_by,
        examples,
    }
}

fn merge(room: &mut Room, part: Room, at: u32, whole: &mut Faults) {
    if !part.fates.is_empty() {
        (room.fates, room.refused) = (part.fates, part.refused);
    }
    for (number, seq) in (0..).zip(part.seqs).filter(|(_, seq)| *seq != 0) {
        if !room.agrees(number, seq) {
            // Any member can stand for the room; its first is the user of the same number.
            whole.note(Kind::Foreign, at, at, Some(number), Some(seq), "another seq than others were told");
        }
    }
}

/// What one receiver should have got and did not, or got and should not have.
fn owed(receiver: &Receiver, rooms: &[Room], whole: &mut Faults) {
    let Some(room) = rooms.get(receiver.room as usize) else { return };
    let Receiver { user, room: at, seen, .. } = receiver;
    let begin = if room.refused { 0 } else { seen.base() };
    for (number, fate) in (begin..).zip(room.fates.iter().skip(begin as usize)) {
        let seq = room.seqs.get(number as usize).copied().filter(|seq| *seq != 0);
        match fate {
            Fate::Acked if receiver.connected && !seen.contains(number) => {
                whole.note(Kind::Lost, *user, *at, Some(number), seq, "acked but not delivered");
            }
            Fate::Refused if seen.contains(number) => {
                whole.note(Kind::Foreign, *user, *at, Some(number), seq, "refused but delivered");
            }
            _ => {}
        }
    }
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
