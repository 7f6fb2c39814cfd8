//! Which pages may read the answers.

use crate::common::rest::{Answer, answer};
use crate::common::{Options, Server};
use std::io::{Read, Write};

const LISTED: &str = "https://chat.example";

fn server() -> Server {
    Server::start(&Options { top: "allowed_origins = [\"https://chat.example\"]", ..Options::default() })
}

fn call(server: &Server, method: &str, path: &str, headers: &str) -> Answer {
    let mut stream = server.connect();
    let request =
        format!("{method} {path} HTTP/1.1\r\nHost: chat.internal\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("an answer");
    answer(&bytes)
}

fn from(origin: &str) -> String {
    format!("Origin: {origin}\r\n")
}

fn preflight(origin: &str) -> String {
    format!(
        "{}Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: authorization,content-type\r\n",
        from(origin)
    )
}

#[test]
fn a_listed_page_may_ask_and_read() {
    let mut server = server();
    let alice = server.new_users("alice", 1).remove(0);
    for origin in [LISTED, "http://localhost:5173", "http://127.0.0.1:3000", "http://chat.internal"] {
        for path in ["/api/auth/signup", "/api/chatrooms", "/api/chatrooms/x/messages", "/not/there"] {
            let asked = call(&server, "OPTIONS", path, &preflight(origin));
            assert_eq!(asked.status, 204, "{origin} {path}");
            assert_eq!(asked.header("access-control-allow-origin"), Some(origin));
            let methods = asked.header("access-control-allow-methods").expect("methods");
            assert!(["GET", "POST", "DELETE"].iter().all(|method| methods.contains(method)), "{methods}");
            let headers = asked.header("access-control-allow-headers").expect("headers").to_lowercase();
            assert!(headers.contains("authorization") && headers.contains("content-type"), "{headers}");
            assert!(asked.header("access-control-max-age").is_some_and(|age| age.parse::<u32>().is_ok()));
            assert_eq!(asked.header("vary"), Some("Origin"));
            assert_eq!(asked.header("access-control-allow-credentials"), Some("true"));
        }
        let token = format!("{}Authorization: Bearer {}\r\n", from(origin), alice.token);
        for (path, headers, status) in [
            ("/api/chatrooms", &token, 200),
            ("/api/chatrooms", &from(origin), 401),
            ("/health", &from(origin), 200),
            ("/not/there", &from(origin), 404),
        ] {
            let read = call(&server, "GET", path, headers);
            assert_eq!(read.status, status, "{origin} {path}");
            assert_eq!(read.header("access-control-allow-origin"), Some(origin), "refusals too");
            assert_eq!(read.header("access-control-allow-credentials"), Some("true"));
            assert_eq!(read.header("access-control-expose-headers"), Some("x-next-cursor"));
            assert_eq!(read.header("vary"), Some("Origin"));
        }
    }
    server.stop();
}

/// Pages that were written for another back end send what that one let them.
#[test]
fn a_page_may_send_headers_of_its_own() {
    let mut server = server();
    let wanted =
        "Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: x-requested-with,x-a\r\n";
    let asked = call(&server, "OPTIONS", "/api/auth/login", &format!("{}{wanted}", from(LISTED)));
    assert_eq!(
        (asked.status, asked.header("access-control-allow-headers")),
        (204, Some("x-requested-with,x-a"))
    );
    server.stop();
}

#[test]
fn any_other_page_may_not() {
    let mut server = server();
    for origin in ["https://evil.example", "http://chat.example", "https://chat.example.evil.example", "null"]
    {
        let asked = call(&server, "OPTIONS", "/api/auth/login", &preflight(origin));
        assert_eq!(asked.outcome(), "403 ORIGIN_NOT_ALLOWED", "{origin}");
        let read = call(&server, "GET", "/health", &from(origin));
        assert_eq!(read.status, 200, "what no browser shows is no secret");
        for answer in [asked, read] {
            assert!(!answer.head.to_lowercase().contains("access-control-"), "{origin}: {}", answer.head);
            assert_eq!(answer.header("vary"), Some("Origin"), "for caches between");
        }
    }
    server.stop();
}

#[test]
fn whoever_is_no_page_notices_nothing() {
    let mut server = server();
    let plain = call(&server, "GET", "/health", "");
    assert_eq!((plain.status, plain.header("access-control-allow-origin")), (200, None));
    assert_eq!(call(&server, "OPTIONS", "/health", "").outcome(), "405 METHOD_NOT_ALLOWED");
    assert_eq!(call(&server, "OPTIONS", "/health", &from(LISTED)).outcome(), "405 METHOD_NOT_ALLOWED");
    server.stop();
}
