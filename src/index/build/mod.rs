//! Brings the index into step with the logs: from where it stopped, or from nothing.
//!
//! The storage writer does this at each start, on the way through what it has to read anyway to
//! judge the ends of the logs. An index that can't be used is built in a file beside it and then
//! takes its place, so that readers see a whole one at any time.
//!
//! [`log`] applies what the logs of users and rooms have, [`messages`] what the files of messages have;
//! [`report`] says how far they are.

pub(super) mod log;
mod messages;
mod report;

use std::fs::{self, File};
use std::io;
use std::path::Path;

pub use self::messages::{apply_messages, catch_up_messages};

use super::bulk::{self, Bulk};
use super::database::Database;
use super::sealed;
use super::store::{self, LogName, Progress, Store};
use super::{IndexError, ReadError, schema};
use crate::chat::OpId;
use crate::journal::compacted::Compacted;
use crate::journal::lines::{BlocksBack, Lines};
use crate::journal::record;
use crate::journal::recover::Scan;
use crate::journal::{self, JournalError, deletions, segment};

/// Bytes of an index that is small enough to be checked whole at each start.
const CHECKED_BYTES: u64 = 32 << 20;

/// Why the index is not in step.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A log can't be read; nothing can be derived from it.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The index can't be written.
    #[error(transparent)]
    Index(#[from] IndexError),
}

impl std::convert::From<ReadError> for BuildError {
    fn from(error: ReadError) -> BuildError {
        match error {
            ReadError::Journal(error) => error.into(),
            ReadError::Index(error) => error.into(),
        }
    }
}

impl BuildError {
    /// The disk is full.
    pub fn is_full(&self) -> bool {
        match self {
            BuildError::Journal(JournalError::Io { source, .. }) => {
                source.kind() == io::ErrorKind::StorageFull
            }
            BuildError::Journal(JournalError::Damaged { .. }) => false,
            BuildError::Index(error) => error.is_full(),
        }
    }
}

impl std::convert::From<io::Error> for BuildError {
    fn from(error: io::Error) -> BuildError {
        BuildError::Index(error.into())
    }
}

/// What the logs of users and rooms hold.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// Of `users.jsonl`.
    pub users: Scan,
    /// Of `chatrooms.jsonl`.
    pub rooms: Scan,
    /// The disk was too full to bring the newest messages of rooms into step; all else is.
    pub heads_behind: bool,
}

/// Told of each record near the end of a log: whose operation it is, and where it begins.
pub type Seen<'a> = dyn FnMut(LogName, OpId, u64) + 'a;

/// Opens the index and brings it into step, building it anew if need be. `last_seq` is the last good
/// message.
///
/// # Errors
/// A log is damaged, or the index can't be written.
pub fn open(data_dir: &Path, last_seq: u64, seen: &mut Seen<'_>) -> Result<(Store, Ends), BuildError> {
    store::make_directory(data_dir)?;
    bulk::discard_unfinished(data_dir)?;
    match usable(data_dir, last_seq) {
        Ok(Some(store)) => match catch_up(data_dir, &store, seen) {
            Err(BuildError::Index(error)) if error.is_damage() => {
                tracing::warn!(%error, "the index is damaged; building it anew");
            }
            done => return done.map(|ends| (store, ends)),
        },
        Ok(None) => tracing::info!("there is no index yet; building it"),
        Err(error) => give_up(error)?,
    }
    let ends = rebuild(data_dir, seen)?;
    match Store::open(data_dir)? {
        Some(store) => Ok((store, ends)),
        None => Err(io::Error::from(io::ErrorKind::NotFound).into()),
    }
}

/// Says that a database can't be used, so that it is built anew.
///
/// # Errors
/// It may be in order, and can't be read.
pub(super) fn give_up(error: BuildError) -> Result<(), BuildError> {
    match error {
        BuildError::Index(IndexError::Sqlite(error)) if !is_damage(&error) => {
            Err(IndexError::Sqlite(error).into())
        }
        error => {
            tracing::warn!(%error, "the index can't be used; building it anew");
            Ok(())
        }
    }
}

fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    use rusqlite::ffi::SQLITE_IOERR_SHORT_READ;
    match error.sqlite_error_code() {
        Some(DatabaseCorrupt | NotADatabase) => true,
        // A file cut short.
        _ if error.sqlite_extended_error_code() == Some(SQLITE_IOERR_SHORT_READ) => true,
        // A table is missing: it is not an index of ours.
        Some(rusqlite::ErrorCode::Unknown) => true,
        _ => false,
    }
}

/// The index, if it is sound and was made from these logs. `Ok(None)`: there is none.
fn usable(data_dir: &Path, last_seq: u64) -> Result<Option<Store>, BuildError> {
    let Some(store) = Store::open(data_dir)? else {
        return Ok(None);
    };
    check_sound(&schema::file(data_dir), &store)?;
    for log in [LogName::Users, LogName::Rooms] {
        check_origin(data_dir, &store, log)?;
    }
    if store.progress(LogName::Messages)?.last > last_seq {
        return Err(unusable("it knows of messages that are not in the log"));
    }
    let runs = store.runs()?;
    let small = runs.iter().map(|run| run.bytes).sum::<u64>() <= CHECKED_BYTES;
    if let Some(from) = sealed::first_bad(data_dir, &runs, small) {
        store.begin()?;
        store.forget_from(from)?;
        store.commit()?;
    }
    Ok(Some(store))
}

/// Reads all of a database that is small enough for that.
///
/// # Errors
/// It is damaged, or can't be read.
pub(super) fn check_sound(file: &Path, database: &Database) -> Result<(), BuildError> {
    let bytes = fs::metadata(file)?.len();
    if bytes <= CHECKED_BYTES && !database.is_sound()? {
        return Err(unusable("it is damaged"));
    }
    Ok(())
}

/// Makes sure that a database was made from a log that is there.
///
/// # Errors
/// It was not, or the log can't be read.
pub(super) fn check_origin(data_dir: &Path, database: &Database, log: LogName) -> Result<(), BuildError> {
    let (path, progress) = (data_dir.join(log.file()), database.progress(log)?);
    if progress.bytes == 0 || record_before(&path, progress.bytes)? == Some(progress) {
        return Ok(());
    }
    // The log may have been compacted since: the record is the same, but in another place.
    match record_numbered(&path, progress.last)? {
        Some(found) if (found.last, found.sum) == (progress.last, progress.sum) => {
            database.begin()?;
            database.set_progress(log, found)?;
            Ok(database.commit()?)
        }
        _ => Err(unusable("it was made from other logs")),
    }
}

fn unusable(why: &str) -> BuildError {
    io::Error::new(io::ErrorKind::InvalidData, why).into()
}

/// The record that ends at a byte, as progress.
fn record_before(path: &Path, byte: u64) -> io::Result<Option<Progress>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    if file.metadata()?.len() < byte {
        return Ok(None);
    }
    let mut blocks = BlocksBack::new(&file, byte);
    let Some((_, block)) = blocks.next_block()? else {
        return Ok(None);
    };
    let Some(lines) = block.strip_suffix(b"\n") else {
        return Ok(None);
    };
    let line = lines.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    let number = record::leading_number(line);
    Ok(number.map(|last| Progress { last, bytes: byte, sum: record::sum(line) }))
}

/// The record of a number, if the log is a compacted one that has it, as progress.
fn record_numbered(path: &Path, number: u64) -> io::Result<Option<Progress>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    if Compacted::of(&file)?.is_none() {
        return Ok(None);
    }
    let end = file.metadata()?.len();
    let start = segment::find_after(&file, end, number.saturating_sub(1))?;
    let mut lines = Lines::new(&file, start);
    let line = lines.next_line()?.filter(|line| line.finished);
    Ok(line.and_then(|line| {
        let last = record::leading_number(line.bytes)?;
        Some(Progress { last, bytes: line.end, sum: record::sum(line.bytes) })
    }))
}

/// Builds the index anew from the logs.
///
/// # Errors
/// A log is damaged, or the index can't be written. The old one, if any, is as it was.
pub fn rebuild(data_dir: &Path, seen: &mut Seen<'_>) -> Result<Ends, BuildError> {
    let bulk = Bulk::empty(data_dir)?;
    let (users, rooms) = catch_up_people(data_dir, &bulk.store, seen)?;
    apply_messages(data_dir, &bulk.store)?;
    let path = data_dir.join(journal::ROOMS);
    match File::open(&path) {
        // Those who left before the log was compacted are not in it any more.
        Ok(log) if Compacted::of(&log)?.is_some() => bulk.store.forget_departures()?,
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    bulk.finish()?.take_place()?;
    Ok(Ends { users, rooms, heads_behind: false })
}

/// Applies what the logs have and the index has not.
fn catch_up(data_dir: &Path, store: &Store, seen: &mut Seen<'_>) -> Result<Ends, BuildError> {
    let (users, rooms) = catch_up_people(data_dir, store, seen)?;
    let heads_behind = match catch_up_messages(data_dir, store, u64::MAX) {
        // Nobody would be served if this were an error.
        Err(error) if error.is_full() => {
            store.rollback()?;
            tracing::warn!(%error, "the newest messages of rooms are not in step");
            true
        }
        done => done.map(|()| false)?,
    };
    Ok(Ends { users, rooms, heads_behind })
}

fn catch_up_people(data_dir: &Path, store: &Store, seen: &mut Seen<'_>) -> Result<(Scan, Scan), BuildError> {
    let (deletions, _) = deletions::read(data_dir)?;
    store.begin()?;
    store.apply_deletions(&deletions)?;
    store.commit()?;
    // What was deleted since is in the log and of no effect.
    let (users_rev, rooms_rev) = (deletions.users_rev, deletions.rooms_rev);
    let users = log::catch_up(data_dir, store, LogName::Users, seen, log::Users::new(store, users_rev))?;
    if !store.index_names()? {
        return Err(unusable("two users have the same name"));
    }
    let rooms = log::catch_up(data_dir, store, LogName::Rooms, seen, log::Rooms::new(store, rooms_rev)?)?;
    for (name, scan, last) in [(journal::USERS, users, users_rev), (journal::ROOMS, rooms, rooms_rev)] {
        if scan.next <= last {
            let path = data_dir.join(name);
            let what = format!("it ends at number {}; {} knows of {last}", scan.next - 1, journal::ADMIN);
            return Err(JournalError::Damaged { path, line: 0, byte: scan.end, what }.into());
        }
    }
    Ok((users, rooms))
}
