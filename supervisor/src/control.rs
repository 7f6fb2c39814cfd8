//! The control socket, `run/control.sock`: one request line, one answer line, closed.
//!
//! It answers while the TCP port is overloaded, and nobody can hold the supervisor up through it:
//! everything is non-blocking, the clients are bounded in number, and each has [`PATIENCE`] for its
//! whole visit.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::geteuid;

use crate::lines::Lines;
use crate::{CONTROL_SOCKET, RUN_DIR, unix};

/// Clients served at once beside the workers; one more pushes the oldest out.
const OTHER_CLIENTS: usize = 128;
/// Questions a worker may have open: its own, and that of its successor or predecessor.
const CLIENTS_PER_WORKER: usize = 2;
/// Longest time from connecting to having taken the answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Bytes of a request line.
const REQUEST_BYTES: usize = 256;

pub(crate) struct Control {
    listener: UnixListener,
    clients: Vec<Client>,
    most_clients: usize,
}

struct Client {
    stream: UnixStream,
    deadline: Instant,
    request: Lines,
    /// What is left to send, once the request is known.
    answer: Option<Vec<u8>>,
}

/// What to watch a client for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wants {
    ToRead,
    ToWrite,
}

impl Control {
    pub(crate) fn bind(run_dir: &Path, workers: u16) -> io::Result<Control> {
        let listener = unix::bind(run_dir, CONTROL_SOCKET)?;
        listener.set_nonblocking(true)?;
        Ok(Control::new(listener, workers))
    }

    /// On a socket that listens and never waits.
    pub(crate) fn new(listener: UnixListener, workers: u16) -> Control {
        let most_clients = OTHER_CLIENTS + CLIENTS_PER_WORKER * usize::from(workers);
        Control { listener, clients: Vec::new(), most_clients }
    }

    pub(crate) fn listener(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// The clients to watch, in the order that [`Control::serve`] counts them.
    pub(crate) fn clients(&self) -> impl Iterator<Item = (BorrowedFd<'_>, Wants)> {
        self.clients.iter().map(|client| {
            let wants = if client.answer.is_some() { Wants::ToWrite } else { Wants::ToRead };
            (client.stream.as_fd(), wants)
        })
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.clients.iter().map(|client| client.deadline).min()
    }

    /// Takes in whoever waits. Everybody but this user and root is turned away.
    pub(crate) fn accept(&mut self, now: Instant) {
        while let Ok((stream, _)) = self.listener.accept() {
            let peer = getsockopt(&stream, sockopt::PeerCredentials);
            let is_allowed = peer.is_ok_and(|peer| peer.uid() == geteuid().as_raw() || peer.uid() == 0);
            if !is_allowed || stream.set_nonblocking(true).is_err() {
                continue;
            }
            if self.clients.len() == self.most_clients {
                self.clients.remove(0); // the oldest: they are in order of arrival
            }
            let request = Lines::new(REQUEST_BYTES);
            self.clients.push(Client { stream, deadline: now + PATIENCE, request, answer: None });
        }
    }

    /// Goes on with the clients that can go on, and lets go of those that are done, gone or late.
    /// `answer` makes the line for a request, without its newline.
    pub(crate) fn serve(
        &mut self,
        can_go_on: &[usize],
        now: Instant,
        mut answer: impl FnMut(&str) -> String,
    ) {
        let mut index = 0;
        self.clients.retain_mut(|client| {
            let stays = !can_go_on.contains(&index) || client.go_on(&mut answer).unwrap_or(false);
            index += 1;
            stays && client.deadline > now
        });
    }
}

impl Client {
    /// Whether it is to be kept.
    fn go_on(&mut self, answer: &mut impl FnMut(&str) -> String) -> io::Result<bool> {
        if self.answer.is_none() {
            let mut bytes = [0; REQUEST_BYTES];
            match self.stream.read(&mut bytes) {
                Ok(0) => return Ok(false),
                Ok(count) => self.request.push(&bytes[..count]),
                Err(error) => return if waits(&error) { Ok(true) } else { Err(error) },
            }
            let Some(line) = self.request.next_line().map_err(|_| io::ErrorKind::InvalidData)? else {
                return Ok(true);
            };
            self.answer = Some((answer(String::from_utf8_lossy(&line).trim()) + "\n").into_bytes());
        }
        let Some(rest) = &mut self.answer else { return Ok(true) };
        while !rest.is_empty() {
            match self.stream.write(rest) {
                Ok(count) => drop(rest.drain(..count)),
                Err(error) => return if waits(&error) { Ok(true) } else { Err(error) },
            }
        }
        Ok(false)
    }
}

fn waits(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// The request for an upgrade.
pub(crate) const UPGRADE: &str = "upgrade";

/// Asks the supervisor of the host in `data_dir` for its status: one JSON object.
///
/// Waits `patience` at most for each step. No host there: `NotFound` or `ConnectionRefused`.
pub fn ask_status(data_dir: &Path, patience: Duration) -> io::Result<serde_json::Value> {
    ask(data_dir, "status", patience)
}

/// Asks it to go on as the executable that is at its path now; what comes of it is in the status, under
/// `change`. Otherwise like [`ask_status`]; a supervisor too old to know the request: `Unsupported`.
pub fn ask_to_upgrade(data_dir: &Path, patience: Duration) -> io::Result<()> {
    match ask(data_dir, UPGRADE, patience)?["error"].as_str() {
        Some(error) => Err(io::Error::new(io::ErrorKind::Unsupported, error)),
        None => Ok(()),
    }
}

fn ask(data_dir: &Path, request: &str, patience: Duration) -> io::Result<serde_json::Value> {
    let mut stream = unix::connect(&data_dir.join(RUN_DIR), CONTROL_SOCKET)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    stream.write_all(format!("{request}\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(serde_json::from_str(&answer)?)
}
