//! Paths and methods that are not there.

use crate::common::{Options, Server};

#[test]
fn paths_and_methods_that_are_not_there() {
    let mut server = Server::start(&Options::default());
    for path in ["/", "/api", "/api/nothing", "/api/auth", "/socket.io", "/%ff", "/api/chatrooms/x/y/z"] {
        assert_eq!(server.get(path, None).outcome(), "404 NOT_FOUND", "{path}");
    }
    for (method, path) in [("GET", "/api/auth/signup"), ("DELETE", "/api/chatrooms"), ("PUT", "/health")] {
        let answer = server.call_bytes(method, path, None, b"");
        assert_eq!(answer.outcome(), "405 METHOD_NOT_ALLOWED", "{method} {path}");
    }
    server.stop();
}

/// Whoever makes a client of the document finds what it says.
#[test]
fn the_document_says_what_holds() {
    let mut server = Server::start(&Options::default());
    let alice = server.new_users("alice", 1).remove(0);
    let room = server.new_room(std::slice::from_ref(&alice), "방");
    let document = server.get("/api/openapi.json", None).body;
    let (mut calls, mut lists) = (0, 0);
    let paths = document["paths"].as_object().expect("paths").iter();
    // Challenges answer otherwise.
    for (path, methods) in paths.filter(|(path, _)| !path.starts_with("/api/v1/")) {
        let at = path.replace("{roomId}", &room);
        for (method, call) in methods.as_object().expect("methods") {
            calls += 1;
            let bare = server.call_bytes(&method.to_uppercase(), &at, None, b"[]");
            let said = &call["responses"][bare.status.to_string()];
            assert!(said.is_object(), "{method} {path}: {}", bare.outcome());
            let refusal = &call["responses"]["default"]["content"]["application/json"]["schema"]["$ref"];
            assert_eq!(refusal, "#/components/schemas/Problem", "{method} {path}");
            let parameters = call["parameters"].as_array().map(Vec::as_slice).unwrap_or_default();
            let Some(limit) = parameters.iter().find(|parameter| parameter["name"] == "limit") else {
                continue;
            };
            lists += 1;
            let schema = &limit["schema"];
            let (least, most) = (schema["minimum"].as_u64().expect("a bound"), schema["maximum"].as_u64());
            let most = most.expect("a bound");
            let asked = |limit: u64| server.get(&format!("{at}?q=a&limit={limit}"), Some(&alice)).status;
            assert_eq!([least - 1, least, most, most + 1].map(asked), [400, 200, 200, 400], "{path}");
        }
    }
    assert!(calls >= 23 && lists == 4, "{calls} calls, {lists} lists");
    for path in ["/health", "/ready", "/api/stats", "/metrics", "/actuator/prometheus"] {
        assert!(document["paths"][path]["get"].is_object(), "{path}");
    }
    server.stop();
}
