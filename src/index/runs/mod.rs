//! Where rooms' messages stand in full files: sorted files beside the database, merged as they grow in
//! number.
//!
//! Each full file of messages is read once and makes one *run*: a file with an entry for each room that
//! has messages in it, sorted by room ([`mod@file`], [`writer`]). Whenever eight runs of one size
//! follow each other they are merged into one of the next size ([`merge`]), so that there are at most seven
//! of each size, and the number of runs grows with the logarithm of the messages. Every run covers a stretch of `seq` of its
//! own; a question about a room begins at the run of the depth asked for, and costs one look-up for each
//! run it passes on its way to enough messages. All is written in order, from beginning to end, and never
//! changed: neither the size of the index nor the number of rooms makes putting in slower.
//!
//! Which runs there are is in the database, in the transaction that puts in what else is known of the
//! file, so readers see whole sets of them. A run is synced before that. Files that the database does not
//! name are of no use; they are removed when what it says is durable ([`sweep`]).

pub mod file;
pub mod merge;
pub mod writer;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::schema;

/// A run as the database has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The name of its file; never given twice while the file is there.
    pub id: u64,
    /// Number of the first file of messages it covers.
    pub first_segment: u64,
    /// Number of the last one.
    pub last_segment: u64,
    /// Number of the first message, or any lower one behind the run before.
    pub first_seq: u64,
    /// Number of the last message, or any higher one before the next run.
    pub last_seq: u64,
    /// How many times it was merged; [`PARTIAL`]: of a file that could not be read to its end.
    pub level: i64,
    /// Length of its file.
    pub bytes: u64,
    /// Messages.
    pub messages: u64,
    /// Sum of the file's own table of contents: tells it from another one of that name.
    pub sum: u32,
}

/// Level of a run that is merged with no other, since it will be made anew.
pub const PARTIAL: i64 = -1;

/// Entries of one room in one file of messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// [`room_key`] of the room.
    pub room: u64,
    /// Number of the first message.
    pub first_seq: u64,
    /// Number of the file of messages.
    pub segment: u64,
    /// How many places.
    pub count: u64,
    /// Packed by [`crate::journal::places`].
    pub places: Vec<u8>,
}

/// A room's id in 128 bits (FNV-1a, of which two ids have the same by chance once in 10^38), the same on
/// every machine and in every version.
pub fn room_sum(room_id: &str) -> u128 {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    room_id.bytes().fold(OFFSET, |sum, byte| (sum ^ u128::from(byte)).wrapping_mul(PRIME))
}

/// What a room is found by in a run: 64 bits of [`room_sum`]. Should two rooms have the same, messages of
/// the one are read in vain for the other; whoever reads at a place looks at the room there.
pub fn room_key(room_id: &str) -> u64 {
    let sum = room_sum(room_id);
    #[expect(clippy::cast_possible_truncation, reason = "both halves go in")]
    let folded = (sum ^ (sum >> 64)) as u64;
    folded
}

/// Directory of the runs of a data directory.
pub fn directory(data_dir: &Path) -> PathBuf {
    schema::directory(data_dir).join("places")
}

/// The file of a run.
pub fn path(data_dir: &Path, id: u64) -> PathBuf {
    directory(data_dir).join(format!("{id:08}"))
}

/// A name that no file has.
///
/// # Errors
/// The directory can't be read or made.
pub fn free_id(data_dir: &Path) -> io::Result<u64> {
    fs::create_dir_all(directory(data_dir))?;
    Ok(ids(data_dir)?.into_iter().max().unwrap_or(0) + 1)
}

fn ids(data_dir: &Path) -> io::Result<Vec<u64>> {
    let mut ids = Vec::new();
    let entries = match fs::read_dir(directory(data_dir)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(ids),
        other => other?,
    };
    for entry in entries {
        ids.extend(entry?.file_name().to_str().and_then(|name| name.parse::<u64>().ok()));
    }
    Ok(ids)
}

/// Removes the files of runs that are not among those named. What the caller names must be durable in the
/// database, and nobody may be writing another one.
///
/// # Errors
/// The directory can't be read or written.
pub fn sweep(data_dir: &Path, named: &[Run]) -> io::Result<()> {
    for id in ids(data_dir)? {
        if !named.iter().any(|run| run.id == id) {
            fs::remove_file(path(data_dir, id))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
