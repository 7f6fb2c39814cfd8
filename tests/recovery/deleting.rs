//! A deletion of everything is all or nothing, wherever the writer ends.

use std::fs;
use std::sync::Arc;

use minitalk::chat::Code;
use minitalk::index::Reader;
use minitalk::link::frame::{Change, Outcome, Position, ToWriter};

use crate::host::{Heard, Host, Worker, post};
use crate::witness::Witness;

fn users(count: u64) -> ToWriter<'static> {
    ToWriter::Change { count, change: Change::DeleteUsers { by: 1 } }
}

fn messages(count: u64) -> ToWriter<'static> {
    ToWriter::DeleteMessages { count, by: 1 }
}

/// Two users in a room with 25 messages, in files of ten; their worker has used its counts up to 100.
fn peopled(host: &mut Host) -> Worker {
    host.start().unwrap();
    let mut worker = host.worker(1);
    worker.create_users(&["alice", "bob"]);
    worker.create_room(1, "r", &["bob"]).unwrap();
    for seq in 1..=25 {
        assert_eq!(worker.posted(1, "r", "hello"), Ok(seq));
    }
    worker.sync();
    worker
}

fn deleted(worker: &mut Worker, frame: &ToWriter<'_>, count: u64) -> u64 {
    worker.send(frame);
    match worker.answer(count) {
        Ok(Outcome::Deleted { count, .. }) => count,
        other => panic!("{other:?}"),
    }
}

/// Ends a deletion at every step, with an index that has not heard of it and with none, and expects a
/// start and a retry to make it whole.
fn at_every_step(frame: &ToWriter<'_>, expected: u64, check: impl Fn(&Host, &str) -> bool) {
    let disk = Witness::of("jsonl");
    let mut host = Host::new().per_file(10).with_disk(Arc::new(disk.clone()));
    drop(peopled(&mut host));
    host.stop();
    let index = fs::read(host.path("index/index.sqlite")).unwrap();
    host.start().unwrap();
    let mut worker = host.worker(7);
    worker.hear();
    disk.watch(host.data_dir());
    assert_eq!(deleted(&mut worker, frame, 500), expected);
    let copies = disk.copies();
    assert!(copies.iter().any(|(what, _)| what == "after sync admin.jsonl"), "{copies:?}");
    let mut both = [false; 2];
    for (what, copy) in &copies {
        for with_index in [false, true] {
            let mut after = Host::of_copy(copy.path()).per_file(10);
            if with_index {
                fs::create_dir(after.path("index")).unwrap();
                after.write("index/index.sqlite", &index);
            }
            after.start().unwrap_or_else(|error| panic!("{what}: {error}"));
            both[usize::from(check(&after, what))] = true;
            let mut worker = after.worker(7);
            assert_eq!(deleted(&mut worker, frame, 500), expected, "{what}");
            assert!(check(&after, what), "{what}");
            let log = String::from_utf8(after.read("admin.jsonl")).unwrap();
            assert_eq!(log.lines().count(), 1, "{what}: {log}");
            after.assert_clean();
            after.stop();
            after.start().unwrap();
            assert!(check(&after, what), "{what}");
            let mut worker = after.worker(8);
            assert_eq!(worker.create_users(&["carol"]), [Ok(3)], "{what}");
            assert_eq!(worker.posted(8, "r", "next"), Ok(26), "{what}");
            after.assert_clean();
        }
    }
    assert_eq!(both, [true; 2], "before and after were both seen");
}

#[test]
fn all_users_and_rooms_or_none() {
    at_every_step(&users(500), 2, |host, what| {
        let reader = Reader::open(host.data_dir()).unwrap();
        let there = [
            reader.user_by_name("alice").unwrap().is_some(),
            reader.user_by_number(2).unwrap().is_some(),
            reader.room("r").unwrap().is_some(),
            !reader.room_ids_of(1, 0, 10).unwrap().room_ids.is_empty(),
        ];
        assert!(there == [true; 4] || there == [false; 4], "{what}: {there:?}");
        there == [false; 4]
    });
}

#[test]
fn all_messages_or_none() {
    at_every_step(&messages(500), 25, |host, what| {
        let left = host.messages().iter().filter(|message| message["content"] == "hello").count();
        let last = Reader::open(host.data_dir()).unwrap().last_seq("r").unwrap();
        assert!((left, last) == (25, 25) || left == 0 && (last == 0 || last == 26), "{what}: {left} {last}");
        left == 0
    });
}

#[test]
fn what_the_index_keeps_beside_its_database_goes_with_the_messages() {
    let mut host = Host::new().per_file(10);
    let mut worker = peopled(&mut host);
    let files = || fs::read_dir(host.path("index/places")).map_or(0, Iterator::count);
    host.wait_until(|_| files() > 0);
    assert_eq!(deleted(&mut worker, &messages(500), 500), 25);
    host.wait_until(|_| files() == 0);
}

#[test]
fn what_is_sent_around_a_deletion_is_before_or_behind_it() {
    let mut host = Host::new().per_file(10);
    let mut worker = peopled(&mut host);
    let frames =
        [post(101, "r", "before", None), messages(102), post(103, "r", "behind", None), messages(104)];
    worker.send_all(&frames);
    let mut counts = std::collections::BTreeMap::new();
    while counts.len() < 2 {
        for heard in worker.hear() {
            if let Heard::Done(count, Outcome::Deleted { count: messages, .. }) = heard {
                counts.insert(count, messages);
            }
        }
    }
    assert_eq!(counts, [(102, 26), (104, 1)].into());
    assert_eq!(worker.posted(1, "r", "last"), Ok(28));
    let contents: Vec<_> = host.messages().iter().map(|message| message["content"].clone()).collect();
    assert_eq!(contents, ["last"]);
    host.assert_clean();
}

#[test]
fn a_worker_that_was_away_hears_what_there_is() {
    let mut host = Host::new().per_file(10);
    let mut worker = peopled(&mut host);
    deleted(&mut worker, &messages(500), 500);
    for instance in [20, 21] {
        let mut away = host.worker_at(instance, Some(Position { seq: 3, rev: 1 }));
        let seq = host.running().report()["position"]["seq"].as_u64().unwrap();
        assert_eq!(away.hear(), [Heard::Welcome(Position { seq, rev: 1 })]);
        assert_eq!(away.posted(instance, "r", "new"), Ok(seq + 1));
        host.restart();
    }
    // Those who heard of the deletion of users in the crowd of changes, and those who did not.
    let mut near = host.worker(10);
    near.hear();
    let mut worker = host.worker(11);
    deleted(&mut worker, &users(500), 500);
    assert_eq!(near.hear(), [Heard::UsersDeleted(2)]);
    let mut away = host.worker_at(9, Some(Position { seq: 3, rev: 1 }));
    away.hear();
    assert_eq!(away.hear(), [Heard::Afresh(Position { seq: 27, rev: 1 })]);
    worker.create_users(&["carol"]);
    worker.create_room(3, "new", &[]).unwrap();
    let mut back = host.worker_at(9, Some(Position { seq: 27, rev: 2 }));
    assert_eq!(back.hear(), [Heard::Welcome(Position { seq: 27, rev: 2 })]);
    back.sync();
}

#[test]
fn who_is_gone_may_not_delete() {
    let mut host = Host::new();
    let mut worker = peopled(&mut host);
    for (count, frame) in [
        (500, ToWriter::DeleteMessages { count: 500, by: 9 }),
        (501, ToWriter::Change { count: 501, change: Change::DeleteUsers { by: 9 } }),
    ] {
        worker.send(&frame);
        assert_eq!(worker.answer(count).unwrap_err().code, Code::Unauthorized);
    }
    assert_eq!(host.messages().len(), 25);
    assert!(host.read("admin.jsonl").is_empty());
}
