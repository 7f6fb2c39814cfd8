//! Out of a directory that a server has lived in, and into another.

use serde_json::json;

use crate::common::socket::Socket;
use crate::common::{Options, Server};
use crate::{Place, array, assert_same_layout};

fn compact(place: &Place) {
    let output = place.command("compact").output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success() && said.contains("users.jsonl") && said.contains("chatrooms.jsonl"),
        "{said}"
    );
}

/// Exports and says what the command said.
fn export(place: &Place, name: &str) -> String {
    let output = place.command("export").arg(place.path(name)).output().unwrap();
    assert!(output.status.success(), "{}", crate::stderr(&output));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn what_comes_out_of_compacted_logs_goes_in_again() {
    let place = Place::empty();
    let mut server = Server::on(&Options::default(), &place.data());
    let users = server.new_users("user", 6);
    let kept = server.new_room(&users[..4], "kept");
    let left = server.new_room(&users[4..5], "left");
    Socket::connect(&server, &users[4]).say_all(&left, &["nobody will read this", "nor this"]);
    Socket::connect(&server, &users[0]).say_all(&kept, &["a", "b", "c"]);
    for (room, user) in [(&left, &users[4]), (&kept, &users[1])] {
        let answer = server.post(&format!("/api/chatrooms/{room}/leave"), Some(user), &json!({}));
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    server.stop();
    let said = export(&place, "before");
    assert!(said.contains("6 users, 1 rooms, 3 messages in 1 files"), "{said}");
    assert!(said.contains("left out: 2 messages"), "{said}");
    compact(&place);
    assert_eq!(export(&place, "behind"), said);
    assert_same_layout(&place.path("before"), &place.path("behind"));
    let rooms = array(&place.path("behind").join("chatrooms.json"));
    assert_eq!(rooms[0]["participants"], json!(["user0", "user2", "user3"]));
    let other = Place::empty();
    other.import_well(&place.path("behind"));
    assert_same_layout(&place.path("behind"), &other.export("again"));
}

#[test]
fn what_changed_since_an_import_comes_out_as_it_is_by_now() {
    let place = Place::empty();
    let bcrypt = crate::common::layout::bcrypt();
    let user = json!({"username": "a", "password": bcrypt, "createdAt": "2024-01-01T00:00:00.000Z", "nickname": null, "profileImage": ""});
    place.write("source/users.json", json!([user]).to_string());
    place.import_well(&place.path("source"));
    let mut server = Server::on(&Options::default(), &place.data());
    let account = json!({"username": "a", "password": crate::common::layout::PASSWORD});
    let login = server.post("/api/auth/login", None, &account);
    let token = login.body["token"].as_str();
    let answer = server.call_bytes("PATCH", "/api/users/me", token, r#"{"nickname":"별"}"#.as_bytes());
    assert_eq!(answer.status, 200, "{answer:?}");
    server.stop();
    let out = place.export("out");
    let text = std::fs::read_to_string(out.join("users.json")).unwrap();
    assert_eq!(text.matches("\"nickname\"").count(), 1, "{text}");
    let exported = array(&out.join("users.json"));
    assert_eq!((&exported[0]["nickname"], &exported[0]["profileImage"]), (&json!("별"), &json!("")));
}

#[test]
fn nothing_comes_out_of_what_was_deleted() {
    let place = Place::empty();
    let options = Options { top: "admins = [\"user0\"]", ..Options::default() };
    let mut server = Server::on(&options, &place.data());
    let users = server.new_users("user", 2);
    let room = server.new_room(&users, "room");
    Socket::connect(&server, &users[1]).say_all(&room, &["a"]);
    let code = json!({"confirmationCode": "DELETE_ALL_USERS_CONFIRM"});
    let answer = server.call_bytes(
        "DELETE",
        "/api/auth/delete-all-users",
        Some(&users[0].token),
        code.to_string().as_bytes(),
    );
    assert_eq!(answer.status, 200, "{answer:?}");
    let users = server.new_users("later", 1);
    let room = server.new_room(&users, "later");
    Socket::connect(&server, &users[0]).say_all(&room, &["b"]);
    server.stop();
    let said = export(&place, "out");
    assert!(said.contains("1 users, 1 rooms, 1 messages in 1 files"), "{said}");
    assert!(said.contains("left out: 1 messages"), "{said}");
    let other = Place::empty();
    other.import_well(&place.path("out"));
    assert_same_layout(&place.path("out"), &other.export("again"));
}
