//! The ledger against small stories, one fault each.

use super::*;
use crate::args::typed;
use crate::judge::judge;

/// Two users in one room; the first is its sender.
fn plan(threads: u32) -> Plan {
    let line = format!("fanout --users 2 --rooms 1 --threads {threads}");
    Plan::new(&typed(&line).scenario).unwrap()
}

fn mark(number: u32) -> Option<Mark> {
    Some(Mark { room: 0, slot: 0, number, at_ns: 0 })
}

fn event(seq: Option<u64>) -> Delivery<'static> {
    Delivery { seq, room_id: None }
}

/// Sends and acks four messages as seq 10..14, then delivers the given (number, seq) to both users,
/// and to the second also `extra`; gives lost, duplicated, out of order, foreign.
fn check(story: &[(u32, Option<u64>)], faults: [u64; 4]) {
    let plan = plan(1);
    let mut ledger = Ledger::new(&plan, &[0, 1]);
    for number in 0..4 {
        assert_eq!(ledger.sent(0), number);
        ledger.answered(0, &Ack { id: number, ok: true, seq: Some(10 + u64::from(number)) });
        ledger.delivered(0, mark(number), &event(Some(10 + u64::from(number))), true);
    }
    for (number, seq) in story {
        ledger.delivered(1, mark(*number), &event(*seq), true);
    }
    let found = judge(&plan, vec![ledger]);
    assert_eq!([found.lost, found.duplicated, found.out_of_order, found.foreign], faults, "{story:?}");
    let examples: usize = found.examples.values().map(Vec::len).sum();
    assert_eq!(examples as u64, faults.iter().sum::<u64>());
}

fn numbered(numbers: &[u32]) -> Vec<(u32, Option<u64>)> {
    numbers.iter().map(|number| (*number, Some(10 + u64::from(*number)))).collect()
}

#[test]
fn each_fault_is_found_once_and_named_rightly() {
    check(&numbered(&[0, 1, 2, 3]), [0, 0, 0, 0]);
    check(&numbered(&[0, 1, 3]), [1, 0, 0, 0]);
    check(&numbered(&[0, 1, 1, 2, 3]), [0, 1, 0, 0]);
    check(&numbered(&[0, 1, 2, 3, 0]), [0, 1, 0, 0]);
    check(&numbered(&[0, 2, 1, 3]), [0, 0, 1, 0]);
    check(&[(0, Some(10)), (1, Some(11)), (2, Some(12)), (3, Some(99))], [0, 0, 0, 1]);
    check(&numbered(&[]), [4, 0, 0, 0]);
}

#[test]
fn the_same_seq_for_two_messages_is_a_duplicate_of_a_seq() {
    check(&[(0, Some(10)), (1, Some(10)), (2, Some(12)), (3, Some(13))], [0, 1, 0, 1]);
}

#[test]
fn without_seq_a_sender_may_not_be_overtaken() {
    let bare = |numbers: &[u32]| numbers.iter().map(|number| (*number, None)).collect::<Vec<_>>();
    check(&bare(&[0, 1, 2, 3]), [0, 0, 0, 0]);
    check(&bare(&[0, 2, 1, 3]), [0, 0, 1, 0]);
    check(&bare(&[0, 1, 1, 2]), [1, 1, 0, 0]);
}

#[test]
fn foreign_content_rooms_and_acks_are_foreign() {
    let plan = plan(1);
    let mut ledger = Ledger::new(&plan, &[0, 1]);
    assert!(!ledger.delivered(0, None, &event(Some(1)), true));
    assert!(!ledger.delivered(0, mark(0), &event(Some(1)), false));
    assert!(!ledger.delivered(
        0,
        Some(Mark { room: 1, slot: 0, number: 0, at_ns: 0 }),
        &event(Some(1)),
        true
    ));
    ledger.unasked(0, &Ack { id: 0, ok: true, seq: None });
    assert_eq!(judge(&plan, vec![ledger]).foreign, 4);
}

#[test]
fn refused_messages_may_not_appear_and_unanswered_ones_are_told() {
    let plan = plan(1);
    let mut ledger = Ledger::new(&plan, &[0, 1]);
    (0..3).for_each(|_| _ = ledger.sent(0));
    ledger.answered(0, &Ack { id: 0, ok: false, seq: None });
    ledger.answered(0, &Ack { id: 1, ok: false, seq: None });
    ledger.delivered(1, mark(1), &event(Some(5)), true);
    let found = judge(&plan, vec![ledger]);
    assert_eq!((found.foreign, found.unanswered, found.lost), (1, 1, 0));
    assert!(!found.holds());
}

#[test]
fn nothing_is_owed_to_a_broken_connection() {
    let plan = plan(1);
    let mut ledger = Ledger::new(&plan, &[0, 1]);
    ledger.sent(0);
    ledger.answered(0, &Ack { id: 0, ok: true, seq: Some(1) });
    ledger.sent(0);
    ledger.gone(1, [1].into_iter());
    let found = judge(&plan, vec![ledger]);
    assert_eq!((found.lost, found.unanswered), (1, 0), "only what the other one is owed");
}

#[test]
fn threads_that_were_told_different_seqs_are_found_when_put_together() {
    let plan = plan(2);
    let mut home = Ledger::new(&plan, &[0]);
    let mut away = Ledger::new(&plan, &[1]);
    home.sent(0);
    home.answered(0, &Ack { id: 0, ok: true, seq: Some(1) });
    assert!(home.delivered(0, mark(0), &event(Some(1)), true));
    assert!(away.delivered(0, mark(0), &event(Some(2)), true));
    let found = judge(&plan, vec![home, away]);
    assert_eq!((found.lost, found.foreign), (0, 1));
}
