//! Brings the index into step with the logs: from where it stopped, or from nothing.
//!
//! The storage writer does this at each start, on the way through what it has to read anyway to
//! judge the ends of the logs. An index that can't be used is built in a file beside it and then
//! takes its place, so that readers see a whole one at any time.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use super::bulk::{self, Bulk};
use super::sealed;
use super::store::{self, LogName, Progress, Store};
use super::{IndexError, ReadError, schema};
use crate::chat::OpId;
use crate::journal::compacted::Compacted;
use crate::journal::lines::{BlocksBack, Lines};
use crate::journal::record::{self, BadRecord, Record, RoomRecord, UserRecord};
use crate::journal::recover::{self, Found, From, Scan};
use crate::journal::{self, JournalError, deletions, segment};

/// Bytes at the end of a log that are read at each start even if the index has them already: the
/// newest records are those a crash or a worn disk spoils, and recent operations are remembered.
const REREAD_BYTES: u64 = 16 << 20;

/// Records applied in one transaction.
const STEP_RECORDS: u64 = 50_000;

/// Rooms whose newest message is gathered before it is written.
const STEP_ROOMS: usize = 100_000;

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
        Err(BuildError::Index(IndexError::Sqlite(error))) if !is_damage(&error) => {
            return Err(IndexError::Sqlite(error).into());
        }
        Err(error) => tracing::warn!(%error, "the index can't be used; building it anew"),
    }
    let ends = rebuild(data_dir, seen)?;
    match Store::open(data_dir)? {
        Some(store) => Ok((store, ends)),
        None => Err(io::Error::from(io::ErrorKind::NotFound).into()),
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
    let bytes = fs::metadata(schema::file(data_dir))?.len();
    if bytes <= CHECKED_BYTES && !store.is_sound()? {
        return Err(unusable("it is damaged"));
    }
    for (log, name) in [(LogName::Users, journal::USERS), (LogName::Rooms, journal::ROOMS)] {
        let progress = store.progress(log)?;
        if progress.bytes > 0 && record_before(&data_dir.join(name), progress.bytes)? != Some(progress) {
            // The log may have been compacted since: the record is the same, but in another place.
            match record_numbered(&data_dir.join(name), progress.last)? {
                Some(found) if (found.last, found.sum) == (progress.last, progress.sum) => {
                    store.begin()?;
                    store.set_progress(log, found)?;
                    store.commit()?;
                }
                _ => return Err(unusable("it was made from other logs")),
            }
        }
    }
    if store.progress(LogName::Messages)?.last > last_seq {
        return Err(unusable("it knows of messages that are not in the log"));
    }
    Ok(Some(store))
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
    let users = catch_up_log::<UserRecord>(data_dir, store, LogName::Users, seen, |store, record| {
        if record.rev > users_rev { store.apply_user(record).map(drop) } else { Ok(()) }
    })?;
    if !store.index_names()? {
        return Err(unusable("two users have the same name"));
    }
    let rooms = catch_up_log::<RoomRecord>(data_dir, store, LogName::Rooms, seen, |store, record| {
        if record.rev > rooms_rev { store.apply_room(record) } else { Ok(()) }
    })?;
    for (name, scan, last) in [(journal::USERS, users, users_rev), (journal::ROOMS, rooms, rooms_rev)] {
        if scan.next <= last {
            let path = data_dir.join(name);
            let what = format!("it ends at number {}; {} knows of {last}", scan.next - 1, journal::ADMIN);
            return Err(JournalError::Damaged { path, line: 0, byte: scan.end, what }.into());
        }
    }
    Ok((users, rooms))
}

/// Applies the messages that an index in the making does not have: where those of full files stand,
/// and the newest of each room.
///
/// # Errors
/// A log is damaged, or the index can't be written.
pub fn apply_messages(data_dir: &Path, store: &Store) -> Result<(), BuildError> {
    put_sealed_files(data_dir, store)?;
    catch_up_messages(data_dir, store, u64::MAX)
}

/// Puts in the full files that are not in the index, and the newest messages of rooms as far.
fn put_sealed_files(data_dir: &Path, store: &Store) -> Result<(), BuildError> {
    let mut segments = segment::list(data_dir)?;
    segments.pop();
    let mut before = store.last_file()?;
    let done = before.map_or(0, |file| file.number + 1).max(deletions::read(data_dir)?.0.first_file);
    segments.retain(|segment| segment.number >= done);
    let mut report = Report::new("full files of messages", segments.len() as u64);
    for (at, segment) in segments.iter().enumerate() {
        let (mut failed, mut last) = (None, None);
        store.begin()?;
        sealed::read(segment, before, &mut |room_id| store.room_key(room_id), &mut |piece| {
            last = piece.file;
            failed = store.put_all(&piece).err();
            failed.is_none()
        })
        .inspect_err(|_| drop(store.rollback()))?;
        if let Some(error) = failed {
            store.rollback()?;
            return Err(error.into());
        }
        before = last;
        let seq = before.map_or(0, |file| file.last_seq);
        store.set_progress(LogName::Messages, Progress { last: seq, ..Progress::default() })?;
        store.commit()?;
        report.at(at as u64 + 1, seq);
    }
    if let Some(last) = before {
        report.end(last.last_seq);
    }
    Ok(())
}

fn catch_up_log<R: Record>(
    data_dir: &Path,
    store: &Store,
    log: LogName,
    seen: &mut Seen<'_>,
    apply: impl Fn(&Store, &R) -> Result<(), IndexError>,
) -> Result<Scan, BuildError> {
    let path = data_dir.join(if log == LogName::Users { journal::USERS } else { journal::ROOMS });
    let done = store.progress(log)?;
    let from = start(&path, done)?;
    let (mut progress, mut failed) = (done, None);
    let bytes = fs::metadata(&path).map_or(0, |file| file.len());
    let mut report = Report::new(if log == LogName::Users { "users" } else { "rooms" }, bytes);
    store.begin()?;
    let scan = recover::scan(&path, from, false, &mut |line, start, next| {
        let record: R = record::decode(line)?;
        let found = Found { number: record.rev(), synced: record.synced() };
        if found.number != next {
            return Ok(found);
        }
        seen(log, record.op(), start);
        if found.number > done.last && failed.is_none() {
            progress = Progress { last: next, bytes: start + line.len() as u64 + 1, sum: record::sum(line) };
            failed = apply(store, &record).and_then(|()| step(store, log, progress)).err();
            report.at(progress.bytes, next);
        }
        Ok(found)
    });
    if let Some(error) = failed {
        store.rollback()?;
        return Err(error.into());
    }
    let scan = scan.inspect_err(|_| drop(store.rollback()))?;
    if progress == done {
        // Writes nothing: the disk may be full.
        store.rollback()?;
    } else {
        store.set_progress(log, progress)?;
        store.commit()?;
    }
    if done.last == 0 && progress.last > 0 {
        report.end(progress.last);
    }
    Ok(scan)
}

/// Keeps transactions short.
fn step(store: &Store, log: LogName, progress: Progress) -> Result<(), IndexError> {
    if progress.last.is_multiple_of(STEP_RECORDS) {
        store.set_progress(log, progress)?;
        store.commit()?;
        store.begin()?;
    }
    Ok(())
}

/// Where to begin reading a log of which the index has `done`.
fn start(path: &Path, done: Progress) -> Result<From, BuildError> {
    let begin = From { byte: 0, number: 1 };
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(begin),
        other => other.map_err(JournalError::io(path))?,
    };
    let wrap = |source| JournalError::Io { path: path.to_owned(), source };
    let end = file.metadata().map_err(wrap)?.len();
    let byte = recover::line_start_before(&file, end.min(done.bytes), REREAD_BYTES).map_err(wrap)?;
    if byte == 0 {
        return Ok(begin);
    }
    let mut lines = Lines::new(&file, byte);
    let number = match lines.next_line().map_err(wrap)? {
        Some(line) => record::leading_number(line.bytes),
        None => Some(done.last + 1),
    };
    match number {
        Some(number) => Ok(From { byte, number }),
        None => Err(recover::damaged(&file, path, byte, BadRecord::Shape.to_string()).into()),
    }
}

/// Says how far a longer piece of work is, about once a second.
struct Report {
    what: &'static str,
    whole: u64,
    said: Instant,
}

/// Time between two lines about the progress.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

impl Report {
    fn new(what: &'static str, whole: u64) -> Report {
        Report { what, whole, said: Instant::now() }
    }

    /// `part` of the whole is done, which makes so many records.
    fn at(&mut self, part: u64, records: u64) {
        if self.said.elapsed() >= REPORT_INTERVAL {
            self.said = Instant::now();
            let percent = part.saturating_mul(100) / self.whole.max(1);
            tracing::info!(percent, records, "indexing {}", self.what);
        }
    }

    /// All is done.
    fn end(self, records: u64) {
        tracing::info!(percent = 100, records, "indexed {}", self.what);
    }
}

/// Brings the newest messages of rooms into step, as far as message `upto`.
///
/// # Errors
/// A file can't be read, or the index can't be written; a transaction may be open.
pub fn catch_up_messages(data_dir: &Path, store: &Store, upto: u64) -> Result<(), BuildError> {
    let done = store.progress(LogName::Messages)?.last;
    let (mut last, mut heads) = (done, HashMap::new());
    let segments = segment::since(segment::list(data_dir)?, done)?;
    let newest = segments.last().map_or(0, |segment| segment.number);
    let mut report = Report::new("the newest messages", segments.len() as u64);
    for (files, segment) in segments.into_iter().enumerate() {
        let path = &segment.path;
        let wrap = |source| JournalError::Io { path: path.clone(), source };
        let file = File::open(path).map_err(wrap)?;
        let end = file.metadata().map_err(wrap)?.len();
        let mut lines = Lines::new(&file, segment::find_after(&file, end, done).map_err(wrap)?);
        let mut damaged = 0u64;
        while let Some(line) = lines.next_line().map_err(wrap)? {
            match record::decode_message(line.bytes) {
                Ok(message) if message.seq > upto => break,
                Ok(message) if line.finished => {
                    last = message.seq;
                    report.at(files as u64, last);
                    note(&mut heads, &message.room_id, message.seq);
                }
                // Recovery judges the newest file.
                _ if segment.number == newest => break,
                // Sealed: the others are served; who reads for damage says where it is.
                _ => damaged += 1,
            }
            if heads.len() >= STEP_ROOMS {
                write_heads(store, &mut heads, last)?;
            }
        }
        if damaged > 0 {
            tracing::warn!(file = %path.display(), lines = damaged, "damaged messages are left out");
        }
    }
    if last == done { Ok(()) } else { write_heads(store, &mut heads, last) }
}

fn note(heads: &mut HashMap<String, u64>, room_id: &str, seq: u64) {
    match heads.get_mut(room_id) {
        Some(head) => *head = seq,
        None => drop(heads.insert(room_id.to_owned(), seq)),
    }
}

fn write_heads(store: &Store, heads: &mut HashMap<String, u64>, last: u64) -> Result<(), BuildError> {
    store.begin()?;
    for (room_id, seq) in heads.drain() {
        store.set_last_seq(&room_id, seq)?;
    }
    store.set_progress(LogName::Messages, Progress { last, ..Progress::default() })?;
    store.commit()?;
    Ok(())
}
