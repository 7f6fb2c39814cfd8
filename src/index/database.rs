//! A database that is derived from a log: how it is opened, written and read, whatever is in it.
//!
//! One writing connection beside any number of reading processes. Every database has a table
//! [`PROGRESS`] that says how far in the logs it is.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use parking_lot::Mutex;
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};

use super::IndexError;
use super::store::LogName;

/// KiB of pages the writing connection keeps.
const WRITER_CACHE_KIB: i64 = 8_192;

/// KiB of pages it keeps while an index is being made, and sorts at a time.
const BUILDER_CACHE_KIB: i64 = 65_536;

/// Statements it keeps prepared.
const STATEMENTS: usize = 48;

/// Pages of the write-ahead log at which the writing connection moves them out itself; by then
/// whoever puts in a lot has done it from a thread of its own.
const CHECKPOINT_PAGES: i64 = 4_096;

/// KiB of pages a reading connection keeps.
const READER_CACHE_KIB: i64 = 1_024;

/// Statements a reading connection keeps prepared.
const READER_STATEMENTS: usize = 64;

/// How long a reader waits for a lock. In WAL mode it needs none but while the file is being opened
/// or recovered.
const BUSY: Duration = Duration::from_secs(5);

/// The table that every database has.
pub const PROGRESS: &str = "
CREATE TABLE progress (
  log TEXT PRIMARY KEY,
  last INTEGER NOT NULL,
  bytes INTEGER NOT NULL,
  sum INTEGER NOT NULL
) WITHOUT ROWID;
";

/// How much of a log is in the index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Number of the last record.
    pub last: u64,
    /// Where it ends.
    pub bytes: u64,
    /// Sum of its line: tells this log from another one of the same length.
    pub sum: u32,
}

/// The writing connection.
pub struct Database {
    pub(super) connection: Connection,
}

impl Database {
    /// Opens a file for writing; `None`: there is none yet.
    ///
    /// # Errors
    /// There is one that can't be used.
    pub fn open(file: &Path, version: i64) -> Result<Option<Database>, IndexError> {
        if !file.try_exists()? {
            return Ok(None);
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let database = Database::with(Connection::open_with_flags(file, flags)?)?;
        check_version(&database.connection, version)?;
        // Survives a crash of the machine whole; what is lost of it is taken from the logs again.
        database.connection.pragma_update(None, "journal_mode", "WAL")?;
        database.connection.pragma_update(None, "synchronous", "NORMAL")?;
        database.connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
        Ok(Some(database))
    }

    /// Makes an empty database in a file that nobody else knows yet; it is not safe from crashes until
    /// [`Database::finish`].
    ///
    /// # Errors
    /// The file can't be made.
    pub fn create(file: &Path, tables: &str) -> Result<Database, IndexError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let database = Database::with(Connection::open_with_flags(file, flags)?)?;
        database.hurry()?;
        database.connection.execute_batch(tables)?;
        database.connection.execute_batch(PROGRESS)?;
        Ok(database)
    }

    /// Opens a copy of a database that nobody else knows yet, as after [`Database::create`].
    ///
    /// # Errors
    /// The file can't be used.
    pub fn open_copy(file: &Path, version: i64) -> Result<Database, IndexError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let database = Database::with(Connection::open_with_flags(file, flags)?)?;
        check_version(&database.connection, version)?;
        // Out of WAL mode first: there is no way from there to none at all.
        database.connection.pragma_update(None, "journal_mode", "DELETE")?;
        database.hurry()?;
        Ok(database)
    }

    fn hurry(&self) -> Result<(), IndexError> {
        self.connection.pragma_update(None, "journal_mode", "OFF")?;
        self.connection.pragma_update(None, "synchronous", "OFF")?;
        self.connection.pragma_update(None, "cache_size", -BUILDER_CACHE_KIB)?;
        self.connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        Ok(())
    }

    fn with(connection: Connection) -> Result<Database, IndexError> {
        connection.pragma_update(None, "cache_size", -WRITER_CACHE_KIB)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        Ok(Database { connection })
    }

    /// Declares a created database complete.
    ///
    /// # Errors
    /// The disk refused.
    pub fn finish(self, version: i64) -> Result<(), IndexError> {
        self.connection.pragma_update(None, "user_version", version)?;
        self.connection.pragma_update(None, "locking_mode", "NORMAL")?;
        self.connection.pragma_update(None, "journal_mode", "WAL")?;
        self.connection.close().map_err(|(_, error)| error)?;
        Ok(())
    }

    /// Reads all of the index and says whether it is in order. Takes time in proportion to its size.
    ///
    /// # Errors
    /// It can't be read.
    pub fn is_sound(&self) -> Result<bool, IndexError> {
        let answer: String = self.connection.pragma_query_value(None, "quick_check", |row| row.get(0))?;
        Ok(answer == "ok")
    }

    /// Runs `work` with as much memory for pages as an index in the making has, if `wide`.
    ///
    /// # Errors
    /// Those of `work`, or the connection can't be used.
    pub fn with_room<T, E: From<IndexError>>(
        &self,
        wide: bool,
        work: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        let set = |kib: i64| self.connection.pragma_update(None, "cache_size", kib).map_err(IndexError::from);
        let before: i64 = self
            .connection
            .pragma_query_value(None, "cache_size", |row| row.get(0))
            .map_err(IndexError::from)?;
        if wide {
            set(-BUILDER_CACHE_KIB)?;
        }
        let done = work();
        if wide {
            set(before)?;
            self.connection.execute_batch("PRAGMA shrink_memory").map_err(IndexError::from)?;
        }
        done
    }

    /// Begins a transaction.
    ///
    /// # Errors
    /// The index can't be written; so for all below.
    pub fn begin(&self) -> Result<(), IndexError> {
        Ok(self.connection.prepare_cached("BEGIN IMMEDIATE")?.execute([]).map(drop)?)
    }

    /// Makes the transaction visible to readers. On an error it is still open.
    pub fn commit(&self) -> Result<(), IndexError> {
        Ok(self.connection.prepare_cached("COMMIT")?.execute([]).map(drop)?)
    }

    /// Leaves nothing of the transaction, if there is one.
    pub fn rollback(&self) -> Result<(), IndexError> {
        if self.connection.is_autocommit() {
            return Ok(());
        }
        Ok(self.connection.prepare_cached("ROLLBACK")?.execute([]).map(drop)?)
    }

    /// Finds out whether the index can be written, by writing nothing of meaning.
    pub fn probe(&self) -> Result<(), IndexError> {
        self.begin()?;
        let sql = "INSERT OR REPLACE INTO progress (log, last, bytes, sum)
                   SELECT 'probe', coalesce(max(last), 0) + 1, 0, 0 FROM progress WHERE log = 'probe'";
        let written = self.connection.prepare_cached(sql).and_then(|mut probe| probe.execute([]));
        match written {
            Ok(_) => self.commit(),
            Err(error) => Err(error.into()),
        }
        .or_else(|error| self.rollback().and(Err(error)))
    }

    /// How much of a log is in the index.
    pub fn progress(&self, log: LogName) -> Result<Progress, IndexError> {
        let sql = "SELECT last, bytes, sum FROM progress WHERE log = ?1";
        let found = self
            .connection
            .prepare_cached(sql)?
            .query_row([log.as_str()], |row| {
                Ok(Progress { last: row.get(0)?, bytes: row.get(1)?, sum: row.get(2)? })
            })
            .optional()?;
        Ok(found.unwrap_or_default())
    }

    /// Remembers how much of a log is in the index.
    pub fn set_progress(&self, log: LogName, progress: Progress) -> Result<(), IndexError> {
        let sql = "INSERT OR REPLACE INTO progress (log, last, bytes, sum) VALUES (?1, ?2, ?3, ?4)";
        let Progress { last, bytes, sum } = progress;
        self.connection.prepare_cached(sql)?.execute(params![log.as_str(), last, bytes, sum])?;
        Ok(())
    }
}

/// Opens an existing database for reading.
///
/// # Errors
/// There is none, or it is of another version.
pub fn open_reader(file: &Path, version: i64) -> Result<Connection, IndexError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(file, flags)?;
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "cache_size", -READER_CACHE_KIB)?;
    connection.set_prepared_statement_cache_capacity(READER_STATEMENTS);
    check_version(&connection, version)?;
    Ok(connection)
}

/// Refuses a database that another version made.
fn check_version(connection: &Connection, expected: i64) -> Result<(), IndexError> {
    let version = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version == expected { Ok(()) } else { Err(IndexError::Version(version)) }
}

/// One reading connection, its statements prepared once.
///
/// Follows the database when the storage writer builds it anew: before each question it looks whether
/// the file is still the one it has open.
pub struct Follower {
    file: PathBuf,
    version: i64,
    open: Mutex<Open>,
}

struct Open {
    connection: Connection,
    id: FileId,
}

/// Device and number of a file.
type FileId = (u64, u64);

impl Follower {
    /// Opens an existing database.
    ///
    /// # Errors
    /// The storage writer has not made one yet, or it can't be read.
    pub fn open(file: PathBuf, version: i64) -> Result<Follower, IndexError> {
        let open = Mutex::new(Open::new(&file, version)?);
        Ok(Follower { file, version, open })
    }

    /// Asks a question.
    ///
    /// # Errors
    /// The database can't be read.
    pub fn ask<T>(&self, question: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, IndexError> {
        let mut open = self.open.lock();
        if file_id(&self.file).is_some_and(|id| id != open.id) {
            *open = Open::new(&self.file, self.version)?;
        }
        Ok(question(&open.connection)?)
    }
}

impl Open {
    fn new(file: &Path, version: i64) -> Result<Open, IndexError> {
        // Looked at first: if it is replaced meanwhile, the next question finds out.
        let id = file_id(file).unwrap_or_default();
        Ok(Open { connection: open_reader(file, version)?, id })
    }
}

fn file_id(file: &Path) -> Option<FileId> {
    fs::metadata(file).ok().map(|file| (file.dev(), file.ino()))
}
