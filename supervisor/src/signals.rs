//! Signals as something to poll: blocked for the whole process and read from a descriptor.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// What a signal means to the supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// SIGTERM or SIGINT.
    Stop,
    /// SIGHUP.
    Reload,
    /// SIGUSR2.
    Upgrade,
    /// SIGCHLD; one may stand for several children.
    ChildEnded,
}

pub(crate) struct Signals(SignalFd);

impl Signals {
    /// Blocks the signals for this thread and all children. Call before anything is spawned.
    pub(crate) fn block() -> io::Result<Signals> {
        let mut set = SigSet::empty();
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR2, Signal::SIGCHLD] {
            set.add(signal);
        }
        set.thread_block()?;
        Ok(Signals(SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?))
    }

    /// The next one that has arrived, if any.
    pub(crate) fn next(&self) -> io::Result<Option<Wish>> {
        let Some(info) = self.0.read_signal()? else { return Ok(None) };
        let signal = i32::try_from(info.ssi_signo).ok().and_then(|number| Signal::try_from(number).ok());
        Ok(match signal {
            Some(Signal::SIGTERM | Signal::SIGINT) => Some(Wish::Stop),
            Some(Signal::SIGHUP) => Some(Wish::Reload),
            Some(Signal::SIGUSR2) => Some(Wish::Upgrade),
            _ => Some(Wish::ChildEnded),
        })
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
