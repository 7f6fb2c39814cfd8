//! The file of one run, and reading it: blocks of entries, then a table of the blocks, then a table of that table.
//!
//! | part | what |
//! |---|---|
//! | blocks | entries in order of room and `seq`, about 4 KiB, and their CRC-32 |
//! | table | for each block the room and `seq` of its first entry, its byte and length; in pages of 64 blocks, each with its CRC-32 |
//! | top | room and `seq` of each page's first block |
//! | end | 56 bytes: a mark, how many blocks, where table and top begin, how many messages, CRC-32 of top and end |
//!
//! Numbers of fixed length are little-endian. An entry is made of LEB128 varints: the distance of its
//! room from that of the entry before it (in the block), its first `seq` and its file as distances from
//! the run's first, how many places, if that is not 1 their length in bytes, and the places as
//! [`crate::journal::places`] packs them.
//!
//! The top is kept in memory by who has the file open (16 bytes for each 256 KiB); a look-up reads one
//! page of the table and one block.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::{Part, Run};
use crate::journal::places;

/// Blocks of one page of the table.
pub(super) const PAGE_BLOCKS: usize = 64;

/// Bytes of a block's line in the table.
const LINE_BYTES: usize = 28;

/// Bytes of a CRC-32.
pub(super) const SUM_BYTES: usize = 4;

/// Bytes of the end.
pub(super) const END_BYTES: usize = 56;

/// Begins the end; its last byte is the version of the format.
pub(super) const MARK: [u8; 8] = *b"mtplace\x01";

/// Where an entry stands in the order.
pub(super) type Key = (u64, u64);

/// A block's line in the table.
#[derive(Clone, Copy, Debug)]
struct Line {
    key: Key,
    byte: u64,
    length: usize,
}

/// A run that is open.
pub struct RunFile {
    /// What the database says of it.
    pub run: Run,
    file: File,
    blocks: usize,
    table_at: u64,
    top: Vec<Key>,
}

impl RunFile {
    /// Opens a run's file.
    ///
    /// # Errors
    /// It is not there, or can't be read; `InvalidData`: it is not what was written. So for all below.
    pub fn open(path: &Path, run: Run) -> io::Result<RunFile> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let bad = || damaged(&run, "not the file that was written");
        let end_at = length.checked_sub(END_BYTES as u64).filter(|_| length == run.bytes).ok_or_else(bad)?;
        let mut end = [0; END_BYTES];
        file.read_exact_at(&mut end, end_at)?;
        let (blocks, table_at, top_at) = (number(&end, 8), number(&end, 16), number(&end, 24));
        let top_bytes = end_at.checked_sub(top_at).and_then(|bytes| usize::try_from(bytes).ok());
        let mut bytes = vec![0; top_bytes.filter(|bytes| bytes % 16 == 0).ok_or_else(bad)?];
        file.read_exact_at(&mut bytes, top_at)?;
        let top = bytes.chunks_exact(16).map(|key| (number(key, 0), number(key, 8))).collect();
        bytes.extend_from_slice(&end);
        if end[..8] != MARK || unsealed(&bytes).is_none() || sum_of(&bytes) != run.sum {
            return Err(bad());
        }
        let blocks = usize::try_from(blocks).map_err(|_| bad())?;
        Ok(RunFile { run, file, blocks, table_at, top })
    }

    /// A place to read from, at no block yet.
    pub fn cursor(&self) -> Cursor<'_> {
        Cursor { file: self, page: None, block: None }
    }

    fn page(&self, page: usize) -> io::Result<Vec<Line>> {
        let first = page * PAGE_BLOCKS;
        let lines = self.blocks.saturating_sub(first).min(PAGE_BLOCKS);
        let mut bytes = vec![0; lines * LINE_BYTES + SUM_BYTES];
        let at = page * (PAGE_BLOCKS * LINE_BYTES + SUM_BYTES);
        self.file.read_exact_at(&mut bytes, self.table_at + at as u64)?;
        let lines = unsealed(&bytes).ok_or_else(|| damaged(&self.run, "its table is damaged"))?;
        let line = |line: &[u8]| Line {
            key: (number(line, 0), number(line, 8)),
            byte: number(line, 16),
            length: u32::from_le_bytes([line[24], line[25], line[26], line[27]]) as usize,
        };
        Ok(lines.chunks_exact(LINE_BYTES).map(line).collect())
    }

    fn block(&self, line: Line) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; line.length];
        self.file.read_exact_at(&mut bytes, line.byte)?;
        let length = unsealed(&bytes).ok_or_else(|| damaged(&self.run, "a block is damaged"))?.len();
        bytes.truncate(length);
        Ok(bytes)
    }

    /// Reads all of it; tells `read` how many bytes each block has, and ends early if that answers false.
    pub fn check(&self, read: &mut dyn FnMut(u64) -> bool) -> io::Result<()> {
        let mut cursor = self.cursor();
        for block in 0..self.blocks {
            if !read(cursor.go(block)?.1.len() as u64) {
                break;
            }
        }
        Ok(())
    }
}

/// Somebody who reads a run, and keeps the block and the page of the table read last.
pub struct Cursor<'f> {
    file: &'f RunFile,
    page: Option<(usize, Vec<Line>)>,
    block: Option<(usize, Key, Vec<u8>)>,
}

impl Cursor<'_> {
    /// Tells the entries of a room that begin before message `below`, the last of them first, until
    /// told to stop.
    pub fn before(&mut self, room: u64, below: u64, tell: &mut dyn FnMut(Part) -> bool) -> io::Result<()> {
        let mut next = self.block_before((room, below))?;
        while let Some(block) = next {
            let (key, parts) = self.parts(block, room)?;
            for part in parts.into_iter().rev().filter(|part| part.first_seq < below) {
                if !tell(part) {
                    return Ok(());
                }
            }
            // The block before it may end with the same room.
            next = block.checked_sub(1).filter(|_| key.0 == room);
        }
        Ok(())
    }

    /// Tells the entries of a room that may hold messages from `from` on, in order, until told to stop.
    pub fn from(&mut self, room: u64, from: u64, tell: &mut dyn FnMut(Part) -> bool) -> io::Result<()> {
        let mut block = self.block_before((room, from.saturating_add(1)))?.unwrap_or(0);
        while block < self.file.blocks {
            let (key, mut parts) = self.parts(block, room)?;
            if key.0 > room {
                break;
            }
            // Of those that begin before it only the last may reach over it.
            let over = parts.partition_point(|part| part.first_seq <= from).saturating_sub(1);
            for part in parts.drain(over..) {
                if !tell(part) {
                    return Ok(());
                }
            }
            block += 1;
        }
        Ok(())
    }

    /// The last block that begins before a key.
    fn block_before(&mut self, key: Key) -> io::Result<Option<usize>> {
        let Some(page) = self.file.top.partition_point(|first| *first < key).checked_sub(1) else {
            return Ok(None);
        };
        let within = self.page(page)?.partition_point(|line| line.key < key);
        Ok((page * PAGE_BLOCKS + within).checked_sub(1))
    }

    /// Where a block begins in the order, and its entries of one room.
    fn parts(&mut self, block: usize, room: u64) -> io::Result<(Key, Vec<Part>)> {
        let run = self.file.run;
        let (key, bytes) = self.go(block)?;
        let (mut rest, mut at, mut parts) = (bytes, key.0, Vec::new());
        while !rest.is_empty() {
            let entry = entry(&mut rest, &mut at).ok_or_else(|| damaged(&run, "an entry is damaged"))?;
            if at > room {
                break;
            }
            if at == room {
                parts.push(entry.part(&run, at));
            }
        }
        Ok((key, parts))
    }

    fn page(&mut self, page: usize) -> io::Result<&[Line]> {
        if self.page.as_ref().is_none_or(|(at, _)| *at != page) {
            self.page = None;
        }
        match &mut self.page {
            Some((_, lines)) => Ok(lines),
            none => Ok(&none.insert((page, self.file.page(page)?)).1),
        }
    }

    fn go(&mut self, block: usize) -> io::Result<(Key, &[u8])> {
        if self.block.as_ref().is_none_or(|(at, _, _)| *at != block) {
            let line = self.page(block / PAGE_BLOCKS)?.get(block % PAGE_BLOCKS).copied();
            let line = line.ok_or_else(|| damaged(&self.file.run, "its table is too short"))?;
            self.block = Some((block, line.key, self.file.block(line)?));
        }
        Ok(self.block.as_ref().map_or(((0, 0), &[][..]), |(_, key, bytes)| (*key, bytes)))
    }
}

/// All entries of a run, in order.
pub(super) struct Entries<'f> {
    cursor: Cursor<'f>,
    block: usize,
    /// Where in the block to read on, and the room before.
    at: usize,
    room: u64,
}

impl<'f> Entries<'f> {
    pub(super) fn of(file: &'f RunFile) -> Entries<'f> {
        Entries { cursor: file.cursor(), block: 0, at: 0, room: 0 }
    }

    pub(super) fn next_part(&mut self) -> io::Result<Option<Part>> {
        let (run, blocks) = (self.cursor.file.run, self.cursor.file.blocks);
        while self.block < blocks {
            let (key, bytes) = self.cursor.go(self.block)?;
            if self.at == 0 {
                self.room = key.0;
            }
            let mut rest = &bytes[self.at..];
            if rest.is_empty() {
                (self.block, self.at) = (self.block + 1, 0);
                continue;
            }
            let length = rest.len();
            let entry =
                entry(&mut rest, &mut self.room).ok_or_else(|| damaged(&run, "an entry is damaged"))?;
            let part = entry.part(&run, self.room);
            self.at += length - rest.len();
            return Ok(Some(part));
        }
        Ok(None)
    }
}

/// An entry as it stands.
struct Entry<'b> {
    seq: u64,
    segment: u64,
    count: u64,
    places: &'b [u8],
}

impl Entry<'_> {
    fn part(&self, run: &Run, room: u64) -> Part {
        Part {
            room,
            first_seq: run.first_seq.saturating_add(self.seq),
            segment: run.first_segment.saturating_add(self.segment),
            count: self.count,
            places: self.places.to_vec(),
        }
    }
}

/// Takes an entry; `room` becomes its room. `None`: it is none.
fn entry<'b>(rest: &mut &'b [u8], room: &mut u64) -> Option<Entry<'b>> {
    *room = room.checked_add(places::take(rest)?)?;
    let (seq, segment, count) = (places::take(rest)?, places::take(rest)?, places::take(rest)?);
    let length = match count {
        1 => rest.iter().position(|byte| byte & 0x80 == 0)? + 1,
        _ => usize::try_from(places::take(rest)?).ok()?,
    };
    let (places, behind) = rest.split_at_checked(length)?;
    *rest = behind;
    Some(Entry { seq, segment, count, places })
}

/// What stands before the sum at the end; `None`: the sum is another.
fn unsealed(bytes: &[u8]) -> Option<&[u8]> {
    let (body, _) = bytes.split_at_checked(bytes.len().checked_sub(SUM_BYTES)?)?;
    (crc32fast::hash(body) == sum_of(bytes)).then_some(body)
}

fn sum_of(bytes: &[u8]) -> u32 {
    bytes.last_chunk().map_or(0, |sum| u32::from_le_bytes(*sum))
}

/// The number at a byte; the caller knows that it is there.
fn number(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes)
}

fn damaged(run: &Run, what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("places/{:08}: {what}", run.id))
}
