//! Applies the records of a log of users or rooms.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use super::report::Report;
use super::{BuildError, Seen};
use crate::index::IndexError;
use crate::index::database::{Database, Progress};
use crate::index::memberships::Memberships;
use crate::index::store::{LogName, Store};
use crate::journal::JournalError;
use crate::journal::lines::Lines;
use crate::journal::record::{self, BadRecord, Record, RoomRecord, UserRecord};
use crate::journal::recover::{self, Found, From, Scan};

/// Bytes at the end of a log that are read at each start even if the index has them already: the
/// newest records are those a crash or a worn disk spoils, and recent operations are remembered.
const REREAD_BYTES: u64 = 16 << 20;

/// Records of users applied in one transaction.
const STEP_RECORDS: usize = 50_000;

/// Bytes of a log that the index does not have above which it is given more memory meanwhile.
const MUCH_BYTES: u64 = 16 << 20;

/// What records do to the index.
pub(in crate::index) trait Apply {
    type Record: Record;
    /// Takes up a record; it need not be in the index yet.
    fn take(&mut self, record: &Self::Record) -> Result<(), IndexError>;
    /// Whether to put all in and commit now.
    fn is_full(&self) -> bool;
    /// Puts in what was taken up; the last of it was record `done`.
    fn put(&mut self, done: u64) -> Result<(), IndexError>;
}

/// Users.
pub(super) struct Users<'s> {
    store: &'s Store,
    /// What was before is of no effect.
    since: u64,
    taken: usize,
}

impl<'s> Users<'s> {
    pub(super) fn new(store: &'s Store, since: u64) -> Users<'s> {
        Users { store, since, taken: 0 }
    }
}

impl Apply for Users<'_> {
    type Record = UserRecord;
    fn take(&mut self, record: &UserRecord) -> Result<(), IndexError> {
        self.taken += 1;
        if record.rev > self.since { self.store.apply_user(record).map(drop) } else { Ok(()) }
    }
    fn is_full(&self) -> bool {
        self.taken >= STEP_RECORDS
    }
    fn put(&mut self, _: u64) -> Result<(), IndexError> {
        self.taken = 0;
        Ok(())
    }
}

/// Rooms and who is in them.
pub(super) struct Rooms<'s> {
    memberships: Memberships<'s>,
    /// What was before is of no effect.
    since: u64,
}

impl<'s> Rooms<'s> {
    pub(super) fn new(store: &'s Store, since: u64) -> Result<Rooms<'s>, IndexError> {
        let done = store.progress(LogName::Rooms)?.last;
        Ok(Rooms { memberships: Memberships::behind(store, done), since })
    }
}

impl Apply for Rooms<'_> {
    type Record = RoomRecord;
    fn take(&mut self, record: &RoomRecord) -> Result<(), IndexError> {
        if record.rev > self.since { self.memberships.take(record) } else { Ok(()) }
    }
    fn is_full(&self) -> bool {
        self.memberships.is_full()
    }
    fn put(&mut self, done: u64) -> Result<(), IndexError> {
        self.memberships.put(done)
    }
}

/// Applies the records of a log that the index does not have.
///
/// # Errors
/// The log is damaged, or the index can't be written.
pub(in crate::index) fn catch_up<A: Apply>(
    data_dir: &Path,
    store: &Database,
    log: LogName,
    seen: &mut Seen<'_>,
    mut to: A,
) -> Result<Scan, BuildError> {
    let path = data_dir.join(log.file());
    let done = store.progress(log)?;
    let bytes = fs::metadata(&path).map_or(0, |file| file.len());
    store.with_room(bytes.saturating_sub(done.bytes) > MUCH_BYTES, || {
        let from = start(&path, done)?;
        let (mut progress, mut failed) = (done, None);
        let mut report = Report::new(log.as_str(), bytes);
        store.begin()?;
        let scan = recover::scan(&path, from, false, &mut |line, start, next| {
            let record: A::Record = record::decode(line)?;
            let found = Found { number: record.rev(), synced: record.synced() };
            if found.number != next {
                return Ok(found);
            }
            seen(log, record.op(), start);
            if found.number > done.last && failed.is_none() {
                progress =
                    Progress { last: next, bytes: start + line.len() as u64 + 1, sum: record::sum(line) };
                failed = to.take(&record).and_then(|()| step(store, log, progress, &mut to)).err();
                report.at(progress.bytes, next);
            }
            Ok(found)
        });
        let scan = match failed {
            Some(error) => Err(BuildError::from(error)),
            None => scan.map_err(BuildError::from),
        };
        let scan = scan.inspect_err(|_| drop(store.rollback()))?;
        if progress == done {
            // Writes nothing: the disk may be full.
            store.rollback()?;
        } else {
            end_step(store, log, progress, &mut to)?;
        }
        if done.last == 0 && progress.last > 0 {
            report.end(progress.last);
        }
        Ok(scan)
    })
}

/// Keeps transactions short.
fn step<A: Apply>(store: &Database, log: LogName, progress: Progress, to: &mut A) -> Result<(), IndexError> {
    if to.is_full() {
        end_step(store, log, progress, to)?;
        store.begin()?;
    }
    Ok(())
}

fn end_step<A: Apply>(
    store: &Database,
    log: LogName,
    progress: Progress,
    to: &mut A,
) -> Result<(), IndexError> {
    to.put(progress.last)?;
    store.set_progress(log, progress)?;
    store.commit()
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
