//! A disk that refuses: nothing refused is there later, nothing confirmed is gone, and when the disk
//! works again so does the writer.

use std::io::ErrorKind;
use std::sync::Arc;

use minitalk::challenge::{Distance, Participation, Reason};
use minitalk::chat::{Code, OpId};
use minitalk::config::Fsync;
use minitalk::index::challenges::ChallengeReader;
use minitalk::link::arena::{Ask, Asked};

use crate::bad_disk::{BadDisk, Fault};
use crate::host::{Host, Worker, post};

fn host(disk: &BadDisk) -> Host {
    let mut host = Host::new().per_file(10).with_disk(Arc::new(disk.clone()));
    host.start().unwrap();
    host
}

/// The contents in the log, in order.
fn contents(host: &Host) -> Vec<String> {
    host.messages().iter().map(|message| message["content"].as_str().unwrap().to_owned()).collect()
}

/// Posts numbered messages; answers those confirmed and the codes of those refused.
fn post_many(worker: &mut Worker, numbers: std::ops::Range<u64>) -> (Vec<String>, Vec<Code>) {
    let (mut confirmed, mut refused) = (Vec::new(), Vec::new());
    for number in numbers {
        let content = format!("message {number}");
        match worker.posted(1, "r", &content) {
            Ok(seq) => {
                confirmed.push(content);
                assert_eq!(seq, confirmed.len() as u64, "no gaps");
            }
            Err(refusal) => {
                assert_eq!(refusal.message, "Failed to send message");
                refused.push(refusal.code);
            }
        }
    }
    (confirmed, refused)
}

/// Plans a fault, posts across it, restarts; what was confirmed is there and nothing else.
fn check(fault: Fault, times: usize, refusals: &[Code]) {
    for after in [0, 1, 5] {
        let disk = BadDisk::default();
        let mut host = host(&disk);
        disk.plan(fault, "messages", after, times);
        let mut worker = host.worker(1);
        let (confirmed, refused) = post_many(&mut worker, 0..25);
        assert_eq!(refused, refusals, "{fault:?} after {after}");
        assert_eq!(contents(&host), confirmed, "{fault:?} after {after}");
        assert_eq!(host.running().report()["disk"], "ok");
        host.restart();
        assert_eq!(contents(&host), confirmed);
        host.assert_clean();
    }
}

#[test]
fn a_full_disk() {
    check(Fault::Write(ErrorKind::StorageFull), 3, &[Code::StorageFull; 3]);
}

#[test]
fn a_disk_that_fills_up_within_a_record() {
    check(Fault::Part(40, ErrorKind::StorageFull), 2, &[Code::StorageFull; 2]);
}

#[test]
fn short_writes_are_no_failure() {
    check(Fault::Short(7), 1_000, &[]);
}

#[test]
fn a_failing_write() {
    check(Fault::Write(ErrorKind::Other), 1, &[Code::StorageFailed]);
}

#[test]
fn a_failing_sync() {
    // The second strikes while the file is cut back; the next batch finds it healed.
    check(Fault::Sync(ErrorKind::Other), 1, &[Code::StorageFailed]);
    check(Fault::Sync(ErrorKind::Other), 2, &[Code::StorageFailed]);
}

#[test]
fn a_next_file_that_cannot_be_made() {
    let disk = BadDisk::default();
    let host = host(&disk);
    disk.plan(Fault::Create(ErrorKind::StorageFull), "000002", 0, 2);
    let (confirmed, refused) = post_many(&mut host.worker(1), 0..25);
    assert_eq!(refused, [Code::StorageFull; 2]);
    assert_eq!(contents(&host), confirmed);
    host.assert_clean();
}

#[test]
fn while_the_disk_refuses_the_report_says_so_and_by_itself_when_it_no_longer_does() {
    let disk = BadDisk::default();
    let host = host(&disk);
    disk.plan(Fault::Write(ErrorKind::StorageFull), "messages", 0, usize::MAX);
    let (_, refused) = post_many(&mut host.worker(1), 0..3);
    assert_eq!(refused, [Code::StorageFull; 3]);
    assert_ne!(host.running().report()["disk"], "ok");
    disk.mend();
    host.wait_until(|report| report["disk"] == "ok");
    assert_eq!(host.messages().len(), 0);
    assert_eq!(host.read("messages_000001.jsonl").len(), 0, "the probe left nothing");
}

#[test]
fn a_repetition_within_a_failed_batch_is_refused_and_of_an_earlier_message_is_not() {
    let disk = BadDisk::default();
    let host = host(&disk);
    let mut worker = host.worker(1);
    worker.send(&post(1, "r", "kept", Some("kept")));
    assert_eq!(worker.outcome_of_post(OpId { instance: 1, count: 1 }), Ok(1));
    disk.plan(Fault::Sync(ErrorKind::Other), "messages", 0, 1);
    worker.send_all(&[
        post(2, "r", "lost", Some("lost")),
        post(3, "r", "lost", Some("lost")),
        post(4, "r", "kept", Some("kept")),
    ]);
    assert_eq!(worker.outcome_of_post(OpId { instance: 1, count: 3 }).unwrap_err().code, Code::StorageFailed);
    // The name is free again.
    worker.send(&post(5, "r", "again", Some("lost")));
    assert_eq!(worker.outcome_of_post(OpId { instance: 1, count: 5 }), Ok(2));
    worker.send(&post(6, "r", "kept", Some("kept")));
    assert_eq!(worker.outcome_of_post(OpId { instance: 1, count: 6 }), Ok(1));
    assert_eq!(contents(&host), ["kept", "again"]);
}

#[test]
fn changes_that_the_disk_refuses_leave_nothing() {
    for (name, fault, code) in [
        ("users", Fault::Write(ErrorKind::StorageFull), Code::StorageFull),
        ("users", Fault::Part(30, ErrorKind::StorageFull), Code::StorageFull),
        ("users", Fault::Sync(ErrorKind::Other), Code::StorageFailed),
        ("chatrooms", Fault::Write(ErrorKind::StorageFull), Code::StorageFull),
        ("chatrooms", Fault::Sync(ErrorKind::Other), Code::StorageFailed),
    ] {
        let disk = BadDisk::default();
        let mut host = host(&disk);
        let mut worker = host.worker(1);
        assert_eq!(worker.create_users(&["alice"]), [Ok(1)]);
        worker.create_room(1, "a", &[]).unwrap();
        let logs = (host.read("users.jsonl"), host.read("chatrooms.jsonl"));
        disk.plan(fault, name, 0, 1);
        let change = match name {
            "users" => crate::host::users(&["bob"]),
            _ => crate::host::rooms(1, &[("b", false, &[])]),
        };
        assert_eq!(worker.change(change.clone()).unwrap_err().code, code, "{name} {fault:?}");
        assert_eq!((host.read("users.jsonl"), host.read("chatrooms.jsonl")), logs);
        let reader = minitalk::index::Reader::open(host.data_dir()).unwrap();
        assert_eq!(reader.user_by_name("bob").unwrap(), None);
        assert_eq!(reader.room("b").unwrap(), None);
        // The same operation again, as a worker would: it is done now.
        worker.change_as(99, change).unwrap();
        assert_eq!(host.running().report()["disk"], "ok");
        host.restart();
        host.assert_clean();
        assert_eq!(reader.user_by_name("bob").unwrap().is_some(), name == "users");
        assert_eq!(reader.room("b").unwrap().is_some(), name == "chatrooms");
    }
}

#[test]
fn challenges_that_the_disk_refuses_leave_nothing_and_who_leaves_meanwhile_has_left_afterwards() {
    for (fault, code) in [
        (Fault::Write(ErrorKind::StorageFull), Code::StorageFull),
        (Fault::Part(30, ErrorKind::StorageFull), Code::StorageFull),
        (Fault::Sync(ErrorKind::Other), Code::StorageFailed),
    ] {
        let disk = BadDisk::default();
        let mut host = host(&disk);
        let mut worker = host.worker(1);
        assert_eq!(worker.create_users(&["alice", "bob"]), [Ok(1), Ok(2)]);
        let challenge = worker.new_challenge(1, Distance::M100, 10);
        let entry = worker.enters(challenge, 1, 77);
        let log = host.read("challenges.jsonl");
        disk.plan(fault, "challenges", 0, 1);
        let ask = Ask::Join { challenge, user: 2 };
        assert_eq!(worker.asks(ask.clone()).unwrap_err().code, code, "{fault:?}");
        assert_eq!(host.read("challenges.jsonl"), log);
        let index = ChallengeReader::open(host.data_dir()).unwrap();
        assert_eq!(index.participant(challenge, 2).unwrap(), None);
        // The same operation again, as a worker would: it is done now.
        worker.asks_as(99, ask).unwrap();
        disk.plan(fault, "challenges", 0, 1);
        let leave = Ask::Leave { challenge, user: 1, entry, reason: Reason::Quit };
        assert_eq!(worker.asks(leave), Ok(Asked::Left), "{fault:?}");
        host.wait_until(|report| report["disk"] == "ok");
        host.restart();
        host.assert_clean();
        let status = |user| index.participant(challenge, user).unwrap().unwrap().status;
        assert_eq!([status(1), status(2)], [Participation::Quit, Participation::Waiting]);
    }
}

#[test]
fn between_two_syncs_a_failed_one_loses_nothing_that_was_confirmed() {
    let disk = BadDisk::default();
    let mut host = Host::new().with_disk(Arc::new(disk.clone()));
    host.config.storage.fsync = Fsync::Interval;
    host.config.storage.flush_interval = std::time::Duration::from_millis(1);
    host.start().unwrap();
    disk.plan(Fault::Sync(ErrorKind::Other), "messages", 0, 3);
    let (confirmed, refused) = post_many(&mut host.worker(1), 0..50);
    assert!(refused.len() <= 3, "{refused:?}");
    host.stop();
    assert_eq!(contents(&host), confirmed);
    // And what was written anew is durable: the power may go now.
    let after = tempfile::tempdir().unwrap();
    disk.lose_power(host.data_dir(), after.path());
    let name = "messages_000001.jsonl";
    assert_eq!(std::fs::read(after.path().join(name)).unwrap(), host.read(name));
}
