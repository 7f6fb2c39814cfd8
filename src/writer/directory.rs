//! The thread that owns users and rooms: their logs, and the index.
//!
//! Takes what waits, does it in one transaction of the index, makes the records durable, commits
//! the transaction, hands over for publication: in that order, so that what somebody is told is
//! durable and in the index, and what the index shows is durable.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, at, never, select_biased};

use super::batch::{Answer, PeerId};
use super::catchup::RoomFrames;
use super::changes::Step;
use super::commit::{self, PROBE_INTERVAL};
use super::heads::{HeadsOut, Waiting};
use super::judge::{Ends, Failure, Judge};
use super::publish::{Event, Publisher};
use super::repeats::Repeats;
use super::status::{Part, Status};
use crate::chat::{Code, OpId, Refusal};
use crate::config::Fsync;
use crate::index::IndexError;
use crate::index::sealed::Piece;
use crate::index::store::{LogName, Progress, Store};
use crate::journal::append::Log;
use crate::journal::record;
use crate::journal::{ROOMS, USERS};
use crate::link::frame::{Change, Outcome};

/// Longest time between the publication of a message and its room's `last_seq` in the index.
const HEADS_INTERVAL: Duration = Duration::from_millis(200);

/// Entries (users, rooms, participants) in one step, but for one operation more.
const STEP_ENTRIES: usize = 5_000;

/// Time that places of messages are put into the index at a time, between other work.
const PLACES_SLICE: Duration = Duration::from_millis(2);

/// One change, and who asks.
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
    /// The index.
    pub store: Store,
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
    /// The policy.
    pub fsync: Fsync,
    /// Newest messages of rooms.
    pub heads: HeadsOut,
    /// Where messages stand in full files.
    pub found: Receiver<Piece>,
    /// Where changes go.
    pub publisher: Publisher,
    /// What operators see.
    pub status: Arc<Status>,
}

/// How the thread is between steps.
struct State {
    asked: Receiver<Asked>,
    woken: Receiver<()>,
    /// Asked and not taken up: it repeats one of the step before it.
    held: Option<Asked>,
    heads_at: Option<Instant>,
    failed: bool,
    found: Receiver<Piece>,
    /// What is being put in of what was found.
    piece: Option<Piece>,
    /// There may be rows of rooms that are gone.
    gone: bool,
    /// When to go on with these two; `None`: there is nothing to do.
    places_at: Option<Instant>,
}

impl State {
    /// Waits for a change, or for something else to do; `false`: nothing more will come.
    fn wait(&mut self) -> (Option<Asked>, bool) {
        let due = match self.failed {
            true => at(Instant::now() + PROBE_INTERVAL),
            false => self.heads_at.into_iter().chain(self.places_at).min().map_or_else(never, at),
        };
        let found = if self.piece.is_none() { self.found.clone() } else { never() };
        // What somebody waits for comes first.
        select_biased! {
            recv(self.woken) -> more => match more {
                Ok(()) => drop(self.heads_at.get_or_insert(Instant::now() + HEADS_INTERVAL)),
                // The commit thread is gone, which ends after those that ask.
                Err(_) => return (self.asked.try_recv().ok(), !self.asked.is_empty()),
            },
            recv(self.asked) -> first => match first {
                Ok(first) => return (Some(first), true),
                Err(_) => self.asked = never(),
            },
            recv(due) -> _ => {}
            recv(found) -> piece => match piece {
                Ok(piece) => {
                    self.piece = Some(piece);
                    self.places_at = Some(Instant::now());
                }
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
            heads_at: None,
            failed: false,
            found: self.found.clone(),
            piece: None,
            gone: true,
            places_at: Some(Instant::now()),
        };
        let mut open = true;
        while open || state.held.is_some() {
            let first = match state.held.take() {
                Some(held) => Some(held),
                None => {
                    let (first, more) = state.wait();
                    open = more;
                    first
                }
            };
            match first {
                Some(first) => self.step(first, &mut state)?,
                None if state.failed => self.probe(&mut state),
                None => {}
            }
            let due = state.heads_at.is_some_and(|when| when <= Instant::now());
            if due || !open || self.heads.is_urgent() {
                self.apply_heads(&mut state)?;
            }
            if !state.failed && state.places_at.is_some_and(|when| when <= Instant::now()) {
                self.put_places(&mut state)?;
            }
        }
        Ok(())
    }

    /// A little of what nobody waits for: places of messages, and rows of rooms that are gone.
    fn put_places(&self, state: &mut State) -> Result<(), IndexError> {
        let done = match &mut state.piece {
            Some(piece) => self.store.put_places(piece, PLACES_SLICE).map(|whole| {
                if whole {
                    state.piece = None;
                }
            }),
            None => self.store.forget_gone().map(|more| state.gone = more),
        };
        state.places_at = (state.gone || state.piece.is_some()).then(Instant::now);
        if let Err(error) = done {
            self.store.rollback()?;
            if error.is_damage() {
                return Err(error);
            }
            tracing::warn!(%error, "cannot index messages; trying again shortly");
            state.places_at = Some(Instant::now() + PROBE_INTERVAL);
        }
        Ok(())
    }

    /// Whether a disk that failed takes records again. The index tells by itself.
    fn probe(&mut self, state: &mut State) {
        let probed = self.users.probe().and_then(|()| self.rooms.heal());
        state.failed = probed.is_err();
        self.status.set_disk(Part::Directory, probed.err().map(|error| error.to_string()));
    }

    /// One transaction.
    fn step(&mut self, first: Asked, state: &mut State) -> Result<(), IndexError> {
        let (mut ops, mut entries) = (HashSet::new(), 0);
        let mut taken = Vec::new();
        let mut next = Some(first);
        while let Some(asked) = next {
            if !ops.insert(asked.op) {
                state.held = Some(asked);
                break;
            }
            entries += self::entries(&asked.change);
            taken.push(asked);
            next = if entries < STEP_ENTRIES { state.asked.try_recv().ok() } else { None };
        }
        self.status.queue.fetch_sub(taken.len() as u64, Ordering::Relaxed);
        let who: Vec<(PeerId, u64)> = taken.iter().map(|asked| (asked.peer, asked.op.count)).collect();
        let before = [self.users.end(), self.rooms.end()];
        let mut step = Step::new(self.ends);
        match self.work(&mut step, taken) {
            Ok(results) => {
                self.keep(&step, state);
                let answers = who.into_iter().zip(results);
                let answers = answers.map(|((peer, count), result)| Answer { peer, count, result });
                let rev = step.ends.rooms;
                self.publisher.send(Event::Changes(step.frames, rev, answers.collect()));
                Ok(())
            }
            Err(failure) => self.give_up(failure, before, &who, state),
        }
    }

    /// Everything of a step that may fail.
    fn work(&mut self, step: &mut Step, taken: Vec<Asked>) -> Result<Vec<Result<Outcome, Refusal>>, Failure> {
        self.users.heal()?;
        self.rooms.heal()?;
        self.store.begin()?;
        let judge = Judge {
            store: &self.store,
            repeats: &self.repeats,
            paths: [self.users.path(), self.rooms.path()],
            rooms_per_user: self.rooms_per_user,
            now_ms: commit::now_ms(),
            after_seq: self.status.seq.load(Ordering::Acquire),
            durable: self.durable,
        };
        let mut results = Vec::with_capacity(taken.len());
        for asked in taken {
            results.push(step.apply(&judge, asked.op, asked.change)?);
        }
        if step.ends == self.ends {
            self.store.rollback()?;
            return Ok(results);
        }
        self.make_durable(step)?;
        self.store.commit()?;
        Ok(results)
    }

    fn make_durable(&mut self, step: &Step) -> Result<(), Failure> {
        let sync = self.fsync != Fsync::Never;
        let parts = [
            (LogName::Users, &mut self.users, &step.users, step.ends.users),
            (LogName::Rooms, &mut self.rooms, &step.rooms, step.ends.rooms),
        ];
        for (name, log, lines, last) in parts {
            if let Some(line) = last_line(lines) {
                let bytes = log.end() + lines.len() as u64;
                self.store.set_progress(name, Progress { last, bytes, sum: record::sum(line) })?;
                log.append(lines, sync)?;
            }
        }
        Ok(())
    }

    /// Leaves nothing of a step: what reached the logs had been confirmed to nobody.
    fn give_up(
        &mut self,
        failure: Failure,
        before: [u64; 2],
        who: &[(PeerId, u64)],
        state: &mut State,
    ) -> Result<(), IndexError> {
        state.failed = true;
        self.status.set_disk(Part::Directory, Some(failure.to_string()));
        let code = match &failure {
            Failure::Disk(error) => commit::code(error),
            Failure::Index(error) if error.is_full() => Code::StorageFull,
            _ => Code::StorageFailed,
        };
        self.store.rollback()?;
        for (log, end) in [(&mut self.users, before[0]), (&mut self.rooms, before[1])] {
            if log.end() != end || log.is_broken() {
                log.take_back(end);
                if let Err(error) = log.heal() {
                    tracing::error!(%error, "cannot cut the log back to its last good record");
                }
            }
        }
        let refusal = Refusal::new(code, "The change could not be stored");
        self.answer(who, &Err(refusal));
        match failure {
            Failure::Index(error) if error.is_damage() => Err(error),
            _ => Ok(()),
        }
    }

    fn answer(&self, who: &[(PeerId, u64)], result: &Result<Outcome, Refusal>) {
        let answer = |&(peer, count)| Answer { peer, count, result: result.clone() };
        let answers = who.iter().map(answer).collect();
        self.publisher.send(Event::Changes(RoomFrames::default(), self.ends.rooms, answers));
    }

    /// Brings the newest messages of rooms into the index, then answers who waited for that.
    fn apply_heads(&mut self, state: &mut State) -> Result<(), IndexError> {
        let mut waiting = self.heads.take();
        state.heads_at = None;
        let syncs = std::mem::take(&mut waiting.syncs);
        match self.write_heads(&waiting) {
            Ok(()) => self.answer(&syncs, &Ok(Outcome::Ok)),
            Err(error) => {
                self.store.rollback()?;
                self.status.set_disk(Part::Directory, Some(error.to_string()));
                state.failed = true;
                state.heads_at = Some(Instant::now() + PROBE_INTERVAL);
                self.heads.put_back(waiting);
                let refusal = Refusal::new(Code::StorageFailed, "The index can't be brought up to date");
                self.answer(&syncs, &Err(refusal));
                if error.is_damage() {
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn write_heads(&self, waiting: &Waiting) -> Result<(), IndexError> {
        if waiting.last == 0 {
            return Ok(());
        }
        self.store.begin()?;
        for (room, seq) in &waiting.rooms {
            self.store.set_last_seq(room, *seq)?;
        }
        let progress = Progress { last: waiting.last, ..Progress::default() };
        self.store.set_progress(LogName::Messages, progress)?;
        self.store.commit()
    }

    /// The step has become fact.
    fn keep(&mut self, step: &Step, state: &mut State) {
        for (log, op, byte) in &step.places {
            let (end, lines) = match log {
                LogName::Rooms => (self.rooms.end(), &step.rooms),
                _ => (self.users.end(), &step.users),
            };
            self.repeats.add(*log, *op, end - lines.len() as u64 + byte);
        }
        self.ends = step.ends;
        if self.fsync != Fsync::Never {
            self.durable = step.ends;
        }
        if !step.rooms.is_empty() {
            state.gone = true;
            state.places_at.get_or_insert_with(Instant::now);
        }
        self.status.rev.store(self.ends.rooms, Ordering::Relaxed);
        self.status.changes.fetch_add(step.places.len() as u64, Ordering::Relaxed);
        self.status.set_file(USERS, self.ends.users, self.users.end());
        self.status.set_file(ROOMS, self.ends.rooms, self.rooms.end());
        if state.failed {
            state.failed = false;
            self.status.set_disk(Part::Directory, None);
        }
    }
}

/// How much work a change is.
fn entries(change: &Change) -> usize {
    match change {
        Change::CreateUsers(users) => users.len(),
        Change::SetPasswords(passwords) => passwords.len(),
        Change::CreateRooms { rooms, .. } => rooms.iter().map(|room| 1 + room.participants.len()).sum(),
        Change::Invite { participants, .. } => participants.len(),
        Change::Join { .. } | Change::Leave { .. } => 1,
    }
}

fn last_line(lines: &[u8]) -> Option<&[u8]> {
    lines.strip_suffix(b"\n")?.rsplit(|byte| *byte == b'\n').next()
}
