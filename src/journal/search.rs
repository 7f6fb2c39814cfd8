//! Looks for text in the contents of messages, at the speed of the disk or the memory.
//!
//! A file is searched as bytes, a block at a time, for the ways in which the text can stand in a line;
//! only lines in which it may stand are looked at more closely. Two texts are the same here if they
//! are after Unicode's simple case folding and its canonical composition (NFC): `Straße` and `STRAẞE`,
//! and a Hangul syllable and its letters.
//!
//! What is found in the bytes is a superset of what matches: contents in NFC or NFD as a whole. A
//! content that mixes both within the text asked for is not found.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use memchr::memmem::Finder;
use regex::{Regex, RegexBuilder, bytes};
use unicode_normalization::char::canonical_combining_class;
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc, is_nfc_quick};

use super::JournalError;
use super::lines::LINE_BYTES;
use super::record;
use super::segment;
use super::unreadable::Patience;

/// Bytes read and searched at a time.
const BLOCK_BYTES: usize = 256 << 10;

/// Bytes read at a time to find the end of a last line.
const REST_BYTES: usize = 8 << 10;

/// A text to look for.
pub struct Needle {
    /// Finds it in the bytes of lines.
    raw: bytes::Regex,
    /// Decides about a content in NFC.
    exact: Regex,
    /// The text is ASCII: found in an ASCII content as it stands, it is there.
    ascii: bool,
    /// How characters may be written that the log itself never writes so: a line that has one of
    /// these may hold anything.
    foreign: Vec<Finder<'static>>,
}

impl Needle {
    /// Prepares a text. `None`: it is empty, or too long to be prepared.
    pub fn new(text: &str) -> Option<Needle> {
        let composed: String = text.nfc().collect();
        if composed.is_empty() {
            return None;
        }
        let mut spellings = vec![text.to_owned(), composed.clone(), text.nfd().collect()];
        spellings.sort_unstable();
        spellings.dedup();
        let escaped = |text: &String| Some(regex::escape(serde_json::to_string(text).ok()?.trim_quotes()?));
        let spellings: Option<Vec<String>> = spellings.iter().map(escaped).collect();
        let raw = bytes::RegexBuilder::new(&spellings?.join("|")).case_insensitive(true).build().ok()?;
        let exact = RegexBuilder::new(&regex::escape(&composed)).case_insensitive(true).build().ok()?;
        let mut foreign = vec![Finder::new(r"\u")];
        if text.contains('/') {
            foreign.push(Finder::new(r"\/"));
        }
        Some(Needle { raw, exact, ascii: text.is_ascii(), foreign })
    }

    /// Whether a content has the text.
    pub fn is_in(&self, content: &str) -> bool {
        if is_nfc(content) {
            return self.exact.is_match(content);
        }
        self.exact.is_match(&content.nfc().collect::<String>())
    }

    /// Whether a content has the text, as it stands in its line, with the bytes of it in which it may
    /// stand, if there are such; `None`: it has escapes, so the line has to be read as a record.
    fn is_in_raw(&self, content: &[u8], found: Option<Range<usize>>) -> Option<bool> {
        if memchr::memchr(b'\\', content).is_some() {
            return None;
        }
        if found.is_some_and(|found| self.stands_alone(content, found)) {
            return Some(true);
        }
        std::str::from_utf8(content).ok().map(|content| self.is_in(content))
    }

    /// Whether what was found is the text whatever stands around it: before and behind it nothing can
    /// join it in NFC. Spares most contents a look at each of their characters.
    fn stands_alone(&self, content: &[u8], found: Range<usize>) -> bool {
        if content.get(found.end).is_some_and(|next| !next.is_ascii()) {
            return false; // May be a mark that changes the last letter.
        }
        let found = &content[found];
        if self.ascii {
            return true; // Nothing joins what is before an ASCII character.
        }
        let Ok(text) = std::str::from_utf8(found) else {
            return false;
        };
        let joins_nothing = |first: char| {
            canonical_combining_class(first) == 0 && is_nfc_quick(std::iter::once(first)) == IsNormalized::Yes
        };
        text.chars().next().is_some_and(joins_nothing) && self.is_in(text)
    }
}

/// Text between quotation marks.
trait TrimQuotes {
    fn trim_quotes(&self) -> Option<&str>;
}

impl TrimQuotes for String {
    fn trim_quotes(&self) -> Option<&str> {
        self.strip_prefix('"')?.strip_suffix('"')
    }
}

/// A line in which the text may stand.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// Where it begins.
    pub start: u64,
    /// Its bytes, without the line feed.
    pub line: &'a [u8],
    /// The text is in its content for certain, if the line is good.
    pub certain: bool,
}

/// What was searched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Searched {
    /// Number of the first message that begins in the range; `None`: none does, or it was stopped.
    pub first_seq: Option<u64>,
    /// Bytes read.
    pub bytes: u64,
}

/// Searches the lines of a file that begin in `from..to`. Ends early when `stop` is set. What the disk can't read
/// has no text in it; it is said by whoever reads for damage.
///
/// # Errors
/// The file can't be read, not only in places, or has no lines.
pub fn scan(
    file: &File,
    from: u64,
    to: u64,
    needle: &Needle,
    stop: &AtomicBool,
    hit: &mut dyn FnMut(Candidate<'_>),
) -> io::Result<Searched> {
    let mut blocks = Blocks::new(file, from, to);
    let mut searched = Searched::default();
    let mut lines = Vec::new();
    while !stop.load(Ordering::Relaxed)
        && let Some((base, block)) = blocks.next_block()?
    {
        if searched.first_seq.is_none() {
            searched.first_seq = first_good(block);
        }
        searched.bytes += block.len() as u64;
        candidates(needle, block, &mut lines);
        for (start, end, certain) in lines.drain(..) {
            hit(Candidate { start: base + start as u64, line: &block[start..end], certain });
        }
    }
    if stop.load(Ordering::Relaxed) {
        searched.first_seq = None;
    }
    Ok(searched)
}

/// The number of the first good message of a block.
fn first_good(block: &[u8]) -> Option<u64> {
    let mut lines = block.split(|byte| *byte == b'\n');
    lines.find_map(|line| record::find_good(line).map(|(_, number)| number))
}

/// The lines of a block in which the text may stand in the content: beginning, end, whether it is
/// certain.
fn candidates(needle: &Needle, block: &[u8], lines: &mut Vec<(usize, usize, bool)>) {
    let mut at = 0;
    while let Some(found) = needle.raw.find_at(block, at) {
        let (start, end) = line_around(block, found.start());
        let line = &block[start..end];
        at = end + 1;
        let verdict = match record::content_of(line) {
            Some(content) if found.start() >= start + content.end => Some(false),
            // In what stands before the content: the content is looked at alone.
            Some(content) if found.start() < start + content.start => {
                let content = &line[content];
                needle.is_in_raw(content, needle.raw.find(content).map(|found| found.range()))
            }
            Some(content) => {
                let (from, to) = (found.start() - start - content.start, found.end() - start - content.start);
                needle.is_in_raw(&line[content.clone()], (to <= content.len()).then_some(from..to))
            }
            // Damaged, perhaps.
            None => None,
        };
        match verdict {
            Some(false) => {}
            certain => lines.push((start, end, certain.is_some())),
        }
        if at >= block.len() {
            break;
        }
    }
    let by_text = lines.len();
    for finder in &needle.foreign {
        let mut at = 0;
        while let Some(found) = finder.find(&block[at..]) {
            let (start, end) = line_around(block, at + found);
            lines.push((start, end, false));
            at = end;
        }
    }
    if lines.len() > by_text {
        lines.sort_unstable_by_key(|line| (line.0, !line.2));
        lines.dedup_by_key(|line| line.0);
    }
}

/// The line of a block that byte `at` is in.
fn line_around(block: &[u8], at: usize) -> (usize, usize) {
    let from = memchr::memrchr(b'\n', &block[..at]).map_or(0, |found| found + 1);
    let to = memchr::memchr(b'\n', &block[at..]).map_or(block.len(), |found| at + found);
    (from, to)
}

/// The whole lines of a file that begin in a range, in blocks.
struct Blocks<'f> {
    file: &'f File,
    buffer: Vec<u8>,
    /// Bytes of the buffer already answered.
    used: usize,
    /// Bytes of the buffer that mean something.
    filled: usize,
    /// Where in the file the buffer begins.
    base: u64,
    to: u64,
    /// The rest of a line that begins before the range is still to be passed over.
    within: bool,
    patience: Patience,
}

impl<'f> Blocks<'f> {
    fn new(file: &'f File, from: u64, to: u64) -> Blocks<'f> {
        // From the byte before: if it is a line feed, a line begins at `from`.
        let base = from.saturating_sub(1);
        let (buffer, within, patience) = (Vec::new(), from > 0, Patience::default());
        Blocks { file, buffer, used: 0, filled: 0, base, to, within, patience }
    }

    fn next_block(&mut self) -> io::Result<Option<(u64, &[u8])>> {
        loop {
            self.buffer.copy_within(self.used..self.filled, 0);
            self.base += self.used as u64;
            self.filled -= self.used;
            self.used = 0;
            let at = self.base + self.filled as u64;
            // Behind the range, only the end of the last line is of interest.
            let left = self.to.saturating_sub(at);
            if left == 0 && (self.filled == 0 || self.within) {
                return Ok(None);
            }
            let wanted = match usize::try_from(left) {
                Ok(0) => REST_BYTES,
                Ok(left) => left.min(BLOCK_BYTES),
                Err(_) => BLOCK_BYTES,
            };
            let had = self.filled;
            if self.buffer.len() < had + wanted {
                self.buffer.resize(had + wanted, 0);
            }
            let read = self.patience.read(self.file, &mut self.buffer[had..had + wanted], at)?;
            self.filled += read;
            if read == 0 {
                return Ok(None); // What is left is not finished.
            }
            let fresh = &self.buffer[had..self.filled];
            let mut start = 0;
            if self.within {
                let Some(end) = memchr::memchr(b'\n', fresh) else {
                    self.used = self.filled;
                    continue;
                };
                self.within = false;
                start = had + end + 1;
            }
            let fresh = &self.buffer[had.max(start)..self.filled];
            let end = if left == 0 { memchr::memchr(b'\n', fresh) } else { memchr::memrchr(b'\n', fresh) };
            match end {
                Some(end) => {
                    let end = had.max(start) + end + 1;
                    self.used = if left == 0 { self.filled } else { end };
                    return Ok(Some((self.base + start as u64, &self.buffer[start..end])));
                }
                None if self.filled - start > 2 * LINE_BYTES => {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "a line without an end"));
                }
                None => self.used = start,
            }
        }
    }
}

/// Counts the messages whose content has the text, in all files, with so many threads; for
/// measuring.
///
/// # Errors
/// A file can't be read.
pub fn count(data_dir: &Path, needle: &Needle, threads: usize) -> Result<u64, JournalError> {
    let segments = segment::list(data_dir)?;
    let next = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let work = || {
        let mut total = 0;
        while let Some(segment) = segments.get(next.fetch_add(1, Ordering::Relaxed)) {
            let path = &segment.path;
            let file = File::open(path).map_err(JournalError::io(path))?;
            scan(&file, 0, u64::MAX, needle, &stop, &mut |candidate| {
                let is_in = || {
                    record::decode_message(candidate.line).is_ok_and(|message| needle.is_in(&message.content))
                };
                total += u64::from(candidate.certain || is_in());
            })
            .map_err(JournalError::io(path))?;
        }
        Ok(total)
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(work)).collect();
        // A thread that panics takes this one with it.
        workers.into_iter().map(|worker| worker.join().unwrap_or(Ok(0))).sum()
    })
}

#[cfg(test)]
mod tests;
