//! All children of a host and the phases of its life: who is started, replaced, drained, killed when.
//!
//! Storage comes first and goes last: workers can do nothing without it, and what they finish while
//! draining still has to be written.

use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use crate::handover::Trial;
use crate::host::{Outcome, complain, say};
use crate::notify::{STOPPING, Systemd};
use crate::pulse::{self, Health};
use crate::restart::{End, Verdict};
use crate::slot::{Place, Post, Role, Slot};
use crate::spawn::{News, Process};
use crate::status::LastChange;
use crate::{Executable, Plan, Settings};

pub(crate) mod account;
pub(crate) mod change;
pub(crate) mod staffing;
pub(crate) mod upgrade;

use change::{Change, Wishes};

/// Time between two looks at a child that closed its lifeline and has not ended yet.
const DYING_CHECK: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub(crate) struct Crew {
    plan: Plan,
    storage_socket: UnixListener,
    /// The storage child's place first, then the workers' in order, then those that are not for long.
    slots: Vec<Slot>,
    /// Counts the changes; each process knows by which it was started.
    generation: u32,
    change: Option<Change>,
    last_change: LastChange,
    wishes: Wishes,
    /// The executable of an upgrade, being tried.
    trial: Option<Trial>,
    /// An upgrade is to be taken back, and why.
    back_to: Option<String>,
    phase: Phase,
    has_failed: bool,
    started: Instant,
    systemd: Systemd,
    /// When the children were last looked at.
    looked: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Storage is coming up, then the workers.
    Starting,
    Serving,
    /// Whoever is not gone by the deadline is killed.
    DrainingWorkers {
        deadline: Instant,
    },
    DrainingStorage {
        deadline: Instant,
    },
    /// All were killed; they have yet to be reaped.
    Killed,
}

impl Crew {
    /// Nobody is started yet; the first [`Crew::advance`] does that.
    pub(crate) fn new(plan: Plan, storage_socket: UnixListener, now: Instant) -> Crew {
        let mut slots = vec![Slot::new(Role::Storage, 0)];
        slots.extend((0..plan.workers).map(|id| Slot::new(Role::Worker, id)));
        slots[0].place = Place::Due(now);
        let systemd = Systemd::new(plan.notify.clone(), now);
        if plan.notify.watchdog.is_some_and(|watchdog| watchdog <= plan.settings.hang_timeout) {
            complain(format_args!(
                "systemd's watchdog is no longer than hang_timeout ({:?}): it ends the whole service before a \
                 process that hangs is replaced",
                plan.settings.hang_timeout
            ));
        }
        Crew {
            plan,
            storage_socket,
            slots,
            generation: 0,
            change: None,
            last_change: LastChange::default(),
            wishes: Wishes::default(),
            trial: None,
            back_to: None,
            phase: Phase::Starting,
            has_failed: false,
            started: now,
            systemd,
            looked: now,
        }
    }

    /// The lifelines to poll, each with the place it belongs to.
    pub(crate) fn lifelines(&self) -> impl Iterator<Item = (usize, BorrowedFd<'_>)> {
        self.slots.iter().enumerate().filter_map(|(index, slot)| Some((index, slot.process()?.lifeline()?)))
    }

    /// When something is to be done even if nothing happens.
    pub(crate) fn next_deadline(&self, now: Instant) -> Option<Instant> {
        let phase = match self.phase {
            Phase::DrainingWorkers { deadline } | Phase::DrainingStorage { deadline } => Some(deadline),
            Phase::Starting | Phase::Serving | Phase::Killed => None,
        };
        let slots = self.slots.iter().filter_map(|slot| match &slot.place {
            Place::Due(at) => Some(*at),
            Place::Taken(process) if process.lifeline().is_none() => Some(now + DYING_CHECK),
            Place::Taken(process) => process.next_look(now),
            Place::Empty => None,
        });
        let posts = self.slots.iter().filter_map(|slot| match slot.post {
            // A killed one has its end to come, which is a signal.
            Post::Leaving(deadline) if !slot.process().is_some_and(Process::is_killed) => Some(deadline),
            _ => None,
        });
        let change = self.change.as_ref().and_then(Change::deadline);
        let change = change.into_iter().chain(self.trial.as_ref().map(|trial| trial.deadline));
        let back = self.back_to.as_ref().map(|_| now);
        slots.chain(posts).chain(phase).chain(back).chain(change).chain(self.systemd.next_beat()).min()
    }

    /// Takes in what the child at `index` has said.
    pub(crate) fn hear(&mut self, index: usize, now: Instant) {
        let Some(process) = self.slots[index].process_mut() else { return };
        let news = process.receive(now);
        let slot = &self.slots[index];
        for item in news {
            match item {
                News::Ready if slot.restarts > 0 => say(format_args!("{slot} is back")),
                News::Ready => {}
                News::Broken(how) => {
                    complain(format_args!("{slot} does not keep to the protocol ({how}), killed"))
                }
            }
        }
    }

    /// Takes note of every child that has ended. Only looks when there is a sign of it: a SIGCHLD, or
    /// a closed lifeline where whoever started us had that signal ignored.
    pub(crate) fn reap(&mut self, has_sign: bool, now: Instant) {
        let is_dying = |slot: &Slot| slot.process().is_some_and(|process| process.lifeline().is_none());
        if !has_sign && !self.slots.iter().any(is_dying) {
            return;
        }
        for index in 0..self.slots.len() {
            let Some(process) = self.slots[index].process_mut() else { continue };
            process.hurry(now);
            let Some(end) = process.end() else { continue };
            self.hear(index, now); // its last words
            let slot = &mut self.slots[index];
            let name = slot.to_string();
            let served = slot.process().and_then(|process| process.served(now));
            let was_dismissed = slot.process().is_some_and(|p| p.is_draining() || p.is_killed());
            slot.place = Place::Empty;
            if !self.ended_in_change(index, &name, &end, was_dismissed, now) {
                self.ended(index, &name, &end, served, now);
            }
        }
    }

    /// Does what time and the children's state ask for. Whether the host goes on.
    pub(crate) fn advance(&mut self, now: Instant) -> bool {
        self.start_due(now);
        self.watch(now);
        match self.phase {
            Phase::Starting if self.slots[0].is_ready() => self.bring_up_workers(now),
            Phase::DrainingWorkers { deadline } if deadline <= now => self.out_of_time(),
            Phase::DrainingStorage { deadline } if deadline <= now => self.out_of_time(),
            Phase::DrainingWorkers { deadline } if !self.slots[1..].iter().any(is_taken) => {
                self.drain_storage(deadline);
            }
            Phase::Serving => self.go_on(now),
            Phase::Starting
            | Phase::DrainingWorkers { .. }
            | Phase::DrainingStorage { .. }
            | Phase::Killed => {}
        }
        self.end_overdue(now);
        self.slots.retain(|slot| !slot.is_over());
        self.tell_systemd(now);
        !matches!(self.phase, Phase::DrainingStorage { .. } | Phase::Killed)
            || self.slots.iter().any(is_taken)
    }

    /// A stop signal: the first drains, the second kills.
    pub(crate) fn stop(&mut self, now: Instant) {
        match self.phase {
            Phase::Starting | Phase::Serving => {
                say(format_args!("stopping"));
                self.systemd.tell(STOPPING);
                self.plan.listeners.close();
                self.abandon_change(now);
                self.phase = Phase::DrainingWorkers { deadline: now + self.plan.settings.drain_timeout };
                for slot in &mut self.slots[1..] {
                    drain(slot);
                }
            }
            Phase::DrainingWorkers { .. } | Phase::DrainingStorage { .. } => {
                self.kill_all("asked to stop a second time");
            }
            Phase::Killed => {}
        }
    }

    /// Ends everything at once.
    pub(crate) fn kill_all(&mut self, why: &str) {
        let names: Vec<String> =
            self.slots.iter().filter(|slot| is_taken(slot)).map(Slot::to_string).collect();
        complain(format_args!("{why}: killing {}", names.join(", ")));
        self.end_at_once();
    }

    /// What takes this process's place at an upgrade.
    pub(crate) fn executable(&self) -> &Executable {
        &self.plan.executable
    }

    /// The settings in use.
    pub(crate) fn settings(&self) -> &Settings {
        &self.plan.settings
    }

    pub(crate) fn outcome(&self) -> Outcome {
        if self.has_failed { Outcome::Failed } else { Outcome::Drained }
    }

    /// For the clean-up, when nobody is left.
    pub(crate) fn into_plan(self) -> Plan {
        self.plan
    }

    /// The places that there are for as long as the host lives.
    fn standing(&self) -> &[Slot] {
        &self.slots[..=usize::from(self.plan.workers)]
    }

    /// Asks the children whether they work, and kills those that have not answered for too long.
    fn watch(&mut self, now: Instant) {
        let hang_timeout = self.plan.settings.hang_timeout;
        // There is a deadline at least that often. Stopped, or without a processor, the supervisor could
        // hear nobody, and perhaps everybody else stood still too.
        let was_away = now.saturating_duration_since(self.looked) > 2 * pulse::doubt(hang_timeout);
        self.looked = now;
        for slot in &mut self.slots {
            let name = slot.to_string();
            let Some(process) = slot.process_mut() else { continue };
            if was_away {
                process.forgive(now);
            }
            process.ask(now);
            if let Health::Hung(silence) = process.health(now) {
                complain(format_args!(
                    "{name} has not answered for {:.1} s, killing it",
                    silence.as_secs_f64()
                ));
                process.kill();
                slot.hangs = slot.hangs.saturating_add(1);
            }
        }
    }

    /// Judges the end of the child at `index`, which is gone from its place already.
    fn ended(&mut self, index: usize, name: &str, end: &End, served: Option<Duration>, now: Instant) {
        let can_go_back = self.can_go_back();
        let slot = &mut self.slots[index];
        let is_draining = match self.phase {
            Phase::Killed => return,
            Phase::DrainingStorage { .. } => true,
            // Storage is still needed: workers finish what they began.
            Phase::DrainingWorkers { .. } => slot.role == Role::Worker,
            Phase::Starting | Phase::Serving => false,
        };
        if is_draining {
            slot.place = Place::Empty;
            if *end != End::Exited(0) {
                complain(format_args!("{name} {end} while draining"));
                self.has_failed = true;
            }
            return;
        }
        match slot.history.died(end, served) {
            Verdict::Again(pause) => {
                complain(format_args!("{name} {end}, starting it again"));
                slot.restarts = slot.restarts.saturating_add(1);
                slot.place = Place::Due(now + pause);
            }
            Verdict::GiveUp(why) if can_go_back => {
                slot.place = Place::Empty;
                self.go_back(&format!("{name} {end}: it {why}"), now);
            }
            Verdict::GiveUp(why) => {
                complain(format_args!("{name} {end}: it {why}; stopping"));
                slot.place = Place::Empty;
                self.systemd.tell(STOPPING);
                self.end_at_once();
            }
        }
    }

    fn drain_storage(&mut self, deadline: Instant) {
        self.phase = Phase::DrainingStorage { deadline };
        drain(&mut self.slots[0]);
    }

    fn out_of_time(&mut self) {
        self.kill_all(&format!("not drained within {:?}", self.plan.settings.drain_timeout));
    }

    fn end_at_once(&mut self) {
        self.has_failed = true;
        self.phase = Phase::Killed;
        self.plan.listeners.close();
        for slot in &mut self.slots {
            match &mut slot.place {
                Place::Taken(process) => process.kill(),
                Place::Due(_) => slot.place = Place::Empty,
                Place::Empty => {}
            }
        }
    }
}

fn is_taken(slot: &Slot) -> bool {
    matches!(slot.place, Place::Taken(_))
}

/// Tells whoever is there to drain, and wants nobody there any more.
fn drain(slot: &mut Slot) {
    match &mut slot.place {
        Place::Taken(process) => process.drain(),
        Place::Due(_) => slot.place = Place::Empty,
        Place::Empty => {}
    }
}
