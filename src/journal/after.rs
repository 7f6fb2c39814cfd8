//! Reads everything after a position, for a worker or a client that has missed it.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::compacted::Compacted;
use super::lines::Lines;
use super::read::open;
use super::record::{self, Message, RoomRecord};
use super::segment::{self, Segment};
use super::{JournalError, damage, unreadable};

/// The messages after one number and up to another, in order.
pub struct MessagesAfter {
    /// Oldest first.
    segments: Vec<Segment>,
    /// The next one to be begun.
    next: usize,
    path: PathBuf,
    lines: Option<Lines<File>>,
    /// The first file was begun in its middle, found by numbers that are not checked.
    jumped: bool,
    /// It is to be read from its beginning.
    whole: bool,
    after: u64,
    upto: u64,
}

/// What comes next.
#[expect(clippy::large_enum_variant, reason = "looked at and dropped, one at a time")]
pub enum Next<'a> {
    /// A message, with its line.
    Message(&'a [u8], Message<'a>),
    /// Messages that are damaged, that the disk can't read, or that are gone: the first, and the last.
    Hole(u64, u64),
}

/// Where to go on.
enum Step {
    /// In the line read last, from a byte on.
    Record(usize),
    /// Nothing is there up to a number.
    Hole(u64),
}

impl MessagesAfter {
    /// Messages `after + 1` to `upto`, all of which have been in the log.
    ///
    /// # Errors
    /// The files can't be listed.
    pub fn open(data_dir: &Path, after: u64, upto: u64) -> Result<MessagesAfter, JournalError> {
        let segments = segment::since(segment::list(data_dir)?, after)?;
        Ok(MessagesAfter {
            segments,
            next: 0,
            path: PathBuf::new(),
            lines: None,
            jumped: false,
            whole: false,
            after,
            upto,
        })
    }

    /// The next message, with its line.
    ///
    /// # Errors
    /// A file can't be read, or the next message is not what comes next.
    pub fn next_message(&mut self) -> Result<Option<(&[u8], Message<'_>)>, JournalError> {
        let path = self.path.clone();
        match self.next_item()? {
            Some(Next::Message(line, message)) => Ok(Some((line, message))),
            Some(Next::Hole(from, to)) => {
                let what = format!("messages {from} to {to} are not there");
                Err(JournalError::Damaged { path, line: 0, byte: 0, what })
            }
            None => Ok(None),
        }
    }

    /// The next message, or which ones are missing before it: what stands there is damaged, can't be read from the
    /// disk, or is gone. Damage is said to the log.
    ///
    /// # Errors
    /// A file is there and can't be opened.
    pub fn next_item(&mut self) -> Result<Option<Next<'_>>, JournalError> {
        if self.after >= self.upto {
            return Ok(None);
        }
        let from = self.after + 1;
        match self.step()? {
            Step::Hole(to) => {
                self.after = to;
                Ok(Some(Next::Hole(from, to)))
            }
            Step::Record(begin) => {
                self.after = from;
                let line = self.lines.as_ref().map_or(&[][..], |lines| &lines.last_line()[begin..]);
                let damaged = |error: record::BadRecord| JournalError::Damaged {
                    path: self.path.clone(),
                    line: 0,
                    byte: 0,
                    what: error.to_string(),
                };
                let message = record::decode_message(line).map_err(damaged)?;
                Ok(Some(Next::Message(line, message)))
            }
        }
    }

    /// Reads on to the next good message, and says how far it is.
    fn step(&mut self) -> Result<Step, JournalError> {
        let wanted = self.after + 1;
        loop {
            if !self.has_line()? {
                if self.start_over() {
                    continue;
                }
                return Ok(Step::Hole(self.upto));
            }
            let Some(lines) = &mut self.lines else {
                continue;
            };
            let Some(line) = lines.next_line().map_err(JournalError::io(&self.path))? else {
                continue;
            };
            let found = record::find_good(line.bytes);
            if found.is_none_or(|(begin, _)| begin > 0) {
                damage::say(&self.path, line.start);
            }
            match found {
                Some((begin, seq)) if seq == wanted => return Ok(Step::Record(begin)),
                Some((_, seq)) if seq > wanted => {
                    lines.put_back();
                    if !self.start_over() {
                        return Ok(Step::Hole(self.upto.min(seq - 1)));
                    }
                }
                // Damaged, or an earlier one.
                _ => {}
            }
        }
    }

    /// Before something is missing for certain: reads from the first file's beginning, if a number that may
    /// be damaged has led into its middle. False: that was done.
    fn start_over(&mut self) -> bool {
        if self.jumped {
            (self.jumped, self.next, self.lines, self.whole) = (false, 0, None, true);
            return true;
        }
        false
    }

    /// Goes to the next file if the one at hand has ended. One that is gone has no lines.
    fn has_line(&mut self) -> Result<bool, JournalError> {
        loop {
            if let Some(lines) = &mut self.lines
                && lines.has_more().map_err(JournalError::io(&self.path))?
            {
                return Ok(true);
            }
            let Some(Segment { path, .. }) = self.segments.get(self.next) else {
                return Ok(false);
            };
            self.next += 1;
            self.path.clone_from(path);
            let (file, end) = match open(path) {
                Err(JournalError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => continue,
                other => other?,
            };
            let mut start = 0;
            if self.next == 1 && !self.whole {
                start = match segment::find_after(&file, end, self.after) {
                    // It is read from its beginning, as far as it can be.
                    Err(error) if unreadable::is(&error) => 0,
                    other => other.map_err(JournalError::io(path))?,
                };
                self.jumped = start > 0;
            }
            self.lines = Some(Lines::past_unreadable(file, start));
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
