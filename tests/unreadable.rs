//! An index that can't be read for a moment: nobody is told that their token is bad, nobody who is in is
//! put out, and what had to be read is read later.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "tests")]

mod common;

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use common::rest::User;
use common::socket::Socket;
use common::{Options, Server, until};
use minitalk::link::codec;
use minitalk::link::frame::{Change, ToWriter};
use minitalk::link::version::VERSION;
use minitalk_supervisor::{RUN_DIR, STORAGE_SOCKET, unix};
use serde_json::json;

/// The index with something in its place that can't be read. What has it open reads on, until it looks
/// whether it is still the same file, as it does before each question.
struct Hidden {
    file: PathBuf,
    aside: PathBuf,
}

impl Hidden {
    fn of(server: &Server) -> Hidden {
        let file = server.data_dir.join("index/index.sqlite");
        let aside = file.with_extension("aside");
        fs::rename(&file, &aside).unwrap();
        fs::create_dir(&file).unwrap();
        Hidden { file, aside }
    }

    fn back(self) {
        fs::remove_dir(&self.file).unwrap();
        fs::rename(&self.aside, &self.file).unwrap();
    }
}

/// Ends all of a user's tokens as a worker would ask for it. None of the server's own can be asked while
/// they can't look up who asks.
fn log_out_everywhere(server: &Server, user: &User) {
    let mut stream = unix::connect(&server.data_dir.join(RUN_DIR), STORAGE_SOCKET).unwrap();
    let change = Change::Revoke { user: user.number, generation: 0 };
    let mut frames = Vec::new();
    let hello = ToWriter::Hello { version: VERSION, worker: 9, instance: 1, known: None };
    for frame in [hello, ToWriter::Change { count: 1, change }] {
        codec::encode(&frame, &mut frames).unwrap();
    }
    stream.write_all(&frames).unwrap();
    let log = server.data_dir.join("users.jsonl");
    until("it is written down", || {
        let lines = common::whole_lines(&log);
        lines.iter().any(|line| line.contains("\"revoked\"")).then_some(())
    });
}

#[test]
fn calls_and_sockets_are_told_to_come_again_and_those_who_are_in_stay() {
    let mut server = Server::start(&Options::default());
    let [alice, bob] = server.new_users("user", 2).try_into().expect("two users");
    let mut socket = Socket::connect(&server, &alice);
    let hidden = Hidden::of(&server);
    for _ in 0..4 {
        let answer = server.get("/api/chatrooms", Some(&alice));
        assert_eq!(answer.outcome(), "503 UNAVAILABLE", "{}", answer.head);
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
    // 1013: try again later.
    assert_eq!(Socket::try_connect(&server, &bob).unwrap_err(), "1013 cannot read the index");
    socket.send(&format!("421{}", json!(["auth_refresh", {"token": alice.token}])));
    let refused = json!([{"ok": false, "code": "UNAVAILABLE",
        "message": "The server cannot read its index, try again shortly"}]);
    let answer = socket.next();
    let answered: serde_json::Value = serde_json::from_str(answer.strip_prefix("431").unwrap()).unwrap();
    assert_eq!(answered, refused);
    hidden.back();
    assert_eq!(server.get("/api/chatrooms", Some(&alice)).outcome(), "200");
    socket.send(&format!("422{}", json!(["auth_refresh", {"token": alice.token}])));
    let answer = socket.next();
    assert!(answer.starts_with("432[") && answer.contains("\"ok\":true"), "{answer}");
    Socket::connect(&server, &bob);
    server.stop();
}

#[test]
fn sockets_of_ended_tokens_are_ended_when_it_can_be_read_again() {
    let mut server = Server::start(&Options { workers: 1, ..Options::default() });
    let [alice, bob] = server.new_users("user", 2).try_into().expect("two users");
    let (mut socket, mut other) = (Socket::connect(&server, &alice), Socket::connect(&server, &bob));
    let hidden = Hidden::of(&server);
    log_out_everywhere(&server, &alice);
    // The sign has come, and once more there was nothing to be read.
    until("it was tried twice", || {
        (server.stderr().matches("cannot read the index").count() >= 2).then_some(())
    });
    hidden.back();
    assert_eq!(socket.next(), r#"42["error",{"code":"LOGGED_OUT","message":"You have been logged out"}]"#);
    assert_eq!(socket.next(), "41");
    assert_eq!(socket.try_next(), None);
    assert_eq!(Socket::try_connect(&server, &alice).unwrap_err(), r#"44{"message":"Authentication error"}"#);
    other.send(&format!("421{}", json!(["auth_refresh", {"token": bob.token}])));
    let answer = other.next();
    assert!(answer.starts_with("431[") && answer.contains("\"ok\":true"), "{answer}");
    server.stop();
}
