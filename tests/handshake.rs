//! The first bytes of a connection: upgrades as proxies send them, and everything that is none.
#![allow(clippy::expect_used, reason = "tests")]

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use common::{Options, Server};
use serde_json::json;

const PATH: &str = "/socket.io/?EIO=4&transport=websocket";
const KEY: &str =
    "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// The head of the answer to a request that may keep its connection.
fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).expect("an answer") == 1 {
        head.push(byte[0]);
    }
    String::from_utf8(head).expect("text").to_ascii_lowercase()
}

fn upgrade(server: &Server, method: &str, path: &str, headers: &str) -> (u16, serde_json::Value) {
    let request = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
    let mut stream = server.connect();
    stream.write_all(request.as_bytes()).expect("sent");
    let head = head(&mut stream);
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    if status == 101 {
        // RFC 6455 §1.3's own example, then the first packet in an unmasked text frame.
        assert!(head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="), "{head}");
        let mut start = [0; 4];
        stream.read_exact(&mut start).expect("a frame");
        assert_eq!((start[0], &start[2..]), (0x81, &b"0{"[..]));
        return (status, json!(null));
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.and_then(|length| length.parse().ok()).unwrap_or(0)];
    stream.read_exact(&mut body).expect("the body");
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

#[test]
fn an_upgrade_is_accepted_however_its_connection_headers_are_written() {
    let mut server = Server::start(&Options::default());
    for connection in [
        "Connection: Upgrade\r\n",
        "connection: upgrade\r\n",
        "Connection: keep-alive, Upgrade\r\n",
        "Connection: Upgrade, keep-alive\r\n",
        "Connection: keep-alive\r\nConnection: Upgrade\r\n",
        "Connection: Upgrade\r\nConnection: keep-alive\r\n",
        "Connection: close\r\nConnection: Upgrade\r\n",
        "Connection: Upgrade\r\nConnection: close\r\n",
    ] {
        let after = upgrade(&server, "GET", PATH, &format!("{connection}{KEY}"));
        assert_eq!(after.0, 101, "{connection:?}");
        let before = upgrade(&server, "GET", PATH, &format!("{KEY}{connection}"));
        assert_eq!(before.0, 101, "{connection:?} last");
    }
    server.stop();
}

#[test]
fn a_handshake_that_is_none_is_told_why() {
    let mut server = Server::start(&Options::default());
    let upgrading = format!("Connection: Upgrade\r\n{KEY}");
    let check = |method: &str, path: &str, headers: &str, status: u16, code: u64, message: &str| {
        let answer = upgrade(&server, method, path, headers);
        assert_eq!(answer, (status, json!({"code": code, "message": message})), "{method} {path} {headers}");
    };
    let wrong = |query: &str, code: u64, message: &str| {
        check("GET", &format!("/socket.io/?{query}"), &upgrading, 400, code, message);
    };
    wrong("EIO=3&transport=websocket", 5, "Unsupported protocol version");
    wrong("EIO=5&transport=websocket", 5, "Unsupported protocol version");
    wrong("transport=websocket", 5, "Unsupported protocol version");
    wrong("EIO=4&transport=carrier-pigeon", 0, "Transport unknown");
    wrong("EIO=4", 0, "Transport unknown");
    wrong("EIO=4&transport=websocket&sid=nobody", 1, "Session ID unknown");
    check("POST", PATH, "Content-Length: 0\r\n", 400, 2, "Bad handshake method");
    check("GET", PATH, "", 400, 3, "Bad request");
    check("GET", PATH, "Connection: Upgrade\r\nUpgrade: h2c\r\n", 400, 3, "Bad request");
    check("GET", PATH, &format!("Connection: keep-alive\r\n{KEY}"), 400, 3, "Bad request");
    let evil = format!("{upgrading}Origin: https://evil.example\r\n");
    check("GET", PATH, &evil, 403, 4, "Forbidden");
    server.stop();
}

#[test]
fn an_origin_on_the_list_is_let_in() {
    let mut server =
        Server::start(&Options { top: "allowed_origins = [\"https://chat.example\"]", ..Options::default() });
    for (origin, status) in [("https://chat.example", 101), ("https://other.example", 403)] {
        let headers = format!("Connection: Upgrade\r\n{KEY}Origin: {origin}\r\n");
        assert_eq!(upgrade(&server, "GET", PATH, &headers).0, status, "{origin}");
    }
    server.stop();
}

#[test]
fn garbage_hurts_nobody() {
    let mut server = Server::start(&Options::default());
    let processes = server.fingerprint();
    let long_line = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(1 << 20));
    let many_headers = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(100_000));
    let long_header = format!("GET {PATH} HTTP/1.1\r\nHost: x\r\nA: {}\r\n\r\n", "x".repeat(1 << 20));
    let noise: Vec<u8> = (0..100_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let upgrade_and_noise =
        [format!("GET {PATH} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n{KEY}\r\n").as_bytes(), &noise]
            .concat();
    for (what, bytes) in [
        ("nothing", &b""[..]),
        ("noise", &noise),
        ("an upgrade, then noise", &upgrade_and_noise),
        ("zeros", &[0; 10_000]),
        ("a TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
        ("words", b"hello\r\n\r\n"),
        ("a long line", long_line.as_bytes()),
        ("many headers", many_headers.as_bytes()),
        ("a long header", long_header.as_bytes()),
        ("a negative length", b"POST /api/auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n"),
        (
            "two lengths",
            b"POST /api/auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        ),
        ("a body cut short", b"POST /api/auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"),
        (
            "a bad chunk",
            b"POST /api/auth/login HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        ),
        ("an odd method", b"\xff\xff / HTTP/1.1\r\nHost: x\r\n\r\n"),
        ("a path that is no UTF-8", b"GET /%ff%fe/%00 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
        ("a path upwards", b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
    ] {
        let mut stream = server.connect();
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(Shutdown::Write);
        let mut answer = Vec::new();
        // Whatever it says, it says it in bounded space and closes.
        let _ = (&mut stream).take(1 << 20).read_to_end(&mut answer);
        assert!(!answer.starts_with(b"HTTP/1.1 5"), "{what}: {}", String::from_utf8_lossy(&answer));
        assert_eq!(server.get("/health", None).status, 200, "after {what}");
    }
    assert_eq!(server.fingerprint(), processes);
    server.stop();
}
