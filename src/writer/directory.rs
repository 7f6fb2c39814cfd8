//! The thread that owns users and rooms: their logs, and the index.
//!
//! Takes what waits, does it in one transaction of the index, makes the records durable, commits
//! the transaction, hands over for publication: in that order, so that what somebody is told is
//! durable and in the index, and what the index shows is durable.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, at, never, select_biased};
use parking_lot::Mutex;

use super::batch::{Answer, PeerId};
use super::catchup::RoomFrames;
use super::compaction::{Compactor, Prepared};
use super::heads::{self, HeadsOut};
use super::indexer::ToPut;
use super::judge::{Ends, Failure};
use super::publish::{Event, Publisher};
use super::repeats::Repeats;
use super::reserve::Reserve;
use super::status::Status;
use super::tickets::Tickets;
use super::undone::Waiting;
use super::withheld::PROBE_INTERVAL;
use crate::chat::{OpId, Paces, Refusal};
use crate::config::Fsync;
use crate::index::IndexError;
use crate::index::build::{self, BuildError};
use crate::index::store::{LogName, Progress, Store};
use crate::journal::append::Log;
use crate::journal::deletions::Deletions;
use crate::journal::disk::Disk;
use crate::link::frame::{Change, Outcome};

/// Longest time between the publication of a message and its room's `last_seq` in the index.
const HEADS_INTERVAL: Duration = Duration::from_millis(200);

/// One change, and who asks.
#[derive(Clone)]
pub struct Asked {
    /// The connection it came on.
    pub peer: PeerId,
    /// The operation.
    pub op: OpId,
    /// The change.
    pub change: Change,
}

/// What the thread owns.
pub struct Directory {
    /// Where all this is.
    pub data_dir: PathBuf,
    /// The index.
    pub store: Store,
    /// The newest messages of rooms must be read from the logs before any are written.
    pub heads_behind: bool,
    /// `users.jsonl`
    pub users: Log,
    /// `chatrooms.jsonl`
    pub rooms: Log,
    /// Where they end.
    pub ends: Ends,
    /// What of them is durable.
    pub durable: Ends,
    /// The latest changes.
    pub repeats: Repeats,
    /// Rooms one user may be in.
    pub rooms_per_user: u64,
    /// How fast users make changes, on all workers together.
    pub paces: Paces,
    /// Those of users whose tokens are ended go as well.
    pub tickets: Arc<Mutex<Tickets>>,
    /// The policy.
    pub fsync: Fsync,
    /// Newest messages of rooms.
    pub heads: HeadsOut,
    /// What was found out about full files.
    pub found: Receiver<ToPut>,
    /// Tells who finds it that files were deleted: what there was about them is of no use any more.
    pub sealed: Sender<()>,
    /// Where changes go.
    pub publisher: Publisher,
    /// Space for the time when the disk is full.
    pub reserve: Arc<Reserve>,
    /// What operators see.
    pub status: Arc<Status>,
    /// `admin.jsonl`
    pub admin: Log,
    /// Its last record.
    pub admin_rev: u64,
    /// What it says.
    pub deletions: Deletions,
    /// The disk that all logs are on.
    pub disk: Arc<dyn Disk>,
    /// A compacted log may not keep its name over a loss of power yet.
    pub unsynced_name: bool,
    /// Records of users and of rooms that are no longer in the files.
    pub gone: [u64; 2],
    /// Makes the logs shorter.
    pub compactor: Compactor,
}

/// How the thread is between steps.
pub struct State {
    pub(super) asked: Receiver<Asked>,
    woken: Receiver<()>,
    /// Asked and not taken up: it repeats something.
    pub(super) held: Option<Asked>,
    /// Says that a log was compacted.
    compacted: Receiver<Prepared>,
    /// What it said.
    prepared: Option<Prepared>,
    heads_at: Option<Instant>,
    /// When to look whether the disk takes changes again; `None`: it does.
    pub probe_at: Option<Instant>,
    /// What the disk refused and may be in the logs, and who waits for what became of earlier changes.
    pub waiting: Waiting,
    found: Receiver<ToPut>,
    /// What of it is to be put in, and when; it waits for the disk.
    to_put: Option<(ToPut, Instant)>,
}

impl State {
    /// Waits for a change, or for something else to do; `false`: nothing more will come.
    fn wait(&mut self) -> (Option<Asked>, bool) {
        let put_at = self.to_put.as_ref().filter(|_| self.probe_at.is_none()).map(|(_, when)| *when);
        let times = [self.probe_at, self.heads_at, put_at];
        let due = match times.into_iter().flatten().min() {
            Some(when) => at(when),
            None => never(),
        };
        let found = if self.to_put.is_none() { self.found.clone() } else { never() };
        // What somebody waits for comes first.
        select_biased! {
            recv(self.woken) -> more => match more {
                Ok(()) => drop(self.heads_at.get_or_insert(Instant::now() + HEADS_INTERVAL)),
                // The commit thread is gone, which ends after those that ask.
                Err(_) => return (self.asked.try_recv().ok(), !self.asked.is_empty()),
            },
            recv(self.compacted) -> prepared => self.prepared = prepared.ok(),
            recv(self.asked) -> first => match first {
                Ok(first) => return (Some(first), true),
                Err(_) => self.asked = never(),
            },
            recv(due) -> _ => {}
            recv(found) -> found => match found {
                Ok(found) => self.to_put = Some((found, Instant::now())),
                Err(_) => self.found = never(),
            },
        }
        (None, true)
    }
}

impl Directory {
    /// Works until nobody is left who could ask for a change or store a message, and what they led to
    /// is in the index.
    ///
    /// # Errors
    /// The index is damaged; a new process builds it anew.
    pub fn run(mut self, asked: Receiver<Asked>, woken: Receiver<()>) -> Result<(), IndexError> {
        let mut state = State {
            asked,
            woken,
            held: None,
            compacted: self.compactor.heard.clone(),
            prepared: None,
            heads_at: None,
            probe_at: None,
            waiting: Waiting::default(),
            found: self.found.clone(),
            to_put: None,
        };
        if self.reserve.is_released() || self.heads_behind {
            self.probe(&mut state)?;
        }
        self.compactor.consider([self.users.end(), self.rooms.end()]);
        let mut open = true;
        while open || state.held.is_some() {
            let again = if state.probe_at.is_none() { state.waiting.pop_repeat() } else { None };
            let first = match state.held.take().or(again) {
                Some(held) => Some(held),
                None => {
                    let (first, more) = state.wait();
                    open = more;
                    first
                }
            };
            if let Some(first) = first {
                self.step(first, &mut state)?;
            }
            if let Some(prepared) = state.prepared.take() {
                self.hear(prepared);
            }
            let now = Instant::now();
            if state.probe_at.is_some_and(|when| when <= now) || (!open && state.probe_at.is_some()) {
                self.probe(&mut state)?;
            }
            if state.heads_at.is_some_and(|when| when <= now) || !open || self.heads.is_urgent() {
                self.apply_heads(&mut state)?;
            }
            if let Some((found, _)) =
                state.to_put.take_if(|(_, when)| state.probe_at.is_none() && *when <= Instant::now())
            {
                self.put_found(found, &mut state)?;
            }
        }
        self.compactor.stop();
        Ok(())
    }

    /// Puts in what was found out about full files.
    fn put_found(&self, to_put: ToPut, state: &mut State) -> Result<(), IndexError> {
        // What was found in files that were deleted since is of no use.
        let put = match to_put.found.segment() < self.deletions.first_file {
            true => Ok(false),
            false => self.try_put(&to_put),
        };
        match put {
            // Nobody waits any more when the process ends.
            Ok(put) => drop(to_put.done.send(put)),
            Err(error) => {
                self.store.rollback()?;
                tracing::warn!(%error, "cannot index messages; trying again shortly");
                let (full, error) = (error.is_full(), Failure::Index(error));
                if full {
                    self.note_trouble(state, &error);
                }
                error.damage()?;
                state.to_put = Some((to_put, Instant::now() + PROBE_INTERVAL));
            }
        }
        Ok(())
    }

    fn try_put(&self, to_put: &ToPut) -> Result<bool, IndexError> {
        self.store.begin()?;
        let put = self.store.put_found(&to_put.found)?;
        self.store.commit()?;
        Ok(put)
    }

    /// Tells the same to many.
    pub fn answer(&self, who: &[(PeerId, u64)], result: &Result<Outcome, Refusal>) {
        let answer = |&(peer, count)| Answer { peer, count, result: result.clone() };
        let answers = who.iter().map(answer).collect();
        self.publisher.send(Event::Changes(RoomFrames::default(), self.ends.rooms, answers));
    }

    /// Brings the newest messages of rooms into the index, then answers who waited for that.
    fn apply_heads(&mut self, state: &mut State) -> Result<(), IndexError> {
        let mut waiting = self.heads.take();
        state.heads_at = None;
        let syncs = std::mem::take(&mut waiting.syncs);
        let sealed = std::mem::take(&mut waiting.sealed);
        let mut written = self.write_heads(&waiting);
        if let Err(error) = written {
            self.store.rollback()?;
            let error = Failure::Index(error);
            self.note_trouble(state, &error);
            error.damage()?;
            // On a full disk there is the reserve now.
            written = self.write_heads(&waiting);
        }
        if written.is_err() {
            self.store.rollback()?;
            state.heads_at = Some(Instant::now() + PROBE_INTERVAL);
            self.heads.put_back(waiting);
        }
        // Who only wants to read is served also from an index that the disk lets fall behind.
        self.answer(&syncs, &Ok(Outcome::Ok));
        for sealed in &sealed {
            self.delete_messages(sealed)?;
        }
        Ok(())
    }

    fn write_heads(&self, waiting: &heads::Waiting) -> Result<(), IndexError> {
        if self.heads_behind {
            return Err(std::io::Error::from(std::io::ErrorKind::StorageFull).into());
        }
        if waiting.last == 0 {
            return Ok(());
        }
        if waiting.spilt {
            let done = build::catch_up_messages(&self.data_dir, &self.store, waiting.last);
            return done.map_err(|error| match error {
                BuildError::Index(error) => error,
                BuildError::Journal(error) => std::io::Error::other(error).into(),
            });
        }
        self.store.begin()?;
        for (room, seq) in &waiting.rooms {
            self.store.set_last_seq(room, *seq)?;
        }
        let progress = Progress { last: waiting.last, ..Progress::default() };
        self.store.set_progress(LogName::Messages, progress)?;
        self.store.commit()
    }
}
