//! Lets workers in: one thread accepts, and starts one for each connection, the [`super::reader`].

use std::collections::HashMap;
use std::io;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use parking_lot::Mutex;

use super::arena::Told;
use super::batch::PeerId;
use super::publish::Event;
use super::reader::{OPS_PER_HAND_OVER, Outlets, Reader};
use crate::config::{INTAKE_QUEUE, WRITER_PEERS};

/// Hand-overs waiting for the commit thread: with the bound above, [`INTAKE_QUEUE`] operations.
pub const HAND_OVERS: usize = INTAKE_QUEUE / OPS_PER_HAND_OVER;

/// Changes waiting for the directory thread.
pub const CHANGES: usize = 1_024;

/// Bytes of a reading thread's stack.
const STACK_BYTES: usize = 256 << 10;

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
    let reader = Reader::new(stream.clone(), id, outlets.clone());
    let started = {
        let (peers, publisher, arena) = (peers.clone(), outlets.publisher.clone(), outlets.arena.clone());
        thread::Builder::new().name(format!("peer-{id}")).stack_size(STACK_BYTES).spawn(move || {
            reader.run();
            let mut peers = peers.lock();
            peers.streams.remove(&id);
            let stopping = peers.stopping;
            drop(peers);
            if !stopping {
                publisher.send(Event::Gone(id));
                // Refused: it ends, too.
                let _ = arena.send(Told::Gone(id));
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
