//! The line from a child to its supervisor, after the start message.

use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use nix::errno::Errno;
use nix::sys::socket::{self, MsgFlags};
use serde_json::Value;

use crate::lines::Lines;
use crate::message::{self, ASK, DRAIN, FromChild, LEAVE, REPORT_BYTES, ToChild};

/// What the supervisor wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Take nothing new, finish what was begun, exit with [`EXIT_DRAINED`](super::EXIT_DRAINED).
    Drain,
    /// A successor is at work: take nothing new, let clients go little by little, exit with
    /// [`EXIT_DRAINED`](super::EXIT_DRAINED). [`Command::Drain`] may still come: then there is a hurry.
    Leave,
}

/// The line to the supervisor; clones share it.
#[derive(Clone, Debug)]
pub struct Lifeline(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    stream: UnixStream,
    commands: Mutex<Lines>,
    /// The rest of a line that the socket took only in part; it must go out before any other.
    unsent: Mutex<Vec<u8>>,
    /// The supervisor has asked and was not answered.
    is_asked: AtomicBool,
}

impl Lifeline {
    pub(super) fn new(stream: UnixStream, commands: Lines) -> Lifeline {
        let (commands, unsent) = (Mutex::new(commands), Mutex::new(Vec::new()));
        Lifeline(Arc::new(Shared { stream, commands, unsent, is_asked: AtomicBool::new(false) }))
    }

    /// Says that this process serves. Waits if the supervisor is behind.
    pub fn ready(&self) -> io::Result<()> {
        let mut unsent = lock(&self.0.unsent);
        unsent.extend(message::line(&FromChild::Ready(true))?);
        (&self.0.stream).write_all(&unsent)?;
        unsent.clear();
        Ok(())
    }

    /// Sends figures for whoever asks for the status. Never waits: while the supervisor is behind,
    /// or another thread is sending, the report is dropped; the next one says more anyway.
    ///
    /// A report past 1 MiB is an error, as is a supervisor that is gone.
    pub fn report(&self, report: &Value) -> io::Result<()> {
        let line = message::line(&FromChild::Report(report.clone()))?;
        if line.len() > REPORT_BYTES {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a report of more than 1 MiB"));
        }
        self.offer(line).map(drop)
    }

    /// Says that this process does its work, if the supervisor has asked since the last time. Never
    /// waits. To be called several times a second by the very loop whose standing still would be a
    /// failure: a thread of its own would prove nothing.
    ///
    /// A supervisor that is gone is an error.
    pub fn prove_alive(&self) -> io::Result<()> {
        if self.0.is_asked.swap(false, Ordering::AcqRel)
            && !self.offer(message::line(&FromChild::Alive(true))?)?
        {
            self.0.is_asked.store(true, Ordering::Release); // said next time
        }
        Ok(())
    }

    /// Waits for the next command; none: the supervisor is gone. For a thread of its own.
    pub fn next_command(&self) -> io::Result<Option<Command>> {
        let mut lines = lock(&self.0.commands);
        let mut bytes = [0; 1024];
        loop {
            while let Some(line) = lines.next_line().map_err(|_| io::ErrorKind::InvalidData)? {
                let message: ToChild = serde_json::from_slice(&line)?;
                // A newer supervisor may know commands that this process does not: no reason to die.
                match message.command.as_str() {
                    DRAIN => return Ok(Some(Command::Drain)),
                    LEAVE => return Ok(Some(Command::Leave)),
                    ASK => self.0.is_asked.store(true, Ordering::Release),
                    _ => {}
                }
            }
            match (&self.0.stream).read(&mut bytes) {
                Ok(0) => return Ok(None),
                Ok(count) => lines.push(&bytes[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends a line if that needs no waiting; whether it was taken.
    fn offer(&self, line: Vec<u8>) -> io::Result<bool> {
        let mut unsent = match self.0.unsent.try_lock() {
            Ok(unsent) => unsent,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Ok(false),
        };
        if !self.push_out(&mut unsent)? {
            return Ok(false);
        }
        *unsent = line;
        self.push_out(&mut unsent)?;
        Ok(true)
    }

    /// Writes what it can without waiting; whether nothing is left.
    fn push_out(&self, unsent: &mut Vec<u8>) -> io::Result<bool> {
        while !unsent.is_empty() {
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            match socket::send(self.0.stream.as_raw_fd(), unsent, flags) {
                Ok(count) => drop(unsent.drain(..count)),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(false),
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(true)
    }
}

/// The data behind these locks is a byte queue, whole at every step: a panic elsewhere spoils nothing.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pair() -> (Lifeline, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Lifeline::new(ours, Lines::new(100)), theirs)
    }

    #[test]
    fn commands_arrive_and_unknown_ones_are_passed_over() {
        let (lifeline, mut supervisor) = pair();
        supervisor.write_all(b"{\"command\":\"dance\"}\n{\"command\":\"drain\"}\n").unwrap();
        assert_eq!(lifeline.next_command().unwrap(), Some(Command::Drain));
        drop(supervisor);
        assert_eq!(lifeline.next_command().unwrap(), None);
        lifeline.report(&json!({})).unwrap_err();
    }

    #[test]
    fn a_question_is_answered_once_and_only_when_asked() {
        let (lifeline, mut supervisor) = pair();
        lifeline.prove_alive().unwrap();
        for _ in 0..2 {
            supervisor.write_all(b"{\"command\":\"ask\"}\n{\"command\":\"drain\"}\n").unwrap();
            assert_eq!(lifeline.next_command().unwrap(), Some(Command::Drain));
            lifeline.prove_alive().unwrap();
            lifeline.prove_alive().unwrap();
        }
        drop(lifeline);
        let mut all = String::new();
        supervisor.read_to_string(&mut all).unwrap();
        assert_eq!(all, "{\"alive\":true}\n{\"alive\":true}\n");
    }

    #[test]
    fn an_answer_that_found_no_room_is_given_later() {
        let (lifeline, mut supervisor) = pair();
        supervisor.write_all(b"{\"command\":\"ask\"}\n{\"command\":\"drain\"}\n").unwrap();
        lifeline.next_command().unwrap();
        let long = json!({"text": "x".repeat(100_000)});
        for _ in 0..100 {
            lifeline.report(&long).unwrap();
        }
        lifeline.prove_alive().unwrap();
        let reader = std::thread::spawn(move || {
            let mut all = String::new();
            supervisor.read_to_string(&mut all).unwrap();
            all
        });
        while lifeline.0.is_asked.load(Ordering::Acquire) {
            lifeline.prove_alive().unwrap();
            std::thread::yield_now();
        }
        lifeline.ready().unwrap();
        drop(lifeline);
        let all = reader.join().unwrap();
        assert!(all.ends_with("{\"alive\":true}\n{\"ready\":true}\n"), "{}", all.len());
    }

    #[test]
    fn reports_to_a_stuck_supervisor_are_dropped_and_never_cut_short() {
        let (lifeline, mut supervisor) = pair();
        let long = json!({"text": "x".repeat(100_000)});
        for _ in 0..100 {
            lifeline.report(&long).unwrap();
        }
        let reader = std::thread::spawn(move || {
            let mut all = String::new();
            supervisor.read_to_string(&mut all).unwrap();
            all
        });
        lifeline.ready().unwrap();
        drop(lifeline);
        let all = reader.join().unwrap();
        let lines: Vec<Value> = all.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(lines.len() < 100, "{} lines", lines.len());
        assert_eq!(lines.last(), Some(&json!({"ready": true})));
    }

    #[test]
    fn a_report_past_the_limit_is_an_error() {
        let (lifeline, _supervisor) = pair();
        lifeline.report(&json!({"text": "x".repeat(REPORT_BYTES)})).unwrap_err();
    }
}
