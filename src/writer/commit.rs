//! The thread that makes messages durable.
//!
//! Takes one operation, then all that wait behind it up to the batch's limits; numbers, encodes,
//! writes once, syncs once, hands the batch to publication. There is no timer: while one sync runs,
//! the next batch gathers.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Instant, SystemTime};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::batch::{self, Answer, Batch, PeerId};
use super::heads::{HeadsIn, Sealed};
use super::publish::{Event, Publisher};
use super::reserve::Reserve;
use super::sequence::{Decision, Earlier, Sequence};
use super::status::{Part, Status};
use super::withheld::{Withheld, code};
use crate::chat::{Code, OpId, Paces, Refusal, UserId};
use crate::config::{BATCH_BYTES, Fsync, MESSAGE_BYTES, Storage};
use crate::journal::rolling::Segments;
use crate::journal::stamp::Stamp;
use crate::link::clock;
use crate::link::codec;
use crate::link::frame::{Outcome, ToWriter};

/// `Post`s and `Sync`s of one worker, as they came.
pub struct Ops {
    /// The connection they came on.
    pub peer: PeerId,
    /// [`OpId::instance`] of that worker.
    pub instance: u64,
    /// Whole frames, one behind the other.
    pub frames: Vec<u8>,
    /// How many.
    pub count: u64,
}

/// Once its lines have this many bytes, a batch takes no more: what one message may add leaves it
/// below [`BATCH_BYTES`], however much of it JSON has to escape.
const FULL_BYTES: usize = BATCH_BYTES - 7 * MESSAGE_BYTES;

/// What the thread owns.
pub struct Committer {
    /// Where messages go.
    pub segments: Segments,
    /// Which number they get.
    pub sequence: Sequence,
    /// How fast users send, on all workers together.
    pub paces: Paces,
    /// The policy.
    pub storage: Storage,
    /// Where batches go.
    pub publisher: Publisher,
    /// Batches come back here to be used again.
    pub used: Receiver<Box<Batch>>,
    /// What the index has to learn.
    pub heads: HeadsIn,
    /// Hears when a file is full.
    pub sealed: Sender<()>,
    /// Space for the time when the disk is full.
    pub reserve: Arc<Reserve>,
    /// What operators see.
    pub status: Arc<Status>,
}

/// The part of [`Ops`] that has not been taken up.
struct Rest {
    ops: Ops,
    used: usize,
}

/// How the thread is between batches.
pub struct State {
    rest: Option<Rest>,
    stamp: Stamp,
    /// The last message known to be durable.
    pub synced: u64,
    /// When accepted messages must be synced, if there are unsynced ones.
    pub sync_at: Option<Instant>,
    syncs: Vec<(PeerId, u64)>,
    /// A deletion of messages that ends the batch: who asks on which connection, by which operation.
    deletion: Option<(PeerId, OpId, UserId)>,
    /// When to look whether the disk takes records again; `None`: it does.
    pub probe_at: Option<Instant>,
    /// What the disk refused and may be in the file.
    pub withheld: Option<Withheld>,
    /// Nothing new is stored: what those are told who ask for it.
    closed: Option<Refusal>,
}

impl Committer {
    /// Works until all senders of operations are gone, then syncs.
    pub fn run(mut self, ops: &Receiver<Ops>) {
        let synced = self.sequence.next() - 1;
        let mut state = State {
            rest: None,
            stamp: Stamp::default(),
            synced,
            sync_at: None,
            syncs: Vec::new(),
            deletion: None,
            probe_at: None,
            withheld: None,
            closed: None,
        };
        if self.reserve.is_released() {
            self.probe(&mut state);
        }
        while self.wait(ops, &mut state) {
            if state.rest.is_some() {
                self.turn(ops, &mut state);
            }
        }
        self.finish(&mut state);
    }

    /// Waits for operations, and meanwhile does what time asks for. `false`: there will be no more.
    fn wait(&mut self, ops: &Receiver<Ops>, state: &mut State) -> bool {
        if state.probe_at.is_some_and(|at| at <= Instant::now()) {
            self.probe(state);
        }
        let Some(deadline) = state.probe_at.or(state.sync_at) else {
            return state.rest.is_some()
                || ops.recv().map(|ops| state.rest = Some(Rest { ops, used: 0 })).is_ok();
        };
        if state.rest.is_some() {
            return true;
        }
        match ops.recv_deadline(deadline) {
            Ok(ops) => state.rest = Some(Rest { ops, used: 0 }),
            Err(RecvTimeoutError::Disconnected) => return false,
            Err(RecvTimeoutError::Timeout) if state.probe_at.is_none() => self.sync(state),
            Err(RecvTimeoutError::Timeout) => {}
        }
        true
    }

    fn sync(&mut self, state: &mut State) {
        state.sync_at = None;
        match self.segments.sync() {
            Ok(()) => state.synced = self.sequence.next() - 1,
            Err(error) => self.lost_sync(&error, state),
        }
    }

    /// One batch.
    fn turn(&mut self, ops: &Receiver<Ops>, state: &mut State) {
        let mut batch = self.used.try_recv().unwrap_or_default();
        batch.clear();
        state.closed = self.closed(state);
        let first = self.sequence.next();
        self.fill(&mut batch, ops, state);
        let stored = if batch.is_empty() { Ok(()) } else { self.store(&batch, state) };
        let (failed, last) = match stored {
            Ok(()) => (None, batch.last_seq()),
            Err(error) => (Some(error), 0),
        };
        let mut syncs = std::mem::take(&mut state.syncs);
        if !syncs.is_empty() || last > 0 {
            // The index may show it before the workers hear of it: it is durable.
            self.heads.add(failed.is_none().then_some(&*batch), &mut syncs);
        }
        state.syncs = syncs;
        let deletion = state.deletion.take();
        if let Some(error) = failed {
            batch.answers.extend(deletion.map(|(peer, op, _)| not_deleted(peer, op, &error)));
            return self.give_up(batch, first, &error, state);
        }
        if last > 0 {
            self.note_success(&batch, state);
            // Before anybody can hear of it: what is asked by one who has must be put behind it.
            self.status.seq.store(last, Ordering::Release);
        }
        if !batch.is_empty() || !batch.answers.is_empty() {
            self.publisher.send(Event::Batch(batch));
        }
        if let Some((peer, op, by)) = deletion
            && let Err(error) = self.seal(state, peer, op, by)
        {
            let mut refused = Box::<Batch>::default();
            refused.answers.push(not_deleted(peer, op, &error));
            self.publisher.send(Event::Batch(refused));
        }
    }

    /// Puts a deletion of messages in order: what is stored from now on is in another file.
    fn seal(&mut self, state: &mut State, peer: PeerId, op: OpId, by: UserId) -> io::Result<()> {
        if state.withheld.is_some() {
            return Err(io::Error::other("the file has not been cut back yet"));
        }
        let begun = self.segments.heal().and_then(|()| self.segments.begin_file());
        let first_file = begun.inspect_err(|error| self.lost_sync(error, state))?;
        let upto = self.sequence.next() - 1;
        (state.synced, state.sync_at) = (upto, None);
        self.heads.seal(Sealed { peer, op, by, upto, first_file });
        Ok(())
    }

    /// Takes up what waits, up to the batch's limits.
    fn fill(&mut self, batch: &mut Batch, ops: &Receiver<Ops>, state: &mut State) {
        let limit = self.storage.batch_max_messages.max(1);
        let limit = usize::try_from(self.segments.room()).map_or(limit, |room| room.min(limit));
        let now_ms = now_ms();
        let mut taken = 0;
        while taken < limit && batch.lines().len() < FULL_BYTES {
            let Some(mut rest) = state.rest.take().or_else(|| next(ops)) else {
                return;
            };
            match self.take_one(&mut rest, batch, state, now_ms) {
                Ok(true) => {
                    taken += 1;
                    state.rest = Some(rest);
                    if state.deletion.is_some() {
                        return;
                    }
                }
                Ok(false) => drop(self.status.queue.fetch_sub(rest.ops.count, Ordering::Relaxed)),
                Err(()) => {
                    self.status.queue.fetch_sub(rest.ops.count, Ordering::Relaxed);
                    self.publisher.send(Event::Drop(rest.ops.peer));
                }
            }
        }
    }

    /// Decides about the next operation of `rest`; `false`: there is none. An error: what came is
    /// unreadable, and so is all behind it.
    fn take_one(
        &mut self,
        rest: &mut Rest,
        batch: &mut Batch,
        state: &mut State,
        now_ms: i64,
    ) -> Result<bool, ()> {
        let Rest { ops: Ops { peer, instance, frames, .. }, used } = rest;
        let unreadable = |error| tracing::error!(%error, "a worker sent an unreadable frame");
        let Some((body, len)) = codec::split(&frames[*used..]).map_err(unreadable)? else {
            return Ok(false);
        };
        *used += len;
        match codec::decode(body).map_err(unreadable)? {
            ToWriter::Sync { count } => state.syncs.push((*peer, count)),
            ToWriter::DeleteMessages { count, by } => {
                state.deletion = Some((*peer, OpId { instance: *instance, count }, by));
            }
            ToWriter::Post { count, sent_us, user, sender, room_id, content, client_id } => {
                let id = OpId { instance: *instance, count };
                let bytes = sender.len() + room_id.len() + content.len() + client_id.map_or(0, str::len);
                if bytes > MESSAGE_BYTES {
                    let refusal = Refusal::new(Code::BodyTooLarge, "The message is too large to be stored");
                    batch.answers.push(Answer { peer: *peer, count, result: Err(refusal) });
                    return Ok(true);
                }
                let closed = state.closed.clone().or_else(|| {
                    let in_pace = self.paces.take_sent(user, sent_us, clock::now_us());
                    (!in_pace).then(Refusal::too_many_messages)
                });
                let decision = match closed {
                    None => self.sequence.decide(id, user, client_id, now_ms),
                    // What is stored already is said to be, whatever else is wrong.
                    Some(refusal) => match self.sequence.find(id, user, client_id) {
                        Some(earlier) => Decision::Repeats(earlier),
                        None => {
                            batch.answers.push(Answer { peer: *peer, count, result: Err(refusal) });
                            return Ok(true);
                        }
                    },
                };
                match decision {
                    Decision::Store(seq) => {
                        let numbers = (user, now_ms, state.synced);
                        let message = batch::message(seq, id, [room_id, sender, content], client_id, numbers);
                        batch.push(*peer, sent_us, &message, &mut state.stamp);
                    }
                    Decision::Repeats(Earlier { seq, id, timestamp_ms }) => {
                        let result = Ok(Outcome::Posted { seq, id, timestamp_ms });
                        let answer = Answer { peer: *peer, count, result };
                        match &state.withheld {
                            Some(withheld) if seq >= withheld.first() => self.withhold(answer, state),
                            _ => batch.answers.push(answer),
                        }
                    }
                }
            }
            // Intake lets nothing else through.
            other => tracing::error!(?other, "not for the commit thread"),
        }
        Ok(true)
    }

    fn store(&mut self, batch: &Batch, state: &mut State) -> io::Result<()> {
        self.segments.heal()?;
        let sync = self.storage.fsync == Fsync::Always;
        let new_file = self.segments.is_full();
        self.segments.append(batch.lines(), batch.len() as u64, sync)?;
        if new_file {
            // Full: it was told before and has not looked yet.
            let _ = self.sealed.try_send(());
            state.synced = batch.last_seq() - batch.len() as u64;
        }
        if sync {
            state.synced = batch.last_seq();
        } else if self.storage.fsync == Fsync::Interval && state.sync_at.is_none() {
            state.sync_at = Some(Instant::now() + self.storage.flush_interval);
        }
        if state.sync_at.is_some_and(|at| at <= Instant::now()) {
            state.sync_at = None;
            match self.segments.sync() {
                Ok(()) => state.synced = batch.last_seq(),
                Err(error) => self.lost_sync(&error, state),
            }
        }
        Ok(())
    }

    fn note_success(&self, batch: &Batch, state: &mut State) {
        self.status.messages.fetch_add(batch.len() as u64, Ordering::Relaxed);
        self.status.batches.fetch_add(1, Ordering::Relaxed);
        self.status.batch_sizes.note(batch.len() as u64);
        let (log, _, records) = self.segments.newest();
        let name = log.path().file_name().unwrap_or_default().to_string_lossy();
        self.status.set_file(&name, records, log.end());
        if state.probe_at.is_some() && !log.is_broken() {
            state.probe_at = None;
            self.status.set_disk(Part::Commit, None);
        }
    }
}

fn not_deleted(peer: PeerId, op: OpId, error: &io::Error) -> Answer {
    let refusal = Refusal::new(code(error), "Nothing was deleted: the storage failed");
    Answer { peer, count: op.count, result: Err(refusal) }
}

fn next(ops: &Receiver<Ops>) -> Option<Rest> {
    ops.try_recv().ok().map(|ops| Rest { ops, used: 0 })
}

/// The Unix time in milliseconds.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
