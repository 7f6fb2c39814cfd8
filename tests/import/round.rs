//! In and out again: nothing is lost, nothing is changed.

use std::time::Instant;

use serde_json::json;

use crate::common::layout::Layout;
use crate::{Place, array, assert_same_layout, stderr};

/// Messages of the large round trip; `MINITALK_IMPORT_MESSAGES=1000000` for more by hand.
fn messages() -> u64 {
    std::env::var("MINITALK_IMPORT_MESSAGES").map_or(100_000, |number| number.parse().unwrap())
}

#[test]
fn ten_files_come_out_as_they_went_in() {
    let place = Place::empty();
    let layout = Layout { users: 2_000, rooms: 300, messages: messages(), files: 10 };
    let source = place.path("source");
    layout.write(&source);
    let begun = Instant::now();
    let said = place.import_well(&source);
    println!("import of {} messages: {:?}", layout.messages, begun.elapsed());
    let expected = format!("2000 users, 300 rooms, {} messages from 10 files; left out: 0", layout.messages);
    assert!(said.contains(&expected), "{said}");
    let begun = Instant::now();
    let out = place.export("out");
    println!("export: {:?}", begun.elapsed());
    assert_same_layout(&source, &out);
    place.assert_clean();
    // What is built from the logs is what the import made.
    let index = place.index();
    assert!(place.command("reindex").output().unwrap().status.success());
    assert_eq!(place.index(), index);
    // Once more, from what came out.
    let other = Place::empty();
    other.import_well(&out);
    assert_same_layout(&source, &other.export("again"));
}

#[test]
fn fields_and_files_of_any_kind() {
    let place = Place::empty();
    let source = place.path("source");
    let bcrypt = crate::common::layout::bcrypt();
    let argon2 =
        "$argon2id$v=19$m=8,t=1,p=1$gZiV/M1gPc22ElAH/Jh1Hw$CWOrkoo7oJBQ/iyh7uJ0LO2aLEfrHwTWllSAxT0zRno";
    let users = json!([
        {"username": "가", "password": bcrypt, "createdAt": "2024-01-01T00:00:00.000Z", "id": 5},
        {"id": 7, "username": "b", "password": argon2, "createdAt": "2024-01-01T00:00:00Z"},
        {"username": "c", "password": null, "createdAt": 1_700_000_000_123_u64, "__v": 0, "roles": [{"x": "\u{1}"}]},
        {"username": "d", "password": bcrypt, "createdAt": "2024-01-01T00:00:00.000Z", "nickname": null, "profileImage": ""},
    ]);
    let rooms = json!([
        {"roomId": "r 1", "name": "n", "participants": [], "createdBy": "c", "createdAt": "1969-12-31T23:59:59.999Z"},
        {"roomId": "방", "name": "n", "participants": ["b", "가"], "createdBy": "c", "createdAt": "2024-01-01T00:00:00.000+00:00", "open": true, "type": "group"},
        {"roomId": "r 2", "name": "n", "participants": ["b"], "createdBy": "b", "createdAt": "2024-01-01T00:00:00.000Z", "open": false},
        {"roomId": "r 3", "name": "n", "participants": ["b"], "createdBy": "b", "createdAt": "2024-01-01T00:00:00.000Z", "open": null},
    ]);
    let message = |id: serde_json::Value, room: &str| json!({"id": id, "roomId": room, "sender": "c", "content": "", "timestamp": "2024-01-01T00:00:00.1234567Z", "createdAt": "2024-01-01T00:00:00.123Z"});
    let mut own = message(json!("0000000000000001-1"), "방");
    own["clientId"] = json!("c-1");
    own["userId"] = json!("\",\"userId\":3");
    let mut nameless = message(json!(12), "r 1");
    nameless["clientId"] = json!(null);
    place.write("source/users.json", users.to_string());
    place.write("source/chatrooms.json", rooms.to_string());
    place.write("source/messages_2.json", json!([message(json!(-1.5e3), "방"), own]).to_string());
    place.write("source/messages_4.json", json!([nameless]).to_string());
    place.write("source/messages_10.json", "[]");
    place.import_well(&source);
    let numbers: Vec<u64> =
        place.log("users.jsonl").iter().map(|user| user["userId"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [5, 7, 8, 9], "numbers that rise are kept");
    let ids: Vec<_> = place.log("messages_000001.jsonl").iter().map(|line| line["id"].clone()).collect();
    assert_eq!(ids, [json!("-1500.0"), json!("0000000000000001-1"), json!("12")]);
    let out = place.export("out");
    for name in ["users.json", "chatrooms.json", "messages_2.json", "messages_4.json"] {
        assert_eq!(array(&source.join(name)), array(&out.join(name)), "{name}");
    }
    // Numbers between are kept by empty files; behind the last message there is nothing to keep.
    assert_eq!(array(&out.join("messages_1.json")), array(&out.join("messages_3.json")));
    assert!(!out.join("messages_10.json").exists());
    let other = Place::empty();
    other.import_well(&out);
    assert_same_layout(&out, &other.export("again"));
}

#[test]
fn names_go_in_composed_and_come_out_as_they_were_spelt() {
    let place = Place::empty();
    let source = place.path("source");
    let bcrypt = crate::common::layout::bcrypt();
    let (apart, at) = ("\u{1100}\u{1175}\u{11b7}", "2024-01-01T00:00:00.000Z");
    let user = |name: &str| json!({"username": name, "password": bcrypt, "createdAt": at});
    let room = |id: &str, participants: &[&str]| json!({"roomId": id, "name": apart, "participants": participants, "createdBy": apart, "createdAt": at});
    let message = |sender: &str| json!({"id": sender, "roomId": "a", "sender": sender, "content": apart, "timestamp": at, "createdAt": at});
    let rooms = json!([room("a", &["b", apart]), room("b", &[apart, "김", "b"])]);
    place.write("source/users.json", json!([user(apart), user("b")]).to_string());
    place.write("source/chatrooms.json", rooms.to_string());
    place.write("source/messages_1.json", json!([message(apart), message("김")]).to_string());
    place.import_well(&source);
    assert_eq!(place.log("users.jsonl")[0]["username"], "김");
    let messages = place.log("messages_000001.jsonl");
    assert_eq!((&messages[0]["sender"], &messages[0]["content"]), (&json!("김"), &json!(apart)));
    let out = place.export("out");
    for name in ["users.json", "messages_1.json"] {
        assert_eq!(array(&source.join(name)), array(&out.join(name)), "{name}");
    }
    let exported = array(&out.join("chatrooms.json"));
    assert_eq!(exported[0], rooms[0]);
    assert_eq!(exported[1]["participants"], json!(["김", "b"]), "who was named twice is in once");
    let other = Place::empty();
    other.import_well(&out);
    assert_same_layout(&out, &other.export("again"));
    // Whose name is there in another spelling is taken.
    place.write("more/users.json", json!([user("c"), user("김")]).to_string());
    let output = place.import(&place.path("more"), &[]);
    assert!(stderr(&output).contains("(element 2): the user name 김 is taken"), "{}", stderr(&output));
}

#[test]
fn a_second_import_goes_on_behind_the_first() {
    let place = Place::empty();
    let layout = Layout { users: 40, rooms: 5, messages: 100, files: 2 };
    layout.write(&place.path("one"));
    place.import_well(&place.path("one"));
    let bcrypt = crate::common::layout::bcrypt();
    let user = json!({"username": "new", "password": bcrypt, "createdAt": "2024-01-01T00:00:00.000Z"});
    let room = json!({"roomId": "new", "name": "n", "participants": ["new", "user1"], "createdBy": "user1", "createdAt": "2024-01-01T00:00:00.000Z"});
    let at = "2024-01-01T00:00:00.000Z";
    let message = json!({"id": "m", "roomId": "room-0001", "sender": "new", "content": "hi", "timestamp": at, "createdAt": at});
    place.write("two/users.json", json!([user]).to_string());
    place.write("two/chatrooms.json", json!([room]).to_string());
    place.write("two/messages_1.json", json!([message]).to_string());
    place.import_well(&place.path("two"));
    assert!(place.assert_clean().contains("101 messages in 1 files, 41 users, 6 room records"));
    let out = place.export("out");
    assert_eq!(array(&out.join("users.json")).last(), Some(&user));
    assert_eq!(array(&out.join("messages_3.json")), [message]);
    let last = place.log("messages_000001.jsonl").pop().unwrap();
    assert_eq!((last["seq"].as_u64(), last["userId"].as_u64()), (Some(101), Some(41)));
    // The same again is refused whole.
    let before = place.logs();
    let output = place.import(&place.path("two"), &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).contains("users.json: byte 1 (element 1): the user name new is taken"),
        "{}",
        stderr(&output)
    );
    assert_eq!(place.logs(), before);
    place.assert_clean();
}
