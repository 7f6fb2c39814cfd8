//! From one worker's socket to the threads that act.
//!
//! Large reads, one hand-over for all that a read brought, `Post`s undecoded. All queues are bounded;
//! when one is full the thread waits, the socket fills, and in the end the worker feels it.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crossbeam_channel::Sender;
use parking_lot::{FairMutex, Mutex};

use super::arena::Told;
use super::batch::{Answer, PeerId};
use super::commit::Ops;
use super::directory::Asked;
use super::publish::{Event, Publisher};
use super::status::Status;
use super::tickets::Tickets;
use crate::chat::{OpId, Refusal};
use crate::link::codec::{self, HEADER_BYTES, LinkError};
use crate::link::frame::{FromWriter, Outcome, ToWriter};
use crate::link::version::{self, VERSION};

/// Bytes asked of a socket at a time.
const READ_BYTES: usize = 256 << 10;

/// Operations handed over together, at most.
pub const OPS_PER_HAND_OVER: usize = 256;

/// First byte of a `Post`'s body, and of a `Sync`'s: what postcard makes of their places in the enum.
const POST: u8 = 1;
const SYNC: u8 = 3;
/// The same of `DeleteMessages`.
const DELETE: u8 = 6;

/// Where operations go.
#[derive(Clone)]
pub struct Outlets {
    /// `Post`, `Sync` and `DeleteMessages`. Locked for a hand-over: when the queue is full, those who wait come in
    /// turn, where the channel alone would let a busy worker pass the others by for long.
    pub commit: Arc<FairMutex<Sender<Ops>>>,
    /// `Change`.
    pub directory: Sender<Asked>,
    /// `Arena`, `Record`.
    pub arena: Sender<Told>,
    /// `Hello`, `Typing`, `Visitors`, `Login`.
    pub publisher: Publisher,
    /// `IssueTicket`, `RedeemTicket`. Locked for moments only, and by whoever reads.
    pub tickets: Arc<Mutex<Tickets>>,
    /// What operators see.
    pub status: Arc<Status>,
}

/// One worker's connection, its reading half.
pub struct Reader {
    stream: Arc<UnixStream>,
    peer: PeerId,
    /// Of the worker, known from its greeting; 0 before it.
    instance: u64,
    outlets: Outlets,
}

impl Reader {
    /// A connection that has not greeted yet.
    pub fn new(stream: Arc<UnixStream>, peer: PeerId, outlets: Outlets) -> Reader {
        Reader { stream, peer, instance: 0, outlets }
    }

    /// Reads until the connection ends, or must.
    pub fn run(mut self) {
        match self.read() {
            Ok(()) => {}
            Err(Trouble::Io(error)) => tracing::warn!(peer = self.peer, %error, "lost a worker"),
            Err(Trouble::Link(error)) => {
                tracing::error!(peer = self.peer, %error, "a worker sent an unreadable frame");
            }
            Err(Trouble::Order(what)) => tracing::error!(peer = self.peer, what, "a worker broke the order"),
            Err(Trouble::Version(theirs)) => {
                // Said to it as well, which then lets its clients go; a fresh socket takes that.
                let _ = self.refuse();
                tracing::warn!(
                    peer = self.peer,
                    theirs,
                    ours = VERSION,
                    "a worker speaks another version of the link"
                );
            }
        }
        let _ = self.stream.shutdown(Shutdown::Read);
    }

    fn read(&mut self) -> Result<(), Trouble> {
        let mut buffer = vec![0; READ_BYTES];
        let mut filled = 0;
        loop {
            let read = match (&*self.stream).read(&mut buffer[filled..]) {
                Ok(0) => return Ok(()),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            filled += read;
            let used = self.take(&buffer[..filled])?;
            buffer.copy_within(used..filled, 0);
            filled -= used;
            let wanted = wanted(&buffer[..filled])?.max(READ_BYTES);
            if wanted != buffer.len() {
                buffer.resize(wanted.max(filled), 0);
                buffer.shrink_to(wanted);
            }
        }
    }

    /// Acts on the whole frames of `bytes`; answers how many bytes they took.
    fn take(&mut self, bytes: &[u8]) -> Result<usize, Trouble> {
        let mut used = 0;
        // Frames for the commit thread that are not yet handed over.
        let (mut from, mut count) = (0, 0);
        while let Some((body, len)) = codec::split(&bytes[used..])? {
            let for_commit = matches!(body.first(), Some(&(POST | SYNC | DELETE)));
            if !for_commit || count == OPS_PER_HAND_OVER {
                self.hand_over(&bytes[from..used], count)?;
                (from, count) = (used, 0);
            }
            used += len;
            if for_commit {
                count += 1;
            } else {
                self.check_version(body)?;
                self.act(codec::decode(body)?)?;
                from = used;
            }
        }
        self.hand_over(&bytes[from..used], count)?;
        Ok(used)
    }

    fn hand_over(&self, frames: &[u8], count: usize) -> Result<(), Trouble> {
        if count == 0 {
            return Ok(());
        }
        if self.instance == 0 {
            return Err(Trouble::Order("it did not greet"));
        }
        let count = count as u64;
        self.outlets.status.queue.fetch_add(count, Ordering::Relaxed);
        let (peer, instance, frames) = (self.peer, self.instance, frames.to_vec());
        let ops = Ops { peer, instance, frames, count };
        self.outlets.commit.lock().send(ops).map_err(|_| Trouble::Order("the writer is ending"))
    }

    fn act(&mut self, frame: ToWriter<'_>) -> Result<(), Trouble> {
        match frame {
            ToWriter::Hello { version, worker, instance, known } => {
                if version != VERSION || self.instance != 0 || instance == 0 {
                    return Err(Trouble::Order("its greeting is not the first, or names no instance"));
                }
                tracing::info!(peer = self.peer, worker, "a worker connected");
                self.instance = instance;
                let stream = self.stream.clone();
                self.outlets.publisher.send(Event::Attach { peer: self.peer, instance, stream, known });
                // Behind that, so that there is somebody to be told what there is.
                self.tell_arena(Told::Attached { peer: self.peer, worker, instance })?;
            }
            _ if self.instance == 0 => return Err(Trouble::Order("it did not greet")),
            ToWriter::Change { count, change } => {
                self.outlets.status.queue.fetch_add(1, Ordering::Relaxed);
                let op = OpId { instance: self.instance, count };
                let asked = Asked { peer: self.peer, op, change };
                let sent = self.outlets.directory.send(asked);
                sent.map_err(|_| Trouble::Order("the writer is ending"))?;
            }
            ToWriter::Typing { room_id, user, username } => {
                let mut frame = Vec::new();
                codec::encode(&FromWriter::Typing { room_id, user, username }, &mut frame)?;
                self.outlets.publisher.tell_all(frame.into());
            }
            ToWriter::Visitors(news) => {
                // A lost one would be wrong for long: in order, and waited for.
                self.outlets.publisher.send(Event::Visitors(self.peer, news));
            }
            ToWriter::AtHome(news) => {
                let mut frame = Vec::new();
                codec::encode(&FromWriter::AtHome(news), &mut frame)?;
                self.outlets.publisher.send(Event::Ephemeral(frame.into()));
            }
            ToWriter::Login(login) => {
                let mut frame = Vec::new();
                codec::encode(&FromWriter::Login(login), &mut frame)?;
                self.outlets.publisher.tell_all(frame.into());
            }
            ToWriter::IssueTicket { count, ticket } => {
                let result = self.outlets.tickets.lock().issue(ticket, Instant::now());
                self.answer(count, result);
            }
            ToWriter::RedeemTicket { count, purpose, id } => {
                let op = OpId { instance: self.instance, count };
                let result = self.outlets.tickets.lock().redeem(op, purpose, id, Instant::now());
                self.answer(count, result);
            }
            ToWriter::Arena { count, ask } => {
                self.outlets.status.queue.fetch_add(1, Ordering::Relaxed);
                let op = OpId { instance: self.instance, count };
                self.tell_arena(Told::Asked { peer: self.peer, op, ask })?;
            }
            ToWriter::Record(record) => self.tell_arena(Told::Record(record))?,
            ToWriter::Post { .. } | ToWriter::Sync { .. } | ToWriter::DeleteMessages { .. } => {
                return Err(Trouble::Order("a frame changed its kind"));
            }
        }
        Ok(())
    }

    /// Nothing can be made of the frames of another version, its greeting included. Who has greeted speaks this one,
    /// and may be being written to.
    fn check_version(&self, body: &[u8]) -> Result<(), Trouble> {
        match version::of_greeting(body) {
            Some(theirs) if theirs != VERSION && self.instance == 0 => Err(Trouble::Version(theirs)),
            _ => Ok(()),
        }
    }

    fn refuse(&self) -> Result<(), Trouble> {
        let mut frame = Vec::new();
        codec::encode(&FromWriter::OtherVersion { version: VERSION }, &mut frame)?;
        Ok((&*self.stream).write_all(&frame)?)
    }

    fn tell_arena(&self, told: Told) -> Result<(), Trouble> {
        self.outlets.arena.send(told).map_err(|_| Trouble::Order("the writer is ending"))
    }

    fn answer(&self, count: u64, result: Result<Outcome, Refusal>) {
        let answer = Answer { peer: self.peer, count, result };
        self.outlets.publisher.send(Event::Answer(Box::new(answer)));
    }
}

/// Bytes that the frame at the beginning of `bytes` needs.
fn wanted(bytes: &[u8]) -> Result<usize, LinkError> {
    match bytes.split_first_chunk::<HEADER_BYTES>() {
        Some((prefix, _)) => {
            // Checks the length as well.
            codec::split(bytes)?;
            let body = usize::try_from(u32::from_le_bytes(*prefix)).unwrap_or(usize::MAX);
            Ok(HEADER_BYTES.saturating_add(body))
        }
        None => Ok(0),
    }
}

/// Why a connection ends before the worker ends it.
enum Trouble {
    Io(io::Error),
    Link(LinkError),
    Order(&'static str),
    /// It speaks that version of the link.
    Version(u16),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Trouble {
        Trouble::Io(error)
    }
}

impl From<LinkError> for Trouble {
    fn from(error: LinkError) -> Trouble {
        Trouble::Link(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_byte_tells_what_is_for_the_commit_thread() {
        let body = |frame: &ToWriter<'_>| {
            let mut bytes = Vec::new();
            codec::encode(frame, &mut bytes).unwrap();
            bytes[HEADER_BYTES]
        };
        let [sender, room_id, content] = ["a", "r", "c"];
        let post =
            ToWriter::Post { count: 1, sent_us: 1, user: 1, sender, room_id, content, client_id: None };
        assert_eq!(body(&post), POST);
        assert_eq!(body(&ToWriter::Sync { count: 1 }), SYNC);
        assert_eq!(body(&ToWriter::DeleteMessages { count: 1, by: 1 }), DELETE);
        let typing = ToWriter::Typing { room_id: "r", user: 1, username: "a" };
        assert!(![POST, SYNC, DELETE].contains(&body(&typing)));
    }
}
