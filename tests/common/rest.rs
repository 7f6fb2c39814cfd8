//! A small blocking HTTP client: every call on a connection of its own, so that calls spread over
//! the workers and the raw bytes of a request are the test's to choose.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use super::{DEADLINE, Server};

/// An answer; the body as JSON, `Null` if it is none.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Header lines as they came.
    pub head: String,
    /// Body, if it is JSON.
    pub body: Value,
    /// Body as it came.
    pub text: String,
}

impl Answer {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// `status CODE` of a refusal; a success has no code.
    pub fn outcome(&self) -> String {
        match self.body["code"].as_str() {
            Some(code) => format!("{} {code}", self.status),
            None => self.status.to_string(),
        }
    }
}

/// A user that is logged in.
#[derive(Clone, Debug)]
pub struct User {
    /// Name.
    pub name: String,
    /// Number.
    pub number: u64,
    /// Token.
    pub token: String,
}

impl Server {
    /// A connection to the server.
    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// A connection from any address of this machine's own.
    pub fn connect_from(&self, address: &str) -> TcpStream {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let from: SocketAddr = format!("{address}:0").parse().unwrap();
        socket.bind(&from.into()).unwrap();
        socket.connect(&SocketAddr::from(([127, 0, 0, 1], self.port)).into()).unwrap();
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream
    }

    /// Sends the bytes from that address and reads until the server closes.
    pub fn call_from(&self, address: &str, request: &[u8]) -> Answer {
        exchange(self.connect_from(address), request)
    }

    /// Sends the bytes and reads until the server closes.
    pub fn raw_call(&self, request: &[u8]) -> Answer {
        exchange(self.connect(), request)
    }

    /// `POST` of JSON to a server that may end meanwhile; status 0: no answer.
    pub fn try_post(&self, path: &str, body: &Value) -> Answer {
        match TcpStream::connect(("127.0.0.1", self.port)) {
            Ok(stream) => exchange(stream, &self.request("POST", path, None, body.to_string().as_bytes())),
            Err(_) => answer(b""),
        }
    }

    /// One call with a body of any bytes.
    pub fn call_bytes(&self, method: &str, path: &str, token: Option<&str>, body: &[u8]) -> Answer {
        self.raw_call(&self.request(method, path, token, body))
    }

    fn request(&self, method: &str, path: &str, token: Option<&str>, body: &[u8]) -> Vec<u8> {
        let token = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: 127.0.0.1:{}\r\nconnection: close\r\n{token}\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n",
            self.port,
            body.len(),
        );
        [head.as_bytes(), body].concat()
    }

    /// `POST` of JSON.
    pub fn post(&self, path: &str, user: Option<&User>, body: &Value) -> Answer {
        self.call_bytes("POST", path, user.map(|user| user.token.as_str()), body.to_string().as_bytes())
    }

    /// `GET`
    pub fn get(&self, path: &str, user: Option<&User>) -> Answer {
        self.call_bytes("GET", path, user.map(|user| user.token.as_str()), b"")
    }

    /// New users, named `prefix` and a number, logged in.
    pub fn new_users(&self, prefix: &str, count: usize) -> Vec<User> {
        let users: Vec<Value> = (0..count)
            .map(|at| json!({"username": format!("{prefix}{at}"), "password": "password"}))
            .collect();
        let created = self.post("/api/auth/signup-batch", None, &json!({"users": users}));
        assert_eq!(created.body["errors"], json!([]), "{created:?}");
        let login = self.post("/api/auth/login-batch", None, &json!({"users": users}));
        assert_eq!(login.body["errors"], json!([]), "{login:?}");
        login.body["results"].as_array().unwrap().iter().map(user).collect()
    }

    /// The id of a new room of these users; the first one creates it.
    pub fn new_room(&self, users: &[User], name: &str) -> String {
        let participants: Vec<&str> = users.iter().map(|user| user.name.as_str()).collect();
        let body = json!({"name": name, "participants": participants});
        let made = self.post("/api/chatrooms", Some(&users[0]), &body);
        assert_eq!(made.status, 201, "{made:?}");
        made.body["roomId"].as_str().unwrap().to_owned()
    }
}

/// A user out of a login's answer.
pub fn user(login: &Value) -> User {
    User {
        name: login["username"].as_str().unwrap().to_owned(),
        number: login["userId"].as_u64().unwrap(),
        token: login["token"].as_str().unwrap().to_owned(),
    }
}

/// Sends the bytes and reads until the other side closes.
pub fn exchange(mut stream: TcpStream, request: &[u8]) -> Answer {
    // A server that has heard enough may close before it has read everything.
    let _ = stream.write_all(request);
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    answer(&bytes)
}

/// An answer out of its bytes.
pub fn answer(bytes: &[u8]) -> Answer {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    let whole = if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        dechunked(body)
    } else {
        body.to_owned()
    };
    let body = serde_json::from_str(&whole).unwrap_or(Value::Null);
    Answer { status, head: head.to_owned(), body, text: whole }
}

fn dechunked(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap();
        whole.push_str(&rest[..size]);
        body = rest[size..].trim_start_matches("\r\n");
    }
    whole
}
