//! The supervisor's end of a child's lifeline. Never waits, whatever the child does.

use std::io::{self, IoSlice, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::sys::socket::{self, ControlMessage, MsgFlags};

use crate::lines::Lines;
use crate::message::{
    self, ASK, DRAIN, FromChild, LEAVE, REPORT_BYTES, START_BYTES, START_FDS, Start, ToChild,
};

/// Bytes taken from one child per turn, so that a talkative one cannot keep the others waiting.
const READ_BYTES: usize = 64 << 10;

#[derive(Debug)]
pub(crate) struct Lifeline {
    stream: UnixStream,
    lines: Lines,
}

/// How the line is after a read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    Open,
    /// The child has closed it, by dying as a rule.
    Closed,
    /// The child does not keep to the protocol.
    Broken(String),
}

impl Lifeline {
    /// A new line with the start message already in it, and the child's end.
    ///
    /// Sent before the child exists, so that there is nobody to wait for and nobody to kill if it
    /// fails: the kernel holds the message and the descriptors until the child reads.
    pub(crate) fn open(start: &Start, fds: &[BorrowedFd<'_>]) -> io::Result<(Lifeline, OwnedFd)> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let line = message::line(start)?;
        if line.len() > START_BYTES || fds.len() > START_FDS {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "more settings than a start message takes",
            ));
        }
        let fds: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        let attached = [ControlMessage::ScmRights(&fds)];
        let attached = if fds.is_empty() { &[] } else { &attached[..] };
        let flags = MsgFlags::MSG_NOSIGNAL;
        let sent = socket::sendmsg::<()>(ours.as_raw_fd(), &[IoSlice::new(&line)], attached, flags, None)?;
        if sent < line.len() {
            return Err(io::Error::other("the system's socket buffers are too small for a start message"));
        }
        Ok((Lifeline { stream: ours, lines: Lines::new(REPORT_BYTES) }, theirs.into()))
    }

    /// The line of the executable before, with what it had read and not used.
    pub(crate) fn handed_over(fd: OwnedFd, unread: &[u8]) -> Lifeline {
        let mut lines = Lines::new(REPORT_BYTES);
        lines.push(unread);
        Lifeline { stream: UnixStream::from(fd), lines }
    }

    /// The beginning of a line that is not all here.
    pub(crate) fn unread(&self) -> &[u8] {
        self.lines.rest()
    }

    /// What the child has said since the last call, as far as one read goes.
    pub(crate) fn receive(&mut self) -> (Vec<FromChild>, Line) {
        let mut bytes = [0; READ_BYTES];
        let line = match self.stream.read(&mut bytes) {
            Ok(0) => Line::Closed,
            Ok(count) => {
                self.lines.push(&bytes[..count]);
                Line::Open
            }
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Line::Open,
                _ => Line::Closed,
            },
        };
        let mut messages = Vec::new();
        loop {
            match self.lines.next_line() {
                Ok(None) => return (messages, line),
                Err(_) => return (messages, Line::Broken("an endless line".to_owned())),
                Ok(Some(text)) => match serde_json::from_slice(&text) {
                    Ok(message) => messages.push(message),
                    Err(error) => return (messages, Line::Broken(error.to_string())),
                },
            }
        }
    }

    /// Tells the child to drain.
    pub(crate) fn drain(&self) -> io::Result<()> {
        self.dismiss(DRAIN)
    }

    /// Tells the child that it has a successor.
    pub(crate) fn leave(&self) -> io::Result<()> {
        self.dismiss(LEAVE)
    }

    fn dismiss(&self, command: &str) -> io::Result<()> {
        match self.send(command) {
            Err(Errno::EPIPE | Errno::ECONNRESET) => Ok(()), // it is dying: as good as drained
            other => Ok(other?),
        }
    }

    /// Asks the child whether it is alive. One that cannot be asked will not answer.
    pub(crate) fn ask(&self) {
        let _ = self.send(ASK);
    }

    fn send(&self, command: &str) -> Result<(), Errno> {
        // Cannot fail: an object of one text. An empty line would be one that the child refuses.
        let line = message::line(&ToChild { command: command.to_owned() }).unwrap_or_default();
        socket::send(self.stream.as_raw_fd(), &line, MsgFlags::MSG_NOSIGNAL).map(drop)
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
