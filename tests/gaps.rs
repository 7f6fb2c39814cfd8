//! Messages that are damaged, or gone: who comes back is told which ones, in their place, and gets all others;
//! whoever reads or searches gets the rest. And the parts of the index that are gone: nobody misses anything.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use std::path::PathBuf;

use common::rest::User;
use common::socket::Socket;
use common::{Options, Server, until};
use minitalk::index::{Reader, runs};
use serde_json::{Value, json};

const PER_FILE: u64 = 500;

const MESSAGES: u64 = 3_200;

fn options() -> Options {
    let tables = "[storage]\nmessages_per_file = 500\n[limits]\nmessages_per_second = 0\n";
    Options { workers: 1, tables, ..Options::default() }
}

/// A server with messages 1, 2, 3, … by turns in two rooms of one user.
fn started() -> (Server, Vec<User>, [String; 2]) {
    let server = Server::start(&options());
    let users = server.new_users("user", 1);
    let rooms = ["odd", "even"].map(|name| server.new_room(&users, name));
    let mut socket = Socket::connect(&server, &users[0]);
    for seq in 1..=8u64 {
        socket.say_all(&rooms[usize::from(seq.is_multiple_of(2))], &["hello"]);
    }
    for _ in 0..(MESSAGES - 8) / 798 {
        for room in &rooms {
            socket.say_all(room, &vec!["hello"; 399]);
        }
    }
    let newest = &rooms[1];
    let read = server.get(&format!("/api/chatrooms/{newest}/messages?limit=1"), Some(&users[0]));
    assert_eq!(read.body[0]["seq"], MESSAGES, "{read:?}");
    (server, users, rooms)
}

fn wait_for_index(server: &Server) {
    let full = (MESSAGES - 1) / PER_FILE;
    let reader = Reader::open(&server.data_dir).unwrap();
    until("all full files are in the index", || {
        reader.last_file().unwrap().filter(|file| file.number == full)
    });
}

fn file(server: &Server, number: u64) -> PathBuf {
    server.data_dir.join(format!("messages_{number:06}.jsonl"))
}

/// Changes a byte of a message's line, `skip` bytes behind its beginning; counted from its line feed if negative.
fn damage(server: &Server, seq: u64, skip: isize, into: u8) {
    let path = file(server, (seq - 1) / PER_FILE + 1);
    let mut bytes = std::fs::read(&path).unwrap();
    let key = format!("{{\"seq\":{seq},");
    let start = bytes.windows(key.len()).position(|window| window == key.as_bytes()).unwrap();
    let length = bytes[start..].iter().position(|byte| *byte == b'\n').unwrap();
    let at = if skip < 0 { start + length + 1 } else { start }.checked_add_signed(skip).unwrap();
    assert_ne!(bytes[at], into);
    bytes[at] = into;
    std::fs::write(&path, bytes).unwrap();
}

/// All the ways of losing messages, and what is lost by that.
fn lose(server: &Server) -> Vec<(u64, u64)> {
    damage(server, 1, 40, b'!'); // The first of a file.
    damage(server, 30, 60, b'!');
    for seq in [41, 42] {
        damage(server, seq, -3, b'z');
    }
    damage(server, 61, -1, b'?'); // Its line feed: the next one is there.
    damage(server, 70, 7, b'1'); // Its number.
    damage(server, 81, 50, b'\n'); // Two lines of one.
    damage(server, 500, 60, b'!'); // The last of a file, and the first of the next.
    damage(server, 501, 60, b'!');
    std::fs::remove_file(file(server, 3)).unwrap();
    std::fs::write(file(server, 5), "rotten\n".repeat(40)).unwrap();
    damage(server, 3_000, 60, b'!');
    vec![
        (1, 1),
        (30, 30),
        (41, 42),
        (61, 61),
        (70, 70),
        (81, 81),
        (500, 501),
        (1_001, 1_500),
        (2_001, 2_500),
        (3_000, 3_000),
    ]
}

/// What a client that has heard up to `after` is told when it comes back, up to the first new message.
fn told(server: &Server, user: &User, room: &str, after: u64) -> Vec<String> {
    let mut socket = Socket::returning(server, user, after);
    let new = format!("new behind {after}");
    socket.send(&format!("42{}", json!(["send_message", {"roomId": room, "content": new}])));
    let mut told = Vec::new();
    loop {
        let packet = socket.next();
        let event: Value = serde_json::from_str(packet.strip_prefix("42").unwrap()).unwrap();
        let about = &event[1];
        match event[0].as_str().unwrap() {
            "message" if about["content"] == new => return told,
            // Of those who came back before.
            "message" if about["content"] != "hello" => {}
            "message" => told.push(about["seq"].to_string()),
            "gap" => told.push(format!("gap {}-{}", about["from"], about["to"])),
            other => panic!("{other}: {packet}"),
        }
    }
}

/// What it should be told.
fn due(after: u64, lost: &[(u64, u64)]) -> Vec<String> {
    let mut due = Vec::new();
    for seq in after + 1..=MESSAGES {
        match lost.iter().find(|(from, to)| (*from..=*to).contains(&seq)) {
            Some(&(from, to)) if seq == from.max(after + 1) => due.push(format!("gap {seq}-{to}")),
            Some(_) => {}
            None => due.push(seq.to_string()),
        }
    }
    due
}

/// Numbers of all messages that history has of the rooms, and of all that are found by their text, ascending.
fn read(server: &Server, user: &User, rooms: &[String]) -> [Vec<u64>; 2] {
    let get = |path: &str| {
        let answer = server.get(path, Some(user));
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        answer.body
    };
    let seqs = |messages: &Value| -> Vec<u64> {
        let messages = messages.as_array().unwrap().iter().filter(|message| message["content"] == "hello");
        messages.map(|message| message["seq"].as_u64().unwrap()).collect()
    };
    let mut all = [Vec::new(), Vec::new()];
    for room in rooms {
        let mut before = String::new();
        loop {
            let page = get(&format!("/api/chatrooms/{room}/messages?limit=1000{before}"));
            let Some(first) = page[0]["seq"].as_u64() else {
                break;
            };
            all[0].extend(seqs(&page));
            before = format!("&before={first}");
        }
    }
    let mut cursor = String::new();
    loop {
        let page = get(&format!("/api/messages/search?q=hello&limit=100{cursor}"));
        all[1].extend(seqs(&page["messages"]));
        let Some(next) = page["nextCursor"].as_str() else {
            break;
        };
        cursor = format!("&cursor={next}");
    }
    all.each_mut().map(|seqs| {
        seqs.sort_unstable();
        std::mem::take(seqs)
    })
}

/// Who says that where is damage, if a line of the server's does.
fn damage_of(line: &str) -> Option<String> {
    let (_, said) = line.split_once("ERROR ").filter(|_| line.contains("a message is damaged"))?;
    Some(said.to_owned())
}

fn check(server: &Server, user: &User, rooms: &[String], lost: &[(u64, u64)]) {
    for after in [0, 29, 30, 41, 60, 1_200, 2_990, 2_999, 3_000] {
        assert_eq!(told(server, user, &rooms[0], after), due(after, lost), "after {after}");
    }
    let is_lost = |seq: &u64| lost.iter().any(|(from, to)| (from..=to).contains(&seq));
    let kept: Vec<u64> = (1..=MESSAGES).filter(|seq| !is_lost(seq)).collect();
    for _ in 0..3 {
        assert_eq!(read(server, user, rooms), [kept.clone(), kept.clone()]);
    }
    let said = || server.stderr().lines().filter_map(damage_of).collect::<Vec<String>>();
    until("damage is said", || said().iter().any(|line| line.contains("000001")).then_some(()));
    for line in said() {
        assert!(said().iter().filter(|other| **other == line).count() == 1, "said again: {line}");
    }
}

#[test]
fn what_was_damaged_after_it_was_indexed_is_named_and_the_rest_is_served() {
    let (server, users, rooms) = started();
    wait_for_index(&server);
    let lost = lose(&server);
    check(&server, &users[0], &rooms, &lost);
}

#[test]
fn what_was_damaged_before_it_was_indexed_is_named_just_so() {
    let (mut server, users, rooms) = started();
    server.stop();
    let lost = lose(&server);
    std::fs::remove_dir_all(server.data_dir.join("index")).unwrap();
    let server = server.start_again();
    wait_for_index(&server);
    check(&server, &users[0], &rooms, &lost);
}

/// Puts something in a file's place of which the disk can't read a byte: a process's memory, of which nothing is
/// mapped at the beginning, fails as a disk does.
fn make_unreadable(server: &Server, number: u64) {
    let path = file(server, number);
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/proc/self/mem", &path).unwrap();
    let error = std::fs::read(&path).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(nix::errno::Errno::EIO as i32));
}

#[test]
fn what_the_disk_cannot_read_is_named_and_the_rest_is_served() {
    let (mut server, users, rooms) = started();
    wait_for_index(&server);
    damage(&server, 30, 60, b'!');
    make_unreadable(&server, 4);
    let lost = [(30, 30), (1_501, 2_000)];
    check(&server, &users[0], &rooms, &lost);
    // Not indexed, either.
    server.stop();
    std::fs::remove_dir_all(server.data_dir.join("index")).unwrap();
    let server = server.start_again();
    wait_for_index(&server);
    check(&server, &users[0], &rooms, &lost);
}

#[test]
fn parts_of_the_index_that_go_missing_are_made_again_and_nobody_misses_them() {
    let (server, users, rooms) = started();
    wait_for_index(&server);
    let runs = || Reader::open(&server.data_dir).unwrap().runs().unwrap();
    let files =
        || -> Vec<PathBuf> { runs().iter().map(|run| runs::path(&server.data_dir, run.id)).collect() };
    let all: Vec<u64> = (1..=MESSAGES).collect();
    for file in files() {
        std::fs::remove_file(file).unwrap();
    }
    assert_eq!(read(&server, &users[0], &rooms), [all.clone(), all.clone()]);
    until("they are made again", || files().iter().all(|file| file.exists()).then_some(()));
    assert_eq!(read(&server, &users[0], &rooms), [all.clone(), all]);
    assert_eq!(told(&server, &users[0], &rooms[0], 0), due(0, &[]));
}
