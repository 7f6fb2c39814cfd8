//! Everything a worker knows, behind one lock that is never contended.
//!
//! The runtime has one thread: the turn loop and the HTTP tasks take the lock in turn and never
//! hold it over an `await`. The lock exists because the HTTP library asks for shared state that
//! could be sent between threads.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use mio::Token;
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};

use super::address::Addresses;
use super::deliver::Plan;
use super::entry::{Doorman, Entries};
use super::http::LAST_WORDS;
use super::hub::Hub;
use super::names::Names;
use super::search::Searches;
use super::table::{Conn, Key, Pause, State, Table};
use super::token::Tokens;
use super::uplink::Uplink;
use super::wheel::Wheel;
use crate::chat::UserId;
use crate::config::{self, Config};
use crate::index::history::History;
use crate::index::{IndexError, Reader};
use crate::wire::frame::{self, close_code};

/// The poll's token of the link; connections use their slot.
pub const LINK: Token = Token(usize::MAX);

/// Longest time a closed connection may take to read its last bytes; [`LAST_WORDS`] in a drain.
const LINGER: std::time::Duration = std::time::Duration::from_secs(5);

/// What tasks share.
#[derive(Clone)]
pub struct App {
    /// All state of the worker.
    pub core: Arc<Mutex<Core>>,
    /// Settings.
    pub config: Arc<Config>,
    /// Makes and checks tokens.
    pub tokens: Arc<Tokens>,
    /// Counts connections by address.
    pub addresses: Arc<Addresses>,
    /// Wakes the turn loop after a task has left work for it.
    pub wake: Arc<Notify>,
    /// Reads the rooms of those who enter.
    pub doorman: Doorman,
    /// Bounds the reads that wait for the disk.
    pub reads: Arc<Semaphore>,
    /// The index, for reads that would hold up the loop.
    pub reader: Arc<Mutex<Reader>>,
    /// Where rooms' messages are.
    pub history: Arc<History>,
    /// The searching threads.
    pub searches: Searches,
}

/// All state of the worker.
pub struct Core {
    /// Settings.
    pub config: Arc<Config>,
    /// Makes and checks tokens.
    pub tokens: Arc<Tokens>,
    /// Counts connections by address.
    pub addresses: Arc<Addresses>,
    /// The connections.
    pub table: Table,
    /// Who hears what.
    pub hub: Hub,
    /// The link to the storage writer.
    pub uplink: Uplink,
    /// Deadlines.
    pub wheel: Wheel,
    /// Short look-ups.
    pub index: Reader,
    /// Where connections are registered.
    pub poll: mio::Poll,
    /// Connections whose outbox is to be flushed at the end of the turn.
    pub dirty: Vec<Key>,
    /// Connections to be read although the poll says nothing.
    pub resume: Vec<Key>,
    /// Users who called lately.
    pub names: Names,
    /// Clients on their way into the chat.
    pub entries: Entries,
    /// Reads of history that clients wait for; started after the turn.
    pub history: Vec<super::session::HistoryRead>,
    /// Messages gathered for the next hand-out, perhaps over several turns.
    pub plan: Plan,
    /// What operators watch.
    pub counters: Counters,
    /// No new connections any more.
    pub draining: bool,
    /// Start of the worker, zero of its clocks.
    pub started: Instant,
}

/// What operators watch.
#[derive(Default)]
pub struct Counters {
    /// WebSocket connections taken in.
    pub accepted: u64,
    /// Messages sent to the storage writer.
    pub messages_in: u64,
    /// Messages written to sockets.
    pub deliveries: u64,
    /// Connections closed because they read too slowly.
    pub slow_consumers: u64,
    /// Connections closed because a pong did not come.
    pub ping_timeouts: u64,
    /// Connections closed because they broke the protocol.
    pub violations: u64,
    /// Messages refused because too much was unanswered.
    pub overloaded: u64,
}

impl Core {
    /// Queues frames for a connection; they leave at the end of the turn. Past the bound the
    /// connection is closed as too slow. What is being sent does not count: one answer may be larger
    /// than the bound.
    pub fn push(&mut self, key: Key, frames: Bytes) {
        let Some(conn) = self.table.get(key) else {
            return;
        };
        if matches!(conn.state, State::Closing { .. }) {
            return;
        }
        let most = self.config.limits.outgoing_bytes_per_connection;
        if conn.outbox.held_with(frames.len()) > most {
            // What waits for the end of this turn may just fit into the socket's own buffer.
            let flushed = conn.outbox.flush(&mut conn.stream);
            let waiting = conn.outbox.held_with(frames.len());
            if flushed.is_err() || waiting > most {
                self.counters.slow_consumers += 1;
                tracing::info!(waiting, "closed a connection that reads too slowly");
                conn.outbox.keep_begun();
                self.close(key, close_code::TRY_AGAIN_LATER, "slow consumer");
                return;
            }
        }
        conn.outbox.push(frames);
        if !conn.dirty {
            conn.dirty = true;
            self.dirty.push(key);
        }
    }

    /// Queues what `write` appends.
    pub fn push_with(&mut self, key: Key, write: impl FnOnce(&mut Vec<u8>)) {
        let mut frames = Vec::new();
        write(&mut frames);
        self.push(key, frames.into());
    }

    /// Ends a connection in order: its user is gone at once, a close frame is sent behind what
    /// waits, and the socket is closed when that is read or after a while.
    ///
    /// False: it is gone or on its way out already.
    pub fn close(&mut self, key: Key, code: u16, reason: &str) -> bool {
        let Some(conn) = self.table.get(key) else {
            return false;
        };
        if matches!(conn.state, State::Closing { .. }) {
            return false;
        }
        let linger = if self.draining { LAST_WORDS } else { LINGER };
        let deadline = Instant::now() + linger;
        conn.state = State::Closing { deadline };
        conn.pause = Pause::No;
        conn.unread = Vec::new();
        conn.fragments = None;
        let mut frames = Vec::new();
        frame::close(code, reason, &mut frames);
        conn.outbox.push(frames.into());
        if !conn.dirty {
            conn.dirty = true;
            self.dirty.push(key);
        }
        self.hub.disconnect(key.slot);
        self.schedule(key);
        true
    }

    /// No new connections any more, and those on their way out get less time for it.
    pub fn start_draining(&mut self) {
        self.draining = true;
        let latest = Instant::now() + LAST_WORDS;
        for key in self.table.keys() {
            if let Some(Conn { state: State::Closing { deadline }, .. }) = self.table.get(key) {
                *deadline = latest.min(*deadline);
                self.schedule(key);
            }
        }
    }

    /// Sees to it that the wheel hands the connection out at its next deadline.
    pub fn schedule(&mut self, key: Key) {
        if let Some(conn) = self.table.get(key) {
            let deadline = conn.deadline();
            if conn.wake_at.is_none_or(|at| deadline < at) {
                conn.wake_at = Some(self.wheel.insert(key, deadline));
            }
        }
    }

    /// Ends a connection at once: the other side is gone or broken.
    pub fn drop_conn(&mut self, key: Key) {
        if self.table.get(key).is_some() {
            self.hub.disconnect(key.slot);
            if let Some(mut conn) = self.table.remove(key.slot) {
                // The descriptor is closed right after, which deregisters it as well.
                let _ = self.poll.registry().deregister(&mut conn.stream);
            }
        }
    }

    /// Whether one more connection fits.
    pub fn has_room(&self) -> bool {
        !self.draining && self.table.len() < self.config.limits.connections_per_worker
    }

    /// One answer less to wait for; reads on from the client if it was paused for that.
    pub fn answered(&mut self, key: Key) {
        let Some(conn) = self.table.get(key) else {
            return;
        };
        conn.unanswered = conn.unanswered.saturating_sub(1);
        match conn.pause {
            Pause::Backlog if conn.unanswered <= config::UNANSWERED_PER_CONNECTION / 2 => {
                self.resume_reading(key);
            }
            Pause::Deferred(_) if conn.unanswered == 0 => self.resume.push(key),
            _ => {}
        }
    }

    /// Reads on from a client whose event is answered.
    pub fn resume_reading(&mut self, key: Key) {
        if let Some(conn) = self.table.get(key) {
            conn.read_on(Instant::now() + self.config.socketio.ping_timeout);
            self.resume.push(key);
        }
    }

    /// Reads on from a client when it has taken the answer to its event.
    pub fn resume_when_sent(&mut self, key: Key) {
        if let Some(conn) = self.table.get(key)
            && conn.pause == Pause::Answering
        {
            conn.pause = Pause::Sending;
        }
    }

    /// The name of a user; `None`: there is no such user.
    ///
    /// # Errors
    /// The index can't be read.
    pub fn user_name(&mut self, number: UserId) -> Result<Option<Arc<str>>, IndexError> {
        self.names.name(number, &self.index)
    }

    /// Microseconds since the worker started.
    pub fn now_us(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Takes a connection into the table. `None`: the poll does not take its socket.
    pub fn admit(&mut self, conn: impl FnOnce(Key) -> Conn) -> Option<Key> {
        let key = self.table.vacant();
        let mut conn = conn(key);
        let interest = mio::Interest::READABLE | mio::Interest::WRITABLE;
        self.poll.registry().register(&mut conn.stream, Token(key.slot as usize), interest).ok()?;
        self.table.insert(conn);
        self.schedule(key);
        self.counters.accepted += 1;
        Some(key)
    }
}
