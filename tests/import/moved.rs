//! A server on what was imported.

use serde_json::json;

use crate::common::layout::{Layout, PASSWORD};
use crate::common::{Options, Server, until, whole_lines};
use crate::{Place, array, stderr};

fn passwords(server: &Server, number: u64) -> Vec<String> {
    let lines = whole_lines(&server.data_dir.join("users.jsonl"));
    let records = lines.iter().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let own = records.filter(|record| record["userId"] == json!(number));
    own.map(|line| line["password"].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn people_find_everything_where_it_was() {
    let place = Place::empty();
    let layout = Layout { users: 100, rooms: 10, messages: 500, files: 2 };
    layout.write(&place.path("source"));
    place.import_well(&place.path("source"));
    place.import_well(&place.write("members.csv", "number,name,nickname\n500,member,별\n"));
    let mut server = Server::on(&Options::default(), &place.data());
    let credentials = |name: &str, password: &str| json!({"username": name, "password": password});

    // The old password opens, a wrong one does not, and neither does any for whoever has none.
    let wrong = server.post("/api/auth/login", None, &credentials("user1", "wrong"));
    assert_eq!(wrong.outcome(), "401 INVALID_CREDENTIALS");
    let member = server.post("/api/auth/login", None, &credentials("member", "wrong"));
    assert_eq!((member.outcome(), member.body), (wrong.outcome(), wrong.body));
    assert_eq!(passwords(&server, 2).len(), 1);
    let login = server.post("/api/auth/login", None, &credentials("user1", PASSWORD));
    assert_eq!((login.status, login.body["userId"].as_u64()), (200, Some(2)), "{login:?}");
    let user = crate::common::rest::user(&login.body);
    until("the password has a new hash", || (passwords(&server, 2).len() == 2).then_some(()));
    let hashes = passwords(&server, 2);
    assert!(hashes[0].starts_with("$2b$04$") && hashes[1].starts_with("$argon2id$"), "{hashes:?}");
    let again = server.post("/api/auth/login", None, &credentials("user1", PASSWORD));
    assert_eq!(again.status, 200);
    let both = json!({"users": [credentials("사용자3", PASSWORD), credentials("사용자0", "x"), credentials("user4", PASSWORD)]});
    let batch = server.post("/api/auth/login-batch", None, &both);
    assert_eq!(batch.body["results"].as_array().unwrap().len(), 2, "{batch:?}");
    for number in [4, 5] {
        until("the batch has new hashes", || (passwords(&server, number).len() == 2).then_some(()));
    }
    assert_eq!((passwords(&server, 2).len(), passwords(&server, 1).len()), (2, 1));

    // Rooms and their history, with the ids they had.
    let rooms = server.get("/api/chatrooms", Some(&user));
    let mine = (0..10).filter(|room| layout.participants(*room).contains(&1)).collect::<Vec<u64>>();
    assert_eq!(rooms.body.as_array().unwrap().len(), mine.len());
    let path = format!("/api/chatrooms/{}/messages?limit=1000", Layout::room_id(mine[0]));
    let history = server.get(&path, Some(&user));
    let expected: Vec<_> =
        (0..500).filter(|message| message % 10 == mine[0]).map(|at| layout.message(at)).collect();
    let history = history.body.as_array().unwrap();
    assert_eq!(history.len(), expected.len());
    for (found, old) in history.iter().zip(&expected) {
        let id = old["id"].as_str().map_or(old["id"].to_string(), str::to_owned);
        assert_eq!(found["id"], json!(id));
        assert_eq!((&found["content"], &found["sender"]), (&old["content"], &old["sender"]));
        assert_eq!(found["timestamp"], old["timestamp"]);
        assert_eq!(found.as_object().unwrap().len(), 6, "{found}");
    }

    // Whoever comes now is the next, and nobody can import meanwhile.
    let signed = json!({"users": [credentials("newcomer", "p")]});
    let signed = server.post("/api/auth/signup-batch", None, &signed);
    assert_eq!(signed.body["created"][0]["id"], json!(501), "{signed:?}");
    for (command, path) in [("import", "source"), ("export", "out")] {
        let output = place.command(command).arg(place.path(path)).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains("in use") && stderr(&output).lines().count() == 1);
    }
    server.stop();
    place.assert_clean();
    let out = array(&place.export("out").join("users.json"));
    assert_eq!(out.len(), 102);
    assert_eq!(out[1]["password"], json!(hashes[1]));
    // Built anew, the index knows the new passwords.
    let index = place.index();
    assert!(place.command("reindex").output().unwrap().status.success());
    assert_eq!(place.index(), index);
}
