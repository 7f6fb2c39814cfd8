//! One worker, as publication sees it: its socket, what waits for it, what it has missed.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use crossbeam_channel::{Receiver, TryRecvError};

use super::catchup::Piece;
use super::outbox::Outbox;

/// Bytes of catch-up put into an outbox at a time.
const CATCH_UP_BYTES: usize = 1 << 20;

/// A worker's connection, its writing half.
pub struct Peer {
    /// The socket; its reading half is another thread's.
    pub stream: Arc<UnixStream>,
    outbox: Outbox,
    /// Present until everything the peer had missed is in its outbox.
    catching: Option<Catching>,
}

struct Catching {
    pieces: Receiver<Piece>,
    /// What was published meanwhile.
    behind: Outbox,
}

impl Peer {
    /// A connection whose first bytes are in `outbox`; `pieces` are what it has missed, if anything.
    pub fn new(stream: Arc<UnixStream>, outbox: Outbox, pieces: Option<Receiver<Piece>>) -> Peer {
        let catching = pieces.map(|pieces| Catching { pieces, behind: Outbox::default() });
        Peer { stream, outbox, catching }
    }

    /// Where goes what is published now.
    pub fn live(&mut self) -> &mut Outbox {
        match &mut self.catching {
            Some(catching) => &mut catching.behind,
            None => &mut self.outbox,
        }
    }

    /// Bytes held for it.
    pub fn held(&self) -> usize {
        self.outbox.bytes() + self.catching.as_ref().map_or(0, |catching| catching.behind.bytes())
    }

    /// Whether there is anything it has not been told.
    pub fn owes(&self) -> bool {
        self.catching.is_some() || !self.outbox.is_empty()
    }

    /// Writes what the socket takes, of what was missed and of what waits.
    ///
    /// # Errors
    /// It can't be served any further.
    pub fn advance(&mut self) -> io::Result<()> {
        while let Some(catching) = &mut self.catching
            && self.outbox.bytes() < CATCH_UP_BYTES
        {
            match catching.pieces.try_recv() {
                Ok(Piece::Frame(frame)) => {
                    self.outbox.push(frame);
                    self.outbox.flush(&self.stream)?;
                }
                Ok(Piece::End) => {
                    let behind = std::mem::take(&mut catching.behind);
                    self.catching = None;
                    self.outbox.append(behind);
                }
                Err(TryRecvError::Empty) => break,
                Ok(Piece::Failed) | Err(TryRecvError::Disconnected) => {
                    return Err(io::Error::other("what it missed can't be read"));
                }
            }
        }
        self.outbox.flush(&self.stream)
    }
}
