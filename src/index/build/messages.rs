//! Brings what the index has of messages into step: where those of full files stand, and the newest of
//! each room.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;

use super::BuildError;
use super::report::Report;
use crate::index::IndexError;
use crate::index::runs;
use crate::index::sealed::{self, Found};
use crate::index::store::{LogName, Progress, Store};
use crate::journal::lines::Lines;
use crate::journal::segment::{self, Segment};
use crate::journal::{JournalError, deletions, record};

/// Rooms up to which the newest message is written by the room's id. Of more it is cheaper to go through
/// all rooms in order.
const FEW_ROOMS: usize = 10_000;

/// Rooms whose newest message is gathered before it is written: some 100 MB.
const MOST_ROOMS: usize = 2 << 20;

/// Rooms looked at together on the way through all of them.
const STEP_ROOMS: u64 = 10_000;

/// The newest messages of rooms, on their way to the index.
#[derive(Default)]
pub(super) struct Heads {
    /// By id, while they are few.
    few: HashMap<String, u64, foldhash::fast::RandomState>,
    /// By the sum of the id, when there were more.
    many: HashMap<u128, u64, foldhash::fast::RandomState>,
}

impl Heads {
    /// Takes note of a message; those of a room must come in order.
    pub(super) fn note(&mut self, room_id: &str, seq: u64) {
        if !self.many.is_empty() {
            self.many.insert(runs::room_sum(room_id), seq);
        } else if let Some(head) = self.few.get_mut(room_id) {
            *head = seq;
        } else {
            self.few.insert(room_id.to_owned(), seq);
            if self.few.len() > FEW_ROOMS {
                self.many = self.few.drain().map(|(room_id, seq)| (runs::room_sum(&room_id), seq)).collect();
            }
        }
    }

    fn is_full(&self) -> bool {
        self.many.len() >= MOST_ROOMS
    }

    /// Writes them, and that the index knows of messages up to `last`, in one transaction.
    ///
    /// # Errors
    /// The index can't be written; a transaction may be open.
    fn write(&mut self, store: &Store, last: u64) -> Result<(), IndexError> {
        store.begin()?;
        for (room_id, seq) in self.few.drain() {
            store.set_last_seq(&room_id, seq)?;
        }
        if !self.many.is_empty() {
            let mut after = Some(0);
            while let Some(key) = after {
                after = store.raise_last_seqs(key, STEP_ROOMS, &|room_id| {
                    self.many.get(&runs::room_sum(room_id)).copied()
                })?;
            }
            self.many = HashMap::default();
        }
        store.set_progress(LogName::Messages, Progress { last, ..Progress::default() })?;
        store.commit()
    }
}

/// Applies the messages that an index in the making does not have.
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
    let mut heads = Heads::default();
    for (at, segment) in segments.iter().enumerate() {
        let mut note =
            |passed: &crate::journal::walk::Passed<'_>| heads.note(passed.room_id, passed.place.seq);
        let Some(added) = sealed::read(data_dir, segment, before, &mut note, &mut || false)? else {
            break;
        };
        let last = added.file.last_seq;
        before = Some(added.file);
        put(store, &Found::Added(added))?;
        while let Some(found) = sealed::merge(data_dir, &store.runs()?, &mut || false)? {
            put(store, &found)?;
        }
        if heads.is_full() || at + 1 == segments.len() {
            heads.write(store, last)?;
        }
        report.at(at as u64 + 1, last);
    }
    if let Some(last) = before {
        report.end(last.last_seq);
    }
    Ok(())
}

fn put(store: &Store, found: &Found) -> Result<(), IndexError> {
    store.begin()?;
    store.put_found(found)?;
    store.commit()
}

/// Brings the newest messages of rooms into step, as far as message `upto`. What can't be read of full
/// files is left out, and said.
///
/// # Errors
/// The newest file can't be read, or the index can't be written; a transaction may be open.
pub fn catch_up_messages(data_dir: &Path, store: &Store, upto: u64) -> Result<(), BuildError> {
    let done = store.progress(LogName::Messages)?.last;
    let (mut last, mut heads) = (done, Heads::default());
    let segments = segment::since(segment::list(data_dir)?, done)?;
    let newest = segments.last().map_or(0, |segment| segment.number);
    let mut report = Report::new("the newest messages", segments.len() as u64);
    for (files, segment) in segments.into_iter().enumerate() {
        let mut failed = None;
        let sealed = segment.number != newest;
        let read = newest_of(&segment, sealed, done, upto, &mut |room_id, seq| {
            last = seq;
            heads.note(room_id, seq);
            report.at(files as u64, last);
            if heads.is_full() {
                failed = heads.write(store, last).err();
            }
            failed.is_none()
        });
        match read {
            _ if failed.is_some() => return failed.map_or(Ok(()), |error| Err(error.into())),
            Err(error) if sealed => {
                tracing::error!(%error, "a full file can't be read; its rooms may be said to have no newer messages");
            }
            other => other?,
        }
    }
    if last == done { Ok(()) } else { Ok(heads.write(store, last)?) }
}

/// Tells `note` of the messages of a file behind one number and up to another, until it answers false.
fn newest_of(
    segment: &Segment,
    sealed: bool,
    done: u64,
    upto: u64,
    note: &mut dyn FnMut(&str, u64) -> bool,
) -> Result<(), JournalError> {
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
                if !note(&message.room_id, message.seq) {
                    break;
                }
            }
            // Sealed: the others are served; who reads for damage says where it is.
            _ if sealed => damaged += 1,
            // Recovery judges the newest file.
            _ => break,
        }
    }
    if damaged > 0 {
        tracing::warn!(file = %path.display(), lines = damaged, "damaged messages are left out");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::fixture::{Logs, Said};

    #[test]
    fn few_rooms_and_many_get_their_newest_message() {
        let rooms = ["a", "b", "c", "quiet"];
        let said =
            (0..30).map(|at| Said { room: rooms[at % 3], sender: "alice", content: String::new(), ms: 0 });
        let logs = Logs::new(&rooms.map(|room| (room, 1)), said.collect(), 10);
        for many in [false, true] {
            let store = Store::open(logs.path()).unwrap().unwrap();
            let reader = crate::index::Reader::open(logs.path()).unwrap();
            let mut heads = Heads::default();
            let base = if many { 2_000_000 } else { 1_000_000 };
            if many {
                (0..=FEW_ROOMS).for_each(|room| heads.note(&format!("gone {room}"), base));
                assert!(heads.few.is_empty() && heads.many.len() > FEW_ROOMS);
            }
            ["a", "b", "a", "c"].into_iter().zip(base..).for_each(|(room, seq)| heads.note(room, seq));
            heads.write(&store, base + 3).unwrap();
            let found = rooms.map(|room| reader.last_seq(room).unwrap());
            assert_eq!(found, [base + 2, base + 1, base + 3, 0]);
            assert_eq!(store.progress(LogName::Messages).unwrap().last, base + 3);
            // An older one changes nothing.
            heads.note("a", 5);
            heads.write(&store, base + 3).unwrap();
            assert_eq!(reader.last_seq("a").unwrap(), base + 2);
        }
    }
}
