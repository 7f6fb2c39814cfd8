//! Members of challenges: how they come to be, and how load tests log them in.

use serde_json::{Value, json};

use crate::common::{Options, Server};

const TEST_LOGIN: &str = "[challenge]\ntest_login = true\n";

fn login(server: &Server, query: &str) -> (u16, Value) {
    let answer = server.post(&format!("/api/v1/auth/test-login{query}"), None, &json!({}));
    assert_eq!(answer.body["code"], answer.status, "{answer:?}");
    assert_eq!(answer.body["isSuccess"], answer.status < 400, "{answer:?}");
    assert!(answer.body["message"].as_str().is_some_and(|message| !message.is_empty()), "{answer:?}");
    (answer.status, answer.body["data"].clone())
}

#[test]
fn test_login_gives_tokens_where_it_is_on() {
    let mut server = Server::start(&Options { tables: TEST_LOGIN, ..Options::default() });
    let users = server.new_users("member", 2);
    let (status, data) = login(&server, &format!("?memberId={}", users[1].number));
    assert_eq!(
        (status, &data["isNewUser"], &data["needAdditionalInfo"]),
        (200, &json!(false), &json!(false))
    );
    for name in ["accessToken", "refreshToken"] {
        let mut user = users[1].clone();
        user.token = data[name].as_str().unwrap().to_owned();
        assert_eq!(server.get("/api/chatrooms", Some(&user)).status, 200, "{name}");
    }
    assert_eq!(login(&server, "?memberId=3"), (404, Value::Null));
    for wrong in
        ["", "?memberId=", "?memberId=0", "?memberId=-1", "?memberId=x", "?memberId=99999999999999999999"]
    {
        assert_eq!(login(&server, wrong), (400, Value::Null), "{wrong}");
    }
    server.stop();
}

#[test]
fn test_login_is_not_there_where_it_is_off() {
    let mut server = Server::start(&Options::default());
    let users = server.new_users("member", 1);
    assert_eq!(login(&server, &format!("?memberId={}", users[0].number)).0, 404);
    assert_eq!(login(&server, "").0, 404);
    server.stop();
}

#[test]
fn whatever_is_refused_under_v1_comes_in_the_envelope() {
    let mut server = Server::start(&Options { tables: TEST_LOGIN, ..Options::default() });
    for (method, path, status) in
        [("GET", "/api/v1/nothing", 404), ("GET", "/api/v1/auth/test-login", 405), ("PUT", "/api/v1/", 404)]
    {
        let answer = server.call_bytes(method, path, None, b"");
        let body = &answer.body;
        assert_eq!(
            (answer.status, &body["code"], &body["isSuccess"]),
            (status, &json!(status), &json!(false))
        );
        assert_eq!(body.as_object().unwrap().len(), 4, "{body}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
    }
    server.stop();
}

#[test]
fn nickname_and_picture_can_be_changed() {
    let mut server = Server::start(&Options::default());
    let user = server.new_users("looks", 1).remove(0);
    let patch = |body: &Value| {
        server.call_bytes("PATCH", "/api/users/me", Some(&user.token), body.to_string().as_bytes())
    };
    let shown = |nickname: Value, image: Value| json!({"userId": user.number, "username": user.name, "nickname": nickname, "profileImage": image});
    let long = "x".repeat(2_049);
    for wrong in [
        json!({"nickname": 1}),
        json!({"nickname": "가".repeat(101)}),
        json!({"nickname": " x", "profileImage": "http://a"}),
        json!({"profileImage": []}),
        json!({"nickname": "good", "profileImage": long}),
        json!("nickname"),
    ] {
        assert_eq!(patch(&wrong).outcome(), "400 INVALID_REQUEST", "{wrong}");
    }
    let null = Value::Null;
    for (change, nickname, image) in [
        (json!({}), null.clone(), null.clone()),
        (json!({"nickname": "가나"}), json!("가나"), null.clone()),
        (json!({"profileImage": "http://a/1", "other": 5}), json!("가나"), json!("http://a/1")),
        (json!({"nickname": ""}), null.clone(), json!("http://a/1")),
        (json!({"nickname": "b", "profileImage": null}), json!("b"), null.clone()),
    ] {
        let answer = patch(&change);
        assert_eq!((answer.status, &answer.body), (200, &shown(nickname.clone(), image.clone())), "{change}");
        // Whichever worker is asked.
        for _ in 0..6 {
            assert_eq!(server.get("/api/users/me", Some(&user)).body, shown(nickname.clone(), image.clone()));
        }
    }
    assert_eq!(server.call_bytes("PATCH", "/api/users/me", None, b"{}").outcome(), "401 UNAUTHORIZED");
    server.stop();
}

#[test]
fn nickname_and_picture_come_with_the_signup() {
    let mut server = Server::start(&Options::default());
    let signup = |more: Value| {
        let mut body = json!({"username": "a", "password": "p"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        server.post("/api/auth/signup", None, &body).outcome()
    };
    let long = "x".repeat(2_049);
    for wrong in [
        json!({"nickname": 1}),
        json!({"nickname": "가".repeat(101)}),
        json!({"nickname": " x"}),
        json!({"profileImage": []}),
        json!({"profileImage": long}),
    ] {
        assert_eq!(signup(wrong.clone()), "400 INVALID_REQUEST", "{wrong}");
    }
    let image = format!("http://a/{}", "x".repeat(2_000));
    assert_eq!(signup(json!({"nickname": "가나", "profileImage": image})), "201");
    let users = json!([{"username": "b", "password": "p", "nickname": "다", "profileImage": null},
        {"username": "c", "password": "p", "nickname": ""}]);
    let batch = server.post("/api/auth/signup-batch", None, &json!({ "users": users }));
    assert_eq!((batch.status, &batch.body["errors"]), (201, &json!([])), "{batch:?}");
    server.stop();
    let lines = std::fs::read_to_string(server.data_dir.join("users.jsonl")).unwrap();
    let looks: Vec<[Value; 2]> = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|line| [line["nickname"].clone(), line["profileImage"].clone()])
        .collect();
    let null = Value::Null;
    assert_eq!(looks, [[json!("가나"), json!(image)], [json!("다"), null.clone()], [null.clone(), null]]);
}
