//! What clients have begun to send and do not finish is bounded for all of them together: who adds to it
//! is closed and told why, and nobody else.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "tests")]

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};

use common::rest::User;
use common::socket::Socket;
use common::{Options, Server, until};
use serde_json::{Value, json};

/// `limits.unfinished_bytes_per_worker`
const BOUND: usize = 16 << 20;

/// What the worker may grow by beside that: chat, connections, what the allocator keeps.
const SLACK: usize = 32 << 20;

/// Clients that begin and do not finish, and bytes that each sends.
const CLIENTS: usize = 150;
const HALF: usize = 900_000;

/// None of them is closed for its silence.
const TABLES: &str = "[limits]\nunfinished_bytes_per_worker = 16777216\nhandshake_timeout = \"10m\"\n\
                      [socketio]\nping_interval = \"10m\"\n";

const REASON: &str = "too much is being sent, try again";

/// What the worker says of itself.
fn report(server: &Server, name: &str) -> usize {
    let status = server.status();
    let worker = status["processes"].as_array().unwrap().iter().find(|p| p["role"] == "worker").unwrap();
    usize::try_from(worker["report"][name].as_u64().unwrap()).unwrap()
}

fn rss(server: &Server) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", server.pids("worker")[0])).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
}

/// Reads what comes until it holds that text; what came.
fn hear(stream: &mut TcpStream, text: &str) -> String {
    let (mut heard, mut chunk) = (Vec::new(), [0; 4_096]);
    loop {
        let so_far = String::from_utf8_lossy(&heard).into_owned();
        if so_far.contains(text) {
            return so_far;
        }
        match stream.read(&mut chunk) {
            Ok(len) if len > 0 => heard.extend_from_slice(&chunk[..len]),
            end => panic!("{end:?} before {text:?}, after {so_far:?}"),
        }
    }
}

/// A session over a WebSocket that has sent the head of a frame with so many bytes of text.
fn frame_of(server: &Server, len: usize) -> TcpStream {
    let mut stream = server.connect();
    let request = "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n\
                   Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    hear(&mut stream, "maxPayload");
    let mut head = vec![0x81, 0x80 | 127];
    head.extend_from_slice(&u64::try_from(len).unwrap().to_be_bytes());
    head.extend_from_slice(&[0; 4]);
    stream.write_all(&head).unwrap();
    stream
}

/// Sends that; the server may have heard enough before the end.
fn send(mut stream: TcpStream, bytes: &[u8]) -> TcpStream {
    let _ = stream.write_all(bytes);
    stream
}

fn half_a_frame(server: &Server) -> TcpStream {
    send(frame_of(server, HALF + 1), &[b'4'; HALF])
}

fn a_packet_without_its_attachments(server: &Server) -> TcpStream {
    let places = r#"{"_placeholder":true,"num":0}"#;
    let text = format!(r#"451-["x",{places},"{}"]"#, "x".repeat(HALF));
    send(frame_of(server, text.len()), text.as_bytes())
}

fn half_a_payload(server: &Server) -> TcpStream {
    let path = "/socket.io/?EIO=4&transport=polling";
    let mut stream = server.connect();
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).unwrap();
    let open = hear(&mut stream, "maxPayload");
    let (_, rest) = open.split_once(r#""sid":""#).unwrap();
    let (sid, _) = rest.split_once('"').unwrap();
    let head = format!("POST {path}&sid={sid} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", HALF + 1);
    let mut stream = server.connect();
    stream.write_all(head.as_bytes()).unwrap();
    send(stream, &[b'4'; HALF])
}

/// Two users talk until `done`: all is stored, and nobody is put out.
fn talk(server: &Server, users: &[User; 2], done: &AtomicBool) {
    let asked = json!({"name": "room", "participants": [users[1].name]});
    let room: Value = server.post("/api/chatrooms", Some(&users[0]), &asked).body;
    let mut sockets = users.each_ref().map(|user| Socket::connect(server, user));
    let mut said = 0;
    while said < 20 || !done.load(Ordering::Relaxed) {
        said += 1;
        let message = json!({"roomId": room["roomId"], "content": "안녕".repeat(1_500)});
        for socket in &mut sockets {
            assert_eq!(socket.say(said, &message).unwrap()["ok"], true);
        }
    }
}

fn is_bounded(begin: fn(&Server) -> TcpStream) {
    let limited = Options { workers: 1, tables: TABLES, ..Options::default() };
    let mut server = Server::start(&limited);
    let users: [User; 2] = server.new_users("user", 2).try_into().expect("two users");
    let (before, done) = (rss(&server), AtomicBool::new(false));
    let mut held = Vec::new();
    std::thread::scope(|scope| {
        let talking = scope.spawn(|| talk(&server, &users, &done));
        for _ in 0..CLIENTS {
            held.push(begin(&server));
            assert!(rss(&server) <= before + BOUND + SLACK, "{} after {}", rss(&server), held.len());
        }
        hear(held.last_mut().unwrap(), REASON);
        done.store(true, Ordering::Relaxed);
        talking.join().unwrap();
    });
    // Those who fit are as they were.
    let fit = BOUND / 2 / HALF;
    assert!(CLIENTS - report(&server, "violations_total") >= fit, "{}", report(&server, "violations_total"));
    drop(held);
    until("nothing is held when they are gone", || (report(&server, "unfinished_bytes") == 0).then_some(()));
    drop(begin(&server));
    server.stop();
}

#[test]
fn half_frames_are_bounded() {
    is_bounded(half_a_frame);
}

#[test]
fn packets_without_their_attachments_are_bounded() {
    is_bounded(a_packet_without_its_attachments);
}

#[test]
fn half_payloads_of_long_polling_are_bounded() {
    is_bounded(half_a_payload);
}
