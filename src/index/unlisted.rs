//! Where a room's messages stand in full files whose run can't be read: found by reading the files.
//!
//! That costs as much as the files are long, so one question reads no more than a few of them. It is for
//! the time until the storage writer has made the run again.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;

use super::runs::{self, Run};
use super::{IndexError, ReadError};
use crate::journal::JournalError;
use crate::journal::places::Located;
use crate::journal::recover::From;
use crate::journal::segment::{self, Segment};
use crate::journal::walk;

/// Files that are read for one question.
const FILES: usize = 16;

/// Which messages come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// As they were said.
    OldestFirst,
    /// The other way round.
    NewestFirst,
}

/// The first `most` places, in an order, of a room's messages among those of a run.
///
/// # Errors
/// A file can't be read, or there is more to be read than one question may; one that is gone has no
/// messages.
pub fn places(
    data_dir: &Path,
    run: &Run,
    room: u64,
    within: &Range<u64>,
    order: Order,
    most: usize,
) -> Result<Vec<Located>, ReadError> {
    let mut files = files(data_dir, run, within)?;
    if order == Order::NewestFirst {
        files.reverse();
    }
    let mut found = Vec::new();
    let mut read = 0;
    for segment in &files {
        if found.len() >= most {
            break;
        }
        let Some(file) = begun_before(segment, within.end)? else {
            continue;
        };
        if read == FILES {
            return Err(IndexError::Remaking.into());
        }
        read += 1;
        let mut of_file = in_file(segment, file, room, within)?;
        if order == Order::NewestFirst {
            of_file.reverse();
        }
        of_file.truncate(most - found.len());
        found.append(&mut of_file);
    }
    Ok(found)
}

/// The files of a run that may have messages from a range's beginning on, oldest first.
fn files(data_dir: &Path, run: &Run, within: &Range<u64>) -> Result<Vec<Segment>, JournalError> {
    let mut listed = segment::list(data_dir)?;
    listed.retain(|segment| (run.first_segment..=run.last_segment).contains(&segment.number));
    segment::since(listed, within.start.saturating_sub(1))
}

/// The file; `None`: it is gone, or begins with message `end` or a later one.
fn begun_before(segment: &Segment, end: u64) -> Result<Option<File>, JournalError> {
    let path = &segment.path;
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(JournalError::io(path))?,
    };
    let first = segment::first_checked(&file).map_err(JournalError::io(path))?;
    Ok(first.is_none_or(|first| first < end).then_some(file))
}

/// All places of a room's messages of a range in one file, ascending.
fn in_file(
    segment: &Segment,
    file: File,
    room: u64,
    within: &Range<u64>,
) -> Result<Vec<Located>, JournalError> {
    let path = &segment.path;
    let end = file.metadata().map_err(JournalError::io(path))?.len();
    let before = within.start.saturating_sub(1);
    let byte = segment::find_after(&file, end, before).map_err(JournalError::io(path))?;
    let mut places = Vec::new();
    let from = From { byte, number: 0 };
    walk::walk(&file, path, from, within.end.saturating_sub(1), &mut |passed| {
        if within.contains(&passed.place.seq) && runs::room_key(passed.room_id) == room {
            places.push(Located { segment: segment.number, place: passed.place });
        }
        true
    })?;
    Ok(places)
}
