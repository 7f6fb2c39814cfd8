//! Makes a run again whose file is gone or damaged, from the messages it is of.
//!
//! What comes of it is what was there before: the files are read as when they became full, and their runs
//! merged as then. Nothing else of the index is touched, so whoever asks about other files is served as
//! ever.

use std::fs;
use std::io;
use std::path::Path;

use super::runs::file::RunFile;
use super::runs::{self, Run};
use super::sealed::{self, Found};
use super::{IndexError, ReadError, Reader};
use crate::journal::segment::{self, Segment};

/// Those of the runs whose file is not there, or at its ends not what was written.
pub fn lost(data_dir: &Path, named: &[Run]) -> Vec<Run> {
    let is_lost = |run: &&Run| RunFile::open(&runs::path(data_dir, run.id), **run).is_err();
    named.iter().filter(is_lost).copied().collect()
}

/// Reads the files of a run and writes it again; `None`: told to stop.
///
/// # Errors
/// The disk refuses. A file of messages that can't be read is no error: it is told as one that is not
/// whole.
pub fn remake(
    data_dir: &Path,
    reader: &Reader,
    lost: &Run,
    stop: &mut dyn FnMut() -> bool,
) -> Result<Option<Found>, ReadError> {
    let read = |segment: &Segment, stop: &mut dyn FnMut() -> bool| {
        let before = reader.files_before(segment.number, 1)?.pop();
        sealed::read(data_dir, segment, before, &mut |_| {}, stop)
    };
    if lost.first_segment == lost.last_segment {
        let segment = Segment::at(data_dir, lost.first_segment);
        return Ok(read(&segment, stop)?.map(Found::Added));
    }
    let there = segment::list(data_dir)?;
    let (mut made, mut broken) = (Vec::new(), Vec::new());
    for number in lost.first_segment..=lost.last_segment {
        let Some(segment) = there.iter().find(|segment| segment.number == number) else {
            // It is read when it is there again.
            broken.push(number);
            continue;
        };
        let added = read(segment, stop).inspect_err(|_| discard(data_dir, &made))?;
        let Some(added) = added else {
            discard(data_dir, &made);
            return Ok(None);
        };
        if !added.file.whole {
            broken.push(number);
        }
        made.extend(added.run);
        merge_due(data_dir, &mut made, stop).inspect_err(|_| discard(data_dir, &made))?;
    }
    Ok(Some(Found::Remade { lost: *lost, runs: made, broken }))
}

/// Merges the runs whose turn it is, as far as there is time.
fn merge_due(data_dir: &Path, made: &mut Vec<Run>, stop: &mut dyn FnMut() -> bool) -> Result<(), IndexError> {
    loop {
        match sealed::merge(data_dir, made, stop)? {
            Some(Found::Merged { inputs, run }) => {
                let at = made.partition_point(|made| made.first_segment < run.first_segment);
                made.splice(at..at + inputs.len(), [run]);
                discard(data_dir, &inputs);
            }
            // Just written, and not what was written.
            Some(_) => return Err(io::Error::from(io::ErrorKind::InvalidData).into()),
            None => return Ok(()),
        }
    }
}

/// What can't be removed is swept later.
fn discard(data_dir: &Path, made: &[Run]) {
    made.iter().for_each(|run| drop(fs::remove_file(runs::path(data_dir, run.id))));
}
