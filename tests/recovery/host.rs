//! A writer under test and the workers that talk to it.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use minitalk::challenge::{ChallengeId, Distance, EntryId};
use minitalk::chat::{Code, OpId, Refusal, RoomEvent, UserId};
use minitalk::cli::verify;
use minitalk::config::{Challenge, Storage};
use minitalk::journal::disk::{Disk, RealDisk};
use minitalk::link::arena::{Ask, Asked, NewChallenge, News};
use minitalk::link::clock;
use minitalk::link::codec;
use minitalk::link::frame::{Change, FromWriter, NewRoom, NewUser, Others, Outcome, Position, ToWriter};
use minitalk::link::version::VERSION;
use minitalk::writer::{self, Connections, Running, WriterConfig, WriterError};
use minitalk_supervisor::unix;

/// Far longer than anything takes; reaching it is a failure.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// A data directory and, most of the time, a writer on it.
pub struct Host {
    dir: tempfile::TempDir,
    pub config: WriterConfig,
    running: Option<Running>,
}

impl Host {
    /// An empty directory, no writer yet.
    pub fn new() -> Host {
        // In memory if that can be had: what a disk does to writes is played here, not waited for.
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let data_dir = dir.path().join("data");
        fs::create_dir(&data_dir).unwrap();
        let config = WriterConfig {
            data_dir,
            // No reserve and no reading in the background, but where a test is about them.
            storage: Storage { reserve_bytes: 0, scrub_bytes_per_second: 0, ..Storage::default() },
            rooms_per_user: 1_000,
            messages_per_second: 0,
            changes_per_second: 0,
            connections: Connections { per_address: 0, per_user: 1_000 },
            challenge: Challenge::default(),
            disk: Arc::new(RealDisk),
        };
        Host { dir, config, running: None }
    }

    /// A writer on what is in a directory.
    pub fn started_on(files: &Path) -> Host {
        let mut host = Host::of_copy(files);
        host.start().unwrap();
        host
    }

    /// The files of a directory, no writer yet.
    pub fn of_copy(dir: &Path) -> Host {
        let host = Host::new();
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                fs::copy(&path, host.path(path.file_name().unwrap().to_str().unwrap())).unwrap();
            }
        }
        host
    }

    /// A running writer on an empty directory.
    pub fn started() -> Host {
        let mut host = Host::new();
        host.start().unwrap();
        host
    }

    pub fn with_disk(mut self, disk: Arc<dyn Disk>) -> Host {
        self.config.disk = disk;
        self
    }

    pub fn per_file(mut self, messages: u64) -> Host {
        self.config.storage.messages_per_file = messages;
        self
    }

    pub fn start(&mut self) -> Result<(), WriterError> {
        let listener = unix::bind(self.dir.path(), "storage.sock").unwrap();
        self.running = Some(writer::start(self.config.clone(), listener)?);
        Ok(())
    }

    pub fn stop(&mut self) {
        self.running.take().unwrap().drain().unwrap();
    }

    pub fn restart(&mut self) {
        self.stop();
        self.start().unwrap();
    }

    pub fn running(&self) -> &Running {
        self.running.as_ref().unwrap()
    }

    pub fn data_dir(&self) -> &Path {
        &self.config.data_dir
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.config.data_dir.join(name)
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    pub fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).unwrap();
    }

    /// Puts another file in the place of one, so that nobody sees it half.
    pub fn replace(&self, name: &str, bytes: &[u8]) {
        let other = self.path("other");
        fs::write(&other, bytes).unwrap();
        fs::rename(other, self.path(name)).unwrap();
    }

    /// A worker on its first connection.
    pub fn worker(&self, instance: u64) -> Worker {
        self.worker_at(instance, None)
    }

    /// A worker that has followed up to a position.
    pub fn worker_at(&self, instance: u64, known: Option<Position>) -> Worker {
        let mut worker = self.stranger();
        worker.send(&ToWriter::Hello { version: VERSION, worker: 0, instance, known });
        worker
    }

    /// Somebody who has not greeted.
    pub fn stranger(&self) -> Worker {
        let stream = unix::connect(self.dir.path(), "storage.sock").unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        Worker { stream, count: 0, buffer: Vec::new(), hears_challenges: false }
    }

    /// Every message in the log.
    pub fn messages(&self) -> Vec<serde_json::Value> {
        let mut names: Vec<_> = fs::read_dir(self.data_dir())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.starts_with("messages_"))
            .collect();
        names.sort();
        let parse = |line: &str| serde_json::from_str(line).unwrap();
        let text = |name: &String| String::from_utf8(self.read(name)).unwrap();
        names.iter().flat_map(|name| text(name).lines().map(parse).collect::<Vec<_>>()).collect()
    }

    /// What `verify` says, and whether all is well.
    pub fn verify(&self) -> (bool, String) {
        let mut out = Vec::new();
        let clean = verify::report(self.data_dir(), &mut out).unwrap();
        (clean, String::from_utf8(out).unwrap())
    }

    pub fn assert_clean(&self) {
        let (clean, said) = self.verify();
        assert!(clean, "{said}");
    }

    /// Waits until what the writer reports satisfies a condition.
    pub fn wait_until(&self, holds: impl Fn(&serde_json::Value) -> bool) {
        let end = Instant::now() + DEADLINE;
        while !holds(&self.running().report()) {
            assert!(Instant::now() < end, "{}", self.running().report());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A frame, kept.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    Welcome(Position),
    OtherVersion(u16),
    Message { seq: u64, origin: OpId, room_id: String, fields: String },
    Rooms(u64, Vec<RoomEvent>),
    Typing(String),
    Elsewhere(Vec<(UserId, Others)>),
    Login(String),
    AtHome(u16),
    Done(u64, Outcome),
    Refused(u64, Refusal),
    UsersDeleted(UserId),
    Afresh(Position),
    Revoked,
    Arena(News),
}

/// The other end of a writer's connection.
pub struct Worker {
    stream: UnixStream,
    count: u64,
    buffer: Vec<u8>,
    /// Wants to hear of live challenges.
    pub hears_challenges: bool,
}

impl Worker {
    /// The bodies of frames of whatever version.
    pub fn send_bodies(&mut self, bodies: &[&[u8]]) {
        let length = |body: &[u8]| u32::try_from(body.len()).unwrap().to_le_bytes();
        let frame = |body: &&[u8]| [&length(body)[..], body].concat();
        self.stream.write_all(&bodies.iter().map(frame).collect::<Vec<_>>().concat()).unwrap();
    }

    pub fn send(&mut self, frame: &ToWriter<'_>) {
        self.send_all(std::slice::from_ref(frame));
    }

    /// In one write, so that they come in together.
    pub fn send_all(&mut self, frames: &[ToWriter<'_>]) {
        let mut bytes = Vec::new();
        frames.iter().for_each(|frame| codec::encode(frame, &mut bytes).unwrap());
        self.stream.write_all(&bytes).unwrap();
    }

    /// The next frame; several messages of one come one by one, out of a list.
    pub fn hear(&mut self) -> Vec<Heard> {
        self.try_hear().expect("the writer closed the connection")
    }

    pub fn try_hear(&mut self) -> Option<Vec<Heard>> {
        loop {
            if let Some((body, used)) = codec::split(&self.buffer).unwrap() {
                let heard = keep(codec::decode(body).unwrap());
                self.buffer.drain(..used);
                if heard.iter().any(|heard| matches!(heard, Heard::Arena(_))) && !self.hears_challenges {
                    continue;
                }
                return Some(heard);
            }
            let mut chunk = vec![0; 64 << 10];
            match self.stream.read(&mut chunk) {
                Ok(0) => return None,
                Ok(count) => self.buffer.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("nothing heard: {error}"),
            }
        }
    }

    /// Everything up to and with the first thing that satisfies a condition.
    pub fn hear_until(&mut self, wanted: impl Fn(&Heard) -> bool) -> Vec<Heard> {
        let mut all = Vec::new();
        loop {
            let heard = self.hear();
            let found = heard.iter().any(&wanted);
            all.extend(heard);
            if found {
                return all;
            }
        }
    }

    pub fn next_count(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    pub fn post(&mut self, room: &str, content: &str) -> u64 {
        let count = self.next_count();
        self.send(&post(count, room, content, None));
        count
    }

    /// Posts and waits for what comes of it: the message's number, or the refusal.
    pub fn posted(&mut self, instance: u64, room: &str, content: &str) -> Result<u64, Refusal> {
        let count = self.post(room, content);
        self.outcome_of_post(OpId { instance, count })
    }

    pub fn outcome_of_post(&mut self, id: OpId) -> Result<u64, Refusal> {
        loop {
            for heard in self.hear() {
                match heard {
                    Heard::Message { seq, origin, .. } if origin == id => return Ok(seq),
                    Heard::Done(count, Outcome::Posted { seq, .. }) if count == id.count => return Ok(seq),
                    Heard::Refused(count, refusal) if count == id.count => return Err(refusal),
                    _ => {}
                }
            }
        }
    }

    pub fn change(&mut self, change: Change) -> Result<Outcome, Refusal> {
        let count = self.next_count();
        self.change_as(count, change)
    }

    pub fn ask(&mut self, count: u64, change: Change) {
        self.send(&ToWriter::Change { count, change });
    }

    pub fn change_as(&mut self, count: u64, change: Change) -> Result<Outcome, Refusal> {
        self.ask(count, change);
        self.answer(count)
    }

    pub fn answer(&mut self, wanted: u64) -> Result<Outcome, Refusal> {
        loop {
            for heard in self.hear() {
                match heard {
                    Heard::Done(count, outcome) if count == wanted => return Ok(outcome),
                    Heard::Refused(count, refusal) if count == wanted => return Err(refusal),
                    _ => {}
                }
            }
        }
    }

    /// A challenge that can be entered by now and starts in a minute.
    pub fn new_challenge(&mut self, by: UserId, distance: Distance, max_participants: u32) -> ChallengeId {
        let start_ms = now_ms() + 60_000;
        let new = NewChallenge {
            by,
            title: "새벽 달리기".to_owned(),
            description: "together".to_owned(),
            max_participants,
            start_ms,
            distance,
            password: None,
            broadcast: true,
        };
        match self.asks(Ask::Create(Box::new(new))) {
            Ok(Asked::Created { challenge }) => challenge,
            other => panic!("{other:?}"),
        }
    }

    /// Joins and comes in, by a ticket of that number.
    pub fn enters(&mut self, challenge: ChallengeId, user: UserId, ticket: u128) -> EntryId {
        self.asks(Ask::Join { challenge, user }).unwrap();
        self.asks(Ask::Enter { challenge, user, generation: 0, ticket }).unwrap();
        self.redeems(ticket)
    }

    /// Comes in.
    pub fn redeems(&mut self, ticket: u128) -> EntryId {
        match self.asks(Ask::Redeem { ticket }) {
            Ok(Asked::Entered { entry, .. }) => entry,
            other => panic!("{other:?}"),
        }
    }

    pub fn asks(&mut self, ask: Ask) -> Result<Asked, Refusal> {
        let count = self.next_count();
        self.asks_as(count, ask)
    }

    pub fn asks_as(&mut self, count: u64, ask: Ask) -> Result<Asked, Refusal> {
        self.send(&ToWriter::Arena { count, ask });
        match self.answer(count)? {
            Outcome::Arena(asked) => Ok(asked),
            other => panic!("{other:?}"),
        }
    }

    pub fn sync(&mut self) {
        let count = self.next_count();
        self.send(&ToWriter::Sync { count });
        assert_eq!(self.answer(count), Ok(Outcome::Ok));
    }

    pub fn create_users(&mut self, names: &[&str]) -> Vec<Result<UserId, Code>> {
        match self.change(users(names)) {
            Ok(Outcome::Users(outcomes)) => {
                outcomes.into_iter().map(|outcome| outcome.map_err(|refusal| refusal.code)).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    pub fn create_room(
        &mut self,
        creator: UserId,
        room_id: &str,
        participants: &[&str],
    ) -> Result<(), Refusal> {
        match self.change(rooms(creator, &[(room_id, false, participants)])) {
            Ok(Outcome::Rooms(mut outcomes)) => outcomes.pop().unwrap(),
            other => panic!("{other:?}"),
        }
    }
}

/// Unix time in milliseconds.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

pub fn post<'a>(count: u64, room_id: &'a str, content: &'a str, client_id: Option<&'a str>) -> ToWriter<'a> {
    ToWriter::Post { count, sent_us: clock::now_us(), user: 1, sender: "alice", room_id, content, client_id }
}

pub fn users(names: &[&str]) -> Change {
    let user = |name: &&str| NewUser {
        username: (*name).to_owned(),
        password: "$argon2id$x".to_owned(),
        nickname: None,
        profile_image: None,
    };
    Change::CreateUsers(names.iter().map(user).collect())
}

pub fn rooms(creator: UserId, rooms: &[(&str, bool, &[&str])]) -> Change {
    let room = |(room_id, open, participants): &(&str, bool, &[&str])| NewRoom {
        room_id: (*room_id).to_owned(),
        name: format!("room {room_id}"),
        participants: participants.iter().map(|name| (*name).to_owned()).collect(),
        open: *open,
    };
    Change::CreateRooms { creator, rooms: rooms.iter().map(room).collect() }
}

fn keep(frame: FromWriter<'_>) -> Vec<Heard> {
    match frame {
        FromWriter::Welcome { position } => vec![Heard::Welcome(position)],
        FromWriter::OtherVersion { version } => vec![Heard::OtherVersion(version)],
        FromWriter::Messages { messages } => messages
            .iter()
            .map(|message| Heard::Message {
                seq: message.seq,
                origin: message.origin,
                room_id: message.room_id.to_owned(),
                fields: message.fields.to_owned(),
            })
            .collect(),
        FromWriter::Rooms { rev, events } => vec![Heard::Rooms(rev, events)],
        FromWriter::Typing { username, .. } => vec![Heard::Typing(username.to_owned())],
        FromWriter::Elsewhere { users, .. } => vec![Heard::Elsewhere(users)],
        FromWriter::AtHome(news) => vec![Heard::AtHome(news.worker)],
        FromWriter::Login(login) => vec![Heard::Login(login.name.to_owned())],
        FromWriter::Done { count, outcome } => vec![Heard::Done(count, outcome)],
        FromWriter::Refused { count, refusal } => vec![Heard::Refused(count, refusal)],
        FromWriter::UsersDeleted { last_user } => vec![Heard::UsersDeleted(last_user)],
        FromWriter::Afresh { position } => vec![Heard::Afresh(position)],
        FromWriter::Revoked => vec![Heard::Revoked],
        FromWriter::Arena(news) => vec![Heard::Arena(news)],
    }
}
