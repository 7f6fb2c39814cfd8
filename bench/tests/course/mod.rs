//! A tiny server of live challenges for testing the judge: perfect, unless told to have one fault.
//!
//! Threads and one lock, under which everybody is told everything at once. Challenge 1 is `READY`; one that
//! is made gets the number 7.

#[path = "../server/wire.rs"]
#[allow(dead_code, reason = "shared with the server of chats")]
mod wire;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use wire::{Request, read_frame, read_request, write_text};

/// What is wrong with the server; each meets the member of the lowest number once, unless said otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// One `USER_ENTERED` is left out.
    ForgetEntered,
    /// One `USER_ENTERED` is told twice.
    RepeatEntered,
    /// `USER_LEFT` of somebody who is in.
    InventLeft,
    /// One `USER_LEFT` is left out.
    ForgetLeft,
    /// Two `USER_LEFT`s are told in the other order.
    SwapLeft,
    /// An update is told again after the next.
    Backwards,
    /// An update of a position nobody has sent.
    InventUpdate,
    /// The latest update is told to nobody.
    ForgetUpdates,
    /// One `PING` is not answered.
    NoPong,
    /// No ticket is good.
    BadTickets,
    /// Entering is refused to every tenth member.
    Refuse,
    /// Logins take this long.
    SlowLogin(Duration),
    /// One connection breaks.
    HangUp,
    /// Member 2 is in the ranking twice.
    RankTwice,
    /// Member 2 is not in the ranking.
    ForgetRank,
    /// There are no rankings.
    NoRankings,
}

/// Members there are.
const MEMBERS: u64 = 100;

#[derive(Default)]
struct State {
    joined: BTreeSet<u64>,
    tickets: HashMap<String, u64>,
    present: BTreeMap<u64, (TcpStream, f64)>,
    /// What has met its fault.
    spent: bool,
    held: Option<(u64, String)>,
    last: HashMap<u64, String>,
}

struct Server {
    fault: Fault,
    address: SocketAddr,
    state: Mutex<State>,
}

/// Starts a server on a free port; it lives as long as the test's process.
pub fn start(fault: Fault) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = Arc::new(Server { fault, address, state: Mutex::default() });
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
            if let Some((_, ticket)) = request.path.split_once("ticket=") {
                return self.race(ticket, stream, reader);
            }
            let (status, data) = self.answer(&request);
            let envelope =
                json!({"isSuccess": status < 400, "code": status, "message": "said", "data": data});
            let text = envelope.to_string();
            let head = format!("HTTP/1.1 {status} Said\r\nContent-Length: {}\r\n\r\n", text.len());
            (&stream).write_all(format!("{head}{text}").as_bytes()).unwrap();
        }
    }

    fn answer(&self, request: &Request) -> (u16, Value) {
        let user = request.token.as_ref().and_then(|token| token.strip_prefix("token-of-")?.parse().ok());
        if let Some((_, member)) = request.path.split_once("test-login?memberid=") {
            if let Fault::SlowLogin(pause) = self.fault {
                thread::sleep(pause);
            }
            return match member.parse() {
                Ok(1..=MEMBERS) => (200, json!({"accessToken": format!("token-of-{member}")})),
                _ => (404, Value::Null),
            };
        }
        let described = |id, code: &Value| json!({"challengeId": id, "status": "READY", "distance": code});
        let mut state = self.state.lock().unwrap();
        if let Some((_, page)) = request.path.split_once("/ranking?page=") {
            return match self.fault {
                Fault::NoRankings => (404, Value::Null),
                _ => (200, self.ranking(&state, page.starts_with("0&"))),
            };
        }
        match (request.path.as_str(), user) {
            ("/api/v1/admin/challenges", Some(_)) => (201, described(7, &request.body["distance"])),
            ("/api/v1/challenges/1" | "/api/v1/challenges/7", Some(_)) => (200, described(1, &json!("M100"))),
            (path, Some(user)) if path.ends_with("/join") => match state.joined.insert(user) {
                true => (201, json!({"status": "WAITING"})),
                false => (409, Value::Null),
            },
            (path, Some(user)) if path.ends_with("/enter") && state.joined.contains(&user) => {
                if self.fault == Fault::Refuse && user.is_multiple_of(10) {
                    return (409, Value::Null);
                }
                let ticket = format!("ticket-{}-{user}", state.tickets.len());
                state.tickets.insert(ticket.clone(), user);
                (200, json!({"ticket": ticket, "wsUrl": format!("ws://{}/ws/x", self.address)}))
            }
            _ => (404, Value::Null),
        }
    }

    /// The second page has the last five.
    fn ranking(&self, state: &State, first: bool) -> Value {
        let mut users: Vec<u64> = state.present.keys().copied().collect();
        match self.fault {
            Fault::RankTwice => users.push(2),
            Fault::ForgetRank => users.retain(|user| *user != 2),
            _ => {}
        }
        let (upper, lower) = users.split_at(users.len().saturating_sub(5));
        let page = if first { upper } else { lower };
        let place = |user: &u64| json!({"userId": user, "status": "RUNNING"});
        json!({"content": page.iter().map(place).collect::<Vec<_>>(), "hasNext": first})
    }

    fn race(&self, ticket: &str, mut stream: TcpStream, mut reader: BufReader<TcpStream>) {
        stream.write_all(wire::UPGRADE.as_bytes()).unwrap();
        let user = self.state.lock().unwrap().tickets.remove(ticket);
        let Some(user) = user.filter(|_| self.fault != Fault::BadTickets) else {
            write_text(&mut stream, r#"{"type":"ERROR","errorCode":"INVALID_TICKET","errorMessage":"no"}"#);
            return wire::write_frame(&mut stream, 0x88, &1008_u16.to_be_bytes());
        };
        self.enter(user, &mut stream);
        let mut reason = "DISCONNECTED";
        while let Some((opcode, payload)) = read_frame(&mut reader) {
            let message: Value = serde_json::from_slice(&payload).unwrap_or_default();
            match (opcode, message["type"].as_str()) {
                (9, _) => wire::write_frame(&mut stream, 0x8a, &payload),
                (1, Some("PING")) => self.pong(user, &mut stream),
                (1, Some("RECORD")) => self.record(user, &message),
                (1, Some("QUIT")) => {
                    reason = "QUIT";
                    break;
                }
                _ => break,
            }
        }
        self.leave(user, reason);
        wire::write_frame(&mut stream, 0x88, &1000_u16.to_be_bytes());
        stream.shutdown(Shutdown::Write).ok();
    }

    fn enter(&self, user: u64, stream: &mut TcpStream) {
        let mut state = self.state.lock().unwrap();
        let person =
            |(id, (_, distance)): (&u64, &(TcpStream, f64))| json!({"userId": id, "distance": distance});
        let others: Vec<Value> = state.present.iter().map(person).collect();
        let told = json!({"type": "CONNECTED", "userId": user, "participants": others});
        write_text(stream, &told.to_string());
        let text = json!({"type": "USER_ENTERED", "userId": user, "distance": 0.0}).to_string();
        self.tell(&mut state, user, &text, [Fault::ForgetEntered, Fault::RepeatEntered]);
        state.present.insert(user, (stream.try_clone().unwrap(), 0.0));
        let full = state.present.len() > 2 && !state.spent;
        if full && matches!(self.fault, Fault::InventLeft | Fault::HangUp) {
            state.spent = true;
            let (first, second) = (*state.present.keys().next().unwrap(), user);
            if self.fault == Fault::InventLeft {
                let text = json!({"type": "USER_LEFT", "userId": second, "reason": "QUIT"}).to_string();
                write_text(&mut state.present.get_mut(&first).unwrap().0, &text);
            } else {
                state.present[&first].0.shutdown(Shutdown::Both).unwrap();
            }
        }
    }

    fn pong(&self, user: u64, stream: &mut TcpStream) {
        let mut state = self.state.lock().unwrap();
        if self.fault == Fault::NoPong && user == 1 && !std::mem::replace(&mut state.spent, true) {
            return;
        }
        write_text(stream, r#"{"type":"PONG","timestamp":1}"#);
    }

    fn record(&self, user: u64, message: &Value) {
        let mut state = self.state.lock().unwrap();
        let distance = message["distance"].as_f64().unwrap();
        if let Some((_, latest)) = state.present.get_mut(&user) {
            *latest = distance;
        }
        let mut update = message.clone();
        (update["type"], update["userId"]) = (json!("PARTICIPANT_UPDATE"), json!(user));
        let text = update.to_string();
        if self.fault != Fault::ForgetUpdates {
            self.tell(&mut state, user, &text, []);
        }
        let before = state.last.insert(user, text);
        if user == 2
            && let Some(before) = before
            && !state.spent
            && let Some((first, _)) = state.present.get_mut(&1)
        {
            update["distance"] = json!(distance + 5.0);
            match self.fault {
                Fault::Backwards => write_text(first, &before),
                Fault::InventUpdate => write_text(first, &update.to_string()),
                _ => return,
            }
            state.spent = true;
        }
    }

    fn leave(&self, user: u64, reason: &str) {
        let mut state = self.state.lock().unwrap();
        if state.present.remove(&user).is_none() {
            return;
        }
        let text = json!({"type": "USER_LEFT", "userId": user, "reason": reason}).to_string();
        self.tell(&mut state, user, &text, [Fault::ForgetLeft, Fault::SwapLeft]);
    }

    /// Tells everybody but the one it is about; the one of the lowest number may meet a fault.
    fn tell<const N: usize>(&self, state: &mut State, about: u64, text: &str, faults: [Fault; N]) {
        let mut hit = faults.contains(&self.fault) && !state.spent && state.present.len() > 1;
        let State { present, held, spent, .. } = state;
        for (_, (stream, _)) in present.iter_mut().filter(|(user, _)| **user != about) {
            if std::mem::replace(&mut hit, false) {
                match (self.fault, held.take()) {
                    (Fault::RepeatEntered, _) => (0..2).for_each(|_| write_text(stream, text)),
                    (Fault::SwapLeft, None) => {
                        *held = Some((about, text.to_owned()));
                        continue;
                    }
                    (Fault::SwapLeft, Some((_, before))) => {
                        write_text(stream, text);
                        write_text(stream, &before);
                    }
                    _ => {}
                }
                *spent = true;
            } else {
                write_text(stream, text);
            }
        }
    }
}
