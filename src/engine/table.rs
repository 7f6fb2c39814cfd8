//! Connections as rows of a table: a small plain struct each, no task, timer, channel or buffer.

use std::time::{Duration, Instant};

use bytes::Bytes;
use mio::net::TcpStream;
use slab::Slab;
use tokio::sync::oneshot;

use super::http::Mark;
use super::outbox::Outbox;
use super::sid::Secret;

/// Unit of [`Conn::attend_by`]: in 32 bits more than thirteen years.
pub(super) const TENTH: Duration = Duration::from_millis(100);

/// Index of a connection in the table.
pub type Slot = u32;

/// Names one connection for ever: a slot is used again, a generation is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// Row of the table.
    pub slot: Slot,
    /// Which of the connections that had this row.
    pub generation: u32,
}

/// A connection.
pub struct Conn<S> {
    /// How packets travel.
    pub transport: Transport,
    /// With the slot, the connection's [`Key`].
    pub generation: u32,
    /// With the key, the session's id.
    pub secret: Secret,
    /// How far it has come.
    pub phase: Phase,
    /// What the host keeps with it.
    pub state: S,
    /// The beginning of a frame, or what stands behind a pause.
    pub unread: Vec<u8>,
    /// The beginning of a message that has not arrived whole.
    pub fragments: Option<Box<Fragments>>,
    /// Frames that wait to be sent.
    pub(super) outbox: Outbox,
    /// The outbox stands in this turn's list of outboxes to flush.
    pub dirty: bool,
    /// It stands in the list of connections to be read.
    pub queued: bool,
    /// When a ping is due or, if one is out, when its pong is overdue. `None`: a plain WebSocket.
    pub heartbeat: Option<Instant>,
    /// A ping is out.
    pub ping_sent: bool,
    /// When the connection is closed if its client has not entered a namespace by then.
    pub connect_by: Option<Instant>,
    /// When the host wants to be asked about it, in [`TENTH`]s from the engine's start; 0: never.
    pub(super) attend_by: u32,
    /// When the wheel will hand this connection out.
    pub wake_at: Option<Instant>,
    /// Why nothing more is read from the client just now.
    pub pause: Pause,
    /// The client has sent its last byte: the end of the stream stands behind what is unread, and the
    /// poll will not speak of it again.
    pub ended: bool,
    /// Namespaces the client is in, a bit each.
    pub joined: u16,
    /// A Socket.IO packet whose attachments are not all here.
    pub partial: Option<Box<Partial>>,
    /// Bytes of one message, at most.
    pub max_message: u32,
    /// Bytes that the table has counted of what the client has begun to send.
    counted: u32,
}

/// Bytes of memory that an attachment takes beside its own.
const ATTACHMENT_BYTES: usize = 64;

impl<S> Conn<S> {
    /// A connection whose client has said nothing yet.
    pub fn new(transport: Transport, state: S, max_message: usize) -> Conn<S> {
        Conn {
            transport,
            generation: 0,
            secret: Secret::default(),
            phase: Phase::Open,
            state,
            unread: Vec::new(),
            fragments: None,
            outbox: Outbox::default(),
            dirty: false,
            queued: false,
            heartbeat: None,
            ping_sent: false,
            connect_by: None,
            attend_by: 0,
            wake_at: None,
            pause: Pause::No,
            ended: false,
            joined: 0,
            partial: None,
            max_message: u32::try_from(max_message).unwrap_or(u32::MAX),
            counted: 0,
        }
    }

    /// Bytes of memory of what the client has begun to send, or has sent and is not acted on.
    fn unfinished(&self) -> usize {
        let fragments = self.fragments.as_ref().map_or(0, |fragments| fragments.bytes.capacity());
        let of = |partial: &Partial| partial.bytes + partial.arrived.len() * ATTACHMENT_BYTES;
        let partial = self.partial.as_deref().map_or(0, of);
        let deferred = match &self.pause {
            Pause::Deferred(text) => text.len(),
            _ => 0,
        };
        let payload = match &self.transport {
            Transport::Polling(polling) if !polling.payload.is_empty() => polling.payload_bytes,
            _ => 0,
        };
        self.unread.capacity() + fragments + partial + deferred + payload
    }

    /// The next moment at which something is to be done without the client's doing; the engine began
    /// at `start`.
    pub fn deadline(&self, start: Instant) -> Option<Instant> {
        match &self.phase {
            Phase::Open => {
                [self.heartbeat, self.connect_by, self.attend_at(start)].into_iter().flatten().min()
            }
            Phase::Probe { deadline, .. } | Phase::Closing { deadline } => Some(*deadline),
        }
    }

    /// When the host wants to be asked about it.
    pub(super) fn attend_at(&self, start: Instant) -> Option<Instant> {
        (self.attend_by > 0).then(|| start + TENTH * self.attend_by)
    }

    /// Ends a pause and answers what it was. A pong may wait behind it, or an attachment, so one that is
    /// overdue gets until `pong_by`.
    pub fn read_on(&mut self, pong_by: Instant) -> Pause {
        if self.ping_sent {
            self.heartbeat = self.heartbeat.map(|due| due.max(pong_by));
        }
        if let Some(partial) = &mut self.partial {
            partial.due = partial.due.max(pong_by);
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

    /// In a namespace.
    pub fn has_entered(&self) -> bool {
        self.joined != 0
    }

    /// Bytes of memory that wait to be sent, but for what is being sent.
    pub fn outbox_bytes(&self) -> usize {
        self.outbox.held_with(0)
    }

    /// Only what is in the outbox is still sent.
    pub fn is_closing(&self) -> bool {
        matches!(self.phase, Phase::Closing { .. })
    }

    /// An Engine.IO session, as opposed to a plain WebSocket or one that is being probed.
    pub fn is_session(&self) -> bool {
        self.heartbeat.is_some()
    }
}

/// How packets travel.
pub enum Transport {
    /// The socket, non-blocking and registered with the poll.
    WebSocket(TcpStream),
    /// Requests bring them and fetch them.
    Polling(Box<Polling>),
}

impl Transport {
    /// The socket, if there is one all the time.
    pub fn socket(&mut self) -> Option<&mut TcpStream> {
        match self {
            Transport::WebSocket(stream) => Some(stream),
            Transport::Polling(_) => None,
        }
    }

    /// Packets travel by requests.
    pub fn is_polling(&self) -> bool {
        matches!(self, Transport::Polling(_))
    }

    /// The requests, if that is how packets travel.
    pub fn polling(&mut self) -> Option<&mut Polling> {
        match self {
            Transport::WebSocket(_) => None,
            Transport::Polling(polling) => Some(polling),
        }
    }
}

/// The requests of a session.
#[derive(Default)]
pub struct Polling {
    /// A request that waits for something to fetch; it is given the payload.
    pub fetch: Option<oneshot::Sender<Vec<u8>>>,
    /// That request's mark.
    pub mark: Mark,
    /// The mark of the last request that was given packets.
    pub answered: Mark,
    /// The request that brings packets.
    pub bring: Bring,
    /// Those of its packets that have not been acted on.
    pub payload: Bytes,
    /// Bytes of memory of the payload they came in.
    pub payload_bytes: usize,
    /// The WebSocket that may take over.
    pub probe: Option<Key>,
    /// That WebSocket works: requests are let go at once, so that it can.
    pub probed: bool,
    /// The close frame of a session that has ended, if requests are not shown it: for the WebSocket, if it
    /// takes over after all.
    pub farewell: Bytes,
}

/// The request that brings packets.
#[derive(Default)]
pub enum Bring {
    /// There is none.
    #[default]
    None,
    /// Its body is on the way.
    Reading,
    /// Its packets are being acted on; it is answered behind the last.
    Acting(oneshot::Sender<()>),
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// In use.
    Open,
    /// A WebSocket that may take over a session from long polling.
    Probe {
        /// The session.
        session: Key,
        /// When it is given up.
        deadline: Instant,
    },
    /// Only what is in the outbox is still sent.
    Closing {
        /// When it ends even if the client does not read.
        deadline: Instant,
    },
}

/// Why nothing more is read from a client for now. Bytes wait in the kernel meanwhile, so that a
/// client which outruns the server feels it in its own socket.
#[derive(Debug, PartialEq, Eq)]
pub enum Pause {
    /// Reading.
    No,
    /// Too many events are unanswered.
    Backlog,
    /// An event that must see the effect of the earlier ones waits for their answers.
    Deferred(Box<str>),
    /// Such an event is being answered.
    Answering,
    /// A long answer is on the way. Who asks for more before taking it would only fill the outbox.
    Sending,
}

/// A message that has not arrived whole.
pub struct Fragments {
    /// Text, or binary.
    pub text: bool,
    /// The payload so far, unmasked.
    pub bytes: Vec<u8>,
    /// Bytes of it that are known to be UTF-8, if it is text.
    pub checked: usize,
    /// What is still missing of the frame that is arriving.
    pub frame: Option<Rest>,
}

/// The rest of a frame.
pub struct Rest {
    /// Bytes to come.
    pub len: usize,
    /// Key of the next four of them.
    pub mask: [u8; 4],
    /// The last frame of its message.
    pub last: bool,
}

/// A Socket.IO packet and those of its attachments that are here.
pub struct Partial {
    /// The packet's text.
    pub text: Box<str>,
    /// How many attachments it has.
    pub attachments: usize,
    /// Those that are here.
    pub arrived: Vec<Bytes>,
    /// Bytes of it all.
    pub bytes: usize,
    /// When the rest is overdue.
    pub due: Instant,
}

/// All connections of an engine.
pub struct Table<S> {
    rows: Slab<Conn<S>>,
    generation: u32,
    unfinished: usize,
    /// Rows whose packets travel by long polling.
    polling: usize,
    /// Bytes in outboxes, as of when each was last accounted for.
    waiting: u64,
}

impl<S> Default for Table<S> {
    fn default() -> Table<S> {
        Table { rows: Slab::new(), generation: 0, unfinished: 0, polling: 0, waiting: 0 }
    }
}

impl<S> Table<S> {
    /// The slot the next connection will get and its generation.
    pub fn vacant(&mut self) -> Key {
        self.generation = self.generation.wrapping_add(1);
        Key { slot: slot(self.rows.vacant_key()), generation: self.generation }
    }

    /// Adds the connection made for the last [`Table::vacant`] key.
    pub fn insert(&mut self, conn: Conn<S>) {
        self.polling += usize::from(conn.transport.is_polling());
        self.rows.insert(conn);
    }

    /// The connection, if it is still the same one.
    pub fn get(&mut self, key: Key) -> Option<&mut Conn<S>> {
        self.rows.get_mut(key.slot as usize).filter(|conn| conn.generation == key.generation)
    }

    /// The connection in a slot.
    pub fn at(&mut self, slot: Slot) -> Option<&mut Conn<S>> {
        self.rows.get_mut(slot as usize)
    }

    /// Key of the connection in a slot.
    pub fn key(&self, slot: Slot) -> Option<Key> {
        self.rows.get(slot as usize).map(|conn| Key { slot, generation: conn.generation })
    }

    /// Takes a connection out.
    pub fn remove(&mut self, slot: Slot) -> Option<Conn<S>> {
        let conn = self.rows.try_remove(slot as usize)?;
        self.polling -= usize::from(conn.transport.is_polling());
        self.waiting -= u64::from(conn.outbox.accounted);
        self.unfinished -= conn.counted as usize;
        Some(conn)
    }

    /// Bytes of memory of what clients have begun to send, when last counted.
    pub fn unfinished(&self) -> usize {
        self.unfinished
    }

    /// Counts what a client has begun to send; answers its bytes if they have become more.
    pub(super) fn count_unfinished(&mut self, key: Key) -> Option<usize> {
        let conn = self.get(key)?;
        let now = u32::try_from(conn.unfinished()).unwrap_or(u32::MAX);
        let before = std::mem::replace(&mut conn.counted, now);
        self.unfinished = self.unfinished - before as usize + now as usize;
        (now > before).then_some(now as usize)
    }

    /// Has a session go on by another transport.
    pub(super) fn change_transport(&mut self, key: Key, transport: Transport) {
        let more = usize::from(transport.is_polling());
        if let Some(conn) = self.get(key) {
            let before = std::mem::replace(&mut conn.transport, transport);
            self.polling = self.polling + more - usize::from(before.is_polling());
        }
    }

    /// Takes note of what waits in a connection's outbox now.
    pub(super) fn account(&mut self, key: Key) {
        let Some(conn) = self.get(key) else {
            return;
        };
        let now = u32::try_from(conn.outbox.held()).unwrap_or(u32::MAX);
        let before = std::mem::replace(&mut conn.outbox.accounted, now);
        self.waiting = self.waiting + u64::from(now) - u64::from(before);
    }

    /// Connections by long polling.
    pub fn polling(&self) -> usize {
        self.polling
    }

    /// Bytes that wait in all outboxes, as of the last turn.
    pub fn waiting(&self) -> u64 {
        self.waiting
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
