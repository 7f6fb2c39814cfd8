//! The supervisor's one loop: waits for signals, children and control clients, and never for one only.

use std::fmt;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::control::{Control, UPGRADE, Wants};
use crate::crew::Crew;
use crate::crew::upgrade::Leap;
use crate::error::StartError;
use crate::handover::{self, Document, Purpose};
use crate::inherited::{Kept, Places};
use crate::signals::{Signals, Wish};
use crate::{CONTROL_SOCKET, NAME, Plan, Reload, STORAGE_SOCKET, run_dir, unix};

/// How a host's life ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Asked to stop, it drained and ended in order.
    Drained,
    /// It could not go on, or somebody had to be killed; a line on standard error says who and why.
    Failed,
}

/// What this process executes, whatever has become of its file.
const OWN_EXECUTABLE: &str = "/proc/self/exe";

struct Host<'a> {
    reload: Reload<'a>,
    crew: Crew,
    control: Control,
    signals: Signals,
}

/// Something to look at after a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Signals,
    NewClient,
    Client(usize),
    Child(usize),
}

pub(crate) fn run(plan: Plan, reload: Reload<'_>) -> Result<Outcome, StartError> {
    let signals = Signals::block().map_err(|error| StartError::System { what: "receive signals", error })?;
    raise_open_files();
    let run_dir = run_dir(&plan.lock);
    let (control, storage_socket) = open_run_dir(&run_dir, plan.workers)
        .map_err(|error| StartError::DataDir { path: run_dir.clone(), error })?;
    let crew = Crew::new(plan, storage_socket, Instant::now());
    Ok(live_out(Host { reload, crew, control, signals }, &run_dir))
}

/// Goes on where the executable before has left off; `fault` is why it cannot, and then it goes back.
pub(crate) fn resume(
    plan: Plan,
    Places { storage, control, slots }: Places,
    kept: Kept,
    fault: Option<String>,
    reload: Reload<'_>,
) -> Result<Outcome, StartError> {
    let signals = Signals::block().map_err(|error| StartError::System { what: "receive signals", error })?;
    let now = Instant::now();
    let run_dir = run_dir(&plan.lock);
    let control = Control::new(control, plan.workers);
    let mut crew = Crew::resume(plan, storage, slots, kept, now);
    if let Some(fault) = fault {
        crew.go_back(&fault, now);
    }
    crew.reap(true, now); // whoever ended while nobody looked
    Ok(live_out(Host { reload, crew, control, signals }, &run_dir))
}

fn live_out(mut host: Host<'_>, run_dir: &Path) -> Outcome {
    if let Err(error) = host.live() {
        host.crew.kill_all(&format!("cannot go on ({error})"));
    }
    let outcome = host.crew.outcome();
    for socket in [CONTROL_SOCKET, STORAGE_SOCKET] {
        let _ = fs::remove_file(run_dir.join(socket)); // the next start replaces what is left
    }
    host.crew.into_plan().lock.release();
    outcome
}

impl Host<'_> {
    fn live(&mut self) -> io::Result<()> {
        while self.crew.advance(Instant::now()) {
            let sources = self.wait()?;
            let now = Instant::now();
            let mut clients = Vec::new();
            let (mut has_child_ended, mut has_new_client) = (false, false);
            for source in sources {
                match source {
                    Source::Signals => has_child_ended |= self.take_signals(now)?,
                    Source::NewClient => has_new_client = true,
                    Source::Client(index) => clients.push(index),
                    Source::Child(index) => self.crew.hear(index, now),
                }
            }
            self.crew.reap(has_child_ended, now);
            if self.crew.is_to_reload() {
                let reloaded = (self.reload)(self.crew.settings());
                self.crew.reload(reloaded);
            }
            self.crew.try_upgrade(self.control.listener(), now);
            if let Some(leap) = self.crew.leap(now) {
                let refusal = self.execute(&leap, now);
                self.crew.stayed(&leap, &refusal.to_string(), now);
            }
            let crew = &mut self.crew;
            self.control.serve(&clients, now, |request| answer(crew, request, now));
            // Behind those who have waited: a newcomer may push out the oldest, and shifts the count.
            if has_new_client {
                self.control.accept(now);
            }
        }
        Ok(())
    }

    /// Becomes another executable. Returns only if that is refused.
    fn execute(&self, leap: &Leap, now: Instant) -> io::Error {
        let crew = &self.crew;
        let body = crew.body(self.control.listener(), now);
        let mut fds = crew.fds();
        fds.push(self.control.listener());
        match (leap, crew.way_back()) {
            (Leap::ToNew, _) => match File::open(OWN_EXECUTABLE) {
                Ok(old) => {
                    fds.push(old.as_fd());
                    let document = Document::new(Purpose::Upgrade(old.as_raw_fd()), body);
                    handover::execute(&crew.executable().path, crew.executable(), &document, &fds)
                }
                Err(error) => error,
            },
            (Leap::Back(failure), Some(old)) => {
                let document = Document::new(Purpose::Back(failure.clone()), body);
                let program = PathBuf::from(format!("/proc/self/fd/{}", old.as_raw_fd()));
                handover::execute(&program, crew.executable(), &document, &fds)
            }
            (Leap::Back(_), None) => io::ErrorKind::NotFound.into(),
        }
    }

    /// Waits for the next thing to do; an empty answer: some deadline has come.
    fn wait(&self) -> io::Result<Vec<Source>> {
        let mut sources = vec![Source::Signals, Source::NewClient];
        let mut fds = vec![
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.control.listener(), PollFlags::POLLIN),
        ];
        for (index, (fd, wants)) in self.control.clients().enumerate() {
            sources.push(Source::Client(index));
            let flags = if wants == Wants::ToWrite { PollFlags::POLLOUT } else { PollFlags::POLLIN };
            fds.push(PollFd::new(fd, flags));
        }
        for (index, fd) in self.crew.lifelines() {
            sources.push(Source::Child(index));
            fds.push(PollFd::new(fd, PollFlags::POLLIN));
        }
        match poll(&mut fds, self.timeout(Instant::now())) {
            Ok(_) => {}
            Err(Errno::EINTR) => return Ok(Vec::new()),
            Err(errno) => return Err(errno.into()),
        }
        let happened = fds.iter().map(|fd| fd.any().unwrap_or(true));
        Ok(sources.into_iter().zip(happened).filter_map(|(source, yes)| yes.then_some(source)).collect())
    }

    fn timeout(&self, now: Instant) -> PollTimeout {
        let deadlines = [self.crew.next_deadline(now), self.control.next_deadline()];
        match deadlines.into_iter().flatten().min() {
            None => PollTimeout::NONE,
            Some(deadline) => {
                // Rounded up, so as not to spin through the last millisecond.
                let wait = deadline.saturating_duration_since(now) + Duration::from_millis(1);
                PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX)
            }
        }
    }

    /// Whether a child has ended.
    fn take_signals(&mut self, now: Instant) -> io::Result<bool> {
        let mut has_child_ended = false;
        while let Some(wish) = self.signals.next()? {
            match wish {
                Wish::Stop => self.crew.stop(now),
                Wish::Reload => self.crew.ask_to_reload(),
                Wish::Upgrade => self.crew.ask_to_upgrade(),
                Wish::ChildEnded => has_child_ended = true,
            }
        }
        Ok(has_child_ended)
    }
}

/// The answer line to a control client.
fn answer(crew: &mut Crew, request: &str, now: Instant) -> String {
    let status = match request {
        "status" => serde_json::to_string(&crew.status(now)),
        UPGRADE => {
            crew.ask_to_upgrade();
            serde_json::to_string(&serde_json::json!({"asked": true}))
        }
        _ => serde_json::to_string(
            &serde_json::json!({"error": "unknown request; there are: status, upgrade"}),
        ),
    };
    status.unwrap_or_else(|error| format!("{{\"error\":\"{}\"}}", error.to_string().escape_default()))
}

/// One line for the operator.
pub(crate) fn say(text: fmt::Arguments<'_>) {
    write_line("<6>", text);
}

/// One line for the operator about something that should not be.
pub(crate) fn complain(text: fmt::Arguments<'_>) {
    write_line("<4>", text);
}

/// A closed standard error is no reason to end. journald takes the level from the line's beginning.
fn write_line(level: &str, text: fmt::Arguments<'_>) {
    static HAS_JOURNAL: LazyLock<bool> = LazyLock::new(|| std::env::var_os("JOURNAL_STREAM").is_some());
    let level = if *HAS_JOURNAL { level } else { "" };
    let _ = io::stderr().write_all(format!("{level}{NAME}: {text}\n").as_bytes());
}

/// The private directory with the two sockets in it.
fn open_run_dir(run_dir: &Path, workers: u16) -> io::Result<(Control, UnixListener)> {
    DirBuilder::new().recursive(true).mode(0o700).create(run_dir)?;
    Ok((Control::bind(run_dir, workers)?, unix::bind(run_dir, STORAGE_SOCKET)?))
}

/// As many open files as this user may have; inherited by the workers, which need one per client.
/// Refused, the host serves as many clients as it can.
fn raise_open_files() {
    if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, most, most);
    }
}
