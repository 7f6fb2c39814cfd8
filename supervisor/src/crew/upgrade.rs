//! Going on as another executable, with everybody and everything there is ([`crate::handover`]).
//!
//! The executable is tried as a child while the host serves. If it could take over, this process executes
//! it, and what goes on there is a change like a reload, in which storage and all workers are replaced.
//! If that has to be taken back, the process executes what it was before, kept open as a descriptor, and
//! whoever the new one has started is replaced once more.

use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixListener;
use std::time::Instant;

use super::change::{Change, Step};
use super::{Crew, Phase};
use crate::handover::{Body, Trial};
use crate::host::{complain, say};
use crate::inherited::Kept;
use crate::notify::Systemd;
use crate::slot::{Place, Slot, SlotParts};
use crate::{Plan, Settings};

/// What is to be executed in place of this process.
#[derive(Debug)]
pub(crate) enum Leap {
    /// The executable that was tried.
    ToNew,
    /// The one before; the text says what has failed.
    Back(String),
}

impl Crew {
    /// A crew that was handed over and serves. `kept` is what the one before knew, `slots` its children.
    pub(crate) fn resume(
        plan: Plan,
        storage: UnixListener,
        slots: Vec<Slot>,
        kept: Kept,
        now: Instant,
    ) -> Crew {
        let mut crew = Crew::new(plan, storage, now);
        crew.systemd = Systemd::new(crew.plan.notify.clone(), now);
        (crew.slots, crew.phase) = (slots, Phase::Serving);
        crew.started = now.checked_sub(kept.age).unwrap_or(now);
        (crew.generation, crew.last_change) = (kept.generation, kept.last_change);
        crew.generation = crew.generation.saturating_add(1);
        if let Some(failure) = kept.failure {
            crew.take_back(kept.generation, failure, now);
        } else {
            say(format_args!("upgrading: replacing {}", crew.who(true)));
            let left: VecDeque<usize> = (0..=usize::from(crew.plan.workers)).collect();
            crew.change = Some(Change {
                left,
                step: Step::Between,
                before: Some(kept.settings),
                back: kept.back,
                failure: String::new(),
            });
        }
        crew
    }

    /// SIGUSR2, or `upgrade` on the control socket.
    pub(crate) fn ask_to_upgrade(&mut self) {
        self.wishes.upgrade = true;
    }

    /// Tries the executable if that is asked for and nothing else goes on.
    pub(crate) fn try_upgrade(&mut self, control: BorrowedFd<'_>, now: Instant) {
        if !self.wishes.upgrade || !self.is_at_rest() {
            return;
        }
        self.wishes.upgrade = false;
        self.systemd.tell_reloading();
        self.note("upgrade", "running", "");
        let executable = &self.plan.executable;
        say(format_args!("upgrading: trying {}", executable.path.display()));
        let deadline = now + self.plan.settings.ready_timeout;
        match Trial::start(executable, self.body(control, now), deadline) {
            Ok(trial) => self.trial = Some(trial),
            Err(error) => self.not_upgraded(&format!("it cannot be executed: {error}")),
        }
    }

    /// What is to be executed now.
    pub(crate) fn leap(&mut self, now: Instant) -> Option<Leap> {
        if self.phase != Phase::Serving {
            self.trial = None;
            return None;
        }
        if let Some(verdict) = self.trial.as_mut().and_then(|trial| trial.verdict(now)) {
            self.trial = None;
            match verdict {
                Ok(()) => return Some(Leap::ToNew),
                Err(why) => self.not_upgraded(&why),
            }
        }
        self.back_to.take().map(Leap::Back)
    }

    /// The executable to go back to.
    pub(crate) fn way_back(&self) -> Option<BorrowedFd<'_>> {
        self.change.as_ref()?.back.as_ref().map(AsFd::as_fd)
    }

    /// The system refused a leap: this process goes on.
    pub(crate) fn stayed(&mut self, leap: &Leap, why: &str, now: Instant) {
        match leap {
            Leap::ToNew => self.not_upgraded(why),
            Leap::Back(failure) => {
                complain(format_args!("cannot execute what was there before ({why}); going on as it is"));
                self.change = None;
                for slot in
                    self.slots.iter_mut().filter(|slot| slot.is_standing() && slot.process().is_none())
                {
                    slot.place = Place::Due(now);
                }
                self.finish("failed", failure);
            }
        }
    }

    fn not_upgraded(&mut self, why: &str) {
        complain(format_args!("not upgraded, everything stays as it was: {why}"));
        self.finish("failed", why);
    }

    /// The host in a form that outlives this executable.
    pub(crate) fn body(&self, control: BorrowedFd<'_>, now: Instant) -> Body {
        Body {
            path: self.plan.executable.path.clone(),
            data_dir: self.plan.lock.data_dir().to_owned(),
            lock: self.plan.lock.as_fd().as_raw_fd(),
            control: control.as_raw_fd(),
            storage: self.storage_socket.as_raw_fd(),
            addresses: self.plan.listeners.addresses().to_vec(),
            listeners: (0..self.plan.workers)
                .map(|id| self.plan.listeners.of_worker(id).map(|fd| fd.as_raw_fd()).collect())
                .collect(),
            slots: SlotParts::of_all(&self.slots, now),
            generation: self.generation,
            last_change: self.last_change.clone(),
            age: now.saturating_duration_since(self.started),
            settings: self.settings_to_hand_over().clone(),
        }
    }

    /// On the way back those in force before, else those in force.
    fn settings_to_hand_over(&self) -> &Settings {
        let back = self.change.as_ref().filter(|change| change.back.is_some());
        back.and_then(|change| change.before.as_ref()).unwrap_or(&self.plan.settings)
    }

    /// All descriptors of the [`Crew::body`], but for `control`.
    pub(crate) fn fds(&self) -> Vec<BorrowedFd<'_>> {
        let listeners = (0..self.plan.workers).flat_map(|id| self.plan.listeners.of_worker(id));
        let lifelines = self.lifelines().map(|(_, fd)| fd);
        [self.plan.lock.as_fd(), self.storage_socket.as_fd()]
            .into_iter()
            .chain(listeners)
            .chain(lifelines)
            .collect()
    }
}
