//! All children of a host and the phases of its life: who is started, replaced, drained, killed when.
//!
//! Storage comes first and goes last: workers can do nothing without it, and what they finish while
//! draining still has to be written.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use crate::Plan;
use serde_json::Map;

use crate::host::{Outcome, say};
use crate::message::Start;
use crate::notify::{self, READY, STOPPING};
use crate::restart::{End, Verdict};
use crate::slot::{Place, Role, Slot};
use crate::spawn::{News, Process};
use crate::status::{self, NO_REPORT, ProcessStatus, Status};

/// Time between two looks at a child that closed its lifeline and has not ended yet.
const DYING_CHECK: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub(crate) struct Crew {
    plan: Plan,
    storage_socket: UnixListener,
    /// The storage child's place first, then the workers' in order.
    slots: Vec<Slot>,
    phase: Phase,
    has_failed: bool,
    started: Instant,
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
        Crew { plan, storage_socket, slots, phase: Phase::Starting, has_failed: false, started: now }
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
            Place::Taken(_) | Place::Empty => None,
        });
        slots.chain(phase).min()
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
                    say(format_args!("{slot} does not keep to the protocol ({how}), killed"))
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
            slot.place = Place::Empty;
            self.ended(index, &name, &end, served, now);
        }
    }

    /// Does what time and the children's state ask for. Whether the host goes on.
    pub(crate) fn advance(&mut self, now: Instant) -> bool {
        self.start_due(now);
        match self.phase {
            Phase::Starting if self.slots[0].is_ready() => self.bring_up_workers(now),
            Phase::DrainingWorkers { deadline } if deadline <= now => self.out_of_time(),
            Phase::DrainingStorage { deadline } if deadline <= now => self.out_of_time(),
            Phase::DrainingWorkers { deadline } if !self.slots[1..].iter().any(is_taken) => {
                self.drain_storage(deadline);
            }
            Phase::Starting
            | Phase::Serving
            | Phase::DrainingWorkers { .. }
            | Phase::DrainingStorage { .. }
            | Phase::Killed => {}
        }
        !matches!(self.phase, Phase::DrainingStorage { .. } | Phase::Killed)
            || self.slots.iter().any(is_taken)
    }

    /// A stop signal: the first drains, the second kills.
    pub(crate) fn stop(&mut self, now: Instant) {
        match self.phase {
            Phase::Starting | Phase::Serving => {
                say(format_args!("stopping"));
                self.tell_systemd(STOPPING);
                self.plan.listeners.close();
                self.phase = Phase::DrainingWorkers { deadline: now + self.plan.drain_timeout };
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
        say(format_args!("{why}: killing {}", names.join(", ")));
        self.end_at_once();
    }

    pub(crate) fn outcome(&self) -> Outcome {
        if self.has_failed { Outcome::Failed } else { Outcome::Drained }
    }

    /// For the clean-up, when nobody is left.
    pub(crate) fn into_plan(self) -> Plan {
        self.plan
    }

    pub(crate) fn status(&self, now: Instant) -> Status<'_> {
        let reason = self.why_not_ready().unwrap_or_default();
        let supervisor = ProcessStatus {
            role: "supervisor",
            id: 0,
            pid: std::process::id(),
            uptime_s: status::seconds(now.saturating_duration_since(self.started)),
            restarts: 0,
            rss_bytes: status::rss_bytes(std::process::id()),
            connections: 0,
            ready: reason.is_empty(),
            report: &NO_REPORT,
            rates: Map::new(),
        };
        Status {
            ready: reason.is_empty(),
            reason,
            listen: self.plan.listeners.addresses(),
            data_dir: self.plan.lock.data_dir(),
            processes: std::iter::once(supervisor)
                .chain(self.slots.iter().map(|slot| slot.status(now)))
                .collect(),
        }
    }

    fn why_not_ready(&self) -> Option<String> {
        if !matches!(self.phase, Phase::Starting | Phase::Serving) {
            return Some("stopping".to_owned());
        }
        if let Some(slot) = self.slots.iter().find(|slot| !slot.is_ready()) {
            return Some(match slot.role {
                Role::Storage => "storage is not up".to_owned(),
                Role::Worker => format!("worker {} is not up", slot.id),
            });
        }
        status::disk_fault(self.slots[0].report()).map(|fault| format!("disk: {fault}"))
    }

    fn start_due(&mut self, now: Instant) {
        for index in 0..self.slots.len() {
            if !matches!(self.slots[index].place, Place::Due(at) if at <= now) {
                continue;
            }
            match self.start(&self.slots[index], now) {
                Ok(process) => self.slots[index].place = Place::Taken(process),
                Err(error) => {
                    let name = self.slots[index].to_string();
                    self.ended(index, &name, &End::NotStarted(error.to_string()), None, now);
                }
            }
        }
    }

    fn start(&self, slot: &Slot, now: Instant) -> io::Result<Process> {
        let (names, fds): (Vec<_>, Vec<_>) = match slot.role {
            Role::Storage => vec![("lock", self.plan.lock.as_fd()), ("storage", self.storage_socket.as_fd())]
                .into_iter()
                .unzip(),
            Role::Worker => self.plan.listeners.of_worker(slot.id).map(|fd| ("listen", fd)).unzip(),
        };
        let start = Start {
            role: slot.role.name().to_owned(),
            id: slot.id,
            supervisor_pid: std::process::id(),
            settings: self.plan.settings.clone(),
            fds: names.into_iter().map(str::to_owned).collect(),
        };
        Process::start(&self.plan.program, &start, &fds, now)
    }

    fn bring_up_workers(&mut self, now: Instant) {
        let workers = &mut self.slots[1..];
        for slot in workers.iter_mut().filter(|slot| matches!(slot.place, Place::Empty)) {
            slot.place = Place::Due(now);
        }
        if workers.iter().all(Slot::is_ready) {
            self.phase = Phase::Serving;
            self.announce();
        } else {
            self.start_due(now);
        }
    }

    fn announce(&self) {
        let addresses: Vec<String> =
            self.plan.listeners.addresses().iter().map(ToString::to_string).collect();
        let workers = self.plan.workers;
        let plural = if workers == 1 { "" } else { "s" };
        let data_dir = self.plan.lock.data_dir().display();
        say(format_args!("ready on {} ({workers} worker{plural}, data in {data_dir})", addresses.join(", ")));
        self.tell_systemd(READY);
    }

    /// Judges the end of the child at `index`, which is gone from its place already.
    fn ended(&mut self, index: usize, name: &str, end: &End, served: Option<Duration>, now: Instant) {
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
                say(format_args!("{name} {end} while draining"));
                self.has_failed = true;
            }
            return;
        }
        match slot.history.died(end, served) {
            Verdict::Again(pause) => {
                say(format_args!("{name} {end}, starting it again"));
                slot.restarts = slot.restarts.saturating_add(1);
                slot.place = Place::Due(now + pause);
            }
            Verdict::GiveUp(why) => {
                say(format_args!("{name} {end}: it {why}; stopping"));
                slot.place = Place::Empty;
                self.tell_systemd(STOPPING);
                self.end_at_once();
            }
        }
    }

    fn drain_storage(&mut self, deadline: Instant) {
        self.phase = Phase::DrainingStorage { deadline };
        drain(&mut self.slots[0]);
    }

    fn out_of_time(&mut self) {
        self.kill_all(&format!("not drained within {:?}", self.plan.drain_timeout));
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

    /// systemd gives up on its own if it does not hear; the host goes on either way.
    fn tell_systemd(&self, state: &str) {
        if let Some(Err(error)) = self.plan.notify_socket.as_ref().map(|socket| notify::notify(socket, state))
        {
            say(format_args!("cannot tell systemd {state}: {error}"));
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
