//! What a host says about itself: to whoever asks for its status, and to systemd.

use std::time::Instant;

use serde_json::Map;

use super::{Crew, Phase};
use crate::host::say;
use crate::notify::READY;
use crate::slot::{Role, Slot};
use crate::status::{self, NO_REPORT, ProcessStatus, Status};
use crate::usage::Looks;

impl Crew {
    /// How the host is, whoever asks.
    pub(crate) fn status(&self, now: Instant) -> Status<'_> {
        let reason = self.why_not_ready(now).unwrap_or_default();
        let supervisor = ProcessStatus {
            role: "supervisor",
            id: 0,
            pid: std::process::id(),
            uptime_s: status::seconds(now.saturating_duration_since(self.started)),
            restarts: 0,
            hangs: 0,
            rss_bytes: status::rss_bytes(std::process::id()),
            usage: Looks::default().at(std::process::id(), now),
            connections: 0,
            ready: reason.is_empty(),
            generation: self.generation,
            leaving: false,
            report: &NO_REPORT,
            rates: Map::new(),
        };
        Status {
            ready: reason.is_empty(),
            reason,
            listen: self.plan.listeners.addresses(),
            data_dir: self.plan.lock.data_dir(),
            change: &self.last_change,
            processes: std::iter::once(supervisor)
                .chain(self.slots.iter().map(|slot| slot.status(now)))
                .collect(),
        }
    }

    fn why_not_ready(&self, now: Instant) -> Option<String> {
        if !matches!(self.phase, Phase::Starting | Phase::Serving) {
            return Some("stopping".to_owned());
        }
        if let Some(slot) = self.standing().iter().find(|slot| !slot.is_well(now)) {
            let name = match slot.role {
                Role::Storage => slot.role.name().to_owned(),
                Role::Worker => format!("{} {}", slot.role.name(), slot.id),
            };
            let what = if slot.is_ready() { "does not answer" } else { "is not up" };
            return Some(format!("{name} {what}"));
        }
        status::disk_fault(self.slots[0].report()).map(|fault| format!("disk: {fault}"))
    }

    /// The whole host serves.
    pub(super) fn announce(&self) {
        let addresses: Vec<String> =
            self.plan.listeners.addresses().iter().map(ToString::to_string).collect();
        let workers = self.plan.workers;
        let plural = if workers == 1 { "" } else { "s" };
        let data_dir = self.plan.lock.data_dir().display();
        say(format_args!("ready on {} ({workers} worker{plural}, data in {data_dir})", addresses.join(", ")));
        self.systemd.tell(READY);
    }

    /// The watchdog hears of life only while every child that serves has answered.
    pub(super) fn tell_systemd(&mut self, now: Instant) {
        let is_silent = |slot: &Slot| {
            slot.process().is_some_and(|process| process.served(now).is_some() && !slot.is_well(now))
        };
        let is_draining = !matches!(self.phase, Phase::Starting | Phase::Serving);
        let is_alive = is_draining || !self.standing().iter().any(is_silent);
        // Said first, so that no sign of life comes behind "does not answer".
        let status = self.headline(now);
        self.systemd.tell_status(status);
        self.systemd.beat(is_alive, now);
    }

    /// How the host is, in a few words.
    fn headline(&self, now: Instant) -> String {
        let addresses = self.plan.listeners.addresses().iter().map(ToString::to_string);
        match (self.phase, self.why_not_ready(now)) {
            (Phase::Starting, Some(reason)) => format!("starting: {reason}"),
            (Phase::Starting | Phase::Serving, None) => {
                format!("serving on {}", addresses.collect::<Vec<_>>().join(", "))
            }
            (_, reason) => format!("not ready: {}", reason.unwrap_or_default()),
        }
    }
}
