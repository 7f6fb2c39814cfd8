//! A worker that comes back is told what it missed, in order, and then what is new.

use minitalk::chat::{OpId, RoomEvent};
use minitalk::config::PUBLISH_QUEUE_BYTES;
use minitalk::link::frame::{Change, Outcome, Position};
use minitalk::link::version::VERSION;

use crate::host::{Heard, Host, Worker, post};

/// Alternates changes and messages; answers them as a worker heard them live.
fn story(host: &Host) -> Vec<Heard> {
    let mut witness = host.worker(50);
    witness.hear();
    let mut worker = host.worker(1);
    worker.create_users(&["alice", "bob"]);
    for number in 0..40u64 {
        let room = format!("room {number}");
        worker.create_room(1, &room, &[]).unwrap();
        for _ in 0..number % 4 {
            worker.posted(1, &room, "hello").unwrap();
        }
        let room_id = room;
        worker.change(Change::Invite { room_id, by: 1, participants: vec!["bob".into()] }).unwrap();
    }
    let last = Heard::Rooms(80, vec![RoomEvent::Joined { room_id: "room 39".into(), users: vec![2] }]);
    witness.hear_until(|heard| *heard == last)
}

/// One thing after the other, whatever frames they came in.
fn flat(heard: Vec<Heard>) -> Vec<Heard> {
    let one = |heard| match heard {
        Heard::Rooms(_, events) => events.into_iter().map(|event| Heard::Rooms(0, vec![event])).collect(),
        other => vec![other],
    };
    heard.into_iter().flat_map(one).collect()
}

fn hear_up_to(worker: &mut Worker, last: &Heard) -> Vec<Heard> {
    let mut all = Vec::new();
    while all.last() != Some(last) {
        all.extend(flat(worker.hear()));
    }
    all
}

#[test]
fn from_anywhere_the_same_order() {
    let mut host = Host::new().per_file(7);
    host.start().unwrap();
    let live = flat(story(&host));
    for restarted in [false, true] {
        if restarted {
            host.restart();
        }
        let (mut seq, mut rev) = (0, 0);
        for (at, heard) in live.iter().enumerate() {
            let mut worker = host.worker_at(60, Some(Position { seq, rev }));
            assert_eq!(worker.hear(), [Heard::Welcome(Position { seq: 60, rev: 80 })]);
            assert_eq!(hear_up_to(&mut worker, live.last().unwrap()), live[at..], "{restarted} {at}");
            match heard {
                Heard::Message { seq: its, .. } => seq = *its,
                _ => rev += 1,
            }
        }
        // Nothing missed: the next thing heard is new.
        let mut worker = host.worker_at(60, Some(Position { seq: 60, rev: 80 }));
        worker.hear();
        let count = worker.next_count();
        worker.send(&minitalk::link::frame::ToWriter::Sync { count });
        assert_eq!(worker.hear(), [Heard::Done(count, Outcome::Ok)]);
    }
}

#[test]
fn answers_come_behind_what_was_missed_and_new_messages_behind_that() {
    let host = Host::started();
    let mut other = host.worker(1);
    for _ in 0..3_000 {
        other.post("r", &"x".repeat(1_000));
    }
    other.hear_until(|heard| matches!(heard, Heard::Message { seq: 3_000, .. }));
    let mut worker = host.worker_at(2, Some(Position { seq: 10, rev: 0 }));
    // The retry of something that was done, and something new, before anything is read.
    worker.send(&post(1, "r", "new", None));
    other.post("r", "newer");
    other.hear_until(|heard| matches!(heard, Heard::Message { seq: 3_002, .. }));
    let mut expected = 11;
    loop {
        for heard in worker.hear() {
            if let Heard::Message { seq, .. } = heard {
                assert_eq!(seq, expected);
                expected += 1;
            }
        }
        if expected == 3_003 {
            return;
        }
    }
}

#[test]
fn a_worker_that_reads_nothing_is_let_go_and_served_from_the_log() {
    let host = Host::started();
    let mut deaf = host.worker(1);
    assert_eq!(deaf.hear(), [Heard::Welcome(Position::default())]);
    let mut busy = host.worker(2);
    busy.hear();
    let content = "x".repeat(400_000);
    let needed = u64::try_from(PUBLISH_QUEUE_BYTES / content.len() + 5).unwrap();
    for seq in 1..=needed {
        assert_eq!(busy.posted(2, "r", &content), Ok(seq));
    }
    host.wait_until(|report| report["peers"] == 1);
    let mut seen = 0;
    while let Some(heard) = deaf.try_hear() {
        for heard in heard {
            if let Heard::Message { seq, .. } = heard {
                assert_eq!(seq, seen + 1);
                seen = seq;
            }
        }
    }
    assert!(seen < needed);
    let mut back = host.worker_at(1, Some(Position { seq: seen, rev: 0 }));
    while seen < needed {
        for heard in back.hear() {
            if let Heard::Message { seq, .. } = heard {
                assert_eq!(seq, seen + 1);
                seen = seq;
            }
        }
    }
    assert_eq!(back.posted(1, "r", "here again"), Ok(needed + 1));
}

#[test]
fn what_was_asked_before_the_end_is_done_at_the_end() {
    let mut host = Host::started();
    let mut worker = host.worker(1);
    worker.hear();
    let frames: Vec<_> = (1..=500).map(|count| post(count, "r", "hello", None)).collect();
    worker.send_all(&frames);
    host.stop();
    let mut heard = Vec::new();
    while let Some(more) = worker.try_hear() {
        heard.extend(more);
    }
    let stored = host.messages();
    assert_eq!(heard.len(), stored.len());
    assert_eq!(stored.len(), 500, "what was in the socket was taken in");
    host.start().unwrap();
    let mut again = host.worker(1);
    again.send(&post(500, "r", "hello", None));
    assert_eq!(again.outcome_of_post(OpId { instance: 1, count: 500 }), Ok(500));
}

#[test]
fn who_missed_what_cannot_be_read_begins_anew_and_is_served() {
    let mut host = Host::new().per_file(10);
    host.config.storage.dedup_window_messages = 10;
    host.start().unwrap();
    let mut worker = host.worker(1);
    worker.create_users(&["alice"]);
    worker.create_room(1, "a", &[]).unwrap();
    (1..=35).for_each(|_| drop(worker.posted(1, "a", "hello")));
    let name = "messages_000002.jsonl";
    let mut bytes = host.read(name);
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    host.replace(name, &bytes);
    let upto = Position { seq: 35, rev: 1 };
    let mut back = host.worker_at(7, Some(Position { seq: 5, rev: 0 }));
    let heard = back.hear_until(|heard| *heard == Heard::Afresh(upto));
    assert_eq!(heard[0], Heard::Welcome(upto));
    // What is new comes to it as to all others.
    let posted = worker.posted(1, "a", "new").unwrap();
    back.hear_until(|heard| matches!(heard, Heard::Message { seq, .. } if *seq == posted));
}

/// What comes behind its greeting looks like frames of this version and means something else, or nothing.
#[test]
fn a_worker_of_another_version_is_told_so_and_nothing_it_says_is_believed() {
    let host = Host::started();
    let mut mate = host.worker(1);
    mate.hear();
    mate.create_users(&["alice"]);
    mate.create_room(1, "room", &[]).unwrap();
    for (version, rest) in [(6, &[0, 7, 0][..]), (8, &[]), (8, &[0xff; 40]), (127, &[1; 9])] {
        let greeting = [&[0, version][..], rest].concat();
        let post = [1, 1, 1, 1, 5, b'a', b'l', b'i', b'c', b'e', 4, b'r', b'o', b'o', b'm', 1, b'x', 0];
        let mut other = host.stranger();
        other.send_bodies(&[&greeting, &post]);
        assert_eq!(other.hear(), [Heard::OtherVersion(VERSION)]);
        assert_eq!(other.try_hear(), None);
    }
    assert_eq!(mate.posted(1, "room", "hello").unwrap(), 1);
    assert_eq!(host.messages().len(), 1);
}
