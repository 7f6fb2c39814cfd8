//! What a returning worker has missed, read from the logs.
//!
//! A thread of its own reads from where the worker was to where publication stood when it came
//! back, so that neither the others nor the commit wait for it. A short bounded queue keeps it from
//! reading faster than the worker takes. Where the logs can't be read the worker is told to begin anew, as
//! one that was away for too long: it lets its clients go, who come back and ask for what they missed
//! themselves, and serves everything that can be read.

use std::path::Path;

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, bounded};

use super::batch::Batch;
use super::publish::Publisher;
use crate::chat::RoomEvent;
use crate::journal::JournalError;
use crate::journal::after::{MessagesAfter, RoomsAfter};
use crate::journal::record::{RoomChange, RoomRecord};
use crate::link::codec::{self, LinkError};
use crate::link::frame::{FromWriter, Position};

/// Bytes of lines in one frame; one line more may exceed it.
const FRAME_BYTES: usize = 256 << 10;

/// Frames read ahead.
const READ_AHEAD: usize = 4;

/// What the reading thread has to say.
pub enum Piece {
    /// A frame.
    Frame(Bytes),
    /// That was all.
    End,
    /// The logs can't be read; the worker can't be served.
    Failed,
}

/// Begins reading what was published after `known` and up to `upto`.
pub fn start(publisher: Publisher, data_dir: &Path, known: Position, upto: Position) -> Receiver<Piece> {
    let (pieces, receiver) = bounded(READ_AHEAD);
    let data_dir = data_dir.to_owned();
    let started = std::thread::Builder::new().name("catch-up".into()).spawn({
        let (pieces, publisher) = (pieces.clone(), publisher.clone());
        move || {
            let reader = Reader { pieces: &pieces, publisher: &publisher };
            let end = match reader.read(&data_dir, known, upto) {
                Ok(()) => Piece::End,
                Err(Stop::PeerGone) => return,
                Err(Stop::Failed(error)) => {
                    // It could never get beyond that by itself.
                    tracing::error!(%error, "cannot read what a worker has missed; it begins anew");
                    match afresh(upto).map_err(Stop::from).and_then(|frame| reader.send(Piece::Frame(frame)))
                    {
                        Ok(()) => Piece::End,
                        Err(Stop::PeerGone) => return,
                        Err(Stop::Failed(_)) => Piece::Failed,
                    }
                }
            };
            let _ = reader.send(end);
        }
    });
    if let Err(error) = started {
        tracing::error!(%error, "cannot start a thread to read what a worker has missed");
        let _ = pieces.try_send(Piece::Failed);
        publisher.wake();
    }
    receiver
}

enum Stop {
    PeerGone,
    Failed(String),
}

impl From<JournalError> for Stop {
    fn from(error: JournalError) -> Stop {
        Stop::Failed(error.to_string())
    }
}

impl From<LinkError> for Stop {
    fn from(error: LinkError) -> Stop {
        Stop::Failed(error.to_string())
    }
}

struct Reader<'a> {
    pieces: &'a Sender<Piece>,
    publisher: &'a Publisher,
}

impl Reader<'_> {
    /// Messages and changes of rooms, in the order they were published: a change comes behind the
    /// message it names as the last one before it.
    fn read(&self, data_dir: &Path, known: Position, upto: Position) -> Result<(), Stop> {
        let mut messages = MessagesAfter::open(data_dir, known.seq, upto.seq)?;
        let Some(mut rooms) = RoomsAfter::open(data_dir, known.rev, upto.rev)? else {
            tracing::warn!(rev = known.rev, "a worker was away for longer than changes of rooms are kept");
            return self.send(Piece::Frame(afresh(upto)?));
        };
        let mut batch = Batch::default();
        let mut change = rooms.next_record()?;
        while let Some((line, message)) = messages.next_message()? {
            if change.as_ref().is_some_and(|change| change.after_seq < message.seq) {
                self.send_messages(&mut batch)?;
                change = self.send_changes(change, &mut rooms, message.seq)?;
            }
            batch.push_stored(line, &message);
            if batch.lines().len() >= FRAME_BYTES {
                self.send_messages(&mut batch)?;
            }
        }
        self.send_messages(&mut batch)?;
        self.send_changes(change, &mut rooms, u64::MAX).map(drop)
    }

    /// Sends the changes before message `seq`; answers the first one behind it.
    fn send_changes(
        &self,
        mut change: Option<RoomRecord>,
        rooms: &mut RoomsAfter,
        seq: u64,
    ) -> Result<Option<RoomRecord>, Stop> {
        let mut frames = RoomFrames::default();
        while let Some(record) = change.take_if(|record| record.after_seq < seq) {
            frames.push(record.rev, event(record.change));
            change = rooms.next_record()?;
        }
        for frame in frames.encode()? {
            self.send(Piece::Frame(frame))?;
        }
        Ok(change)
    }

    fn send_messages(&self, batch: &mut Batch) -> Result<(), Stop> {
        if batch.is_empty() {
            return Ok(());
        }
        let mut frame = Vec::new();
        batch.encode(&mut frame)?;
        batch.clear();
        self.send(Piece::Frame(frame.into()))
    }

    fn send(&self, piece: Piece) -> Result<(), Stop> {
        self.pieces.send(piece).map_err(|_| Stop::PeerGone)?;
        self.publisher.wake();
        Ok(())
    }
}

/// Tells a worker to begin anew.
///
/// # Errors
/// None that can happen: the frame is small.
pub fn afresh(position: Position) -> Result<Bytes, LinkError> {
    let mut frame = Vec::new();
    codec::encode(&FromWriter::Afresh { position }, &mut frame)?;
    Ok(frame.into())
}

/// What workers are told of a change.
pub fn event(change: RoomChange) -> RoomEvent {
    match change {
        RoomChange::Created { room_id, members, .. } => RoomEvent::Created { room_id, members },
        RoomChange::Joined { room_id, users, .. } => RoomEvent::Joined { room_id, users },
        RoomChange::Left { room_id, user, deleted, .. } => RoomEvent::Left { room_id, user, deleted },
    }
}

/// What workers are told of changes. Gathers those of rooms into frames of bounded size.
#[derive(Default)]
pub struct RoomFrames {
    frames: Vec<(u64, Vec<RoomEvent>)>,
    bytes: usize,
    /// Tokens have ended.
    pub revoked: bool,
}

impl RoomFrames {
    /// Adds a change.
    pub fn push(&mut self, rev: u64, event: RoomEvent) {
        let members = match &event {
            RoomEvent::Created { members, .. } => members.len(),
            RoomEvent::Joined { users, .. } => users.len(),
            RoomEvent::Left { .. } => 1,
        };
        // A number takes at most ten bytes, a room's id far less than the rest.
        self.bytes += members * 10 + 256;
        match self.frames.last_mut() {
            Some((last, events)) if self.bytes < FRAME_BYTES => {
                *last = rev;
                events.push(event);
            }
            _ => {
                self.frames.push((rev, vec![event]));
                self.bytes = members * 10 + 256;
            }
        }
    }

    /// The frames.
    ///
    /// # Errors
    /// One change alone is too large for the link.
    pub fn encode(self) -> Result<Vec<Bytes>, LinkError> {
        let encode = |(rev, events)| {
            let mut frame = Vec::new();
            codec::encode(&FromWriter::Rooms { rev, events }, &mut frame)?;
            Ok(frame.into())
        };
        let mut frames = self.frames.into_iter().map(encode).collect::<Result<Vec<Bytes>, LinkError>>()?;
        if self.revoked {
            let mut frame = Vec::new();
            codec::encode(&FromWriter::Revoked, &mut frame)?;
            frames.push(frame.into());
        }
        Ok(frames)
    }
}
