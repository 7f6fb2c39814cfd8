//! SIGINT and SIGTERM as a wish to end the load early, while there is a load.
//!
//! The first one is heard here and ends the sending; what was sent is still waited for, judged and
//! reported. From then on they do what they always do, so a second one ends the program at once.
//! Before the threads are started and after they have ended nothing is held back either.

use std::io;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// Holds the signals back from the threads that are started while it is there.
pub struct Interrupt {
    set: SigSet,
    from: SignalFd,
    came: bool,
}

impl Interrupt {
    /// Holds them back from this thread and from those it starts.
    pub fn expect() -> io::Result<Interrupt> {
        let set: SigSet = [Signal::SIGINT, Signal::SIGTERM].into_iter().collect();
        set.thread_block()?;
        let from = SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        Ok(Interrupt { set, from, came: false })
    }

    /// Whether one has come.
    pub fn came(&mut self) -> bool {
        if !self.came && matches!(self.from.read_signal(), Ok(Some(_))) {
            self.came = true;
            self.set.thread_unblock().ok(); // else a second one waits for the end, too
        }
        self.came
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        self.set.thread_unblock().ok();
    }
}
