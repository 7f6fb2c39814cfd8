//! A blocking Socket.IO client over WebSocket, for tests that need many messages rather than a
//! stock client (those are in `tests/e2e`).

use std::net::TcpStream;

use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

use super::Server;
use super::rest::User;

/// A connected client.
#[derive(Debug)]
pub struct Socket(WebSocket<TcpStream>);

impl Socket {
    /// Connects as that user.
    pub fn connect(server: &Server, user: &User) -> Socket {
        Socket::try_connect(server, user).unwrap()
    }

    /// Connects as that user, or answers how that was refused: the packet, or why it was closed.
    pub fn try_connect(server: &Server, user: &User) -> Result<Socket, String> {
        Socket::enter(server, &json!({"token": user.token}))
    }

    /// Connects as that user, who has heard up to message `since`.
    pub fn returning(server: &Server, user: &User, since: u64) -> Socket {
        Socket::enter(server, &json!({"token": user.token, "since": since})).unwrap()
    }

    fn enter(server: &Server, payload: &Value) -> Result<Socket, String> {
        let url = format!("ws://127.0.0.1:{}/socket.io/?EIO=4&transport=websocket", server.port);
        let (stream, _) = tungstenite::client(url, server.connect()).unwrap();
        let mut socket = Socket(stream);
        assert!(socket.next().starts_with("0{"));
        socket.send(&format!("40{payload}"));
        loop {
            match socket.0.read().unwrap() {
                Message::Text(answer) if answer.starts_with("40{") => return Ok(socket),
                Message::Text(ping) if ping.as_str() == "2" => socket.send("3"),
                Message::Text(answer) => return Err(answer.as_str().to_owned()),
                Message::Close(Some(close)) => {
                    return Err(format!("{} {}", u16::from(close.code), close.reason));
                }
                other => panic!("not a text: {other:?}"),
            }
        }
    }

    /// Waits no longer for anything.
    pub fn set_patience(&mut self, patience: std::time::Duration) {
        self.0.get_ref().set_read_timeout(Some(patience)).unwrap();
    }

    /// Sends one packet.
    pub fn send(&mut self, packet: &str) {
        self.0.send(Message::text(packet)).unwrap();
    }

    /// Sends one message and answers its ack; `None`: the connection ended first. `number` is its ack
    /// id.
    pub fn say(&mut self, number: u32, message: &Value) -> Option<Value> {
        let event = json!(["send_message", message]);
        self.0.send(Message::text(format!("42{number}{event}"))).ok()?;
        let start = format!("43{number}[");
        loop {
            let text = match self.0.read().ok()? {
                Message::Text(text) => text,
                _ => return None,
            };
            if text.as_str() == "2" {
                self.0.send(Message::text("3")).ok()?;
            } else if let Some(arguments) = text.strip_prefix(start.as_str()) {
                let ack: Value = serde_json::from_str(&format!("[{arguments}")).unwrap();
                return Some(ack[0].clone());
            }
        }
    }

    /// Waits for a ping and answers it.
    pub fn hear_ping(&mut self) {
        while self.0.read().unwrap() != Message::text("2") {}
        self.send("3");
    }

    /// The next packet that is no ping.
    pub fn next(&mut self) -> String {
        loop {
            match self.0.read().unwrap() {
                Message::Text(text) if text.as_str() == "2" => self.send("3"),
                Message::Text(text) => return text.as_str().to_owned(),
                other => panic!("not a text: {other:?}"),
            }
        }
    }

    /// The next packet that is no ping; `None`: the server has closed the connection.
    pub fn try_next(&mut self) -> Option<String> {
        loop {
            match self.0.read() {
                Ok(Message::Text(text)) if text.as_str() == "2" => self.send("3"),
                Ok(Message::Text(text)) => return Some(text.as_str().to_owned()),
                _ => return None,
            }
        }
    }

    /// Sends messages `from..to` to a room, all at once, and answers their acks in order of arrival.
    /// The number of a message is its content.
    pub fn say_many(&mut self, room_id: &str, from: u32, to: u32) -> Vec<Value> {
        let contents: Vec<String> = (from..to).map(|number| number.to_string()).collect();
        self.say_all(room_id, &contents)
    }

    /// Sends messages of these contents to a room, all at once, and answers their acks in order of
    /// arrival.
    pub fn say_all(&mut self, room_id: &str, contents: &[impl AsRef<str>]) -> Vec<Value> {
        for (number, content) in contents.iter().enumerate() {
            let event = json!(["send_message", {"roomId": room_id, "content": content.as_ref()}]);
            self.0.write(Message::text(format!("42{number}{event}"))).unwrap();
        }
        self.0.flush().unwrap();
        let mut acks = Vec::new();
        while acks.len() < contents.len() {
            let packet = self.next();
            // `43` and the ack id, then the arguments; a `message` event begins with `42[`.
            if let Some((_, arguments)) = packet.strip_prefix("43").and_then(|rest| rest.split_once('[')) {
                let ack: Value = serde_json::from_str(&format!("[{arguments}")).unwrap();
                assert_eq!(ack[0]["ok"], true, "{packet}");
                acks.push(ack[0].clone());
            }
        }
        acks
    }
}
