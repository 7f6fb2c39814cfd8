//! Connections that are waited for: each is let go within its limit, and nobody else is hurt.
//!
//! That a limit has passed is seen by what it has closed: a connection which said nothing from the
//! beginning, opened after the one that is judged. No test waits for a time.
#![allow(clippy::expect_used, reason = "tests")]

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use common::rest::{Answer, answer};
use common::socket::Socket;
use common::{Options, Server, until};
use serde_json::json;

/// Short, and long enough for a client that has to wait for its processor.
const HANDSHAKE: &str = "[limits]\nhandshake_timeout = \"3s\"\n";

fn server(tables: &'static str) -> Server {
    Server::start(&Options { workers: 1, tables, ..Options::default() })
}

/// Whether the server has closed a connection that nothing more is sent on.
fn is_closed(stream: &mut TcpStream) -> bool {
    loop {
        match stream.read(&mut [0; 4096]) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        }
    }
}

/// Returns when the handshake timeout of a connection opened now has passed.
fn a_handshake_timeout_later(server: &Server) {
    assert!(is_closed(&mut server.connect()), "a connection that says nothing is let go");
}

/// One answer on a connection that stays.
fn ask(stream: &mut TcpStream, request: &str) -> Answer {
    stream.write_all(request.as_bytes()).expect("sent");
    let mut bytes = vec![0; 4096];
    let mut filled = 0;
    loop {
        let read = stream.read(&mut bytes[filled..]).expect("an answer");
        assert!(read > 0, "closed instead of answered");
        filled += read;
        let answer = answer(&bytes[..filled]);
        if answer.body.is_object() {
            return answer;
        }
    }
}

const HEALTH: &str = "GET /health HTTP/1.1\r\nHost: x\r\n\r\n";

#[test]
fn who_says_nothing_or_too_little_is_let_go_and_the_others_stay() {
    let mut server = server(HANDSHAKE);
    let alice = server.new_users("alice", 1).remove(0);
    let room = server.new_room(std::slice::from_ref(&alice), "talk");
    let mut good = Socket::connect(&server, &alice);
    let mut silent: Vec<TcpStream> = (0..50).map(|_| server.connect()).collect();
    let begun = ["GET /soc", "GET / HTTP/1.1\r\nHost: x\r\n", "POST /api/auth/login HTTP/1.1\r\nHost: "];
    silent.extend(begun.map(|begun| {
        let mut stream = server.connect();
        stream.write_all(begun.as_bytes()).expect("sent");
        stream
    }));
    // A kept connection whose second request never ends.
    let mut second = server.connect();
    assert_eq!(ask(&mut second, HEALTH).status, 200);
    second.write_all(b"GET /heal").expect("sent");
    silent.push(second);
    for stream in &mut silent {
        assert!(is_closed(stream));
    }
    assert_eq!(good.say_many(&room, 0, 10).len(), 10);
    server.stop();
}

/// Each byte comes soon after the one before; all of them together take too long.
#[test]
fn a_head_that_comes_byte_by_byte_is_not_waited_for() {
    let mut server = server(HANDSHAKE);
    for is_first in [true, false] {
        let mut stream = server.connect();
        if !is_first {
            assert_eq!(ask(&mut stream, HEALTH).status, 200);
        }
        stream.write_all(b"GET /health HTTP/1.1\r\nX: ").expect("sent");
        stream.set_read_timeout(Some(Duration::from_millis(10))).expect("set");
        until("it is closed", || {
            let sent = stream.write_all(b"x");
            (sent.is_err() || is_closed(&mut stream)).then_some(())
        });
        assert_eq!(server.get("/health", None).status, 200);
    }
    server.stop();
}

#[test]
fn between_two_requests_a_connection_may_be_silent_for_longer() {
    let mut server = server(HANDSHAKE);
    let mut kept = server.connect();
    for _ in 0..3 {
        assert_eq!(ask(&mut kept, HEALTH).status, 200);
        a_handshake_timeout_later(&server);
    }
    server.stop();
}

#[test]
fn but_not_for_ever() {
    let mut server = server("[limits]\nkeep_alive_timeout = \"300ms\"\n");
    let mut kept = server.connect();
    assert_eq!(ask(&mut kept, HEALTH).status, 200);
    assert!(is_closed(&mut kept));
    server.stop();
}

/// A caller that does not take its answer holds the memory of that answer.
#[test]
fn who_does_not_take_the_answer_is_let_go() {
    let mut server = server("[limits]\nkeep_alive_timeout = \"3s\"\nmessages_per_second = 0\n");
    let alice = server.new_users("alice", 1).remove(0);
    let room = server.new_room(std::slice::from_ref(&alice), "talk");
    let mut socket = Socket::connect(&server, &alice);
    // Of its own bytes the kernel would take several megabytes.
    let long = "가".repeat(4_000);
    for _ in 0..10 {
        socket.say_all(&room, &vec![long.as_str(); 100]);
    }
    drop(socket);
    let open = |server: &Server| {
        let status = server.status();
        let processes = status["processes"].as_array().expect("processes");
        processes.iter().filter_map(|p| p["report"]["http_connections"].as_u64()).sum::<u64>()
    };
    let mut deaf = server.connect();
    let request = format!(
        "GET /api/chatrooms/{room}/messages?limit=1000 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n",
        alice.token
    );
    deaf.write_all(request.as_bytes()).expect("sent");
    // The beginning of the answer says that it is on its way.
    deaf.read_exact(&mut [0; 12]).expect("an answer");
    until("it is given up", || (open(&server) == 0).then_some(()));
    let whole = server.get(&format!("/api/chatrooms/{room}/messages?limit=1000"), Some(&alice));
    assert_eq!(whole.body.as_array().map(Vec::len), Some(1_000), "who reads gets all of it");
    server.stop();
}

/// A session has to enter a namespace in time, whichever way it came, and a probe has to take over.
#[test]
fn sessions_that_never_connect_are_let_go() {
    let mut server = server(HANDSHAKE);
    let polling = |request: &str| {
        let mut stream = server.connect();
        stream.write_all(request.as_bytes()).expect("sent");
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).expect("an answer");
        String::from_utf8(bytes).expect("text")
    };
    let get = |query: &str| {
        polling(&format!(
            "GET /socket.io/?EIO=4&transport=polling{query} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        ))
    };
    let opened = get("");
    let sid = opened.split("\"sid\":\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a sid");
    // It has a WebSocket that never probes, either.
    let mut probe = server.connect();
    let upgrade = format!(
        "GET /socket.io/?EIO=4&transport=websocket&sid={sid} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    probe.write_all(upgrade.as_bytes()).expect("sent");
    assert!(is_closed(&mut probe));
    until("the session is gone", || get(&format!("&sid={sid}")).contains("Session ID unknown").then_some(()));
    let mut websocket = server.connect();
    websocket.write_all(upgrade.replace(&format!("&sid={sid}"), "").as_bytes()).expect("sent");
    assert!(is_closed(&mut websocket));
    until("nothing is left", || {
        let status = server.status();
        let processes = status["processes"].as_array().expect("processes");
        processes
            .iter()
            .all(|p| p["role"] != "worker" || p["report"]["connections"] == json!(0))
            .then_some(())
    });
    server.stop();
}
