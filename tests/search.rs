//! Search for text in messages: what is found, what never is, and page after page.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::borrow::Cow;
use std::io::Write;

use common::rest::{Answer, User};
use common::socket::Socket;
use common::{Options, Server, until};
use minitalk::chat::OpId;
use minitalk::journal::record::{self, Message};
use minitalk::journal::stamp::Stamp;
use serde_json::{Value, json};

const SMALL_FILES: Options = Options {
    workers: 2,
    top: "",
    secret: common::server::SECRET,
    auth: "",
    argon2: common::server::CHEAP,
    tables: "[storage]\nmessages_per_file = 30\n[limits]\nmessages_per_second = 0\n",
    env: Vec::new(),
};

/// All that is not a plain letter or digit, as it stands in a query.
fn escaped(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

fn search(server: &Server, user: &User, query: &str) -> Answer {
    server.get(&format!("/api/messages/search?{query}"), Some(user))
}

/// All pages of a search, newest first.
fn all(server: &Server, user: &User, query: &str) -> Vec<Value> {
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = search(server, user, &format!("{query}{cursor}"));
        assert_eq!(page.status, 200, "{query}: {page:?}");
        found.extend(page.body["messages"].as_array().unwrap().clone());
        match &page.body["nextCursor"] {
            Value::Null => return found,
            next => cursor = format!("&cursor={}", next.as_str().unwrap()),
        }
    }
}

fn contents(found: &[Value]) -> Vec<&str> {
    found.iter().map(|message| message["content"].as_str().unwrap()).collect()
}

#[test]
fn any_script_and_any_sign() {
    let mut server = Server::start(&Options::default());
    let users = server.new_users("user", 1);
    let room = server.new_room(&users, "room");
    let texts = [
        "안녕하세요 여러분",
        "\u{110b}\u{1161}\u{11ab}\u{1102}\u{1167}\u{11bc} in letters",
        "Party 🎉 tonight",
        "Große STRAẞE",
        "IĞDIR and ığdır",
        "say \"hello\" \\ goodbye",
        "two\nlines\tand a tab",
        "plain",
    ];
    Socket::connect(&server, &users[0]).say_all(&room, &texts);
    for (text, expected) in [
        ("안녕", &[1, 0][..]),
        ("\u{110b}\u{1161}\u{11ab}\u{1102}\u{1167}\u{11bc}", &[1, 0]),
        ("하세요 여", &[0]),
        ("🎉", &[2]),
        ("party", &[2]),
        ("straße", &[3]),
        ("GROSSE", &[]),
        ("ığdır", &[4]),
        ("iğdir", &[4]),
        ("IĞDIR AND", &[4]),
        ("\"HELLO\"", &[5]),
        ("\\ good", &[5]),
        ("two\nlines", &[6]),
        ("nlines", &[]),
        ("\t", &[6]),
        ("user0", &[]),
        ("timestamp", &[]),
        ("PLAIN", &[7]),
        (".", &[]),
    ] {
        let found = all(&server, &users[0], &format!("q={}", escaped(text)));
        let expected: Vec<&str> = expected.iter().map(|at| texts[*at]).collect();
        assert_eq!(contents(&found), expected, "{text:?}");
    }
    let found = search(&server, &users[0], "q=plain");
    let keys: Vec<&String> = found.body["messages"][0].as_object().unwrap().keys().collect();
    assert_eq!(keys, ["content", "id", "roomId", "sender", "seq", "timestamp"]);
    assert_eq!(found.body["nextCursor"], Value::Null);
    server.stop();
}

#[test]
fn page_after_page_over_many_files() {
    let mut server = Server::start(&SMALL_FILES);
    let users = server.new_users("user", 3);
    let rooms = [
        server.new_room(&users[..2], "both"),
        server.new_room(&users[..1], "first's"),
        server.new_room(&users[1..], "second's"),
        server.new_room(&users[..1], "quiet"),
    ];
    Socket::connect(&server, &users[0]).say_all(&rooms[3], &["a quiet Needle"]);
    for round in 0..8 {
        for (at, room) in rooms[..3].iter().enumerate() {
            let texts: Vec<String> =
                (0..40).map(|n| format!("{} {round} {n}", ["needle", "NEEDLE 바늘", "hay"][n % 3])).collect();
            Socket::connect(&server, &users[usize::from(at == 2)]).say_all(room, &texts);
        }
    }
    let lines = server.message_files().into_iter().flat_map(|(_, lines)| lines);
    let mut log: Vec<Value> = lines.map(|line| serde_json::from_str(&line).unwrap()).collect();
    log.reverse();
    let expected = |wanted: &dyn Fn(&Value) -> bool| -> Vec<u64> {
        let has = |m: &&Value| m["content"].as_str().unwrap().to_lowercase().contains("needle");
        log.iter().filter(has).filter(|m| wanted(m)).map(|m| m["seq"].as_u64().unwrap()).collect()
    };
    let seqs = |found: Vec<Value>| -> Vec<u64> { found.iter().map(|m| m["seq"].as_u64().unwrap()).collect() };
    let is_in = |message: &Value, among: &[usize]| among.iter().any(|room| message["roomId"] == rooms[*room]);
    for limit in [1_000, 100, 37] {
        let of = |user: usize| seqs(all(&server, &users[user], &format!("q=needle&limit={limit}")));
        assert_eq!(of(0), expected(&|m| is_in(m, &[0, 1, 3])));
        assert_eq!(of(1), expected(&|m| is_in(m, &[0, 2])));
        assert_eq!(of(2), expected(&|m| is_in(m, &[2])), "never what is in others' rooms");
    }
    let path = format!("q=NEEDLE&roomId={}&limit=10", rooms[3]);
    assert_eq!(seqs(all(&server, &users[0], &path)), expected(&|m| is_in(m, &[3])));
    let path = format!("q=needle&roomId={}&sender=user1&limit=50", rooms[0]);
    assert!(all(&server, &users[0], &path).is_empty(), "user1 said nothing there");
    assert_eq!(
        seqs(all(&server, &users[1], "q=needle&sender=user1&limit=50")),
        expected(&|m| m["sender"] == "user1" && is_in(m, &[0, 2]))
    );
    let (to, from) = (log[150]["timestamp"].as_str().unwrap(), log[700]["timestamp"].as_str().unwrap());
    let within = |m: &Value| (from..=to).contains(&m["timestamp"].as_str().unwrap());
    assert_eq!(
        seqs(all(&server, &users[0], &format!("q=needle&from={from}&to={to}&limit=90"))),
        expected(&|m| within(m) && is_in(m, &[0, 1, 3]))
    );
    // Again after the start of another server, and of one without an index.
    for without in [false, true] {
        server.stop();
        if without {
            std::fs::remove_dir_all(server.data_dir.join("index")).unwrap();
        }
        server = server.start_again();
        assert_eq!(seqs(all(&server, &users[0], "q=needle&limit=99")), expected(&|m| is_in(m, &[0, 1, 3])));
    }
    server.stop();
}

#[test]
fn searches_that_are_refused() {
    let mut server = Server::start(&Options::default());
    let users = server.new_users("user", 2);
    let room = server.new_room(&users[..1], "room");
    let of = |query: &str| search(&server, &users[0], query).outcome();
    let long = escaped(&"가".repeat(257));
    for bad in [
        "",
        "q=",
        &format!("q={long}"),
        "q=a&limit=0",
        "q=a&limit=1001",
        "q=a&limit=x",
        "q=a&cursor=nothing",
        "q=a&cursor=",
        "q=a&from=yesterday",
        "q=a&to=",
    ] {
        assert_eq!(of(bad), "400 INVALID_REQUEST", "{bad:.40}");
    }
    assert_eq!(of(&format!("q={}", escaped(&"가".repeat(256)))), "200");
    assert_eq!(of("q=a&roomId=nowhere"), "404 ROOM_NOT_FOUND");
    assert_eq!(of(&format!("q=a&roomId={}", "x".repeat(2_000))), "404 ROOM_NOT_FOUND");
    assert_eq!(of(&format!("q=a&roomId={room}")), "200");
    assert_eq!(search(&server, &users[1], &format!("q=a&roomId={room}")).outcome(), "403 NOT_A_MEMBER");
    assert_eq!(server.get("/api/messages/search?q=a", None).outcome(), "401 UNAUTHORIZED");
    assert_eq!(server.post("/api/messages/search?q=a", Some(&users[0]), &json!({})).status, 405);
    let document = server.get("/api/openapi.json", None).body;
    let described = &document["paths"]["/api/messages/search"]["get"];
    let names: Vec<&Value> =
        described["parameters"].as_array().unwrap().iter().map(|parameter| &parameter["name"]).collect();
    assert_eq!(names, ["q", "roomId", "sender", "from", "to", "limit", "cursor"]);
    server.stop();
}

/// 200,000 messages in one file, all of which have the text.
fn big_log(server: &Server, room: &str, messages: u64) {
    let (mut text, mut stamp) = (Vec::new(), Stamp::default());
    for seq in 1..=messages {
        let message = Message {
            seq,
            id: OpId { instance: 1, count: seq },
            room_id: Cow::Borrowed(room),
            sender: Cow::Borrowed("user0"),
            content: Cow::Borrowed("a text with the word in it, and more: é"),
            timestamp_ms: 1_767_225_600_000,
            client_id: None,
            user: 1,
            synced: seq - 1,
            imported: None,
        };
        record::encode_message(&message, &mut stamp, &mut text);
    }
    std::fs::write(server.data_dir.join("messages_000001.jsonl"), text).unwrap();
}

#[test]
fn a_client_that_goes_away_takes_its_search_along() {
    let mut server = Server::start(&Options::default());
    let users = server.new_users("user", 1);
    let room = server.new_room(&users, "room");
    server.stop();
    big_log(&server, &room, 200_000);
    let mut server = server.start_again();
    let path = "/api/messages/search?q=WORD&sender=nobody";
    let request =
        format!("GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\r\n", users[0].token);
    until("a search was given up", || {
        let mut gone = server.connect();
        gone.write_all(request.as_bytes()).unwrap();
        drop(gone);
        let stats = server.get("/api/stats", None).body;
        (stats["totals"]["searchesGivenUp"].as_u64().unwrap() > 0).then_some(())
    });
    until("no thread is at it any more", || {
        let stats = server.get("/api/stats", None).body;
        (stats["queues"]["searches"] == 0).then_some(())
    });
    assert_eq!(search(&server, &users[0], "q=word&limit=3").body["messages"].as_array().unwrap().len(), 3);
    server.stop();
}

#[test]
fn more_searches_than_there_is_room_for_are_refused_and_the_rest_answered() {
    let mut server = Server::start(&Options { workers: 1, ..Options::default() });
    let users = server.new_users("user", 1);
    let room = server.new_room(&users, "room");
    server.stop();
    big_log(&server, &room, 60_000);
    let mut server = server.start_again();
    let outcomes: Vec<Answer> = std::thread::scope(|scope| {
        let calls: Vec<_> =
            (0..40).map(|_| scope.spawn(|| search(&server, &users[0], "q=word&sender=nobody"))).collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    let done = outcomes.iter().filter(|answer| answer.status == 200).count();
    let refused: Vec<&Answer> = outcomes.iter().filter(|answer| answer.status != 200).collect();
    for answer in refused {
        assert_eq!(answer.outcome(), "503 OVERLOADED", "{answer:?}");
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
    assert!(done >= 16, "{done}");
    assert_eq!(search(&server, &users[0], "q=word&limit=1").status, 200, "and then there is room again");
    server.stop();
}
