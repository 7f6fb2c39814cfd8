//! Tickets, logging out everywhere, other passwords: what is answered, and what is written nowhere.

use serde_json::json;

use crate::common::rest::{Answer, User, user};
use crate::common::{Options, Server};

fn login(server: &Server, name: &str, password: &str) -> Answer {
    server.post("/api/auth/login", None, &json!({"username": name, "password": password}))
}

fn change(server: &Server, user: &User, current: &str, new: &str) -> Answer {
    let body = json!({"currentPassword": current, "newPassword": new});
    server.post("/api/auth/password", Some(user), &body)
}

/// What every worker says of a token; each call is on a connection of its own.
fn outcomes(server: &Server, user: &User) -> Vec<String> {
    let mut outcomes: Vec<String> =
        (0..20).map(|_| server.get("/api/chatrooms", Some(user)).outcome()).collect();
    outcomes.dedup();
    outcomes
}

#[test]
fn logging_out_everywhere_ends_all_tokens_and_the_next_login_gives_a_good_one() {
    let server = Server::start(&Options { workers: 3, ..Options::default() });
    let [mut alice, bob] = server.new_users("user", 2).try_into().expect("two users");
    for _ in 0..10 {
        let other = user(&login(&server, &alice.name, "password").body);
        assert_eq!(outcomes(&server, &alice), ["200"]);
        let answer = server.post("/api/auth/logout-all", Some(&alice), &json!({}));
        assert_eq!((answer.status, &answer.body), (200, &json!({"message": "Logged out everywhere"})));
        for ended in [&alice, &other] {
            assert_eq!(outcomes(&server, ended), ["401 UNAUTHORIZED"]);
            for path in ["ticket", "logout-all", "password"] {
                let answer = server.post(&format!("/api/auth/{path}"), Some(ended), &json!({}));
                assert_eq!(answer.outcome(), "401 UNAUTHORIZED", "{path}");
            }
        }
        alice = user(&login(&server, &alice.name, "password").body);
        assert_eq!(outcomes(&server, &alice), ["200"]);
        assert_eq!(outcomes(&server, &bob), ["200"]);
    }
    let mut server = server.start_again();
    assert_eq!(outcomes(&server, &alice), ["200"]);
    server.stop();
}

#[test]
fn another_password_takes_the_place_of_the_old_one_at_once() {
    let mut server = Server::start(&Options::default());
    let mut alice = server.new_users("alice", 1).remove(0);
    let mut password = "password".to_owned();
    for round in 0..5 {
        let new = format!("비밀번호 {round}");
        assert_eq!(change(&server, &alice, "wrong", &new).outcome(), "403 WRONG_PASSWORD");
        let answer = change(&server, &alice, &password, &new);
        assert_eq!((answer.status, &answer.body["message"]), (200, &json!("Password changed")));
        assert_eq!(outcomes(&server, &alice), ["401 UNAUTHORIZED"]);
        assert_eq!(change(&server, &alice, &new, "third").outcome(), "401 UNAUTHORIZED");
        alice.token = answer.body["token"].as_str().expect("a token").to_owned();
        assert_eq!(outcomes(&server, &alice), ["200"]);
        assert_eq!(login(&server, &alice.name, &password).outcome(), "401 INVALID_CREDENTIALS");
        assert_eq!(login(&server, &alice.name, &new).status, 200);
        password = new;
    }
    for (current, new) in [(json!("x"), json!("")), (json!(1), json!("x")), (json!("x"), json!(null))] {
        let body = json!({"currentPassword": current, "newPassword": new});
        let answer = server.post("/api/auth/password", Some(&alice), &body);
        assert_eq!(answer.outcome(), "400 INVALID_REQUEST", "{body}");
    }
    assert_eq!(outcomes(&server, &alice), ["200"]);
    server.stop();
}

#[test]
fn tickets_and_passwords_are_in_no_file_and_no_line() {
    let mut server = Server::start(&Options::default());
    let alice = server.new_users("alice", 1).remove(0);
    let answer = server.post("/api/auth/ticket", Some(&alice), &json!({}));
    assert_eq!((answer.status, &answer.body["expiresIn"]), (200, &json!(30)));
    let ticket = answer.body["ticket"].as_str().expect("a ticket").to_owned();
    assert_eq!(server.post("/api/auth/ticket", None, &json!({})).outcome(), "401 UNAUTHORIZED");
    assert_eq!(change(&server, &alice, "password", "a secret of alice").status, 200);
    server.stop();
    let users = std::fs::read_to_string(server.data_dir.join("users.jsonl")).expect("a log");
    assert!(users.contains(r#""event":"password""#) && users.contains(r#""generation":1"#), "{users}");
    for secret in [ticket.as_str(), "a secret of alice", alice.token.as_str()] {
        assert!(!users.contains(secret) && !server.stderr().contains(secret), "{secret}");
    }
}

#[test]
fn one_user_is_given_tickets_so_fast_and_no_faster() {
    let mut server = Server::start(&Options { auth: "ticket_ttl = \"1h\"", ..Options::default() });
    let [alice, bob] = server.new_users("user", 2).try_into().expect("two users");
    let issue = |user: &User| server.post("/api/auth/ticket", Some(user), &json!({})).outcome();
    let start = std::time::Instant::now();
    std::thread::scope(|scope| {
        let asks = |_| scope.spawn(|| (0..100).map(|_| issue(&alice)).collect::<Vec<_>>());
        let asking: Vec<_> = (0..8).map(asks).collect();
        let outcomes = asking.into_iter().flat_map(|asked| asked.join().expect("answers"));
        let given = outcomes.filter(|outcome| outcome == "200").count();
        let most = 64.0 * (1.0 + start.elapsed().as_secs_f64());
        assert!(
            given > 16 && given as f64 <= most,
            "more than there may be at a time, but no more than {most}: {given}"
        );
    });
    assert_eq!(issue(&bob), "200");
    server.stop();
}

#[test]
fn the_calls_describe_themselves() {
    let mut server = Server::start(&Options::default());
    let document = server.get("/api/openapi.json", None).body;
    for (path, field) in [("ticket", "expiresIn"), ("logout-all", "message"), ("password", "token")] {
        let call = &document["paths"][format!("/api/auth/{path}")]["post"];
        let schema = call["responses"]["200"]["content"]["application/json"]["schema"]["$ref"].as_str();
        let name = schema.and_then(|schema| schema.rsplit('/').next()).expect("a schema");
        let properties = &document["components"]["schemas"][name]["properties"];
        assert!(properties[field].is_object(), "{path}: {properties}");
        assert_eq!(call["security"], json!([{"token": []}]), "{path}");
    }
    server.stop();
}
