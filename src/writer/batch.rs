//! Messages that are stored together, and what is to be said about them.

use std::borrow::Cow;
use std::ops::Range;

use crate::chat::{OpId, Refusal};
use crate::journal::record::{self, Message};
use crate::journal::stamp::Stamp;
use crate::link::codec::{self, LinkError};
use crate::link::frame::{self, FromWriter, Outcome};

/// Names one connection of a worker; never used twice.
pub type PeerId = u64;

/// What came of an operation, and who is to be told.
#[derive(Debug)]
pub struct Answer {
    /// The connection it was asked on.
    pub peer: PeerId,
    /// [`OpId::count`] of the operation.
    pub count: u64,
    /// What came of it.
    pub result: Result<Outcome, Refusal>,
}

/// Lines of new messages with what their publication needs, and answers to go with them. The
/// buffers are used again for the next batch.
#[derive(Default)]
pub struct Batch {
    lines: Vec<u8>,
    rooms: String,
    posts: Vec<Post>,
    /// Answers to operations that store nothing new.
    pub answers: Vec<Answer>,
}

struct Post {
    seq: u64,
    id: OpId,
    timestamp_ms: i64,
    /// As [`frame::Message`] has it.
    sent_us: u64,
    peer: PeerId,
    /// In `rooms`.
    room: Range<usize>,
    /// In `lines`.
    fields: Range<usize>,
}

/// Bytes of buffers worth keeping for the next batch.
const KEPT_BYTES: usize = 1 << 20;

impl Batch {
    /// Adds a new message, which a worker took in at `sent_us`, and encodes its line.
    pub fn push(&mut self, peer: PeerId, sent_us: u64, message: &Message<'_>, stamp: &mut Stamp) {
        let fields = record::encode_message(message, stamp, &mut self.lines);
        self.add(peer, sent_us, message, fields);
    }

    /// Adds a message whose line is in the log.
    pub fn push_stored(&mut self, line: &[u8], message: &Message<'_>) {
        let Some(fields) = record::client_fields(line) else {
            return; // Not of a line that was read as a message.
        };
        let start = self.lines.len() + 1;
        let fields = start..start + fields.len();
        self.lines.extend_from_slice(line);
        self.add(0, 0, message, fields);
    }

    fn add(&mut self, peer: PeerId, sent_us: u64, message: &Message<'_>, fields: Range<usize>) {
        let start = self.rooms.len();
        self.rooms.push_str(&message.room_id);
        let room = start..self.rooms.len();
        let Message { seq, id, timestamp_ms, .. } = *message;
        self.posts.push(Post { seq, id, timestamp_ms, sent_us, peer, room, fields });
    }

    /// The lines, as they stand in the log.
    pub fn lines(&self) -> &[u8] {
        &self.lines
    }

    /// How many messages.
    pub fn len(&self) -> usize {
        self.posts.len()
    }

    /// No messages; there may be answers.
    pub fn is_empty(&self) -> bool {
        self.posts.is_empty()
    }

    /// Room and number of each message, in order.
    pub fn heads(&self) -> impl Iterator<Item = (&str, u64)> {
        self.posts.iter().map(|post| (&self.rooms[post.room.clone()], post.seq))
    }

    /// The number of the last message; 0: there is none.
    pub fn last_seq(&self) -> u64 {
        self.posts.last().map_or(0, |post| post.seq)
    }

    /// Appends the frame that publishes the messages.
    ///
    /// # Errors
    /// It is too large for the link.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), LinkError> {
        let messages = self.posts.iter().map(|post| frame::Message {
            seq: post.seq,
            origin: post.id,
            timestamp_ms: post.timestamp_ms,
            sent_us: post.sent_us,
            room_id: &self.rooms[post.room.clone()],
            // Serialised JSON is UTF-8.
            fields: std::str::from_utf8(&self.lines[post.fields.clone()]).unwrap_or_default(),
        });
        codec::encode(&FromWriter::Messages { messages: messages.collect() }, out)
    }

    /// The disk did not take the messages: all of them are refused, and with them what was to be
    /// answered with one of them (those from number `from` on).
    pub fn fail(&mut self, from: u64, refusal: &Refusal) {
        for answer in &mut self.answers {
            if matches!(answer.result, Ok(Outcome::Posted { seq, .. }) if seq >= from) {
                answer.result = Err(refusal.clone());
            }
        }
        for post in self.posts.drain(..) {
            let result = Err(refusal.clone());
            self.answers.push(Answer { peer: post.peer, count: post.id.count, result });
        }
        self.lines.clear();
        self.rooms.clear();
    }

    /// Empties it for another use.
    pub fn clear(&mut self) {
        if self.lines.capacity() > KEPT_BYTES {
            self.lines = Vec::new();
        }
        self.lines.clear();
        self.rooms.clear();
        self.posts.clear();
        self.answers.clear();
    }
}

/// Borrows a post's texts for its record.
pub fn message<'a>(
    seq: u64,
    id: OpId,
    texts: [&'a str; 3],
    client_id: Option<&'a str>,
    numbers: (u64, i64, u64),
) -> Message<'a> {
    let [room_id, sender, content] = texts.map(Cow::Borrowed);
    let (user, timestamp_ms, synced) = numbers;
    let client_id = client_id.map(Cow::Borrowed);
    Message { seq, id, room_id, sender, content, timestamp_ms, client_id, user, imported: None, synced }
}
