//! Reads everything after a position, for a worker that has missed it.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::JournalError;
use super::compacted::Compacted;
use super::lines::Lines;
use super::read::open;
use super::record::{self, Message, RoomRecord};
use super::segment::{self, Segment};

/// The messages after one number and up to another, in order.
pub struct MessagesAfter {
    /// Files not yet begun, oldest first.
    segments: VecDeque<Segment>,
    path: PathBuf,
    lines: Option<Lines<File>>,
    after: u64,
    upto: u64,
}

impl MessagesAfter {
    /// Messages `after + 1` to `upto`, all of which must be in the log.
    ///
    /// # Errors
    /// The files can't be read.
    pub fn open(data_dir: &Path, after: u64, upto: u64) -> Result<MessagesAfter, JournalError> {
        let segments = segment::since(segment::list(data_dir)?, after)?.into();
        Ok(MessagesAfter { segments, path: PathBuf::new(), lines: None, after, upto })
    }

    /// The next message, with its line.
    ///
    /// # Errors
    /// A file can't be read, or the next message is not what comes next.
    pub fn next_message(&mut self) -> Result<Option<(&[u8], Message<'_>)>, JournalError> {
        if self.after >= self.upto {
            return Ok(None);
        }
        if !self.has_line()? {
            return Err(ends_early(&self.path, self.after));
        }
        let path = &self.path;
        let line = match &mut self.lines {
            Some(lines) => lines.next_line().map_err(JournalError::io(path))?,
            None => None,
        };
        let Some(line) = line else {
            return Ok(None);
        };
        self.after += 1;
        let damaged = |what| JournalError::Damaged { path: path.clone(), line: 0, byte: line.start, what };
        match record::decode_message(line.bytes) {
            Ok(message) if message.seq == self.after => Ok(Some((line.bytes, message))),
            Ok(message) => Err(damaged(format!("number {} where {} belongs", message.seq, self.after))),
            Err(error) => Err(damaged(error.to_string())),
        }
    }

    /// Goes to the next file if the one at hand has ended.
    fn has_line(&mut self) -> Result<bool, JournalError> {
        loop {
            if let Some(lines) = &mut self.lines
                && lines.has_more().map_err(JournalError::io(&self.path))?
            {
                return Ok(true);
            }
            let Some(segment) = self.segments.pop_front() else {
                return Ok(false);
            };
            let (file, end) = open(&segment.path)?;
            let start =
                segment::find_after(&file, end, self.after).map_err(JournalError::io(&segment.path))?;
            self.lines = Some(Lines::new(file, start));
            self.path = segment.path;
        }
    }
}

/// The records of `chatrooms.jsonl` after one number and up to another, in order.
pub struct RoomsAfter {
    path: PathBuf,
    lines: Option<Lines<File>>,
    after: u64,
    upto: u64,
}

impl RoomsAfter {
    /// Records `after + 1` to `upto`; `None`: not all of them are there any more.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn open(data_dir: &Path, after: u64, upto: u64) -> Result<Option<RoomsAfter>, JournalError> {
        let path = data_dir.join(super::ROOMS);
        if after >= upto {
            return Ok(Some(RoomsAfter { path, lines: None, after, upto }));
        }
        let (file, end) = open(&path)?;
        let compacted = Compacted::of(&file).map_err(JournalError::io(&path))?;
        if compacted.is_some_and(|compacted| after < compacted.upto) {
            return Ok(None);
        }
        let start = segment::find_after(&file, end, after).map_err(JournalError::io(&path))?;
        Ok(Some(RoomsAfter { path, lines: Some(Lines::new(file, start)), after, upto }))
    }

    /// The next record.
    ///
    /// # Errors
    /// The file can't be read, or the next record is damaged.
    pub fn next_record(&mut self) -> Result<Option<RoomRecord>, JournalError> {
        let path = &self.path;
        let line = match &mut self.lines {
            Some(lines) if self.after < self.upto => lines.next_line().map_err(JournalError::io(path))?,
            _ => None,
        };
        let Some(line) = line else {
            return if self.after < self.upto { Err(ends_early(path, self.after)) } else { Ok(None) };
        };
        let damaged = |what| JournalError::Damaged { path: path.clone(), line: 0, byte: line.start, what };
        let record: RoomRecord = record::decode(line.bytes).map_err(|error| damaged(error.to_string()))?;
        self.after += 1;
        if record.rev != self.after {
            return Err(damaged(format!("number {} where {} belongs", record.rev, self.after)));
        }
        Ok(Some(record))
    }
}

/// What was published is not in the log: whoever is served from it must not take the end for all.
fn ends_early(path: &Path, last: u64) -> JournalError {
    let source = io::Error::new(io::ErrorKind::UnexpectedEof, format!("nothing behind number {last}"));
    JournalError::Io { path: path.to_owned(), source }
}
