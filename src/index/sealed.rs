//! Finds out where each room's messages stand in full files, and writes it into runs.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;

use super::runs::file::RunFile;
use super::runs::merge;
use super::runs::writer::Writer;
use super::runs::{self, PARTIAL, Part, Run};
use super::{IndexError, schema};
use crate::journal::JournalError;
use crate::journal::places::{self, Place};
use crate::journal::recover::From;
use crate::journal::resume;
use crate::journal::segment::Segment;
use crate::journal::walk::{self, Passed};

/// Messages whose places are gathered before they are written: 24 MiB. A file of the default size is
/// far below it.
const GATHERED: usize = 1 << 20;

/// Places in one entry of a run: more would be unpacked in vain by most who look for a page.
const PART_PLACES: usize = 1_024;

/// Messages between two entries of the index's table of times.
const TIMES_EVERY: u64 = 1_024;

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
    /// It could be read to its end.
    pub whole: bool,
}

/// A change of the index's tables of files and runs.
#[derive(Clone, Debug)]
pub enum Found {
    /// A file was read.
    Added(Added),
    /// Runs were merged.
    Merged {
        /// Which.
        inputs: Vec<Run>,
        /// What became of them.
        run: Run,
    },
    /// A run that was gone or damaged was made again.
    Remade {
        /// Which.
        lost: Run,
        /// What is to be in its place.
        runs: Vec<Run>,
        /// Numbers of files that could not be read to their end this time.
        broken: Vec<u64>,
    },
    /// A run is not what was written: files from here on must be read again.
    Lost {
        /// Number of the first.
        from: u64,
    },
}

/// What a file holds.
#[derive(Clone, Debug)]
pub struct Added {
    /// The file.
    pub file: SealedFile,
    /// The latest time up to a message, and the number of the first message of its stretch.
    pub times: Vec<(i64, u64)>,
    /// Where its messages stand; `None`: it has none.
    pub run: Option<Run>,
}

impl Found {
    /// Number of the newest file it is about.
    pub fn segment(&self) -> u64 {
        match self {
            Found::Added(added) => added.file.number,
            Found::Merged { run, .. } => run.last_segment,
            Found::Remade { lost, .. } => lost.last_segment,
            Found::Lost { from } => *from,
        }
    }
}

/// Reads a full file, the one after `before`, and writes its run; each message is shown to `note`. One
/// that can't be read to its end is not whole, which is said to the log. `None`: told to stop.
///
/// # Errors
/// The run can't be written.
pub fn read(
    data_dir: &Path,
    segment: &Segment,
    before: Option<SealedFile>,
    note: &mut dyn FnMut(&Passed<'_>),
    stop: &mut dyn FnMut() -> bool,
) -> Result<Option<Added>, IndexError> {
    let mut gathering = Gathering::new(data_dir, segment.number, before);
    // A number that belongs there is only known if no file is missing in between.
    let follows = before.filter(|before| before.number + 1 == segment.number && before.whole);
    let mut from = From { byte: 0, number: follows.map_or(0, |before| before.last_seq + 1) };
    let whole = loop {
        if stop() {
            gathering.discard();
            return Ok(None);
        }
        let mut full = false;
        match walk_on(segment, from, &mut |passed| {
            gathering.note(&passed);
            note(&passed);
            full = gathering.places.len() >= GATHERED;
            !full
        }) {
            Ok(next) => from = next,
            Err(error) => {
                let file = segment.path.display();
                tracing::error!(%file, %error, "a full file can't be read: its messages are left out of the index");
                break false;
            }
        }
        if !full {
            break true;
        }
        gathering.spill(PARTIAL)?;
    };
    gathering.finish(from, whole).map(Some)
}

fn walk_on(
    segment: &Segment,
    from: From,
    pass: &mut dyn FnMut(Passed<'_>) -> bool,
) -> Result<From, JournalError> {
    let file = File::open(&segment.path).map_err(JournalError::io(&segment.path))?;
    walk::walk(&file, &segment.path, from, u64::MAX, pass)
}

struct Gathering<'a> {
    data_dir: &'a Path,
    /// Not written yet.
    places: Vec<(u64, Place)>,
    /// Written; more than one only of a very large file.
    spilt: Vec<Run>,
    times: Vec<(i64, u64)>,
    file: SealedFile,
}

impl Gathering<'_> {
    fn new(data_dir: &Path, number: u64, before: Option<SealedFile>) -> Gathering<'_> {
        let upto_ms = before.map_or(i64::MIN, |before| before.upto_ms);
        let last_seq = before.map_or(0, |before| before.last_seq);
        let (from_ms, to_ms) = (i64::MAX, i64::MIN);
        let file =
            SealedFile { number, first_seq: 0, last_seq, from_ms, to_ms, upto_ms, bytes: 0, whole: false };
        Gathering { data_dir, places: Vec::new(), spilt: Vec::new(), times: Vec::new(), file }
    }

    fn note(&mut self, passed: &Passed<'_>) {
        let Passed { place, room_id, timestamp_ms, end } = *passed;
        self.places.push((runs::room_key(room_id), place));
        let file = &mut self.file;
        if file.first_seq == 0 {
            file.first_seq = place.seq;
        }
        (file.last_seq, file.bytes) = (place.seq, end);
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

    /// Writes what was gathered into a run.
    fn spill(&mut self, level: i64) -> io::Result<()> {
        self.places.sort_unstable();
        let segment = self.file.number;
        let id = runs::free_id(self.data_dir)?;
        let first_seq = self.file.first_seq;
        let mut writer = Writer::create(&runs::path(self.data_dir, id), segment, first_seq)?;
        let mut of_part = Vec::new();
        for of_room in self.places.chunk_by(|a, b| a.0 == b.0) {
            for part in of_room.chunks(PART_PLACES) {
                of_part.clear();
                of_part.extend(part.iter().map(|(_, place)| *place));
                let (room, first_seq, count) = (part[0].0, of_part[0].seq, of_part.len() as u64);
                writer.push(&Part { room, first_seq, segment, count, places: places::pack(&of_part) })?;
            }
        }
        let (bytes, messages, sum) = writer.finish()?;
        let (first_segment, last_segment, last_seq) = (segment, segment, self.file.last_seq);
        let run = Run { id, first_segment, last_segment, first_seq, last_seq, level, bytes, messages, sum };
        self.spilt.push(run);
        self.places.clear();
        Ok(())
    }

    fn finish(mut self, end: From, whole: bool) -> Result<Added, IndexError> {
        let level = if whole { 0 } else { PARTIAL };
        if !self.places.is_empty() {
            self.spill(level)?;
        }
        let run = match &self.spilt[..] {
            [] => None,
            [run] => Some(Run { level, ..*run }),
            _ => Some(Run { level, ..self.merge_spilt()? }),
        };
        let mut file = SealedFile { whole, ..self.file };
        if whole {
            // Lines that could not be read at all count, too.
            file.last_seq = file.last_seq.max(end.number.saturating_sub(1));
            file.bytes = end.byte;
        } else if let Some(next) = self.next_seq() {
            file.last_seq = file.last_seq.max(next.saturating_sub(1));
        }
        if file.first_seq == 0 {
            file.first_seq = if whole { file.last_seq + 1 } else { self.file.last_seq + 1 };
        }
        let run = run.map(|run| Run { last_seq: file.last_seq, ..run });
        Ok(Added { file, times: self.times, run })
    }

    /// The number of the first message behind the file.
    fn next_seq(&self) -> Option<u64> {
        let next = Segment::at(self.data_dir, self.file.number + 1);
        resume::first_message(&next.path).ok().flatten()
    }

    fn merge_spilt(&self) -> io::Result<Run> {
        let files = open_all(self.data_dir, &self.spilt)?;
        let id = runs::free_id(self.data_dir)?;
        let merged = merge::merge(&runs::path(self.data_dir, id), id, &files, &mut || false)?;
        self.discard();
        merged.ok_or_else(|| io::ErrorKind::Interrupted.into())
    }

    /// Nobody needs the parts; what can't be removed is swept later.
    fn discard(&self) {
        self.spilt.iter().for_each(|run| drop(fs::remove_file(runs::path(self.data_dir, run.id))));
    }
}

pub(super) fn open_all(data_dir: &Path, runs: &[Run]) -> io::Result<Vec<RunFile>> {
    runs.iter().map(|run| RunFile::open(&runs::path(data_dir, run.id), *run)).collect()
}

/// Merges the runs whose turn it is; `None`: there are none, or told to stop.
///
/// # Errors
/// The new one can't be written, or an old one not be read.
pub fn merge(
    data_dir: &Path,
    there: &[Run],
    stop: &mut dyn FnMut() -> bool,
) -> Result<Option<Found>, IndexError> {
    let Some(inputs) = merge::due(there) else {
        return Ok(None);
    };
    let id = runs::free_id(data_dir)?;
    let path = runs::path(data_dir, id);
    let merged = open_all(data_dir, inputs).and_then(|files| merge::merge(&path, id, &files, stop));
    match merged {
        Ok(Some(run)) => Ok(Some(Found::Merged { inputs: inputs.to_vec(), run })),
        Ok(None) => {
            fs::remove_file(&path)?;
            Ok(None)
        }
        Err(error) => {
            let _ = fs::remove_file(&path);
            match first_bad(data_dir, inputs, true) {
                Some(from) => Ok(Some(Found::Lost { from })),
                None => Err(error.into()),
            }
        }
    }
}

/// The number of the first file of messages whose run is not what was written; with `all` of the runs is
/// read, else only their ends.
pub fn first_bad(data_dir: &Path, there: &[Run], all: bool) -> Option<u64> {
    let is_bad = |run: &&Run| {
        let file = RunFile::open(&runs::path(data_dir, run.id), **run);
        let checked = file.and_then(|file| if all { file.check(&mut |_| true) } else { Ok(()) });
        checked
            .inspect_err(|error| tracing::warn!(run = run.id, %error, "a part of the index is damaged"))
            .is_err()
    };
    there.iter().find(is_bad).map(|run| run.first_segment)
}

/// Files of messages that could not be read, and how they were then: while nothing changes they are left
/// alone for a while.
#[derive(Debug, Default)]
pub struct Broken(HashMap<u64, (FileState, std::time::Instant)>);

/// Number in the file system, length, time of the last change.
type FileState = Option<(u64, u64, i64)>;

/// Time after which a file that could not be read is tried again, although it is as it was.
const BROKEN_RETRY: Duration = Duration::from_secs(600);

impl Broken {
    /// Whether to try a file again; the caller does so.
    pub fn is_due(&mut self, segment: &Segment) -> bool {
        use std::os::unix::fs::MetadataExt;
        let state = fs::metadata(&segment.path).ok().map(|data| (data.ino(), data.len(), data.ctime_nsec()));
        let now = std::time::Instant::now();
        match self.0.get(&segment.number) {
            Some((known, when)) if *known == state && now.duration_since(*when) < BROKEN_RETRY => false,
            _ => {
                self.0.insert(segment.number, (state, now));
                true
            }
        }
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
    pub fn open(data_dir: &Path) -> Result<Checkpointer, IndexError> {
        let connection = schema::open_checkpointer(data_dir)?;
        connection.busy_timeout(Duration::ZERO)?;
        Ok(Checkpointer(connection))
    }

    /// Moves what can be moved without anybody waiting; `true`: that was all, and is durable.
    ///
    /// # Errors
    /// The disk refused.
    pub fn run(&self) -> Result<bool, IndexError> {
        let mut statement = self.0.prepare_cached("PRAGMA wal_checkpoint(PASSIVE)")?;
        let all = |row: &rusqlite::Row<'_>| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
        };
        let (busy, logged, moved) = statement.query_row([], all)?;
        Ok(busy == 0 && logged >= 0 && logged == moved)
    }
}
