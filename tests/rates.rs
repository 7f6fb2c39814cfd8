//! How much one user may do in a second, and how many connections one may have: on the whole host, on
//! however many workers, and without a cost for anybody else.
//!
//! A bucket of `N` gives `N` at once and `N` each second. How much was let through is compared with the
//! time that it took, whatever that was.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "tests")]

mod common;

use std::time::{Duration, Instant};

use common::rest::User;
use common::socket::Socket;
use common::{Options, Server, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

const WORKERS: u16 = 3;

fn server(tables: &'static str) -> Server {
    let top = "hang_timeout = \"1h\"\n"; // for the test in which the storage writer stands still
    Server::start(&Options { workers: WORKERS, top, tables, ..Options::default() })
}

/// Workers with connections.
fn workers_in_use(server: &Server) -> usize {
    let status = server.status();
    let processes = status["processes"].as_array().expect("processes");
    let in_use = |p: &&Value| p["role"] == "worker" && p["report"]["connections"].as_u64() > Some(0);
    processes.iter().filter(in_use).count()
}

/// Connections of one user on all workers, each of which has heard of all others.
fn everywhere(server: &Server, user: &User, room: &str) -> Vec<Socket> {
    let mut sockets = Vec::new();
    until("the user is on every worker", || {
        sockets.push(Socket::connect(server, user));
        (workers_in_use(server) == usize::from(WORKERS)).then_some(())
    });
    // What comes by the storage writer comes in order: behind everybody's message is everybody's arrival.
    let count = sockets.len();
    for (number, socket) in sockets.iter_mut().enumerate() {
        let ack = socket.say(7, &json!({"roomId": room, "content": format!("here {number}")}));
        assert_eq!(ack.expect("an ack")["ok"], true);
    }
    for (number, socket) in sockets.iter_mut().enumerate() {
        // Who spoke last has read all but its own on the way to its ack.
        if number < count - 1 {
            while !socket.next().contains(&format!("here {}", count - 1)) {}
        }
    }
    sockets
}

/// Sends an event `each` times over every socket at once; answers the acks and the time it took.
fn flood(sockets: &mut [Socket], each: usize, event: &str, argument: &Value) -> (Vec<Value>, f64) {
    let start = Instant::now();
    let mut acks = Vec::new();
    for socket in &mut *sockets {
        (0..each).for_each(|at| socket.send(&format!("42{at}{}", json!([event, argument]))));
    }
    for socket in sockets {
        let mut heard = 0;
        while heard < each {
            let packet = socket.next();
            if let Some((_, arguments)) = packet.strip_prefix("43").and_then(|rest| rest.split_once('[')) {
                acks.push(serde_json::from_str::<Value>(&format!("[{arguments}")).unwrap()[0].clone());
                heard += 1;
            }
        }
    }
    (acks, start.elapsed().as_secs_f64())
}

/// Of what was asked, no more was done than a bucket of `rate` gives in that time, and the rest refused.
fn check(what: &str, rate: u32, (acks, seconds): &(Vec<Value>, f64)) -> usize {
    let done = acks.iter().filter(|ack| ack["ok"] == true).count();
    let refused = acks.iter().filter(|ack| ack["code"] == "RATE_LIMITED").count();
    assert_eq!(done + refused, acks.len(), "{what}: {acks:?}");
    assert!(done > 0, "{what}");
    let most = f64::from(rate) * (1.0 + seconds);
    assert!(done as f64 <= most, "{what}: {done} of {} in {seconds} s at {rate}/s", acks.len());
    done
}

#[test]
fn messages_of_one_user_are_counted_over_all_workers() {
    // Enough for one message of each connection that it takes to be everywhere.
    let mut server = server("[limits]\nmessages_per_second = 60\n");
    let users = server.new_users("user", 2);
    let room = server.new_room(&users, "talk");
    let mut bob = Socket::connect(&server, &users[1]);
    let mut sockets = everywhere(&server, &users[0], &room);
    let before: usize = server.message_files().iter().map(|(_, lines)| lines.len()).sum();
    // All at once and as many as three workers would let through.
    let each = 200 / sockets.len() + 1;
    let flooded = flood(&mut sockets, each, "send_message", &json!({"roomId": room, "content": "x"}));
    let done = check("messages", 60, &flooded);
    let after: usize = server.message_files().iter().map(|(_, lines)| lines.len()).sum();
    assert_eq!(after - before, done, "what was refused left nothing behind");
    bob.say(1, &json!({"roomId": room, "content": "not me"})).expect("an ack");
    until("alice may go on", || {
        let ack = sockets[0].say(1_000, &json!({"roomId": room, "content": "again"})).expect("an ack");
        (ack["ok"] == true).then_some(())
    });
    server.stop();
}

/// The storage writer stands still while one user sends at a third of what is allowed, each message over
/// another of the connections; then everything comes to it at once.
#[test]
fn what_had_to_wait_was_not_sent_faster_for_that() {
    const MESSAGES: u32 = 120;
    let mut server = server("[limits]\nmessages_per_second = 60\n");
    let users = server.new_users("user", 1);
    let room = server.new_room(&users, "talk");
    let mut sockets = everywhere(&server, &users[0], &room);
    let storage = Pid::from_raw(server.pids("storage")[0]);
    kill(storage, Signal::SIGSTOP).expect("stopped");
    let (start, count) = (Instant::now(), sockets.len());
    for number in 0..MESSAGES {
        until("the next one is due", || {
            (start.elapsed() >= number * Duration::from_millis(50)).then_some(())
        });
        let event = json!(["send_message", {"roomId": room, "content": "x"}]);
        sockets[number as usize % count].send(&format!("42{number}{event}"));
    }
    kill(storage, Signal::SIGCONT).expect("continued");
    for number in 0..MESSAGES {
        let socket = &mut sockets[number as usize % count];
        let start = format!("43{number}[");
        let ack = std::iter::repeat_with(|| socket.next()).find(|packet| packet.starts_with(&start));
        assert!(ack.as_ref().is_some_and(|ack| ack.contains(r#""ok":true"#)), "{number}: {ack:?}");
    }
    server.stop();
}

#[test]
fn every_kind_of_event_has_a_bucket_of_its_own() {
    let mut server = server(
        "[limits]\ntyping_per_second = 6\njoins_per_second = 6\nleaves_per_second = 6\nhistory_per_second = 6\n",
    );
    let users = server.new_users("user", 2);
    let room = server.new_room(&users, "talk");
    let mut bob = [Socket::connect(&server, &users[1])];
    let mut sockets = everywhere(&server, &users[0], &room);
    let argument = json!({"roomId": room});
    for event in ["typing", "get_messages", "leave_room", "join_room"] {
        let each = 60 / sockets.len() + 1;
        let flooded = flood(&mut sockets, each, event, &argument);
        // Every worker gives its part, and one bucket for each is the least there can be.
        check(event, 6, &flooded);
        let (acks, _) = flood(&mut bob, 1, event, &argument);
        assert_eq!(acks[0]["ok"], true, "{event}: another user is not concerned: {acks:?}");
    }
    let (acks, _) = flood(&mut sockets, 1, "send_message", &json!({"roomId": room, "content": "x"}));
    assert!(acks.iter().all(|ack| ack["ok"] == true), "nor are messages: {acks:?}");
    server.stop();
}

#[test]
fn changes_of_rooms_over_rest_are_counted_too() {
    let mut server = server("[limits]\nchanges_per_second = 4\n");
    let users = server.new_users("user", 2);
    let body = json!({"name": "r", "participants": []});
    let start = Instant::now();
    let answers: Vec<_> = (0..40).map(|_| server.post("/api/chatrooms", Some(&users[0]), &body)).collect();
    let seconds = start.elapsed().as_secs_f64();
    let done = answers.iter().filter(|answer| answer.status == 201).count();
    assert!(done > 0 && done as f64 <= 4.0 * (1.0 + seconds), "{done} in {seconds} s");
    for refused in answers.iter().filter(|answer| answer.status != 201) {
        assert_eq!(refused.outcome(), "429 RATE_LIMITED");
        assert_eq!(refused.header("retry-after"), Some("1"));
    }
    assert_eq!(server.post("/api/chatrooms", Some(&users[1]), &body).status, 201, "another user");
    let rooms = until("she may go on", || {
        let made = server.post("/api/chatrooms", Some(&users[0]), &body);
        (made.status == 201).then(|| server.get("/api/chatrooms", Some(&users[0])).body)
    });
    assert_eq!(rooms.as_array().map(Vec::len), Some(done + 1), "what was refused left nothing behind");
    server.stop();
}

#[test]
fn connections_of_one_user_are_counted_over_all_workers() {
    const LIMIT: usize = 12;
    let mut server = server("[limits]\nconnections_per_user = 12\n");
    let users = server.new_users("user", 2);
    let fill = |least: usize| {
        let mut held = Vec::new();
        until("one is refused", || {
            match Socket::try_connect(&server, &users[0]) {
                Ok(socket) => held.push(socket),
                Err(refusal) => {
                    assert!(refusal.contains("Too many connections"), "{refusal}");
                    return (held.len() >= least).then_some(());
                }
            }
            None
        });
        held
    };
    let mut held = fill(LIMIT);
    // The workers tell each other at once, but not before: a few may slip through.
    assert!(held.len() <= LIMIT * 3 / 2, "{}", held.len());
    for _ in 0..20 {
        assert!(Socket::try_connect(&server, &users[0]).is_err());
    }
    drop(Socket::connect(&server, &users[1]));
    held.truncate(LIMIT / 2);
    let more = fill(LIMIT / 2);
    assert!(held.len() + more.len() <= LIMIT * 3 / 2, "{} + {}", held.len(), more.len());
    server.stop();
}
