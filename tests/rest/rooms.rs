//! Rooms: made, listed, entered and left.

use serde_json::{Value, json};

use crate::common::rest::User;
use crate::common::{Options, Server};

fn sorted(names: &Value) -> Vec<String> {
    let mut names: Vec<String> =
        names.as_array().expect("names").iter().map(|name| name.as_str().expect("text").to_owned()).collect();
    names.sort();
    names
}

#[test]
fn rooms_are_made_listed_and_paged() {
    let mut server = Server::start(&Options::default());
    let users = server.new_users("user", 3);
    let made = server.post(
        "/api/chatrooms",
        Some(&users[0]),
        &json!({"name": "새해 🎉", "participants": ["user1", "user1", "user0"]}),
    );
    assert_eq!((made.status, &made.body["name"]), (201, &json!("새해 🎉")));
    assert_eq!(sorted(&made.body["participants"]), ["user0", "user1"], "the creator too, nobody twice");
    let alone = server.post("/api/chatrooms", Some(&users[0]), &json!({"name": "alone"}));
    assert_eq!((alone.status, &alone.body["participants"]), (201, &json!(["user0"])));

    let rooms: Vec<Value> =
        (0..25).map(|at| json!({"name": format!("r{at}"), "participants": ["user2"]})).collect();
    let batch = server.post("/api/chatrooms-batch", Some(&users[0]), &json!({"rooms": rooms}));
    assert_eq!((batch.status, &batch.body["errors"]), (201, &json!([])));
    let names: Vec<&str> = batch.body["created"]
        .as_array()
        .expect("created")
        .iter()
        .filter_map(|r| r["name"].as_str())
        .collect();
    assert_eq!(names, (0..25).map(|at| format!("r{at}")).collect::<Vec<_>>(), "order kept");

    let list = server.get("/api/chatrooms", Some(&users[1])).body;
    assert_eq!(list.as_array().map(Vec::len), Some(1));
    let room = &list[0];
    assert_eq!(
        (&room["roomId"], &room["name"], &room["createdBy"], &room["lastSeq"]),
        (&made.body["roomId"], &json!("새해 🎉"), &json!("user0"), &json!(0))
    );
    assert!(room["createdAt"].as_str().is_some_and(|at| at.len() == 24 && at.ends_with('Z')), "{room}");

    let all = server.get("/api/chatrooms", Some(&users[0])).body;
    assert_eq!(all.as_array().map(Vec::len), Some(27));
    let mut paged = Vec::new();
    let mut path = "/api/chatrooms?limit=10".to_owned();
    let mut pages = 0;
    loop {
        let page = server.get(&path, Some(&users[0]));
        assert_eq!(page.status, 200);
        paged.extend(page.body.as_array().expect("rooms").clone());
        pages += 1;
        match page.header("x-next-cursor") {
            Some(cursor) => path = format!("/api/chatrooms?limit=10&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!((pages, Value::from(paged)), (3, all));
    for bad in ["limit=0", "limit=x", "limit=-1", "limit=1000000", "cursor=x"] {
        let answer = server.get(&format!("/api/chatrooms?{bad}"), Some(&users[0]));
        assert_eq!(answer.outcome(), "400 INVALID_REQUEST", "{bad}");
    }
    server.stop();
}

#[test]
fn rooms_that_cannot_be_made() {
    let mut server = Server::start(&Options::default());
    let alice = server.new_users("alice", 1).remove(0);
    let unknown = json!({"name": "r", "participants": ["alice0", "ghost", "유령"]});
    let answer = server.post("/api/chatrooms", Some(&alice), &unknown);
    assert_eq!(answer.outcome(), "400 UNKNOWN_PARTICIPANTS");
    let text = answer.body["error"].as_str().expect("text");
    assert!(text.contains("ghost") && text.contains("유령") && !text.contains("alice0"), "{text}");
    let bodies = [
        json!({}),
        json!({"name": ""}),
        json!({"name": "  "}),
        json!({"name": 5}),
        json!({"name": null}),
        json!({"name": ["r"]}),
        json!({"name": "x".repeat(10_000)}),
        json!({"name": "a\u{0}b"}),
        json!({"name": "r", "participants": "alice0"}),
        json!({"name": "r", "participants": {"0": "alice0"}}),
        json!({"name": "r", "participants": [5]}),
        json!({"name": "r", "participants": [null]}),
        json!({"name": "r", "open": "yes"}),
        json!([]),
        json!("r"),
        json!(null),
        json!(5),
    ];
    for body in &bodies {
        let answer = server.post("/api/chatrooms", Some(&alice), body);
        assert_eq!(answer.outcome(), "400 INVALID_REQUEST", "{body}");
    }
    let batch = json!({"rooms": [{"name": "good"}, {"name": ""}, 7, {"name": "r", "participants": ["ghost"]}, null,
        ["r"], {"name": "fine"}]});
    let answer = server.post("/api/chatrooms-batch", Some(&alice), &batch);
    let (made, errors) = (answer.body["created"].as_array(), answer.body["errors"].as_array());
    assert_eq!((answer.status, made.map(Vec::len), errors.map(Vec::len)), (201, Some(2), Some(5)));
    for body in [json!({}), json!({"rooms": {}}), json!({"rooms": null}), json!([])] {
        let answer = server.post("/api/chatrooms-batch", Some(&alice), &body);
        assert_eq!(answer.outcome(), "400 INVALID_REQUEST", "{body}");
    }
    assert_eq!(server.get("/api/chatrooms", Some(&alice)).body.as_array().map(Vec::len), Some(2));
    server.stop();
}

#[test]
fn inviting_joining_and_leaving() {
    let mut server = Server::start(&Options::default());
    let users = server.new_users("user", 4);
    let room = server.new_room(&users[..1], "closed");
    let call = |user: &User, what: &str, body: Value| {
        server.post(&format!("/api/chatrooms/{room}/{what}"), Some(user), &body)
    };
    let invite = |user: &User, names: Value| call(user, "invite", json!({"participants": names}));

    assert_eq!(invite(&users[1], json!(["user2"])).outcome(), "403 NOT_A_MEMBER");
    let invited = invite(&users[0], json!(["user1", "user1", "user0"]));
    assert_eq!(invited.status, 200, "{invited:?}");
    assert_eq!(sorted(&invited.body["participants"]), ["user0", "user1"]);
    assert_eq!(invite(&users[1], json!(["user2"])).status, 200, "the invited may invite");
    let unknown = invite(&users[0], json!(["ghost"]));
    assert_eq!(unknown.outcome(), "400 UNKNOWN_PARTICIPANTS");
    assert!(unknown.body["error"].as_str().is_some_and(|text| text.contains("ghost")));
    for names in [json!(null), json!("user3"), json!([]), json!([5]), json!({})] {
        assert_eq!(invite(&users[0], names.clone()).outcome(), "400 INVALID_REQUEST", "{names}");
    }

    assert_eq!(call(&users[3], "join", json!({})).outcome(), "403 ROOM_NOT_OPEN");
    assert_eq!(call(&users[3], "leave", json!({})).outcome(), "403 NOT_A_MEMBER");
    let open = server.post("/api/chatrooms", Some(&users[0]), &json!({"name": "open", "open": true})).body;
    let open = open["roomId"].as_str().expect("an id");
    for _ in 0..4 {
        let joined = server.post(&format!("/api/chatrooms/{open}/join"), Some(&users[3]), &json!({}));
        assert_eq!(joined.status, 200, "as often as one likes");
    }
    let history = format!("/api/chatrooms/{room}/messages");
    assert_eq!(server.get(&history, Some(&users[3])).outcome(), "403 NOT_A_MEMBER");
    for member in &users[..3] {
        assert_eq!(server.get(&history, Some(member)).status, 200);
        let left = call(member, "leave", json!({}));
        assert_eq!((left.status, left.body["message"].is_string()), (200, true));
    }
    assert_eq!(server.get(&history, Some(&users[0])).outcome(), "404 ROOM_NOT_FOUND", "the last one out");
    assert_eq!(invite(&users[0], json!(["user1"])).outcome(), "404 ROOM_NOT_FOUND");
    for what in ["invite", "join", "leave"] {
        for nowhere in ["nowhere", "%F0%9F%8E%89", &"x".repeat(5_000), "%00"] {
            let path = format!("/api/chatrooms/{nowhere}/{what}");
            let answer = server.post(&path, Some(&users[0]), &json!({"participants": ["user1"]}));
            assert_eq!(answer.outcome(), "404 ROOM_NOT_FOUND", "{path:.60}");
        }
    }
    server.stop();
}

/// What was stored before stays stored and is told, and so is what comes behind.
#[test]
fn a_step_of_a_batch_that_is_refused_is_told_entry_by_entry() {
    let mut server = Server::start(&Options::default());
    let alice = server.new_users("alice", 1).remove(0);
    // More than the storage writer takes at a time.
    let names = vec!["🎉".repeat(100); 45_000];
    let mut names: Vec<String> = names.into_iter().zip(0..).map(|(name, at)| format!("{at}{name}")).collect();
    names.iter_mut().for_each(|name| *name = name.chars().take(100).collect());
    let huge = json!({"name": "huge", "participants": names});
    let refused = server.post("/api/chatrooms-batch", Some(&alice), &json!({"rooms": [huge, huge]}));
    assert_eq!(refused.outcome(), "413 BODY_TOO_LARGE", "nothing stored, nothing else to say");
    assert_eq!(server.post("/api/chatrooms", Some(&alice), &huge).outcome(), "413 BODY_TOO_LARGE");

    let mut rooms: Vec<Value> = (0..600).map(|at| json!({"name": format!("r{at}")})).collect();
    rooms.insert(550, huge);
    let batch = server.post("/api/chatrooms-batch", Some(&alice), &json!({"rooms": rooms}));
    assert_eq!(batch.status, 201, "{batch:?}");
    let errors = batch.body["errors"].as_array().expect("errors");
    assert_eq!((errors.len(), &errors[0]["name"]), (1, &json!("huge")));
    assert!(errors[0]["error"].as_str().is_some_and(|text| text.contains("too large")), "{errors:?}");
    let created = batch.body["created"].as_array().expect("created");
    let names: Vec<&str> = created.iter().filter_map(|room| room["name"].as_str()).collect();
    assert_eq!(names, (0..600).map(|at| format!("r{at}")).collect::<Vec<_>>(), "order kept");
    assert_eq!(server.get("/api/chatrooms", Some(&alice)).body.as_array().map(Vec::len), Some(600));
    server.stop();
}

/// So many callers at one moment are a crowd, and no attack.
#[test]
fn many_reads_and_invitations_at_once_all_succeed() {
    const CALLERS: usize = 150;
    let mut server = Server::start(&Options { workers: 1, ..Options::default() });
    let users = server.new_users("user", 3);
    let room = server.new_room(&users[..1], "busy");
    let rooms: Vec<Value> =
        (0..900).map(|at| json!({"name": format!("r{at}"), "participants": ["user1"]})).collect();
    assert_eq!(server.post("/api/chatrooms-batch", Some(&users[0]), &json!({"rooms": rooms})).status, 201);
    let path = format!("/api/chatrooms/{room}/invite");
    let together = std::sync::Barrier::new(2 * CALLERS);
    let invited: Vec<String> = std::thread::scope(|scope| {
        let list = || {
            together.wait();
            assert_eq!(server.get("/api/chatrooms", Some(&users[0])).outcome(), "200");
        };
        let invite = || {
            together.wait();
            server.post(&path, Some(&users[0]), &json!({"participants": ["user2"]})).outcome()
        };
        (0..CALLERS).for_each(|_| drop(scope.spawn(list)));
        let calls: Vec<_> = (0..CALLERS).map(|_| scope.spawn(invite)).collect();
        calls.into_iter().map(|call| call.join().expect("answered")).collect()
    });
    assert_eq!(invited, vec!["200"; CALLERS]);
    server.stop();
}
