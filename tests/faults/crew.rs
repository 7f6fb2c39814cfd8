//! Clients that post without pause and note what they are told, and the checker.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use serde_json::{Value, json};

use crate::common::rest::User;
use crate::common::socket::Socket;
use crate::common::{Server, until, whole_lines};
use crate::volume::Volume;

/// Clients that speak.
const SPEAKERS: usize = 3;

/// Who was told what. Contents and names are never used twice.
#[derive(Clone, Default)]
pub struct Ledger {
    /// Content of a message to its number.
    pub confirmed: HashMap<String, u64>,
    /// Content of a message to the code of its refusal.
    pub refused: HashMap<String, String>,
    /// Messages asked for.
    pub asked: HashSet<String>,
    /// Names of users to whether they were told that they exist.
    pub users: HashMap<String, bool>,
    /// Codes of refused signups.
    pub codes: HashSet<String>,
}

/// The clients at work.
pub struct Crew {
    stop: Arc<AtomicBool>,
    ledger: Arc<Mutex<Ledger>>,
    threads: Vec<JoinHandle<()>>,
    /// Who posts, to ask other things with.
    pub user: User,
    /// Where.
    pub room: String,
}

impl Crew {
    /// Begins to post messages of `bytes` and to sign up users.
    pub fn start(server: &Arc<Server>, prefix: &'static str, bytes: usize) -> Crew {
        let users = server.new_users(prefix, SPEAKERS);
        let room = server.new_room(&users, "a room");
        let (stop, ledger) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Ledger::default())));
        let mut threads = Vec::new();
        for user in &users {
            let (server, user, room) = (server.clone(), user.clone(), room.clone());
            let (stop, ledger) = (stop.clone(), ledger.clone());
            threads.push(std::thread::spawn(move || speak(&server, &user, &room, bytes, &stop, &ledger)));
        }
        let (rest, end, notes) = (server.clone(), stop.clone(), ledger.clone());
        threads.push(std::thread::spawn(move || sign_up(&rest, prefix, &end, &notes)));
        Crew { stop, ledger, threads, user: users[0].clone(), room }
    }

    /// What has been noted.
    pub fn ledger(&self) -> Ledger {
        self.ledger.lock().unwrap().clone()
    }

    /// Waits until that many more messages have been confirmed.
    pub fn wait_for_confirmed(&self, more: usize) {
        let now = self.ledger().confirmed.len();
        until("messages are confirmed", || (self.ledger().confirmed.len() >= now + more).then_some(()));
    }

    /// Waits until that many more messages have been refused; answers the codes of all refusals.
    pub fn wait_for_refused(&self, more: usize) -> HashSet<String> {
        let now = self.ledger().refused.len();
        until("messages are refused", || (self.ledger().refused.len() >= now + more).then_some(()));
        self.ledger().refused.into_values().collect()
    }

    /// Ends when everybody has their answer or no connection.
    pub fn finish(self) -> Ledger {
        self.stop.store(true, Ordering::Release);
        for thread in self.threads {
            thread.join().unwrap();
        }
        Arc::try_unwrap(self.ledger).ok().unwrap().into_inner().unwrap()
    }
}

fn speak(server: &Server, user: &User, room: &str, bytes: usize, stop: &AtomicBool, ledger: &Mutex<Ledger>) {
    let mut socket = Socket::connect(server, user);
    let mut number = 0;
    while !stop.load(Ordering::Acquire) {
        number += 1;
        let content = format!("{} {number} {}", user.name, "x".repeat(bytes));
        ledger.lock().unwrap().asked.insert(content.clone());
        let message = json!({"roomId": room, "content": content, "clientId": number.to_string()});
        let Some(ack) = socket.say(number, &message) else {
            return; // The server is gone; nobody knows what became of it.
        };
        let mut ledger = ledger.lock().unwrap();
        if ack["ok"] == true {
            ledger.confirmed.insert(content, ack["seq"].as_u64().unwrap());
        } else {
            ledger.refused.insert(content, ack["code"].as_str().unwrap_or_default().to_owned());
            drop(ledger);
            // As a client does that is refused: otherwise they fill the ledger.
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

fn sign_up(server: &Server, prefix: &str, stop: &AtomicBool, ledger: &Mutex<Ledger>) {
    let mut number = 0;
    while !stop.load(Ordering::Acquire) {
        number += 1;
        let name = format!("{prefix}_new_{number}");
        let answer = server.try_post("/api/auth/signup", &json!({"username": name, "password": "password"}));
        let mut ledger = ledger.lock().unwrap();
        match answer.status {
            201 => drop(ledger.users.insert(name, true)),
            // Neither yes nor no: it may be there.
            0 => return,
            _ => match answer.body["code"].as_str() {
                Some(code @ ("STORAGE_FULL" | "STORAGE_FAILED")) => {
                    ledger.codes.insert(code.to_owned());
                    ledger.users.insert(name, false);
                    drop(ledger);
                    std::thread::sleep(std::time::Duration::from_millis(5));
                }
                other => drop(ledger.codes.insert(other.unwrap_or_default().to_owned())),
            },
        }
    }
}

/// Says all that is wrong between what was told and what the log holds.
pub fn judge(ledger: &Ledger, data_dir: &Path) -> Vec<String> {
    let mut faults = Vec::new();
    let mut stored: HashMap<String, u64> = HashMap::new();
    for (name, line) in lines(data_dir, |name| name.starts_with("messages_")) {
        let message: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{name}: {line}"));
        let content = message["content"].as_str().unwrap().to_owned();
        if !ledger.asked.contains(&content) {
            faults.push(format!("invented: {content:.30}"));
        }
        if ledger.refused.contains_key(&content) {
            faults.push(format!("refused and stored: {content:.30}"));
        }
        if stored.insert(content.clone(), message["seq"].as_u64().unwrap()).is_some() {
            faults.push(format!("stored twice: {content:.30}"));
        }
    }
    for (content, seq) in &ledger.confirmed {
        if stored.get(content) != Some(seq) {
            faults.push(format!("lost: {content:.30} ({seq}): {:?}", stored.get(content)));
        }
    }
    let users: HashSet<String> = lines(data_dir, |name| name == "users.jsonl")
        .into_iter()
        .map(|(_, line)| serde_json::from_str::<Value>(&line).unwrap())
        .map(|user| user["username"].as_str().unwrap().to_owned())
        .collect();
    for (name, told) in &ledger.users {
        if users.contains(name) != *told {
            faults.push(format!("user {name}: told {told}"));
        }
    }
    faults
}

/// Whole lines of the logs whose names satisfy a condition.
fn lines(data_dir: &Path, wanted: impl Fn(&str) -> bool) -> Vec<(String, String)> {
    let mut names: Vec<String> = std::fs::read_dir(data_dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| wanted(name))
        .collect();
    names.sort();
    let mut lines = Vec::new();
    for name in names {
        let whole = whole_lines(&data_dir.join(&name)).into_iter();
        lines.extend(whole.map(|line| (name.clone(), line)));
    }
    lines
}

/// The log holds what was told, and `verify` has nothing to say.
pub fn assert_good(ledger: &Ledger, server: &Server) {
    let verified = server.verify();
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
    assert_eq!(judge(ledger, &server.data_dir), [""; 0]);
    let (confirmed, refused, users) = (ledger.confirmed.len(), ledger.refused.len(), ledger.users.len());
    let unanswered = ledger.asked.len() - confirmed - refused;
    println!(
        "{confirmed} confirmed, {refused} refused, {unanswered} unanswered, {users} signups: all as told"
    );
}

/// `GET /ready`: the status and what it says.
pub fn ready(server: &Server) -> (u16, Value) {
    let answer = server.get("/ready", None);
    (answer.status, answer.body)
}

/// Waits until it is ready again.
pub fn wait_until_ready(server: &Server) {
    until("the server is ready again", || (ready(server).0 == 200).then_some(()));
}

/// Waits until it says that it takes nothing, and answers the reason.
pub fn wait_until_not_ready(server: &Server) -> String {
    until("the server says that it takes nothing", || match ready(server) {
        (503, body) => Some(body["reason"].as_str().unwrap_or_default().to_owned()),
        _ => None,
    })
}

/// Everything that stores nothing goes on.
pub fn assert_reads(server: &Server, user: &User, room: &str) {
    assert_eq!(server.get("/health", None).status, 200);
    let login = server.post("/api/auth/login", None, &json!({"username": user.name, "password": "password"}));
    assert_eq!(login.status, 200, "{login:?}");
    let rooms = server.get("/api/chatrooms", Some(user));
    assert_eq!((rooms.status, rooms.body.as_array().map(Vec::len)), (200, Some(1)), "{rooms:?}");
    let history = server.get(&format!("/api/chatrooms/{room}/messages?limit=5"), Some(user));
    assert_eq!((history.status, history.body.as_array().map(Vec::len)), (200, Some(5)), "{history:?}");
    let mut socket = Socket::connect(server, user);
    socket.send(&format!("427{}", json!(["join_room", {"roomId": room}])));
    while !socket.next().starts_with("437[") {}
}

/// Starts a server that was killed on its volume mounted anew.
pub fn start_on_mounted_again(server: Arc<Server>, volume: &Volume) -> Server {
    let mut server = Arc::try_unwrap(server).ok().unwrap();
    server.wait_for_the_end();
    volume.unmount();
    volume.mount();
    let server = server.start_again();
    wait_until_ready(&server);
    server
}
