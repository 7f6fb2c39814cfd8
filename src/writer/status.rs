//! How the writer is, for the supervisor and through it for operators.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use serde_json::{Value, json};

use super::files::Files;
use super::reserve;
use super::tickets::{Counts, Tickets};
use crate::challenge::Reason;
use crate::journal::check::Problem;
use crate::journal::deletions::Deletions;
use crate::link::frame::{Position, Purpose};
use crate::metrics::histogram::{CROWD, Histogram, SYNCING};

/// Damaged files named in a report, at most.
const DAMAGED_NAMED: usize = 100;

/// Counters and states; each is written by one thread.
pub struct Status {
    /// The last message handed over for publication.
    pub seq: AtomicU64,
    /// The last record of `chatrooms.jsonl`.
    pub rev: AtomicU64,
    /// Messages stored since the start of the process.
    pub messages: AtomicU64,
    /// Batches of them.
    pub batches: AtomicU64,
    /// Messages in each.
    pub batch_sizes: Histogram,
    /// How long syncs of messages took.
    pub syncs: Arc<Histogram>,
    /// Changes of users and rooms done since the start of the process.
    pub changes: AtomicU64,
    /// Operations taken in and not yet decided.
    pub queue: AtomicU64,
    /// Connections of workers.
    pub peers: AtomicU64,
    /// A worker that has followed changes of rooms to less than this must begin anew.
    pub afresh: AtomicU64,
    /// The last message that was deleted with all before it; 0: none was.
    pub deleted_upto: AtomicU64,
    /// Live challenges.
    pub challenges: Challenges,
    tickets: Arc<Mutex<Tickets>>,
    data_dir: PathBuf,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// What is wrong with each of the parts that write, if anything.
    disk: [Option<String>; 3],
    files: Files,
    compaction: Compaction,
    /// The first fault of each damaged file.
    damage: Vec<Problem>,
    /// The log that is being read for damage, and how far.
    scrub: (String, u64),
    /// Raised by what an operator watches.
    version: u64,
}

/// What happens in live challenges; gauges but for those that say otherwise.
#[derive(Default)]
pub struct Challenges {
    /// Challenges that can be entered.
    pub live: AtomicU64,
    /// Participants who are in.
    pub active: AtomicU64,
    /// Entries since the start of the process.
    pub entered: AtomicU64,
    /// Of those who left, how many had finished, since the start of the process.
    finished: AtomicU64,
    /// How many were silent for too long.
    timeouts: AtomicU64,
    /// How many had lost their connection.
    disconnected: AtomicU64,
}

impl Challenges {
    /// Somebody was in when the process before ended.
    pub fn restored(&self) {
        self.active.fetch_add(1, Ordering::Relaxed);
    }

    /// Somebody is no longer in.
    pub fn left(&self, reason: Reason) {
        self.active.fetch_sub(1, Ordering::Relaxed);
        let counter = match reason {
            Reason::Finish => &self.finished,
            Reason::Timeout => &self.timeouts,
            Reason::Disconnected => &self.disconnected,
            Reason::Quit | Reason::Kicked | Reason::Expired | Reason::Error => return,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn report(&self, tickets: Counts) -> Value {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        json!({
            "live": read(&self.live),
            "active": read(&self.active),
            "entered_total": read(&self.entered),
            "finished_total": read(&self.finished),
            "timeouts_total": read(&self.timeouts),
            "disconnected_total": read(&self.disconnected),
            "tickets_issued_total": tickets.issued,
            "tickets_used_total": tickets.used,
            "tickets_expired_total": tickets.expired,
        })
    }
}

/// The latest compaction of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compaction {
    log: &'static str,
    state: &'static str,
    /// Bytes of the log that are done, or that it had.
    before: u64,
    /// Bytes of it in all, or that it has now.
    after: u64,
    error: Option<String>,
}

impl Compaction {
    /// Under way: so many of the log's bytes are done.
    pub fn running(log: &'static str, done: u64, bytes: u64) -> Compaction {
        Compaction { log, state: "running", before: done, after: bytes, error: None }
    }

    /// The log had so many bytes and has so many now.
    pub fn done(log: &'static str, before: u64, after: u64) -> Compaction {
        Compaction { log, state: "done", before, after, error: None }
    }

    /// The log is as it was.
    pub fn failed(log: &'static str, error: String) -> Compaction {
        Compaction { log, state: "failed", before: 0, after: 0, error: Some(error) }
    }

    fn report(&self) -> Value {
        let Compaction { log, state, before, after, error } = self;
        match *state {
            "" => json!({"state": "none"}),
            "running" => json!({"state": state, "log": log, "bytes_done": before, "bytes": after}),
            "done" => json!({"state": state, "log": log, "bytes_before": before, "bytes_after": after}),
            _ => json!({"state": state, "log": log, "error": error}),
        }
    }
}

/// Those that write to disk.
#[derive(Clone, Copy, Debug)]
pub enum Part {
    /// Messages.
    Commit = 0,
    /// Users and rooms.
    Directory = 1,
    /// Live challenges.
    Arena = 2,
}

impl Status {
    /// Everything in order, nothing done yet.
    pub fn new(
        data_dir: &Path,
        position: Position,
        files: Files,
        deletions: &Deletions,
        tickets: Arc<Mutex<Tickets>>,
    ) -> Status {
        let state = State {
            disk: [None, None, None],
            files,
            compaction: Compaction::default(),
            damage: Vec::new(),
            scrub: (String::new(), 0),
            version: 0,
        };
        Status {
            data_dir: data_dir.to_owned(),
            seq: AtomicU64::new(position.seq),
            rev: AtomicU64::new(position.rev),
            messages: AtomicU64::new(0),
            batches: AtomicU64::new(0),
            batch_sizes: Histogram::new(&CROWD),
            syncs: Arc::new(Histogram::new(&SYNCING)),
            changes: AtomicU64::new(0),
            queue: AtomicU64::new(0),
            peers: AtomicU64::new(0),
            afresh: AtomicU64::new(if deletions.users > 0 { deletions.rooms_rev + 1 } else { 0 }),
            deleted_upto: AtomicU64::new(deletions.upto),
            challenges: Challenges::default(),
            tickets,
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
    }

    /// Notes whether a part's disk does its work; logs and reports a change at once.
    pub fn set_disk(&self, part: Part, trouble: Option<String>) {
        let mut state = self.state.lock();
        let slot = &mut state.disk[part as usize];
        if *slot == trouble {
            return;
        }
        match &trouble {
            Some(error) => tracing::error!(%error, "the disk does not take records; refusing to store"),
            None => tracing::info!("the disk takes records again"),
        }
        *slot = trouble;
        state.version += 1;
        self.changed.notify_all();
    }

    /// Notes what is wrong with a file; logs and reports it at once if that is new.
    pub fn note_damage(&self, problem: &Problem) {
        let mut state = self.state.lock();
        if state.damage.contains(problem) {
            return;
        }
        let Problem { path, line, byte, what } = problem;
        tracing::error!(file = %path.display(), line, byte, what, "damaged; all other records are served");
        state.damage.retain(|known| known.path != *path);
        if state.damage.len() < DAMAGED_NAMED {
            state.damage.push(problem.clone());
        }
        state.version += 1;
        self.changed.notify_all();
    }

    /// Notes that nothing is wrong with a file.
    pub fn clear_damage(&self, path: &Path) {
        self.state.lock().damage.retain(|known| known.path != path);
    }

    /// Notes how far the reading for damage is.
    pub fn set_scrub(&self, file: &str, byte: u64) {
        let mut state = self.state.lock();
        if state.scrub.0 != file {
            state.scrub.0 = file.to_owned();
        }
        state.scrub.1 = byte;
    }

    /// Notes the size of a file.
    pub fn set_file(&self, name: &str, records: u64, bytes: u64) {
        self.state.lock().files.set(name, records, bytes);
    }

    /// Notes that all full files of messages up to this number are in the index.
    pub fn set_indexed(&self, number: u64) {
        self.state.lock().files.indexed = number;
    }

    /// Notes how the compaction of a log goes.
    pub fn set_compaction(&self, compaction: Compaction) {
        self.state.lock().compaction = compaction;
    }

    /// Message files before a number are there no longer.
    pub fn forget_messages_before(&self, first_file: u64) {
        self.state.lock().files.forget_before(first_file);
    }

    /// Waits until something an operator watches has changed since `version`, or time has passed;
    /// answers the version now.
    pub fn wait(&self, version: u64, at_most: Duration) -> u64 {
        let mut state = self.state.lock();
        if state.version == version {
            self.changed.wait_for(&mut state, at_most);
        }
        state.version
    }

    /// Wakes who waits.
    pub fn wake(&self) {
        self.state.lock().version += 1;
        self.changed.notify_all();
    }

    /// The report.
    pub fn report(&self) -> Value {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let tickets = self.tickets.lock().counts(Purpose::Challenge, Instant::now());
        // 0 of 0: the file system does not tell.
        let (free, total) = reserve::space(&self.data_dir).unwrap_or_default();
        let state = self.state.lock();
        let damage = |problem: &Problem| {
            let Problem { path, line, byte, what } = problem;
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            json!({"file": file, "line": line, "byte": byte, "what": what})
        };
        json!({
            "position": {"seq": read(&self.seq), "rev": read(&self.rev)},
            "disk": state.disk.iter().flatten().next().map_or("ok", String::as_str),
            "disk_free_bytes": free,
            "disk_bytes": total,
            "messages_total": read(&self.messages),
            "batches_total": read(&self.batches),
            "changes_total": read(&self.changes),
            "queue": read(&self.queue),
            "peers": read(&self.peers),
            "challenges": self.challenges.report(tickets),
            "files": state.files.report(),
            "logs": state.files.logs(),
            "index_lag_files": state.files.lag(),
            "batches": self.batch_sizes.report(),
            "syncs": self.syncs.report(),
            "damaged_files": state.damage.len(),
            "damage": state.damage.iter().map(damage).collect::<Vec<_>>(),
            "scrub": {"file": state.scrub.0, "byte": state.scrub.1},
            "compaction": state.compaction.report(),
        })
    }
}

/// A line in each second for whoever follows the log.
pub struct Line {
    since: Instant,
    messages: u64,
}

impl Line {
    /// Nothing has happened yet.
    pub fn starting() -> Line {
        Line { since: Instant::now(), messages: 0 }
    }

    /// Says what happened since the last time, unless that is not a second ago.
    pub fn go_on(&mut self, status: &Status) {
        let now = Instant::now();
        let ms = u64::try_from(now.duration_since(self.since).as_millis()).unwrap_or(u64::MAX);
        if ms < 1_000 {
            return;
        }
        let processed = status.messages.load(Ordering::Relaxed);
        let queued = status.queue.load(Ordering::Relaxed);
        let rate = (processed - self.messages) * 1_000 / ms;
        tracing::debug!(processed, queued, rate, "stats");
        (self.since, self.messages) = (now, processed);
    }
}
