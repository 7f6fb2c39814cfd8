//! The bytes in the data directory: append-only logs of one JSON object per line.
//!
//! Reading order: [`record`] is one line, [`lines`] finds lines in a file, [`segment`] knows which
//! files there are and where a record is, [`disk`] is all that is asked of a disk, [`append`] and
//! [`rolling`] write and sync, [`recover`] makes a log fit to be appended to after a crash, [`after`]
//! reads what a worker has missed, [`check`] everything for `minitalk verify`, [`scrub`] bit by bit. [`places`] says where
//! messages stand, [`walk`] finds that out, [`tail`] keeps it for the newest files, [`read`] reads
//! messages by it, [`search`] looks for text; what is [`damage`]d they say and leave out, and what the disk can't read (`unreadable`). [`resume`] opens all for appending, [`undo`] makes a large
//! addition all or nothing. [`deletions`] says what of the logs is of no effect any more, [`compacted`] how
//! a log looks from which that was taken out.
//!
//! The format, byte by byte, is in `data/README.md`. Only the storage writer, and `minitalk import` and
//! `minitalk compact` in its place, open these files for writing; any process may read them at any time,
//! since what has been written is never changed (a compacted log is another file that takes the name): an
//! unfinished last line is not yet a record.

pub mod after;
pub mod append;
pub mod check;
pub mod compacted;
pub mod damage;
pub mod deletions;
pub mod disk;
pub mod lines;
pub mod places;
pub mod read;
pub mod record;
pub mod recover;
pub mod resume;
pub mod rolling;
pub mod scrub;
pub mod search;
pub mod segment;
pub mod sparing;
pub mod stamp;
pub mod tail;
pub mod undo;
pub mod unreadable;
pub mod walk;

use std::io;
use std::path::{Path, PathBuf};

/// File of the users, in the data directory.
pub const USERS: &str = "users.jsonl";

/// File of the rooms and their membership, in the data directory.
pub const ROOMS: &str = "chatrooms.jsonl";

/// File of what administrators had deleted.
pub const ADMIN: &str = "admin.jsonl";

/// File of the live challenges and who takes part in them.
pub const CHALLENGES: &str = "challenges.jsonl";

/// Why a log could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The operating system refused; the message is its own.
    #[error("{}: {source}", path.display())]
    Io {
        /// What was being read or written.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A record that had been durable is not what was written. Restarting does not help: restore
    /// the file from a copy, or take the advice of `data/README.md`.
    #[error("{}:{line}: byte {byte}: {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Line of the file, from 1; 0 when only the byte is known.
        line: u64,
        /// Byte of the file where that line begins, from 0.
        byte: u64,
        /// What is wrong with it.
        what: String,
    },
}

impl JournalError {
    /// Wraps an error of the operating system; for `map_err`.
    pub fn io(path: &Path) -> impl FnOnce(io::Error) -> JournalError + '_ {
        |source| JournalError::Io { path: path.to_owned(), source }
    }
}
