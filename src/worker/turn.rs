//! The worker's loop: wait, take in what there is, act, and send everything at the end.
//!
//! The worker's poll is nested in the runtime's: one readiness notice wakes the loop for any number
//! of connections.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use mio::Events;
use tokio::io::unix::AsyncFd;

use super::core::{App, Core, LINK};
use super::outbox::Flush;
use super::table::{Key, Pause, State};
use super::{answers, entry, history, session, websocket};

/// Connections the poll reports at a time.
const EVENTS: usize = 1024;

/// Runs for as long as the worker lives.
///
/// # Errors
/// The runtime or the kernel refuses the poll.
pub async fn run(app: App) -> std::io::Result<()> {
    let poll_fd = app.core.lock().poll.registry().as_fd().try_clone_to_owned()?;
    let ready = nested(poll_fd)?;
    let mut turn = Turn {
        events: Events::with_capacity(EVENTS),
        buffer: vec![0; websocket::READ_BYTES],
        due: Vec::new(),
        readable: Vec::new(),
    };
    loop {
        let wake_at = {
            let core = app.core.lock();
            let moments = [Some(core.wheel.next_at()), core.uplink.retry_at(), core.plan.due()];
            moments.into_iter().flatten().min().unwrap_or_else(Instant::now)
        };
        tokio::select! {
            guard = ready.readable() => guard?.clear_ready(),
            () = app.wake.notified() => {}
            () = tokio::time::sleep_until(wake_at.into()) => {}
        }
        loop {
            let (more, reads) = {
                let mut core = app.core.lock();
                let more = turn.take(&mut core)?;
                entry::go_on(&app, &mut core);
                (more, std::mem::take(&mut core.history))
            };
            for read in reads {
                history::start(&app, read);
            }
            if !more {
                break;
            }
            // HTTP tasks get their share of a busy worker.
            tokio::task::yield_now().await;
        }
    }
}

/// Has the runtime watch the worker's poll.
#[allow(unsafe_code, reason = "the runtime asks for a promise that the compiler cannot check")]
fn nested(poll_fd: OwnedFd) -> std::io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor is open, owned by the value given away, and never replaced.
    unsafe { AsyncFd::register(poll_fd) }.map_err(std::io::Error::from)
}

struct Turn {
    events: Events,
    buffer: Vec<u8>,
    due: Vec<Key>,
    readable: Vec<Key>,
}

impl Turn {
    /// One turn. True: there is more to do at once.
    fn take(&mut self, core: &mut Core) -> std::io::Result<bool> {
        let full = self.poll(core)?;
        let now = Instant::now();
        if core.uplink.retry_at().is_some_and(|at| at <= now) {
            let Core { uplink, poll, .. } = core;
            uplink.connect(now, poll.registry(), LINK);
        }
        let behind = answers::drain(core);
        for key in self.readable.drain(..) {
            websocket::readable(core, key, &mut self.buffer);
        }
        for key in std::mem::take(&mut core.resume) {
            websocket::readable(core, key, &mut self.buffer);
        }
        core.wheel.turn(now, &mut self.due);
        for key in self.due.drain(..) {
            session::on_deadline(core, key, now);
        }
        core.addresses.tell(&mut core.uplink);
        core.uplink.flush();
        flush(core);
        Ok(full || behind || !core.resume.is_empty())
    }

    /// Asks the poll who is ready. True: it may know of more.
    fn poll(&mut self, core: &mut Core) -> std::io::Result<bool> {
        match core.poll.poll(&mut self.events, Some(std::time::Duration::ZERO)) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => return Ok(true),
            Err(error) => return Err(error),
        }
        let mut count = 0;
        for event in &self.events {
            count += 1;
            let Some(key) = slot(event.token()).and_then(|slot| core.table.key(slot)) else {
                continue;
            };
            if event.is_writable()
                && let Some(conn) = core.table.get(key)
                && !conn.outbox.is_empty()
                && !conn.dirty
            {
                conn.dirty = true;
                core.dirty.push(key);
            }
            if event.is_readable() || event.is_error() || event.is_read_closed() {
                if event.is_read_closed()
                    && let Some(conn) = core.table.get(key)
                {
                    conn.ended = true;
                }
                self.readable.push(key);
            }
        }
        Ok(count == EVENTS)
    }
}

fn slot(token: mio::Token) -> Option<u32> {
    (token != LINK).then(|| u32::try_from(token.0).ok()).flatten()
}

/// Sends what the turn left in outboxes, everything for one socket in one call.
fn flush(core: &mut Core) {
    for key in std::mem::take(&mut core.dirty) {
        let Some(conn) = core.table.get(key) else {
            continue;
        };
        conn.dirty = false;
        match conn.outbox.flush(&mut conn.stream) {
            Ok(Flush::Blocked) => {}
            Ok(Flush::Empty) => {
                if matches!(conn.state, State::Closing { .. }) {
                    // The client reads the end of the stream and closes; if not, the deadline does.
                    let _ = conn.stream.shutdown(std::net::Shutdown::Write);
                } else if conn.pause == Pause::Sending {
                    core.resume_reading(key);
                }
            }
            Err(_) => core.drop_conn(key),
        }
    }
}
