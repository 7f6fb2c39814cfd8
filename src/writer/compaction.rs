//! Makes `users.jsonl` and `chatrooms.jsonl` shorter while the writer works.
//!
//! A thread of its own reads a log and writes what still matters beside it, resting as long as it
//! works. Then the directory thread, which owns the logs, copies what little was appended meanwhile and
//! gives the new file the log's name. Whenever that ends early, the log is as it was; what is left of
//! the new file is removed at the next start.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::status::{Compaction, Status};
use crate::config::Storage;
use crate::index::compact::{self, CompactError, Living, Plan, Unfinished};
use crate::index::store::LogName;
use crate::journal::disk::Disk;

/// The logs that can be compacted, in the order in which arrays here have them.
pub const LOGS: [LogName; 2] = [LogName::Users, LogName::Rooms];

/// Most bytes at the end of a log that are copied as they are: recent operations stay recognisable as
/// such, and a worker that was away for a moment finds what it has missed.
const KEEP_BYTES: u64 = 16 << 20;

/// Bytes that may be left for the directory thread to copy.
const LITTLE_BYTES: u64 = 256 << 10;

/// Rounds of copying what was appended during the one before, at most.
const ROUNDS: usize = 16;

/// Longest rest between two pieces of work.
const REST: Duration = Duration::from_millis(50);

/// What came of looking at a log.
pub enum Prepared {
    /// A successor that lacks only what was appended last.
    Ready(LogName, Box<Unfinished>),
    /// It is not worth it, or could not be done; the log is as it was.
    Nothing(LogName),
}

/// Decides when, and owns the thread.
pub struct Compactor {
    data_dir: PathBuf,
    disk: Arc<dyn Disk>,
    min_bytes: u64,
    live_percent: f64,
    status: Arc<Status>,
    /// Bytes of accepted records of each log.
    ends: Arc<[AtomicU64; 2]>,
    /// How long each log must be to be looked at.
    look_at: [u64; 2],
    /// Logs to be compacted whatever they hold.
    wanted: [bool; 2],
    thread: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    tell: Sender<Prepared>,
    /// Hears of each end.
    pub heard: Receiver<Prepared>,
}

impl Compactor {
    /// Nothing is looked at yet.
    pub fn new(data_dir: PathBuf, disk: Arc<dyn Disk>, storage: &Storage, status: Arc<Status>) -> Compactor {
        let (tell, heard) = bounded(1);
        Compactor {
            data_dir,
            disk,
            min_bytes: storage.compact_min_bytes,
            live_percent: f64::from(storage.compact_live_percent),
            status,
            ends: Arc::default(),
            look_at: [storage.compact_min_bytes; 2],
            wanted: [false; 2],
            thread: None,
            stop: Arc::default(),
            tell,
            heard,
        }
    }

    /// Has both logs compacted as soon as it can be, and leaves nothing of what is dead.
    pub fn want_all(&mut self) {
        self.wanted = [true; 2];
    }

    /// Notes how long the logs are, and begins if one of them is due.
    pub fn consider(&mut self, ends: [u64; 2]) {
        for (its, end) in self.ends.iter().zip(ends) {
            its.store(end, Ordering::Release);
        }
        if self.thread.is_some() {
            return;
        }
        let due = (0..LOGS.len()).find(|at| self.wanted[*at] || ends[*at] >= self.look_at[*at]);
        if let Some(at) = due {
            self.begin(at, ends[at]);
        }
    }

    fn begin(&mut self, at: usize, end: u64) {
        let forced = std::mem::take(&mut self.wanted[at]);
        let keep = if forced { 0 } else { KEEP_BYTES.min(self.min_bytes / 4) };
        let job = Job {
            plan: Plan { log: LOGS[at], end, keep },
            data_dir: self.data_dir.clone(),
            disk: self.disk.clone(),
            live_percent: if forced { 100.0 } else { self.live_percent },
            ends: self.ends.clone(),
            at,
            status: self.status.clone(),
            stop: self.stop.clone(),
            tell: self.tell.clone(),
        };
        match std::thread::Builder::new().name("compact".to_owned()).spawn(move || job.run()) {
            Ok(thread) => self.thread = Some(thread),
            Err(error) => tracing::error!(%error, "cannot start a thread to compact a log"),
        }
        self.look_at[at] = self.min_bytes.max(end + end / 4);
    }

    /// Notes that the thread is done with a log, which now has so many bytes.
    pub fn ended(&mut self, log: LogName, end: u64) {
        if let Some(thread) = self.thread.take() {
            // One that panicked has said so.
            let _ = thread.join();
        }
        if let Some(at) = LOGS.iter().position(|its| *its == log) {
            self.look_at[at] = self.min_bytes.max(end + end / 4);
        }
    }

    /// Ends the thread; what it has done so far is of no use.
    pub fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        for prepared in self.heard.try_iter() {
            if let Prepared::Ready(_, new) = prepared {
                new.abandon(&*self.disk);
            }
        }
    }
}

/// One log, on the thread.
struct Job {
    plan: Plan,
    data_dir: PathBuf,
    disk: Arc<dyn Disk>,
    live_percent: f64,
    ends: Arc<[AtomicU64; 2]>,
    at: usize,
    status: Arc<Status>,
    stop: Arc<AtomicBool>,
    tell: Sender<Prepared>,
}

impl Job {
    fn run(self) {
        let log = self.plan.log;
        let prepared = match self.prepare() {
            Ok(Some(new)) => Prepared::Ready(log, Box::new(new)),
            Ok(None) => Prepared::Nothing(log),
            Err(error) => {
                if let CompactError::Failed(error) = &error {
                    tracing::error!(log = log.file(), %error, "cannot compact a log; it is as it was");
                }
                let (file, what) = (log.file(), error.to_string());
                self.status.set_compaction(Compaction::failed(file, what));
                Prepared::Nothing(log)
            }
        };
        // There is room for one, and there is one thread.
        let _ = self.tell.try_send(prepared);
    }

    fn prepare(&self) -> Result<Option<Unfinished>, CompactError> {
        let Plan { log, end, .. } = self.plan;
        let living = Living::open(&self.data_dir)?;
        if self.live_percent < 100.0
            && compact::live_share(&self.data_dir, self.plan, &living)? * 100.0 > self.live_percent
        {
            return Ok(None);
        }
        tracing::info!(log = log.file(), bytes = end, "compacting a log");
        let mut last = Instant::now();
        let mut pace = |done: u64| {
            self.status.set_compaction(Compaction::running(log.file(), done, end));
            std::thread::sleep(last.elapsed().min(REST));
            last = Instant::now();
            !self.stop.load(Ordering::Relaxed)
        };
        let Some(mut new) = compact::write(&self.data_dir, &*self.disk, self.plan, &living, &mut pace)?
        else {
            return Ok(None);
        };
        for _ in 0..ROUNDS {
            let end = self.ends[self.at].load(Ordering::Acquire);
            let few = end.saturating_sub(new.done()) <= LITTLE_BYTES;
            if let Err(error) = new.copy(end, &mut pace) {
                new.abandon(&*self.disk);
                return Err(error);
            }
            if few {
                break;
            }
        }
        // What is left to sync at the end is little.
        if let Err(error) = new.finish() {
            new.abandon(&*self.disk);
            return Err(error);
        }
        Ok(Some(new))
    }
}
