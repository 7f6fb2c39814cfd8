//! The data directory that an import writes to: its logs, opened for appending, and an index in the
//! making beside the one in use.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::ImportError;
use crate::chat::OpId;
use crate::config::Storage;
use crate::index::IndexError;
use crate::index::build;
use crate::index::bulk::{self, Bulk};
use crate::index::store::{LogName, Progress};
use crate::journal::append::Log;
use crate::journal::disk::{Disk, RealDisk};
use crate::journal::record::{self, Record};
use crate::journal::rolling::Segments;
use crate::journal::undo::{self, Mark};
use crate::journal::{JournalError, ROOMS, USERS, recover, resume};

/// Bytes gathered before they are written.
const WRITE_BYTES: usize = 1 << 20;

/// Bytes written before they are synced: keeps what a sync has to do small, and lets lines attest
/// what is before them.
const SYNC_BYTES: u64 = 64 << 20;

/// A data directory that is being imported into.
pub struct Target {
    /// Where it is.
    pub data_dir: PathBuf,
    /// `users.jsonl`
    pub users: Lines,
    /// `chatrooms.jsonl`
    pub rooms: Lines,
    /// The files of messages.
    pub segments: Segments,
    /// The next message.
    pub next_seq: u64,
    /// The index to be.
    pub bulk: Bulk,
    /// It finds users by name already.
    pub finds_names: bool,
    /// The operation of all imported users and rooms, and of messages but for their counts.
    pub op: OpId,
}

impl Target {
    /// Opens a locked data directory, and brings it into order as a start of a server does. `expected`
    /// users are about to come.
    ///
    /// # Errors
    /// It is damaged, or the disk refuses.
    pub fn open(data_dir: &Path, storage: &Storage, expected: u64) -> Result<Target, ImportError> {
        Target::try_open(data_dir, storage, expected).inspect_err(|_| take_back(data_dir))
    }

    fn try_open(data_dir: &Path, storage: &Storage, expected: u64) -> Result<Target, ImportError> {
        undo::clean_up(data_dir)?;
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let (segments, scan) = resume::messages(data_dir, &disk, storage.messages_per_file)?;
        resume::create_missing(data_dir, &disk)?;
        let (store, ends) = build::open(data_dir, scan.next - 1, &mut |_, _, _| {})?;
        let old = store.last_user()?;
        drop(store);
        let users = recover::mend(&disk, data_dir.join(USERS), ends.users)?;
        let rooms = recover::mend(&disk, data_dir.join(ROOMS), ends.rooms)?;
        let (log, file, _) = segments.newest();
        let mark = Mark { users: users.end(), rooms: rooms.end(), file, messages: log.end() };
        mark.set(data_dir)?;
        let bulk = Bulk::copy(data_dir)?;
        let finds_names = expected < old / 4;
        if !finds_names {
            bulk.store.forget_names()?;
        }
        bulk.store.begin()?;
        Ok(Target {
            data_dir: data_dir.to_owned(),
            users: Lines::new(users, ends.users.next - 1),
            rooms: Lines::new(rooms, ends.rooms.next - 1),
            segments,
            next_seq: scan.next,
            bulk,
            finds_names,
            op: OpId { instance: getrandom::u64().map_err(std::io::Error::from)?, count: 1 },
        })
    }

    /// Takes back all that was written and begins again.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn again(self, storage: &Storage, expected: u64) -> Result<Target, ImportError> {
        let data_dir = self.data_dir.clone();
        self.give_up()?;
        Target::open(&data_dir, storage, expected)
    }

    /// Takes back all that was written.
    ///
    /// # Errors
    /// The disk refuses; whoever opens the directory next does it.
    pub fn give_up(self) -> Result<(), ImportError> {
        drop(self.bulk);
        undo::undo(&self.data_dir)?;
        bulk::discard_unfinished(&self.data_dir).map_err(IndexError::from)?;
        Ok(())
    }

    /// Makes everything durable and tells the index how far it is. Messages are applied here.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn finish(self) -> Result<(), ImportError> {
        let data_dir = self.data_dir.clone();
        self.try_finish().inspect_err(|_| take_back(&data_dir))
    }

    fn try_finish(mut self) -> Result<(), ImportError> {
        for (log, lines) in [(LogName::Users, &mut self.users), (LogName::Rooms, &mut self.rooms)] {
            lines.flush(true)?;
            if let Some(progress) = lines.progress() {
                self.bulk.store.set_progress(log, progress)?;
            }
        }
        self.segments.sync().map_err(|error| io_error(self.segments.newest().0.path(), error))?;
        self.bulk.store.commit()?;
        build::apply_messages(&self.data_dir, &self.bulk.store)?;
        let finished = self.bulk.finish()?;
        // From here on it has happened: an index that does not know of it is brought into step.
        undo::clear(&self.data_dir)?;
        finished.take_place().map_err(IndexError::from)?;
        Ok(())
    }
}

/// Leaves nothing of an import that has failed. If that fails, too, whoever opens the directory next
/// does it.
fn take_back(data_dir: &Path) {
    let undone = undo::undo(data_dir).map_err(|error| error.to_string());
    let undone = undone.and_then(|_| bulk::discard_unfinished(data_dir).map_err(|error| error.to_string()));
    if let Err(error) = undone {
        tracing::error!(error, "cannot take back what was written; the next start does it");
    }
}

/// One log, with what is not written yet.
pub struct Lines {
    log: Log,
    buffer: Vec<u8>,
    /// Number of the last record.
    pub last: u64,
    /// Number of the last record that is durable.
    pub synced: u64,
    unsynced: u64,
    first: u64,
    /// Sum of the last line.
    sum: u32,
}

impl Lines {
    fn new(log: Log, last: u64) -> Lines {
        Lines { log, buffer: Vec::new(), last, synced: last, unsynced: 0, first: last + 1, sum: 0 }
    }

    /// Adds a record whose number is the next.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn push<R: Record>(&mut self, record: &R) -> Result<(), ImportError> {
        let start = self.buffer.len();
        record::encode(record, &mut self.buffer);
        self.sum = record::sum(&self.buffer[start..self.buffer.len() - 1]);
        self.last = record.rev();
        if self.buffer.len() >= WRITE_BYTES { self.flush(false) } else { Ok(()) }
    }

    fn flush(&mut self, sync: bool) -> Result<(), ImportError> {
        self.unsynced += self.buffer.len() as u64;
        let sync = sync || self.unsynced >= SYNC_BYTES;
        self.log.append(&self.buffer, sync).map_err(|error| io_error(self.log.path(), error))?;
        self.buffer.clear();
        if sync {
            (self.synced, self.unsynced) = (self.last, 0);
        }
        Ok(())
    }

    /// How far the index is once it has all of it; `None`: nothing was added.
    fn progress(&self) -> Option<Progress> {
        let done = Progress { last: self.last, bytes: self.log.end(), sum: self.sum };
        (self.last >= self.first).then_some(done)
    }
}

fn io_error(path: &Path, source: std::io::Error) -> ImportError {
    JournalError::Io { path: path.to_owned(), source }.into()
}
