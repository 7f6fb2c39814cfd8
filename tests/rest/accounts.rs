//! Signing up and logging in, one by one and in batches.

use serde_json::{Value, json};

use crate::common::rest::user;
use crate::common::{Options, Server};

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
        null, 7, "fourth", ["fifth", "x"], [[{}]], true, -1, 1.5,
        {"username": "가".repeat(101), "password": "x"},
        {"username": "third", "password": "x"},
    ]});
    let made = server.post("/api/auth/signup-batch", None, &users);
    assert_eq!(made.status, 201);
    let created: Vec<(&str, u64)> = made.body["created"]
        .as_array()
        .expect("created")
        .iter()
        .map(|user| (user["username"].as_str().expect("name"), user["id"].as_u64().expect("number")))
        .collect();
    assert_eq!(created, [("first", 2), ("second", 3), ("third", 4)]);
    let refused = made.body["errors"].as_array().expect("errors");
    assert_eq!(refused.len(), 14, "{refused:?}");
    assert!(refused.iter().all(|entry| entry.get("username").is_some()), "{refused:?}");
    assert!(refused.iter().all(|entry| entry["error"].as_str().is_some_and(|text| text.len() > 3)));
    assert!(refused.iter().any(|entry| entry["username"] == "taken0"));

    let login = server.post(
        "/api/auth/login-batch",
        None,
        &json!({"users": [
            {"username": "third", "password": "x"},
            {"username": "first", "password": "wrong"},
            null,
            {"username": "nobody", "password": "x"},
            7,
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
    assert_eq!(errors.len(), 4, "{errors:?}");
    let told: Vec<&Value> = errors.iter().map(|entry| &entry["error"]).collect();
    assert!(told[0] == told[1] && told[2] == told[3] && told[1] != told[2], "{errors:?}");
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
