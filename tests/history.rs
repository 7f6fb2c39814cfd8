//! History over many small files: any depth, any room, whatever the index has at the moment.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::time::{Duration, Instant};

use common::rest::User;
use common::socket::Socket;
use common::{Options, Server, until};
use minitalk::index::Reader;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

const SMALL_FILES: Options = Options {
    workers: 2,
    top: "",
    secret: common::server::SECRET,
    auth: "",
    argon2: common::server::CHEAP,
    tables: "[storage]\nmessages_per_file = 20\n[limits]\nmessages_per_second = 0\n",
    env: Vec::new(),
};

/// Every message of a room in the log, ascending: number, content, time.
fn logged(server: &Server, room: &str) -> Vec<(u64, String, String)> {
    let lines = server.message_files().into_iter().flat_map(|(_, lines)| lines);
    let messages = lines.map(|line| serde_json::from_str::<Value>(&line).unwrap());
    let of_room = messages.filter(|message| message["roomId"] == room);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    of_room.map(|m| (m["seq"].as_u64().unwrap(), text(&m["content"]), text(&m["timestamp"]))).collect()
}

fn read(server: &Server, user: &User, room: &str, window: &str) -> Vec<u64> {
    let answer = server.get(&format!("/api/chatrooms/{room}/messages?{window}"), Some(user));
    assert_eq!(answer.status, 200, "{window}: {answer:?}");
    let seq = |message: &Value| {
        assert_eq!(message["roomId"], room);
        message["seq"].as_u64().unwrap()
    };
    answer.body.as_array().unwrap().iter().map(seq).collect()
}

/// Compares windows all over a room's history with the log.
fn check_depths(server: &Server, user: &User, room: &str) {
    let all = logged(server, room);
    let seqs: Vec<u64> = all.iter().map(|(seq, _, _)| *seq).collect();
    assert_eq!(read(server, user, room, "limit=1000"), seqs[seqs.len().saturating_sub(1_000)..]);
    for at in (0..all.len()).step_by(all.len() / 12 + 1) {
        let (seq, time) = (seqs[at], &all[at].2);
        let before = &seqs[at.saturating_sub(7)..at];
        assert_eq!(read(server, user, room, &format!("before={seq}&limit=7")), before);
        let after: Vec<u64> = seqs[at + 1..].iter().copied().take(7).collect();
        assert_eq!(read(server, user, room, &format!("after={seq}&limit=7")), after);
        let since: Vec<u64> =
            all.iter().filter(|(_, _, of)| of >= time).map(|(seq, _, _)| *seq).take(1_000).collect();
        assert_eq!(read(server, user, room, &format!("since={time}&limit=1000")), since);
        let upto = seq + 100;
        let between: Vec<u64> = seqs[at + 1..].iter().copied().filter(|found| *found < upto).collect();
        assert_eq!(read(server, user, room, &format!("after={seq}&before={upto}&limit=1000")), between);
    }
}

/// Number of the last file in the index.
fn indexed(server: &Server) -> u64 {
    let reader = Reader::open(&server.data_dir).ok();
    reader.and_then(|reader| reader.last_file().unwrap()).map_or(0, |file| file.number)
}

fn wait_for_index(server: &Server) {
    let full = server.message_files().len() as u64 - 1;
    until("all full files are in the index", || (indexed(server) == full).then_some(()));
}

#[test]
fn a_quiet_room_is_read_like_a_busy_one() {
    let mut server = Server::start(&SMALL_FILES);
    let users = server.new_users("user", 2);
    let (busy, quiet) = (server.new_room(&users, "busy"), server.new_room(&users[..1], "quiet"));
    let mut socket = Socket::connect(&server, &users[0]);
    for round in 0..4 {
        socket.say_many(&quiet, round, round + 1);
        socket.say_many(&busy, 0, 300);
        check_depths(&server, &users[0], &busy);
        check_depths(&server, &users[0], &quiet);
    }
    wait_for_index(&server);
    assert!(indexed(&server) >= 59);
    for room in [&busy, &quiet] {
        check_depths(&server, &users[0], room);
    }
    // Cheap in any file but the newest: those without a message of the room are not even looked at.
    for number in 33..41 {
        std::fs::write(server.data_dir.join(format!("messages_{number:06}.jsonl")), "rotten\n").unwrap();
    }
    assert_eq!(read(&server, &users[0], &quiet, "").len(), 4);
    assert_eq!(read(&server, &users[0], &busy, "limit=400").len(), 400);
    // Message 603 is the quiet room's; 641 and those behind it are rotten.
    let rest: Vec<u64> = (540..=640).filter(|seq| *seq != 603).collect();
    assert_eq!(read(&server, &users[0], &busy, "before=700&limit=100"), rest);
    assert_eq!(server.get(&format!("/api/chatrooms/{quiet}/messages"), Some(&users[1])).status, 403);
    drop(socket);
    server.stop();
}

#[test]
fn an_index_that_is_gone_comes_back_with_all_files() {
    let mut server = Server::start(&SMALL_FILES);
    let users = server.new_users("user", 1);
    let rooms =
        [server.new_room(&users, "one"), server.new_room(&users, "two"), server.new_room(&users, "gone")];
    let mut socket = Socket::connect(&server, &users[0]);
    for round in 0..10 {
        for room in &rooms {
            socket.say_many(room, round * 13, round * 13 + 13);
        }
    }
    let left = server.post(&format!("/api/chatrooms/{}/leave", rooms[2]), Some(&users[0]), &json!({}));
    assert_eq!(left.status, 200);
    drop(socket);
    for whole in [true, false] {
        wait_for_index(&server);
        server.stop();
        if whole {
            std::fs::remove_dir_all(server.data_dir.join("index")).unwrap();
        } else {
            let reindex = common::server::minitalk()
                .arg("reindex")
                .arg("--data-dir")
                .arg(&server.data_dir)
                .output()
                .unwrap();
            assert!(reindex.status.success(), "{reindex:?}");
        }
        server = server.start_again();
        assert_eq!(indexed(&server), 19, "built at the start");
        for room in &rooms[..2] {
            check_depths(&server, &users[0], room);
        }
        let gone = server.get(&format!("/api/chatrooms/{}/messages", rooms[2]), Some(&users[0]));
        assert_eq!(gone.outcome(), "404 ROOM_NOT_FOUND");
    }
    Socket::connect(&server, &users[0]).say_many(&rooms[0], 0, 50);
    wait_for_index(&server);
    check_depths(&server, &users[0], &rooms[0]);
    server.stop();
}

#[test]
fn killed_while_it_indexes_the_writer_loses_nothing() {
    let mut server = Server::start(&SMALL_FILES);
    let users = server.new_users("user", 1);
    let room = server.new_room(&users, "room");
    let mut socket = Socket::connect(&server, &users[0]);
    for round in 0..6u64 {
        socket.say_many(&room, 0, 400);
        let storage = server.pids("storage")[0];
        let before = indexed(&server);
        kill(Pid::from_raw(storage), Signal::SIGKILL).unwrap();
        until("the storage writer is back", || {
            server.pids("storage").first().filter(|pid| **pid != storage).map(drop)
        });
        assert!(indexed(&server) >= before, "round {round}: the index went back");
        let newest = read(&server, &users[0], &room, "limit=1");
        assert_eq!(newest, [(round + 1) * 400]);
    }
    check_depths(&server, &users[0], &room);
    socket.say_many(&room, 0, 20);
    wait_for_index(&server);
    check_depths(&server, &users[0], &room);
    drop(socket);
    server.stop();
    assert!(server.verify().status.success());
}

#[test]
fn people_sign_up_while_files_are_indexed() {
    let mut server = Server::start(&SMALL_FILES);
    let users = server.new_users("user", 1);
    let room = server.new_room(&users, "room");
    let mut socket = Socket::connect(&server, &users[0]);
    let mut longest = Duration::ZERO;
    for round in 0..5 {
        socket.say_many(&room, 0, 1_000);
        let start = Instant::now();
        server.new_users(&format!("more{round}-"), 10);
        longest = longest.max(start.elapsed());
    }
    println!("longest call while files were indexed: {longest:.0?}");
    wait_for_index(&server);
    drop(socket);
    server.stop();
}
