//! Applies the records of a log of users or rooms.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use super::report::Report;
use super::{BuildError, Seen};
use crate::index::IndexError;
use crate::index::store::{LogName, Progress, Store};
use crate::journal::JournalError;
use crate::journal::lines::Lines;
use crate::journal::record::{self, BadRecord, Record};
use crate::journal::recover::{self, Found, From, Scan};

/// Bytes at the end of a log that are read at each start even if the index has them already: the
/// newest records are those a crash or a worn disk spoils, and recent operations are remembered.
const REREAD_BYTES: u64 = 16 << 20;

/// Records applied in one transaction.
const STEP_RECORDS: u64 = 50_000;

/// Applies the records of a log that the index does not have.
///
/// # Errors
/// The log is damaged, or the index can't be written.
pub(super) fn catch_up<R: Record>(
    data_dir: &Path,
    store: &Store,
    log: LogName,
    seen: &mut Seen<'_>,
    apply: impl Fn(&Store, &R) -> Result<(), IndexError>,
) -> Result<Scan, BuildError> {
    let path = data_dir.join(log.file());
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
