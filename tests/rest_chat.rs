//! Accounts, rooms and history over REST, and every way to get a call wrong.
#![allow(clippy::expect_used, reason = "tests")]

mod common;

use std::time::{SystemTime, UNIX_EPOCH};

use common::rest::{User, user};
use common::server::SECRET;
use common::socket::Socket;
use common::{Options, Server};
use serde_json::{Value, json};

fn sorted(names: &Value) -> Vec<String> {
    let mut names: Vec<String> =
        names.as_array().expect("names").iter().map(|name| name.as_str().expect("text").to_owned()).collect();
    names.sort();
    names
}

#[test]
fn signing_up_and_logging_in() {
    let mut server = Server::start(&Options::default());
    for name in ["alice", "테스트유저1", "José", "🎉 party", "日本語", "o'brien; DROP TABLE users", "a\"b\\c"]
    {
        let account = json!({"username": name, "password": "비밀번호 🔑"});
        let made = server.post("/api/auth/signup", None, &account);
        assert_eq!((made.status, &made.body["username"]), (201, &json!(name)), "{made:?}");
        assert!(made.body["message"].is_string());
        // Taken now, whichever worker is asked; and the next fresh name is fine.
        for _ in 0..6 {
            let again = server.post("/api/auth/signup", None, &account);
            assert_eq!(again.outcome(), "409 USERNAME_TAKEN");
        }
        let fresh = json!({"username": format!("{name}2"), "password": "x"});
        assert_eq!(server.post("/api/auth/signup", None, &fresh).status, 201);
        let login = server.post("/api/auth/login", None, &account);
        assert_eq!((login.status, &login.body["username"]), (200, &json!(name)));
        assert_eq!(server.get("/api/chatrooms", Some(&user(&login.body))).status, 200);
    }
    let wrong = server.post("/api/auth/login", None, &json!({"username": "alice", "password": "x"}));
    let nobody = server.post("/api/auth/login", None, &json!({"username": "nobody", "password": "x"}));
    assert_eq!(wrong.outcome(), "401 INVALID_CREDENTIALS");
    assert_eq!((wrong.status, &wrong.body), (nobody.status, &nobody.body), "no telling which was wrong");
    server.stop();
}

#[test]
fn one_of_many_who_want_the_same_name_gets_it() {
    let mut server = Server::start(&Options::default());
    for round in 0..5 {
        let account = json!({"username": format!("wanted{round}"), "password": "x"});
        let statuses: Vec<u16> = std::thread::scope(|scope| {
            let calls: Vec<_> = (0..16)
                .map(|_| scope.spawn(|| server.post("/api/auth/signup", None, &account).status))
                .collect();
            calls.into_iter().map(|call| call.join().expect("answered")).collect()
        });
        assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 1, "{statuses:?}");
        assert_eq!(statuses.iter().filter(|status| **status == 409).count(), 15, "{statuses:?}");
    }
    server.stop();
}

#[test]
fn user_numbers_count_up_from_one_and_passwords_are_not_shown() {
    let mut server = Server::start(&Options::default());
    let users = server.new_users("user", 5);
    assert_eq!(users.iter().map(|user| user.number).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    let log = std::fs::read_to_string(server.data_dir.join("users.jsonl")).expect("readable");
    assert!(log.contains("$argon2id$") && !log.contains("\"password\":\"password\""), "{log}");
    assert!(!server.stderr().contains("\"password\""));
    server.stop();
}

#[test]
fn batches_of_accounts_keep_order_and_go_on_after_a_refusal() {
    let mut server = Server::start(&Options::default());
    server.new_users("taken", 1);
    let users = json!({"users": [
        {"username": "first", "password": "x"},
        {"username": "taken0", "password": "x"},
        {"username": "", "password": "x"},
        {"username": "second", "password": "x"},
        {"username": "second", "password": "x"},
        {"username": "nopassword"},
        {"username": 5, "password": "x"},
        null,
        {"username": "가".repeat(101), "password": "x"},
        {"username": "third", "password": "x"},
    ]});
    let made = server.post("/api/auth/signup-batch", None, &users);
    // An entry that is no object may make the whole call invalid; all others never do.
    assert_eq!(made.outcome(), "400 INVALID_REQUEST");
    let entries: Vec<Value> =
        users["users"].as_array().expect("users").iter().filter(|u| !u.is_null()).cloned().collect();
    let made = server.post("/api/auth/signup-batch", None, &json!({"users": entries}));
    assert_eq!(made.status, 201);
    let created: Vec<(&str, u64)> = made.body["created"]
        .as_array()
        .expect("created")
        .iter()
        .map(|user| (user["username"].as_str().expect("name"), user["id"].as_u64().expect("number")))
        .collect();
    assert_eq!(created, [("first", 2), ("second", 3), ("third", 4)]);
    let refused = made.body["errors"].as_array().expect("errors");
    assert_eq!(refused.len(), 6, "{refused:?}");
    assert!(refused.iter().all(|entry| entry["error"].as_str().is_some_and(|text| text.len() > 3)));
    assert!(refused.iter().any(|entry| entry["username"] == "taken0"));

    let login = server.post(
        "/api/auth/login-batch",
        None,
        &json!({"users": [
            {"username": "third", "password": "x"},
            {"username": "first", "password": "wrong"},
            {"username": "nobody", "password": "x"},
            {"username": "first", "password": "x"},
        ]}),
    );
    let names: Vec<&str> = login.body["results"]
        .as_array()
        .expect("results")
        .iter()
        .filter_map(|r| r["username"].as_str())
        .collect();
    assert_eq!((login.status, names), (200, vec!["third", "first"]));
    let errors = login.body["errors"].as_array().expect("errors");
    assert_eq!(errors.len(), 2);
    assert_eq!(errors[0]["error"], errors[1]["error"]);
    server.stop();
}

#[test]
fn a_great_batch_of_accounts() {
    let mut server = Server::start(&Options::default());
    let users = server.new_users("많은", 5_000);
    assert_eq!(users.len(), 5_000);
    assert!(users.iter().zip(1..).all(|(user, number)| user.number == number));
    assert_eq!(users[4_999].name, "많은4999");
    let empty = server.post("/api/auth/signup-batch", None, &json!({"users": []}));
    assert_eq!((empty.status, &empty.body["created"]), (201, &json!([])));
    server.stop();
}

#[test]
fn calls_without_a_good_token_are_refused() {
    let mut server = Server::start(&Options::default());
    let alice = server.new_users("alice", 1).remove(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let sign = |sub: u64, name: &str, exp: u64, secret: &str| {
        let claims = json!({"sub": sub, "username": name, "iat": exp - 60, "exp": exp, "jti": "j"});
        let key = jsonwebtoken::EncodingKey::from_secret(secret.as_bytes());
        jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).expect("signed")
    };
    let good = sign(alice.number, &alice.name, now + 600, SECRET);
    assert_eq!(server.call_bytes("GET", "/api/chatrooms", Some(&good), b"").status, 200, "the forge works");
    let half = alice.token.split_at(alice.token.len() / 2).0.to_owned();
    let bad = [
        None,
        Some(String::new()),
        Some("garbage".to_owned()),
        Some(half),
        Some(sign(alice.number, &alice.name, now - 600, SECRET)),
        Some(sign(alice.number, &alice.name, now + 600, "another secret of the same length, 32+")),
        Some(sign(999, "nobody", now + 600, SECRET)),
        Some(sign(alice.number, "somebody else", now + 600, SECRET)),
    ];
    for token in &bad {
        for (method, path) in [
            ("GET", "/api/chatrooms"),
            ("POST", "/api/chatrooms"),
            ("POST", "/api/chatrooms-batch"),
            ("POST", "/api/chatrooms/x/invite"),
            ("POST", "/api/chatrooms/x/join"),
            ("POST", "/api/chatrooms/x/leave"),
            ("GET", "/api/chatrooms/x/messages"),
        ] {
            let answer = server.call_bytes(method, path, token.as_deref(), b"{}");
            assert_eq!(answer.outcome(), "401 UNAUTHORIZED", "{method} {path} {token:?}");
        }
    }
    server.stop();
}

#[test]
fn a_token_ends() {
    let mut server = Server::start(&Options { auth: "token_ttl = \"1s\"", ..Options::default() });
    let alice = server.new_users("alice", 1).remove(0);
    common::until("the token has ended", || {
        let status = server.get("/api/chatrooms", Some(&alice)).status;
        assert!(status == 200 || status == 401, "{status}");
        (status == 401).then_some(())
    });
    server.stop();
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
    let batch = json!({"rooms": [{"name": "good"}, {"name": ""}, {"name": "r", "participants": ["ghost"]}, {"name": "fine"}]});
    let answer = server.post("/api/chatrooms-batch", Some(&alice), &batch);
    let (made, errors) = (answer.body["created"].as_array(), answer.body["errors"].as_array());
    assert_eq!((answer.status, made.map(Vec::len), errors.map(Vec::len)), (201, Some(2), Some(2)));
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

#[test]
fn history_is_read_in_windows() {
    let mut server = Server::start(&Options::default());
    let users = server.new_users("user", 2);
    let room = server.new_room(&users, "talk");
    let acks = Socket::connect(&server, &users[0]).say_many(&room, 0, 250);
    let seqs: Vec<u64> = acks.iter().map(|ack| ack["seq"].as_u64().expect("a seq")).collect();
    assert_eq!(seqs, (1..=250).collect::<Vec<_>>());
    let read = |window: &str| {
        let answer = server.get(&format!("/api/chatrooms/{room}/messages{window}"), Some(&users[1]));
        assert_eq!(answer.status, 200, "{window}: {answer:?}");
        answer.body.as_array().expect("messages").iter().filter_map(|m| m["seq"].as_u64()).collect::<Vec<_>>()
    };
    assert_eq!(read(""), (151..=250).collect::<Vec<_>>());
    assert_eq!(read("?limit=3"), [248, 249, 250]);
    assert_eq!(read("?limit=1000"), seqs);
    assert_eq!(read("?before=11&limit=5"), [6, 7, 8, 9, 10]);
    assert!(read("?before=1").is_empty());
    assert_eq!(read("?after=10&limit=5"), [11, 12, 13, 14, 15]);
    assert!(read("?after=250").is_empty());
    assert_eq!(read("?after=5&before=9"), [6, 7, 8]);
    assert_eq!(read("?since=2020-01-01T00:00:00.000Z&limit=2"), [1, 2], "the first ones since then");
    assert_eq!(read("?since=2020-01-01T09:00:00%2B09:00&limit=2"), [1, 2]);
    assert!(read("?since=2999-01-01T00:00:00.000Z").is_empty());
    let at = acks[200]["timestamp"].as_str().expect("a time");
    let since = read(&format!("?since={at}&limit=1000"));
    assert!(since.contains(&201) && since.ends_with(&[250]), "{since:?}");

    let message = &server.get(&format!("/api/chatrooms/{room}/messages?limit=1"), Some(&users[0])).body[0];
    let keys: Vec<&String> = message.as_object().expect("a message").keys().collect();
    assert_eq!(keys, ["content", "id", "roomId", "sender", "seq", "timestamp"]);
    assert_eq!((&message["sender"], &message["content"]), (&json!("user0"), &json!("249")));
    assert_eq!((&message["id"], &message["timestamp"]), (&acks[249]["id"], &acks[249]["timestamp"]));
    for bad in [
        "limit=0",
        "limit=1001",
        "limit=x",
        "limit=",
        "before=x",
        "after=-1",
        "after=1.5",
        "since=yesterday",
        "since=",
    ] {
        let answer = server.get(&format!("/api/chatrooms/{room}/messages?{bad}"), Some(&users[0]));
        assert_eq!(answer.outcome(), "400 INVALID_REQUEST", "{bad}");
    }
    server.stop();
}

#[test]
fn accounts_that_cannot_be_made() {
    let mut server = Server::start(&Options::default());
    let processes = server.fingerprint();
    let long = "x".repeat(10_000);
    let bodies = [
        json!({}),
        json!({"username": "a"}),
        json!({"password": "p"}),
        json!({"username": "", "password": "p"}),
        json!({"username": "a", "password": ""}),
        json!({"username": null, "password": null}),
        json!({"username": 5, "password": "p"}),
        json!({"username": "a", "password": 5}),
        json!({"username": ["a"], "password": "p"}),
        json!({"username": {"$ne": ""}, "password": "p"}),
        json!({"username": long, "password": "p"}),
        json!({"username": "a", "password": long}),
        json!({"username": " a", "password": "p"}),
        json!({"username": "a\u{0}", "password": "p"}),
        json!({"username": "a\nb", "password": "p"}),
        json!([]),
        json!(["a", "p"]),
        json!("a"),
        json!(null),
    ];
    for body in &bodies {
        let answer = server.post("/api/auth/signup", None, body);
        assert_eq!(answer.outcome(), "400 INVALID_REQUEST", "{body:.80}");
        assert!(answer.body["error"].as_str().is_some_and(|text| text.len() > 5), "{body:.80}");
        let login = server.post("/api/auth/login", None, body).status;
        assert!(login == 400 || login == 401, "{body:.80}: {login}");
    }
    for body in [
        &b"{"[..],
        b"nonsense",
        b"{\"username\":\"a\",}",
        b"\xff\xfe",
        b"{\"username\":\"\xff\",\"password\":\"p\"}",
    ] {
        let answer = server.call_bytes("POST", "/api/auth/signup", None, body);
        assert_eq!(answer.outcome(), "400 INVALID_JSON", "{}", String::from_utf8_lossy(body));
    }
    let deep = "[".repeat(200_000);
    assert_eq!(server.call_bytes("POST", "/api/auth/signup", None, deep.as_bytes()).status, 400);
    assert_eq!(server.fingerprint(), processes);
    server.stop();
}

#[test]
fn paths_and_methods_that_are_not_there() {
    let mut server = Server::start(&Options::default());
    for path in ["/", "/api", "/api/nothing", "/api/auth", "/socket.io", "/%ff", "/api/chatrooms/x/y/z"] {
        assert_eq!(server.get(path, None).outcome(), "404 NOT_FOUND", "{path}");
    }
    for (method, path) in [("GET", "/api/auth/signup"), ("DELETE", "/api/chatrooms"), ("PUT", "/health")] {
        let answer = server.call_bytes(method, path, None, b"");
        assert_eq!(answer.outcome(), "405 METHOD_NOT_ALLOWED", "{method} {path}");
    }
    server.stop();
}

#[test]
fn operators_see_the_whole_host_from_any_worker() {
    let mut server = Server::start(&Options::default());
    for _ in 0..10 {
        assert_eq!(server.get("/health", None).status, 200);
        assert_eq!(server.get("/ready", None).status, 200);
        let stats = server.get("/api/stats", None);
        assert_eq!(stats.status, 200);
        let processes = stats.body["processes"].as_array().expect("processes");
        let count = |role: &str| processes.iter().filter(|process| process["role"] == role).count();
        assert_eq!((count("supervisor"), count("storage"), count("worker")), (1, 1, 2), "{stats:?}");
        for process in processes {
            for field in ["pid", "uptime_s", "restarts", "rss_bytes", "connections"] {
                assert!(process[field].is_number(), "{field} of {process}");
            }
        }
    }
    let document = server.get("/api/openapi.json", None);
    assert!(document.body["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")));
    for path in ["/api/auth/signup", "/api/chatrooms", "/api/chatrooms/{roomId}/messages"] {
        assert!(document.body["paths"][path].is_object(), "{path}");
    }
    server.stop();
}

#[test]
fn everything_said_is_there_after_a_restart() {
    let mut server = Server::start(&Options::default());
    let users = server.new_users("user", 3);
    let room = server.new_room(&users[..2], "lasting");
    let acks = Socket::connect(&server, &users[0]).say_many(&room, 0, 50);
    let path = format!("/api/chatrooms/{room}/messages?limit=1000");
    let (history, rooms) =
        (server.get(&path, Some(&users[1])).body, server.get("/api/chatrooms", Some(&users[1])).body);
    for killed in [false, true] {
        if killed {
            server.kill_supervisor();
        } else {
            server.stop();
        }
        server = server.start_again();
        assert_eq!(server.get(&path, Some(&users[1])).body, history);
        assert_eq!(server.get("/api/chatrooms", Some(&users[1])).body, rooms);
        assert_eq!(server.get(&path, Some(&users[2])).outcome(), "403 NOT_A_MEMBER");
    }
    let next = Socket::connect(&server, &users[1]).say_many(&room, 50, 51);
    let last = acks.last().and_then(|ack| ack["seq"].as_u64()).expect("a seq");
    assert_eq!(next[0]["seq"], json!(last + 1), "the one numbering goes on");
    let four = server.new_users("later", 1);
    assert_eq!(four[0].number, 4, "so do the users' numbers");
    server.stop();
}
