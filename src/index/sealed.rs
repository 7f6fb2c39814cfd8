//! Finds out where each room's messages stand in a full file, in pieces of bounded size.

use std::collections::HashMap;
use std::fs::File;
use std::time::Duration;

use rusqlite::Connection;

use super::{IndexError, ReadError, schema};
use crate::journal::JournalError;
use crate::journal::places::{self, Place};
use crate::journal::recover::From;
use crate::journal::segment::Segment;
use crate::journal::walk::{self, Passed};

/// Messages whose places are gathered before they are handed on: some 20 MB, if each is of another
/// room. A file of the default size is one piece.
const PIECE_MESSAGES: usize = 128 << 10;

/// Places in one row of the index: more would be unpacked in vain by most who look for a page.
const ROW_PLACES: usize = 1_024;

/// Messages between two entries of the index's table of times.
const TIMES_EVERY: u64 = 1_024;

/// Places of one room in one file.
#[derive(Debug, PartialEq, Eq)]
pub struct Row {
    /// Key of the room.
    pub room: i64,
    /// Number of the first message.
    pub first_seq: u64,
    /// Number of the last one.
    pub last_seq: u64,
    /// Number of the file.
    pub segment: u64,
    /// How many.
    pub count: u64,
    /// Packed.
    pub places: Vec<u8>,
}

/// What is known of a full file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealedFile {
    /// Its number.
    pub number: u64,
    /// Number of its first message; behind that of the last one, if there is none.
    pub first_seq: u64,
    /// Number of its last message.
    pub last_seq: u64,
    /// The earliest time in it, in Unix milliseconds.
    pub from_ms: i64,
    /// The latest.
    pub to_ms: i64,
    /// The latest in it or any file before it.
    pub upto_ms: i64,
    /// Its length.
    pub bytes: u64,
}

/// Some of what a file holds; the last piece says that the file is whole.
#[derive(Debug, Default)]
pub struct Piece {
    /// Rows, by room.
    pub rows: Vec<Row>,
    /// Rows that are in the index.
    pub done: usize,
    /// The latest time up to a message, and the number of the first message of its stretch.
    pub times: Vec<(i64, u64)>,
    /// Set in the last piece.
    pub file: Option<SealedFile>,
}

impl Piece {
    /// Number of the file, if there is anything in the piece.
    pub fn segment(&self) -> Option<u64> {
        self.rows.first().map(|row| row.segment).or(self.file.map(|file| file.number))
    }
}

/// Reads a full file and hands its pieces on until `hand` answers false. `before` is the file before
/// it; `key` finds a room, and answers `None` for one that is gone.
///
/// # Errors
/// The file or the index can't be read. Damaged lines are said to the log.
pub fn read(
    segment: &Segment,
    before: Option<SealedFile>,
    key: &mut dyn FnMut(&str) -> Result<Option<i64>, IndexError>,
    hand: &mut dyn FnMut(Piece) -> bool,
) -> Result<(), ReadError> {
    let path = &segment.path;
    let file = File::open(path).map_err(JournalError::io(path))?;
    let mut gathering = Gathering::new(segment.number, before);
    let start = From { byte: 0, number: before.map_or(0, |before| before.last_seq + 1) };
    // A number that belongs there is only known if no file is missing in between.
    let start = if before.is_some_and(|before| before.number + 1 == segment.number) {
        start
    } else {
        From { number: 0, ..start }
    };
    let mut from = start;
    loop {
        let mut full = false;
        let next = walk::walk(&file, path, from, u64::MAX, &mut |passed| {
            gathering.note(&passed);
            full = gathering.messages >= PIECE_MESSAGES;
            !full
        })?;
        from = next;
        let mut piece = gathering.take(key)?;
        if !full {
            piece.file = Some(gathering.finish(from));
        }
        if !hand(piece) || !full {
            return Ok(());
        }
    }
}

struct Gathering {
    rooms: HashMap<String, Vec<Place>, foldhash::fast::RandomState>,
    /// In `rooms`.
    messages: usize,
    times: Vec<(i64, u64)>,
    file: SealedFile,
}

impl Gathering {
    fn new(number: u64, before: Option<SealedFile>) -> Gathering {
        let upto_ms = before.map_or(i64::MIN, |before| before.upto_ms);
        let last_seq = before.map_or(0, |before| before.last_seq);
        let file = SealedFile {
            number,
            first_seq: 0,
            last_seq,
            from_ms: i64::MAX,
            to_ms: i64::MIN,
            upto_ms,
            bytes: 0,
        };
        Gathering { rooms: HashMap::default(), messages: 0, times: Vec::new(), file }
    }

    fn note(&mut self, passed: &Passed<'_>) {
        let Passed { place, room_id, timestamp_ms, .. } = *passed;
        match self.rooms.get_mut(room_id) {
            Some(places) => places.push(place),
            None => drop(self.rooms.insert(room_id.to_owned(), vec![place])),
        }
        self.messages += 1;
        let file = &mut self.file;
        if file.first_seq == 0 {
            file.first_seq = place.seq;
        }
        file.last_seq = place.seq;
        if let Some(ms) = timestamp_ms {
            file.from_ms = file.from_ms.min(ms);
            file.to_ms = file.to_ms.max(ms);
            file.upto_ms = file.upto_ms.max(ms);
        }
        match self.times.last_mut() {
            Some(last) if place.seq < last.1 + TIMES_EVERY => last.0 = file.upto_ms,
            _ => self.times.push((file.upto_ms, place.seq)),
        }
    }

    /// What was gathered, as rows.
    fn take(
        &mut self,
        key: &mut dyn FnMut(&str) -> Result<Option<i64>, IndexError>,
    ) -> Result<Piece, IndexError> {
        let mut rows = Vec::with_capacity(self.rooms.len());
        let segment = self.file.number;
        for (room_id, places) in self.rooms.drain() {
            let Some(room) = key(&room_id)? else {
                continue;
            };
            for part in places.chunks(ROW_PLACES) {
                let (first_seq, last_seq) = (part[0].seq, part[part.len() - 1].seq);
                let count = part.len() as u64;
                rows.push(Row { room, first_seq, last_seq, segment, count, places: places::pack(part) });
            }
        }
        // In the order in which they stand in the index.
        rows.sort_unstable_by_key(|row| (row.room, row.first_seq));
        self.messages = 0;
        Ok(Piece { rows, done: 0, times: std::mem::take(&mut self.times), file: None })
    }

    fn finish(&self, end: From) -> SealedFile {
        let mut file = self.file;
        // Lines that could not be read at all count, too.
        file.last_seq = file.last_seq.max(end.number.saturating_sub(1));
        if file.first_seq == 0 {
            file.first_seq = file.last_seq + 1;
        }
        file.bytes = end.byte;
        file
    }
}

/// Moves what was committed from SQLite's write-ahead log to where it stays, on behalf of the writing
/// connection, which would otherwise do it in the middle of its work.
pub struct Checkpointer(Connection);

impl Checkpointer {
    /// A connection of its own.
    ///
    /// # Errors
    /// There is no index.
    pub fn open(data_dir: &std::path::Path) -> Result<Checkpointer, IndexError> {
        let connection = schema::open_checkpointer(data_dir)?;
        connection.busy_timeout(Duration::ZERO)?;
        Ok(Checkpointer(connection))
    }

    /// Moves what can be moved without anybody waiting.
    ///
    /// # Errors
    /// The disk refused.
    pub fn run(&self) -> Result<(), IndexError> {
        Ok(self.0.prepare_cached("PRAGMA wal_checkpoint(PASSIVE)")?.query_row([], |_| Ok(()))?)
    }
}
