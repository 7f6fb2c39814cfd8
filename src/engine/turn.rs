//! The engine's share of a loop: wait, read what there is, and send everything at the end.
//!
//! The engine's poll is nested in the runtime's: one readiness notice wakes the loop for any number
//! of connections.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::Events;
use parking_lot::Mutex;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

use super::outbox::Flush;
use super::table::{Key, Pause, Transport};
use super::{Host, packet, polling, websocket};

/// Connections the poll reports at a time.
const EVENTS: usize = 1024;

/// What one loop keeps from turn to turn.
pub struct Turn {
    events: Events,
    buffer: Vec<u8>,
    due: Vec<Key>,
}

impl Default for Turn {
    fn default() -> Turn {
        Turn {
            events: Events::with_capacity(EVENTS),
            buffer: vec![0; websocket::READ_BYTES],
            due: Vec::new(),
        }
    }
}

impl Turn {
    /// Asks the poll who is ready. True: it may know of more.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn poll<H: Host>(&mut self, host: &mut H) -> io::Result<bool> {
        let engine = host.engine();
        match engine.poll.poll(&mut self.events, Some(Duration::ZERO)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(true),
            Err(error) => return Err(error),
        }
        let mut count = 0;
        for event in &self.events {
            count += 1;
            // The host's own tokens name no slot.
            let slot = u32::try_from(event.token().0).ok();
            let Some(key) = slot.and_then(|slot| engine.table.key(slot)) else {
                continue;
            };
            if event.is_writable()
                && let Some(conn) = engine.table.get(key)
                && !conn.outbox.is_empty()
            {
                engine.mark(key);
            }
            if event.is_readable() || event.is_error() || event.is_read_closed() {
                if event.is_read_closed()
                    && let Some(conn) = engine.table.get(key)
                {
                    conn.ended = true;
                }
                engine.look_again(key);
            }
        }
        Ok(count == EVENTS)
    }

    /// Reads the clients that have something, as many as there is time for in one turn, and does what is
    /// due by `now`. Whoever is left comes first in the next.
    pub fn read<H: Host>(&mut self, host: &mut H, now: Instant) {
        let mut queue = std::mem::take(&mut host.engine().resume);
        let share = websocket::share(queue.len());
        let (mut done, mut read) = (0, 0);
        while let Some(key) = queue.get(done).filter(|_| read < websocket::TURN_BYTES) {
            done += 1;
            if let Some(conn) = host.engine().table.get(*key) {
                conn.queued = false;
            }
            read += websocket::readable(host, *key, &mut self.buffer, share);
        }
        queue.drain(..done);
        queue.append(&mut host.engine().resume);
        host.engine().resume = queue;
        host.engine().wheel.turn(now, &mut self.due);
        for key in self.due.drain(..) {
            packet::on_wheel(host, key, now);
        }
    }

    /// Sends what the turn left in outboxes, everything for one connection in one call. True: there
    /// is more to do at once.
    pub fn flush<H: Host>(host: &mut H) -> bool {
        for key in std::mem::take(&mut host.engine().dirty) {
            let Some(conn) = host.engine().table.get(key) else {
                continue;
            };
            conn.dirty = false;
            let closing = conn.is_closing();
            let stream = match &mut conn.transport {
                Transport::WebSocket(stream) => stream,
                Transport::Polling(_) => {
                    polling::flush(host, key);
                    host.engine().table.account(key);
                    continue;
                }
            };
            match conn.outbox.flush(stream) {
                Ok(Flush::Blocked) => {}
                Ok(Flush::Empty) => {
                    if closing {
                        // The client reads the end of the stream and closes; if not, the deadline does.
                        let _ = stream.shutdown(std::net::Shutdown::Write);
                    } else if conn.pause == Pause::Sending {
                        host.engine().resume_reading(key);
                    }
                }
                Err(_) => host.drop_conn(key),
            }
            host.engine().table.account(key);
        }
        !host.engine().resume.is_empty()
    }
}

/// Has the runtime watch an engine's poll.
///
/// # Errors
/// The runtime or the kernel refuses.
#[allow(unsafe_code, reason = "the runtime asks for a promise that the compiler cannot check")]
pub fn nested(poll: &mio::Poll) -> io::Result<AsyncFd<OwnedFd>> {
    let descriptor = poll.registry().as_fd().try_clone_to_owned()?;
    // SAFETY: the descriptor is open, owned by the value given away, and never replaced.
    unsafe { AsyncFd::register(descriptor) }.map_err(io::Error::from)
}

/// The loop of a host that has nothing else to do.
///
/// # Errors
/// The runtime or the kernel refuses the poll.
pub async fn run<H: Host>(host: Arc<Mutex<H>>, wake: Arc<Notify>) -> io::Result<()> {
    let ready = nested(&host.lock().engine().poll)?;
    let mut turn = Turn::default();
    loop {
        let wake_at = host.lock().engine().next_at();
        tokio::select! {
            guard = ready.readable() => guard?.clear_ready(),
            () = wake.notified() => {}
            () = tokio::time::sleep_until(wake_at.into()) => {}
        }
        loop {
            let more = {
                let mut host = host.lock();
                let full = turn.poll(&mut *host)?;
                turn.read(&mut *host, Instant::now());
                Turn::flush(&mut *host) || full
            };
            if !more {
                break;
            }
            // HTTP tasks get their share of a busy loop.
            tokio::task::yield_now().await;
        }
    }
}
