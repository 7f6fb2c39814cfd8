//! What the commit thread does while the disk refuses.
//!
//! A batch that the disk refused may stand in the file all the same, in part or whole, until the file
//! has been cut back and that is durable. If the process ends before, recovery takes those lines for
//! good: they look like any others. So as long as the cut has not succeeded nobody of that batch is
//! answered. Whoever asks again with the same operation or the same `clientId` waits with them; all
//! others are refused at once, since nothing of theirs is ever written. If the process ends, the
//! workers ask the next one, which finds each operation in the log, or does it: one answer either way.

use std::io;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::batch::{Answer, Batch, PeerId};
use super::commit::{Committer, State};
use super::publish::Event;
use super::status::Part;
use crate::chat::{Code, Refusal};

/// Time between two attempts on a disk that failed.
pub const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// Answers that wait for a cut. Beyond that a worker is sent away, and asks again when it is back.
pub const WITHHELD_ANSWERS: usize = 1 << 18;

/// A batch that the disk refused and that may be in the file.
pub struct Withheld {
    batch: Box<Batch>,
    /// Its first number; its operations keep theirs until they are refused.
    first: u64,
    refusal: Refusal,
}

impl Withheld {
    /// Its first number.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// Adds an answer that waits for the same; `false`: there are too many.
    pub fn add(&mut self, answer: Answer) -> bool {
        let fits = self.batch.answers.len() < WITHHELD_ANSWERS;
        if fits {
            self.batch.answers.push(answer);
        }
        fits
    }
}

impl Committer {
    /// Whether nothing new may be stored now, and what those are told who ask for it.
    pub fn closed(&mut self, state: &mut State) -> Option<Refusal> {
        if state.withheld.is_some() {
            match self.segments.heal() {
                Ok(()) => self.cut_done(state),
                Err(error) => return Some(self.note_trouble(state, &error)),
            }
        }
        self.reserve.is_released().then(|| self.note_trouble(state, &Errno::ENOSPC.into()))
    }

    /// The disk refused a batch whose first number is `first`: refuses it as soon as that is true.
    pub fn give_up(&mut self, mut batch: Box<Batch>, first: u64, error: &io::Error, state: &mut State) {
        let refusal = self.note_trouble(state, error);
        let healed = self.heal();
        if self.segments.is_tainted() {
            state.withheld = Some(Withheld { batch, first, refusal });
            return;
        }
        self.sequence.roll_back(first);
        batch.fail(first, &refusal);
        if healed {
            self.all_durable(state);
        }
        self.publisher.send(Event::Batch(batch));
    }

    /// A sync failed that was nobody's in particular: what it was to make durable stays confirmed, and
    /// is written anew before anything else is.
    pub fn lost_sync(&mut self, error: &io::Error, state: &mut State) {
        self.note_trouble(state, error);
        if self.heal() {
            self.all_durable(state);
        }
    }

    fn heal(&mut self) -> bool {
        let healed = self.segments.heal();
        if let Err(error) = &healed {
            tracing::error!(%error, "cannot cut the log back to its last good record");
        }
        healed.is_ok()
    }

    /// The file has been cut back: those who waited for that are told.
    fn cut_done(&mut self, state: &mut State) {
        if let Some(Withheld { mut batch, first, refusal }) = state.withheld.take() {
            self.sequence.roll_back(first);
            batch.fail(first, &refusal);
            self.publisher.send(Event::Batch(batch));
        }
        self.all_durable(state);
    }

    /// Healing has made durable all that was accepted.
    fn all_durable(&self, state: &mut State) {
        state.synced = self.sequence.next() - 1;
        state.sync_at = None;
    }

    /// Remembers that the disk refuses and says so to operators; answers what clients are told.
    fn note_trouble(&self, state: &mut State, error: &io::Error) -> Refusal {
        let code = code(error);
        if code == Code::StorageFull {
            self.reserve.release();
        }
        state.probe_at.get_or_insert_with(|| Instant::now() + PROBE_INTERVAL);
        self.status.set_disk(Part::Commit, Some(error.to_string()));
        Refusal::new(code, "Failed to send message")
    }

    /// Finds out whether a disk that failed takes records again.
    pub fn probe(&mut self, state: &mut State) {
        state.probe_at = None;
        if let Err(error) = self.try_disk(state) {
            self.note_trouble(state, &error);
        } else {
            self.all_durable(state);
            self.status.set_disk(Part::Commit, None);
        }
    }

    fn try_disk(&mut self, state: &mut State) -> io::Result<()> {
        self.segments.heal()?;
        self.cut_done(state);
        self.reserve.restore()?;
        self.segments.probe()
    }

    /// The last attempt: no more operations will come.
    pub fn finish(&mut self, state: &mut State) {
        let done = self.segments.heal().and_then(|()| {
            self.cut_done(state);
            self.segments.sync()
        });
        if let Err(error) = done {
            // Those who still wait for an answer ask the next process.
            self.status.set_disk(Part::Commit, Some(error.to_string()));
        }
    }

    /// Lets an answer wait for the cut.
    pub fn withhold(&self, answer: Answer, state: &mut State) {
        let peer: PeerId = answer.peer;
        if !state.withheld.as_mut().is_some_and(|withheld| withheld.add(answer)) {
            self.publisher.send(Event::Drop(peer));
        }
    }
}

/// Whose fault a failed write is.
pub fn code(error: &io::Error) -> Code {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Code::StorageFull,
        _ => Code::StorageFailed,
    }
}
