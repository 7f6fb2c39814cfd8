//! The child's side: being adopted by the supervisor and staying in touch with it.
//!
//! A child calls [`Child::adopt`] before anything else, on its main thread, so that it can never
//! outlive its supervisor and so that the threads it starts inherit its signal mask. It then takes
//! its descriptors, turns itself into a [`Lifeline`], says `ready` once it serves, reports at least
//! once a second, proves that it works whenever it is asked, and finishes when told to drain.

use std::ffi::CString;
use std::fmt;
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::socket::{self, ControlMessageOwned, MsgFlags};
use nix::unistd;
use serde::de::DeserializeOwned;

use crate::lines::Lines;
use crate::message::{COMMAND_BYTES, START_BYTES, START_FDS, Start};
use crate::unix;

mod lifeline;

pub use lifeline::{Command, Lifeline};

/// Exit code of a child that drained.
pub const EXIT_DRAINED: u8 = 0;
/// Exit code of a child that cannot live: its data is damaged or its directory unusable, so starting
/// it again would not help. It has said why in one line on standard error.
pub const EXIT_CANNOT_LIVE: u8 = 3;

/// A process that was started by a supervisor and knows what it is to do.
#[derive(Debug)]
pub struct Child {
    start: Start,
    fds: Vec<(String, OwnedFd)>,
    stream: UnixStream,
    commands: Lines,
}

/// Why a process could not become a child.
#[derive(Debug)]
pub enum ChildError {
    /// Standard input is not a lifeline: somebody started the role by hand.
    NotSupervised,
    /// The supervisor died before this process could tie its life to it.
    Orphaned,
    /// The start message is not one; the text says how.
    BadStart(String),
    /// The system refused.
    Io(io::Error),
}

impl Child {
    /// Takes the start message from standard input, which is `/dev/null` from then on.
    ///
    /// From here on the kernel kills this process when the supervisor dies, and a SIGINT, SIGTERM or
    /// SIGHUP sent to the whole group leaves it alone: the supervisor decides, by a command.
    pub fn adopt() -> Result<Child, ChildError> {
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        block_group_signals()?;
        let stream = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        let child = Child::from_stream(stream)?;
        if unistd::getppid().as_raw() != i32::try_from(child.start.supervisor_pid).unwrap_or(0) {
            return Err(ChildError::Orphaned);
        }
        unistd::dup2_stdin(File::open("/dev/null")?)?;
        restore_process_name()?;
        Ok(child)
    }

    /// `storage`, `worker`, …
    pub fn role(&self) -> &str {
        &self.start.role
    }

    /// Which of its role it is, from 0.
    pub fn id(&self) -> u16 {
        self.start.id
    }

    /// Which of the living processes of its role it is: no two have the same. A worker and its successor
    /// have the same [`Child::id`], which is this modulo the number of workers.
    pub fn seat(&self) -> u16 {
        self.start.seat
    }

    /// The settings that the supervisor was started with.
    pub fn settings<T: DeserializeOwned>(&self) -> Result<T, ChildError> {
        T::deserialize(&self.start.settings)
            .map_err(|error| ChildError::BadStart(format!("settings: {error}")))
    }

    /// The attached descriptors of that name, in the supervisor's order; each is handed out once.
    pub fn take_fds(&mut self, name: &str) -> Vec<OwnedFd> {
        self.fds.extract_if(.., |(its, _)| its == name).map(|(_, fd)| fd).collect()
    }

    /// Keeps only the line to the supervisor; descriptors not taken are closed.
    pub fn into_lifeline(self) -> Lifeline {
        Lifeline::new(self.stream, self.commands)
    }

    fn from_stream(stream: UnixStream) -> Result<Child, ChildError> {
        let (line, rest, fds) = receive_start(&stream)?;
        let start: Start =
            serde_json::from_slice(&line).map_err(|error| ChildError::BadStart(error.to_string()))?;
        if start.fds.len() != fds.len() {
            let text = format!("{} descriptors named, {} attached", start.fds.len(), fds.len());
            return Err(ChildError::BadStart(text));
        }
        let fds = start.fds.iter().cloned().zip(fds).collect();
        let mut commands = Lines::new(COMMAND_BYTES);
        commands.push(&rest);
        Ok(Child { start, fds, stream, commands })
    }
}

/// Blocks rather than ignores: a blocked signal stays pending and harms nobody, and the mask, unlike
/// a handler, was already inherited from the supervisor, so there is no moment without it.
fn block_group_signals() -> nix::Result<()> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        signals.add(signal);
    }
    signals.thread_block()?;
    let mut child_ended = SigSet::empty();
    child_ended.add(Signal::SIGCHLD); // the supervisor's own need, inherited too
    child_ended.thread_unblock()
}

/// Started through `/proc/self/exe`, the kernel calls this process `exe`; `pgrep` and `top` should
/// show the program's name instead.
fn restore_process_name() -> nix::Result<()> {
    let program = std::env::args_os().next().unwrap_or_default();
    let name = std::path::Path::new(&program).file_name().unwrap_or_default();
    match CString::new(name.as_encoded_bytes()) {
        Ok(name) if !name.is_empty() => prctl::set_name(&name),
        _ => Ok(()),
    }
}

type StartParts = (Vec<u8>, Vec<u8>, Vec<OwnedFd>);

/// The start line, the bytes that came after it, and the descriptors.
fn receive_start(stream: &UnixStream) -> Result<StartParts, ChildError> {
    let mut bytes = Vec::new();
    let mut fds = Vec::new();
    let mut chunk = vec![0; 64 << 10];
    loop {
        let count = receive(stream, &mut chunk, &mut fds)?;
        if count == 0 {
            return Err(ChildError::Orphaned);
        }
        bytes.extend_from_slice(&chunk[..count]);
        if let Some(at) = bytes.iter().position(|b| *b == b'\n') {
            let rest = bytes.split_off(at + 1);
            return Ok((bytes, rest, fds));
        }
        if bytes.len() > START_BYTES {
            return Err(ChildError::BadStart("it does not end".to_owned()));
        }
    }
}

fn receive(stream: &UnixStream, chunk: &mut [u8], fds: &mut Vec<OwnedFd>) -> Result<usize, ChildError> {
    let mut space = cmsg_space!([RawFd; START_FDS]);
    let mut slices = [IoSliceMut::new(chunk)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    // Not interrupted: no handler is installed this early.
    let message = match socket::recvmsg::<()>(stream.as_raw_fd(), &mut slices, Some(&mut space), flags) {
        Err(Errno::ENOTSOCK) => return Err(ChildError::NotSupervised),
        other => other?,
    };
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(received) = control {
            fds.extend(received.into_iter().map(unix::own));
        }
    }
    Ok(message.bytes)
}

impl fmt::Display for ChildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ChildError::NotSupervised => f.write_str("roles are started by the supervisor; use `serve`"),
            ChildError::Orphaned => f.write_str("the supervisor is gone"),
            ChildError::BadStart(text) => write!(f, "bad start message from the supervisor: {text}"),
            ChildError::Io(error) => write!(f, "cannot be adopted: {error}"),
        }
    }
}

impl std::error::Error for ChildError {}

impl From<io::Error> for ChildError {
    fn from(error: io::Error) -> ChildError {
        ChildError::Io(error)
    }
}

impl From<Errno> for ChildError {
    fn from(errno: Errno) -> ChildError {
        ChildError::Io(errno.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifeline;
    use serde_json::{Value, json};
    use std::io::Write;

    fn start(settings: Value, fds: &[&str]) -> Start {
        let fds = fds.iter().map(|name| (*name).to_owned()).collect();
        Start { role: "worker".to_owned(), id: 3, seat: 3, supervisor_pid: 1, settings, fds }
    }

    #[test]
    fn the_start_message_arrives_with_its_descriptors_in_order() {
        let files: Vec<File> = (0..3).map(|_| tempfile::tempfile().unwrap()).collect();
        for (index, mut file) in files.iter().enumerate() {
            write!(file, "{index}").unwrap();
        }
        let fds: Vec<_> = files.iter().map(AsFd::as_fd).collect();
        let start = start(json!({"text": "x".repeat(100_000)}), &["listen", "lock", "listen"]);
        let (supervisor, stdin) = lifeline::Lifeline::open(&start, &fds).unwrap();
        supervisor.drain().unwrap();

        let mut child = Child::from_stream(UnixStream::from(stdin)).unwrap();
        assert_eq!((child.role(), child.id()), ("worker", 3));
        let settings: Value = child.settings().unwrap();
        assert_eq!(settings["text"].as_str().unwrap().len(), 100_000);
        child.settings::<Vec<u8>>().unwrap_err();
        for (name, contents) in [("listen", &["0", "2"][..]), ("lock", &["1"]), ("lock", &[])] {
            let taken = child.take_fds(name).into_iter().map(|fd| {
                use std::os::unix::fs::FileExt;
                let mut byte = [0];
                File::from(fd).read_exact_at(&mut byte, 0).unwrap();
                String::from_utf8_lossy(&byte).into_owned()
            });
            assert_eq!(taken.collect::<Vec<_>>(), contents, "{name}");
        }
        assert_eq!(child.into_lifeline().next_command().unwrap(), Some(Command::Drain));
    }

    #[test]
    fn settings_past_the_limit_start_nobody() {
        let start = start(json!("x".repeat(START_BYTES)), &[]);
        lifeline::Lifeline::open(&start, &[]).unwrap_err();
    }

    #[test]
    fn what_is_no_start_message_is_an_error() {
        for (text, expected) in [("hello\n", "bad start"), ("{}\n", "bad start"), ("{", "gone")] {
            let (mut supervisor, stream) = UnixStream::pair().unwrap();
            supervisor.write_all(text.as_bytes()).unwrap();
            drop(supervisor);
            let error = Child::from_stream(stream).unwrap_err().to_string();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }

    #[test]
    fn descriptors_that_do_not_match_their_names_are_an_error() {
        let file = tempfile::tempfile().unwrap();
        let start = start(Value::Null, &["lock", "listen"]);
        let (_supervisor, stdin) = lifeline::Lifeline::open(&start, &[file.as_fd()]).unwrap();
        let error = Child::from_stream(UnixStream::from(stdin)).unwrap_err();
        assert!(matches!(error, ChildError::BadStart(_)), "{error}");
    }
}
