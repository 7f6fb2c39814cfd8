//! CPU time and memory of the server's processes, read from `/proc`, and our own CPU time.

use std::collections::{HashMap, HashSet};
use std::fs;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

/// Unit of CPU times in `/proc/PID/stat`: the kernel's `USER_HZ`, fixed at 100 for user space.
const TICKS_PER_S: u64 = 100;

/// Processes to watch: the named ones and everything they started.
pub struct Watched {
    roots: Vec<u32>,
}

/// What those processes have used so far, and hold now.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// User and system time of the living ones, and of their dead children.
    pub cpu_s: f64,
    /// Resident memory; pages that several share are counted for each.
    pub rss_bytes: u64,
    /// How many processes.
    pub processes: u64,
}

struct Process {
    parent: u32,
    ticks: u64,
}

impl Watched {
    /// Watches the processes of those ids, or says which is not there.
    pub fn new(roots: &[u32]) -> Result<Watched, String> {
        match roots.iter().find(|pid| stat(**pid).is_none()) {
            Some(pid) => Err(format!("there is no process {pid}")),
            None => Ok(Watched { roots: roots.to_vec() }),
        }
    }

    /// What they have used until now; `None` when none are watched.
    pub fn usage(&self) -> Option<Usage> {
        if self.roots.is_empty() {
            return None;
        }
        let all: HashMap<u32, Process> = pids().filter_map(|pid| Some((pid, stat(pid)?))).collect();
        let mut family: HashSet<u32> = self.roots.iter().copied().collect();
        loop {
            let children =
                all.iter().filter(|(_, process)| family.contains(&process.parent)).map(|(pid, _)| *pid);
            let more: Vec<u32> = children.filter(|pid| !family.contains(pid)).collect();
            if more.is_empty() {
                break;
            }
            family.extend(more);
        }
        let mut usage = Usage::default();
        let mut ticks = 0;
        for (pid, process) in all.iter().filter(|(pid, _)| family.contains(*pid)) {
            ticks += process.ticks;
            usage.rss_bytes += rss_bytes(*pid);
            usage.processes += 1;
        }
        usage.cpu_s = ticks as f64 / TICKS_PER_S as f64;
        Some(usage)
    }
}

/// The process that started another, if that is there.
pub fn parent_of(pid: u32) -> Option<u32> {
    stat(pid).map(|process| process.parent)
}

fn pids() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

fn stat(pid: u32) -> Option<Process> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The name in field 2 may hold anything, so fields are counted from its closing bracket.
fn parse_stat(text: &str) -> Option<Process> {
    let fields: Vec<&str> = text[text.rfind(')')? + 1..].split_ascii_whitespace().collect();
    let number = |field: usize| fields.get(field - 3).and_then(|text| text.parse::<u64>().ok());
    let ticks = (14..=17).map(number).sum::<Option<u64>>()?; // utime stime cutime cstime
    Some(Process { parent: u32::try_from(number(4)?).ok()?, ticks })
}

fn rss_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_ascii_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or_default() * 1024
}

/// CPU seconds of this process so far.
pub fn own_cpu_s() -> f64 {
    let micros = getrusage(UsageWho::RUSAGE_SELF)
        .map(|usage| usage.user_time().num_microseconds() + usage.system_time().num_microseconds());
    micros.unwrap_or_default() as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_blanks_misleads_nobody() {
        let line = "7 (a) b (c) S 3 7 7 0 -1 4194304 1 2 3 4 10 20 30 40 20 0 1 0 5 6 7";
        let process = parse_stat(line).unwrap();
        assert_eq!((process.parent, process.ticks), (3, 100));
        assert!(parse_stat("7 (x").is_none() && parse_stat("7 (x) S 3").is_none());
    }

    #[test]
    fn a_family_includes_its_children() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let watched = Watched::new(&[std::process::id()]).unwrap();
        let usage = watched.usage().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(usage.processes >= 2 && usage.rss_bytes > 0);
    }
}
