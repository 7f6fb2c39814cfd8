//! Who is started where: each place that is due gets a process, with what its role works with.

use std::io;
use std::os::fd::AsFd;
use std::time::Instant;

use super::{Crew, Phase};
use crate::message::Start;
use crate::restart::End;
use crate::slot::{Place, Role, Slot};
use crate::spawn::Process;

impl Crew {
    /// Starts whoever is due.
    pub(super) fn start_due(&mut self, now: Instant) {
        for index in 0..self.slots.len() {
            if !matches!(self.slots[index].place, Place::Due(at) if at <= now) {
                continue;
            }
            match self.start(&self.slots[index], now) {
                Ok(process) => self.slots[index].place = Place::Taken(Box::new(process)),
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
            seat: self.free_seat(slot),
            supervisor_pid: std::process::id(),
            settings: self.plan.settings.for_children.clone(),
            fds: names.into_iter().map(str::to_owned).collect(),
        };
        let hang_timeout = self.plan.settings.hang_timeout;
        Process::start(&self.plan.program, &start, &fds, hang_timeout, self.generation, now)
    }

    /// A seat that no living process has; see [`Start::seat`].
    fn free_seat(&self, slot: &Slot) -> u16 {
        let taken = |seat: u16| {
            let processes =
                self.slots.iter().filter(|other| other.role == slot.role).filter_map(Slot::process);
            processes.into_iter().any(|process| process.seat() == seat)
        };
        let places = match slot.role {
            Role::Storage => 1,
            Role::Worker => self.plan.workers.max(1),
        };
        // One comes, one serves, one leaves: there is a free one among the first four.
        (0..u16::MAX / places)
            .map(|round| slot.id + round * places)
            .find(|seat| !taken(*seat))
            .unwrap_or(slot.id)
    }

    /// Storage serves: the workers come up, and when all do, the host serves.
    pub(super) fn bring_up_workers(&mut self, now: Instant) {
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
}
