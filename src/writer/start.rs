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
use crate::journal::record;
use crate::journal::recover::{self, Found, From, Scan};
use crate::journal::rolling::Segments;
use crate::journal::{JournalError, ROOMS, USERS, resume, segment, undo};

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
    undo::undo(data_dir)?;
    let (segments, scan) = resume::messages(data_dir, disk, storage.messages_per_file)?;
    let last = scan.next - 1;
    let sequence = remember(data_dir, last, storage.dedup_window_messages)?;
    resume::create_missing(data_dir, disk)?;
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
        let first = resume::first_message(path)?.unwrap_or(behind);
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
