//! Storms and kills: when they come, and the killing itself.
//!
//! Only processes of a server on this machine are killed, and only those whose parent is the
//! supervisor that `/api/stats` names beside them: a number from another machine, or from another
//! process namespace, does not pass for one of ours.

use std::net::SocketAddr;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::plan::Plan;
use crate::procs;
use crate::scenario::Victim;
use crate::watch::{Process, Target};

/// One disruption.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum What {
    /// A share of the users drops its connections.
    Storm,
    /// The nth process of that role is killed.
    Kill(Victim, usize),
}

impl What {
    /// In words.
    pub fn name(self) -> String {
        match self {
            What::Storm => "reconnect storm".to_owned(),
            What::Kill(Victim::Worker, _) => "worker killed".to_owned(),
            What::Kill(Victim::Writer, _) => "storage writer killed".to_owned(),
        }
    }
}

/// All disruptions of a run with their times since the load's begin, in order. A storm that would come
/// with a kill comes half an interval before it: together neither could be told from the other.
pub fn all(plan: &Plan) -> Vec<(Duration, What)> {
    let whole = plan.warmup + plan.duration;
    let mut all: Vec<(Duration, What)> = vec![];
    if let Some(order) = plan.kill {
        let times = times(Some(order.every), whole).zip(0..);
        all.extend(times.map(|(at, nth)| (at, What::Kill(order.process, nth))));
    }
    if let Some(storm) = plan.storm {
        let kills: Vec<Duration> = all.iter().map(|(at, _)| *at).collect();
        let early = kills.first().map_or(Duration::ZERO, |first| *first / 2);
        let apart = |at: Duration| if kills.contains(&at) { at - early } else { at };
        all.extend(times(storm.every, whole).map(|at| (apart(at), What::Storm)));
    }
    all.sort_by_key(|(at, _)| *at);
    all
}

/// Every so often, but not at the end; in the middle where that would be never.
pub fn times(every: Option<Duration>, whole: Duration) -> impl Iterator<Item = Duration> {
    let every = every.filter(|every| *every < whole).unwrap_or(whole / 2).max(Duration::from_millis(1));
    (1..).map(move |nth| every * nth).take_while(move |at| *at < whole)
}

/// Whether processes of that server can be killed; else why not.
pub fn can_kill(target: SocketAddr, seen: Option<&Target>, victim: Victim) -> Result<(), String> {
    if !target.ip().is_loopback() {
        return Err("--kill is for a server on this machine, at a loopback address".into());
    }
    let seen = seen.ok_or("--kill needs a server that offers /api/stats")?;
    victims(&seen.processes, victim).map(|_| ())
}

/// The `nth` process of that role, which [`kill_now`] may kill.
pub fn choose(seen: Option<&Target>, victim: Victim, nth: usize) -> Result<u32, String> {
    let victims = victims(&seen.ok_or("/api/stats has not answered")?.processes, victim)?;
    Ok(victims[nth % victims.len()])
}

/// Kills a chosen process.
pub fn kill_now(pid: u32) -> Result<(), String> {
    let id = i32::try_from(pid).map_err(|_| format!("{pid} is no process"))?;
    match kill(Pid::from_raw(id), Signal::SIGKILL) {
        Ok(()) => Ok(()),
        Err(Errno::ESRCH) => Err(format!("process {pid} ended by itself")),
        Err(why) => Err(format!("process {pid} cannot be killed: {why}")),
    }
}

/// Living processes of that role whose parent is the supervisor beside them.
fn victims(processes: &[Process], victim: Victim) -> Result<Vec<u32>, String> {
    let supervisor = processes.iter().find(|process| process.role == "supervisor").map(|process| process.pid);
    let ours = |pid: &u32| supervisor.is_some() && procs::parent_of(*pid) == supervisor;
    let of_role = processes.iter().filter(|process| process.role == victim.role() && process.pid > 1);
    let victims: Vec<u32> = of_role.map(|process| process.pid).filter(ours).collect();
    if victims.is_empty() {
        return Err(format!("no {} process of this server runs on this machine", victim.role()));
    }
    Ok(victims)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disruptions_come_again_and_again_or_once_in_the_middle() {
        let seconds = |every: Option<u64>| {
            let every = every.map(Duration::from_secs);
            times(every, Duration::from_secs(30)).map(|at| at.as_secs()).collect::<Vec<_>>()
        };
        assert_eq!(seconds(Some(10)), [10, 20]);
        assert_eq!(seconds(Some(30)), [15]);
        assert_eq!(seconds(None), [15]);
    }

    #[test]
    fn a_storm_and_a_kill_are_told_apart() {
        let disruptions = |line: &str| {
            let plan = Plan::new(&crate::args::typed(line).scenario).unwrap();
            all(&plan).into_iter().map(|(at, what)| (at.as_secs(), what)).collect::<Vec<_>>()
        };
        let (storm, kill) = (What::Storm, |nth| What::Kill(Victim::Worker, nth));
        assert_eq!(
            disruptions("quick --kill worker --reconnect-storm --every 10s"),
            [(5, storm), (10, kill(0)), (15, storm), (20, kill(1))]
        );
        assert_eq!(
            disruptions("quick --kill worker --reconnect-storm"),
            [(10, kill(0)), (15, storm), (20, kill(1))]
        );
    }

    #[test]
    fn only_children_of_the_supervisor_beside_them_may_be_killed() {
        let own = std::process::id();
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let process = |role: &str, pid| Process { role: role.into(), pid, ..Process::default() };
        let target = |supervisor| Target {
            processes: vec![process("supervisor", supervisor), process("worker", child.id())],
            ..Target::default()
        };
        let far = "192.0.2.1:80".parse().unwrap();
        let near = "127.0.0.1:80".parse().unwrap();
        assert!(can_kill(far, Some(&target(own)), Victim::Worker).is_err());
        assert!(can_kill(near, None, Victim::Worker).is_err());
        assert!(can_kill(near, Some(&target(own)), Victim::Writer).is_err());
        assert!(can_kill(near, Some(&target(1)), Victim::Worker).is_err(), "not that supervisor's child");
        assert_eq!(can_kill(near, Some(&target(own)), Victim::Worker), Ok(()));
        assert_eq!(choose(Some(&target(own)), Victim::Worker, 5), Ok(child.id()));
        assert_eq!(kill_now(child.id()), Ok(()));
        assert!(!child.wait().unwrap().success());
    }
}
