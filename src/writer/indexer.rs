//! The thread that finds out where messages stand in full files, for the index.
//!
//! Below everything else in priority. It reads a file once it is full and hands what it found to the
//! directory thread, which alone writes to the index and puts it in between its other work. At a start
//! it begins with what the last process left.

use std::path::PathBuf;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, SendTimeoutError, Sender};

use crate::index::sealed::{self, Checkpointer, Piece, SealedFile};
use crate::index::{ReadError, Reader};
use crate::journal::segment;

/// Added to the thread's niceness: the least of all.
const NICENESS: i32 = 19;

/// Time between two attempts on a file or an index that can't be read.
const RETRY: Duration = Duration::from_secs(10);

/// Time between two looks at what the directory thread has committed meanwhile, while it is at work on
/// a piece.
const CHECKPOINT_INTERVAL: Duration = Duration::from_millis(20);

/// Pieces waiting for the directory thread.
pub const PIECES: usize = 1;

/// What the thread owns.
pub struct Indexer {
    /// Where files and index are.
    pub data_dir: PathBuf,
    /// Hears when a file is full; ends with the commit thread.
    pub sealed: Receiver<()>,
    /// To the directory thread.
    pub pieces: Sender<Piece>,
}

/// Why a round ended early.
enum Stop {
    /// The directory thread is gone.
    Ending,
    Failed(ReadError),
}

impl<E: Into<ReadError>> From<E> for Stop {
    fn from(error: E) -> Stop {
        Stop::Failed(error.into())
    }
}

impl Indexer {
    /// Works until there is nobody to hand on to, or no more files will come.
    pub fn run(self) {
        if let Err(error) = rustix::process::nice(NICENESS) {
            tracing::warn!(%error, "full files are indexed at normal priority");
        }
        let mut done = None;
        loop {
            let heard = match self.round(&mut done) {
                Ok(()) => self.sealed.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Err(Stop::Ending) => return,
                Err(Stop::Failed(error)) => {
                    tracing::error!(%error, "cannot index a full file; trying again shortly");
                    self.sealed.recv_timeout(RETRY)
                }
            };
            if heard == Err(RecvTimeoutError::Disconnected) {
                return;
            }
        }
    }

    /// Reads the full files that were not read yet, oldest first. `done` is the last one that is in the
    /// index or on its way there.
    fn round(&self, done: &mut Option<SealedFile>) -> Result<(), Stop> {
        let reader = Reader::open(&self.data_dir)?;
        let checkpointer = Checkpointer::open(&self.data_dir)?;
        if done.is_none() {
            *done = reader.last_file()?;
        }
        let mut segments = segment::list(&self.data_dir)?;
        segments.pop();
        let last = done.map_or(0, |file| file.number);
        for segment in segments.into_iter().filter(|segment| segment.number > last) {
            let (mut ending, mut whole) = (false, None);
            sealed::read(&segment, *done, &mut |room_id| reader.room_key(room_id), &mut |piece| {
                whole = piece.file;
                ending = !self.hand(piece, &checkpointer);
                !ending
            })?;
            if ending {
                return Err(Stop::Ending);
            }
            *done = whole;
        }
        checkpoint(&checkpointer);
        Ok(())
    }

    /// Waits until the directory thread has taken a piece; false: it is gone.
    fn hand(&self, mut piece: Piece, checkpointer: &Checkpointer) -> bool {
        loop {
            match self.pieces.send_timeout(piece, CHECKPOINT_INTERVAL) {
                Ok(()) => return true,
                Err(SendTimeoutError::Timeout(back)) => piece = back,
                Err(SendTimeoutError::Disconnected(_)) => return false,
            }
            checkpoint(checkpointer);
        }
    }
}

fn checkpoint(checkpointer: &Checkpointer) {
    if let Err(error) = checkpointer.run() {
        tracing::debug!(%error, "nothing was moved out of the write-ahead log");
    }
}
