//! `minitalk bench storage`: makes a data directory of a size that is asked for, and measures what it
//! costs to fill, to keep, to start on, and to ask.
//!
//! The other kinds of load judge a server from outside and share no code with it. This one measures the
//! storage itself: it writes files with the journal's encoder, asks the index as a worker does, and
//! starts servers of its own on a free port of 127.0.0.1. Its own memory does not grow with the sizes.
//!
//! [`world`] says who and what there is, [`fill`] writes it, [`host`] runs servers, [`measure`] asks the
//! files, [`report`] tells.

mod fill;
mod host;
mod measure;
mod report;
mod world;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;

use self::host::{Host, Memory};
use self::report::{Report, float};
use self::world::World;
use super::{Fault, show};
use crate::config::Storage;
use crate::index::{self, Reader};
use crate::journal::{ROOMS, USERS, segment};

/// Rooms if not given: one for so many users, at most [`ROOMS_DEFAULT_MAX`].
const USERS_PER_ROOM: u64 = 50;
const ROOMS_DEFAULT_MAX: u64 = 1_000_000;

/// Sizes of what is in a directory; written when it is filled.
const WORLD: &str = "world.json";

/// Longest wait until all full files are indexed.
const INDEXED: Duration = Duration::from_secs(24 * 3600);

/// Starts that are timed of each kind.
const STARTS: usize = 3;

/// Users in one call of signup, and calls at most.
const SIGNUP_BATCH: u64 = 1_000;
const SIGNUP_CALLS: u64 = 50;

/// Calls of each kind that change a membership.
const MEMBERSHIP_CALLS: u64 = 200;

/// Calls that make the workers touch what they touch in use.
const WORKER_CALLS: u64 = 3_000;

/// `bench storage`
#[derive(Debug, Args)]
pub struct StorageArgs {
    /// Users, brought in by `minitalk import`
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    users: u64,
    /// Messages, written as the storage writer writes them
    #[arg(long, default_value_t = 1_000_000)]
    messages: u64,
    /// Rooms, the first with up to 100,000 members [default: one for every 50 users, at most 1,000,000]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    rooms: Option<u64>,
    /// Directory to fill, which must be empty or not there; kept [default: a temporary one, removed]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Fill nothing: measure what an earlier run has left in --dir, of the sizes it had
    #[arg(long, requires = "dir", conflicts_with_all = ["users", "messages", "rooms"])]
    again: bool,
    /// Worker processes of the servers; 0: one per available core
    #[arg(long, default_value_t = 0)]
    workers: u16,
    /// Write the figures as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The directory holds something.
    #[error("{0} is not empty; name one that is, or none, or measure what is in it with --again")]
    NotEmpty(String),
    /// Nothing to measure.
    #[error("{0} holds nothing that an earlier run has left: {1}")]
    NotFilled(String, io::Error),
    /// A step failed.
    #[error("{step}: {source}")]
    Step {
        /// Which.
        step: &'static str,
        /// Why.
        source: io::Error,
    },
}

/// Runs it.
pub(super) fn run(args: &StorageArgs) -> Result<u8, Fault> {
    let report = measured(args)?;
    if let Some(file) = &args.json {
        let text = format!("{:#}\n", report.json());
        fs::write(file, text).map_err(Fault::Output)?;
    }
    show(&report.table())
}

fn measured(args: &StorageArgs) -> Result<Report, BenchError> {
    let rooms = args.rooms.unwrap_or((args.users / USERS_PER_ROOM).clamp(1, ROOMS_DEFAULT_MAX));
    let world = World { users: args.users, rooms, messages: args.messages };
    let temporary = std::env::temp_dir().join(format!("minitalk-storage-{}", std::process::id()));
    let dir = args.dir.clone().unwrap_or_else(|| temporary.clone());
    fs::create_dir_all(&dir).map_err(in_step("directory"))?;
    let world = if args.again {
        load(&dir.join(WORLD)).map_err(|error| BenchError::NotFilled(dir.display().to_string(), error))?
    } else {
        if fs::read_dir(&dir).map_err(in_step("directory"))?.next().is_some() {
            return Err(BenchError::NotEmpty(dir.display().to_string()));
        }
        world
    };
    let mut bench =
        Bench { world, data_dir: dir.join("data"), dir, workers: args.workers, report: Report::default() };
    let done = bench.all(args.again);
    if args.dir.is_none() {
        // What can't be removed is in the temporary directory all the same.
        let _ = fs::remove_dir_all(&temporary);
    }
    done.map(|()| bench.report)
}

fn load(file: &Path) -> io::Result<World> {
    Ok(serde_json::from_slice(&fs::read(file)?)?)
}

fn in_step(step: &'static str) -> impl Fn(io::Error) -> BenchError {
    move |source| BenchError::Step { step, source }
}

struct Bench {
    world: World,
    dir: PathBuf,
    data_dir: PathBuf,
    workers: u16,
    report: Report,
}

/// A part of the whole, by name.
type Step = (&'static str, fn(&mut Bench) -> io::Result<()>);

impl Bench {
    fn all(&mut self, again: bool) -> Result<(), BenchError> {
        for (name, count) in
            [("users", self.world.users), ("rooms", self.world.rooms), ("messages", self.world.messages)]
        {
            self.report.add(name, float(count), "");
        }
        let filling: [Step; 4] = [
            ("import", Bench::import),
            ("rooms", Bench::rooms),
            ("messages", Bench::messages),
            ("first start", Bench::first_start),
        ];
        let measuring: [Step; 6] = [
            ("starts", Bench::starts),
            ("serving", Bench::serving),
            ("memberships", Bench::memberships),
            ("look-ups", |bench| measure::look_ups(&bench.world, &bench.data_dir, &mut bench.report)),
            ("history", |bench| measure::histories(&bench.world, &bench.data_dir, &mut bench.report)),
            ("search", |bench| measure::searches(&bench.world, &bench.data_dir, &mut bench.report)),
        ];
        let filling = if again { &[][..] } else { &filling[..] };
        for (name, step) in filling.iter().chain(&measuring) {
            eprintln!("{name}");
            step(self).map_err(in_step(name))?;
            if *name == "first start" {
                let sizes = serde_json::to_vec(&self.world).map_err(io::Error::from);
                sizes.and_then(|sizes| fs::write(self.dir.join(WORLD), sizes)).map_err(in_step(name))?;
            }
        }
        self.report.add(
            "this program, memory at most",
            mib(host::memory_of(std::process::id().into()).1),
            "MiB",
        );
        Ok(())
    }

    fn import(&mut self) -> io::Result<()> {
        let source = self.dir.join("members.ndjson");
        fill::members(&self.world, &source)?;
        let mut command = host::command("import")?;
        command.arg("--data-dir").arg(&self.data_dir).arg(&source);
        let (took, peak) = host::run(command)?;
        fs::remove_file(source)?;
        self.report.add_rate("users in, by import", self.world.users, took, "users/s");
        self.report.add("import, memory at most", mib(peak), "MiB");
        let users = float(self.world.users);
        let log = fs::metadata(self.data_dir.join(USERS))?.len();
        self.report.add("a user in the log", float(log) / users, "bytes");
        self.report.add(
            "a user in the index",
            float(tree_bytes(&index::directory(&self.data_dir))?) / users,
            "bytes",
        );
        Ok(())
    }

    fn rooms(&mut self) -> io::Result<()> {
        let begun = Instant::now();
        fill::rooms(&self.world, &self.data_dir)?;
        self.report.add_rate("rooms into the log", self.world.rooms, begun.elapsed(), "rooms/s");
        let log = fs::metadata(self.data_dir.join(ROOMS))?.len();
        self.report.add("a room in the log", float(log) / float(self.world.rooms), "bytes");
        Ok(())
    }

    fn messages(&mut self) -> io::Result<()> {
        if self.world.messages == 0 {
            return Ok(());
        }
        let begun = Instant::now();
        fill::messages(&self.world, &self.data_dir, Storage::default().messages_per_file)?;
        self.report.add_rate("messages into the log", self.world.messages, begun.elapsed(), "messages/s");
        let mut bytes = 0;
        for segment in segment::list(&self.data_dir).map_err(io::Error::other)? {
            bytes += fs::metadata(segment.path)?.len();
        }
        self.report.add("a message in the log", float(bytes) / float(self.world.messages), "bytes");
        Ok(())
    }

    /// The index takes in the rooms and messages, which were written past it.
    fn first_start(&mut self) -> io::Result<()> {
        let before = tree_bytes(&index::directory(&self.data_dir))?;
        let begun = Instant::now();
        let host = Host::start(&self.dir, &self.data_dir, self.workers)?;
        self.report.add("first start, rooms to index", host.ready_in.as_secs_f64(), "s");
        self.wait_indexed()?;
        let behind = begun.elapsed().saturating_sub(host.ready_in);
        if self.world.messages > 0 {
            self.report.add_rate(
                "messages indexed beside serving",
                self.world.messages,
                behind,
                "messages/s",
            );
        }
        for process in host.memory()?.iter().filter(|process| process.role == "storage") {
            self.report.add("first start, storage, memory at most", mib(process.peak), "MiB");
        }
        host.stop()?;
        let places = tree_bytes(&index::runs::directory(&self.data_dir))?;
        let grown = tree_bytes(&index::directory(&self.data_dir))?.saturating_sub(before);
        self.report.add("rooms and messages in the index", mib(grown), "MiB");
        if self.world.messages > 0 {
            self.report.add("… of which a message", float(places) / float(self.world.messages), "bytes");
        }
        Ok(())
    }

    /// Waits until the index has all full files of messages.
    fn wait_indexed(&self) -> io::Result<()> {
        let full = segment::list(&self.data_dir).map_err(io::Error::other)?.len().saturating_sub(1) as u64;
        let reader = Reader::open(&self.data_dir).map_err(io::Error::other)?;
        let begun = Instant::now();
        loop {
            let last = reader.last_file().map_err(io::Error::other)?;
            if last.map_or(0, |file| file.number) >= full {
                return Ok(());
            }
            if begun.elapsed() > INDEXED {
                return Err(io::Error::other("the full files of messages are not indexed"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn starts(&mut self) -> io::Result<()> {
        for (name, killed) in [("start after a stop", false), ("start after kill -9", true)] {
            let mut best = f64::MAX;
            for _ in 0..STARTS {
                if killed {
                    let host = Host::start(&self.dir, &self.data_dir, self.workers)?;
                    // Something that the end of the process finds in the middle.
                    sign_up(&host, "killed", 1)?;
                    host.kill()?;
                }
                let host = Host::start(&self.dir, &self.data_dir, self.workers)?;
                best = best.min(host.ready_in.as_secs_f64());
                host.stop()?;
            }
            self.report.add(format!("{name}, best of {STARTS}"), best, "s");
        }
        Ok(())
    }

    /// Users through the running server, then calls of many kinds, then what each process takes.
    fn serving(&mut self) -> io::Result<()> {
        let host = Host::start(&self.dir, &self.data_dir, self.workers)?;
        let calls = (self.world.users / SIGNUP_BATCH).clamp(1, SIGNUP_CALLS);
        let begun = Instant::now();
        for call in 0..calls {
            sign_up(&host, &format!("signup{call}x"), SIGNUP_BATCH)?;
        }
        self.report.add_rate("users in, by signup-batch", calls * SIGNUP_BATCH, begun.elapsed(), "users/s");
        let begun = Instant::now();
        for at in 0..WORKER_CALLS {
            call(&host, &self.world, at)?;
        }
        self.report.add_rate("calls, one after the other", WORKER_CALLS, begun.elapsed(), "calls/s");
        let begun = Instant::now();
        host.call("GET", &format!("/api/chatrooms?username={}", world::name(1)), "")?;
        self.report.add("list of a user in very many rooms", begun.elapsed().as_secs_f64() * 1e3, "ms");
        for Memory { role, id, rss, peak } in host.memory()? {
            self.report.add(format!("{role} {id}, memory at most"), mib(peak), "MiB");
            self.report.add(format!("{role} {id}, memory then"), mib(rss), "MiB");
        }
        host.stop()
    }

    /// One user comes and goes, in the large room and in an ordinary one. Each change is durable before
    /// it is answered.
    fn memberships(&mut self) -> io::Result<()> {
        let host = Host::start(&self.dir, &self.data_dir, self.workers)?;
        let guest = sign_up(&host, "guest", 1)?;
        let invitation = json!({"participants": [guest]}).to_string();
        for room in 1..=world::OPEN_ROOMS.min(self.world.rooms) {
            let members = self.world.members(room).len();
            let call = |what: &str, who: &str, body: &str| {
                let path = format!("/api/chatrooms/{}/{what}?username={who}", world::room_id(room));
                let begun = Instant::now();
                host.call("POST", &path, body).map(|_| begun.elapsed())
            };
            let member = world::name(self.world.creator(room));
            let [mut join, mut leave, mut invite] = [measure::times()?, measure::times()?, measure::times()?];
            for _ in 0..MEMBERSHIP_CALLS {
                join.add(call("join", &guest, "")?);
                leave.add(call("leave", &guest, "")?);
                invite.add(call("invite", &member, &invitation)?);
                call("leave", &guest, "")?;
            }
            for (what, times) in [("join", join), ("leave", leave), ("invite", invite)] {
                self.report.add_times(&format!("{what} in a room of {members}"), &times);
            }
        }
        host.stop()
    }
}

/// Signs up users of new names; the first name.
fn sign_up(host: &Host, prefix: &str, count: u64) -> io::Result<String> {
    // Of another start: the names of earlier ones are taken.
    let nonce =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |t| t.as_nanos());
    let name = |at: u64| format!("{prefix}{at}-{nonce:x}");
    let users: Vec<serde_json::Value> =
        (0..count).map(|at| json!({"username": name(at), "password": "password"})).collect();
    host.call("POST", "/api/auth/signup-batch", &json!({"users": users}).to_string())?;
    Ok(name(0))
}

/// One of the calls of a chat's users.
fn call(host: &Host, world: &World, at: u64) -> io::Result<()> {
    let room = 1 + world::mix(at) % world.rooms;
    let who = world::name(world.creator(room));
    let path = match at % 3 {
        0 => format!("/api/chatrooms?limit=20&username={who}"),
        1 => format!("/api/chatrooms/{}/messages?username={who}", world::room_id(room)),
        _ => format!("/api/chatrooms/{}/participants?username={who}", world::room_id(room)),
    };
    host.call("GET", &path, "").map(drop)
}

fn mib(bytes: u64) -> f64 {
    float(bytes) / f64::from(1_u32 << 20)
}

/// Bytes of all files below a directory.
fn tree_bytes(dir: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        bytes +=
            if entry.file_type()?.is_dir() { tree_bytes(&entry.path())? } else { entry.metadata()?.len() };
    }
    Ok(bytes)
}
