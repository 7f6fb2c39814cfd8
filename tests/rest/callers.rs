//! Who may call: tokens that are good and tokens that are not.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;

use crate::common::server::SECRET;
use crate::common::{self, Options, Server};

#[test]
fn calls_without_a_good_token_are_refused() {
    let mut server = Server::start(&Options::default());
    let alice = server.new_users("alice", 1).remove(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let sign = |sub: u64, name: &str, exp: u64, secret: &str| {
        let claims = json!({"sub": sub, "username": name, "iat": exp - 60, "exp": exp, "jti": "j"});
        let key = jsonwebtoken::EncodingKey::from_secret(secret.as_bytes());
        jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).expect("signed")
    };
    let good = sign(alice.number, &alice.name, now + 600, SECRET);
    assert_eq!(server.call_bytes("GET", "/api/chatrooms", Some(&good), b"").status, 200, "the forge works");
    let half = alice.token.split_at(alice.token.len() / 2).0.to_owned();
    let bad = [
        None,
        Some(String::new()),
        Some("garbage".to_owned()),
        Some(half),
        Some(sign(alice.number, &alice.name, now - 600, SECRET)),
        Some(sign(alice.number, &alice.name, now + 600, "another secret of the same length, 32+")),
        Some(sign(999, "nobody", now + 600, SECRET)),
        Some(sign(alice.number, "somebody else", now + 600, SECRET)),
    ];
    for token in &bad {
        for (method, path) in [
            ("GET", "/api/chatrooms"),
            ("POST", "/api/chatrooms"),
            ("POST", "/api/chatrooms-batch"),
            ("POST", "/api/chatrooms/x/invite"),
            ("POST", "/api/chatrooms/x/join"),
            ("POST", "/api/chatrooms/x/leave"),
            ("GET", "/api/chatrooms/x/messages"),
        ] {
            let answer = server.call_bytes(method, path, token.as_deref(), b"{}");
            assert_eq!(answer.outcome(), "401 UNAUTHORIZED", "{method} {path} {token:?}");
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        }
    }
    server.stop();
}

#[test]
fn a_token_ends() {
    let mut server = Server::start(&Options { auth: "token_ttl = \"1s\"", ..Options::default() });
    let alice = server.new_users("alice", 1).remove(0);
    common::until("the token has ended", || {
        let status = server.get("/api/chatrooms", Some(&alice)).status;
        assert!(status == 200 || status == 401, "{status}");
        (status == 401).then_some(())
    });
    server.stop();
}
