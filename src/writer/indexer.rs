//! The thread that finds out where messages stand in full files, for the index.
//!
//! Below everything else in priority. It reads a file once it is full, writes what it found into a run
//! beside the database, and merges runs as they grow in number ([`crate::index::runs`]). What there is then is
//! told to the directory thread, which alone writes to the database: some hundred rows a file. At a start
//! it begins with what the last process left. A run that is gone or damaged it makes again.

use std::cell::Cell;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded, never, select};

use super::status::Status;
use crate::index::runs::{self, Run};
use crate::index::sealed::{self, Broken, Checkpointer, Found, SealedFile};
use crate::index::{IndexError, ReadError, Reader, remake};
use crate::journal::segment::{self, Segment};
use crate::priority;

/// Time between two rounds if nothing is heard: at the latest then a run is missed that is gone, and an index
/// that could not be written and files that could not be read are tried again.
const LOOK: Duration = Duration::from_secs(10);

/// Findings that may lie between the threads: none. Handed on, one is the directory thread's, and ends with
/// it; in a queue that nobody reads any more it would be waited for without end.
pub const FOUND: usize = 0;

/// Damaged runs that may lie between the threads.
pub const DAMAGED: usize = 64;

/// Something for the directory thread to put in; it says when that is done.
pub struct ToPut {
    /// What.
    pub found: Found,
    /// Hears whether it was put in, or was out of date.
    pub done: Sender<bool>,
}

/// What the thread owns.
pub struct Indexer {
    /// Where files and index are.
    pub data_dir: PathBuf,
    /// Hears when a file is full; ends with the commit thread.
    pub sealed: Receiver<()>,
    /// Hears of runs that are not what was written.
    pub damaged: Receiver<Run>,
    /// To the directory thread.
    pub found: Sender<ToPut>,
    /// Is told how far the index is.
    pub status: Arc<Status>,
}

/// Why a round ended early.
enum Stop {
    /// The process ends.
    Ending,
    Failed(ReadError),
}

impl<E: Into<ReadError>> From<E> for Stop {
    fn from(error: E) -> Stop {
        Stop::Failed(error.into())
    }
}

/// Between rounds.
#[derive(Default)]
struct Memory {
    broken: Broken,
    /// A file became full while the last round was at work.
    heard: Cell<bool>,
    /// Runs that somebody has found damaged, until they are made again.
    damaged: Vec<Run>,
}

impl Indexer {
    /// Works until there is nobody to hand on to, or no more files will come.
    pub fn run(mut self) {
        priority::lower(priority::LEAST, "full files are indexed at normal priority");
        let mut memory = Memory::default();
        loop {
            match self.round(&mut memory) {
                Ok(()) => {}
                Err(Stop::Ending) => return,
                Err(Stop::Failed(error)) => {
                    tracing::error!(%error, "cannot index a full file; trying again shortly");
                }
            }
            if memory.heard.take() {
                continue;
            }
            if !self.wait(&mut memory) {
                return;
            }
        }
    }

    /// Waits until there is something to do or to look after; false: the process ends.
    fn wait(&mut self, memory: &mut Memory) -> bool {
        select! {
            recv(self.sealed) -> heard => return heard.is_ok(),
            recv(self.damaged) -> run => match run {
                Ok(run) => memory.damaged.push(run),
                // Nobody reads for damage.
                Err(_) => self.damaged = never(),
            },
            default(LOOK) => {}
        }
        true
    }

    /// Whether the process ends.
    fn is_ending(&self, memory: &Memory) -> bool {
        match self.sealed.try_recv() {
            Ok(()) => memory.heard.set(true),
            Err(TryRecvError::Disconnected) => return true,
            Err(TryRecvError::Empty) => {}
        }
        false
    }

    /// Reads the full files that were not read yet, oldest first, and those again that could not be.
    fn round(&self, memory: &mut Memory) -> Result<(), Stop> {
        let reader = Reader::open(&self.data_dir)?;
        let checkpointer = Checkpointer::open(&self.data_dir)?;
        self.mend(&reader, memory)?;
        for file in reader.broken_files()? {
            let segment = Segment::at(&self.data_dir, file.number);
            if memory.broken.is_due(&segment) {
                let before = reader.files_before(file.number, 1)?.pop();
                self.add(&segment, before, memory)?;
            }
        }
        loop {
            self.merge(&reader, memory)?;
            let before = reader.last_file()?;
            let mut segments = segment::list(&self.data_dir)?;
            let newest = segments.pop().map_or(0, |segment| segment.number);
            let last = before.map_or(0, |file| file.number);
            let next = segments.into_iter().find(|segment| segment.number > last);
            self.status.set_indexed(next.as_ref().map_or(newest, |next| next.number).saturating_sub(1));
            let Some(next) = next else {
                break;
            };
            memory.broken.is_due(&next);
            if !self.add(&next, before, memory)? {
                // It was deleted meanwhile; whether there are others is for the next round.
                break;
            }
            self.clear_away(&reader, &checkpointer);
        }
        self.clear_away(&reader, &checkpointer);
        Ok(())
    }

    fn add(&self, segment: &Segment, before: Option<SealedFile>, memory: &Memory) -> Result<bool, Stop> {
        let mut ending = || self.is_ending(memory);
        match sealed::read(&self.data_dir, segment, before, &mut |_| {}, &mut ending)? {
            Some(added) => self.hand(Found::Added(added)),
            None => Err(Stop::Ending),
        }
    }

    fn merge(&self, reader: &Reader, memory: &Memory) -> Result<(), Stop> {
        let mut ended = false;
        let mut ending = || {
            ended = self.is_ending(memory);
            ended
        };
        loop {
            let runs = reader.runs()?;
            let put = match sealed::merge(&self.data_dir, &runs, &mut ending)? {
                // To forget it with all behind it would make everybody wait.
                Some(Found::Lost { from }) => match runs.iter().find(|run| run.first_segment == from) {
                    Some(lost) => self.remake(reader, lost, memory)?,
                    None => false,
                },
                Some(found) => self.hand(found)?,
                None => false,
            };
            if !put {
                return if ended { Err(Stop::Ending) } else { Ok(()) };
            }
        }
    }

    /// Makes those runs again that are gone, or that somebody has found damaged.
    fn mend(&self, reader: &Reader, memory: &mut Memory) -> Result<(), Stop> {
        let named = reader.runs()?;
        memory.damaged.extend(self.damaged.try_iter());
        memory.damaged.extend(remake::lost(&self.data_dir, &named));
        // What was made again or merged since is another run.
        memory.damaged.retain(|run| named.contains(run));
        memory.damaged.sort_unstable_by_key(|run| run.first_segment);
        memory.damaged.dedup();
        while let Some(run) = memory.damaged.first().copied() {
            self.remake(reader, &run, memory)?;
            memory.damaged.remove(0);
        }
        Ok(())
    }

    fn remake(&self, reader: &Reader, lost: &Run, memory: &Memory) -> Result<bool, Stop> {
        let Run { id, first_segment, last_segment, .. } = *lost;
        tracing::warn!(
            run = id,
            first_segment,
            last_segment,
            "a part of the index is gone or damaged: it is made again"
        );
        match remake::remake(&self.data_dir, reader, lost, &mut || self.is_ending(memory))? {
            Some(found) => self.hand(found),
            None => Err(Stop::Ending),
        }
    }

    /// Waits until the directory thread has put something in; false: it was out of date.
    fn hand(&self, found: Found) -> Result<bool, Stop> {
        let (done, heard) = bounded(1);
        self.found.send(ToPut { found, done }).map_err(|_| Stop::Ending)?;
        heard.recv().map_err(|_| Stop::Ending)
    }

    /// Moves out of the write-ahead log what was put in. When all of it was, the files of runs that the
    /// index does not name any more are of no use to anybody.
    fn clear_away(&self, reader: &Reader, checkpointer: &Checkpointer) {
        let cleared = reader.runs().and_then(|named| {
            // Asked first: what is moved out has these, or newer ones, which only this thread makes.
            if checkpointer.run()? {
                runs::sweep(&self.data_dir, &named)?;
            }
            Ok::<(), IndexError>(())
        });
        if let Err(error) = cleared {
            tracing::debug!(%error, "nothing was moved out of the write-ahead log");
        }
    }
}
