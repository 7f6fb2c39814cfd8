//! What is derived from the logs: users by name and number, rooms, who is in which.
//!
//! One SQLite database in WAL mode, `index/index.sqlite` in the data directory: one writer (the
//! storage writer's directory thread, [`store`]) beside any number of reading processes ([`read`]).
//! It holds nothing the logs don't; [`build`] makes it anew from them, and catches it up at start.
//! [`compact`] asks it what of the logs still matters.
//!
//! Live challenges have a database of their own, [`challenges`], so that neither holds the other up; what a
//! database has whatever is in it is in [`database`].
//!
//! Of full files of messages it has where each room's messages stand: [`sealed`] finds that out, [`runs`]
//! are the files that keep it, [`places`] says which there are, [`indexed`] asks them. One that is gone or damaged is
//! made again ([`remake`]). [`history`] answers a room's messages by it, [`search`] looks for text with its
//! help; both take what it does not have yet from the files themselves. [`missed`] answers what was due
//! to somebody who comes back.

mod apply;
pub mod build;
pub mod bulk;
pub mod challenges;
pub mod compact;
pub mod database;
#[cfg(test)]
mod fixture;
pub mod history;
pub mod indexed;
mod memberships;
pub mod missed;
mod password;
pub mod places;
pub mod read;
pub mod remake;
pub mod runs;
mod schema;
pub mod sealed;
pub mod search;
pub mod sort;
pub mod store;
mod unlisted;

pub use read::{PARTICIPANTS_SHOWN, Page, Participants, Reader, Revocation, RoomIds, RoomInfo, User};
pub use schema::directory;

/// Why the index could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// SQLite's own words. If they speak of corruption, deleting `index/` heals it at the next start
    /// of the storage writer.
    #[error("index: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// Its files can't be made or found.
    #[error("index: {0}")]
    Io(#[from] std::io::Error),
    /// It was made by another version of this program and will be built anew by the storage writer.
    #[error("index: made by another version ({0})")]
    Version(i64),
    /// Too much would have to be read in place of a part that is gone or damaged. The storage writer
    /// makes it again; asked again later, it is there.
    #[error("index: a part of it is gone or damaged and is being made again")]
    Remaking,
}

/// Why messages could not be read with the index's help.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A file can't be read, or what was needed of it is damaged.
    #[error(transparent)]
    Journal(#[from] crate::journal::JournalError),
    /// The index can't be read.
    #[error(transparent)]
    Index(#[from] IndexError),
}

impl IndexError {
    /// The disk is full; nothing was written.
    pub fn is_full(&self) -> bool {
        match self {
            IndexError::Sqlite(error) => error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull),
            IndexError::Io(error) => error.kind() == std::io::ErrorKind::StorageFull,
            IndexError::Version(_) | IndexError::Remaking => false,
        }
    }

    /// The file is not what was written; only building it anew helps.
    pub fn is_damage(&self) -> bool {
        use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
        match self {
            IndexError::Sqlite(error) => {
                matches!(error.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase))
            }
            IndexError::Version(_) => true,
            IndexError::Io(_) | IndexError::Remaking => false,
        }
    }
}
