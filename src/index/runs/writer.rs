//! Writes the file of a run ([`super::file`] says what is in it), from its beginning to its end.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::Part;
use super::file::{END_BYTES, Key, MARK, PAGE_BLOCKS, SUM_BYTES};
use crate::journal::places;

/// Bytes of a block, but for its last entry.
const BLOCK_BYTES: usize = 4 << 10;

/// Bytes written between two syncs, so that no sync takes long.
const SYNC_BYTES: u64 = 16 << 20;

/// A run being written.
pub struct Writer {
    path: PathBuf,
    out: BufWriter<File>,
    first_segment: u64,
    first_seq: u64,
    /// Bytes of whole blocks.
    bytes: u64,
    synced: u64,
    block: Vec<u8>,
    block_key: Key,
    last_room: u64,
    table: Vec<u8>,
    top: Vec<u8>,
    page_start: usize,
    blocks: u64,
    messages: u64,
}

impl Writer {
    /// A new file. No entry has a file or `seq` before those named.
    ///
    /// # Errors
    /// The disk refuses; so for all below.
    pub fn create(path: &Path, first_segment: u64, first_seq: u64) -> io::Result<Writer> {
        Ok(Writer {
            path: path.to_owned(),
            out: BufWriter::with_capacity(256 << 10, File::create(path)?),
            first_segment,
            first_seq,
            bytes: 0,
            synced: 0,
            block: Vec::new(),
            block_key: (0, 0),
            last_room: 0,
            table: Vec::new(),
            top: Vec::new(),
            page_start: 0,
            blocks: 0,
            messages: 0,
        })
    }

    /// Adds an entry, which must stand behind those before it in the order.
    pub fn push(&mut self, part: &Part) -> io::Result<()> {
        if self.block.is_empty() {
            self.block_key = (part.room, part.first_seq);
            self.last_room = part.room;
        }
        let out = &mut self.block;
        places::put(part.room.saturating_sub(self.last_room), out);
        places::put(part.first_seq.saturating_sub(self.first_seq), out);
        places::put(part.segment.saturating_sub(self.first_segment), out);
        places::put(part.count, out);
        if part.count != 1 {
            places::put(part.places.len() as u64, out);
        }
        out.extend_from_slice(&part.places);
        self.last_room = part.room;
        self.messages += part.count;
        if self.block.len() >= BLOCK_BYTES { self.end_block() } else { Ok(()) }
    }

    fn end_block(&mut self) -> io::Result<()> {
        seal(&mut self.block, 0);
        if self.blocks.is_multiple_of(PAGE_BLOCKS as u64) {
            self.end_page();
            self.top.extend_from_slice(&self.block_key.0.to_le_bytes());
            self.top.extend_from_slice(&self.block_key.1.to_le_bytes());
        }
        let length = u32::try_from(self.block.len()).map_err(io::Error::other)?;
        for number in [self.block_key.0, self.block_key.1, self.bytes] {
            self.table.extend_from_slice(&number.to_le_bytes());
        }
        self.table.extend_from_slice(&length.to_le_bytes());
        self.out.write_all(&self.block)?;
        self.bytes += self.block.len() as u64;
        self.blocks += 1;
        self.block.clear();
        if self.bytes - self.synced >= SYNC_BYTES {
            self.out.flush()?;
            self.out.get_ref().sync_data()?;
            self.synced = self.bytes;
        }
        Ok(())
    }

    fn end_page(&mut self) {
        if self.table.len() > self.page_start {
            seal(&mut self.table, self.page_start);
            self.page_start = self.table.len();
        }
    }

    /// Makes it whole and durable; answers its length, messages and sum.
    pub fn finish(mut self) -> io::Result<(u64, u64, u32)> {
        if !self.block.is_empty() {
            self.end_block()?;
        }
        self.end_page();
        let top_at = self.bytes + self.table.len() as u64;
        let mut end = std::mem::take(&mut self.top);
        end.extend_from_slice(&MARK);
        for number in [self.blocks, self.bytes, top_at, self.messages] {
            end.extend_from_slice(&number.to_le_bytes());
        }
        end.extend_from_slice(&[0; END_BYTES - 8 - 4 * 8 - SUM_BYTES]);
        let sum = seal(&mut end, 0);
        self.out.write_all(&self.table)?;
        self.out.write_all(&end)?;
        let file = self.out.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        if let Some(directory) = self.path.parent() {
            File::open(directory)?.sync_all()?;
        }
        Ok((top_at + end.len() as u64, self.messages, sum))
    }
}

/// Appends the sum of what stands behind `start`.
fn seal(bytes: &mut Vec<u8>, start: usize) -> u32 {
    let sum = crc32fast::hash(&bytes[start..]);
    bytes.extend_from_slice(&sum.to_le_bytes());
    sum
}
