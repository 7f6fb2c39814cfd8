//! A tiny chat server for testing the judge: perfect, unless told to have one fault.
//!
//! Threads and one lock; just enough REST and WebSocket for the load tester. Every message gets the
//! next `seq`, is delivered to the room and then acked, all under the lock.

mod wire;

use std::collections::{BTreeMap, HashMap};
use std::io::{BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

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
    /// Of a thousand deliveries, one is left out.
    DropThousandth,
    /// Of a thousand deliveries, one is made twice.
    RepeatThousandth,
    /// The whole server stands still for [`STALL`], once.
    Stall,
    /// A client that comes back is not told what it missed.
    Forget,
    /// A client that comes back is told again what came last before.
    Retell,
    /// The ack of one message gets lost; the message is known when it is repeated.
    LoseAck,
    /// The same, but the repeated message is stored again.
    StoreAgain,
    /// No page of history is answered.
    NoHistory,
}

/// How long [`Fault::Stall`] lasts.
pub const STALL: Duration = Duration::from_millis(300);

/// How long a client that comes back waits to be let in, so that there is something to miss.
const RETURN: Duration = Duration::from_millis(150);

/// Of each hundred messages, the one that meets the fault.
const HIT: u64 = 37;

#[derive(Default)]
struct State {
    rooms: HashMap<String, Vec<String>>,
    sockets: BTreeMap<String, TcpStream>,
    seq: u64,
    held: Option<String>,
    /// Everything sent: `seq`, room and event.
    log: Vec<(u64, String, String)>,
    /// The `seq` of each `clientId`.
    known: HashMap<String, u64>,
    deliveries: u64,
}

#[derive(Clone)]
struct Server {
    fault: Fault,
    state: Arc<Mutex<State>>,
    broken: Arc<AtomicU64>,
}

/// Starts a server on a free port; it lives as long as the test's process.
pub fn start(fault: Fault) -> SocketAddr {
    start_counting(fault).0
}

/// The same, with the count of deliveries that were broken by now.
pub fn start_counting(fault: Fault) -> (SocketAddr, Arc<AtomicU64>) {
    let broken = Arc::new(AtomicU64::new(0));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server { fault, state: Arc::default(), broken: broken.clone() };
    thread::spawn(move || {
        for stream in listener.incoming() {
            let server = server.clone();
            thread::spawn(move || server.serve(stream.unwrap()));
        }
    });
    (address, broken)
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
            if request.path.starts_with("/api/messages/search") {
                respond(&stream, &json!({"messages": []}), false);
                continue;
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
                1 if text.starts_with("40") => {
                    drop(state);
                    self.join(&user, &mut stream, text[2..].parse().ok());
                }
                1 if text.starts_with("42") => self.message(&mut state, &user, &text[2..]),
                9 => wire::write_frame(&mut stream, 0x8a, &payload),
                8 => break,
                _ => {}
            }
        }
        let mut state = self.state.lock().unwrap();
        let same = |socket: &TcpStream| socket.peer_addr().ok() == stream.peer_addr().ok();
        if state.sockets.get(&user).is_some_and(same) {
            state.sockets.remove(&user);
        }
    }

    fn join(&self, user: &str, stream: &mut TcpStream, payload: Option<Value>) {
        let since = payload.and_then(|payload| payload["since"].as_u64());
        if since.is_some() {
            thread::sleep(RETURN);
        }
        let mut state = self.state.lock().unwrap();
        write_text(stream, r#"40{"sid":"y"}"#);
        write_text(stream, "2"); // asks at once; the answer is awaited nowhere
        state.sockets.insert(user.to_owned(), stream.try_clone().unwrap());
        let Some(since) = since else { return };
        let own = |room: &String| state.rooms[room].iter().any(|member| member == user);
        let log = state.log.iter().filter(|(_, room, _)| own(room));
        let missed = log.clone().filter(|(seq, _, _)| *seq > since);
        match self.fault {
            Fault::Forget => {
                self.broken.fetch_add(missed.count() as u64, SeqCst);
            }
            Fault::Retell => {
                if let Some((_, _, event)) = log.clone().rfind(|(seq, _, _)| *seq <= since) {
                    write_text(stream, event);
                    self.broken.fetch_add(1, SeqCst);
                }
                missed.for_each(|(_, _, event)| write_text(stream, event));
            }
            _ => missed.for_each(|(_, _, event)| write_text(stream, event)),
        }
    }

    fn typing(&self, state: &mut State, user: &str, room: &str) {
        for member in state.rooms[room].clone().iter().filter(|member| *member != user) {
            if let Some(stream) = state.sockets.get_mut(member) {
                write_text(stream, &format!(r#"42["typing",{{"roomId":"{room}"}}]"#));
            }
        }
    }

    fn message(&self, state: &mut State, user: &str, text: &str) {
        let (ack, body) = text.split_at(text.find('[').unwrap());
        let event: Value = serde_json::from_str(body).unwrap();
        let room = event[1]["roomId"].as_str().unwrap();
        match event[0].as_str().unwrap() {
            "typing" => return self.typing(state, user, room),
            "get_messages" if self.fault == Fault::NoHistory => return,
            "get_messages" => {
                let stream = state.sockets.get_mut(user).unwrap();
                return write_text(stream, &format!(r#"43{ack}[{{"ok":true,"messages":[]}}]"#));
            }
            _ => {}
        }
        let client_id = event[1]["clientId"].as_str().map(str::to_owned);
        if let Some(known) = client_id.as_ref().and_then(|id| state.known.get(id)).copied() {
            if self.fault != Fault::StoreAgain {
                let stream = state.sockets.get_mut(user).unwrap();
                return write_text(stream, &format!(r#"43{ack}[{{"ok":true,"seq":{known}}}]"#));
            }
            self.broken.fetch_add(state.rooms[room].len() as u64, SeqCst);
        }
        state.seq += 1;
        if let Some(id) = client_id {
            state.known.insert(id, state.seq);
        }
        if self.fault == Fault::Stall && state.seq == HIT {
            thread::sleep(STALL);
        }
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
        let content = event[1]["content"].as_str().unwrap();
        if !refused {
            let told = Message { seq, room, user, content }.event(self.fault != Fault::NoSeq);
            state.log.push((seq, room.to_owned(), told));
        }
        let answer = match self.fault {
            _ if refused => json!({"ok": false, "code": "OVERLOADED"}),
            Fault::NoSeq => json!({"ok": true}),
            _ => json!({"ok": true, "seq": seq}),
        };
        let lost = seq == HIT && matches!(self.fault, Fault::LoseAck | Fault::StoreAgain);
        if let Some(stream) = state.sockets.get_mut(user).filter(|_| !lost) {
            write_text(stream, &format!("43{ack}[{answer}]"));
        }
    }

    fn deliver(&self, state: &mut State, member: &str, message: &Message, fault: Fault) {
        let hit = message.seq % 100 == HIT;
        let Some(stream) = state.sockets.get_mut(member) else { return };
        state.deliveries += 1;
        let thousandth = state.deliveries.is_multiple_of(1000);
        if thousandth && matches!(self.fault, Fault::DropThousandth | Fault::RepeatThousandth) {
            self.broken.fetch_add(1, SeqCst);
        }
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
            _ if thousandth && self.fault == Fault::DropThousandth => {}
            _ if thousandth && self.fault == Fault::RepeatThousandth => {
                (0..2).for_each(|_| write_text(stream, &text));
            }
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
