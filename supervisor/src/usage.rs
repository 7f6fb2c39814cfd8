//! What a process takes of the machine, out of `/proc` (proc(5)): the supervisor looks, so that it is known
//! of a process that hangs as well.

use std::cell::Cell;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::LazyLock;
use std::time::{Duration, Instant, SystemTime};

use nix::time::{ClockId, clock_gettime};
use nix::unistd::{SysconfVar, sysconf};
use serde::Serialize;

/// Descriptors are counted one by one on older kernels, and a worker may have a hundred thousand; then no
/// more often than this.
const COUNT_PAUSE: Duration = Duration::from_secs(10);

/// What a process takes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Usage {
    /// User and system time since its start.
    cpu_seconds: f64,
    /// When it started, Unix time.
    start_time_s: f64,
    open_fds: u64,
    /// How many descriptors it may have.
    max_fds: u64,
}

/// Looks at the processes of one place.
#[derive(Debug, Default)]
pub(crate) struct Looks {
    /// When whose descriptors were counted last, and how many they were.
    counted: Cell<Option<(Instant, u32, u64)>>,
}

impl Looks {
    /// What a process takes; none: it is gone.
    pub(crate) fn at(&self, pid: u32, now: Instant) -> Option<Usage> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // Fields are counted from 1; the second is the name, in brackets, and may hold anything.
        let rest: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        let seconds = |field: usize| Some(rest.get(field - 3)?.parse::<f64>().ok()? / ticks_per_second());
        Some(Usage {
            cpu_seconds: hundredths(seconds(14)? + seconds(15)?),
            start_time_s: hundredths(*BOOTED + seconds(22)?),
            open_fds: self.open_fds(pid, now)?,
            max_fds: max_fds(pid)?,
        })
    }

    fn open_fds(&self, pid: u32, now: Instant) -> Option<u64> {
        let path = format!("/proc/{pid}/fd");
        // Linux 6.2 and later say how many there are in the directory's size.
        let size = fs::metadata(&path).ok()?.size();
        if size > 0 {
            return Some(size);
        }
        if let Some((at, whose, count)) = self.counted.get()
            && whose == pid
            && now.saturating_duration_since(at) < COUNT_PAUSE
        {
            return Some(count);
        }
        let count = fs::read_dir(&path).ok()?.count() as u64;
        self.counted.set(Some((now, pid, count)));
        Some(count)
    }
}

/// The limit in force; without one, the largest number there is.
fn max_fds(pid: u32) -> Option<u64> {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    Some(line.split_ascii_whitespace().next()?.parse().unwrap_or(u64::MAX))
}

/// When the machine was started, Unix time. Asked once: one of the two clocks is set at times, and a process
/// has one start. `/proc/stat` has it too, and may be hidden from a service.
static BOOTED: LazyLock<f64> = LazyLock::new(|| {
    let up = clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(up).as_secs_f64()
});

fn ticks_per_second() -> f64 {
    static TICKS: LazyLock<f64> = LazyLock::new(|| {
        let ticks = sysconf(SysconfVar::CLK_TCK).ok().flatten();
        ticks.and_then(|ticks| u32::try_from(ticks).ok()).map_or(100.0, f64::from)
    });
    *TICKS
}

fn hundredths(seconds: f64) -> f64 {
    (seconds * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_seen_and_a_gone_one_is_not() {
        let looks = Looks::default();
        let files: Vec<_> = (0..20).map(|_| fs::File::open("/proc/self/stat").unwrap()).collect();
        let usage = looks.at(std::process::id(), Instant::now()).unwrap();
        assert!(usage.open_fds >= files.len() as u64 && usage.open_fds <= usage.max_fds, "{usage:?}");
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
        assert!(usage.start_time_s > now - 3_600.0 && usage.start_time_s < now + 2.0, "{usage:?} at {now}");
        assert_eq!(looks.at(u32::MAX, Instant::now()), None);
    }

    #[test]
    fn work_is_seen_as_time() {
        let looks = Looks::default();
        let cpu_seconds = || looks.at(std::process::id(), Instant::now()).unwrap().cpu_seconds;
        let before = cpu_seconds();
        while cpu_seconds() <= before {}
    }
}
