//! Compacted logs say the same in fewer bytes, whenever and wherever the writer ends.

use std::fs;
use std::io;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;

use minitalk::chat::RoomEvent;
use minitalk::cli::{compact, reindex};
use minitalk::link::frame::{Change, NewPassword, NewRoom, Outcome, Position};
use rusqlite::types::Value;

use crate::bad_disk::{BadDisk, Fault};
use crate::host::{Heard, Host, Worker, users};
use crate::witness::Witness;

/// A host that compacts whenever there is anything to compact.
fn eager() -> Host {
    let mut host = Host::new();
    host.config.storage.compact_min_bytes = 1 << 10;
    host.config.storage.compact_live_percent = 99;
    host
}

/// Everything the index says, but for where in the files it is.
fn dump(data_dir: &Path) -> Vec<Vec<Value>> {
    let index = rusqlite::Connection::open(data_dir.join("index/index.sqlite")).unwrap();
    let mut rows = Vec::new();
    for question in [
        "SELECT number, username, password, created_ms FROM users ORDER BY 1",
        "SELECT user, rooms FROM room_counts ORDER BY 1",
        "SELECT user, generation, at_ms, rev FROM revocations ORDER BY 1",
        "SELECT key, room_id, name, open, created_by, created_ms, members, last_seq FROM rooms ORDER BY 1",
        "SELECT user, room, joined, after_seq FROM memberships ORDER BY 1, 2",
        "SELECT room, joined, user FROM members ORDER BY 1, 2",
        "SELECT log, last FROM progress ORDER BY 1",
        // A compacted log does not say who has left: an index made of it says since when it knows.
        "SELECT name, value FROM facts WHERE name <> 'departures_since' ORDER BY 1",
    ] {
        let mut statement = index.prepare(question).unwrap();
        let columns = statement.column_count();
        let row = |row: &rusqlite::Row<'_>| (0..columns).map(|at| row.get(at)).collect();
        rows.extend(
            statement.query_map([], row).unwrap().map(|row: rusqlite::Result<Vec<Value>>| row.unwrap()),
        );
    }
    rows
}

/// Builds the index anew and expects it to say what it said before.
fn assert_rebuilds(host: &Host) {
    host.assert_clean();
    let before = dump(host.data_dir());
    reindex::reindex(host.data_dir()).unwrap();
    assert_eq!(dump(host.data_dir()), before);
}

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// One change of any kind; most are allowed. `there` are the numbers of the users.
fn change(dice: &mut Dice, step: u64, there: &mut RangeInclusive<u64>, worker: &mut Worker) {
    let room_id = format!("room {}", dice.below(12));
    let mut anybody = || there.start() + dice.below(there.end() - there.start() + 1);
    let [user, second, third] = [anybody(), anybody(), anybody()];
    let name = |number: u64| format!("user {number}");
    let next = there.end() + 1;
    let hash = |number: u64| if number == 0 { "$argon2id$x".to_owned() } else { format!("hash {number}") };
    let [from, to, generation] = [0, 1, 0].map(|least| least + dice.below(3));
    let generation = u32::try_from(generation).unwrap();
    let change = match dice.below(52) {
        0..4 => users(&[name(next).as_str()]),
        4..10 => Change::CreateRooms {
            creator: user,
            rooms: vec![NewRoom {
                room_id,
                name: format!("made in step {step}"),
                participants: vec![name(second), name(third)],
                open: dice.below(2) == 0,
            }],
        },
        10..16 => Change::Invite { room_id, by: user, participants: vec![name(second), name(third)] },
        16..22 => Change::Join { room_id, user },
        22..38 => Change::Leave { room_id, user },
        // A name that is taken.
        38 => users(&[name(*there.end()).as_str()]),
        39 => Change::DeleteUsers { by: user },
        40..44 => Change::Revoke { user, generation },
        44..48 => Change::SetPasswords(vec![NewPassword { user, replaces: hash(from), password: hash(to) }]),
        _ => {
            let password = NewPassword { user, replaces: hash(from), password: hash(to) };
            Change::ChangePassword { password, generation }
        }
    };
    let deletes = matches!(change, Change::DeleteUsers { .. });
    match worker.change(change) {
        Ok(Outcome::Users(made)) if made == [Ok(next)] => *there = *there.start()..=next,
        Ok(_) if deletes => {
            let names = [name(next), name(next + 1), name(next + 2)];
            let made = worker.create_users(&names.each_ref().map(String::as_str));
            assert_eq!(made, [Ok(next), Ok(next + 1), Ok(next + 2)]);
            *there = next..=next + 2;
        }
        // A refusal is an answer, too.
        _ => {}
    }
}

#[test]
fn whatever_happens_a_rebuilt_index_says_the_same() {
    let mut compactions = 0;
    for seed in 0..8 {
        let mut host = eager();
        host.start().unwrap();
        let mut dice = Dice(seed);
        let mut worker = host.worker(1);
        let mut there = 1..=3;
        worker.create_users(&["user 1", "user 2", "user 3"]);
        for step in 0..600 {
            change(&mut dice, step, &mut there, &mut worker);
            if step % 150 == 149 {
                compactions += usize::from(host.running().report()["compaction"]["state"] == "done");
                host.stop();
                assert_rebuilds(&host);
                if seed % 2 == 0 {
                    compact::compact(host.data_dir(), &mut |_, _, _| {}).unwrap();
                    assert_rebuilds(&host);
                }
                host.start().unwrap();
                worker = host.worker(2 + step);
            }
        }
    }
    assert!(compactions >= 8, "{compactions}");
}

/// Rooms that come and go, and some that stay: most of the log is dead.
fn churn(worker: &mut Worker, rounds: u64) {
    worker.create_users(&["alice", "bob", "carol"]);
    for round in 0..rounds {
        let room_id = format!("stays {round}");
        if round % 10 == 0 {
            worker.create_room(1, &room_id, &["bob", "carol"]).unwrap();
            worker.change(Change::Leave { room_id, user: 2 }).unwrap();
        } else {
            let room_id = format!("goes {round}");
            worker.create_room(2, &room_id, &[]).unwrap();
            worker.change(Change::Leave { room_id, user: 2 }).unwrap();
        }
    }
}

#[test]
fn it_may_end_at_any_step() {
    let disk = Witness::of(".new");
    let mut host = Host::new().with_disk(Arc::new(disk.clone()));
    host.start().unwrap();
    let mut worker = host.worker(1);
    churn(&mut worker, 100);
    host.stop();
    reindex::reindex(host.data_dir()).unwrap();
    let expected = dump(host.data_dir());
    disk.watch(host.data_dir());
    host.config.storage.compact_min_bytes = 1 << 10;
    host.start().unwrap();
    host.wait_until(|report| report["compaction"]["state"] == "done");
    host.stop();
    let mut seen = std::collections::BTreeSet::new();
    for (what, copy) in disk.copies() {
        let mut after = Host::of_copy(copy.path());
        after.start().unwrap_or_else(|error| panic!("{what}: {error}"));
        after.stop();
        after.assert_clean();
        assert_eq!(dump(after.data_dir()), expected, "{what}");
        assert!(!after.path("chatrooms.jsonl.new").exists(), "{what}");
        seen.insert(what);
    }
    for step in ["after create", "before write", "after sync", "before rename", "after rename"] {
        assert!(seen.contains(&format!("{step} chatrooms.jsonl.new")), "{step}: {seen:?}");
    }
}

#[test]
fn a_disk_that_refuses_leaves_the_log_as_it_was() {
    let kind = io::ErrorKind::StorageFull;
    for fault in [Fault::Create(kind), Fault::Write(kind), Fault::Sync(kind), Fault::Rename(kind)] {
        let disk = BadDisk::default();
        disk.plan(fault, ".new", 0, usize::MAX);
        let mut host = eager().with_disk(Arc::new(disk.clone()));
        host.start().unwrap();
        let mut worker = host.worker(1);
        churn(&mut worker, 60);
        host.wait_until(|report| report["compaction"]["state"] == "failed");
        assert_eq!(host.running().report()["disk"], "ok", "{fault:?}");
        worker.create_room(1, "and on", &["bob"]).unwrap();
        host.stop();
        assert_rebuilds(&host);
        assert!(!host.path("chatrooms.jsonl.new").exists(), "{fault:?}");
        disk.mend();
        host.start().unwrap();
        host.wait_until(|report| report["compaction"]["state"] == "done");
        host.stop();
        assert_rebuilds(&host);
    }
}

#[test]
fn what_was_confirmed_survives_a_loss_of_power_around_it() {
    let disk = BadDisk::default();
    let mut host = eager().with_disk(Arc::new(disk.clone()));
    host.start().unwrap();
    let mut worker = host.worker(1);
    churn(&mut worker, 60);
    host.wait_until(|report| report["compaction"]["state"] == "done");
    for round in 0..20 {
        let room_id = format!("later {round}");
        worker.create_room(1, &room_id, &["bob"]).unwrap();
        let left = tempfile::tempdir().unwrap();
        disk.lose_power(host.data_dir(), left.path());
        let mut after = Host::of_copy(left.path());
        after.start().unwrap();
        after.assert_clean();
        let reader = minitalk::index::Reader::open(after.data_dir()).unwrap();
        assert!(reader.is_member(&room_id, 2).unwrap(), "{round}");
    }
}

#[test]
fn changes_go_on_meanwhile() {
    let mut host = Host::new();
    host.config.storage.compact_min_bytes = 64 << 10;
    host.start().unwrap();
    let mut worker = host.worker(1);
    churn(&mut worker, 400);
    let mut during = 0;
    while host.running().report()["compaction"]["state"] != "done" {
        let room_id = format!("during {during}");
        worker.create_room(3, &room_id, &["alice"]).unwrap();
        worker.change(Change::Leave { room_id, user: 1 }).unwrap();
        during += 1;
        assert!(during < 100_000, "{}", host.running().report());
    }
    let report = host.running().report();
    let bytes = |name: &str| report["compaction"][name].as_u64().unwrap();
    assert!(bytes("bytes_after") < bytes("bytes_before"), "{report}");
    worker.create_room(3, "behind it", &[]).unwrap();
    host.restart();
    let reader = minitalk::index::Reader::open(host.data_dir()).unwrap();
    for number in 0..during {
        let room = reader.room(&format!("during {number}")).unwrap().unwrap();
        assert_eq!(room.participants, ["carol"]);
    }
    assert!(reader.is_member("behind it", 3).unwrap());
    host.stop();
    assert_rebuilds(&host);
}

#[test]
fn a_worker_that_was_away_is_told_all_or_to_begin_anew() {
    let mut host = eager();
    host.start().unwrap();
    let mut worker = host.worker(1);
    churn(&mut worker, 60);
    host.wait_until(|report| report["compaction"]["state"] == "done");
    host.stop();
    // No more of it from here on.
    host.config.storage.compact_min_bytes = 1 << 40;
    host.start().unwrap();
    let text = String::from_utf8(host.read("chatrooms.jsonl")).unwrap();
    let header: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    let upto = header["upto"].as_u64().unwrap();
    let now = host.running().report()["position"]["rev"].as_u64().unwrap();
    assert!(0 < upto && upto < now, "{upto} {now}");
    for rev in [0, upto - 1] {
        let now = host.running().report()["position"]["rev"].as_u64().unwrap();
        let position = Position { seq: 0, rev: now };
        let mut away = host.worker_at(9, Some(Position { seq: 0, rev }));
        assert_eq!(away.hear(), [Heard::Welcome(position)]);
        assert_eq!(away.hear(), [Heard::Afresh(position)]);
        // And it is served from then on.
        assert_eq!(away.create_room(1, &format!("from {rev}"), &[]), Ok(()));
        away.change(Change::Leave { room_id: format!("from {rev}"), user: 1 }).unwrap();
    }
    let now = host.running().report()["position"]["rev"].as_u64().unwrap();
    let mut away = host.worker_at(9, Some(Position { seq: 0, rev: upto }));
    away.hear();
    let mut last = upto;
    let mut events: Vec<RoomEvent> = Vec::new();
    while last < now {
        for heard in away.hear() {
            if let Heard::Rooms(rev, more) = heard {
                last = rev;
                events.extend(more);
            }
        }
    }
    assert_eq!(events.len() as u64, now - upto);
}

#[test]
fn an_operation_is_known_by_every_run_of_its_records() {
    let mut host = Host::started();
    let ours = |names: &[&str]| (77, users(names));
    let mut expected = Vec::new();
    for (round, name) in ["a", "b", "c", "d"].into_iter().enumerate() {
        let mut worker = host.worker(5);
        // A crash kept the first users of the call, others came in between, then it was sent again.
        let names: Vec<&str> = ["a", "b", "c", "d"][..=round].to_vec();
        let (count, change) = ours(&names);
        expected.push(Ok(u64::try_from(round).unwrap() * 2 + 1));
        assert_eq!(worker.change_as(count, change.clone()), Ok(Outcome::Users(expected.clone())), "{name}");
        let mut other = host.worker(6);
        let taken = other.change_as(100 + count * 10 + round as u64, users(&[&format!("other {round}")]));
        assert!(taken.is_ok());
        host.restart();
        let mut again = host.worker(5);
        assert_eq!(again.change_as(count, change), Ok(Outcome::Users(expected.clone())), "{name}, again");
    }
    host.assert_clean();
}

#[test]
fn damage_in_a_compacted_part_is_never_taken_for_an_unfinished_write() {
    let mut host = eager();
    host.start().unwrap();
    churn(&mut host.worker(1), 60);
    host.wait_until(|report| report["compaction"]["state"] == "done");
    host.stop();
    reindex::reindex(host.data_dir()).unwrap();
    let good = host.read("chatrooms.jsonl");
    let lines: Vec<&[u8]> = good.split_inclusive(|byte| *byte == b'\n').collect();
    let without = |at: usize| [&lines[..at], &lines[at + 1..]].concat().concat();
    let mut flipped = good.clone();
    flipped[300] ^= 1;
    let mut header = good.clone();
    header[40] ^= 1;
    for (what, bytes) in [
        ("a record is missing", without(2)),
        ("the header is missing", without(0)),
        ("a bit is wrong", flipped),
        ("a bit of the header is wrong", header),
        ("it ends early", good[..400].to_vec()),
    ] {
        host.write("chatrooms.jsonl", &bytes);
        fs::remove_dir_all(host.path("index")).unwrap_or_default();
        assert!(!host.verify().0, "{what}");
        assert!(host.start().is_err(), "{what}");
        assert_eq!(host.read("chatrooms.jsonl"), bytes, "{what}: nothing was cut");
    }
    host.write("chatrooms.jsonl", &good);
    host.start().unwrap();
}
