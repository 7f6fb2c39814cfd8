//! From workers' sockets to the threads that act.
//!
//! One thread accepts, and one for each connection reads: large reads, one hand-over for all that a
//! read brought, `Post`s undecoded. All queues are bounded; when one is full the thread waits, the
//! socket fills, and in the end the worker feels it.

use std::collections::HashMap;
use std::io::{self, Read};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};

use crossbeam_channel::Sender;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use parking_lot::{FairMutex, Mutex};

use super::batch::PeerId;
use super::commit::Ops;
use super::directory::Asked;
use super::publish::{Event, Publisher};
use super::status::Status;
use crate::chat::OpId;
use crate::config::{INTAKE_QUEUE, WRITER_PEERS};
use crate::link::codec::{self, HEADER_BYTES, LinkError};
use crate::link::frame::{FromWriter, ToWriter, VERSION};

/// Bytes asked of a socket at a time.
const READ_BYTES: usize = 256 << 10;

/// Operations handed over together, at most.
const OPS_PER_HAND_OVER: usize = 256;

/// Hand-overs waiting for the commit thread: with the bound above, [`INTAKE_QUEUE`] operations.
pub const HAND_OVERS: usize = INTAKE_QUEUE / OPS_PER_HAND_OVER;

/// Changes waiting for the directory thread.
pub const CHANGES: usize = 1_024;

/// Bytes of a reading thread's stack.
const STACK_BYTES: usize = 256 << 10;

/// First byte of a `Post`'s body, and of a `Sync`'s: what postcard makes of their places in the enum.
const POST: u8 = 1;
const SYNC: u8 = 3;

/// Where operations go.
#[derive(Clone)]
pub struct Outlets {
    /// `Post` and `Sync`. Locked for a hand-over: when the queue is full, those who wait come in
    /// turn, where the channel alone would let a busy worker pass the others by for long.
    pub commit: Arc<FairMutex<Sender<Ops>>>,
    /// `Change`.
    pub directory: Sender<Asked>,
    /// `Hello`, `Typing`.
    pub publisher: Publisher,
    /// What operators see.
    pub status: Arc<Status>,
}

/// The connections and their threads.
#[derive(Default)]
struct Peers {
    streams: HashMap<PeerId, Arc<UnixStream>>,
    threads: Vec<JoinHandle<()>>,
    /// Connections end because the writer does: they are still to be answered.
    stopping: bool,
}

/// Accepts workers until `stop` says so (by ending), then lets no more of them in, reads what they
/// have sent, and ends when all is handed over.
pub fn run(listener: &UnixListener, stop: &UnixStream, outlets: &Outlets) {
    let peers = Arc::new(Mutex::new(Peers::default()));
    let mut next: PeerId = 1;
    loop {
        match accept(listener, stop) {
            Ok(Some(stream)) => {
                admit(stream, next, &peers, outlets);
                next += 1;
            }
            Ok(None) => break,
            Err(error) => {
                tracing::error!(%error, "cannot accept a worker");
                thread::sleep(ACCEPT_PAUSE);
            }
        }
    }
    let threads = {
        let mut peers = peers.lock();
        peers.stopping = true;
        for stream in peers.streams.values() {
            // What is in the socket already is still read.
            let _ = stream.shutdown(Shutdown::Read);
        }
        std::mem::take(&mut peers.threads)
    };
    for thread in threads {
        // One that panicked has said so.
        let _ = thread.join();
    }
}

/// After a failed accept (no file descriptors left, most likely).
const ACCEPT_PAUSE: std::time::Duration = std::time::Duration::from_millis(100);

/// The next connection; `None`: time to stop.
fn accept(listener: &UnixListener, stop: &UnixStream) -> io::Result<Option<UnixStream>> {
    let watch = |fd| PollFd::new(fd, PollFlags::POLLIN);
    let mut fds = [watch(stop.as_fd()), watch(listener.as_fd())];
    match poll(&mut fds, PollTimeout::NONE) {
        Err(nix::errno::Errno::EINTR) => return accept(listener, stop),
        other => other?,
    };
    if fds[0].any() != Some(false) {
        return Ok(None);
    }
    let (stream, _) = listener.accept()?;
    // The listener may not wait; its connections do.
    stream.set_nonblocking(false)?;
    Ok(Some(stream))
}

fn admit(stream: UnixStream, id: PeerId, peers: &Arc<Mutex<Peers>>, outlets: &Outlets) {
    let mut guard = peers.lock();
    guard.threads.retain(|thread| !thread.is_finished());
    if guard.streams.len() >= WRITER_PEERS {
        tracing::error!("refusing a worker: {WRITER_PEERS} are connected");
        return;
    }
    match getsockopt(&stream, PeerCredentials) {
        Ok(who) if who.uid() == nix::unistd::geteuid().as_raw() => {}
        Ok(who) => {
            return tracing::error!(uid = who.uid(), pid = who.pid(), "refusing another user's process");
        }
        Err(error) => return tracing::error!(%error, "cannot tell whose process is connecting"),
    }
    let stream = Arc::new(stream);
    let reader = Reader { stream: stream.clone(), peer: id, instance: 0, outlets: outlets.clone() };
    let started = {
        let peers = peers.clone();
        thread::Builder::new().name(format!("peer-{id}")).stack_size(STACK_BYTES).spawn(move || {
            let publisher = reader.outlets.publisher.clone();
            reader.run();
            let mut peers = peers.lock();
            peers.streams.remove(&id);
            let stopping = peers.stopping;
            drop(peers);
            if !stopping {
                publisher.send(Event::Gone(id));
            }
        })
    };
    match started {
        Ok(thread) => {
            guard.streams.insert(id, stream);
            guard.threads.push(thread);
        }
        Err(error) => tracing::error!(%error, "cannot start a thread for a worker"),
    }
}

struct Reader {
    stream: Arc<UnixStream>,
    peer: PeerId,
    /// Of the worker, known from its greeting; 0 before it.
    instance: u64,
    outlets: Outlets,
}

impl Reader {
    fn run(mut self) {
        match self.read() {
            Ok(()) => {}
            Err(Trouble::Io(error)) => tracing::warn!(peer = self.peer, %error, "lost a worker"),
            Err(Trouble::Link(error)) => {
                tracing::error!(peer = self.peer, %error, "a worker sent an unreadable frame");
            }
            Err(Trouble::Order(what)) => tracing::error!(peer = self.peer, what, "a worker broke the order"),
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
            let for_commit = matches!(body.first(), Some(&(POST | SYNC)));
            if !for_commit || count == OPS_PER_HAND_OVER {
                self.hand_over(&bytes[from..used], count)?;
                (from, count) = (used, 0);
            }
            used += len;
            if for_commit {
                count += 1;
            } else {
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
        let ops = Ops { peer: self.peer, instance: self.instance, frames: frames.to_vec(), count };
        self.outlets.commit.lock().send(ops).map_err(|_| Trouble::Order("the writer is ending"))
    }

    fn act(&mut self, frame: ToWriter<'_>) -> Result<(), Trouble> {
        match frame {
            ToWriter::Hello { version, worker, instance, known } => {
                if version != VERSION || self.instance != 0 || instance == 0 {
                    return Err(Trouble::Order("its greeting is of another version, or not the first"));
                }
                tracing::info!(peer = self.peer, worker, "a worker connected");
                self.instance = instance;
                let stream = self.stream.clone();
                self.outlets.publisher.send(Event::Attach { peer: self.peer, stream, known });
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
            ToWriter::Post { .. } | ToWriter::Sync { .. } => {
                return Err(Trouble::Order("a frame changed its kind"));
            }
        }
        Ok(())
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
        let post =
            ToWriter::Post { count: 1, user: 1, sender: "a", room_id: "r", content: "c", client_id: None };
        assert_eq!(body(&post), POST);
        assert_eq!(body(&ToWriter::Sync { count: 1 }), SYNC);
        let typing = ToWriter::Typing { room_id: "r", user: 1, username: "a" };
        assert!(![POST, SYNC].contains(&body(&typing)));
    }
}
