//! Guessing passwords is slowed down, for the one who guesses.
#![allow(clippy::expect_used, reason = "tests")]

mod common;

use common::rest::{Answer, User};
use common::{Options, Server, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

/// As many misses as one name, and one address, may have; forgiven so late that no test sees it.
const TABLES: &str = "[limits]\nlogin_failures_per_user = 5\nlogin_failures_per_address = 40\n\
    login_failures_window = \"24h\"\n";
const PER_USER: usize = 5;
const PER_ADDRESS: usize = 40;

fn server(top: &'static str) -> Server {
    Server::start(&Options { workers: 2, top, tables: TABLES, ..Options::default() })
}

fn login(server: &Server, from: &str, headers: &str, name: &str, password: &str) -> Answer {
    let body = json!({"username": name, "password": password}).to_string();
    let head = format!(
        "POST /api/auth/login HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n",
        body.len()
    );
    server.call_from(from, format!("{head}{body}").as_bytes())
}

/// Misses until that is refused; answers how many were let through, and the refusal.
fn hammer(server: &Server, from: &str, headers: &str, name: &str) -> (usize, Answer) {
    let mut missed = 0;
    let refusal = until("it is refused", || {
        let answer = login(server, from, headers, name, "wrong");
        match answer.outcome().as_str() {
            "401 INVALID_CREDENTIALS" => missed += 1,
            other => {
                assert_eq!(other, "429 TOO_MANY_ATTEMPTS");
                return Some(answer);
            }
        }
        None
    });
    (missed, refusal)
}

fn ok(server: &Server, from: &str, headers: &str, name: &str) {
    let answer = login(server, from, headers, name, "password");
    assert_eq!(answer.status, 200, "{name} from {from}: {answer:?}");
}

fn bearer(user: &User) -> String {
    format!("Authorization: Bearer {}\r\n", user.token)
}

#[test]
fn whoever_guesses_is_refused_and_the_user_gets_in() {
    let mut server = server("");
    // From 127.0.0.1.
    let users = server.new_users("user", 3);
    let (alice, bob) = (&users[0], &users[1]);
    let (missed, refusal) = hammer(&server, "127.0.0.2", "", &alice.name);
    // The workers tell each other at once, but not before.
    assert!((PER_USER..=2 * PER_USER).contains(&missed), "{missed}");
    let wait: u64 = refusal.header("retry-after").and_then(|after| after.parse().ok()).expect("a time");
    assert!((1..=24 * 3_600).contains(&wait), "{wait}");
    let (_, unknown) = hammer(&server, "127.0.0.2", "", "nobody of this name");
    assert_eq!(unknown.body, refusal.body, "the same for who is not there");
    let guessed = login(&server, "127.0.0.2", "", &alice.name, "password");
    assert_eq!(guessed.outcome(), "429 TOO_MANY_ATTEMPTS", "a right guess is not told");
    ok(&server, "127.0.0.1", "", &alice.name);
    ok(&server, "127.0.0.7", "", &alice.name);
    ok(&server, "127.0.0.2", &bearer(alice), &alice.name);
    let foreign = login(&server, "127.0.0.2", &bearer(bob), &alice.name, "password");
    assert_eq!(foreign.status, 429, "another's token says nothing about alice");
    ok(&server, "127.0.0.2", "", &bob.name);
    server.stop();
}

#[test]
fn an_attacker_with_many_addresses_locks_nobody_out() {
    let mut server = server("");
    let users = server.new_users("user", 2);
    let (alice, carol) = (&users[0], &users[1]);
    for host in 1..=40 {
        hammer(&server, &format!("127.0.1.{host}"), "", &alice.name);
    }
    ok(&server, "127.0.0.1", "", &alice.name);
    ok(&server, "127.0.0.9", "", &alice.name);
    // One of them is where alice lives: the other names that are tried there are not her fault.
    let mut missed = 0;
    until("the address is refused", || {
        missed += 1;
        let answer = login(&server, "127.0.0.9", "", &format!("name {missed}"), "wrong");
        (answer.outcome() == "429 TOO_MANY_ATTEMPTS").then_some(())
    });
    assert!((PER_ADDRESS..=2 * PER_ADDRESS).contains(&missed), "{missed}");
    assert_eq!(login(&server, "127.0.0.9", "", &carol.name, "password").status, 429, "new at this address");
    ok(&server, "127.0.0.9", &bearer(carol), &carol.name);
    until("every worker has heard that alice is at home there", || {
        (0..10).all(|_| login(&server, "127.0.0.9", "", &alice.name, "password").status == 200).then_some(())
    });
    server.stop();
}

#[test]
fn a_worker_that_starts_learns_who_is_at_home_where() {
    let mut server = server("");
    let alice = server.new_users("alice", 1).remove(0);
    ok(&server, "127.0.0.9", "", &alice.name);
    let before = server.pids("worker");
    kill(Pid::from_raw(before[0]), Signal::SIGKILL).expect("killed");
    until("another is in its place", || {
        let now = server.pids("worker");
        (now.len() == before.len() && now[0] != before[0]).then_some(())
    });
    let mut missed = 0;
    until("the address is refused by all workers", || {
        let refused = |_| {
            missed += 1;
            login(&server, "127.0.0.9", "", &format!("name {missed}"), "wrong").status == 429
        };
        (0..20).all(refused).then_some(())
    });
    until("every worker knows that alice is at home there", || {
        (0..20).all(|_| login(&server, "127.0.0.9", "", &alice.name, "password").status == 200).then_some(())
    });
    server.stop();
}

#[test]
fn a_thief_of_a_token_does_not_keep_its_owner_from_ending_it() {
    let tables =
        "[limits]\nlogin_failures_per_user = 5\nlogin_failures_window = \"24h\"\nchanges_per_second = 1\n";
    let mut server = Server::start(&Options { workers: 2, tables, ..Options::default() });
    let alice = server.new_users("alice", 1).remove(0);
    let change = |from: &str, current: &str| {
        let body = json!({"currentPassword": current, "newPassword": "another"}).to_string();
        let head = format!(
            "POST /api/auth/password HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{}content-length: {}\r\n\r\n",
            bearer(&alice),
            body.len()
        );
        server.call_from(from, format!("{head}{body}").as_bytes())
    };
    let drain = |user: &User| {
        until("the share of changes is used up", || {
            let made = server.post("/api/chatrooms", Some(user), &json!({"name": "r", "participants": []}));
            (made.outcome() == "429 RATE_LIMITED").then_some(())
        });
    };
    until("guessing is refused", || {
        let answer = change("127.0.0.2", "wrong");
        assert!(matches!(answer.status, 403 | 429), "{answer:?}");
        (answer.status == 429).then_some(())
    });
    drain(&alice);
    let changed = change("127.0.0.1", "password");
    assert_eq!(changed.status, 200, "{changed:?}");
    let token = changed.body["token"].as_str().expect("a token").to_owned();
    let alice = User { token, ..alice.clone() };
    drain(&alice);
    assert_eq!(server.post("/api/auth/logout-all", Some(&alice), &json!({})).status, 200);
    server.stop();
}

#[test]
fn right_passwords_are_never_too_many() {
    let mut server = server("");
    let users = server.new_users("user", 500);
    std::thread::scope(|scope| {
        for part in users.chunks(50) {
            scope.spawn(|| part.iter().for_each(|user| ok(&server, "127.0.0.1", "", &user.name)));
        }
        for _ in 0..10 {
            scope.spawn(|| (0..20).for_each(|_| ok(&server, "127.0.0.1", "", &users[0].name)));
        }
    });
    server.stop();
}

#[test]
fn misses_in_batches_count() {
    let mut server = server("");
    let users = server.new_users("user", 1);
    let batch = |names: Vec<String>| {
        let entries: Vec<Value> =
            names.iter().map(|name| json!({"username": name, "password": "wrong"})).collect();
        server.post("/api/auth/login-batch", None, &json!({"users": entries})).body["errors"].clone()
    };
    let of = |errors: &Value, text: &str| {
        let errors = errors.as_array().expect("errors");
        errors.iter().filter(|error| error["error"].as_str().is_some_and(|it| it.starts_with(text))).count()
    };
    let errors = batch(vec![users[0].name.clone(); 100]);
    assert_eq!((of(&errors, "Invalid"), of(&errors, "Too many")), (PER_USER, 100 - PER_USER));
    // The rest of what the address may miss; hers do not count there, for she has logged in from it.
    let errors = batch((0..100).map(|at| format!("name {at}")).collect());
    let missed = of(&errors, "Invalid");
    assert!((PER_ADDRESS - PER_USER..=2 * PER_ADDRESS).contains(&missed), "{missed}");
    assert_eq!(missed + of(&errors, "Too many"), 100);
    server.stop();
}

#[test]
fn a_proxy_is_believed_if_it_is_trusted() {
    let mut server = server("trusted_proxies = [\"127.0.0.8/29\"]");
    let alice = server.new_users("alice", 1).remove(0);
    for name in ["1.1.1.1", "[2001:db8:0:1::1]:80"] {
        hammer(&server, "127.0.0.9", &format!("X-Forwarded-For: {name}\r\n"), &alice.name);
    }
    for (name, status) in [("1.1.1.1", 429), ("6.6.6.6, 1.1.1.1", 429), ("2001:db8:0:1:ffff::2", 429)] {
        let answer =
            login(&server, "127.0.0.10", &format!("X-Forwarded-For: {name}\r\n"), &alice.name, "password");
        assert_eq!(answer.status, status, "{name}");
    }
    for name in ["1.1.1.2", "1.1.1.1, 1.1.1.3", "2001:db8:0:2::1"] {
        ok(&server, "127.0.0.9", &format!("X-Forwarded-For: {name}\r\n"), &alice.name);
    }
    // Whoever is no proxy is one attacker, however many names he gives himself.
    let mut missed = 0;
    until("it is refused", || {
        missed += 1;
        let header = format!("X-Forwarded-For: 9.9.9.{missed}\r\n");
        (login(&server, "127.0.0.4", &header, &alice.name, "wrong").status == 429).then_some(())
    });
    assert!(missed <= 2 * PER_USER + 1, "{missed}");
    server.stop();
}
