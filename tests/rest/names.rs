//! One name, however a client spells it: composed, or taken apart as on a Mac.

use std::io::Write;

use minitalk::chat::OpId;
use minitalk::journal::record::{self, Profile, UserChange, UserRecord};
use serde_json::{Value, json};

use crate::common::rest::user;
use crate::common::socket::Socket;
use crate::common::{Options, Server};

const COMPOSED: &str = "김é";
const APART: &str = "\u{1100}\u{1175}\u{11b7}e\u{301}";

fn account(name: &str) -> Value {
    json!({"username": name, "password": "password"})
}

fn login(server: &Server, name: &str) -> Value {
    let login = server.post("/api/auth/login", None, &account(name));
    assert_eq!(login.status, 200, "{name:?}: {login:?}");
    login.body
}

#[test]
fn a_name_is_one_name_in_every_spelling() {
    let mut server = Server::start(&Options { top: "admins = [\"김é\"]", ..Options::default() });
    let made = server.post("/api/auth/signup", None, &account(APART));
    assert_eq!((made.status, &made.body["username"]), (201, &json!(COMPOSED)), "{made:?}");
    for spelling in [COMPOSED, APART] {
        assert_eq!(server.post("/api/auth/signup", None, &account(spelling)).outcome(), "409 USERNAME_TAKEN");
        let login = login(&server, spelling);
        assert_eq!((&login["username"], &login["userId"]), (&json!(COMPOSED), &json!(1)));
    }
    let twice = "\u{1112}\u{1161}\u{11ab}";
    let batch = json!({"users": [account(twice), account("한"), account(APART), account("other")]});
    let made = server.post("/api/auth/signup-batch", None, &batch);
    assert_eq!(made.body["created"], json!([{"username": "한", "id": 2}, {"username": "other", "id": 3}]));
    assert_eq!(
        (&made.body["errors"][0]["username"], &made.body["errors"][1]["username"]),
        (&json!("한"), &json!(APART))
    );
    // A hundred syllables, each of three characters.
    let long = account(&twice.repeat(100));
    assert_eq!(server.post("/api/auth/signup", None, &long).status, 201);

    let me = user(&login(&server, APART));
    let named = json!({"name": "r", "participants": [twice, "한", APART, twice.repeat(100)]});
    let room = server.post("/api/chatrooms", Some(&me), &named);
    let participants = json!([COMPOSED, "한", "한".repeat(100)]);
    assert_eq!((room.status, &room.body["participants"]), (201, &participants), "{room:?}");
    assert_eq!(room.body["participantCount"], json!(3));
    let id = room.body["roomId"].as_str().expect("a room").to_owned();
    let listed = server.get(&format!("/api/chatrooms/{id}/participants"), Some(&me));
    assert_eq!(listed.body["participants"], participants);
    let again = json!({"participants": [twice, "other"]});
    let invited = server.post(&format!("/api/chatrooms/{id}/invite"), Some(&me), &again);
    assert_eq!(invited.body["participantCount"], json!(4), "{invited:?}");

    Socket::connect(&server, &me).say_all(&id, &["hello"]);
    let apart = "%E1%84%80%E1%85%B5%E1%86%B7e%CC%81";
    let found = server.get(&format!("/api/messages/search?q=hello&sender={apart}"), Some(&me));
    assert_eq!(found.body["messages"][0]["sender"], json!(COMPOSED), "{found:?}");
    let code = json!({"confirmationCode": "DELETE_ALL_MESSAGES_CONFIRM"}).to_string();
    let deleted = server.call_bytes("DELETE", "/api/messages/delete-all", Some(&me.token), code.as_bytes());
    assert_eq!(deleted.body["deletedCount"], json!(1), "{deleted:?}");
    server.stop();
}

/// Adds users to the log as servers before that rule wrote them.
fn add(server: &Server, names: &[&str]) {
    let path = server.data_dir.join("users.jsonl");
    let text = std::fs::read_to_string(&path).expect("readable");
    let first: Value = serde_json::from_str(text.lines().next().expect("a user")).expect("a record");
    let mut lines = Vec::new();
    for (at, name) in names.iter().enumerate() {
        let rev = text.lines().count() as u64 + 1 + at as u64;
        let password = first["password"].as_str().map(str::to_owned);
        let profile = Profile { username: (*name).to_owned(), password, ..Profile::default() };
        let (op, change) = (OpId { instance: 1, count: rev }, UserChange::Created(profile));
        record::encode(&UserRecord { rev, op, user_id: rev, change, at: 0, synced: 0 }, &mut lines);
    }
    let mut log = std::fs::OpenOptions::new().append(true).open(path).expect("writable");
    log.write_all(&lines).expect("written");
}

#[test]
fn users_of_before_are_found_by_every_spelling_and_stay_who_they_are() {
    let mut server = Server::start(&Options::default());
    server.new_users("user", 1);
    server.stop();
    let (twin, twin_apart) = ("쌍", "\u{110a}\u{1161}\u{11bc}");
    add(&server, &[APART, twin, twin_apart]);
    for _ in 0..2 {
        server = server.start_again();
        for spelling in [COMPOSED, APART] {
            let found = login(&server, spelling);
            assert_eq!((&found["username"], &found["userId"]), (&json!(APART), &json!(2)));
            let taken = server.post("/api/auth/signup", None, &account(spelling));
            assert_eq!(taken.outcome(), "409 USERNAME_TAKEN");
        }
        // Two of one name stay two, each by their own spelling.
        assert_eq!(login(&server, twin)["userId"], json!(3));
        assert_eq!(login(&server, twin_apart)["userId"], json!(4));
        let me = user(&login(&server, twin_apart));
        let room = json!({"name": "r", "participants": [COMPOSED, twin]});
        let room = server.post("/api/chatrooms", Some(&me), &room);
        assert_eq!(room.status, 201, "{room:?}");
        let id = room.body["roomId"].as_str().expect("a room");
        let listed = server.get(&format!("/api/chatrooms/{id}/participants"), Some(&me));
        assert_eq!(listed.body["participants"], json!([twin_apart, APART, twin]));
        server.stop();
        // Once more with an index built anew.
        std::fs::remove_dir_all(server.data_dir.join("index")).expect("removed");
    }
}
