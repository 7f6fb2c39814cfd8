//! Waiting for sockets with the grain of a schedule.

use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::time::Duration;

use mio::{Events, Poll};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;

/// Fetches events, waiting for the first no longer than `longest`. Epoll counts in milliseconds,
/// too coarse for a schedule, so it only fetches what is there and `ppoll` does the waiting.
pub fn wait(poll: &mut Poll, events: &mut Events, longest: Duration) -> io::Result<()> {
    fetch(poll, events)?;
    if !events.is_empty() || longest.is_zero() {
        return Ok(());
    }
    let epoll = PollFd::new(poll.registry().as_fd(), PollFlags::POLLIN);
    match ppoll(&mut [epoll], Some(TimeSpec::from_duration(longest)), None) {
        Ok(0) | Err(Errno::EINTR) => Ok(()),
        Ok(_) => fetch(poll, events),
        Err(why) => Err(why.into()),
    }
}

fn fetch(poll: &mut Poll, events: &mut Events) -> io::Result<()> {
    match poll.poll(events, Some(Duration::ZERO)) {
        Err(why) if why.kind() == ErrorKind::Interrupted => {
            events.clear();
            Ok(())
        }
        outcome => outcome,
    }
}
