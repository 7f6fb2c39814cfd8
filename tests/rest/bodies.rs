//! Bodies that come too slowly, never, or too many at once; and how little they may cost.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::common::rest::answer;
use crate::common::{self, Options, Server};

/// A call of which only the head and these bytes of the body are sent.
fn begun(server: &Server, path: &str, length: usize, body: &[u8]) -> TcpStream {
    let mut stream = server.connect();
    let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all(&[head.as_bytes(), body].concat()).expect("sent");
    stream
}

/// Everything until the server closes.
fn rest_of(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let end = stream.read_to_end(&mut bytes);
    assert!(end.is_ok(), "closed, not left alone: {end:?}");
    bytes
}

/// `VmHWM`: the most memory a process has had, in bytes.
fn peak_bytes(pid: i32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("there");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    let kib: usize = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kib << 10
}

#[test]
fn a_body_that_does_not_come_is_not_waited_for() {
    let tables = "[limits]\nbody_timeout = \"300ms\"\n";
    let mut server = Server::start(&Options { tables, ..Options::default() });
    for (path, sent) in
        [("/api/auth/login", &b""[..]), ("/api/auth/signup", b"{\"user"), ("/api/auth/signup-batch", b"{")]
    {
        let refused = answer(&rest_of(&mut begun(&server, path, 100, sent)));
        assert_eq!(refused.outcome(), "408 REQUEST_TIMEOUT", "{path}");
        assert_eq!(refused.header("connection"), Some("close"));
        assert!(refused.body["error"].is_string());
    }
    server.stop();
}

/// A byte now and then is not enough, however long it goes on; a chunked body is no way around it.
#[test]
fn a_trickle_is_not_waited_for() {
    let tables = "[limits]\nbody_timeout = \"500ms\"\nbody_bytes_per_second = 100000\n";
    let mut server = Server::start(&Options { tables, ..Options::default() });
    let mut chunked = server.connect();
    let head = "POST /api/auth/login HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
    chunked.write_all(head.as_bytes()).expect("sent");
    for (mut stream, piece) in
        [(begun(&server, "/api/auth/login", 1_000_000, b"{"), " "), (chunked, "1\r\n \r\n")]
    {
        let mut reader = stream.try_clone().expect("a descriptor");
        let trickle = std::thread::spawn(move || {
            // Ends when the server has closed.
            while stream.write_all(piece.as_bytes()).is_ok() {
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
        });
        let mut bytes = Vec::new();
        // A reset after the answer is as good an end as any.
        let _ = reader.read_to_end(&mut bytes);
        assert_eq!(answer(&bytes).outcome(), "408 REQUEST_TIMEOUT");
        trickle.join().expect("ended");
    }
    server.stop();
}

/// Longer than `body_timeout` in all, and fast enough.
#[test]
fn a_body_that_keeps_its_pace_may_take_its_time() {
    let tables = "[limits]\nbody_timeout = \"1s\"\nbody_bytes_per_second = 1\n";
    let mut server = Server::start(&Options { tables, ..Options::default() });
    let body = json!({"username": "slow", "password": "x", "padding": " ".repeat(500)}).to_string();
    // Each piece buys more time than any pause takes.
    let (first, rest) = body.as_bytes().split_at(100);
    let mut stream = begun(&server, "/api/auth/signup", body.len(), first);
    for piece in rest.chunks(30) {
        stream.write_all(piece).expect("sent");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    let mut start = [0; 12];
    stream.read_exact(&mut start).expect("an answer");
    assert_eq!(&start, b"HTTP/1.1 201");
    server.stop();
}

#[test]
fn neither_idle_connections_nor_unfinished_requests_hold_up_the_end() {
    let tables = "[limits]\nhandshake_timeout = \"10m\"\nbody_timeout = \"10m\"\n";
    let top = "drain_timeout = \"10m\"\n";
    let mut server = Server::start(&Options { top, tables, ..Options::default() });
    let mut kept_alive = server.connect();
    kept_alive.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n").expect("sent");
    kept_alive.read_exact(&mut [0; 12]).expect("an answer");
    let mut half_a_head = server.connect();
    half_a_head.write_all(b"GET /health HTT").expect("sent");
    let half_a_body = begun(&server, "/api/auth/signup", 100, b"{");
    let silent = server.connect();
    // All of them are with the workers before the end begins.
    common::until("the connections are taken in", || {
        let status = server.status();
        let processes = status["processes"].as_array().expect("processes");
        let open: u64 = processes.iter().filter_map(|p| p["report"]["http_connections"].as_u64()).sum();
        (open >= 4).then_some(())
    });
    // Waits a minute at most, far less than the drain could take.
    server.stop();
    drop((kept_alive, half_a_head, half_a_body, silent));
}

/// Bodies that are held without an end share a bound; who does not fit is told at once.
#[test]
fn many_large_bodies_at_once_are_refused_rather_than_held() {
    let tables = "[limits]\nbody_bytes = 1000000\nbody_bytes_per_worker = 4000000\nbody_timeout = \"10m\"\n";
    let mut server = Server::start(&Options { workers: 1, tables, ..Options::default() });
    let part = vec![b' '; 900_000];
    let mut held: Vec<TcpStream> = Vec::new();
    let batch = json!({"users": [{"username": "late", "password": "x"}], "padding": " ".repeat(900_000)});
    common::until("a large body finds no room", || {
        // One of these may be the one that is refused, while others are not yet read.
        held.push(begun(&server, "/api/auth/signup-batch", 1_000_000, &part));
        let answer = server.post("/api/auth/signup-batch", None, &batch);
        (answer.outcome() == "503 OVERLOADED").then_some(())
    });
    let small = json!({"users": [{"username": "small", "password": "x"}]});
    assert_eq!(server.post("/api/auth/signup-batch", None, &small).status, 201, "small ones go on");
    common::until("the room is given back", || {
        drop(held.pop());
        let answer = server.post("/api/auth/signup-batch", None, &batch);
        (answer.status == 201).then_some(())
    });
    server.stop();
}

/// Every shape of body in which a tree of values would cost many times its bytes.
#[test]
fn no_body_costs_much_more_than_its_bytes() {
    const BYTES: usize = 32 << 20;
    let mut server = Server::start(&Options { workers: 1, ..Options::default() });
    let alice = server.new_users("alice", 1).remove(0);
    let long = |start: &str, piece: &str, end: &str| {
        format!("{start}{}{end}", piece.repeat((BYTES - start.len() - end.len()) / piece.len()))
    };
    let names = "\"a\",".repeat(90_000);
    let bodies = [
        ("/api/auth/signup-batch", long("{\"users\":[{\"username\":[0", ",0", "]}]}")),
        ("/api/auth/signup-batch", long("{\"users\":[{\"username\":{\"a\":0", ",\"a\":0", "}}]}")),
        ("/api/auth/signup-batch", long("{\"users\":[{\"password\":\"", "x", "\",\"username\":\"a\"}]}")),
        ("/api/auth/login-batch", long("{\"users\":[{}", ",{}", "]}")),
        ("/api/chatrooms", long("{\"name\":\"r\",\"participants\":[0", ",0", "]}")),
        ("/api/chatrooms", long("{\"name\":\"r\",\"participants\":[\"\"", ",\"\"", "]}")),
        ("/api/chatrooms", long("{\"open\":{\"a\":[[0", ",0", "]]}}")),
        ("/api/chatrooms-batch", long("{\"rooms\":[{}", &format!(",{{\"participants\":[{names}0]}}"), "]}")),
        (
            "/api/chatrooms-batch",
            long("{\"rooms\":[{}", &format!(",{{\"participants\":[{names}\"a\"]}}"), "]}"),
        ),
    ];
    let worker = server.pids("worker")[0];
    let before = peak_bytes(worker);
    for (path, body) in &bodies {
        let answer = server.call_bytes("POST", path, Some(&alice.token), body.as_bytes());
        assert!([201, 400].contains(&answer.status), "{path} {body:.60}: {answer:?}");
        let more = peak_bytes(worker) - before;
        assert!(more < 4 * BYTES, "{path} {body:.60}: {} MiB", more >> 20);
    }
    server.stop();
}

#[test]
fn what_is_no_name_is_shown_as_far_as_it_was_kept() {
    let mut server = Server::start(&Options::default());
    let users: Vec<Value> =
        [json!(5), json!(true), json!(null), json!([1]), json!({"a": 1}), json!("가".repeat(101))]
            .into_iter()
            .map(|username| json!({"username": username, "password": "x"}))
            .collect();
    let made = server.post("/api/auth/signup-batch", None, &json!({"users": users}));
    let shown: Vec<&Value> =
        made.body["errors"].as_array().expect("errors").iter().map(|entry| &entry["username"]).collect();
    assert_eq!(
        shown,
        [&json!(5), &json!(true), &json!(null), &json!(null), &json!(null), &json!("가".repeat(101))]
    );
    server.stop();
}
