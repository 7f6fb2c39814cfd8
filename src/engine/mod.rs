//! Client connections, whatever is said over them: Engine.IO sessions over long polling and
//! WebSocket, Socket.IO on top, and plain WebSockets.
//!
//! The engine knows the protocols and nothing of a chat. What is done with an event is a [`Host`]'s
//! business; the worker is one, `examples/protocol_server.rs` another.
//!
//! Reading order: a connection is a row of the [`table`]. [`http`] says what a request wants, the
//! [`door`] makes a row of it or has it wait for one. [`websocket`] reads frames and [`polling`]
//! payloads; both hand packets to [`packet`], which keeps the heartbeat and hands messages to
//! [`socketio`], which keeps namespaces and puts attachments together; what has not come whole is
//! counted by [`unfinished`]. [`upgrade`] exchanges a session's long polling for a WebSocket. What is sent
//! goes through [`Host::push`] into an [`outbox`], always as WebSocket frames: those of long polling
//! are made into a payload only when a request fetches them, so frames can be shared by all members
//! of a room, and an upgrade has nothing to convert, lose or reorder. [`turn`] is the loop's share.
//!
//! [`patience`] is for the time before: connections that still speak HTTP.
//!
//! Nothing here waits: no task, timer, channel or buffer belongs to an idle WebSocket.

pub mod door;
mod host;
pub mod http;
mod outbox;
mod packet;
pub mod patience;
mod polling;
pub mod sid;
pub mod socketio;
pub mod table;
pub mod turn;
mod unfinished;
mod upgrade;
mod websocket;
mod wheel;

use std::time::{Duration, Instant};

use mio::Token;

pub use host::{Host, Message, PACKETS_FOR_ANYBODY, PARSE_ERROR, Raw};
use table::{Conn, Key, TENTH, Table};
use wheel::Wheel;

/// What an engine is told about its sessions.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which of the host's engines this is; session ids carry it.
    pub owner: u16,
    /// Time between a pong and the next ping.
    pub ping_interval: Duration,
    /// Longest wait for a pong.
    pub ping_timeout: Duration,
    /// Longest time until a client has entered a namespace, or completed an upgrade.
    pub connect_timeout: Duration,
    /// Bytes of one payload or Engine.IO message from a client, at most.
    pub max_payload: usize,
    /// Bytes waiting for one connection before it is closed as too slow.
    pub outgoing_bytes: usize,
    /// Bytes of memory, about, that all clients together may hold by what they have begun to send.
    pub unfinished_bytes: usize,
    /// Connections, at most.
    pub connections: usize,
}

/// What operators watch.
#[derive(Default)]
pub struct Counters {
    /// Connections taken in.
    pub accepted: u64,
    /// Connections closed because they read too slowly.
    pub slow_consumers: u64,
    /// Connections closed because a pong did not come.
    pub ping_timeouts: u64,
    /// Connections closed because they broke the protocol.
    pub violations: u64,
    /// Sessions that went on from long polling to a WebSocket.
    pub upgrades: u64,
    /// Connections refused because there are as many as allowed.
    pub full: u64,
}

/// All connections of a process and what they need. `S` is what the host keeps with each.
pub struct Engine<S> {
    /// Settings.
    pub settings: Settings,
    started: Instant,
    /// The connections.
    pub table: Table<S>,
    /// What operators watch.
    pub counters: Counters,
    /// No new connections any more.
    draining: bool,
    /// Bytes of memory of the bodies that are being read.
    bodies: usize,
    /// Longest time a closed connection may take to read its last bytes.
    linger: Duration,
    /// Where connections are registered; a host may add sources under tokens of its own from the
    /// top of their range.
    pub poll: mio::Poll,
    wheel: Wheel,
    /// Connections whose outbox is to be flushed at the end of the turn.
    dirty: Vec<Key>,
    /// Connections to be read although the poll says nothing.
    resume: Vec<Key>,
}

impl<S> Engine<S> {
    /// An engine without connections.
    ///
    /// # Errors
    /// The kernel gives no poll.
    pub fn new(settings: Settings) -> std::io::Result<Engine<S>> {
        let started = Instant::now();
        let Settings { ping_interval, ping_timeout, connect_timeout, .. } = settings;
        let times = [ping_interval, ping_timeout, connect_timeout].into_iter();
        let shortest = times.filter(|time| !time.is_zero()).min().unwrap_or(Duration::MAX);
        Ok(Engine {
            settings,
            started,
            table: Table::default(),
            counters: Counters::default(),
            draining: false,
            bodies: 0,
            linger: LINGER,
            poll: mio::Poll::new()?,
            wheel: Wheel::new(started, shortest),
            dirty: Vec::new(),
            resume: Vec::new(),
        })
    }

    /// Whether one more connection fits.
    pub fn has_room(&self) -> bool {
        !self.draining && self.table.len() < self.settings.connections
    }

    /// No new connections any more, and those on their way out get less time for it.
    pub fn start_draining(&mut self, linger: Duration) {
        (self.draining, self.linger) = (true, linger);
        let latest = Instant::now() + linger;
        for key in self.table.keys() {
            if let Some(Conn { phase: table::Phase::Closing { deadline }, .. }) = self.table.get(key) {
                *deadline = latest.min(*deadline);
                self.schedule(key);
            }
        }
    }

    /// When the wheel wants to be turned next.
    pub fn next_at(&self) -> Instant {
        self.wheel.next_at()
    }

    /// Takes a connection into the table. `None`: the poll does not take its socket.
    pub fn admit(&mut self, mut conn: Conn<S>) -> Option<Key> {
        let key = self.table.vacant();
        conn.generation = key.generation;
        if let Some(stream) = conn.transport.socket() {
            self.poll.registry().register(stream, Token(key.slot as usize), INTEREST).ok()?;
        }
        self.table.insert(conn);
        self.schedule(key);
        Some(key)
    }

    /// Sees to it that the wheel hands the connection out at its next deadline.
    pub fn schedule(&mut self, key: Key) {
        let start = self.started;
        if let Some(conn) = self.table.get(key)
            && let Some(deadline) = conn.deadline(start)
            && conn.wake_at.is_none_or(|at| deadline < at)
        {
            conn.wake_at = Some(self.wheel.insert(key, deadline));
        }
    }

    /// Has the host asked about the connection ([`Host::attend`]) after that time, perhaps a tenth of a
    /// second later; whatever was to be asked earlier or later is not asked. `None`: never.
    pub fn attend_after(&mut self, key: Key, wait: Option<Duration>) {
        let at = wait.map_or(0, |wait| {
            let tenths = self.started.elapsed().saturating_add(wait).as_millis().div_ceil(TENTH.as_millis());
            u32::try_from(tenths).unwrap_or(u32::MAX).max(1)
        });
        if let Some(conn) = self.table.get(key) {
            conn.attend_by = at;
        }
        self.schedule(key);
    }

    /// Reads on from a client that was paused.
    pub fn resume_reading(&mut self, key: Key) {
        let pong_by = Instant::now() + self.settings.ping_timeout;
        if let Some(conn) = self.table.get(key) {
            conn.read_on(pong_by);
            self.look_again(key);
        }
    }

    /// Sees to it that the connection is looked at although its client sent nothing.
    pub fn look_again(&mut self, key: Key) {
        if let Some(conn) = self.table.get(key)
            && !std::mem::replace(&mut conn.queued, true)
        {
            self.resume.push(key);
        }
    }

    /// Reads on from a client when it has taken the answer to its event.
    pub fn resume_when_sent(&mut self, key: Key) {
        if let Some(conn) = self.table.get(key)
            && conn.pause == table::Pause::Answering
        {
            conn.pause = table::Pause::Sending;
            // It may be taken already.
            self.mark(key);
        }
    }

    /// Puts a connection into this turn's list of outboxes to flush.
    fn mark(&mut self, key: Key) {
        if let Some(conn) = self.table.get(key)
            && !conn.dirty
        {
            conn.dirty = true;
            self.dirty.push(key);
        }
    }
}

/// Longest time a closed connection may take to read its last bytes, unless there is a hurry.
const LINGER: Duration = Duration::from_secs(5);

/// What the poll is asked about every socket.
const INTEREST: mio::Interest = mio::Interest::READABLE.add(mio::Interest::WRITABLE);
