//! Puts the threads' ledgers together and finds what only the whole can show: what is lost, and
//! what threads were told differently.

use std::collections::BTreeMap;

use crate::ledger::{EXAMPLES, Fate, Faults, Kind, Ledger, Receiver, Room};
use crate::plan::Plan;
use crate::report::{Correctness, Example};

/// The verdict over all threads.
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
        .map(str::to_owned)
        .zip(whole.examples.map(|list| list.into_iter().map(named).collect()))
        .collect::<BTreeMap<_, Vec<_>>>();
    let judged_by = if heard_seq { "seq" } else { "content" };
    Correctness {
        lost,
        duplicated,
        out_of_order,
        foreign,
        unanswered: unanswered as u64,
        judged_by: judged_by.into(),
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
