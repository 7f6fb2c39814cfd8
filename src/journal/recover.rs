//! Makes logs fit to be appended to after any end of the process or the machine.
//!
//! What was appended last may be there in part: pages of one write reach the disk in any order. So
//! behind the first bad line there may be good ones. Each line says up to which number everything
//! was durable when it was written (`synced`); a bad region is an unfinished write, and is cut with
//! all behind it, if no good line behind it claims that what is missing had been durable. Otherwise
//! it is damage, which is reported and never cut.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::JournalError;
use super::append::Log;
use super::compacted::{Compacted, HEADER_BYTES};
use super::disk::Disk;
use super::lines::{self, Lines};
use super::record::{self, BadRecord};
use super::segment;

/// What recovery needs of one record.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// Its number (`seq`, `rev`).
    pub number: u64,
    /// The highest number it claims to have been durable.
    pub synced: u64,
}

/// Where to begin reading a log, and what to expect there.
#[derive(Clone, Copy, Debug)]
pub struct From {
    /// Byte of the file where a line begins.
    pub byte: u64,
    /// Number of the record there.
    pub number: u64,
}

/// What was found in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scan {
    /// Where reading began.
    pub start: u64,
    /// Where the good records end.
    pub end: u64,
    /// Number of the next record.
    pub next: u64,
    /// Good records read.
    pub records: u64,
    /// The highest number that a good record claims to have been durable.
    pub synced: u64,
    /// Bytes behind the end that are to be cut.
    pub torn: u64,
    /// What a compacted log says of itself.
    pub compacted: Option<Compacted>,
}

impl Scan {
    fn nothing(from: From) -> Scan {
        Scan {
            start: from.byte,
            end: from.byte,
            next: from.number,
            records: 0,
            synced: 0,
            torn: 0,
            compacted: None,
        }
    }

    /// Records in the whole file.
    pub fn in_file(&self) -> u64 {
        match self.compacted {
            Some(compacted) => compacted.records + (self.next - 1).saturating_sub(compacted.upto),
            None => self.next - 1,
        }
    }

    /// What is to be expected of the line that begins at a byte: `true` if it stands where numbers have
    /// gaps, and which one it must then have.
    fn expect(&mut self, start: u64, bytes: &[u8]) -> bool {
        let Some(compacted) = self.compacted.filter(|compacted| start < compacted.bytes) else {
            return false;
        };
        if let Some(number) = record::leading_number(bytes)
            && (self.next..=compacted.upto).contains(&number)
        {
            self.next = number;
        }
        true
    }

    /// The line that ends at a byte was the last one before which numbers have gaps.
    fn leave_gaps(&mut self, end: u64) {
        if let Some(compacted) = self.compacted.filter(|compacted| end == compacted.bytes) {
            self.next = compacted.upto + 1;
        }
    }
}

/// Reads one line, given its bytes, where it begins, and the number that is next. It must use a
/// record of that number and no other.
pub type Visit<'a> = dyn FnMut(&[u8], u64, u64) -> Result<Found, BadRecord> + 'a;

/// Reads the records of a file from a given one on. A file that is not there has none. The older part of
/// a compacted log is sealed: it was durable before it got its name.
///
/// # Errors
/// The file can't be read; or it is damaged, which includes any bad line of what is `sealed`.
pub fn scan(path: &Path, from: From, sealed: bool, visit: &mut Visit<'_>) -> Result<Scan, JournalError> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Scan::nothing(from)),
        other => other.map_err(JournalError::io(path))?,
    };
    let mut scan = Scan::nothing(from);
    scan.compacted = match Compacted::of(&file) {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            return Err(damaged(&file, path, 0, error.to_string()));
        }
        other => other.map_err(JournalError::io(path))?,
    };
    if scan.compacted.is_some() && from.byte == 0 {
        scan.end = HEADER_BYTES as u64;
        scan.leave_gaps(scan.end);
    }
    let mut lines = Lines::new(&file, scan.end);
    let mut bad: Option<String> = None;
    while let Some(line) = lines.next_line().map_err(JournalError::io(path))? {
        if bad.is_some() {
            scan.torn += line.end - line.start;
        }
        let gaps = bad.is_none() && scan.expect(line.start, line.bytes);
        let sealed = sealed || gaps;
        let next = if bad.is_none() { scan.next } else { 0 };
        let found = match line.finished {
            true => visit(line.bytes, line.start, next).map_err(|error| error.to_string()),
            // It may read like a record, but was not written to its end.
            false => Err("the line has no end".to_owned()),
        };
        // Behind a lost line feed there may be a record that tells damage from an unfinished write.
        let inside = match &found {
            Err(_) if line.finished => record::last_inside(line.bytes),
            _ => None,
        };
        let inside = inside.and_then(|inside| visit(inside, line.start, 0).ok());
        if let (Err(what), Some(inside)) = (&found, inside)
            && inside.synced >= scan.next
        {
            return Err(damaged(&file, path, scan.end, bad.unwrap_or_else(|| what.clone())));
        }
        match (&bad, found) {
            (None, Ok(found)) if found.number == scan.next => {
                scan.end = line.end;
                scan.next += 1;
                scan.records += 1;
                scan.synced = scan.synced.max(found.synced);
                scan.leave_gaps(line.end);
            }
            (None, other) => {
                let what = match &other {
                    Ok(found) => format!("number {} where {} belongs", found.number, scan.next),
                    Err(what) => what.clone(),
                };
                if sealed || other.is_ok_and(|found| found.synced >= scan.next) {
                    return Err(damaged(&file, path, scan.end, what));
                }
                scan.torn = line.end - line.start;
                bad = Some(what);
            }
            (Some(what), Ok(found)) if found.synced >= scan.next => {
                return Err(damaged(&file, path, scan.end, what.clone()));
            }
            (Some(_), _) => {}
        }
    }
    match scan.compacted {
        Some(compacted) if scan.end < compacted.bytes => {
            Err(damaged(&file, path, scan.end, "it ends among the records that were compacted".to_owned()))
        }
        Some(compacted)
            if from.byte == 0 && scan.records + compacted.upto + 1 != scan.next + compacted.records =>
        {
            let what = format!("not {} records up to number {}", compacted.records, compacted.upto);
            Err(damaged(&file, path, 0, what))
        }
        _ => Ok(scan),
    }
}

/// Cuts what is torn, makes the rest durable, and opens the log for appending.
///
/// # Errors
/// The disk refused.
pub fn mend(disk: &Arc<dyn Disk>, path: PathBuf, scan: Scan) -> Result<Log, JournalError> {
    let durable = {
        let file = File::open(&path).map_err(JournalError::io(&path))?;
        segment::find_after(&file, scan.end, scan.synced).map_err(JournalError::io(&path))?
    };
    if scan.torn > 0 {
        tracing::warn!(
            file = %path.display(), byte = scan.end, bytes = scan.torn,
            "cut off an unfinished write; nothing of it had been confirmed to anybody"
        );
    }
    let mut log = Log::broken(disk.clone(), path.clone(), scan.end, durable.clamp(scan.start, scan.end));
    log.heal().map_err(JournalError::io(&path))?;
    Ok(log)
}

/// Says where in a file damage is; counts the lines before it.
pub fn damaged(file: &File, path: &Path, byte: u64, what: String) -> JournalError {
    let line = line_number(file, byte).unwrap_or(0);
    JournalError::Damaged { path: path.to_owned(), line, byte, what }
}

/// The number, from 1, of the line that begins at a byte.
fn line_number(file: &File, byte: u64) -> io::Result<u64> {
    let mut lines = Lines::up_to(file, 0, byte);
    let mut number = 1;
    while let Some(line) = lines.next_line()? {
        number += u64::from(line.finished);
    }
    Ok(number)
}

/// Where a line begins that is at least `bytes` before byte `end`, or the file's beginning.
///
/// # Errors
/// The file can't be read.
pub fn line_start_before(file: &File, end: u64, bytes: u64) -> io::Result<u64> {
    lines::last_line_end(file, end.saturating_sub(bytes))
}
