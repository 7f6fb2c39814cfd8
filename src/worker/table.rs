//! Connections as rows of a table: a small plain struct each, no task, timer, channel or buffer.

use std::sync::Arc;
use std::time::Instant;

use mio::net::TcpStream;
use slab::Slab;

use super::address::Held;
use super::hub::Slot;
use super::outbox::Outbox;
use crate::chat::UserId;

/// Names one connection for ever: a slot is used again, a generation is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// Row of the table.
    pub slot: Slot,
    /// Which of the connections that had this row.
    pub generation: u32,
}

/// A connection after the WebSocket handshake.
pub struct Conn {
    /// The socket, non-blocking and registered with the worker's poll.
    pub stream: TcpStream,
    /// With the slot, the connection's [`Key`].
    pub generation: u32,
    /// How far it has come.
    pub state: State,
    /// The beginning of a frame that has not arrived whole, or bytes behind a pause.
    pub unread: Vec<u8>,
    /// The beginning of a message that comes in several frames.
    pub fragments: Option<Box<Fragments>>,
    /// Frames the socket would not take yet.
    pub outbox: Outbox,
    /// The outbox stands in this turn's list of sockets to flush.
    pub dirty: bool,
    /// When a ping is due or, if one is out, when its pong is overdue.
    pub heartbeat: Instant,
    /// A ping is out.
    pub ping_sent: bool,
    /// When the wheel will hand this connection out.
    pub wake_at: Option<Instant>,
    /// Messages sent to the storage writer and not answered.
    pub unanswered: u16,
    /// Why nothing more is read from the client just now.
    pub pause: Pause,
    /// The client has sent its last byte: the end of the stream stands behind what is unread, and the
    /// poll will not speak of it again.
    pub ended: bool,
    /// Its place among the connections of its address, if those are counted.
    pub place: Option<Arc<Held>>,
    /// Binary frames to come that belong to the last packet and are read away.
    pub attachments: u8,
}

impl Conn {
    /// The next moment at which something is to be done without the client's doing.
    pub fn deadline(&self) -> Instant {
        match &self.state {
            State::Open { deadline, .. } => self.heartbeat.min(*deadline),
            State::Connected => self.heartbeat,
            State::Closing { deadline } => *deadline,
        }
    }

    /// Ends a pause and answers what it was. A pong may wait behind it, so one that is overdue gets
    /// until `pong_by`.
    pub fn read_on(&mut self, pong_by: Instant) -> Pause {
        if self.ping_sent {
            self.heartbeat = self.heartbeat.max(pong_by);
        }
        std::mem::replace(&mut self.pause, Pause::No)
    }

    /// Whether silence says something about the client: not while the server does not read from it,
    /// unless it waits for a client that takes nothing.
    pub fn silence_counts(&mut self) -> bool {
        let taken = self.outbox.has_moved();
        match self.pause {
            Pause::No => true,
            Pause::Sending => !taken,
            Pause::Backlog | Pause::Deferred(_) | Pause::Answering => false,
        }
    }
}

/// How far a connection has come.
pub enum State {
    /// Engine.IO is open; the Socket.IO CONNECT has to come before the deadline.
    Open {
        /// What the handshake request brought.
        presented: Box<Presented>,
        /// When the connection is closed if it has not entered the chat.
        deadline: Instant,
    },
    /// In the chat; the hub knows its user.
    Connected,
    /// Only what is in the outbox is still sent.
    Closing {
        /// When it ends even if the client does not read.
        deadline: Instant,
    },
}

/// Who the handshake request said it was, by query or header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presented {
    /// Nobody: the CONNECT packet has to tell.
    Nothing,
    /// A user, by a token that was checked (or by name in open mode).
    User(UserId, String),
    /// Somebody, with a token that is not good.
    Refused,
}

/// Why nothing more is read from a client for now. Bytes wait in the kernel meanwhile, so that a
/// client which outruns the server feels it in its own socket.
#[derive(Debug, PartialEq, Eq)]
pub enum Pause {
    /// Reading.
    No,
    /// Too many messages are unanswered.
    Backlog,
    /// An event that must see the effect of the earlier ones waits for their answers.
    Deferred(Box<str>),
    /// Such an event is being answered.
    Answering,
    /// A long answer is on the way. Who asks for more before taking it would only fill the outbox.
    Sending,
}

/// Frames of an unfinished message.
pub struct Fragments {
    /// Text, or binary.
    pub text: bool,
    /// The payloads so far.
    pub bytes: Vec<u8>,
}

/// All connections of a worker.
#[derive(Default)]
pub struct Table {
    rows: Slab<Conn>,
    generation: u32,
}

impl Table {
    /// The slot the next connection will get and its generation.
    pub fn vacant(&mut self) -> Key {
        self.generation = self.generation.wrapping_add(1);
        Key { slot: slot(self.rows.vacant_key()), generation: self.generation }
    }

    /// Adds the connection made for the last [`Table::vacant`] key.
    pub fn insert(&mut self, conn: Conn) {
        self.rows.insert(conn);
    }

    /// The connection, if it is still the same one.
    pub fn get(&mut self, key: Key) -> Option<&mut Conn> {
        self.rows.get_mut(key.slot as usize).filter(|conn| conn.generation == key.generation)
    }

    /// The connection in a slot.
    pub fn at(&mut self, slot: Slot) -> Option<&mut Conn> {
        self.rows.get_mut(slot as usize)
    }

    /// Key of the connection in a slot.
    pub fn key(&self, slot: Slot) -> Option<Key> {
        self.rows.get(slot as usize).map(|conn| Key { slot, generation: conn.generation })
    }

    /// Takes a connection out.
    pub fn remove(&mut self, slot: Slot) -> Option<Conn> {
        self.rows.try_remove(slot as usize)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The keys of all connections.
    pub fn keys(&self) -> Vec<Key> {
        self.rows.iter().map(|(at, conn)| Key { slot: slot(at), generation: conn.generation }).collect()
    }
}

/// A process has far fewer file descriptors than a `u32` counts.
fn slot(at: usize) -> Slot {
    Slot::try_from(at).unwrap_or(Slot::MAX)
}
