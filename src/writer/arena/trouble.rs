//! What the thread does while the disk refuses.
//!
//! As with users and rooms ([`super::super::undone`]), what was written of a refused step may be found good
//! by a recovery, so those who asked for it are told only once the log has been cut back. Stays that end
//! can't be refused, since their sockets are gone: they are kept until the disk works again, and with them
//! those who want to hear of it. What needs no disk, as giving out tickets, goes on.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::time::Instant;

use nix::errno::Errno;

use super::step::{Leaving, Step};
use super::{Arena, Told};
use crate::challenge::{EntryId, Reason};
use crate::chat::{Code, OpId, Refusal};
use crate::index::IndexError;
use crate::link::arena::{Ask, Asked, Record};
use crate::link::frame::Outcome;
use crate::writer::batch::{Answer, PeerId};
use crate::writer::judge::Failure;
use crate::writer::publish::Event;
use crate::writer::status::Part;
use crate::writer::withheld::{PROBE_INTERVAL, WITHHELD_ANSWERS};

/// How the disk is.
#[derive(Default)]
pub struct Trouble {
    /// When to look whether it takes records again; `None`: it does.
    pub probe_at: Option<Instant>,
    /// The step that was refused and may be in the log.
    withheld: Option<Withheld>,
}

struct Withheld {
    ops: HashSet<OpId>,
    who: Vec<(PeerId, OpId)>,
    refusal: Refusal,
}

/// Stays that are to end, each once, in the order in which that was found out.
#[derive(Default)]
pub struct Owed {
    queue: VecDeque<Leaving>,
    entries: HashSet<EntryId, foldhash::fast::RandomState>,
}

impl Owed {
    /// Nothing is owed.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// A stay is to end; the first reason counts.
    pub fn push(&mut self, leaving: Leaving) {
        if self.entries.insert(leaving.entry) {
            self.queue.push_back(leaving);
        } else if !leaving.told.is_empty()
            && let Some(known) = self.queue.iter_mut().find(|known| known.entry == leaving.entry)
        {
            known.told.extend(leaving.told);
        }
    }

    /// The next ones.
    pub fn take(&mut self, limit: usize) -> Vec<Leaving> {
        let taken: Vec<Leaving> = self.queue.drain(..limit.min(self.queue.len())).collect();
        for leaving in &taken {
            self.entries.remove(&leaving.entry);
        }
        taken
    }

    /// What was taken and could not be done comes first again.
    fn put_back(&mut self, taken: Vec<Leaving>) {
        let rest = std::mem::take(self);
        taken.into_iter().chain(rest.queue).for_each(|leaving| self.push(leaving));
    }
}

impl Arena {
    /// Whether nothing may be written now, and what those are told who ask for it.
    pub(super) fn closed(&mut self) -> Option<Refusal> {
        if let Err(error) = self.heal() {
            return Some(self.note_trouble(&error.into()));
        }
        let full = || io::Error::from(Errno::ENOSPC).into();
        self.parts.reserve.is_released().then(|| self.note_trouble(&full()))
    }

    /// Cuts back what must be; then those who waited for that are told.
    fn heal(&mut self) -> io::Result<()> {
        self.parts.log.heal()?;
        if let Some(Withheld { who, refusal, .. }) = self.trouble.withheld.take() {
            self.refuse(who, &refusal);
        }
        Ok(())
    }

    fn refuse(&self, who: Vec<(PeerId, OpId)>, refusal: &Refusal) {
        let answer =
            |(peer, op): (PeerId, OpId)| Answer { peer, count: op.count, result: Err(refusal.clone()) };
        let answers: Vec<Answer> = who.into_iter().map(answer).collect();
        if !answers.is_empty() {
            self.parts.publisher.send(Event::Arena(Vec::new(), answers));
        }
    }

    /// Remembers that the disk refuses and says so to operators; answers what clients are told.
    pub(super) fn note_trouble(&mut self, failure: &Failure) -> Refusal {
        let code = failure.code();
        if code == Code::StorageFull {
            self.parts.reserve.release();
        }
        self.trouble.probe_at.get_or_insert_with(|| Instant::now() + PROBE_INTERVAL);
        self.parts.status.set_disk(Part::Arena, Some(failure.to_string()));
        Refusal::new(code, "The change could not be stored")
    }

    /// Leaves nothing of a step but what is owed.
    ///
    /// # Errors
    /// The database is damaged.
    pub(super) fn give_up(
        &mut self,
        failure: Failure,
        before: u64,
        step: Step,
        rest: VecDeque<Told>,
    ) -> Result<(), IndexError> {
        let refusal = self.note_trouble(&failure);
        self.parts.store.rollback()?;
        let log = &mut self.parts.log;
        if log.end() != before {
            log.take_back(before);
        }
        if let Err(error) = log.heal() {
            tracing::error!(%error, "cannot cut the log back to its last good record");
        }
        self.owed.put_back(step.leaving);
        if self.parts.log.is_tainted() {
            let ops = step.asked.iter().map(|(_, op)| *op).collect();
            self.trouble.withheld = Some(Withheld { ops, who: step.asked, refusal: refusal.clone() });
        } else {
            self.refuse(step.asked, &refusal);
        }
        self.turn_away(rest, &refusal);
        failure.damage()
    }

    /// Does what can be done without the disk, and refuses the rest; lets those wait whose operation may
    /// yet be found in the log.
    pub(super) fn turn_away(&mut self, group: VecDeque<Told>, refusal: &Refusal) {
        let (mut refused, mut answers) = (Vec::new(), Vec::new());
        let step = Step::new(self.parts.ends, super::commit::now_ms());
        for told in group {
            match told {
                Told::Record(record) => {
                    if self.races.record(&record) {
                        let Record { challenge, user, entry, .. } = record;
                        let (reason, told) = (Reason::Finish, Vec::new());
                        self.owed.push(Leaving { challenge, user, entry, reason, told });
                    }
                }
                Told::Asked { peer, op, ask: Ask::Leave { challenge, user, entry, reason } } => {
                    let told = vec![(peer, op.count)];
                    self.owed.push(Leaving { challenge, user, entry, reason, told });
                }
                Told::Asked { peer, op, ask: Ask::Enter { challenge, user, generation, ticket } } => {
                    let result = match self.enter(&step, challenge, (user, generation), ticket) {
                        Ok(result) => result,
                        Err(_) => Err(refusal.clone()),
                    };
                    answers.push(Answer { peer, count: op.count, result: result.map(Outcome::Arena) });
                }
                Told::Asked { peer, op, ask: Ask::Refresh { user } } => {
                    let result = match self.looks(user) {
                        Ok(looks) => {
                            let mut news = Vec::new();
                            looks.into_iter().for_each(|looks| self.apply(looks, step.now_ms, &mut news));
                            self.publish(news);
                            Ok(Outcome::Arena(Asked::Refreshed))
                        }
                        Err(_) => Err(refusal.clone()),
                    };
                    answers.push(Answer { peer, count: op.count, result });
                }
                Told::Asked { peer, op, .. } => match &mut self.trouble.withheld {
                    Some(withheld) if withheld.ops.contains(&op) => {
                        if withheld.who.len() < WITHHELD_ANSWERS {
                            withheld.who.push((peer, op));
                        } else {
                            self.parts.publisher.send(Event::Drop(peer));
                        }
                    }
                    _ => refused.push((peer, op)),
                },
                Told::Attached { .. } | Told::Gone(_) => {}
            }
        }
        if !answers.is_empty() {
            self.parts.publisher.send(Event::Arena(Vec::new(), answers));
        }
        self.refuse(refused, refusal);
    }

    /// Finds out whether a disk that failed takes all that this thread writes.
    ///
    /// # Errors
    /// The database is damaged.
    pub(super) fn probe(&mut self) -> Result<(), IndexError> {
        self.trouble.probe_at = None;
        match self.try_disk() {
            Ok(()) => {
                self.parts.status.set_disk(Part::Arena, None);
                Ok(())
            }
            Err(failure) => {
                self.note_trouble(&failure);
                failure.damage()
            }
        }
    }

    fn try_disk(&mut self) -> Result<(), Failure> {
        self.heal()?;
        self.parts.reserve.restore()?;
        self.parts.log.probe()?;
        Ok(self.parts.store.probe()?)
    }
}
