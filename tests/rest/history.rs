//! What was said, read again, also after a restart.

use serde_json::json;

use crate::common::socket::Socket;
use crate::common::{Options, Server};

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
