//! What the directory thread does while the disk refuses.
//!
//! As with messages ([`super::withheld`]), what was written of a refused step may still be found good
//! by a recovery, so those who asked for it are told only once the logs have been cut back. Changes
//! that repeat one that was done can't be refused either; they wait until the disk works again.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::time::Instant;

use nix::errno::Errno;

use super::batch::PeerId;
use super::directory::{Asked, Directory, State};
use super::judge::Failure;
use super::publish::Event;
use super::status::Part;
use super::withheld::{self, PROBE_INTERVAL, WITHHELD_ANSWERS};
use crate::chat::{Code, OpId, Refusal};
use crate::index::IndexError;
use crate::index::build::{self, BuildError};

/// Repeated changes that wait until the disk works; with more a worker is sent away, and asks again
/// when it is back.
const REPEATS: usize = 1_024;

/// Who waits until the disk works again.
#[derive(Default)]
pub struct Waiting {
    /// The step that was refused and may be in the logs.
    withheld: Option<Withheld>,
    repeats: VecDeque<Asked>,
}

struct Withheld {
    ops: HashSet<OpId>,
    who: Vec<(PeerId, u64)>,
    refusal: Refusal,
}

impl Waiting {
    /// The next repeated change.
    pub fn pop_repeat(&mut self) -> Option<Asked> {
        self.repeats.pop_front()
    }
}

impl Failure {
    /// Ends the thread if the index is damaged, which only building it anew mends.
    ///
    /// # Errors
    /// It is.
    pub fn damage(self) -> Result<(), IndexError> {
        match self {
            Failure::Index(error) if error.is_damage() => Err(error),
            _ => Ok(()),
        }
    }

    /// What clients are told of it.
    pub fn code(&self) -> Code {
        match self {
            Failure::Disk(error) => withheld::code(error),
            Failure::Index(error) if error.is_full() => Code::StorageFull,
            _ => Code::StorageFailed,
        }
    }
}

impl Directory {
    /// Whether nothing may be changed now, and what those are told who ask for it.
    pub fn closed(&mut self, state: &mut State) -> Option<Refusal> {
        if let Err(error) = self.heal(state) {
            return Some(self.note_trouble(state, &error.into()));
        }
        let full = || io::Error::from(Errno::ENOSPC).into();
        self.reserve.is_released().then(|| self.note_trouble(state, &full()))
    }

    /// Cuts back what must be; then those who waited for that are told.
    fn heal(&mut self, state: &mut State) -> io::Result<()> {
        self.users.heal()?;
        self.rooms.heal()?;
        if let Some(Withheld { who, refusal, .. }) = state.waiting.withheld.take() {
            self.answer(&who, &Err(refusal));
        }
        Ok(())
    }

    /// Remembers that the disk refuses and says so to operators; answers what clients are told.
    pub fn note_trouble(&self, state: &mut State, failure: &Failure) -> Refusal {
        let code = failure.code();
        if code == Code::StorageFull {
            self.reserve.release();
        }
        state.probe_at.get_or_insert_with(|| Instant::now() + PROBE_INTERVAL);
        self.status.set_disk(Part::Directory, Some(failure.to_string()));
        Refusal::new(code, "The change could not be stored")
    }

    /// Leaves nothing of a step. `repeat` is its only change if that was done before.
    ///
    /// # Errors
    /// The index is damaged.
    pub fn give_up(
        &mut self,
        failure: Failure,
        before: [u64; 2],
        (who, repeat): (Vec<(PeerId, OpId)>, Option<Asked>),
        state: &mut State,
    ) -> Result<(), IndexError> {
        let refusal = self.note_trouble(state, &failure);
        self.store.rollback()?;
        for (log, end) in [(&mut self.users, before[0]), (&mut self.rooms, before[1])] {
            if log.end() != end {
                log.take_back(end);
            }
            if let Err(error) = log.heal() {
                tracing::error!(%error, "cannot cut the log back to its last good record");
            }
        }
        let told = || who.iter().map(|(peer, op)| (*peer, op.count)).collect();
        if let Some(repeat) = repeat {
            self.park(repeat, state);
        } else if self.users.is_tainted() || self.rooms.is_tainted() {
            let ops = who.iter().map(|(_, op)| *op).collect();
            state.waiting.withheld = Some(Withheld { ops, who: told(), refusal });
        } else {
            self.answer(&told(), &Err(refusal));
        }
        failure.damage()
    }

    /// Refuses changes, none of which repeats one that was done; lets wait those that may yet be found
    /// in the logs.
    pub fn turn_away(&self, taken: Vec<Asked>, refusal: &Refusal, state: &mut State) {
        let mut refused = Vec::new();
        for asked in taken {
            match &mut state.waiting.withheld {
                Some(withheld) if withheld.ops.contains(&asked.op) => {
                    if withheld.who.len() < WITHHELD_ANSWERS {
                        withheld.who.push((asked.peer, asked.op.count));
                    } else {
                        self.publisher.send(Event::Drop(asked.peer));
                    }
                }
                _ => refused.push((asked.peer, asked.op.count)),
            }
        }
        self.answer(&refused, &Err(refusal.clone()));
    }

    fn park(&self, asked: Asked, state: &mut State) {
        if state.waiting.repeats.len() < REPEATS {
            self.status.queue.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            state.waiting.repeats.push_back(asked);
        } else {
            self.publisher.send(Event::Drop(asked.peer));
        }
    }

    /// Finds out whether a disk that failed takes all that this thread writes: both logs and the index.
    ///
    /// # Errors
    /// The index is damaged.
    pub fn probe(&mut self, state: &mut State) -> Result<(), IndexError> {
        state.probe_at = None;
        match self.try_disk(state) {
            Ok(()) => {
                self.status.set_disk(Part::Directory, None);
                Ok(())
            }
            Err(failure) => {
                self.note_trouble(state, &failure);
                failure.damage()
            }
        }
    }

    fn try_disk(&mut self, state: &mut State) -> Result<(), Failure> {
        self.heal(state)?;
        self.reserve.restore()?;
        self.users.probe()?;
        self.rooms.probe()?;
        self.store.probe()?;
        self.bring_heads()
    }

    /// Does what the start left out on a full disk.
    fn bring_heads(&mut self) -> Result<(), Failure> {
        if !self.heads_behind {
            return Ok(());
        }
        match build::catch_up_messages(&self.data_dir, &self.store, u64::MAX) {
            Ok(()) => {
                self.heads_behind = false;
                Ok(())
            }
            Err(error) => {
                self.store.rollback()?;
                Err(match error {
                    BuildError::Journal(error) => Failure::Journal(error),
                    BuildError::Index(error) => Failure::Index(error),
                })
            }
        }
    }
}
