//! Reads a log piece by piece to find damage before somebody needs the record: checksums and order.
//!
//! What a sum covers it proves, so no record is taken apart; `minitalk verify` does that. What has
//! been written is never changed, so reading beside a writer needs no lock: of a file that grows the
//! part is read that was whole when it was opened.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use serde::{Deserialize, Serialize};

use super::check::Problem;
use super::lines::{self, Lines};
use super::record;

/// How far in a file somebody is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Number of the file in its file system: a log that was replaced is read from its beginning.
    pub inode: u64,
    /// Byte where the next line begins.
    pub byte: u64,
    /// Its number, from 0.
    pub line: u64,
    /// The number its record should have; 0: any.
    pub next: u64,
}

/// One file being read.
pub struct Scrubbed {
    path: PathBuf,
    lines: Lines<File>,
    place: Place,
    /// Numbers follow one another without gaps.
    gapless: bool,
}

impl Scrubbed {
    /// A file of messages that is never written again, which must be whole.
    ///
    /// # Errors
    /// It can't be opened.
    pub fn sealed(path: &Path, place: Place) -> io::Result<Scrubbed> {
        Scrubbed::open(path, place, true)
    }

    /// A log that grows, up to its last whole line. A compacted one may have gaps.
    ///
    /// # Errors
    /// It can't be opened.
    pub fn growing(path: &Path, place: Place) -> io::Result<Scrubbed> {
        Scrubbed::open(path, place, false)
    }

    fn open(path: &Path, place: Place, gapless: bool) -> io::Result<Scrubbed> {
        let file = File::open(path)?;
        let data = file.metadata()?;
        let place = match place.inode == data.ino() {
            true => place,
            false => Place { inode: data.ino(), byte: 0, line: 0, next: place.next },
        };
        forget(&file);
        let end = if gapless { data.len() } else { lines::last_line_end(&file, data.len())? };
        let lines = Lines::up_to(file, place.byte, end);
        Ok(Scrubbed { path: path.to_owned(), lines, place, gapless })
    }

    /// Reads lines of `bytes` in all, or one longer than that; answers how many bytes were read, 0 at
    /// the end, and the first problem among them.
    ///
    /// # Errors
    /// The file can't be read any further.
    pub fn read(&mut self, bytes: u64) -> io::Result<(u64, Option<Problem>)> {
        let (start, mut problem) = (self.place.byte, None);
        while self.place.byte - start < bytes {
            let Some(line) = self.lines.next_line()? else {
                break;
            };
            let Place { next, .. } = self.place;
            let number = record::leading_number(line.bytes);
            let what = match (record::check(line.bytes), number) {
                (Err(bad), _) => Some(bad.to_string()),
                (Ok(()), None) => Some("no number".to_owned()),
                (Ok(()), _) if !line.finished => Some("the line has no end".to_owned()),
                (Ok(()), Some(found)) if next == 0 || found == next => None,
                (Ok(()), Some(found)) if !self.gapless && found > next => None,
                (Ok(()), Some(found)) => Some(format!("number {found} where {next} belongs")),
            };
            self.place.line += 1;
            let found = if what.is_none() { number } else { None };
            if problem.is_none()
                && let Some(what) = what
            {
                let path = self.path.clone();
                problem = Some(Problem { path, line: self.place.line, byte: line.start, what });
            }
            self.place.next = match (found, next) {
                (Some(found), _) => found + 1,
                (None, 0) => 0,
                (None, next) => next + 1,
            };
            self.place.byte = line.end;
        }
        Ok((self.place.byte - start, problem))
    }

    /// How far it is.
    pub fn place(&self) -> Place {
        self.place
    }

    /// Whether the path still names the file that is being read: it may have been replaced or taken
    /// away by somebody who was right to do so.
    pub fn is_current(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|data| data.ino() == self.place.inode)
    }
}

/// Drops what memory holds of a file: what is on the disk is asked for. A kernel that does not is none
/// the worse.
fn forget(file: &File) {
    let _ = posix_fadvise(file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
}

impl Drop for Scrubbed {
    fn drop(&mut self) {
        forget(self.lines.file());
    }
}
