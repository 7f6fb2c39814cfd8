//! Rooms with very many people and people in very many rooms: all of it works, and all of it is named.
#![allow(clippy::expect_used, reason = "tests")]

mod common;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use common::rest::{Answer, User};
use common::socket::Socket;
use common::{Options, Server};
use serde_json::{Value, json};

fn names(answer: &Value) -> Vec<String> {
    let names = answer["participants"].as_array().expect("names").iter();
    names.map(|name| name.as_str().expect("text").to_owned()).collect()
}

fn page(server: &Server, user: &User, room_id: &str, limit: usize, cursor: Option<&str>) -> Answer {
    let cursor = cursor.map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
    server.get(&format!("/api/chatrooms/{room_id}/participants?limit={limit}{cursor}"), Some(user))
}

/// All participants, page by page, whichever worker answers.
fn everybody(server: &Server, user: &User, room_id: &str, limit: usize) -> Vec<String> {
    let (mut all, mut cursor) = (Vec::new(), None::<String>);
    loop {
        let page = page(server, user, room_id, limit, cursor.as_deref());
        assert_eq!(page.status, 200, "{page:?}");
        let named = names(&page.body);
        assert!(named.len() <= limit && (!named.is_empty() || cursor.is_none()), "{page:?}");
        all.extend(named);
        match &page.body["nextCursor"] {
            Value::Null => return all,
            next => cursor = Some(next.as_str().expect("text").to_owned()),
        }
    }
}

/// Users by name alone, for rooms that need many.
fn sign_up(server: &Server, prefix: &str, count: usize) -> Vec<String> {
    let names: Vec<String> = (0..count).map(|at| format!("{prefix}{at}")).collect();
    let users: Vec<Value> = names.iter().map(|name| json!({"username": name, "password": "x"})).collect();
    let made = server.post("/api/auth/signup-batch", None, &json!({"users": users}));
    assert_eq!(made.body["created"].as_array().expect("created").len(), count, "{}", made.body["errors"]);
    names
}

#[test]
fn a_room_of_twenty_thousand() {
    let mut server = Server::start(&Options::default());
    let users = server.new_users("user", 3);
    let crowd = sign_up(&server, "crowd", 20_000);
    let wanted = json!({"name": "crowd", "participants": crowd});
    let made = server.post("/api/chatrooms", Some(&users[0]), &wanted);
    assert_eq!((made.status, &made.body["participantCount"]), (201, &json!(20_001)), "{:?}", made.head);
    let mut expected = vec!["user0".to_owned()];
    expected.extend(crowd.iter().cloned());
    assert_eq!(names(&made.body), expected[..1_000]);
    let room_id = made.body["roomId"].as_str().expect("id").to_owned();

    let invited = server.post(
        &format!("/api/chatrooms/{room_id}/invite"),
        Some(&users[0]),
        &json!({"participants": ["user1", "crowd5"]}),
    );
    assert_eq!((invited.status, &invited.body["participantCount"]), (200, &json!(20_002)), "{invited:?}");
    expected.push("user1".to_owned());
    assert_eq!(names(&invited.body), expected[..1_000]);

    let listed = server.get("/api/chatrooms", Some(&users[1]));
    assert_eq!(listed.body[0]["participantCount"], 20_002);
    assert_eq!(names(&listed.body[0]), expected[..1_000]);

    for limit in [1_000, 999, 7_000] {
        if limit > 1_000 {
            assert_eq!(page(&server, &users[0], &room_id, limit, None).outcome(), "400 INVALID_REQUEST");
        } else {
            assert_eq!(everybody(&server, &users[1], &room_id, limit), expected, "pages of {limit}");
        }
    }

    // The first and the last to come hear each other.
    let mut first = Socket::connect(&server, &users[0]);
    let mut last = Socket::connect(&server, &users[1]);
    assert_eq!(first.say_many(&room_id, 0, 5).len(), 5);
    for number in 0..5 {
        let heard = last.next();
        assert!(heard.starts_with("42[\"message\"") && heard.contains(&format!("\"content\":\"{number}\"")));
    }
    let left = server.post(&format!("/api/chatrooms/{room_id}/leave"), Some(&users[0]), &json!({}));
    assert_eq!(left.status, 200);
    assert_eq!(everybody(&server, &users[1], &room_id, 1_000), expected[1..]);
    server.stop();
}

#[test]
fn pages_while_others_come_and_go_name_all_who_stay_once() {
    let mut server = Server::start(&Options::default());
    let users = server.new_users("user", 4);
    let crowd = sign_up(&server, "stays", 3_000);
    let wanted = json!({"name": "n", "open": true, "participants": crowd});
    let made = server.post("/api/chatrooms", Some(&users[0]), &wanted);
    let room_id = made.body["roomId"].as_str().expect("id").to_owned();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for user in &users[1..] {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    for call in ["join", "leave"] {
                        let path = format!("/api/chatrooms/{room_id}/{call}");
                        assert_eq!(server.post(&path, Some(user), &json!({})).status, 200);
                    }
                }
            });
        }
        for _ in 0..5 {
            let all = everybody(&server, &users[0], &room_id, 211);
            let staying: Vec<&String> = all.iter().filter(|name| name.starts_with("stays")).collect();
            assert!(staying.iter().copied().eq(crowd.iter()), "{} of 3000", staying.len());
            let once: BTreeSet<&String> = staying.into_iter().collect();
            assert_eq!(once.len(), crowd.len());
            assert_eq!(all[0], "user0");
        }
        done.store(true, Ordering::Relaxed);
    });
    server.stop();
}

#[test]
fn who_may_ask_for_participants_and_how() {
    let mut server = Server::start(&Options::default());
    let users = server.new_users("user", 2);
    let room_id = server.new_room(&users[..1], "n");
    let path = format!("/api/chatrooms/{room_id}/participants");
    let whole = json!({"participants": ["user0"], "participantCount": 1, "nextCursor": null});
    assert_eq!(server.get(&path, Some(&users[0])).body, whole);
    assert_eq!(server.get(&path, Some(&users[1])).outcome(), "403 NOT_A_MEMBER");
    assert_eq!(server.get(&path, None).outcome(), "401 UNAUTHORIZED");
    for none in ["nothing".to_owned(), "x".repeat(5_000), "%00".to_owned()] {
        let path = format!("/api/chatrooms/{none}/participants");
        assert_eq!(server.get(&path, Some(&users[0])).outcome(), "404 ROOM_NOT_FOUND");
    }
    for bad in ["limit=0", "limit=1001", "limit=many", "limit=-1", "cursor=", "cursor=%20", "cursor=xyz"] {
        let answer = server.get(&format!("{path}?{bad}"), Some(&users[0]));
        assert_eq!(answer.outcome(), "400 INVALID_REQUEST", "{bad}");
    }
    // A cursor behind everybody.
    let end = server.get(&format!("{path}?cursor=7fffffffffffffff"), Some(&users[0]));
    let nobody = json!({"participants": [], "participantCount": 1, "nextCursor": null});
    assert_eq!(end.body, nobody);
    server.stop();
}

#[test]
fn a_list_of_large_rooms_stays_bounded_and_says_how_many_there_are() {
    let mut server = Server::start(&Options::default());
    let users = server.new_users("user", 1);
    let crowd = sign_up(&server, "c", 1_199);
    let rooms: Vec<Value> =
        (0..120).map(|at| json!({"name": format!("{at}"), "participants": crowd})).collect();
    let made = server.post("/api/chatrooms-batch", Some(&users[0]), &json!({"rooms": rooms}));
    let created = made.body["created"].as_array().expect("created");
    assert_eq!(created.len(), 120, "{}", made.body["errors"]);
    assert!(created.iter().all(|room| room["participantCount"] == 1_200 && names(room).len() == 1_000));
    let listed = server.get("/api/chatrooms", Some(&users[0]));
    let listed = listed.body.as_array().expect("rooms");
    assert_eq!(listed.len(), 120);
    for (at, room) in listed.iter().enumerate() {
        let shown = if at < 100 { 1_000 } else { 10 };
        assert_eq!((&room["participantCount"], names(room).len()), (&json!(1_200), shown), "room {at}");
        assert_eq!(names(room)[..2], ["user0", "c0"]);
    }
    server.stop();
}

/// Rooms of these users, made in one call; their ids.
fn rooms_of(server: &Server, creator: &User, others: &[&User], count: usize) -> Vec<String> {
    let others: Vec<&str> = others.iter().map(|user| user.name.as_str()).collect();
    let rooms: Vec<Value> =
        (0..count).map(|at| json!({"name": format!("{at}"), "participants": others})).collect();
    let made = server.post("/api/chatrooms-batch", Some(creator), &json!({"rooms": rooms}));
    let created = made.body["created"].as_array().expect("created");
    assert_eq!(created.len(), count, "{}", made.body["errors"]);
    created.iter().map(|room| room["roomId"].as_str().expect("id").to_owned()).collect()
}

/// Has a socket hear until a message with that content comes; the contents before it.
fn heard_until(socket: &mut Socket, last: &str) -> Vec<String> {
    let mut heard = Vec::new();
    loop {
        let packet = socket.next();
        let event: Value = serde_json::from_str(packet.strip_prefix("42").expect("an event")).expect("JSON");
        assert_eq!(event[0], "message", "{packet}");
        let content = event[1]["content"].as_str().expect("text");
        if content == last {
            return heard;
        }
        heard.push(content.to_owned());
    }
}

fn say(socket: &mut Socket, room_id: &str, content: &str) {
    let event = json!(["send_message", {"roomId": room_id, "content": content}]);
    socket.send(&format!("421{event}"));
    while !socket.next().starts_with("431[") {}
}

#[test]
fn a_user_in_ten_thousand_rooms() {
    let mut server = Server::start(&Options::default());
    let users = server.new_users("user", 2);
    let (busy, helper) = (&users[0], &users[1]);
    let shared = rooms_of(&server, helper, &[busy], 200);
    rooms_of(&server, busy, &[], 9_800);
    let mut speaker = Socket::connect(&server, helper);
    for round in 0..3 {
        // Two sockets at once, so that both workers and a second socket of one user get their turn.
        let mut listeners = [Socket::connect(&server, busy), Socket::connect(&server, busy)];
        for (at, room) in shared.iter().enumerate() {
            say(&mut speaker, room, &format!("{round} {at}"));
        }
        say(&mut speaker, &shared[0], "end");
        let expected: Vec<String> = (0..shared.len()).map(|at| format!("{round} {at}")).collect();
        for listener in &mut listeners {
            assert_eq!(heard_until(listener, "end"), expected);
        }
    }
    let mut all = 0;
    let mut cursor = String::new();
    loop {
        let listed = server.get(&format!("/api/chatrooms?limit=1000{cursor}"), Some(busy));
        all += listed.body.as_array().expect("rooms").len();
        match listed.header("x-next-cursor") {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(all, 10_000);
    server.stop();
}

#[test]
fn changes_of_membership_while_a_client_enters_are_neither_lost_nor_undone() {
    let mut server = Server::start(&Options::default());
    let users = server.new_users("user", 3);
    let (busy, helper, other) = (&users[0], &users[1], &users[2]);
    rooms_of(&server, busy, &[], 4_000);
    let common = &rooms_of(&server, helper, &[busy, other], 1)[0];
    let left = rooms_of(&server, helper, &[busy], 30);
    let joined = rooms_of(&server, helper, &[other], 30);
    let mut speaker = Socket::connect(&server, helper);
    for (left, joined) in left.iter().zip(&joined) {
        let mut listener = std::thread::scope(|scope| {
            let entering = scope.spawn(|| Socket::connect(&server, busy));
            let leave = format!("/api/chatrooms/{left}/leave");
            let invite = format!("/api/chatrooms/{joined}/invite");
            let body = json!({"participants": [busy.name]});
            let server = &server;
            scope.spawn(move || assert_eq!(server.post(&leave, Some(busy), &json!({})).status, 200));
            assert_eq!(server.post(&invite, Some(other), &body).status, 200);
            entering.join().expect("entered")
        });
        say(&mut speaker, left, "left");
        say(&mut speaker, joined, "joined");
        say(&mut speaker, common, "end");
        assert_eq!(heard_until(&mut listener, "end"), ["joined"]);
    }
    server.stop();
}

#[test]
fn callers_are_remembered_and_the_page_of_figures_says_how_well() {
    let mut server = Server::start(&Options::default());
    let users = server.new_users("user", 3);
    for _ in 0..10 {
        for user in &users {
            assert_eq!(server.get("/api/chatrooms", Some(user)).status, 200);
        }
    }
    // At most one of a user's calls to each worker is news to it.
    let whole = common::until("all calls are counted", || {
        let stats = server.get("/api/stats", None);
        let cache = stats.body["caches"].as_array()?.iter().find(|cache| cache["name"] == "users")?.clone();
        let count = |name: &str| cache[name].as_u64().expect("a number");
        (count("hits") + count("misses") >= 30).then_some((count("hits"), count("misses"), count("entries")))
    });
    let (hits, misses, entries) = whole;
    assert!((3..=6).contains(&misses) && entries == misses && hits == 30 - misses, "{whole:?}");
    server.stop();
}
