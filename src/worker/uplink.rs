//! The worker's end of the link to the storage writer.
//!
//! Every operation is kept until it is answered. When the writer goes away, the link comes back by
//! itself, says how far it had followed, and sends the unanswered operations again under the same
//! ids; so a writer's death costs its clients time and nothing else.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use minitalk_supervisor::{STORAGE_SOCKET, unix};
use mio::net::UnixStream;
use mio::{Interest, Registry, Token};
use tokio::sync::oneshot;

use super::token::Known;
use crate::challenge::Reason;
use crate::chat::{OpId, Refusal};
use crate::config;
use crate::engine::table::Key;
use crate::link::codec::{self, LinkError};
use crate::link::frame::{Outcome, Position, ToWriter};
use crate::link::version::VERSION;

/// Time between two attempts to reach the storage writer.
const RETRY: Duration = Duration::from_millis(10);

/// The same after one that speaks another version: only an upgrade that is taken back can change that.
const RETRY_OTHER_VERSION: Duration = Duration::from_millis(200);

/// Bytes asked of the socket at a time.
const READ_BYTES: usize = 64 << 10;

/// Who waits for an answer.
pub enum Asker {
    /// A client's `send_message`, with the ack it asked for.
    Message(Key, Option<u64>),
    /// A client's `join_room`, and the ack it asked for.
    JoinRoom(Key, Option<u64>, String),
    /// A client that has heard more than this worker, on its way in.
    Return(Key, Known),
    /// A client on its way in with a ticket, and what its CONNECT packet says.
    Ticket(Key, Box<str>),
    /// A participant of a live challenge on its way in with a ticket.
    Enter(Key),
    /// One who has left, and why; the connection that is to be closed then.
    Leave(Option<Key>, Reason),
    /// A REST call.
    Call(oneshot::Sender<Result<Outcome, Refusal>>),
}

struct Pending {
    asker: Asker,
    frame: Vec<u8>,
}

/// What the link is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No connection.
    Down,
    /// Connected; nothing is known until the writer welcomes us.
    Greeting,
    /// In use.
    Up,
}

/// The link and what it owes and is owed.
pub struct Uplink {
    run_dir: PathBuf,
    worker: u16,
    /// [`OpId::instance`] of this process.
    pub instance: u64,
    /// How far the published orders have been followed.
    pub position: Position,
    /// Whether there was a first welcome; before it nothing can be known.
    pub welcomed: bool,
    state: State,
    /// The writer that was last reached speaks another version of the link.
    is_foreign: bool,
    stream: Option<UnixStream>,
    retry_at: Instant,
    count: u64,
    pending: HashMap<u64, Pending, foldhash::fast::RandomState>,
    pending_bytes: usize,
    out: Vec<u8>,
    sent: usize,
    unread: Vec<u8>,
}

impl Uplink {
    /// A link that is down and due to be tried at once.
    pub fn new(run_dir: PathBuf, worker: u16, instance: u64, now: Instant) -> Uplink {
        Uplink {
            run_dir,
            worker,
            instance,
            position: Position::default(),
            welcomed: false,
            state: State::Down,
            is_foreign: false,
            stream: None,
            retry_at: now,
            count: 0,
            pending: HashMap::default(),
            pending_bytes: 0,
            out: Vec::new(),
            sent: 0,
            unread: Vec::new(),
        }
    }

    /// Whether what is told now arrives, if the writer lives.
    pub fn is_up(&self) -> bool {
        self.state == State::Up
    }

    /// Whether the writer speaks another version of the link: nothing is answered any more.
    pub fn is_foreign(&self) -> bool {
        self.is_foreign
    }

    /// Operations without an answer.
    pub fn unanswered(&self) -> usize {
        self.pending.len()
    }

    /// Whether one more operation may be taken in.
    pub fn has_room(&self) -> bool {
        self.pending.len() < config::UNANSWERED_PER_WORKER
            && self.pending_bytes < config::UNANSWERED_BYTES_PER_WORKER
    }

    /// Takes in one operation; `frame` is given its count.
    ///
    /// # Errors
    /// `OVERLOADED` when too much is unanswered; the asker is dropped.
    pub fn submit<'a>(
        &mut self,
        asker: Asker,
        frame: impl FnOnce(u64) -> ToWriter<'a>,
    ) -> Result<(), Refusal> {
        if !self.has_room() {
            return Err(Refusal::overloaded());
        }
        self.count += 1;
        let mut bytes = Vec::new();
        codec::encode(&frame(self.count), &mut bytes).map_err(|_| {
            Refusal::new(crate::chat::Code::BodyTooLarge, "The request is too large for one step")
        })?;
        if self.state == State::Up {
            self.out.extend_from_slice(&bytes);
        }
        self.pending_bytes += bytes.len();
        self.pending.insert(self.count, Pending { asker, frame: bytes });
        Ok(())
    }

    /// Whether what is told now is sent.
    pub fn takes_news(&self) -> bool {
        self.state == State::Up && self.out.len() < config::UNANSWERED_BYTES_PER_WORKER
    }

    /// Sends what needs no answer; lost unless [`Uplink::takes_news`].
    pub fn tell(&mut self, frame: &ToWriter<'_>) {
        if self.takes_news() {
            // Only a frame over the size limit fails, and these are small.
            let _ = codec::encode(frame, &mut self.out);
        }
    }

    /// Who asked for the operation that is now answered; `None` if it was answered before.
    pub fn take(&mut self, count: u64) -> Option<Asker> {
        let pending = self.pending.remove(&count)?;
        self.pending_bytes -= pending.frame.len();
        Some(pending.asker)
    }

    /// Who asked for a published operation, if it was this process.
    pub fn take_own(&mut self, origin: OpId) -> Option<Asker> {
        if origin.instance == self.instance { self.take(origin.count) } else { None }
    }

    /// When [`Uplink::connect`] wants to be called; `None` while connected.
    pub fn retry_at(&self) -> Option<Instant> {
        (self.state == State::Down).then_some(self.retry_at)
    }

    /// Tries to reach the writer and greets it.
    pub fn connect(&mut self, now: Instant, registry: &Registry, token: Token) {
        self.retry_at = now + RETRY;
        // A writer that hangs with a full backlog holds nobody up.
        let Ok(stream) = unix::connect_at_once(&self.run_dir, STORAGE_SOCKET) else {
            return;
        };
        let mut stream = UnixStream::from_std(stream);
        if registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE).is_err() {
            return;
        }
        let hello = ToWriter::Hello {
            version: VERSION,
            worker: self.worker,
            instance: self.instance,
            known: self.welcomed.then_some(self.position),
        };
        self.out.clear();
        self.unread.clear();
        self.sent = 0;
        let _ = codec::encode(&hello, &mut self.out);
        self.stream = Some(stream);
        self.state = State::Greeting;
    }

    /// The writer has welcomed us: everything unanswered is sent again, in the order it was asked.
    pub fn welcome(&mut self, position: Position) {
        if !self.welcomed {
            self.position = position;
            self.welcomed = true;
        }
        (self.state, self.is_foreign) = (State::Up, false);
        let mut counts: Vec<u64> = self.pending.keys().copied().collect();
        counts.sort_unstable();
        for count in counts {
            self.out.extend_from_slice(&self.pending[&count].frame);
        }
    }

    /// The writer speaks another version, and is about to end the connection. It is tried again, for it may give
    /// way to one of this version.
    pub fn refuse(&mut self, version: u16, now: Instant) {
        if !self.is_foreign {
            tracing::error!(
                theirs = version,
                ours = VERSION,
                unanswered = self.pending.len(),
                "the storage writer speaks another version of the link: nothing is acknowledged until a successor \
                 takes over"
            );
        }
        self.is_foreign = true;
        self.drop_link(io::ErrorKind::Unsupported.into());
        self.retry_at = now + RETRY_OTHER_VERSION;
    }

    /// Forgets everybody who waits for an answer.
    pub fn give_up(&mut self) -> Vec<Asker> {
        self.pending_bytes = 0;
        self.pending.drain().map(|(_, pending)| pending.asker).collect()
    }

    /// Reads what has arrived behind what was left unread. `Ok(false)`: nothing more for now.
    ///
    /// # Errors
    /// The writer is gone; the link is down.
    pub fn receive(&mut self) -> io::Result<bool> {
        let Some(stream) = self.stream.as_mut() else {
            return Ok(false);
        };
        let start = self.unread.len();
        self.unread.resize(start + READ_BYTES, 0);
        let result = stream.read(&mut self.unread[start..]);
        self.unread.truncate(start + *result.as_ref().unwrap_or(&0));
        match result {
            Ok(0) => Err(self.drop_link(io::ErrorKind::UnexpectedEof.into())),
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(true),
            Err(error) => Err(self.drop_link(error)),
        }
    }

    /// Takes the received bytes for reading frames; give the unread rest back with
    /// [`Uplink::put_back`].
    pub fn received(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.unread)
    }

    /// Keeps what is behind the last whole frame. `used` bytes of `bytes` were read.
    pub fn put_back(&mut self, mut bytes: Vec<u8>, used: usize) {
        bytes.drain(..used);
        if bytes.is_empty() && bytes.capacity() > 4 * READ_BYTES {
            bytes = Vec::new();
        }
        self.unread = bytes;
    }

    /// The writer sent something unreadable: the connection is of no more use.
    pub fn broken(&mut self, error: &LinkError) {
        tracing::error!(%error, "the storage writer sent an unreadable frame; connecting again");
        self.drop_link(io::ErrorKind::InvalidData.into());
    }

    /// Writes what waits, as far as the socket takes it.
    pub fn flush(&mut self) {
        while self.sent < self.out.len() {
            let Some(stream) = self.stream.as_mut() else {
                return;
            };
            match stream.write(&self.out[self.sent..]) {
                Ok(sent) => self.sent += sent,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // Under steady load the buffer may never be sent to its end.
                    if self.sent >= READ_BYTES.max(self.out.len() / 2) {
                        self.out.drain(..self.sent);
                        self.sent = 0;
                    }
                    return;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.drop_link(error);
                    return;
                }
            }
        }
        self.sent = 0;
        self.out.clear();
        if self.out.capacity() > 4 * READ_BYTES {
            self.out = Vec::new();
        }
    }

    fn drop_link(&mut self, error: io::Error) -> io::Error {
        if self.state == State::Up {
            tracing::warn!(%error, unanswered = self.pending.len(), "lost the storage writer; connecting again");
        }
        self.state = State::Down;
        self.stream = None;
        self.out = Vec::new();
        self.sent = 0;
        error
    }
}
