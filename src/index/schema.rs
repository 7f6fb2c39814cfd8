//! The tables of the index, and where it is.
//!
//! A membership stands in two tables, one ordered for each question asked of it: `memberships` by
//! user ("my rooms", "is she in it") and `members` by room in order of joining ("who is in it").
//! `room_counts` has in how many rooms a user is, of those who are in any: apart from the users, of whom
//! a page holds far fewer.
//! `joined` is made of the record's `rev` and the place within the record, so that an index built
//! anew is the same as one kept from the beginning. `after_seq` is the last message before it. `facts`
//! has which deletions are in the index.
//!
//! Where rooms' messages stand is in files of their own, which `runs` names ([`super::runs`]).
//! `segments` has the files of messages that were read for them, always the oldest ones without a gap,
//! but for those that could not be read to their end (not `whole`). `times` has, for every so many
//! messages, the latest time up to there.
//!
//! `revocations` has those users some of whose tokens are good no more, each with the latest record that
//! said so: few of all users, so that every call can ask.
//!
//! `departures` has the memberships that ended, the latest ones: from behind which message up to which
//! one they lasted. With that, what was due to somebody who comes back after a while can be told.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use super::{IndexError, database};

/// Changes with every change of [`TABLES`] or of what is put in; another number means building anew.
pub const VERSION: i64 = 5;

/// `password` is what [`super::password`] makes of it. Times, in Unix milliseconds, end in `_ms`.
pub const TABLES: &str = "
CREATE TABLE users (
  number INTEGER PRIMARY KEY,
  username TEXT NOT NULL,
  password,
  created_ms INTEGER NOT NULL,
  nickname TEXT,
  profile_image TEXT
);
CREATE TABLE revocations (
  user INTEGER PRIMARY KEY,
  generation INTEGER NOT NULL,
  at_ms INTEGER NOT NULL,
  rev INTEGER NOT NULL UNIQUE
);
CREATE TABLE rooms (
  key INTEGER PRIMARY KEY,
  room_id TEXT NOT NULL UNIQUE,
  name TEXT NOT NULL,
  open INTEGER NOT NULL,
  created_by INTEGER NOT NULL,
  created_ms INTEGER NOT NULL,
  members INTEGER NOT NULL,
  last_seq INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE memberships (
  user INTEGER NOT NULL,
  room INTEGER NOT NULL,
  joined INTEGER NOT NULL,
  after_seq INTEGER NOT NULL,
  PRIMARY KEY (user, room)
) WITHOUT ROWID;
CREATE TABLE room_counts (
  user INTEGER PRIMARY KEY,
  rooms INTEGER NOT NULL
);
CREATE TABLE departures (
  number INTEGER PRIMARY KEY,
  user INTEGER NOT NULL,
  room_id TEXT NOT NULL,
  joined INTEGER NOT NULL,
  after_seq INTEGER NOT NULL,
  rev INTEGER NOT NULL,
  upto_seq INTEGER NOT NULL
);
CREATE INDEX departures_of ON departures (user, upto_seq);
CREATE TABLE members (
  room INTEGER NOT NULL,
  joined INTEGER NOT NULL,
  user INTEGER NOT NULL,
  PRIMARY KEY (room, joined)
) WITHOUT ROWID;
CREATE TABLE segments (
  number INTEGER PRIMARY KEY,
  first_seq INTEGER NOT NULL,
  last_seq INTEGER NOT NULL,
  from_ms INTEGER NOT NULL,
  to_ms INTEGER NOT NULL,
  upto_ms INTEGER NOT NULL,
  bytes INTEGER NOT NULL,
  whole INTEGER NOT NULL
);
CREATE TABLE runs (
  id INTEGER PRIMARY KEY,
  first_segment INTEGER NOT NULL,
  last_segment INTEGER NOT NULL,
  first_seq INTEGER NOT NULL,
  last_seq INTEGER NOT NULL,
  level INTEGER NOT NULL,
  bytes INTEGER NOT NULL,
  messages INTEGER NOT NULL,
  sum INTEGER NOT NULL
);
CREATE TABLE times (
  upto_ms INTEGER NOT NULL,
  first_seq INTEGER NOT NULL,
  PRIMARY KEY (upto_ms, first_seq)
) WITHOUT ROWID;
CREATE TABLE facts (
  name TEXT PRIMARY KEY,
  value INTEGER NOT NULL
) WITHOUT ROWID;
";

/// Users by name: made when many users have been put in, since that sorts them once.
pub const NAMES: &str = "CREATE UNIQUE INDEX IF NOT EXISTS users_by_name ON users (username)";

/// Directory of the index in a data directory.
pub fn directory(data_dir: &Path) -> PathBuf {
    data_dir.join("index")
}

/// The database in a data directory.
pub fn file(data_dir: &Path) -> PathBuf {
    directory(data_dir).join("index.sqlite")
}

/// Opens an existing index for reading.
///
/// # Errors
/// There is none, or it is of another version.
pub fn open_reader(data_dir: &Path) -> Result<Connection, IndexError> {
    database::open_reader(&file(data_dir), VERSION)
}

/// Opens an existing index for copying what was committed to where it stays, beside its writer.
///
/// # Errors
/// There is none.
pub fn open_checkpointer(data_dir: &Path) -> Result<Connection, IndexError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Ok(Connection::open_with_flags(file(data_dir), flags)?)
}
