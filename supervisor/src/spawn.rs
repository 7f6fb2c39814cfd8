//! Starting a child and holding on to it.
//!
//! Children are fresh executions, never forks that go on: whatever state the supervisor is in, the
//! thousandth child starts as clean as the first. The program is named through `/proc/self/exe`, so a
//! host goes on with the version it was started with while an upgrade replaces the file on disk.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{self, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::NAME;
use crate::handover::adopt;
use crate::lifeline::{Lifeline, Line};
use crate::message::{FromChild, Start};
use crate::pulse::{Health, Pulse};
use crate::rates::Rates;
use crate::restart::End;
use crate::status::NO_REPORT;

/// How every child is started.
#[derive(Clone, Debug)]
pub struct Program {
    /// The executable.
    pub path: PathBuf,
    /// Arguments before `role NAME --id N`.
    pub arguments: Vec<OsString>,
}

impl Program {
    /// The running executable itself, whatever has become of its file.
    pub fn same() -> Program {
        Program { path: PathBuf::from("/proc/self/exe"), arguments: Vec::new() }
    }
}

/// Time between closing the lifeline and ending, for a child that was not told to drain: its last
/// lines, its destructors.
const LEAVE_TIME: Duration = Duration::from_secs(2);

/// A running child. Dropped, it is killed and waited for: none is ever left behind.
#[derive(Debug)]
pub(crate) struct Process {
    pid: Pid,
    /// Which change of the host it was started by.
    generation: u32,
    /// See [`Start::seat`].
    seat: u16,
    lifeline: Option<Lifeline>,
    /// Since when a child that was not told to drain has had no lifeline.
    leaving_since: Option<Instant>,
    is_draining: bool,
    started: Instant,
    ready_since: Option<Instant>,
    /// Whether it still works; known once it serves.
    pulse: Option<Pulse>,
    /// Longest time it may leave a question without an answer.
    hang_timeout: Duration,
    is_killed: bool,
    /// Its last report; an empty object until the first.
    report: Value,
    rates: Rates,
    ended: bool,
}

/// News from a child that the host acts on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// It serves from now on.
    Ready,
    /// It broke the protocol and must go; the text says how.
    Broken(String),
}

impl Process {
    pub(crate) fn start(
        program: &Program,
        start: &Start,
        fds: &[BorrowedFd<'_>],
        hang_timeout: Duration,
        generation: u32,
        now: Instant,
    ) -> io::Result<Process> {
        let (lifeline, stdin) = Lifeline::open(start, fds)?;
        let child = Command::new(&program.path)
            .arg0(NAME)
            .args(&program.arguments)
            .args(["role", &start.role, "--id", &start.id.to_string()])
            .stdin(Stdio::from(stdin))
            .spawn()?;
        Ok(Process {
            // From here on by its pid: `std` cannot take up a child that an earlier executable has started.
            pid: Pid::from_raw(i32::try_from(child.id()).map_err(io::Error::other)?),
            generation,
            seat: start.seat,
            lifeline: Some(lifeline),
            leaving_since: None,
            is_draining: false,
            started: now,
            ready_since: None,
            pulse: None,
            hang_timeout,
            is_killed: false,
            report: NO_REPORT.clone(),
            rates: Rates::default(),
            ended: false,
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid.as_raw().unsigned_abs()
    }

    pub(crate) fn generation(&self) -> u32 {
        self.generation
    }

    pub(crate) fn seat(&self) -> u16 {
        self.seat
    }

    /// Told to drain or to leave.
    pub(crate) fn is_draining(&self) -> bool {
        self.is_draining
    }

    pub(crate) fn is_killed(&self) -> bool {
        self.is_killed
    }

    /// Whether it has said that it serves, and nobody has killed it since.
    pub(crate) fn is_ready(&self) -> bool {
        self.ready_since.is_some() && !self.is_killed
    }

    /// Asks it whether it works, if that is due.
    pub(crate) fn ask(&mut self, now: Instant) {
        if let (Some(pulse), Some(lifeline)) = (&mut self.pulse, &self.lifeline)
            && pulse.is_due(now)
        {
            lifeline.ask();
            pulse.asked(now);
        }
    }

    /// What it has answered; a child that comes up, drains or was killed has nothing to answer.
    pub(crate) fn health(&self, now: Instant) -> Health {
        self.pulse.as_ref().map_or(Health::Well, |pulse| pulse.health(now))
    }

    /// When to look at its answers again.
    pub(crate) fn next_look(&self, now: Instant) -> Option<Instant> {
        self.pulse.as_ref().map(|pulse| pulse.next_look(now))
    }

    /// Gives it its time anew: the supervisor could not hear its answer.
    pub(crate) fn forgive(&mut self, now: Instant) {
        if let Some(pulse) = &mut self.pulse {
            pulse.forgive(now);
        }
    }

    pub(crate) fn report(&self) -> &Value {
        &self.report
    }

    /// How fast the counters of its reports grow.
    pub(crate) fn rates(&self) -> &Map<String, Value> {
        self.rates.current()
    }

    /// For how long it has run.
    pub(crate) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.started)
    }

    /// For how long it has been ready; none: it never was.
    pub(crate) fn served(&self, now: Instant) -> Option<Duration> {
        self.ready_since.map(|since| now.saturating_duration_since(since))
    }

    /// The lifeline to poll, while it is open.
    pub(crate) fn lifeline(&self) -> Option<BorrowedFd<'_>> {
        self.lifeline.as_ref().map(Lifeline::as_fd)
    }

    /// Takes in what the child has said. One that breaks the protocol is killed.
    pub(crate) fn receive(&mut self, now: Instant) -> Vec<News> {
        let Some(lifeline) = &mut self.lifeline else { return Vec::new() };
        let (messages, line) = lifeline.receive();
        let mut news = Vec::new();
        for message in messages {
            match message {
                FromChild::Ready(_) if self.ready_since.is_some() => {}
                FromChild::Ready(_) => {
                    self.ready_since = Some(now);
                    self.pulse = (!self.is_draining).then(|| Pulse::new(self.hang_timeout, now));
                    news.push(News::Ready);
                }
                FromChild::Alive(_) => {
                    if let Some(pulse) = &mut self.pulse {
                        pulse.answered(now);
                    }
                }
                FromChild::Report(report) => {
                    self.rates.take(&report, now);
                    self.report = report;
                }
            }
        }
        match line {
            Line::Open => return news,
            Line::Closed => self.leaving_since = (!self.is_draining).then_some(now),
            Line::Broken(how) => {
                news.push(News::Broken(how));
                self.kill();
            }
        }
        self.lifeline = None;
        news
    }

    /// Tells it to drain; a child that cannot be told is killed. One that is leaving already is left
    /// to it.
    pub(crate) fn drain(&mut self) {
        self.dismiss(Lifeline::drain);
    }

    /// Tells it that it has a successor; otherwise like [`Process::drain`].
    pub(crate) fn leave(&mut self) {
        self.dismiss(Lifeline::leave);
    }

    fn dismiss(&mut self, tell: impl FnOnce(&Lifeline) -> io::Result<()>) {
        let Some(lifeline) = &self.lifeline else { return };
        match tell(lifeline) {
            // Its work ends in any order; the drain time is its limit from here.
            Ok(()) => (self.is_draining, self.pulse) = (true, None),
            Err(_) => self.kill(),
        }
    }

    /// Kills a child that closed its lifeline, so that it cannot be led any more, and does not end.
    pub(crate) fn hurry(&mut self, now: Instant) {
        if self.leaving_since.is_some_and(|since| now.saturating_duration_since(since) >= LEAVE_TIME) {
            self.kill();
        }
    }

    /// Only fails where there is nothing left to kill.
    pub(crate) fn kill(&mut self) {
        (self.is_killed, self.pulse) = (true, None);
        // Until it is reaped, which is when `ended` is set, the pid is nobody else's.
        if !self.ended {
            let _ = signal::kill(self.pid, Signal::SIGKILL);
        }
    }

    /// How it ended, if it has; known only once the child is reaped.
    pub(crate) fn end(&mut self) -> Option<End> {
        let end = match waitpid(self.pid, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(_, code)) => End::Exited(code),
            Ok(WaitStatus::Signaled(_, signal, _)) => End::Killed(signal as i32),
            Ok(_) | Err(Errno::EINTR) => return None,
            // Reaped by the kernel, as when SIGCHLD was ignored by who started us.
            Err(_) => End::Unknown,
        };
        self.ended = true;
        Some(end)
    }
}

/// A [`Process`] in a form that outlives an executable. Times are how long ago something was.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ProcessParts {
    pid: i32,
    generation: u32,
    seat: u16,
    lifeline: Option<(RawFd, Vec<u8>)>,
    leaving: Option<Duration>,
    is_draining: bool,
    age: Duration,
    served: Option<Duration>,
    is_killed: bool,
    report: Value,
}

impl ProcessParts {
    pub(crate) fn of(process: &Process, now: Instant) -> ProcessParts {
        let ago = |since: Instant| now.saturating_duration_since(since);
        ProcessParts {
            pid: process.pid.as_raw(),
            generation: process.generation,
            seat: process.seat,
            lifeline: process
                .lifeline
                .as_ref()
                .map(|line| (line.as_fd().as_raw_fd(), line.unread().to_vec())),
            leaving: process.leaving_since.map(ago),
            is_draining: process.is_draining,
            age: process.age(now),
            served: process.served(now),
            is_killed: process.is_killed,
            report: process.report.clone(),
        }
    }

    pub(crate) fn into_process(self, hang_timeout: Duration, now: Instant) -> io::Result<Process> {
        let since = |ago: Duration| now.checked_sub(ago).unwrap_or(now);
        let lifeline =
            self.lifeline.map(|(number, unread)| Ok(Lifeline::handed_over(adopt(number)?, &unread)));
        let is_asked = self.served.is_some() && !self.is_draining && !self.is_killed;
        Ok(Process {
            pid: Pid::from_raw(self.pid),
            generation: self.generation,
            seat: self.seat,
            lifeline: lifeline.transpose().map_err(|error: io::Error| error)?,
            leaving_since: self.leaving.map(since),
            is_draining: self.is_draining,
            started: since(self.age),
            ready_since: self.served.map(since),
            pulse: is_asked.then(|| Pulse::new(hang_timeout, now)),
            hang_timeout,
            is_killed: self.is_killed,
            report: self.report,
            rates: Rates::default(),
            ended: false,
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.ended {
            self.kill();
            while waitpid(self.pid, None) == Err(Errno::EINTR) {}
        }
    }
}
