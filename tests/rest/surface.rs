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
