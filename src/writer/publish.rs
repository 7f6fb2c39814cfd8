//! The thread that tells the workers, all in one order.
//!
//! It owns the write halves of all connections and waits for none: what a socket does not take
//! stays in its peer's outbox, and a peer whose outbox outgrows its bound is dropped; it comes back
//! and is served the rest from the log. What is for all is encoded once.

use std::collections::HashMap;
use std::io;
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};

use super::batch::{Answer, Batch, PeerId};
use super::catchup::{self, RoomFrames};
use super::census::{Census, Limits, News};
use super::outbox::Outbox;
use super::peer::Peer;
use super::status::Status;
use crate::chat::UserId;
use crate::config::PUBLISH_QUEUE_BYTES;
use crate::link::codec;
use crate::link::frame::{FromWriter, Position, Visitors};

/// What the other threads have to tell.
pub enum Event {
    /// A worker has greeted.
    Attach {
        /// Names the connection.
        peer: PeerId,
        /// Of the worker's process.
        instance: u64,
        /// The connection.
        stream: Arc<UnixStream>,
        /// What the worker last heard.
        known: Option<Position>,
    },
    /// A worker's connection has ended.
    Gone(PeerId),
    /// A worker sent something unreadable.
    Drop(PeerId),
    /// Durable messages, and answers behind them.
    Batch(Box<Batch>),
    /// Durable changes of rooms, and answers behind them.
    Changes(RoomFrames, u64, Vec<Answer>),
    /// News of live challenges, and answers behind them.
    Arena(Vec<Bytes>, Vec<Answer>),
    /// Frames for one worker.
    Tell(PeerId, Vec<Bytes>),
    /// What came of something that is not stored.
    Answer(Box<Answer>),
    /// Users up to this number are gone, with all rooms.
    UsersDeleted(UserId),
    /// A frame for all that is not stored.
    Ephemeral(Bytes),
    /// What a worker has of connections.
    Visitors(PeerId, Visitors),
    /// Nothing more will come.
    Stop,
}

/// Events waiting for the thread; more make their senders wait.
const EVENTS: usize = 32;

/// Events handled before the sockets are written to.
const EVENTS_PER_TURN: usize = 16;

/// How long the last bytes are tried to be written at the end.
const LAST_FLUSH: Duration = Duration::from_secs(2);

/// The waker's token; peers count from 1.
const WAKER: Token = Token(0);

/// The other threads' end.
#[derive(Clone)]
pub struct Publisher {
    events: Sender<Event>,
    waker: Arc<Waker>,
}

impl Publisher {
    /// Hands an event over; waits while there are too many.
    pub fn send(&self, event: Event) {
        // The thread ends only when told to stop, after everybody else.
        let _ = self.events.send(event);
        self.wake();
    }

    /// Hands over a frame that may be lost, and loses it if there is much else to do.
    pub fn tell_all(&self, frame: Bytes) {
        if self.events.try_send(Event::Ephemeral(frame)).is_ok() {
            self.wake();
        }
    }

    /// Makes the thread look around.
    pub fn wake(&self) {
        if let Err(error) = self.waker.wake() {
            tracing::error!(%error, "cannot wake the publishing thread");
        }
    }
}

/// What the thread owns.
pub struct Publishing {
    poll: Poll,
    events: Receiver<Event>,
    publisher: Publisher,
    data_dir: PathBuf,
    position: Position,
    peers: HashMap<PeerId, Peer>,
    census: Census,
    used: Sender<Box<Batch>>,
    status: Arc<Status>,
}

impl Publishing {
    /// A thread's state, others' end of it, and where emptied batches come back.
    ///
    /// # Errors
    /// The kernel refused a poll.
    pub fn new(
        data_dir: PathBuf,
        position: Position,
        limits: Limits,
        status: Arc<Status>,
    ) -> io::Result<(Publishing, Publisher, Receiver<Box<Batch>>)> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let (sender, events) = bounded(EVENTS);
        let (used, unused) = bounded(2);
        let publisher = Publisher { events: sender, waker };
        let publishing = Publishing {
            poll,
            events,
            publisher: publisher.clone(),
            data_dir,
            position,
            peers: HashMap::new(),
            census: Census::new(limits),
            used,
            status,
        };
        Ok((publishing, publisher, unused))
    }

    /// Works until told to stop, then writes what is left if the workers take it.
    pub fn run(mut self) {
        let mut ready = Events::with_capacity(64);
        let mut more = false;
        loop {
            let timeout = more.then_some(Duration::ZERO);
            if let Err(error) = self.poll.poll(&mut ready, timeout)
                && error.kind() != io::ErrorKind::Interrupted
            {
                tracing::error!(%error, "cannot wait for the workers' sockets");
                return;
            }
            match self.turn() {
                Some(further) => more = further,
                None => return self.finish(),
            }
            self.flush();
        }
    }

    /// Handles some events; answers whether there may be more, `None` after the last.
    fn turn(&mut self) -> Option<bool> {
        for _ in 0..EVENTS_PER_TURN {
            match self.events.try_recv() {
                Ok(Event::Stop) | Err(TryRecvError::Disconnected) => return None,
                Ok(event) => self.handle(event),
                Err(TryRecvError::Empty) => return Some(false),
            }
        }
        Some(true)
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Attach { peer, instance, stream, known } => self.attach(peer, instance, stream, known),
            Event::Gone(peer) => self.remove(peer),
            Event::Drop(peer) => self.drop_peer(peer, "it sent an unreadable frame"),
            Event::Batch(batch) => self.publish(batch),
            Event::Changes(frames, rev, answers) => {
                let revoked = frames.revoked;
                match frames.encode() {
                    Ok(frames) => frames.into_iter().for_each(|frame| self.broadcast(&frame)),
                    Err(error) => tracing::error!(%error, "cannot publish a change"),
                }
                self.position.rev = rev;
                if revoked {
                    // All hear of it before the one who asked.
                    self.flush();
                }
                self.answer(&answers);
            }
            Event::Arena(frames, answers) => {
                frames.iter().for_each(|frame| self.broadcast(frame));
                self.answer(&answers);
            }
            Event::Tell(peer, frames) => {
                if let Some(peer) = self.peers.get_mut(&peer) {
                    frames.into_iter().for_each(|frame| peer.live().push(frame));
                }
            }
            Event::Answer(answer) => self.answer(std::slice::from_ref(&answer)),
            Event::UsersDeleted(last_user) => {
                let mut frame = Vec::new();
                match codec::encode(&FromWriter::UsersDeleted { last_user }, &mut frame) {
                    Ok(()) => self.broadcast(&frame.into()),
                    Err(error) => tracing::error!(%error, "cannot publish a deletion"),
                }
                // All hear of it before the one who asked.
                self.flush();
            }
            Event::Ephemeral(frame) => self.broadcast(&frame),
            Event::Visitors(peer, visitors) => {
                let news = self.census.hear(peer, visitors);
                self.tell(news);
            }
            Event::Stop => {}
        }
    }

    fn publish(&mut self, batch: Box<Batch>) {
        if !batch.is_empty() {
            let mut frame = Vec::with_capacity(batch.lines().len() * 5 / 4);
            match batch.encode(&mut frame) {
                Ok(()) => self.broadcast(&frame.into()),
                Err(error) => tracing::error!(%error, "cannot publish a batch"),
            }
            self.position.seq = batch.last_seq();
        }
        self.answer(&batch.answers);
        // Not taken: there are enough of them.
        let _ = self.used.try_send(batch);
    }

    fn answer(&mut self, answers: &[Answer]) {
        for Answer { peer, count, result } in answers {
            let Some(peer) = self.peers.get_mut(peer) else {
                continue;
            };
            let count = *count;
            let frame = match result {
                Ok(outcome) => FromWriter::Done { count, outcome: outcome.clone() },
                Err(refusal) => FromWriter::Refused { count, refusal: refusal.clone() },
            };
            if let Err(error) = codec::encode(&frame, peer.live().tail()) {
                tracing::error!(%error, "cannot answer an operation");
            }
        }
    }

    fn broadcast(&mut self, frame: &Bytes) {
        for peer in self.peers.values_mut() {
            peer.live().push(frame.clone());
        }
    }

    fn tell(&mut self, news: News) {
        let peers = &mut self.peers;
        self.census.tell(news, |peer, frame| {
            if let Some(peer) = peers.get_mut(&peer)
                && let Err(error) = codec::encode(frame, peer.live().tail())
            {
                tracing::error!(%error, "cannot tell a worker what others have");
            }
        });
    }

    fn attach(&mut self, id: PeerId, instance: u64, stream: Arc<UnixStream>, known: Option<Position>) {
        let fd = stream.as_raw_fd();
        let token = Token(usize::try_from(id).unwrap_or(usize::MAX));
        if let Err(error) = self.poll.registry().register(&mut SourceFd(&fd), token, Interest::WRITABLE) {
            tracing::error!(%error, "cannot serve a worker");
            let _ = stream.shutdown(Shutdown::Both);
            return;
        }
        let mut outbox = Outbox::default();
        let welcome = FromWriter::Welcome { position: self.position };
        if let Err(error) = codec::encode(&welcome, outbox.tail()) {
            tracing::error!(%error, "cannot welcome a worker");
        }
        let upto = self.position;
        let deleted = self.status.deleted_upto.load(Ordering::Acquire).min(upto.seq);
        let mut missed = known
            .map(|known| Position { seq: known.seq.max(deleted), ..known })
            .filter(|known| known.seq < upto.seq || known.rev < upto.rev);
        if known.is_some_and(|known| known.rev < self.status.afresh.load(Ordering::Acquire)) {
            missed = None;
            match catchup::afresh(upto) {
                Ok(frame) => outbox.push(frame),
                Err(error) => tracing::error!(%error, "cannot tell a worker to begin anew"),
            }
        }
        let pieces = missed.map(|known| {
            tracing::info!(peer = id, messages = upto.seq.saturating_sub(known.seq), "a worker is back");
            catchup::start(self.publisher.clone(), &self.data_dir, known, upto)
        });
        self.peers.insert(id, Peer::new(stream, outbox, pieces));
        let news = self.census.enter(id, instance);
        self.tell(news);
        self.count();
    }

    fn count(&self) {
        self.status.peers.store(self.peers.len() as u64, Ordering::Relaxed);
    }

    fn remove(&mut self, id: PeerId) {
        if let Some(peer) = self.peers.remove(&id) {
            let fd = peer.stream.as_raw_fd();
            let _ = self.poll.registry().deregister(&mut SourceFd(&fd));
            let news = self.census.leave(id);
            self.tell(news);
            self.count();
        }
    }

    fn drop_peer(&mut self, id: PeerId, why: &str) {
        if let Some(peer) = self.peers.get(&id) {
            tracing::warn!(peer = id, why, "dropping a worker's connection; it will come back");
            // Its reading thread sees the end, too.
            let _ = peer.stream.shutdown(Shutdown::Both);
            self.remove(id);
        }
    }

    fn flush(&mut self) {
        let mut bad = Vec::new();
        for (id, peer) in &mut self.peers {
            if let Err(why) = peer.advance() {
                bad.push((*id, why.to_string()));
            } else if peer.held() > PUBLISH_QUEUE_BYTES {
                bad.push((*id, "it does not read what is published".to_owned()));
            }
        }
        for (id, why) in bad {
            self.drop_peer(id, &why);
        }
    }

    fn finish(mut self) {
        let end = Instant::now() + LAST_FLUSH;
        let mut ready = Events::with_capacity(64);
        self.flush();
        while self.peers.values().any(|peer| peer.owes()) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || self.poll.poll(&mut ready, Some(left)).is_err() {
                return;
            }
            self.flush();
        }
    }
}
