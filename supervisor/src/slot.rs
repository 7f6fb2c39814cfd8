//! The place of one child in the host: whoever works there now, and the history of those before.

use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::pulse::Health;
use crate::restart::History;
use crate::spawn::{Process, ProcessParts};
use crate::status::{self, NO_REPORT, ProcessStatus};
use crate::usage::Looks;

/// What a child is for; the names are those of the start message and of the status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Storage,
    Worker,
}

#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) role: Role,
    /// Which of its role, from 0.
    pub(crate) id: u16,
    pub(crate) post: Post,
    pub(crate) place: Place,
    pub(crate) history: History,
    pub(crate) restarts: u32,
    /// How many of them because it did not answer.
    pub(crate) hangs: u32,
    pub(crate) looks: Looks,
}

/// For how long there is such a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Post {
    /// As long as the host lives.
    Standing,
    /// Until its process serves and takes over the standing place of its role and id.
    Coming,
    /// Until its process, which has a successor, has gone; then it is killed.
    Leaving(Instant),
}

#[derive(Debug)]
pub(crate) enum Place {
    /// Nobody is wanted here: not yet, or no more.
    Empty,
    /// To be started then.
    Due(Instant),
    /// Somebody is here.
    Taken(Box<Process>),
}

impl Role {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Role::Storage => "storage",
            Role::Worker => "worker",
        }
    }
}

impl Slot {
    pub(crate) fn new(role: Role, id: u16) -> Slot {
        Slot {
            role,
            id,
            post: Post::Standing,
            place: Place::Empty,
            history: History::default(),
            restarts: 0,
            hangs: 0,
            looks: Looks::default(),
        }
    }

    /// A place beside the standing one.
    pub(crate) fn beside(standing: &Slot, post: Post, place: Place) -> Slot {
        Slot { post, place, ..Slot::new(standing.role, standing.id) }
    }

    pub(crate) fn is_standing(&self) -> bool {
        self.post == Post::Standing
    }

    /// Nobody is here, and nobody will be.
    pub(crate) fn is_over(&self) -> bool {
        !self.is_standing() && matches!(self.place, Place::Empty)
    }

    /// Which change of the host the process here was started by; none: nobody is here.
    pub(crate) fn generation(&self) -> Option<u32> {
        self.process().map(Process::generation)
    }

    pub(crate) fn process(&self) -> Option<&Process> {
        match &self.place {
            Place::Taken(process) => Some(process),
            Place::Empty | Place::Due(_) => None,
        }
    }

    pub(crate) fn process_mut(&mut self) -> Option<&mut Process> {
        match &mut self.place {
            Place::Taken(process) => Some(process),
            Place::Empty | Place::Due(_) => None,
        }
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.process().is_some_and(Process::is_ready)
    }

    /// Whether it serves and answers.
    pub(crate) fn is_well(&self, now: Instant) -> bool {
        self.process().is_some_and(|process| process.is_ready() && process.health(now) == Health::Well)
    }

    /// Its last report; an empty object while there is none.
    pub(crate) fn report(&self) -> &Value {
        self.process().map_or(&NO_REPORT, Process::report)
    }

    pub(crate) fn status(&self, now: Instant) -> ProcessStatus<'_> {
        let process = self.process();
        let pid = process.map_or(0, Process::pid);
        ProcessStatus {
            role: self.role.name(),
            id: self.id,
            pid,
            uptime_s: status::seconds(process.map(|process| process.age(now)).unwrap_or_default()),
            restarts: self.restarts,
            hangs: self.hangs,
            rss_bytes: if pid == 0 { 0 } else { status::rss_bytes(pid) },
            usage: self.looks.at(pid, now),
            connections: status::connections(self.report()),
            ready: self.is_well(now),
            generation: self.generation().unwrap_or(0),
            leaving: matches!(self.post, Post::Leaving(_)),
            report: self.report(),
            rates: process.map(|process| process.rates().clone()).unwrap_or_default(),
        }
    }
}

/// A [`Slot`] in a form that outlives an executable. Times are how long from now something is.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SlotParts {
    is_storage: bool,
    id: u16,
    /// For those that leave, the time they have.
    leaving: Option<Duration>,
    history: History,
    restarts: u32,
    hangs: u32,
    process: Option<ProcessParts>,
}

impl SlotParts {
    /// All there are. A place that is over is none: whoever takes it up would start somebody there.
    pub(crate) fn of_all(slots: &[Slot], now: Instant) -> Vec<SlotParts> {
        slots.iter().filter(|slot| !slot.is_over()).map(|slot| SlotParts::of(slot, now)).collect()
    }

    fn of(slot: &Slot, now: Instant) -> SlotParts {
        SlotParts {
            is_storage: slot.role == Role::Storage,
            id: slot.id,
            leaving: match slot.post {
                Post::Leaving(deadline) => Some(deadline.saturating_duration_since(now)),
                Post::Standing | Post::Coming => None, // who comes is dismissed before
            },
            history: slot.history.clone(),
            restarts: slot.restarts,
            hangs: slot.hangs,
            process: slot.process().map(|process| ProcessParts::of(process, now)),
        }
    }

    /// Whoever was about to be started is started at once.
    pub(crate) fn into_slot(self, hang_timeout: Duration, now: Instant) -> io::Result<Slot> {
        Ok(Slot {
            role: if self.is_storage { Role::Storage } else { Role::Worker },
            id: self.id,
            post: self.leaving.map_or(Post::Standing, |time| Post::Leaving(now + time)),
            place: match self.process {
                Some(parts) => Place::Taken(Box::new(parts.into_process(hang_timeout, now)?)),
                None => Place::Due(now),
            },
            history: self.history,
            restarts: self.restarts,
            hangs: self.hangs,
            looks: Looks::default(),
        })
    }
}

/// As an operator knows it: `storage`, `worker 1`, with its pid while it has one.
impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.role {
            Role::Storage => f.write_str(self.role.name())?,
            Role::Worker => write!(f, "{} {}", self.role.name(), self.id)?,
        }
        match self.process() {
            Some(process) => write!(f, " (pid {})", process.pid()),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_is_over_is_not_handed_over() {
        let now = Instant::now();
        let standing = Slot::new(Role::Worker, 0);
        let leaving = Slot::beside(&standing, Post::Leaving(now + Duration::from_secs(30)), Place::Empty);
        assert!(leaving.is_over() && !standing.is_over());
        let parts = SlotParts::of_all(&[standing, leaving], now);
        assert_eq!(parts.len(), 1);
        for slot in parts {
            let slot = slot.into_slot(Duration::from_secs(1), now).unwrap();
            assert!(slot.is_standing() && matches!(slot.place, Place::Due(_)));
        }
    }
}
