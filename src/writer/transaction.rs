//! One step of the directory thread: the changes that wait are judged, made durable and answered together.

use std::collections::HashSet;
use std::sync::atomic::Ordering;

use super::batch::{Answer, PeerId};
use super::changes::Step;
use super::commit;
use super::directory::{Asked, Directory, State};
use super::judge::{Failure, Judge};
use super::publish::Event;
use crate::chat::{OpId, Refusal};
use crate::config::Fsync;
use crate::index::IndexError;
use crate::index::store::{LogName, Progress};
use crate::journal::record;
use crate::link::clock;
use crate::link::frame::{Change, Outcome};

/// Entries (users, rooms, participants) in one step, but for one operation more.
const STEP_ENTRIES: usize = 5_000;

impl Directory {
    /// One transaction: what was asked first, and what waits behind it.
    ///
    /// # Errors
    /// The index is damaged.
    pub(super) fn step(&mut self, first: Asked, state: &mut State) -> Result<(), IndexError> {
        let (mut ops, mut entries) = (HashSet::new(), 0);
        let (mut taken, mut too_fast) = (Vec::new(), Vec::new());
        let mut repeat = None;
        let mut next = Some(first);
        while let Some(asked) = next {
            if let Change::DeleteUsers { by } = asked.change {
                // By itself: it is decided by another log than the rest.
                if taken.is_empty() && too_fast.is_empty() {
                    self.status.queue.fetch_sub(1, Ordering::Relaxed);
                    return self.delete_users(&asked, by);
                }
                state.held = Some(asked);
                break;
            }
            let done = self.repeats.knows(asked.op);
            if !ops.insert(asked.op) || (done && !taken.is_empty()) {
                state.held = Some(asked);
                break;
            }
            if !done && !self.is_in_pace(&asked.change) {
                ops.remove(&asked.op);
                too_fast.push((asked.peer, asked.op.count));
                next = if too_fast.len() < STEP_ENTRIES { state.asked.try_recv().ok() } else { None };
                continue;
            }
            if done {
                // By itself: should the disk fail, it can't be refused, having been done in part at least.
                repeat = Some(asked.clone());
            }
            entries += self::entries(&asked.change);
            taken.push(asked);
            next = if entries < STEP_ENTRIES && !done { state.asked.try_recv().ok() } else { None };
        }
        self.status.queue.fetch_sub((taken.len() + too_fast.len()) as u64, Ordering::Relaxed);
        if !too_fast.is_empty() {
            self.answer(&too_fast, &Err(Refusal::too_many_requests()));
        }
        if taken.is_empty() {
            return Ok(());
        }
        if let Some(refusal) = self.closed(state)
            && repeat.is_none()
        {
            self.turn_away(taken, &refusal, state);
            return Ok(());
        }
        let who: Vec<(PeerId, OpId)> = taken.iter().map(|asked| (asked.peer, asked.op)).collect();
        let before = [self.users.end(), self.rooms.end()];
        let mut step = Step::new(self.ends);
        match self.work(&mut step, taken) {
            Ok(results) => {
                self.keep(&step);
                for user in &step.ended {
                    self.tickets.lock().forget(*user);
                }
                if state.probe_at.is_some() {
                    self.probe(state)?;
                }
                let answers = who.into_iter().zip(results);
                let answers = answers.map(|((peer, op), result)| Answer { peer, count: op.count, result });
                let rev = step.ends.rooms;
                self.publisher.send(Event::Changes(step.frames, rev, answers.collect()));
                Ok(())
            }
            Err(failure) => self.give_up(failure, before, (who, repeat), state),
        }
    }

    /// Takes from the share of changes of the user who asks for one.
    fn is_in_pace(&mut self, change: &Change) -> bool {
        change.user().is_none_or(|user| self.paces.take(user, clock::now_us()))
    }

    /// Everything of a step that may fail.
    fn work(&mut self, step: &mut Step, taken: Vec<Asked>) -> Result<Vec<Result<Outcome, Refusal>>, Failure> {
        self.settle()?;
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
            if let Some(line) = record::last_line(lines) {
                let bytes = log.end() + lines.len() as u64;
                self.store.set_progress(name, Progress { last, bytes, sum: record::sum(line) })?;
                log.append(lines, sync)?;
            }
        }
        Ok(())
    }

    /// The step has become fact.
    fn keep(&mut self, step: &Step) {
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
        self.report_files();
        self.compactor.consider([self.users.end(), self.rooms.end()]);
        self.status.changes.fetch_add(step.places.len() as u64, Ordering::Relaxed);
    }
}

/// How much work a change is.
fn entries(change: &Change) -> usize {
    match change {
        Change::CreateUsers(users) => users.len(),
        Change::SetPasswords(passwords) => passwords.len(),
        Change::CreateRooms { rooms, .. } => rooms.iter().map(|room| 1 + room.participants.len()).sum(),
        Change::Invite { participants, .. } => participants.len(),
        Change::Join { .. }
        | Change::Leave { .. }
        | Change::DeleteUsers { .. }
        | Change::SetLooks { .. }
        | Change::Revoke { .. }
        | Change::ChangePassword { .. } => 1,
    }
}
