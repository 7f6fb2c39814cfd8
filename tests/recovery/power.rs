//! A machine that loses power: only what was synced is there afterwards.
//!
//! The checker is judged, too: on a disk that only says it synced, it must find the loss.

use std::path::Path;
use std::sync::Arc;

use crate::bad_disk::{BadDisk, Fault};
use crate::host::{Host, post};

/// What somebody was told.
#[derive(Default)]
struct Told {
    messages: Vec<(u64, String)>,
    users: Vec<(u64, String)>,
    rooms: Vec<String>,
}

/// Works a while, then loses power at a moment when more is under way.
fn work_and_lose_power(disk: &BadDisk, to: &Path) -> Told {
    let mut host = Host::new().per_file(7).with_disk(Arc::new(disk.clone()));
    host.start().unwrap();
    let mut worker = host.worker(1);
    let mut told = Told::default();
    for number in 0..30u64 {
        let content = format!("message {number}");
        told.messages.push((worker.posted(1, "r", &content).unwrap(), content));
        let name = format!("user {number}");
        told.users.push((worker.create_users(&[name.as_str()])[0].unwrap(), name));
        let room = format!("room {number}");
        worker.create_room(1, &room, &[]).unwrap();
        told.rooms.push(room);
    }
    let frames: Vec<_> = (1_000..1_100).map(|count| post(count, "r", "under way", None)).collect();
    worker.send_all(&frames);
    disk.lose_power(host.data_dir(), to);
    host.stop();
    told
}

/// What is there after a start that somebody was not told, or not there that somebody was.
fn check(told: &Told, data_dir: &Path) -> Vec<String> {
    let mut host = Host::new();
    for entry in std::fs::read_dir(data_dir).unwrap() {
        let entry = entry.unwrap();
        host.write(entry.file_name().to_str().unwrap(), &std::fs::read(entry.path()).unwrap());
    }
    host.start().unwrap();
    host.assert_clean();
    let reader = minitalk::index::Reader::open(host.data_dir()).unwrap();
    let there = host.messages();
    let mut faults = Vec::new();
    for (seq, content) in &told.messages {
        let found = there.iter().any(|message| message["seq"] == *seq && message["content"] == *content);
        if !found {
            faults.push(format!("lost: message {seq}"));
        }
    }
    let behind = there.iter().skip(told.messages.len());
    faults
        .extend(behind.filter(|message| message["content"] != "under way").map(|m| format!("invented: {m}")));
    for (number, name) in &told.users {
        match reader.user_by_name(name).unwrap() {
            Some(user) if user.number == *number => {}
            other => faults.push(format!("lost: {name}: {other:?}")),
        }
    }
    for room in &told.rooms {
        if !reader.is_member(room, 1).unwrap() {
            faults.push(format!("lost: {room}"));
        }
    }
    faults
}

#[test]
fn what_was_confirmed_survives() {
    let (disk, after) = (BadDisk::default(), tempfile::tempdir().unwrap());
    let told = work_and_lose_power(&disk, after.path());
    assert_eq!(check(&told, after.path()), [""; 0]);
    assert!(disk.syncs() > 90);
}

#[test]
fn without_the_sync_the_checker_would_notice() {
    for name in ["messages", "users", "chatrooms"] {
        let (disk, after) = (BadDisk::default(), tempfile::tempdir().unwrap());
        // Files may be made and healed honestly; appends may not be synced.
        disk.plan(Fault::Lie, name, 3, usize::MAX);
        let told = work_and_lose_power(&disk, after.path());
        let faults = check(&told, after.path());
        assert!(faults.iter().any(|fault| fault.starts_with("lost")), "{name}: nothing noticed");
    }
}
