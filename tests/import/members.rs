//! Members of challenges, from CSV and NDJSON.

use serde_json::json;

use crate::{Place, stderr};

fn numbers(place: &Place) -> Vec<(u64, String)> {
    let number = |user: &serde_json::Value| {
        (user["userId"].as_u64().unwrap(), user["username"].as_str().unwrap().to_owned())
    };
    place.log("users.jsonl").iter().map(number).collect()
}

#[test]
fn numbers_are_kept_in_any_order() {
    let named = |names: &[(u64, &str)]| -> Vec<(u64, String)> {
        names.iter().map(|(number, name)| (*number, (*name).to_owned())).collect()
    };
    let place = Place::empty();
    let csv = "\u{feff}memberId,username,nickname,profileImage\r\n9,c,\"별,\"\"명\"\"\",https://x/y\r\n2,a@b,,\r\n5,나,\"\",\r\n";
    place.import_well(&place.write("members.csv", csv));
    assert_eq!(numbers(&place), named(&[(2, "a@b"), (5, "나"), (9, "c")]));
    let users = place.log("users.jsonl");
    assert_eq!(users[2]["nickname"], json!("별,\"명\""));
    assert_eq!(users[2]["profileImage"], json!("https://x/y"));
    assert!(users[0].get("nickname").is_none() && users[0].get("password").is_none());
    let lines = "{\"number\":12,\"name\":\"x\"}\n\n{\"number\":11,\"name\":\"y\",\"nickname\":null}\r\n";
    place.import_well(&place.write("more.ndjson", lines));
    assert_eq!(numbers(&place)[3..], named(&[(11, "y"), (12, "x")]));
    place.import_well(&place.write("unnumbered.ndjson", "{\"name\":\"p\"}\n{\"name\":\"q\"}"));
    assert_eq!(numbers(&place)[5..], named(&[(13, "p"), (14, "q")]));
    place.assert_clean();
    // Numbers that are not in a row survive an export, too.
    let other = Place::empty();
    other.import_well(&place.export("out"));
    assert_eq!(numbers(&other), numbers(&place));
    assert_eq!(other.log("users.jsonl")[2]["nickname"], json!("별,\"명\""));
    let index = place.index();
    assert!(place.command("reindex").output().unwrap().status.success());
    assert_eq!(place.index(), index);
}

#[test]
fn bad_members_are_named() {
    let place = Place::empty();
    place.import_well(&place.write("first.ndjson", "{\"number\":3,\"name\":\"old\"}"));
    let csv = "number,name\n7,a\n7,b\n2,c\nx,d\n8,a\n9,old\n10\n11,e\n";
    let source = place.write("members.csv", csv);
    let before = place.logs();
    let output = place.import(&source, &[]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(place.logs(), before);
    let output = place.import(&source, &["--skip-bad"]);
    let said = stderr(&output);
    assert!(output.status.success(), "{said}");
    for flaw in [
        "byte 16 (element 2): the user number 7 is taken",
        "byte 20 (element 3): the user number 2 is below 3, which is taken",
        "byte 24 (element 4): the number is no number",
        "byte 28 (element 5): the user name a is taken",
        "byte 32 (element 6): the user name old is taken",
        "byte 38 (element 7): 1 fields where the header has 2",
        "left out in all: 6",
    ] {
        assert!(said.contains(flaw), "{flaw} is not in {said}");
    }
    let kept = [(3, "old".to_owned()), (7, "a".to_owned()), (11, "e".to_owned())];
    assert_eq!(numbers(&place), kept);
    place.assert_clean();
}
