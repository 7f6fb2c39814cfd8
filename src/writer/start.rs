//! From a data directory in whatever state to one that is fit to be written.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;

use super::judge;
use super::repeats::Repeats;
use super::sequence::Sequence;
use super::status::{self, FileState};
use crate::config::Storage;
use crate::index::build::{self, BuildError};
use crate::index::store::Store;
use crate::journal::append::Log;
use crate::journal::disk::Disk;
use crate::journal::lines::BlocksBack;
use crate::journal::record::{self, Message};
use crate::journal::recover::{self, Found, From, Scan};
use crate::journal::rolling::Segments;
use crate::journal::segment::{self, Segment};
use crate::journal::{JournalError, ROOMS, USERS};

/// Everything that the writer's threads begin with.
pub struct Recovered {
    /// Messages.
    pub segments: Segments,
    /// Their order.
    pub sequence: Sequence,
    /// Users.
    pub users: Log,
    /// Rooms.
    pub rooms: Log,
    /// The ends of these two.
    pub ends: judge::Ends,
    /// The latest changes of them.
    pub repeats: Repeats,
    /// The index, in step with all logs.
    pub store: Store,
    /// The files, for reports.
    pub files: Vec<FileState>,
}

/// Recovers all logs, then brings the index into step.
///
/// # Errors
/// A log is damaged, or the directory can't be used.
pub fn recover(data_dir: &Path, disk: &Arc<dyn Disk>, storage: &Storage) -> Result<Recovered, BuildError> {
    let (segments, scan) = recover_messages(data_dir, disk, storage.messages_per_file)?;
    let last = scan.next - 1;
    let sequence = remember(data_dir, last, storage.dedup_window_messages)?;
    for name in [USERS, ROOMS] {
        let path = data_dir.join(name);
        if !path.try_exists().map_err(JournalError::io(&path))? {
            Log::create(disk.clone(), path.clone()).map_err(JournalError::io(&path))?;
        }
    }
    let mut repeats = Repeats::default();
    let (store, ends) = build::open(data_dir, last, &mut |log, op, byte| repeats.add(log, op, byte))?;
    let mut files = vec![state(USERS, ends.users), state(ROOMS, ends.rooms)];
    files.append(&mut message_files(data_dir, &segments, scan)?);
    let users = recover::mend(disk, data_dir.join(USERS), ends.users)?;
    let rooms = recover::mend(disk, data_dir.join(ROOMS), ends.rooms)?;
    let ends =
        judge::Ends { users: ends.users.next - 1, rooms: ends.rooms.next - 1, last_user: store.last_user()? };
    Ok(Recovered { segments, sequence, users, rooms, ends, repeats, store, files })
}

fn state(name: &str, scan: Scan) -> FileState {
    FileState { name: name.to_owned(), records: scan.next - 1, bytes: scan.end }
}

/// Recovers the newest file of messages, which alone may have an unfinished end; creates the first.
fn recover_messages(
    data_dir: &Path,
    disk: &Arc<dyn Disk>,
    per_file: u64,
) -> Result<(Segments, Scan), JournalError> {
    let listed = segment::list(data_dir)?;
    let first = Segment::at(data_dir, 1);
    let newest = listed.last().unwrap_or(&first);
    let next = match listed.len().checked_sub(2) {
        Some(before) => last_message(&listed[before].path)? + 1,
        // Older files may have been taken away.
        None => first_message(&newest.path)?.unwrap_or(1),
    };
    let path = &newest.path;
    let from = From { byte: 0, number: next };
    let scan = recover::scan(path, from, false, &mut |line, _, _| {
        let message = record::decode_message(line)?;
        Ok(Found { number: message.seq, synced: message.synced })
    })?;
    let log = if listed.is_empty() {
        Log::create(disk.clone(), path.clone()).map_err(JournalError::io(path))?
    } else {
        recover::mend(disk, path.clone(), scan)?
    };
    let dir = data_dir.to_owned();
    let segments = Segments::resume(disk.clone(), dir, newest.number, scan.records, log, per_file);
    Ok((segments, scan))
}

/// The number of the first message of the only file.
fn first_message(path: &Path) -> Result<Option<u64>, JournalError> {
    match File::open(path) {
        Ok(file) => segment::first_number(&file).map_err(JournalError::io(path)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
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

/// Reads the latest messages back into the window in which repetitions are recognised.
fn remember(data_dir: &Path, last: u64, window: usize) -> Result<Sequence, JournalError> {
    let before = last.saturating_sub(window as u64);
    let mut sequence = Sequence::new(before, window);
    let segments = segment::since(segment::list(data_dir)?, before)?;
    // Where the oldest file begins behind that, its first message is the window's first.
    let mut next = before + 1;
    for (at, segment) in segments.iter().enumerate() {
        let path = &segment.path;
        let file = File::open(path).map_err(JournalError::io(path))?;
        let end = file.metadata().map_err(JournalError::io(path))?.len();
        let byte = segment::find_after(&file, end, next - 1).map_err(JournalError::io(path))?;
        if at == 0
            && byte == 0
            && let Some(first) = segment::first_number(&file).map_err(JournalError::io(path))?
            && first > next
        {
            next = first;
            sequence = Sequence::new(first - 1, window);
        }
        let sealed = at + 1 < segments.len();
        let scan = recover::scan(path, From { byte, number: next }, sealed, &mut |line, _, next| {
            let message = record::decode_message(line)?;
            if message.seq == next {
                let client_id = message.client_id.as_deref();
                sequence.recall(message.id, message.user, client_id, message.timestamp_ms);
            }
            Ok(Found { number: message.seq, synced: message.synced })
        })?;
        next = scan.next;
    }
    if next == last + 1 { Ok(sequence) } else { Ok(Sequence::new(last, window)) }
}

/// The newest files of messages and what they hold; the counts of full ones follow from where the
/// next begins.
fn message_files(data_dir: &Path, segments: &Segments, scan: Scan) -> Result<Vec<FileState>, JournalError> {
    let mut states = Vec::new();
    let (log, number, records) = segments.newest();
    let mut behind = scan.next - records;
    let listed = segment::list(data_dir)?;
    let older = listed.iter().rev().filter(|segment| segment.number != number);
    states.push(FileState { name: name(log.path()), records, bytes: log.end() });
    for segment in older.take(status::FILES_NAMED - 1) {
        let path = &segment.path;
        let first = first_message(path)?.unwrap_or(behind);
        let bytes = fs::metadata(path).map_err(JournalError::io(path))?.len();
        states.push(FileState { name: name(path), records: behind.saturating_sub(first), bytes });
        behind = first;
    }
    states.reverse();
    Ok(states)
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
