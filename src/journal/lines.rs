//! Finds the lines of a file from a given byte on, in large reads, in one buffer.

use std::borrow::Borrow;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::unreadable::Patience;
use crate::config::BATCH_BYTES;

/// Bytes asked of the file at a time.
const READ_BYTES: usize = 256 << 10;

/// Bytes of one line, at most: no batch is larger. What is longer is damage, and is cut in pieces.
pub const LINE_BYTES: usize = BATCH_BYTES;

/// One line.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    /// Where it begins, in bytes from the file's beginning.
    pub start: u64,
    /// Where the next begins.
    pub end: u64,
    /// Its bytes, without the line feed.
    pub bytes: &'a [u8],
    /// It has its line feed. Without one it is the file's last and unfinished, or too long to be a
    /// record.
    pub finished: bool,
}

/// The lines of a file, one after the other.
pub struct Lines<F> {
    file: F,
    /// Grown, never cleared: only `filled` bytes of it mean something.
    buffer: Vec<u8>,
    filled: usize,
    /// Where in the file the buffer begins.
    base: u64,
    /// Bytes of the buffer already answered.
    used: usize,
    /// Bytes of the buffer known to hold no further line feed, from its beginning.
    searched: usize,
    ended: bool,
    /// The line answered last.
    last: (usize, usize),
    /// Byte of the file to stop at.
    limit: u64,
    /// `None`: what the disk can't read is an error.
    patience: Option<Patience>,
}

impl<F: Borrow<File>> Lines<F> {
    /// The lines from byte `start` on, which must be the beginning of one.
    pub fn new(file: F, start: u64) -> Lines<F> {
        Lines::up_to(file, start, u64::MAX)
    }

    /// The lines from byte `start` on up to byte `limit`, where one ends.
    pub fn up_to(file: F, start: u64, limit: u64) -> Lines<F> {
        let (base, buffer, last, patience) = (start, Vec::new(), (0, 0), None);
        Lines { file, buffer, filled: 0, base, used: 0, searched: 0, ended: false, last, limit, patience }
    }

    /// The lines from byte `start` on of a file that is never written again: what the disk can't read of it
    /// is damage in its lines, or their end.
    pub fn past_unreadable(file: F, start: u64) -> Lines<F> {
        Lines { patience: Some(Patience::default()), ..Lines::new(file, start) }
    }

    /// The next line; `None` at the end of the file.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn next_line(&mut self) -> io::Result<Option<Line<'_>>> {
        loop {
            if let Some(at) = memchr::memchr(b'\n', &self.buffer[self.searched..self.filled]) {
                let end = self.searched + at;
                return Ok(Some(self.take(end, end + 1, true)));
            }
            self.searched = self.filled;
            let rest = self.filled - self.used;
            if rest > LINE_BYTES || (self.ended && rest > 0) {
                return Ok(Some(self.take(self.filled, self.filled, false)));
            }
            if self.ended {
                return Ok(None);
            }
            self.fill()?;
        }
    }

    /// Whether there is another line, finished or not.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn has_more(&mut self) -> io::Result<bool> {
        while self.used == self.filled && !self.ended {
            self.fill()?;
        }
        Ok(self.used < self.filled)
    }

    /// The bytes of the line answered last, as long as nothing else was asked since.
    pub fn last_line(&self) -> &[u8] {
        &self.buffer[self.last.0..self.last.1]
    }

    /// Has the line answered last answered once more; nothing else was asked since.
    pub fn put_back(&mut self) {
        (self.used, self.searched) = (self.last.0, self.last.0);
    }

    /// The file.
    pub fn file(&self) -> &File {
        self.file.borrow()
    }

    fn take(&mut self, end: usize, next: usize, finished: bool) -> Line<'_> {
        let from = std::mem::replace(&mut self.used, next);
        self.searched = next;
        self.last = (from, end);
        Line {
            start: self.base + from as u64,
            end: self.base + next as u64,
            bytes: &self.buffer[from..end],
            finished,
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        self.buffer.copy_within(self.used..self.filled, 0);
        self.base += self.used as u64;
        self.searched -= self.used;
        self.filled -= self.used;
        self.used = 0;
        let at = self.base + self.filled as u64;
        let wanted = usize::try_from(self.limit.saturating_sub(at)).unwrap_or(READ_BYTES).min(READ_BYTES);
        grow(&mut self.buffer, self.filled + READ_BYTES);
        let free = &mut self.buffer[self.filled..self.filled + wanted];
        let read = match &mut self.patience {
            Some(patience) => patience.read(self.file.borrow(), free, at),
            None => self.file.borrow().read_at(free, at),
        };
        match read {
            Ok(0) => self.ended = true,
            Ok(read) => self.filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// Makes a buffer at least that long. New memory comes zeroed from the kernel and is not touched.
fn grow(buffer: &mut Vec<u8>, len: usize) {
    if buffer.len() < len {
        let mut larger = vec![0; len.max(buffer.len() * 2)];
        larger[..buffer.len()].copy_from_slice(buffer);
        *buffer = larger;
    }
}

/// The lines of a part of a file, in blocks, from the last to the first.
pub struct BlocksBack<'f> {
    file: &'f File,
    buffer: Vec<u8>,
    /// Where the last answered block begins.
    end: u64,
}

impl<'f> BlocksBack<'f> {
    /// The blocks before byte `end`, where a line ends.
    pub fn new(file: &'f File, end: u64) -> BlocksBack<'f> {
        BlocksBack { file, buffer: Vec::new(), end }
    }

    /// The whole lines before those already answered: where they begin, and their bytes with all
    /// line feeds. `None`: there are no more.
    ///
    /// # Errors
    /// The file can't be read, or there is no line feed where one must be.
    pub fn next_block(&mut self) -> io::Result<Option<(u64, &[u8])>> {
        if self.end == 0 {
            return Ok(None);
        }
        let mut step = READ_BYTES;
        loop {
            let wanted = usize::try_from(self.end).unwrap_or(step).min(step);
            let base = self.end - wanted as u64;
            grow(&mut self.buffer, wanted);
            let buffer = &mut self.buffer[..wanted];
            self.file.read_exact_at(buffer, base)?;
            // The beginning of a block is the rest of a line, unless it is the file's.
            let cut = if base == 0 { Some(0) } else { memchr::memchr(b'\n', buffer).map(|at| at + 1) };
            match cut {
                Some(cut) if cut < wanted => {
                    self.end = base + cut as u64;
                    return Ok(Some((self.end, &self.buffer[cut..wanted])));
                }
                _ if step > 2 * LINE_BYTES => {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "a line without an end"));
                }
                _ => step *= 2,
            }
        }
    }
}

/// Where the last whole line before byte `end` ends; 0 if there is none.
///
/// # Errors
/// The file can't be read.
pub fn last_line_end(file: &File, end: u64) -> io::Result<u64> {
    let mut end = end;
    let mut buffer = vec![0; READ_BYTES];
    while end > 0 {
        let wanted = usize::try_from(end).unwrap_or(READ_BYTES).min(READ_BYTES);
        let base = end - wanted as u64;
        file.read_exact_at(&mut buffer[..wanted], base)?;
        if let Some(at) = memchr::memrchr(b'\n', &buffer[..wanted]) {
            return Ok(base + at as u64 + 1);
        }
        end = base;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(bytes: &[u8]) -> File {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(bytes, 0).unwrap();
        file
    }

    /// Lines of many lengths, some longer than a read.
    fn text() -> Vec<u8> {
        let mut text = Vec::new();
        for len in [0, 1, 5, READ_BYTES - 1, READ_BYTES, 3, 2 * READ_BYTES + 7, 0, 9] {
            text.extend(std::iter::repeat_n(b'a' + u8::try_from(len % 20).unwrap(), len));
            text.push(b'\n');
        }
        text
    }

    #[test]
    fn forward_finds_every_line_and_the_unfinished_rest() {
        let mut bytes = text();
        bytes.extend_from_slice(b"rest");
        let file = file(&bytes);
        let mut lines = Lines::new(&file, 0);
        let mut joined = Vec::new();
        let mut count = 0;
        while let Some(line) = lines.next_line().unwrap() {
            assert_eq!(line.start, joined.len() as u64);
            joined.extend_from_slice(line.bytes);
            if line.finished {
                joined.push(b'\n');
            }
            assert_eq!(line.end, joined.len() as u64);
            count += 1;
        }
        assert_eq!((joined, count), (bytes, 10));
    }

    #[test]
    fn backward_finds_the_same_bytes() {
        let bytes = text();
        let file = file(&bytes);
        let mut blocks = BlocksBack::new(&file, bytes.len() as u64);
        let mut joined = Vec::new();
        while let Some((start, block)) = blocks.next_block().unwrap() {
            assert!(start == 0 || bytes[usize::try_from(start).unwrap() - 1] == b'\n');
            assert_eq!(block.last(), Some(&b'\n'));
            joined.splice(0..0, block.iter().copied());
        }
        assert_eq!(joined, bytes);
    }

    #[test]
    fn the_last_line_ends_before_the_unfinished_rest() {
        let bytes = text();
        let whole = bytes.len() as u64;
        assert_eq!(last_line_end(&file(&bytes), whole).unwrap(), whole);
        let torn = [bytes, vec![b'x'; 2 * READ_BYTES]].concat();
        assert_eq!(last_line_end(&file(&torn), torn.len() as u64).unwrap(), whole);
        assert_eq!(last_line_end(&file(b"none"), 4).unwrap(), 0);
    }
}
