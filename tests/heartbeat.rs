//! Heartbeats of clients that the server itself does not read from for a while.
#![allow(clippy::expect_used, reason = "tests")]

mod common;

use std::time::{Duration, Instant};

use common::socket::Socket;
use common::{Options, Server, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

/// More messages than one connection may have unanswered.
const MESSAGES: u32 = 1_500;

fn worker(server: &Server) -> serde_json::Value {
    let status = server.status();
    let processes = status["processes"].as_array().expect("processes").clone();
    processes.into_iter().find(|process| process["role"] == "worker").expect("a worker")
}

fn ping_timeouts(server: &Server) -> Option<u64> {
    worker(server)["report"]["ping_timeouts_total"].as_u64()
}

/// The storage writer hangs for longer than a pong may take. Whoever has sent too much is not read
/// from meanwhile, its pongs neither; it stays. Whoever is silent afterwards is found.
#[test]
fn a_client_is_not_blamed_for_pongs_that_nobody_reads() {
    let tables =
        "[socketio]\nping_interval = \"200ms\"\nping_timeout = \"2s\"\n[limits]\nmessages_per_second = 0\n";
    let top = "hang_timeout = \"1h\"\n"; // it hangs on purpose
    let mut server = Server::start(&Options { workers: 1, top, tables, ..Options::default() });
    let users = server.new_users("user", 2);
    let room = server.new_room(&users, "talk");
    let mut alive = Socket::connect(&server, &users[0]);
    let mut dead = Socket::connect(&server, &users[1]);
    let storage = Pid::from_raw(server.pids("storage")[0]);
    kill(storage, Signal::SIGSTOP).expect("stopped");
    for number in 0..MESSAGES {
        let event = json!(["send_message", {"roomId": room, "content": "x"}]);
        alive.send(&format!("42{number}{event}"));
        dead.send(&format!("42{number}{event}"));
    }
    let uptime = |server: &Server| worker(server)["uptime_s"].as_f64().unwrap_or(0.0);
    let start = uptime(&server);
    until("two and a half timeouts have passed", || (uptime(&server) > start + 5.0).then_some(()));
    assert_eq!(ping_timeouts(&server), Some(0));
    kill(storage, Signal::SIGCONT).expect("continued");
    let mut acks = 0;
    while acks < MESSAGES {
        acks += u32::from(alive.next().starts_with("43"));
    }
    // It goes on being answered and goes on answering; the other never says anything again.
    until("the silent client is found", || {
        alive.say_many(&room, acks, acks + 1);
        acks += 1;
        (ping_timeouts(&server) == Some(1)).then_some(())
    });
    alive.say_many(&room, acks, acks + 1);
    drop(dead);
    server.stop();
}

/// What has come of a packet is kept for as long as its attachments may take, and no longer, however well
/// the client answers pings.
#[test]
fn attachments_are_not_waited_for_without_end() {
    let tables = "[socketio]\nping_interval = \"200ms\"\nping_timeout = \"2s\"\n";
    let mut server = Server::start(&Options { workers: 1, tables, ..Options::default() });
    let users = server.new_users("user", 1);
    let mut socket = Socket::connect(&server, &users[0]);
    socket.send("452-[\"x\",{\"_placeholder\":true,\"num\":0},{\"_placeholder\":true,\"num\":1}]");
    let sent = Instant::now();
    // Answers pings until it is closed.
    while socket.try_next().is_some() {}
    assert!(sent.elapsed() >= 2 * Duration::from_millis(2_200), "not before they are overdue");
    assert_eq!(ping_timeouts(&server), Some(0));
    server.stop();
}
