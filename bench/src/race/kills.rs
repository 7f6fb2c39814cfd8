//! Processes of the server that are killed while all members are there, and how long those take to come back
//! whose connections that broke.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::{SECOND_NS, ns};
use crate::disrupt::{self, What};
use crate::hdr::{Latency, Percentiles};
use crate::scenario::{Kill, Victim};
use crate::watch::Target;

/// Longest wait for a process to kill: the last one may be starting again.
const PATIENCE_NS: u64 = 5 * SECOND_NS;

/// Longest time from a kill to what it breaks: connections of others close when the rest of the server has
/// noticed.
const SETTLE_NS: u64 = 5 * SECOND_NS;

/// One kill, and what it did.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Killed {
    /// `worker killed` or `storage writer killed`.
    pub what: String,
    /// Seconds since `started_unix_ms`.
    pub at_s: f64,
    /// The process.
    pub pid: Option<u32>,
    /// Why it could not be done, if it could not.
    pub failed: Option<String>,
    /// Connections it broke.
    pub interrupted: u64,
    /// From the break to `CONNECTED` by a fresh ticket.
    pub recovery_ms: Percentiles,
    /// From the kill to the last return.
    pub all_back_ms: f64,
}

/// A connection that broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Break {
    at_ns: u64,
    /// Which kill did it.
    by: usize,
}

struct Done {
    killed: Killed,
    at_ns: u64,
    recovery: Latency,
}

/// All kills of a run.
pub struct Kills {
    order: Option<Kill>,
    begun_ns: u64,
    ahead: VecDeque<(u64, Victim, usize)>,
    done: Vec<Done>,
    /// From a break to `CONNECTED`, all of them.
    pub recovery: Latency,
}

impl Kills {
    /// None yet, in a run that begins at `begun_ns`.
    pub fn new(order: Option<Kill>, begun_ns: u64) -> Kills {
        Kills { order, begun_ns, ahead: VecDeque::new(), done: vec![], recovery: Latency::of_run() }
    }

    /// All members are there, and stay so long.
    pub fn begin(&mut self, now_ns: u64, stay_ns: u64) {
        if let Some(Kill { process, every }) = self.order {
            let times = disrupt::times(Some(every), Duration::from_nanos(stay_ns)).zip(0..);
            self.ahead = times.map(|(at, nth)| (now_ns + ns(at), process, nth)).collect();
        }
    }

    /// Kills what is due, among the processes that are `seen`.
    pub fn turn(&mut self, now_ns: u64, seen: impl FnOnce() -> Option<Target>) {
        let Some((due_ns, victim, nth)) = self.ahead.front().copied().filter(|(due, ..)| *due <= now_ns)
        else {
            return;
        };
        let at_s = now_ns.saturating_sub(self.begun_ns) as f64 / SECOND_NS as f64;
        let mut killed = Killed { what: What::Kill(victim, nth).name(), at_s, ..Killed::default() };
        match disrupt::choose(seen().as_ref(), victim, nth) {
            Ok(pid) => {
                (killed.pid, killed.failed) = (Some(pid), disrupt::kill_now(pid).err());
            }
            Err(_) if now_ns < due_ns + PATIENCE_NS => return,
            Err(why) => killed.failed = Some(why),
        }
        self.ahead.pop_front();
        self.done.push(Done { killed, at_ns: now_ns, recovery: Latency::of_second() });
    }

    /// Whether whatever the last one breaks has broken by now.
    pub fn settled(&self, now_ns: u64) -> bool {
        self.done.last().is_none_or(|last| now_ns >= last.at_ns.saturating_add(SETTLE_NS))
    }

    /// There are to be no more.
    pub fn end(&mut self) {
        self.ahead.clear();
    }

    /// A connection broke; `None` if no kill can have done that.
    pub fn broke(&mut self, now_ns: u64) -> Option<Break> {
        let by = self.done.len().checked_sub(1)?;
        self.done[by].killed.interrupted += 1;
        Some(Break { at_ns: now_ns, by })
    }

    /// Its member is in again.
    pub fn back(&mut self, Break { at_ns, by }: Break, now_ns: u64) {
        let done = &mut self.done[by];
        done.recovery.note(at_ns, now_ns);
        done.killed.all_back_ms = now_ns.saturating_sub(done.at_ns) as f64 / 1e6;
        self.recovery.note(at_ns, now_ns);
    }

    /// What became of each.
    pub fn told(&self) -> Vec<Killed> {
        let told = |done: &Done| Killed { recovery_ms: done.recovery.percentiles(), ..done.killed.clone() };
        self.done.iter().map(told).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::Process;

    #[test]
    fn what_is_due_is_killed_once_and_its_breaks_are_counted() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let process = |role: &str, pid| Process { role: role.into(), pid, ..Process::default() };
        let processes = vec![process("supervisor", std::process::id()), process("worker", child.id())];
        let seen = Target { processes, ..Target::default() };
        let second = |n: u64| n * SECOND_NS;
        let order = Kill { process: Victim::Worker, every: Duration::from_secs(2) };
        let mut kills = Kills::new(Some(order), second(1));
        assert_eq!(kills.broke(second(1)), None);
        kills.begin(second(3), second(5)); // at 5 and at 7
        kills.turn(second(4), || panic!("nothing is due"));
        kills.turn(second(5), || Some(seen));
        assert!(!child.wait().unwrap().success());
        let by = kills.broke(second(5) + 7).unwrap();
        assert!(!kills.settled(second(9)) && kills.settled(second(10)));
        kills.back(by, second(6));
        kills.turn(second(7), || None); // it may be starting again
        assert_eq!(kills.told().len(), 1);
        kills.turn(second(12), || None);
        let told = kills.told();
        assert_eq!((told[0].pid, told[0].at_s, told[0].interrupted), (Some(child.id()), 4.0, 1));
        assert_eq!((told[0].recovery_ms.count, told[0].all_back_ms), (1, 1000.0));
        assert_eq!((told[1].pid, told[1].failed.as_deref()), (None, Some("/api/stats has not answered")));
        kills.turn(second(99), || panic!("nothing is left"));
    }
}
