//! As many connections from one address as allowed, on the whole host, however they come.
#![allow(clippy::expect_used, reason = "tests")]

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;

use common::rest::{Answer, answer};
use common::socket::Socket;
use common::{Options, Server, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// One answer on a connection that stays; a refusal closes it.
fn ask(stream: &mut TcpStream, headers: &str) -> Answer {
    let request = format!("GET /health HTTP/1.1\r\nhost: x\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut bytes = vec![0; 4096];
    let mut filled = 0;
    loop {
        filled += stream.read(&mut bytes[filled..]).expect("an answer");
        let answer = answer(&bytes[..filled]);
        if answer.body.is_object() {
            return answer;
        }
    }
}

/// A new connection that was answered, and how.
fn try_from(server: &Server, address: &str) -> (TcpStream, u16) {
    let mut stream = server.connect_from(address);
    let status = ask(&mut stream, "").status;
    (stream, status)
}

/// Opens until `least` are held and one more is refused; answers those held. What was closed before
/// may be counted a little longer.
fn fill(server: &Server, address: &str, least: usize) -> Vec<TcpStream> {
    let mut held = Vec::new();
    until("one is refused", || {
        let (stream, status) = try_from(server, address);
        match status {
            200 => held.push(stream),
            429 if held.len() >= least => return Some(()),
            other => assert_eq!(other, 429, "neither served nor refused"),
        }
        None
    });
    held
}

#[test]
fn the_limit_holds_for_the_whole_host_and_each_address() {
    // The workers tell each other at once, but not before: a few may slip through.
    const LIMIT: usize = 12;
    let tables = "[limits]\nconnections_per_address = 12\n";
    let mut server = Server::start(&Options { workers: 3, tables, ..Options::default() });
    let mut held = fill(&server, "127.0.0.1", LIMIT);
    assert!(held.len() <= LIMIT * 3 / 2, "{}", held.len());

    let mut refused = server.connect_from("127.0.0.1");
    let refusal = ask(&mut refused, "Origin: http://localhost\r\n");
    assert_eq!(refusal.outcome(), "429 TOO_MANY_CONNECTIONS");
    assert!(refusal.body["error"].is_string());
    assert_eq!(refusal.header("connection"), Some("close"));
    assert_eq!(refusal.header("access-control-allow-origin"), Some("http://localhost"));
    assert_eq!(refused.read(&mut [0]).expect("closed"), 0);
    let mut handshake = server.connect_from("127.0.0.1");
    let upgrade = "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n\
        Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    handshake.write_all(upgrade.as_bytes()).expect("sent");
    let mut start = [0; 12];
    handshake.read_exact(&mut start).expect("an answer");
    assert_eq!(&start, b"HTTP/1.1 429");

    let others = fill(&server, "127.0.0.2", LIMIT);
    assert!(others.len() <= LIMIT * 3 / 2, "{}", others.len());
    // What is open goes on; what is closed makes room.
    for stream in &mut held {
        assert_eq!(ask(stream, "").status, 200);
    }
    held.clear();
    until("there is room again", || (try_from(&server, "127.0.0.1").1 == 200).then_some(()));
    server.stop();
}

/// A WebSocket holds the place that its connection had as long as it lives.
#[test]
fn a_websocket_counts_until_it_ends() {
    let tables = "[limits]\nconnections_per_address = 3\n";
    let mut server = Server::start(&Options { workers: 1, tables, ..Options::default() });
    let alice = server.new_users("alice", 1).remove(0);
    let connect = || {
        // What the calls before have closed may still be counted.
        until("a place", || (try_from(&server, "127.0.0.1").1 == 200).then_some(()));
        Socket::connect(&server, &alice)
    };
    let sockets = [connect(), connect(), connect()];
    for _ in 0..10 {
        assert_eq!(try_from(&server, "127.0.0.1").1, 429);
    }
    drop(sockets);
    assert_eq!(fill(&server, "127.0.0.1", 3).len(), 3);
    server.stop();
}

/// The counts of a worker go with it, and the next one learns those of the others.
#[test]
fn counts_survive_the_deaths_of_others_only() {
    let tables = "[limits]\nconnections_per_address = 20\n";
    let mut server = Server::start(&Options { workers: 2, tables, ..Options::default() });
    for role in ["storage", "worker", "worker"] {
        let mut held = fill(&server, "127.0.0.3", 20);
        let pid = server.pids(role)[0];
        kill(Pid::from_raw(pid), Signal::SIGKILL).expect("killed");
        until("a successor", || {
            (server.pids(role)[0] != pid && server.get("/ready", None).status == 200).then_some(())
        });
        // Those of a dead worker are closed.
        held.retain_mut(|stream| {
            stream.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n").is_ok()
                && stream.read(&mut [0; 4096]).is_ok_and(|read| read > 0)
        });
        assert!(role == "worker" || held.len() >= 20, "{}", held.len());
        let more = fill(&server, "127.0.0.3", 20 - held.len().min(20));
        let total = held.len() + more.len();
        assert!(total <= 30, "{} + {} after the death of a {role}", held.len(), more.len());
        drop((held, more));
        until("all are gone", || {
            let status = server.status();
            let processes = status["processes"].as_array().expect("processes");
            let open: u64 = processes.iter().filter_map(|p| p["report"]["http_connections"].as_u64()).sum();
            (open == 0).then_some(())
        });
    }
    server.stop();
}

#[test]
fn behind_a_trusted_proxy_the_clients_address_counts() {
    let tables = "[limits]\nconnections_per_address = 2\n";
    let top = "trusted_proxies = [\"127.0.0.8/29\"]";
    let mut server = Server::start(&Options { workers: 1, top, tables, ..Options::default() });
    let alice = server.new_users("alice", 1).remove(0);
    let upgrade = |address: &str, headers: &str| {
        let mut stream = server.connect_from(address);
        let request = format!(
            "GET /socket.io/?EIO=4&transport=websocket&token={} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             {headers}\r\n",
            alice.token
        );
        stream.write_all(request.as_bytes()).expect("sent");
        let mut start = [0; 12];
        stream.read_exact(&mut start).expect("an answer");
        (stream, String::from_utf8_lossy(&start[9..]).into_owned())
    };
    // The proxy itself may have as many connections as it likes, for as many clients.
    let idle: Vec<_> = (0..10).map(|_| server.connect_from("127.0.0.9")).collect();
    let mut one: Vec<_> = (0..2).map(|_| upgrade("127.0.0.9", "X-Forwarded-For: 1.1.1.1\r\n")).collect();
    let two: Vec<_> =
        (0..2).map(|_| upgrade("127.0.0.10", "X-Forwarded-For: 1.1.1.1, 2.2.2.2\r\n")).collect();
    assert!(one.iter().chain(&two).all(|(_, status)| status == "101"));
    for name in ["1.1.1.1", "6.6.6.6, 1.1.1.1", "1.1.1.1, 127.0.0.10", "::ffff:1.1.1.1", "2.2.2.2"] {
        assert_eq!(upgrade("127.0.0.9", &format!("X-Forwarded-For: {name}\r\n")).1, "429", "{name}");
        let mut stream = server.connect_from("127.0.0.9");
        let refused = ask(&mut stream, &format!("X-Forwarded-For: {name}\r\n"));
        assert_eq!(refused.outcome(), "429 TOO_MANY_CONNECTIONS", "{name}");
    }
    let mut shared = server.connect_from("127.0.0.9");
    for _ in 0..10 {
        assert_eq!(ask(&mut shared, "X-Forwarded-For: 3.3.3.3\r\n").status, 200, "one after the other");
    }
    one.pop();
    until("there is room again", || {
        (upgrade("127.0.0.9", "X-Forwarded-For: 1.1.1.1\r\n").1 == "101").then_some(())
    });
    // Whoever is no proxy is not believed.
    let _direct: Vec<_> = (0..2).map(|_| upgrade("127.0.0.4", "X-Forwarded-For: 4.4.4.4\r\n")).collect();
    assert_eq!(upgrade("127.0.0.4", "X-Forwarded-For: 5.5.5.5\r\n").1, "429");
    drop(idle);
    server.stop();
}

/// The last bound of all: what one worker holds, whoever it is.
#[test]
fn a_full_worker_turns_the_next_away_until_one_leaves() {
    let tables = "[limits]\nconnections_per_worker = 3\n";
    let mut server = Server::start(&Options { workers: 1, tables, ..Options::default() });
    let alice = server.new_users("alice", 1).remove(0);
    let mut held: Vec<Socket> = (0..3).map(|_| Socket::connect(&server, &alice)).collect();
    let handshake = || {
        let mut stream = server.connect();
        let request =
            "GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).expect("sent");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer");
        text.to_ascii_lowercase()
    };
    let refused = handshake();
    assert!(refused.starts_with("http/1.1 503") && refused.contains("retry-after: "), "{refused}");
    for socket in &mut held {
        // Who is in goes on.
        socket.send("42[\"typing\",{}]");
        assert!(socket.next().contains("INVALID_REQUEST"));
    }
    held.pop();
    until("there is room again", || handshake().starts_with("http/1.1 200").then_some(()));
    server.stop();
}
