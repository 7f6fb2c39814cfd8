//! A tiny chat server for testing the judge: perfect, unless told to have one fault.
//!
//! Threads and one lock; just enough REST and WebSocket for the load tester. Every message gets the
//! next `seq`, is delivered to the room and then acked, all under the lock.

mod wire;

use std::collections::{BTreeMap, HashMap};
use std::io::{BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};
use wire::{Request, read_frame, read_request, respond, respond_not_found, write_text};

/// What is wrong with the server. Where a `seq` matters, the fault meets every hundredth message,
/// and only the room's member of the lowest name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// One delivery is left out.
    Drop,
    /// One delivery is made twice.
    Repeat,
    /// One delivery is made after the next.
    Swap,
    /// One delivery is made of a message nobody sent.
    Invent,
    /// One delivery has a letter of its content changed.
    Change,
    /// One delivery names another room.
    Misplace,
    /// No delivery and no ack has a `seq`.
    NoSeq,
    /// Deliveries come in fragments, with pings between.
    Fragment,
    /// One message is neither delivered nor acked.
    Swallow,
    /// One message is refused.
    Refuse,
    /// One connection is closed.
    HangUp,
}

/// Of each hundred messages, the one that meets the fault.
const HIT: u64 = 37;

#[derive(Default)]
struct State {
    rooms: HashMap<String, Vec<String>>,
    sockets: BTreeMap<String, TcpStream>,
    seq: u64,
    held: Option<String>,
}

#[derive(Clone)]
struct Server {
    fault: Fault,
    state: Arc<Mutex<State>>,
}

/// Starts a server on a free port; it lives as long as the test's process.
pub fn start(fault: Fault) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server { fault, state: Arc::default() };
    thread::spawn(move || {
        for stream in listener.incoming() {
            let server = server.clone();
            thread::spawn(move || server.serve(stream.unwrap()));
        }
    });
    address
}

impl Server {
    fn serve(&self, stream: TcpStream) {
        stream.set_nodelay(true).unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        while let Some(request) = read_request(&mut reader) {
            if let Some((_, token)) = request.path.split_once("token=") {
                let user = token.strip_prefix("token-of-").unwrap().to_owned();
                return self.talk(user, stream, reader);
            }
            if !request.path.ends_with("-batch") {
                respond_not_found(&stream);
                continue;
            }
            let chunked = request.path.contains("login"); // both ways of sending a body are met
            respond(&stream, &self.answer(&request), chunked);
        }
    }

    fn answer(&self, request: &Request) -> Value {
        let body = &request.body;
        let names =
            || body["users"].as_array().unwrap().iter().map(|user| user["username"].as_str().unwrap());
        match request.path.as_str() {
            "/api/auth/signup-batch" => {
                json!({"created": names().map(|name| json!({"username": name})).collect::<Vec<_>>(), "errors": []})
            }
            "/api/auth/login-batch" => {
                let result =
                    |name| json!({"username": name, "token": format!("token-of-{name}"), "userId": 1});
                json!({"results": names().map(result).collect::<Vec<_>>(), "errors": []})
            }
            _ => {
                let mut state = self.state.lock().unwrap();
                let rooms = body["rooms"].as_array().unwrap().iter().map(|room| {
                    let id = format!("room-{}", room["name"].as_str().unwrap());
                    state
                        .rooms
                        .insert(id.clone(), serde_json::from_value(room["participants"].clone()).unwrap());
                    json!({"roomId": id, "name": room["name"], "participants": room["participants"]})
                });
                json!({"created": rooms.collect::<Vec<_>>(), "errors": []})
            }
        }
    }

    fn talk(&self, user: String, mut stream: TcpStream, mut reader: BufReader<TcpStream>) {
        stream.write_all(wire::UPGRADE.as_bytes()).unwrap();
        write_text(&mut stream, r#"0{"sid":"x","pingInterval":25000}"#);
        while let Some((opcode, payload)) = read_frame(&mut reader) {
            let text = String::from_utf8_lossy(&payload);
            let mut state = self.state.lock().unwrap();
            match opcode {
                1 if text == "40" => {
                    write_text(&mut stream, r#"40{"sid":"y"}"#);
                    write_text(&mut stream, "2"); // asks at once; the answer is awaited nowhere
                    state.sockets.insert(user.clone(), stream.try_clone().unwrap());
                }
                1 if text.starts_with("42") => self.message(&mut state, &user, &text[2..]),
                9 => wire::write_frame(&mut stream, 0x8a, &payload),
                8 => break,
                _ => {}
            }
        }
        self.state.lock().unwrap().sockets.remove(&user);
    }

    fn message(&self, state: &mut State, user: &str, text: &str) {
        let (ack, body) = text.split_at(text.find('[').unwrap());
        let event: Value = serde_json::from_str(body).unwrap();
        let room = event[1]["roomId"].as_str().unwrap();
        state.seq += 1;
        let seq = state.seq;
        let hit = seq % 100 == HIT;
        let mut members = state.rooms[room].clone();
        members.sort();
        if hit && self.fault == Fault::HangUp {
            state.sockets[&members[0]].shutdown(Shutdown::Both).unwrap();
        }
        let refused = hit && self.fault == Fault::Refuse;
        if hit && self.fault == Fault::Swallow {
            return;
        }
        for (place, member) in members.iter().enumerate().filter(|_| !refused) {
            let fault = if place == 0 { self.fault } else { Fault::None };
            let message = Message { seq, room, user, content: event[1]["content"].as_str().unwrap() };
            self.deliver(state, member, &message, fault);
        }
        let answer = match self.fault {
            _ if refused => json!({"ok": false, "code": "OVERLOADED"}),
            Fault::NoSeq => json!({"ok": true}),
            _ => json!({"ok": true, "seq": seq}),
        };
        if let Some(stream) = state.sockets.get_mut(user) {
            write_text(stream, &format!("43{ack}[{answer}]"));
        }
    }

    fn deliver(&self, state: &mut State, member: &str, message: &Message, fault: Fault) {
        let hit = message.seq % 100 == HIT;
        let Some(stream) = state.sockets.get_mut(member) else { return };
        let text = message.event(self.fault != Fault::NoSeq);
        match fault {
            Fault::Drop if hit => {}
            Fault::Repeat if hit => (0..2).for_each(|_| write_text(stream, &text)),
            Fault::Swap if hit => state.held = Some(text),
            Fault::Invent if hit => {
                write_text(stream, &text);
                write_text(stream, &Message { content: "hello", ..*message }.event(true));
            }
            Fault::Change if hit => write_text(stream, &text.replace("abc", "abd")),
            Fault::Misplace if hit => write_text(stream, &Message { room: "room-x", ..*message }.event(true)),
            Fault::Fragment => {
                let (one, two) = text.as_bytes().split_at(text.len() / 2);
                wire::write_frame(stream, 0x01, one);
                wire::write_frame(stream, 0x89, b"between");
                wire::write_frame(stream, 0x80, two);
            }
            _ => write_text(stream, &text),
        }
        if fault == Fault::Swap
            && !hit
            && let Some(held) = state.held.take()
        {
            write_text(stream, &held);
        }
    }
}

struct Message<'a> {
    seq: u64,
    room: &'a str,
    user: &'a str,
    content: &'a str,
}

impl Message<'_> {
    fn event(&self, with_seq: bool) -> String {
        let Message { seq, room, user, content } = self;
        let mut fields = json!({"type": "message", "roomId": room, "sender": user, "content": content});
        if with_seq {
            fields["seq"] = json!(seq);
        }
        format!("42{}", json!(["message", fields]))
    }
}
