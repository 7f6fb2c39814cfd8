//! Replacing children while the host serves.
//!
//! A change goes through the standing places one after another. Storage, of which there can be only one,
//! ends first and has its successor then: operations wait meanwhile, in the workers and in the socket that
//! the supervisor holds. A worker's successor comes up beside it on the same listening sockets; only when
//! it serves is the old one told to leave. It moves to a place of its own, from which it is gone when its
//! clients are, or after the drain time. So that processes cannot pile up, a worker is replaced again only
//! when its predecessor has gone.
//!
//! If a successor does not come up, the change is taken back: the settings before it are in force again,
//! and whoever was started by it is replaced once more.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use super::{Crew, Phase};
use crate::host::{complain, say};
use crate::notify::READY;
use crate::restart::{End, History, Verdict};
use crate::slot::{Place, Post, Slot};
use crate::status::LastChange;
use crate::{Reloaded, Settings};

/// What a process that leaves by itself at the end of the drain time gets on top of it.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Time between two looks at a killed process that does not end.
const DEATH_TIME: Duration = Duration::from_secs(1);
/// The storage child's place.
const STORAGE: usize = 0;

/// What somebody has asked for and has not begun.
#[derive(Debug, Default)]
pub(crate) struct Wishes {
    reload: bool,
    pub(super) upgrade: bool,
}

/// A change that goes on.
#[derive(Debug)]
pub(crate) struct Change {
    /// Places that have yet to be replaced, storage first.
    pub(super) left: VecDeque<usize>,
    pub(super) step: Step,
    /// What was in force before.
    pub(super) before: Option<Settings>,
    /// The executable before an upgrade. With neither there is no way back from here.
    pub(super) back: Option<OwnedFd>,
    /// Why it is being taken back; empty: it is not.
    pub(super) failure: String,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// The next place is to be looked at.
    Between,
    /// The storage child is draining. Whoever is not gone by then is killed.
    StorageLeaves(Instant),
    /// The successor at the standing place is coming up, and has time until then.
    Comes(usize, Instant),
}

impl Change {
    /// When something is to be done even if nothing happens.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self.step {
            Step::Between => None,
            Step::StorageLeaves(deadline) | Step::Comes(_, deadline) => Some(deadline),
        }
    }
}

impl Crew {
    /// SIGHUP. One that comes during a change is acted on behind it; several are as good as one.
    pub(crate) fn ask_to_reload(&mut self) {
        self.wishes.reload = true;
    }

    /// Whether the settings are to be read now.
    pub(crate) fn is_to_reload(&self) -> bool {
        self.wishes.reload && self.is_at_rest()
    }

    /// Whether a change may begin.
    pub(super) fn is_at_rest(&self) -> bool {
        self.phase == Phase::Serving && self.change.is_none() && self.trial.is_none()
    }

    /// The settings were read.
    pub(crate) fn reload(&mut self, reloaded: Result<Reloaded, String>) {
        self.wishes.reload = false;
        self.systemd.tell_reloading();
        self.note("reload", "running", "");
        match reloaded {
            Ok(Reloaded { settings, storage, notes }) => {
                notes.iter().for_each(|note| say(format_args!("reloading: {note}")));
                let before = std::mem::replace(&mut self.plan.settings, settings);
                self.generation = self.generation.saturating_add(1);
                say(format_args!("reloading: replacing {}", self.who(storage)));
                let first = usize::from(!storage);
                let left = (first..=usize::from(self.plan.workers)).collect();
                let (before, failure) = (Some(before), String::new());
                self.change = Some(Change { left, step: Step::Between, before, back: None, failure });
            }
            Err(mistake) => {
                complain(format_args!("not reloaded, everything stays as it was: {mistake}"));
                self.finish("failed", &mistake);
            }
        }
    }

    /// Goes on with a change as far as it goes now.
    pub(super) fn go_on(&mut self, now: Instant) {
        while let Some(change) = self.change.as_ref().filter(|_| self.back_to.is_none()) {
            let goes_on = match change.step {
                Step::Between => match change.left.front().copied() {
                    None => {
                        self.changed();
                        false
                    }
                    Some(index) => self.begin_place(index, now),
                },
                Step::StorageLeaves(deadline) => self.await_end_of_storage(deadline, now),
                Step::Comes(index, deadline) => self.await_successor(index, deadline, now),
            };
            if !goes_on {
                return;
            }
        }
    }

    /// Begins with a place. Whether there is more to do at once.
    fn begin_place(&mut self, index: usize, now: Instant) -> bool {
        let settings = &self.plan.settings;
        let (drained, ready) = (now + settings.drain_timeout, now + settings.ready_timeout);
        let standing = &self.slots[index];
        let is_free = !self.slots.iter().any(|slot| {
            matches!(slot.post, Post::Leaving(_)) && (slot.role, slot.id) == (standing.role, standing.id)
        });
        let step = if standing.generation() == Some(self.generation) || !self.is_wanted(index) {
            Step::Comes(index, ready) // somebody died meanwhile and has a successor of this change
        } else if index == STORAGE {
            let is_ready = standing.is_ready();
            if let Some(process) = self.slots[index].process_mut() {
                // One that does not serve has nothing to finish, and may not listen.
                if is_ready { process.drain() } else { process.kill() }
            }
            Step::StorageLeaves(drained)
        } else if is_free {
            let coming = Slot::beside(standing, Post::Coming, Place::Due(now));
            self.slots.push(coming);
            self.start_due(now);
            Step::Comes(index, ready)
        } else {
            return false; // its end is the sign to go on
        };
        if let Some(change) = &mut self.change {
            change.left.pop_front();
            change.step = step;
        }
        true
    }

    /// Whether a successor beside the one at a standing place makes sense: if nobody is there, one is
    /// about to be started anyway.
    fn is_wanted(&self, index: usize) -> bool {
        index == STORAGE || self.slots[index].process().is_some()
    }

    fn await_end_of_storage(&mut self, deadline: Instant, now: Instant) -> bool {
        let ready = now + self.plan.settings.ready_timeout;
        let slot = &mut self.slots[STORAGE];
        match slot.process_mut() {
            Some(process) if process.generation() != self.generation => {
                if deadline <= now {
                    if !process.is_killed() {
                        complain(format_args!("storage does not drain, killing it"));
                        process.kill();
                    }
                    return self.step(Step::StorageLeaves(now + DEATH_TIME));
                }
                false
            }
            Some(_) => self.step(Step::Comes(STORAGE, ready)),
            None => {
                slot.place = Place::Due(now);
                self.start_due(now);
                self.step(Step::Comes(STORAGE, ready))
            }
        }
    }

    fn await_successor(&mut self, index: usize, deadline: Instant, now: Instant) -> bool {
        if let Some(coming) = self.coming() {
            if self.slots[coming].is_ready() {
                self.take_over(index, coming, now);
                return self.step(Step::Between);
            }
        } else if self.slots[index].is_ready() {
            return self.step(Step::Between);
        }
        if deadline > now {
            return false;
        }
        let patience = self.plan.settings.ready_timeout;
        self.go_back(&format!("the successor of {} is not ready after {patience:?}", self.slots[index]), now);
        true
    }

    fn step(&mut self, step: Step) -> bool {
        if let Some(change) = &mut self.change {
            change.step = step;
        }
        true
    }

    /// The place of a worker that is coming up beside another.
    fn coming(&self) -> Option<usize> {
        self.slots.iter().position(|slot| slot.post == Post::Coming)
    }

    /// The process at `coming` has the standing place from now on, and the one there begins to leave.
    fn take_over(&mut self, index: usize, coming: usize, now: Instant) {
        let Slot { place: new, history, .. } = self.slots.remove(coming);
        let standing = &mut self.slots[index];
        let old = std::mem::replace(&mut standing.place, new);
        standing.history = history;
        if let Place::Taken(mut process) = old {
            process.leave();
            let deadline = now + self.plan.settings.drain_timeout + LAST_WORDS;
            let leaving = Slot::beside(standing, Post::Leaving(deadline), Place::Taken(process));
            self.slots.push(leaving);
        }
    }

    /// Takes note of an end that belongs to a change. False: it is like any other.
    pub(super) fn ended_in_change(
        &mut self,
        index: usize,
        name: &str,
        end: &End,
        was_dismissed: bool,
        now: Instant,
    ) -> bool {
        if matches!(self.phase, Phase::Killed) {
            return false;
        }
        match self.slots[index].post {
            Post::Leaving(_) => {
                if *end != End::Exited(0) && !was_dismissed {
                    complain(format_args!("{name} {end} while leaving"));
                }
                true
            }
            Post::Coming => {
                match self.slots[index].history.died(end, None) {
                    Verdict::Again(pause) => {
                        complain(format_args!("{name}, a successor, {end}, starting it again"));
                        self.slots[index].place = Place::Due(now + pause);
                    }
                    Verdict::GiveUp(why) => {
                        self.go_back(&format!("{name}, a successor, {end}: it {why}"), now)
                    }
                }
                true
            }
            Post::Standing => {
                let step = self.change.as_ref().map(|change| change.step);
                index == STORAGE && was_dismissed && matches!(step, Some(Step::StorageLeaves(_)))
            }
        }
    }

    /// Whether there is a state before the change to return to.
    pub(super) fn can_go_back(&self) -> bool {
        self.phase == Phase::Serving
            && self.change.as_ref().is_some_and(|change| change.before.is_some() || change.back.is_some())
    }

    /// The change can't be made: everything becomes as it was before. If that fails too, the host goes on
    /// with what it has.
    pub(crate) fn go_back(&mut self, why: &str, now: Instant) {
        self.dismiss_coming(now);
        if self.way_back().is_some() {
            complain(format_args!("{why}: going back to the executable before"));
            self.back_to = Some(why.to_owned()); // acted on at the end of this turn
            return;
        }
        let Some(mut change) = self.change.take() else { return };
        let Some(before) = change.before.take() else {
            complain(format_args!("{why}; the old one goes on"));
            let failure = if change.failure.is_empty() { why.to_owned() } else { change.failure };
            return self.finish("failed", &failure);
        };
        complain(format_args!("{why}: taking the change back"));
        self.plan.settings = before;
        let failed = self.generation;
        self.generation = failed.saturating_add(1);
        self.take_back(failed, why.to_owned(), now);
    }

    /// Replaces whoever the failed generation has started or left out.
    pub(super) fn take_back(&mut self, failed: u32, failure: String, now: Instant) {
        let is_of_it = |slot: &Slot| slot.generation().is_none_or(|generation| generation == failed);
        for slot in self.slots.iter_mut().filter(|slot| slot.is_standing()) {
            if slot.process().is_none() {
                // What was wrong with those of the change says nothing about those after it.
                (slot.place, slot.history) = (Place::Due(now), History::default());
            }
        }
        let left = self.standing().iter().enumerate().filter(|(_, slot)| is_of_it(slot));
        let left = left.map(|(index, _)| index).collect();
        self.change = Some(Change { left, step: Step::Between, before: None, back: None, failure });
    }

    /// A stop has come: it has no use for those who come.
    pub(super) fn abandon_change(&mut self, now: Instant) {
        self.dismiss_coming(now);
        self.back_to = None;
        if self.change.take().is_some() | self.trial.take().is_some() {
            self.note_end("failed", "the host was stopped");
        }
    }

    /// Whoever comes up is not needed any more.
    fn dismiss_coming(&mut self, now: Instant) {
        for slot in self.slots.iter_mut().filter(|slot| slot.post == Post::Coming) {
            slot.post = Post::Leaving(now);
            match slot.process_mut() {
                Some(process) => process.kill(),
                None => slot.place = Place::Empty,
            }
        }
    }

    /// Kills those who have had their time to leave.
    pub(super) fn end_overdue(&mut self, now: Instant) {
        for slot in &mut self.slots {
            let name = slot.to_string();
            if let (Post::Leaving(deadline), Some(process)) = (slot.post, slot.process_mut())
                && deadline <= now
                && !process.is_killed()
            {
                complain(format_args!("{name} has had its time to leave, killing it"));
                process.kill();
            }
        }
    }

    fn changed(&mut self) {
        let Some(change) = self.change.take() else { return };
        if change.failure.is_empty() {
            say(format_args!("{} done, generation {}", self.last_change.kind, self.generation));
            self.finish("done", "");
        } else {
            say(format_args!("everything is as it was before the {}", self.last_change.kind));
            self.finish("failed", &change.failure);
        }
    }

    pub(super) fn finish(&mut self, state: &str, reason: &str) {
        self.note_end(state, reason);
        self.systemd.tell(READY);
    }

    pub(super) fn note(&mut self, kind: &str, state: &str, reason: &str) {
        let number = self.last_change.number.saturating_add(1);
        let [kind, state, reason] = [kind, state, reason].map(str::to_owned);
        self.last_change = LastChange { number, kind, state, reason };
    }

    fn note_end(&mut self, state: &str, reason: &str) {
        (self.last_change.state, self.last_change.reason) = (state.to_owned(), reason.to_owned());
    }

    /// Who is going to be replaced, for the operator.
    pub(super) fn who(&self, storage: bool) -> String {
        let workers = self.plan.workers;
        let plural = if workers == 1 { "" } else { "s" };
        format!("{}{workers} worker{plural}", if storage { "storage and " } else { "" })
    }
}
