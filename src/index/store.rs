//! The index's one writing connection: applies records, answers what must be known to judge a
//! change, and remembers how far in the logs it is.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, params};

use super::{IndexError, password, schema};
use crate::chat::UserId;
use crate::journal;

/// KiB of pages the writing connection keeps.
const WRITER_CACHE_KIB: i64 = 8_192;

/// KiB of pages it keeps while an index is being made, and sorts at a time.
const BUILDER_CACHE_KIB: i64 = 65_536;

/// Statements it keeps prepared.
const STATEMENTS: usize = 48;

/// Pages of the write-ahead log at which the writing connection moves them out itself; by then
/// whoever puts in a lot has done it from a thread of its own.
const CHECKPOINT_PAGES: i64 = 4_096;

/// Which log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogName {
    /// `users.jsonl`
    Users,
    /// `chatrooms.jsonl`
    Rooms,
    /// The messages; only the last `seq` is kept.
    Messages,
}

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

/// A room as it must be known to judge a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoomState {
    /// Its key in the index.
    pub key: i64,
    /// Anybody may join.
    pub open: bool,
    /// How many are in it.
    pub members: u64,
}

/// The writing connection.
pub struct Store {
    pub(super) connection: Connection,
}

impl Store {
    /// Opens the index of a data directory for writing; `None`: there is none yet.
    ///
    /// # Errors
    /// There is one that can't be used.
    pub fn open(data_dir: &Path) -> Result<Option<Store>, IndexError> {
        let file = schema::file(data_dir);
        if !file.try_exists()? {
            return Ok(None);
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let store = Store::with(Connection::open_with_flags(file, flags)?)?;
        schema::check_version(&store.connection)?;
        // Survives a crash of the machine whole; what is lost of it is taken from the logs again.
        store.connection.pragma_update(None, "journal_mode", "WAL")?;
        store.connection.pragma_update(None, "synchronous", "NORMAL")?;
        store.connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
        Ok(Some(store))
    }

    /// Makes an empty index in a file that nobody else knows yet; it is not safe from crashes until
    /// [`Store::finish`].
    ///
    /// # Errors
    /// The file can't be made.
    pub fn create(file: &Path) -> Result<Store, IndexError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let store = Store::with(Connection::open_with_flags(file, flags)?)?;
        store.hurry()?;
        store.connection.execute_batch(schema::TABLES)?;
        Ok(store)
    }

    /// Opens a copy of an index that nobody else knows yet, as after [`Store::create`].
    ///
    /// # Errors
    /// The file can't be used.
    pub fn open_copy(file: &Path) -> Result<Store, IndexError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let store = Store::with(Connection::open_with_flags(file, flags)?)?;
        schema::check_version(&store.connection)?;
        // Out of WAL mode first: there is no way from there to none at all.
        store.connection.pragma_update(None, "journal_mode", "DELETE")?;
        store.hurry()?;
        Ok(store)
    }

    fn hurry(&self) -> Result<(), IndexError> {
        self.connection.pragma_update(None, "journal_mode", "OFF")?;
        self.connection.pragma_update(None, "synchronous", "OFF")?;
        self.connection.pragma_update(None, "cache_size", -BUILDER_CACHE_KIB)?;
        self.connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        Ok(())
    }

    /// Makes users findable by name. Until then a created index takes them in much faster.
    ///
    /// # Errors
    /// The index can't be written; `Ok(false)`: two users have the same name.
    pub fn index_names(&self) -> Result<bool, IndexError> {
        match self.connection.execute_batch(schema::NAMES) {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation) => Ok(false),
            other => Ok(other.map(|()| true)?),
        }
    }

    /// Undoes [`Store::index_names`].
    pub fn forget_names(&self) -> Result<(), IndexError> {
        Ok(self.connection.execute_batch("DROP INDEX IF EXISTS users_by_name")?)
    }

    /// Tells the number of each user whose name a user of a lower number has, in no order, until told to
    /// stop. Works without the index of names.
    pub fn same_names(&self, tell: &mut dyn FnMut(UserId) -> bool) -> Result<(), IndexError> {
        let sql = "SELECT number, username FROM users ORDER BY username, number";
        let mut statement = self.connection.prepare(sql)?;
        let mut rows = statement.query([])?;
        let mut last: Option<String> = None;
        while let Some(row) = rows.next()? {
            let name = row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?;
            match &mut last {
                Some(last) if last == name => {
                    if !tell(row.get(0)?) {
                        break;
                    }
                }
                Some(last) => name.clone_into(last),
                None => last = Some(name.to_owned()),
            }
        }
        Ok(())
    }

    fn with(connection: Connection) -> Result<Store, IndexError> {
        connection.pragma_update(None, "cache_size", -WRITER_CACHE_KIB)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        Ok(Store { connection })
    }

    /// Declares a created index complete.
    ///
    /// # Errors
    /// The disk refused.
    pub fn finish(self) -> Result<(), IndexError> {
        self.connection.pragma_update(None, "user_version", schema::VERSION)?;
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

    /// The highest user number; 0 before the first.
    pub fn last_user(&self) -> Result<UserId, IndexError> {
        let sql = "SELECT max(number) FROM users";
        let last: Option<UserId> = self.connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
        Ok(last.unwrap_or(0).max(self.fact("last_user")?))
    }

    /// How many users there are. Takes time in proportion to that.
    pub fn count_users(&self) -> Result<u64, IndexError> {
        Ok(self.connection.query_row("SELECT count(*) FROM users", [], |row| row.get(0))?)
    }

    /// The number of a user.
    pub fn user_number(&self, username: &str) -> Result<Option<UserId>, IndexError> {
        let sql = "SELECT number FROM users WHERE username = ?1";
        Ok(self.connection.prepare_cached(sql)?.query_row([username], |row| row.get(0)).optional()?)
    }

    /// A user's name and in how many rooms they are.
    pub fn user(&self, number: UserId) -> Result<Option<(String, u64)>, IndexError> {
        let sql = "SELECT username, coalesce((SELECT rooms FROM room_counts WHERE user = number), 0)
                   FROM users WHERE number = ?1";
        let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
        Ok(self.connection.prepare_cached(sql)?.query_row([number], row).optional()?)
    }

    /// A room.
    pub fn room(&self, room_id: &str) -> Result<Option<RoomState>, IndexError> {
        let sql = "SELECT key, open, members FROM rooms WHERE room_id = ?1";
        let row = |row: &rusqlite::Row<'_>| {
            Ok(RoomState { key: row.get(0)?, open: row.get(1)?, members: row.get(2)? })
        };
        Ok(self.connection.prepare_cached(sql)?.query_row([room_id], row).optional()?)
    }

    /// Tells the names of all who are in a room, in order of joining.
    pub fn member_names(&self, room: i64, tell: &mut dyn FnMut(&str)) -> Result<(), IndexError> {
        let sql = "SELECT users.username FROM members JOIN users ON users.number = members.user
                   WHERE members.room = ?1 ORDER BY members.joined";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query([room])?;
        while let Some(row) = rows.next()? {
            tell(row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?);
        }
        Ok(())
    }

    /// Whether a user is in a room.
    pub fn is_member(&self, room: i64, user: UserId) -> Result<bool, IndexError> {
        let sql = "SELECT 1 FROM memberships WHERE user = ?1 AND room = ?2";
        Ok(self.connection.prepare_cached(sql)?.exists(params![user, room])?)
    }

    /// The generation of a user's tokens that is good.
    pub fn generation(&self, number: UserId) -> Result<u32, IndexError> {
        let sql = "SELECT generation FROM revocations WHERE user = ?1";
        let found = self.connection.prepare_cached(sql)?.query_row([number], |row| row.get(0)).optional()?;
        Ok(found.unwrap_or(0))
    }

    /// The text of a user's password hash; `None`: there is no such user, `Some(None)`: there is no hash.
    pub fn password(&self, number: UserId) -> Result<Option<Option<String>>, IndexError> {
        let sql = "SELECT password FROM users WHERE number = ?1";
        let row = |row: &rusqlite::Row<'_>| Ok(password::unpack(row.get_ref(0)?)?);
        Ok(self.connection.prepare_cached(sql)?.query_row([number], row).optional()?)
    }
}

impl LogName {
    /// The name of a log that is one file.
    pub fn file(self) -> &'static str {
        match self {
            LogName::Users => journal::USERS,
            _ => journal::ROOMS,
        }
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            LogName::Users => "users",
            LogName::Rooms => "rooms",
            LogName::Messages => "messages",
        }
    }
}

/// Makes the index's directory, private to this user.
///
/// # Errors
/// It is not there and can't be made.
pub fn make_directory(data_dir: &Path) -> Result<(), IndexError> {
    let directory = schema::directory(data_dir);
    match fs::DirBuilder::new().mode(0o700).create(&directory) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        other => Ok(other?),
    }
}
