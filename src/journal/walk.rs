//! Goes through the messages of a file and says of each where it stands and in which room, for those
//! who keep such places.

use std::borrow::Borrow;
use std::fs::File;
use std::path::Path;

use super::lines::Lines;
use super::places::Place;
use super::record;
use super::recover::From;
use super::{JournalError, damage};

/// The room of messages of which nothing can be read: no room's id.
pub const UNKNOWN_ROOM: &str = "";

/// Missing messages before one that is there, of which each is passed: more than a file has by far, and
/// few enough to be gathered.
const MISSING: u64 = 1 << 20;

/// A message as it is passed.
#[derive(Clone, Copy, Debug)]
pub struct Passed<'a> {
    /// Where it stands; of a missing one, where it could.
    pub place: Place,
    /// Where the next begins.
    pub end: u64,
    /// Its room, or [`UNKNOWN_ROOM`].
    pub room_id: &'a str,
    /// Unix time in milliseconds; `None`: it is missing.
    pub timestamp_ms: Option<i64>,
}

/// Bad lines since the last good one.
#[derive(Clone, Copy)]
struct Lost {
    /// Where the first begins.
    byte: u64,
    /// Where the last ends.
    end: u64,
    /// The number of the first message that is missing; 0: not known.
    first: u64,
    /// Lines.
    count: u64,
}

/// Goes from a place, which must be the beginning of a line, up to the end of the file or before the
/// first message above `upto`, or until `pass` answers false; answers where it stopped. A number 0
/// stands for one that is not known.
///
/// A damaged line is said to the log. It may be of any room, so the messages that are missing where it stands
/// are passed as those of [`UNKNOWN_ROOM`]: those between the good ones before and behind it, or, at the end, as
/// many as there are bad lines.
///
/// # Errors
/// The file can't be read.
pub fn walk(
    file: impl Borrow<File>,
    path: &Path,
    from: From,
    upto: u64,
    pass: &mut dyn FnMut(Passed<'_>) -> bool,
) -> Result<From, JournalError> {
    let mut at = from;
    let mut lost: Option<Lost> = None;
    let mut lines = Lines::new(file, from.byte);
    while let Some(line) = lines.next_line().map_err(JournalError::io(path))? {
        let number = if at.number == 0 { record::leading_number(line.bytes).unwrap_or(0) } else { at.number };
        if !line.finished || number > upto {
            break;
        }
        let good = record::find_good(line.bytes).and_then(|(begin, _)| {
            record::decode_message(&line.bytes[begin..]).ok().map(|message| (begin as u64, message))
        });
        if good.as_ref().is_some_and(|(_, message)| message.seq > upto) {
            break;
        }
        if good.as_ref().is_none_or(|(begin, _)| *begin > 0) {
            damage::say(path, line.start);
            let first = Lost { byte: line.start, end: line.end, first: at.number, count: 0 };
            let lost = lost.get_or_insert(first);
            (lost.count, lost.end) = (lost.count + 1, line.end);
            at = From { byte: line.end, number: if at.number == 0 { 0 } else { at.number + 1 } };
        }
        let Some((begin, message)) = good else {
            continue;
        };
        let here = Lost { byte: line.start, end: line.start, first: at.number, count: 0 };
        let more = lost.take().unwrap_or(here).pass(message.seq, pass);
        at = From { byte: line.end, number: message.seq + 1 };
        let place = Place { seq: message.seq, byte: line.start + begin };
        let timestamp_ms = Some(message.timestamp_ms);
        if !pass(Passed { place, end: line.end, room_id: &message.room_id, timestamp_ms }) || !more {
            return Ok(at);
        }
    }
    if let Some(lost) = lost.filter(|lost| lost.first > 0) {
        lost.pass((lost.first + lost.count).min(upto.saturating_add(1)), pass);
    }
    Ok(at)
}

impl Lost {
    /// Passes the missing messages before message `next`; false: it was told to stop.
    fn pass(&self, next: u64, pass: &mut dyn FnMut(Passed<'_>) -> bool) -> bool {
        let first = if self.first == 0 { next.saturating_sub(self.count) } else { self.first };
        let mut more = true;
        for seq in first.max(next.saturating_sub(MISSING)).max(1)..next {
            let place = Place { seq, byte: self.byte };
            more &= pass(Passed { place, end: self.end, room_id: UNKNOWN_ROOM, timestamp_ms: None });
        }
        more
    }
}
