//! Administrators delete everything: all of it or nothing, whatever dies meanwhile.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use common::rest::{Answer, User};
use common::server::minitalk;
use common::socket::Socket;
use common::{Options, Server, until, whole_lines};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

const USERS: &str = "/api/auth/delete-all-users";
const MESSAGES: &str = "/api/messages/delete-all";

fn server() -> Server {
    let tables = "[storage]\nmessages_per_file = 50\ncompact_min_bytes = 4096\n";
    Server::start(&Options { top: "admins = [\"root0\", \"root1\"]", tables, ..Options::default() })
}

fn delete(server: &Server, path: &str, user: Option<&User>, code: &Value) -> Answer {
    let body = json!({"confirmationCode": code}).to_string();
    server.call_bytes("DELETE", path, user.map(|user| user.token.as_str()), body.as_bytes())
}

fn delete_users(server: &Server, user: &User) -> Answer {
    delete(server, USERS, Some(user), &json!("DELETE_ALL_USERS_CONFIRM"))
}

fn delete_messages(server: &Server, user: &User) -> Answer {
    delete(server, MESSAGES, Some(user), &json!("DELETE_ALL_MESSAGES_CONFIRM"))
}

fn assert_clean(server: &Server) {
    let verified = server.verify();
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
}

fn messages(server: &Server, user: &User, room: &str, query: &str) -> Vec<u64> {
    let answer = server.get(&format!("/api/chatrooms/{room}/messages?{query}"), Some(user));
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body.as_array().unwrap().iter().map(|message| message["seq"].as_u64().unwrap()).collect()
}

fn audit(data_dir: &Path) -> Vec<Value> {
    let lines = whole_lines(&data_dir.join("admin.jsonl"));
    lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn only_administrators_who_mean_it_may() {
    let server = server();
    let root = &server.new_users("root", 1)[0];
    let user = &server.new_users("user", 1)[0];
    for (path, code) in [(USERS, "DELETE_ALL_USERS_CONFIRM"), (MESSAGES, "DELETE_ALL_MESSAGES_CONFIRM")] {
        assert_eq!(delete(&server, path, None, &json!(code)).outcome(), "401 UNAUTHORIZED");
        let forged = User { token: "x".into(), ..root.clone() };
        assert_eq!(delete(&server, path, Some(&forged), &json!(code)).outcome(), "401 UNAUTHORIZED");
        let refused = delete(&server, path, Some(user), &json!(code));
        assert_eq!(refused.outcome(), "403 FORBIDDEN");
        assert_eq!(refused.body["error"], "Only an administrator may do this");
        for wrong in [json!("yes"), json!(null), json!(7), json!([code]), json!(code.to_lowercase())] {
            let refused = delete(&server, path, Some(root), &wrong);
            assert_eq!(refused.outcome(), "400 INVALID_REQUEST", "{wrong}");
            assert!(refused.body["error"].as_str().unwrap().contains(code), "{refused:?}");
        }
        let none = server.call_bytes("DELETE", path, Some(&root.token), b"");
        assert_eq!(none.outcome(), "400 INVALID_REQUEST");
        assert_eq!(server.post(path, Some(root), &json!({})).status, 405);
        let described = server.get("/api/openapi.json", None);
        assert!(described.body["paths"][path]["delete"]["responses"]["403"].is_object());
    }
    assert!(audit(&server.data_dir).is_empty());
    assert_eq!(server.get("/api/chatrooms", Some(user)).status, 200);
}

#[test]
fn all_users_go_and_numbers_go_on() {
    let mut server = server();
    let root = server.new_users("root", 2);
    let users = server.new_users("user", 20);
    let room = server.new_room(&users, "all");
    let mut sockets: Vec<Socket> = users.iter().map(|user| Socket::connect(&server, user)).collect();
    sockets[0].say_many(&room, 1, 4);
    let done = delete_users(&server, &root[0]);
    assert_eq!((done.status, &done.body["deletedCount"]), (200, &json!(22)), "{done:?}");
    assert_eq!(done.body["message"], "22 users deleted");
    assert!(done.body["timestamp"].as_str().unwrap().ends_with('Z'));
    for socket in &mut sockets {
        until("the socket is closed", || socket.try_next().is_none().then_some(()));
    }
    for user in root.iter().chain(&users) {
        assert_eq!(server.get("/api/chatrooms", Some(user)).outcome(), "401 UNAUTHORIZED");
    }
    let again = delete_users(&server, &root[1]);
    assert_eq!(again.outcome(), "401 UNAUTHORIZED");
    let newcomers = server.new_users("user", 2);
    assert_eq!(newcomers.iter().map(|user| user.number).collect::<Vec<_>>(), [23, 24]);
    // A token of the name's former owner is still good for nothing.
    assert_eq!(server.get("/api/chatrooms", Some(&users[0])).status, 401);
    assert_eq!(server.get("/api/chatrooms", Some(&newcomers[0])).body, json!([]));
    let gone = server.get(&format!("/api/chatrooms/{room}/messages"), Some(&newcomers[0]));
    assert_eq!(gone.outcome(), "404 ROOM_NOT_FOUND");
    let log = audit(&server.data_dir);
    assert_eq!(log.len(), 1);
    assert_eq!(
        (&log[0]["event"], &log[0]["byName"], &log[0]["by"], &log[0]["users"]),
        (&json!("usersDeleted"), &json!("root0"), &json!(1), &json!(22))
    );
    assert_clean(&server);
    for _ in 0..2 {
        server = server.start_again();
        assert_eq!(server.get("/api/chatrooms", Some(&newcomers[0])).body, json!([]));
        assert_eq!(server.get("/api/chatrooms", Some(&users[3])).status, 401);
        // And with an index built from the logs alone.
        server.stop();
        let reindexed = minitalk().args(["reindex", "--data-dir"]).arg(&server.data_dir).status().unwrap();
        assert!(reindexed.success());
    }
    server = server.start_again();
    assert_eq!(server.new_users("later", 1)[0].number, 25);
    assert_clean(&server);
}

#[test]
fn all_messages_go_and_seq_goes_on() {
    let mut server = server();
    let root = server.new_users("root", 1);
    let users = server.new_users("user", 3);
    let room = server.new_room(&users, "all");
    let mut socket = Socket::connect(&server, &users[0]);
    socket.say_many(&room, 0, 120);
    let done = delete_messages(&server, &root[0]);
    assert_eq!((done.status, &done.body["deletedCount"]), (200, &json!(120)), "{done:?}");
    assert_eq!(done.body["message"], "120 messages deleted");
    for query in ["", "after=0", "before=50", "since=2020-01-01T00:00:00Z"] {
        assert!(messages(&server, &users[1], &room, query).is_empty(), "{query}");
    }
    assert_eq!(server.get("/api/chatrooms", Some(&users[1])).body[0]["lastSeq"], 0);
    assert_eq!(server.message_files().iter().map(|(_, lines)| lines.len()).sum::<usize>(), 0);
    // Nothing is left of them, and it is known how far they went.
    server.stop();
    for (name, _) in server.message_files() {
        std::fs::remove_file(server.data_dir.join(name)).unwrap();
    }
    std::fs::remove_dir_all(server.data_dir.join("index")).unwrap();
    server = server.start_again();
    let mut socket = Socket::connect(&server, &users[0]);
    let acks = socket.say_many(&room, 0, 60);
    assert_eq!(acks[0]["seq"], 121);
    assert_eq!(messages(&server, &users[1], &room, "limit=1000"), (121..=180).collect::<Vec<u64>>());
    let names: Vec<String> = server.message_files().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["messages_000004.jsonl", "messages_000005.jsonl"]);
    assert_clean(&server);
    let done = delete_messages(&server, &root[0]);
    assert_eq!(done.body["deletedCount"], 60, "{done:?}");
    let none = delete_messages(&server, &root[0]);
    assert_eq!(none.body["deletedCount"], 0, "{none:?}");
    let log = audit(&server.data_dir);
    let counts: Vec<&Value> = log.iter().map(|line| &line["messages"]).collect();
    assert_eq!(counts, [&json!(120), &json!(60), &json!(0)]);
    assert_eq!(Socket::connect(&server, &users[1]).say_many(&room, 0, 1)[0]["seq"], 181);
    assert_clean(&server);
}

#[test]
fn of_two_administrators_one_deletes_the_users() {
    for _ in 0..5 {
        let server = server();
        let root = server.new_users("root", 2);
        server.new_users("user", 30);
        let answers: Vec<Answer> = std::thread::scope(|scope| {
            let calls: Vec<_> = root.iter().map(|root| scope.spawn(|| delete_users(&server, root))).collect();
            calls.into_iter().map(|call| call.join().unwrap()).collect()
        });
        let mut outcomes: Vec<String> = answers.iter().map(Answer::outcome).collect();
        outcomes.sort();
        assert_eq!(outcomes, ["200", "401 UNAUTHORIZED"]);
        assert_eq!(audit(&server.data_dir).len(), 1);
        assert_clean(&server);
    }
}

/// Kills the storage writer at moments of its own choosing until told to stop.
fn killing<T>(server: &Server, work: impl FnOnce() -> T) -> T {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let killer = scope.spawn(|| {
            let mut kills = 0u64;
            while !stop.load(Ordering::Relaxed) {
                if let [pid] = server.pids("storage")[..]
                    && pid > 1
                {
                    // Different moments of what it does.
                    std::thread::sleep(std::time::Duration::from_micros(kills * 7_919 % 60_000));
                    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
                    kills += 1;
                }
                until("another one is there", || {
                    stop.load(Ordering::Relaxed)
                        .then_some(())
                        .or_else(|| (server.get("/ready", None).status == 200).then_some(()))
                });
            }
            kills
        });
        let done = work();
        stop.store(true, Ordering::Relaxed);
        assert!(killer.join().unwrap() > 0);
        done
    })
}

#[test]
fn killed_at_any_moment_it_is_all_or_nothing() {
    let server = server();
    let mut expected = (0, 0);
    let mut stored = 0;
    killing(&server, || {
        for round in 0..12 {
            let root = server.new_users("root", 1);
            let users = server.new_users("user", 20);
            let room = server.new_room(&users, "all");
            // Every answer comes, late: the operation is sent again to the next writer.
            let mut socket = Socket::connect(&server, &users[0]);
            let acks = socket.say_many(&room, 0, 70);
            for ack in acks {
                stored += 1;
                assert_eq!(ack["seq"], stored, "no number twice, none left out");
            }
            let done = delete_messages(&server, &root[0]);
            assert_eq!((done.status, &done.body["deletedCount"]), (200, &json!(70)), "{round}: {done:?}");
            assert!(messages(&server, &users[1], &room, "after=0").is_empty(), "{round}");
            let done = delete_users(&server, &root[0]);
            assert_eq!((done.status, &done.body["deletedCount"]), (200, &json!(21)), "{round}: {done:?}");
            assert_eq!(server.get("/api/chatrooms", Some(&users[0])).status, 401, "{round}");
            assert_eq!(users[19].number, (round + 1) * 21, "numbers go on");
            expected = (expected.0 + 1, expected.1 + 1);
        }
    });
    let log = audit(&server.data_dir);
    let of = |event: &str| log.iter().filter(|line| line["event"] == event).count();
    assert_eq!((of("usersDeleted"), of("messagesDeleted")), expected, "each was done once");
    assert_clean(&server);
}

#[test]
fn killed_while_it_compacts_under_load_nothing_is_lost() {
    let server = server();
    let users = server.new_users("user", 4);
    let kept = killing(&server, || {
        let mut kept = Vec::new();
        for round in 0..30 {
            let rooms: Vec<Value> = (0..8)
                .map(|at| json!({"name": format!("{round} {at}"), "participants": ["user1", "user2"]}))
                .collect();
            let made = server.post("/api/chatrooms-batch", Some(&users[0]), &json!({"rooms": rooms}));
            assert_eq!(made.status, 201, "{made:?}");
            let ids: Vec<String> = made.body["created"]
                .as_array()
                .unwrap()
                .iter()
                .map(|room| room["roomId"].as_str().unwrap().to_owned())
                .collect();
            assert_eq!(ids.len(), 8, "{made:?}");
            for id in &ids[1..] {
                for user in &users[..3] {
                    let left = server.post(&format!("/api/chatrooms/{id}/leave"), Some(user), &json!({}));
                    assert_eq!(left.status, 200, "{left:?}");
                }
            }
            kept.push(ids[0].clone());
        }
        kept
    });
    until("a log was compacted", || {
        let text = std::fs::read_to_string(server.data_dir.join("chatrooms.jsonl")).unwrap();
        text.starts_with("{\"rev\":0,\"event\":\"compacted\"").then_some(())
    });
    assert_clean(&server);
    let server = server.start_again();
    for user in &users[..3] {
        let listed = server.get("/api/chatrooms?limit=1000", Some(user));
        let listed: Vec<&str> =
            listed.body.as_array().unwrap().iter().map(|room| room["roomId"].as_str().unwrap()).collect();
        assert_eq!(listed, kept);
    }
}
