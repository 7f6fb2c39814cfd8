//! The clock is set back by a day while the server runs: times follow it, the order does not.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::common::rest::user;
use crate::common::socket::Socket;
use crate::common::{Options, Server};

/// Where Debian's libfaketime has it.
fn library() -> PathBuf {
    let found = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib"]
        .map(|dir| Path::new(dir).join("faketime/libfaketimeMT.so.1"))
        .into_iter()
        .find(|path| path.exists());
    found.unwrap_or_else(|| panic!("this test needs the package libfaketime"))
}

fn set(clock: &Path, time: &str) {
    let other = clock.with_extension("new");
    std::fs::write(&other, time).unwrap();
    std::fs::rename(other, clock).unwrap();
}

#[test]
fn set_back_by_a_day_and_forward_by_ten() {
    let dir = tempfile::tempdir().unwrap();
    let clock = dir.path().join("clock");
    set(&clock, "+0");
    let env = vec![
        ("LD_PRELOAD", library().display().to_string()),
        ("FAKETIME_TIMESTAMP_FILE", clock.display().to_string()),
        ("FAKETIME_NO_CACHE", "1".to_owned()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ("DONT_FAKE_MONOTONIC", "1".to_owned()),
    ];
    let tables =
        "[socketio]\nping_interval = \"500ms\"\nping_timeout = \"20s\"\n[storage]\nmessages_per_file = 4";
    let server = Arc::new(Server::start(&Options { env, tables, ..Options::default() }));
    let users = server.new_users("user", 2);
    let room = server.new_room(&users, "a room");
    let mut socket = Socket::connect(&server, &users[0]);
    let mut number = 0;
    let mut say = |socket: &mut Socket, client_id: &str| -> Value {
        number += 1;
        let message = json!({"roomId": room, "content": format!("message {number}"), "clientId": client_id});
        let ack = socket.say(number, &message).unwrap();
        assert_eq!(ack["ok"], true, "{ack}");
        ack
    };
    let mut acks: Vec<Value> = Vec::new();
    for (jump, client_ids) in [("+0", ["a", "b", "c"]), ("-1d", ["d", "e", "f"]), ("+9d", ["g", "h", "i"])] {
        set(&clock, jump);
        // Rooms and users are made in any order of times as well.
        let name = format!("at{}", jump.replace(['+', '-'], "_"));
        let account = json!({"username": name, "password": "password"});
        assert_eq!(server.post("/api/auth/signup", None, &account).status, 201, "{}", server.stderr());
        let login = server.post("/api/auth/login", None, &account);
        assert_eq!(server.get("/api/chatrooms", Some(&user(&login.body))).status, 200, "its token is good");
        acks.extend(client_ids.map(|client_id| say(&mut socket, client_id)));
        // A repetition is one, whatever the time.
        let again = say(&mut socket, "a");
        assert_eq!((&again["seq"], &again["id"]), (&acks[0]["seq"], &acks[0]["id"]), "{jump}");
        // Pings come and are answered.
        socket.hear_ping();
    }
    let seqs: Vec<u64> = acks.iter().map(|ack| ack["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, (1..=9).collect::<Vec<u64>>());
    let day = |at: usize| acks[at]["timestamp"].as_str().unwrap()[..10].to_owned();
    assert!(day(3) < day(0) && day(0) < day(6), "the clock was set: {acks:?}");
    // A token of the first day is out of date nine days later; set back, it is good again.
    assert_eq!(server.get("/api/chatrooms", Some(&users[1])).status, 401);
    set(&clock, "-1d");
    let history = server.get(&format!("/api/chatrooms/{room}/messages"), Some(&users[1]));
    let found: Vec<u64> =
        history.body.as_array().unwrap().iter().map(|m| m["seq"].as_u64().unwrap()).collect();
    assert_eq!(found, seqs, "history is in order of numbers");
    let mut server = Arc::try_unwrap(server).ok().unwrap();
    server.stop();
    let server = server.start_again();
    let mut socket = Socket::connect(&server, &users[0]);
    let again = say(&mut socket, "a");
    assert_eq!(again["seq"], 1, "remembered across a start");
    assert_eq!(say(&mut socket, "new")["seq"], 10);
    assert!(server.verify().status.success());
}
