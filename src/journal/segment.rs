//! Which message files there are, and where in a file a record is.
//!
//! Records stand in order of their number (`seq`, `rev`) and each begins with it, so a record is
//! found by halving the file, with no table of offsets to keep.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::JournalError;
use super::disk::Disk;
use super::lines::{self, Lines};
use super::record;

/// One file of messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// 1, 2, 3, …: the order of the files.
    pub number: u64,
    /// Where it is.
    pub path: PathBuf,
}

impl Segment {
    /// The file of that number in a data directory.
    pub fn at(data_dir: &Path, number: u64) -> Segment {
        Segment { number, path: data_dir.join(format!("messages_{number:06}.jsonl")) }
    }

    /// The number in a file's name; `None`: not a file of messages.
    pub fn number_of(name: &str) -> Option<u64> {
        let digits = name.strip_prefix("messages_")?.strip_suffix(".jsonl")?;
        let number = digits.parse().ok()?;
        (format!("{number:06}") == digits).then_some(number)
    }
}

/// The message files of a data directory, oldest first.
///
/// # Errors
/// The directory can't be listed.
pub fn list(data_dir: &Path) -> Result<Vec<Segment>, JournalError> {
    let wrap = |source| JournalError::Io { path: data_dir.to_owned(), source };
    let mut segments = Vec::new();
    for entry in fs::read_dir(data_dir).map_err(wrap)? {
        let name = entry.map_err(wrap)?.file_name();
        if let Some(number) = name.to_str().and_then(Segment::number_of) {
            segments.push(Segment::at(data_dir, number));
        }
    }
    segments.sort_by_key(|segment| segment.number);
    Ok(segments)
}

/// Removes the message files before one, the newest of them first.
///
/// # Errors
/// The directory can't be listed or written.
pub fn remove_before(data_dir: &Path, disk: &dyn Disk, first_file: u64) -> Result<(), JournalError> {
    let mut removed = false;
    for segment in list(data_dir)?.iter().rev().filter(|segment| segment.number < first_file) {
        disk.remove(&segment.path).map_err(JournalError::io(&segment.path))?;
        removed = true;
    }
    if removed { disk.sync_dir(data_dir).map_err(JournalError::io(data_dir)) } else { Ok(()) }
}

/// The number that a file's first record begins with; `None`: it has no whole line, or one that
/// begins otherwise.
///
/// # Errors
/// The file can't be read.
pub fn first_number(file: &File) -> io::Result<Option<u64>> {
    let mut lines = Lines::new(file, 0);
    let line = lines.next_line()?;
    Ok(line.filter(|line| line.finished).and_then(|line| record::leading_number(line.bytes)))
}

/// As [`first_number`]; `None` also if the line is not what was written.
///
/// # Errors
/// The file can't be read.
pub fn first_checked(file: &File) -> io::Result<Option<u64>> {
    let mut lines = Lines::new(file, 0);
    let line = lines.next_line()?.filter(|line| line.finished && record::check(line.bytes).is_ok());
    Ok(line.and_then(|line| record::leading_number(line.bytes)))
}

/// Where the first record with a number above `number` begins, among the whole lines before byte
/// `end`; that end, if there is none. A line that has no number counts as one with a higher number,
/// so that the reader comes upon it and says so.
///
/// # Errors
/// The file can't be read.
pub fn find_after(file: &File, end: u64, number: u64) -> io::Result<u64> {
    let end = lines::last_line_end(file, end)?;
    // Every line that begins before `low` is at or below `number`; every line that begins at or
    // behind `high` is above it.
    let (mut low, mut high) = (0, end);
    while low < high {
        let middle = low + (high - low) / 2;
        let start = line_start(file, low, middle)?;
        let mut lines = Lines::up_to(file, start, end);
        let Some(line) = lines.next_line()? else {
            return Ok(end);
        };
        match record::leading_number(line.bytes) {
            Some(found) if found <= number => low = line.end,
            _ => high = start,
        }
    }
    Ok(low)
}

/// Where the line that byte `at` belongs to begins, `low` being the beginning of a line.
fn line_start(file: &File, low: u64, at: u64) -> io::Result<u64> {
    let mut buffer = [0; 1 << 10];
    let mut end = at;
    while end > low {
        let wanted = usize::try_from(end - low).unwrap_or(buffer.len()).min(buffer.len());
        let base = end - wanted as u64;
        file.read_exact_at(&mut buffer[..wanted], base)?;
        if let Some(found) = memchr::memrchr(b'\n', &buffer[..wanted]) {
            return Ok(base + found as u64 + 1);
        }
        end = base;
    }
    Ok(low)
}

/// The files that may hold messages after `seq`, oldest first. Where one can't be read, or begins with damage,
/// there may be more of them than needed: whoever reads it comes upon that.
///
/// # Errors
/// None at present.
pub fn since(mut segments: Vec<Segment>, seq: u64) -> Result<Vec<Segment>, JournalError> {
    // All before the last one that begins at or below the wanted record.
    let mut keep = 0;
    let (mut low, mut high) = (0, segments.len());
    while low < high {
        let middle = usize::midpoint(low, high);
        // Past those that can't tell.
        let first = (middle..high).find_map(|at| Some((at, first_of(&segments[at])?)));
        match first {
            Some((at, first)) if first <= seq.saturating_add(1) => (keep, low) = (at, at + 1),
            _ => high = middle,
        }
    }
    segments.drain(..keep);
    Ok(segments)
}

/// The number a file begins with; `None`: it can't be read, or begins with damage.
fn first_of(segment: &Segment) -> Option<u64> {
    match File::open(&segment.path) {
        // Deleted since the directory was listed, and with it all that are older.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Some(0),
        other => other.and_then(|file| first_checked(&file)).ok().flatten(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_agree() {
        assert_eq!(Segment::at(Path::new("/d"), 42).path, Path::new("/d/messages_000042.jsonl"));
        for (name, number) in [
            ("messages_000001.jsonl", Some(1)),
            ("messages_1234567.jsonl", Some(1_234_567)),
            ("messages_1.jsonl", None),
            ("messages_0000001.jsonl", None),
            ("messages_+00001.jsonl", None),
            ("users.jsonl", None),
        ] {
            assert_eq!(Segment::number_of(name), number, "{name}");
        }
    }

    #[test]
    fn every_record_is_found() {
        let file = tempfile::tempfile().unwrap();
        let mut starts = Vec::new();
        let mut text = Vec::new();
        for number in 10..400u64 {
            starts.push((number, text.len() as u64));
            let pad = "x".repeat(usize::try_from(number * number % 3_001).unwrap());
            text.extend_from_slice(format!("{{\"rev\":{number},\"pad\":\"{pad}\"}}\n").as_bytes());
        }
        file.write_all_at(&text, 0).unwrap();
        let end = text.len() as u64;
        for &(number, start) in &starts {
            assert_eq!(find_after(&file, end, number - 1).unwrap(), start, "{number}");
        }
        assert_eq!(find_after(&file, end, 0).unwrap(), 0);
        assert_eq!(find_after(&file, end, 399).unwrap(), end);
        assert_eq!(find_after(&file, end - 1, 398).unwrap(), starts[389].1);
        assert_eq!(first_number(&file).unwrap(), Some(10));
    }
}
