//! Opens logs for appending, after any end of whoever appended before.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::append::Log;
use super::compacted::{self, Compacted};
use super::disk::Disk;
use super::lines::{BlocksBack, Lines};
use super::record::{self, Message};
use super::recover::{self, Found, From, Scan};
use super::rolling::Segments;
use super::segment::{self, Segment};
use super::{ADMIN, CHALLENGES, JournalError, ROOMS, USERS, deletions};

/// Judges the end of the messages without changing it: the newest file, and what it holds. Only the
/// newest may have an unfinished end. `None`: there is no file yet.
///
/// # Errors
/// A file can't be read, or the newest is damaged.
pub fn newest_messages(data_dir: &Path) -> Result<(Option<Segment>, Scan), JournalError> {
    let (deletions, _) = deletions::read(data_dir)?;
    let mut listed = segment::list(data_dir)?;
    listed.retain(|segment| segment.number >= deletions.first_file);
    let first = Segment::at(data_dir, 1);
    let newest = listed.pop();
    let path = &newest.as_ref().unwrap_or(&first).path;
    let next = match listed.last() {
        Some(before) => begins_with(before, path)?,
        // Older files may have been taken away.
        None => first_message(path)?.unwrap_or(1).max(deletions.upto + 1),
    };
    let from = From { byte: 0, number: next };
    let scan = recover::scan(path, from, false, &mut |line, _, _| {
        let message = record::decode_message(line)?;
        Ok(Found { number: message.seq, synced: message.synced })
    })?;
    Ok((newest, scan))
}

/// Recovers the newest file of messages; creates the first. Removes those that were deleted.
///
/// # Errors
/// It is damaged, or the disk refused.
pub fn messages(
    data_dir: &Path,
    disk: &Arc<dyn Disk>,
    per_file: u64,
) -> Result<(Segments, Scan), JournalError> {
    let first_file = deletions::read(data_dir)?.0.first_file.max(1);
    segment::remove_before(data_dir, &**disk, first_file)?;
    let (newest, scan) = newest_messages(data_dir)?;
    let (number, log) = match newest {
        Some(Segment { number, path }) => (number, recover::mend(disk, path, scan)?),
        None => {
            let Segment { number, path } = Segment::at(data_dir, first_file);
            (number, Log::create(disk.clone(), path.clone()).map_err(JournalError::io(&path))?)
        }
    };
    let dir = data_dir.to_owned();
    Ok((Segments::resume(disk.clone(), dir, number, scan.records, log, per_file), scan))
}

/// Creates the logs of users, of rooms, of challenges and of deletions where they are missing, and removes what an
/// unfinished compaction has left.
///
/// # Errors
/// The disk refused.
pub fn create_missing(data_dir: &Path, disk: &Arc<dyn Disk>) -> Result<(), JournalError> {
    let mut compacted = false;
    for name in [USERS, ROOMS, CHALLENGES, ADMIN] {
        let path: PathBuf = data_dir.join(name);
        let unfinished = compacted::unfinished(&path);
        disk.remove(&unfinished).map_err(JournalError::io(&unfinished))?;
        match File::open(&path) {
            Ok(file) => compacted |= Compacted::of(&file).is_ok_and(|header| header.is_some()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Log::create(disk.clone(), path.clone()).map_err(JournalError::io(&path))?;
            }
            Err(source) => return Err(JournalError::Io { path, source }),
        }
    }
    if compacted {
        // The process before may have ended between giving the name and making that durable.
        disk.sync_dir(data_dir).map_err(JournalError::io(data_dir))?;
    }
    Ok(())
}

/// The number of the newest file's first message: behind the last of the file before. Where that is
/// damaged or not there, the newest file says it itself, if it has a message.
fn begins_with(before: &Segment, path: &Path) -> Result<u64, JournalError> {
    let last = last_message(&before.path);
    if let (Ok(last), true) = (&last, path.ends_with(Segment::at(Path::new(""), before.number + 1).path)) {
        return Ok(last + 1);
    }
    let file = File::open(path).map_err(JournalError::io(path))?;
    let mut lines = Lines::new(&file, 0);
    let line = lines.next_line().map_err(JournalError::io(path))?;
    match line.filter(|line| line.finished).map(|line| record::decode_message(line.bytes)) {
        Some(Ok(first)) => Ok(first.seq),
        _ => last.and(Err(recover::damaged(&file, path, 0, "the file before is not there".to_owned()))),
    }
}

/// The number of the first message of a file.
///
/// # Errors
/// The file can't be read.
pub fn first_message(path: &Path) -> Result<Option<u64>, JournalError> {
    match File::open(path) {
        Ok(file) => segment::first_number(&file).map_err(JournalError::io(path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(JournalError::Io { path: path.to_owned(), source }),
    }
}

/// The number of the last message of a full file.
fn last_message(path: &Path) -> Result<u64, JournalError> {
    let wrap = |source| JournalError::Io { path: path.to_owned(), source };
    let file = File::open(path).map_err(wrap)?;
    let end = file.metadata().map_err(wrap)?.len();
    let mut blocks = BlocksBack::new(&file, end);
    let (start, block) = blocks.next_block().map_err(wrap)?.unwrap_or((0, &[]));
    let lines = block.strip_suffix(b"\n").unwrap_or(block);
    let from = memchr::memrchr(b'\n', lines).map_or(0, |at| at + 1);
    let what = match record::decode_message(&lines[from..]) {
        Ok(Message { seq, .. }) if lines.len() < block.len() => return Ok(seq),
        Ok(_) => "the line has no end".to_owned(),
        Err(error) => error.to_string(),
    };
    Err(recover::damaged(&file, path, start + from as u64, what))
}
