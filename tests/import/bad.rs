//! Bad sources: what is wrong is named by file and byte, and nothing is changed; or it is left out.

use serde_json::json;

use crate::common::layout::{Layout, bcrypt};
use crate::{Place, array, assert_same_layout, stderr};

const AT: &str = "2024-01-01T00:00:00.000Z";

fn user(name: &str) -> String {
    json!({"username": name, "password": bcrypt(), "createdAt": AT}).to_string()
}

fn room(id: &str, participants: &[&str], by: &str) -> String {
    json!({"roomId": id, "name": "n", "participants": participants, "createdBy": by, "createdAt": AT})
        .to_string()
}

fn message(id: &str, room: &str, sender: &str, content: &str) -> String {
    json!({"id": id, "roomId": room, "sender": sender, "content": content, "timestamp": AT, "createdAt": AT})
        .to_string()
}

/// What stands between the good elements, and what must be said of it at its first byte, or so many
/// bytes behind it.
type Case = (String, &'static str, usize);

fn cases() -> Vec<(&'static str, Vec<Case>)> {
    let case = |text: String, what| (text, what, 0);
    let without = |text: &str, field: &str| {
        let mut value: serde_json::Value = serde_json::from_str(text).unwrap();
        value.as_object_mut().unwrap().remove(field);
        value.to_string()
    };
    let with = |text: &str, field: &str, new: serde_json::Value| {
        let mut value: serde_json::Value = serde_json::from_str(text).unwrap();
        value[field] = new;
        value.to_string()
    };
    let (a_user, a_room) = (user("x"), room("x", &["a"], "a"));
    let a_message = message("x", "r", "a", "x");
    vec![
        (
            "users.json",
            vec![
                case("12".to_owned(), "invalid type"),
                case(without(&a_user, "username"), "username is missing"),
                case(without(&a_user, "password"), "password is missing"),
                case(without(&a_user, "createdAt"), "createdAt is missing"),
                case(with(&a_user, "username", json!(7)), "username must be a string"),
                case(with(&a_user, "username", json!(" x")), "must not begin or end with white space"),
                case(with(&a_user, "username", json!("가".repeat(101))), "must not exceed 100 characters"),
                case(with(&a_user, "password", json!("plain")), "password is neither"),
                case(with(&a_user, "createdAt", json!("yesterday")), "createdAt is not a time"),
                case(user("a"), "the user name a is taken"),
                (format!("{{\"username\":tru,{}", &a_user[1..]), "expected ident", 15),
                (format!("{{\"username\" {}", &a_user[1..]), "a colon is missing", 12),
            ],
        ),
        (
            "chatrooms.json",
            vec![
                case(room("r", &["a"], "a"), "the room id r is taken"),
                case(room("x", &["a", "누구"], "a"), "participants that are not there: 누구"),
                case(room("x", &["a", "a"], "a"), "participants name a twice"),
                case(room("x", &["a"], "nobody"), "createdBy: there is no user nobody"),
                case(with(&a_room, "participants", json!("a")), "participants must be an array"),
                case(with(&a_room, "roomId", json!("")), "roomId must have"),
                case(with(&a_room, "name", json!("\n")), "name is required"),
                case(without(&a_room, "createdAt"), "createdAt is missing"),
            ],
        ),
        (
            "messages_1.json",
            vec![
                case(message("x", "nowhere", "a", "x"), "roomId: there is no room nowhere"),
                case(message("x", "r", "nobody", "x"), "sender: there is no user nobody"),
                case(message("x", "r", "a", &"🎉".repeat(4_001)), "content must not exceed 4000 characters"),
                case(without(&a_message, "id"), "id is missing"),
                case(with(&a_message, "id", json!(null)), "id must be a string or a number"),
                case(
                    with(&a_message, "timestamp", json!("2024-13-01T00:00:00.000Z")),
                    "timestamp is not a time",
                ),
                case(without(&a_message, "createdAt"), "createdAt is missing"),
                case(with(&a_message, "content", json!({"a": 1})), "content must be a string"),
            ],
        ),
    ]
}

/// Good elements around a bad one.
fn write(place: &Place, file: &str, bad: &[u8]) -> u64 {
    let (mut byte, mut names) = (0, Vec::new());
    for (name, [before, behind]) in [
        ("users.json", [user("a"), user("b")]),
        ("chatrooms.json", [room("r", &["a"], "b"), room("s", &[], "a")]),
        ("messages_1.json", [message("1", "r", "a", "x"), message("2", "s", "b", "y")]),
    ] {
        let mut text = format!("[\n  {before},\n  ").into_bytes();
        if name == file {
            byte = text.len() as u64;
            text.extend_from_slice(bad);
            text.extend_from_slice(b",\n  ");
        }
        text.extend_from_slice(format!("{behind}\n]").as_bytes());
        names.push(place.write(&format!("source/{name}"), text));
    }
    byte
}

#[test]
fn every_kind_is_named_or_left_out() {
    let mut all: Vec<(&str, Vec<u8>, &str, usize)> = cases()
        .into_iter()
        .flat_map(|(file, cases)| {
            cases.into_iter().map(move |(text, what, at)| (file, text.into_bytes(), what, at))
        })
        .collect();
    let mut broken = message("x", "r", "a", "x?").into_bytes();
    let at = broken.iter().position(|byte| *byte == b'?').unwrap();
    broken[at] = 0xff;
    all.push(("messages_1.json", broken, "not UTF-8", at));
    let expected = Place::empty();
    write(&expected, "none", b"");
    expected.import_well(&expected.path("source"));
    let expected = expected.export("out");
    for (file, text, what, at) in all {
        let place = Place::empty();
        let byte = write(&place, file, &text) + at as u64;
        let shown = String::from_utf8_lossy(&text);
        let output = place.import(&place.path("source"), &[]);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{shown}: {said}");
        let named = format!("{file}: byte {byte} (element 2): ");
        assert!(said.contains(&named) && said.contains(what), "{shown}: no '{named}…{what}' in: {said}");
        assert!(!said.contains("interrupted"), "{shown}: nobody interrupted it: {said}");
        assert!(place.logs().iter().all(|(_, bytes)| bytes.is_empty()), "{shown}");
        place.assert_clean();
        let list = place.path("list");
        let output =
            place.import(&place.path("source"), &["--skip-bad", "--skipped", list.to_str().unwrap()]);
        let said = stderr(&output);
        assert!(output.status.success(), "{shown}: {said}");
        assert!(said.contains(&named) && said.contains("left out in all: 1"), "{shown}: {said}");
        assert!(std::fs::read_to_string(list).unwrap().contains(&named));
        assert_same_layout(&expected, &place.export("out"));
        place.assert_clean();
    }
}

#[test]
fn a_broken_array_costs_what_is_broken() {
    let good: Vec<String> = ["a", "b", "c", "d"].map(user).into();
    let cut = &good[1][..good[1].len() - 1];
    for (text, kept, said) in [
        // A brace is missing.
        (format!("[{},{cut},{},{}]", good[0], good[2], good[3]), vec!["a", "c", "d"], "a key is missing"),
        // A quotation mark is missing, and the line ends.
        (
            format!("[{},\n{{\"username\":\"b,\n{},\n{}]", good[0], good[2], good[3]),
            vec!["a", "c", "d"],
            "control",
        ),
        // A comma is missing.
        (format!("[{}{},{},{}]", good[0], good[1], good[2], good[3]), vec!["a", "b", "c", "d"], "comma"),
        // The end is missing.
        (format!("[{},{},{cut}", good[0], good[2]), vec!["a", "c"], "left out everything from byte"),
        (format!("[{},{}", good[0], good[2]), vec!["a", "c"], "the array does not end"),
        (format!("[{}] {}", good[0], "?"), vec!["a"], "something behind the array"),
        ("{}".to_owned(), vec![], "not a JSON array"),
    ] {
        let place = Place::empty();
        place.write("source/users.json", &text);
        let output = place.import(&place.path("source"), &[]);
        assert_eq!(output.status.code(), Some(1), "{text}");
        let output = place.import(&place.path("source"), &["--skip-bad"]);
        assert!(output.status.success() && stderr(&output).contains(said), "{text}: {}", stderr(&output));
        let names: Vec<String> = array(&place.export("out").join("users.json"))
            .iter()
            .map(|user| user["username"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(names, kept, "{text}");
    }
}

#[test]
fn many_of_one_name_are_all_named_and_the_first_stays() {
    let place = Place::empty();
    let users: Vec<String> = (0..3_000).map(|at| user(&Layout::username(at % 1_000))).collect();
    place.write("source/users.json", format!("[{}]", users.join(",\n")));
    let output = place.import(&place.path("source"), &[]);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let byte = 1 + users[..1_000].iter().map(|user| user.len() + 2).sum::<usize>();
    assert!(said.contains(&format!("byte {byte} (element 1001): the user name 사용자0 is taken")), "{said}");
    assert_eq!(said.lines().filter(|line| line.contains("is taken")).count(), 1_000, "{said}");
    assert!(said.contains("and 1000 more"), "{said}");
    let output = place.import(&place.path("source"), &["--skip-bad"]);
    let said = stderr(&output);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("left out in all: 2000") && said.contains("1000 more (--skipped"), "{said}");
    assert!(place.assert_clean().contains("1000 users"));
    let numbers: Vec<u64> =
        place.log("users.jsonl").iter().map(|user| user["userId"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=1_000).collect::<Vec<u64>>());
}

#[test]
fn a_wrong_request_changes_nothing() {
    let place = Place::empty();
    for (source, said) in [("nothing", "there is no such file"), ("file.txt", "neither a directory")] {
        if source.contains('.') {
            place.write(source, "[]");
        }
        let output = place.import(&place.path(source), &[]);
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains(said), "{}", stderr(&output));
        assert_eq!(stderr(&output).lines().count(), 1, "{}", stderr(&output));
        assert!(!place.data().exists());
    }
    let output = place.command("export").arg(place.path("out")).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "there is nothing to export");
    place.write("source/users.json", format!("[{}]", user("a")));
    place.import_well(&place.path("source"));
    place.write("full/file", "");
    let output = place.command("export").arg(place.path("full")).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("is not empty"), "{}", stderr(&output));
}
