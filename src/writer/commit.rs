//! The thread that makes messages durable.
//!
//! Takes one operation, then all that wait behind it up to the batch's limits; numbers, encodes,
//! writes once, syncs once, hands the batch to publication. There is no timer: while one sync runs,
//! the next batch gathers.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};

use super::batch::{self, Answer, Batch, PeerId};
use super::heads::HeadsIn;
use super::publish::{Event, Publisher};
use super::sequence::{Decision, Sequence};
use super::status::{Part, Status};
use crate::chat::{Code, OpId, Refusal};
use crate::config::{BATCH_BYTES, Fsync, MESSAGE_BYTES, Storage};
use crate::journal::rolling::Segments;
use crate::journal::stamp::Stamp;
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

/// Time between two attempts on a disk that failed while nobody asks for anything.
pub const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// What the thread owns.
pub struct Committer {
    /// Where messages go.
    pub segments: Segments,
    /// Which number they get.
    pub sequence: Sequence,
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
    /// What operators see.
    pub status: Arc<Status>,
}

/// The part of [`Ops`] that has not been taken up.
struct Rest {
    ops: Ops,
    used: usize,
}

/// How the thread is between batches.
struct State {
    rest: Option<Rest>,
    stamp: Stamp,
    /// The last message known to be durable.
    synced: u64,
    /// When accepted messages must be synced, if there are unsynced ones.
    sync_at: Option<Instant>,
    syncs: Vec<(PeerId, u64)>,
    failed: bool,
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
            failed: false,
        };
        while self.wait(ops, &mut state) {
            if state.rest.is_some() {
                self.turn(ops, &mut state);
            }
        }
        if let Err(error) = self.segments.heal().and_then(|()| self.segments.sync()) {
            self.status.set_disk(Part::Commit, Some(error.to_string()));
        }
    }

    /// Waits for operations, and meanwhile does what time asks for. `false`: there will be no more.
    fn wait(&mut self, ops: &Receiver<Ops>, state: &mut State) -> bool {
        let deadline = match (state.failed, state.sync_at) {
            _ if state.rest.is_some() => return true,
            (true, _) => Instant::now() + PROBE_INTERVAL,
            (false, Some(at)) => at,
            (false, None) => {
                return ops.recv().map(|ops| state.rest = Some(Rest { ops, used: 0 })).is_ok();
            }
        };
        match ops.recv_deadline(deadline) {
            Ok(ops) => state.rest = Some(Rest { ops, used: 0 }),
            Err(RecvTimeoutError::Disconnected) => return false,
            Err(RecvTimeoutError::Timeout) if state.failed => self.probe(state),
            Err(RecvTimeoutError::Timeout) => self.sync(state),
        }
        true
    }

    fn probe(&mut self, state: &mut State) {
        let probed = self.segments.probe();
        state.failed = probed.is_err();
        if probed.is_ok() {
            state.synced = self.sequence.next() - 1;
            state.sync_at = None;
        }
        self.status.set_disk(Part::Commit, probed.err().map(|error| error.to_string()));
    }

    fn sync(&mut self, state: &mut State) {
        state.sync_at = None;
        match self.segments.sync() {
            Ok(()) => state.synced = self.sequence.next() - 1,
            Err(error) => self.note_failure(state, &error),
        }
    }

    /// One batch.
    fn turn(&mut self, ops: &Receiver<Ops>, state: &mut State) {
        let mut batch = self.used.try_recv().unwrap_or_default();
        batch.clear();
        let first = self.sequence.next();
        self.fill(&mut batch, ops, state);
        if !batch.is_empty() {
            match self.store(&batch, state) {
                Ok(()) => self.note_success(&batch, state),
                Err(error) => {
                    self.sequence.roll_back(first);
                    batch.fail(first, &refusal(&error));
                    self.note_failure(state, &error);
                }
            }
        }
        let (last, mut syncs) = (batch.last_seq(), std::mem::take(&mut state.syncs));
        if !syncs.is_empty() || !batch.is_empty() {
            // The index may show it before the workers hear of it: it is durable.
            self.heads.add(&batch, &mut syncs);
        }
        state.syncs = syncs;
        if last > 0 {
            // Before anybody can hear of it: what is asked by one who has must be put behind it.
            self.status.seq.store(last, Ordering::Release);
        }
        if !batch.is_empty() || !batch.answers.is_empty() {
            self.publisher.send(Event::Batch(batch));
        }
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
            ToWriter::Post { count, user, sender, room_id, content, client_id } => {
                let id = OpId { instance: *instance, count };
                let bytes = sender.len() + room_id.len() + content.len() + client_id.map_or(0, str::len);
                if bytes > MESSAGE_BYTES {
                    let refusal = Refusal::new(Code::BodyTooLarge, "The message is too large to be stored");
                    batch.answers.push(Answer { peer: *peer, count, result: Err(refusal) });
                    return Ok(true);
                }
                match self.sequence.decide(id, user, client_id, now_ms) {
                    Decision::Store(seq) => {
                        let numbers = (user, now_ms, state.synced);
                        let message = batch::message(seq, id, [room_id, sender, content], client_id, numbers);
                        batch.push(*peer, &message, &mut state.stamp);
                    }
                    Decision::Repeats(earlier) => {
                        let outcome = Outcome::Posted {
                            seq: earlier.seq,
                            id: earlier.id,
                            timestamp_ms: earlier.timestamp_ms,
                        };
                        batch.answers.push(Answer { peer: *peer, count, result: Ok(outcome) });
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
            // A failure concerns messages that have been confirmed as written: they stay, and are
            // written anew before anything else is.
            match self.segments.sync() {
                Ok(()) => state.synced = batch.last_seq(),
                Err(error) => self.note_failure(state, &error),
            }
        }
        Ok(())
    }

    fn note_success(&self, batch: &Batch, state: &mut State) {
        self.status.messages.fetch_add(batch.len() as u64, Ordering::Relaxed);
        self.status.batches.fetch_add(1, Ordering::Relaxed);
        let (log, _, records) = self.segments.newest();
        let name = log.path().file_name().unwrap_or_default().to_string_lossy();
        self.status.set_file(&name, records, log.end());
        if state.failed && !log.is_broken() {
            state.failed = false;
            self.status.set_disk(Part::Commit, None);
        }
    }

    /// Cuts the file back at once, so that nobody reads what is not there. If that fails, too, it is
    /// tried again before the next batch.
    fn note_failure(&mut self, state: &mut State, error: &io::Error) {
        state.failed = true;
        self.status.set_disk(Part::Commit, Some(error.to_string()));
        match self.segments.heal() {
            Ok(()) => {
                state.synced = self.sequence.next() - 1;
                state.sync_at = None;
            }
            Err(error) => tracing::error!(%error, "cannot cut the log back to its last good record"),
        }
    }
}

fn next(ops: &Receiver<Ops>) -> Option<Rest> {
    ops.try_recv().ok().map(|ops| Rest { ops, used: 0 })
}

/// What a client is told whose message the disk did not take.
fn refusal(error: &io::Error) -> Refusal {
    Refusal::new(code(error), "Failed to send message")
}

/// Whose fault a failed write is.
pub fn code(error: &io::Error) -> Code {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Code::StorageFull,
        _ => Code::StorageFailed,
    }
}

/// The Unix time in milliseconds.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
