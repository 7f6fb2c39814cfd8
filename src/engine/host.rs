//! Who decides what is done with what clients say, and what the engine does for him.

use std::io::Write;
use std::time::Instant;

use bytes::Bytes;

use super::Engine;
use super::table::{Bring, Key, Pause, Phase, Slot, Transport};
use crate::wire::frame::{self, Violation, close_code, violation};

/// Bytes that may wait for a client before it misses volatile events.
const VOLATILE_BYTES: usize = 64 << 10;

/// Packets in one payload of long polling that every client takes: python-engineio throws away a payload
/// of more, and ends the session.
pub const PACKETS_FOR_ANYBODY: usize = 16;

/// An event or acknowledgement with all its attachments.
#[derive(Debug)]
pub struct Message<'a> {
    /// Where it was said: the host's number of the namespace.
    pub namespace: u8,
    /// Asks for (event) or names (acknowledgement) an acknowledgement.
    pub id: Option<u64>,
    /// The JSON array as the client wrote it.
    pub data: &'a str,
    /// What its placeholders stand for.
    pub attachments: &'a [Bytes],
}

/// What has an [`Engine`] and acts on what its clients say. The methods without a body are the
/// engine's questions; the others are its services and are not meant to be replaced.
pub trait Host: Sized + Send + 'static {
    /// What is kept with each connection.
    type State: Default + Send;

    /// The engine.
    fn engine(&mut self) -> &mut Engine<Self::State>;

    /// A plain WebSocket is there and has said nothing yet.
    fn opened(&mut self, key: Key) {
        let _ = key;
    }

    /// A connection is no more in use: closing, or gone. May be told twice.
    fn gone(&mut self, key: Key);

    /// A client broke a rule of the transport, as [`Violation`] says; its connection is about to be closed.
    fn broke(&mut self, key: Key, broken: &Violation) {
        let _ = (key, broken);
    }

    /// Whether a session has to enter a namespace in time. One without Socket.IO has not.
    fn must_connect(state: &Self::State) -> bool {
        let _ = state;
        true
    }

    /// Packets that one payload of long polling may bring the client.
    fn packets_per_payload(state: &Self::State) -> usize {
        let _ = state;
        PACKETS_FOR_ANYBODY
    }

    /// Whether the client certainly puts something new into the parameter `t` of each request.
    fn marks_requests(state: &Self::State) -> bool {
        let _ = state;
        false
    }

    /// The host's number of a namespace, below 16. `None`: there is no such.
    fn namespace(&self, name: &str) -> Option<u8>;

    /// A client wants to enter a namespace; `auth` is a JSON object, or empty. The host answers, now
    /// or later, with [`enter`](super::socketio::enter) or [`refuse`](super::socketio::refuse).
    fn connect(&mut self, key: Key, namespace: u8, auth: &str) -> Result<(), Violation>;

    /// A client said something in a namespace it is in.
    fn event(&mut self, key: Key, message: &Message<'_>) -> Result<(), Violation>;

    /// A client acknowledged an event.
    fn acknowledged(&mut self, key: Key, message: &Message<'_>) -> Result<(), Violation> {
        let _ = (key, message);
        Ok(())
    }

    /// A client has left a namespace and keeps the connection.
    fn left(&mut self, key: Key, namespace: u8);

    /// A message over Engine.IO alone or over a plain WebSocket. `Ok(false)`: Socket.IO is spoken.
    fn raw(&mut self, key: Key, message: &Raw<'_>) -> Result<bool, Violation> {
        let _ = (key, message);
        Ok(false)
    }

    /// The time that was asked for with [`Engine::attend_after`] is over. It may not come to that.
    fn attend(&mut self, key: Key) {
        let _ = key;
    }

    /// A session goes on over a WebSocket; `probe` was kept with that until now.
    fn upgraded(&mut self, key: Key, probe: Self::State) {
        let _ = (key, probe);
    }

    /// Reading from a client is about to go on; what was put off comes first.
    fn resumed(&mut self, key: Key) {
        let _ = key;
    }

    /// Queues frames for a connection; they leave at the end of the turn. Past the bound the
    /// connection is closed as too slow. What is being sent does not count: one answer may be larger
    /// than the bound.
    fn push(&mut self, key: Key, frames: Bytes) {
        let most = self.engine().settings.outgoing_bytes;
        let Some(conn) = self.engine().table.get(key).filter(|conn| !conn.is_closing()) else {
            return;
        };
        if conn.outbox.held_with(frames.len()) > most {
            // What waits for the end of this turn may just fit into the socket's own buffer.
            let broken = match &mut conn.transport {
                Transport::WebSocket(stream) => conn.outbox.flush(stream).is_err(),
                Transport::Polling(_) => false,
            };
            let waiting = conn.outbox.held_with(frames.len());
            if broken || waiting > most {
                tracing::info!(waiting, "closed a connection that reads too slowly");
                conn.outbox.keep_begun();
                self.engine().counters.slow_consumers += 1;
                self.close(key, close_code::TRY_AGAIN_LATER, "slow consumer");
                return;
            }
        }
        conn.outbox.push(frames);
        self.engine().mark(key);
    }

    /// Queues what `write` appends.
    fn push_with(&mut self, key: Key, write: impl FnOnce(&mut Vec<u8>)) {
        let mut frames = Vec::new();
        write(&mut frames);
        self.push(key, frames.into());
    }

    /// Queues frames that are worth nothing later: a client that is behind does without.
    fn push_volatile(&mut self, key: Key, frames: Bytes) {
        if self.engine().table.get(key).is_some_and(|conn| conn.outbox_bytes() <= VOLATILE_BYTES) {
            self.push(key, frames);
        }
    }

    /// Writes to the socket itself when nothing waits for it; else behind what waits.
    fn send(&mut self, slot: Slot, frames: &Bytes) {
        let Some(conn) = self.engine().table.at(slot).filter(|conn| !conn.is_closing()) else {
            return;
        };
        let key = Key { slot, generation: conn.generation };
        let Transport::WebSocket(stream) = &mut conn.transport else {
            return self.push(key, frames.clone());
        };
        if !conn.outbox.is_empty() {
            return self.push(key, frames.clone());
        }
        match stream.write(frames) {
            Ok(sent) if sent == frames.len() => {}
            Ok(sent) => conn.outbox.push_rest(frames.slice(sent..)),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => self.push(key, frames.clone()),
            Err(_) => self.drop_conn(key),
        }
    }

    /// Ends a connection in order: the host is told at once, a close frame is sent behind what
    /// waits, and the socket is closed when that is read or after a while.
    ///
    /// False: it is gone or on its way out already.
    fn close(&mut self, key: Key, code: u16, reason: &str) -> bool {
        let closing = Phase::Closing { deadline: Instant::now() + self.engine().linger };
        let Some(conn) = self.engine().table.get(key).filter(|conn| !conn.is_closing()) else {
            return false;
        };
        let before = std::mem::replace(&mut conn.phase, closing);
        conn.pause = Pause::No;
        conn.unread = Vec::new();
        conn.fragments = None;
        conn.partial = None;
        // Clients over polling act on a packet that closes before those that came with it. One that is told
        // to leave must not take that for a lost connection, and one that is to come back would hear the
        // others twice: kept by the client, and again when it says how far it has heard.
        let is_told = match code {
            close_code::NOT_BELIEVED => true,
            close_code::GOING_AWAY | close_code::TRY_AGAIN_LATER => !conn.outbox.is_empty(),
            _ => false,
        };
        let mut frames = Vec::new();
        frame::close(code, reason, &mut frames);
        match &mut conn.transport {
            Transport::Polling(polling) if is_told => polling.farewell = frames.into(),
            _ => conn.outbox.push(frames.into()),
        }
        let mut probe = None;
        let mut wait = true;
        if let Transport::Polling(polling) = &mut conn.transport {
            polling.payload = Bytes::new();
            // A session that is over is told so by the request that waits. One that ends for no fault
            // of its client's, or whose client is to know why, is worth waiting for the next.
            let told_later = matches!(
                code,
                close_code::GOING_AWAY | close_code::TRY_AGAIN_LATER | close_code::NOT_BELIEVED
            );
            wait = polling.fetch.is_some() || told_later;
            // A request that brought packets is refused for a fault of theirs; else an error would be heard
            // before the session's last words.
            if let Bring::Acting(done) = std::mem::take(&mut polling.bring)
                && told_later
            {
                let _ = done.send(());
            }
            // A client on its way to a WebSocket may have stopped fetching: it is told over that, once it is
            // there.
            if !told_later {
                probe = polling.probe.take();
            }
        }
        if wait {
            self.engine().mark(key);
            self.engine().schedule(key);
        }
        self.engine().table.count_unfinished(key);
        self.gone(key);
        if let Phase::Probe { session, .. } = before {
            super::upgrade::given_up(self.engine(), session, key);
        }
        if let Some(probe) = probe {
            self.close(probe, close_code::NORMAL, "");
        }
        if !wait {
            self.drop_conn(key);
        }
        true
    }

    /// Ends a connection whose client broke the protocol.
    fn fail(&mut self, key: Key, broken: Violation) {
        self.engine().counters.violations += 1;
        let reason = broken.reason;
        tracing::debug!(slot = key.slot, reason, "closed a connection that broke the protocol");
        self.broke(key, &broken);
        self.close(key, broken.code, reason);
    }

    /// Ends a connection at once: the other side is gone or broken.
    fn drop_conn(&mut self, key: Key) {
        if self.engine().table.get(key).is_none() {
            return;
        }
        self.gone(key);
        let engine = self.engine();
        let Some(mut conn) = engine.table.remove(key.slot) else {
            return;
        };
        match &mut conn.transport {
            Transport::WebSocket(stream) => {
                // The descriptor is closed right after, which deregisters it as well.
                let _ = engine.poll.registry().deregister(stream);
                if let Phase::Probe { session, .. } = conn.phase {
                    super::upgrade::given_up(engine, session, key);
                }
            }
            Transport::Polling(polling) => {
                if let Some(probe) = polling.probe.take() {
                    self.close(probe, close_code::NORMAL, "");
                }
            }
        }
    }
}

/// A message as the transport brought it.
#[derive(Clone, Copy, Debug)]
pub enum Raw<'a> {
    /// Text.
    Text(&'a str),
    /// Bytes.
    Binary(&'a [u8]),
}

/// The bytes are no packet a client may send here.
pub const PARSE_ERROR: Violation = violation("parse error");
