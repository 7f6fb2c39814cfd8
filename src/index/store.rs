//! The index's one writing connection: applies records, answers what must be known to judge a
//! change, and remembers how far in the logs it is.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, params};

use super::{IndexError, password, schema};
use crate::chat::UserId;
use crate::journal;
use crate::journal::deletions::Deletions;
use crate::journal::record::{NOBODY, Profile, RoomChange, RoomRecord, UserChange, UserRecord};

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
        // The places that were put in are those of the rooms that were left.
        self.connection.execute_batch("DELETE FROM gone_rooms")?;
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

    /// Brings deletions into the index, within a transaction; those that are there already change
    /// nothing.
    pub fn apply_deletions(&self, deletions: &Deletions) -> Result<(), IndexError> {
        if self.fact("users_deleted")? < deletions.users {
            // Without a condition SQLite frees the pages and reads no rows.
            self.connection.execute_batch(
                "DELETE FROM users; DELETE FROM rooms; DELETE FROM memberships; DELETE FROM members;
                 DELETE FROM departures;
                 DELETE FROM room_segments; DELETE FROM gone_rooms;",
            )?;
            self.set_fact("users_deleted", deletions.users)?;
            self.set_fact("last_user", deletions.last_user)?;
        }
        if self.fact("messages_deleted")? < deletions.upto {
            if self.last_file()?.is_none_or(|file| file.number < deletions.first_file) {
                self.connection
                    .execute_batch("DELETE FROM segments; DELETE FROM room_segments; DELETE FROM times;")?;
            } else {
                let index = &self.connection;
                index.execute("DELETE FROM segments WHERE number < ?1", [deletions.first_file])?;
                index.execute("DELETE FROM room_segments WHERE segment < ?1", [deletions.first_file])?;
                index.execute("DELETE FROM times WHERE first_seq <= ?1", [deletions.upto])?;
            }
            let sql = "UPDATE rooms SET last_seq = 0 WHERE last_seq BETWEEN 1 AND ?1";
            self.connection.execute(sql, [deletions.upto])?;
            let last = self.progress(LogName::Messages)?.last.max(deletions.upto);
            self.set_progress(LogName::Messages, Progress { last, ..Progress::default() })?;
            self.set_fact("messages_deleted", deletions.upto)?;
        }
        Ok(())
    }

    fn fact(&self, name: &str) -> Result<u64, IndexError> {
        let sql = "SELECT value FROM facts WHERE name = ?1";
        let found = self.connection.prepare_cached(sql)?.query_row([name], |row| row.get(0)).optional()?;
        Ok(found.unwrap_or(0))
    }

    fn set_fact(&self, name: &str, value: u64) -> Result<(), IndexError> {
        let sql = "INSERT OR REPLACE INTO facts (name, value) VALUES (?1, ?2)";
        self.connection.prepare_cached(sql)?.execute(params![name, value])?;
        Ok(())
    }

    /// The number of a user.
    pub fn user_number(&self, username: &str) -> Result<Option<UserId>, IndexError> {
        let sql = "SELECT number FROM users WHERE username = ?1";
        Ok(self.connection.prepare_cached(sql)?.query_row([username], |row| row.get(0)).optional()?)
    }

    /// A user's name and in how many rooms they are.
    pub fn user(&self, number: UserId) -> Result<Option<(String, u64)>, IndexError> {
        let sql = "SELECT username, rooms FROM users WHERE number = ?1";
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

    /// The text of a user's password hash; `None`: there is no such user, `Some(None)`: there is no hash.
    pub fn password(&self, number: UserId) -> Result<Option<Option<String>>, IndexError> {
        let sql = "SELECT password FROM users WHERE number = ?1";
        let row = |row: &rusqlite::Row<'_>| Ok(password::unpack(row.get_ref(0)?)?);
        Ok(self.connection.prepare_cached(sql)?.query_row([number], row).optional()?)
    }

    /// Applies a record of `users.jsonl`; `false`: the name or the number is taken, or nobody has that
    /// number, and nothing was done. While there is no index of names, no name is found to be taken.
    pub fn apply_user(&self, record: &UserRecord) -> Result<bool, IndexError> {
        let done = match &record.change {
            UserChange::Created(profile) => {
                let sql = "INSERT OR IGNORE INTO users
                           (number, username, password, nickname, profile_image, created_ms)
                           VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
                let Profile { username, nickname, profile_image, .. } = profile;
                let password = profile.password.as_deref().map(password::pack);
                let values = params![record.user_id, username, password, nickname, profile_image, record.at];
                self.connection.prepare_cached(sql)?.execute(values)?
            }
            UserChange::Password(text) => {
                let sql = "UPDATE users SET password = ?2 WHERE number = ?1";
                self.connection.prepare_cached(sql)?.execute(params![record.user_id, password::pack(text)])?
            }
        };
        Ok(done == 1)
    }

    /// Applies a record of `chatrooms.jsonl`. Records of rooms that are not there, and of members that
    /// are there already, change nothing.
    pub fn apply_room(&self, record: &RoomRecord) -> Result<(), IndexError> {
        match &record.change {
            RoomChange::Created { room_id, name, open, created_by, members, .. } => {
                // The record's number makes a key that a rebuilt index gives again.
                let sql = "INSERT INTO rooms (key, room_id, name, open, created_by, created_ms, members)
                           VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0)";
                let values = params![record.rev, room_id, name, open, created_by, record.at];
                self.connection.prepare_cached(sql)?.execute(values)?;
                self.add_members(self.connection.last_insert_rowid(), record, members)
            }
            RoomChange::Joined { room_id, users, .. } => match self.room(room_id)? {
                Some(room) => self.add_members(room.key, record, users),
                None => Ok(()),
            },
            RoomChange::Left { room_id, user, deleted, .. } => match self.room(room_id)? {
                Some(room) => self
                    .remove_member(room.key, *user, *deleted)?
                    .map_or(Ok(()), |since| self.remember_departure(record, room_id, *user, since)),
                None => Ok(()),
            },
        }
    }

    fn add_members(&self, room: i64, record: &RoomRecord, users: &[UserId]) -> Result<(), IndexError> {
        let index = &self.connection;
        let sql = "INSERT OR IGNORE INTO memberships (user, room, joined, after_seq)
                   VALUES (?1, ?2, ?3, ?4)";
        let mut membership = index.prepare_cached(sql)?;
        let mut member =
            index.prepare_cached("INSERT INTO members (room, joined, user) VALUES (?1, ?2, ?3)")?;
        let mut user_row = index.prepare_cached("UPDATE users SET rooms = rooms + 1 WHERE number = ?1")?;
        let first = first_joined(record.rev);
        let mut added = 0;
        // A compacted record has nobody in the places of those who have left.
        for (joined, user) in (first..).zip(users).filter(|(_, user)| **user != NOBODY) {
            if membership.execute(params![user, room, joined, record.after_seq])? == 1 {
                member.execute(params![room, joined, user])?;
                user_row.execute([user])?;
                added += 1;
            }
        }
        let sql = "UPDATE rooms SET members = members + ?2 WHERE key = ?1";
        index.prepare_cached(sql)?.execute(params![room, added])?;
        Ok(())
    }

    /// Answers the membership's `joined` and `after_seq`, if there was one.
    fn remove_member(
        &self,
        room: i64,
        user: UserId,
        deleted: bool,
    ) -> Result<Option<(i64, u64)>, IndexError> {
        let index = &self.connection;
        let sql = "DELETE FROM memberships WHERE user = ?1 AND room = ?2 RETURNING joined, after_seq";
        let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
        let since: Option<(i64, u64)> =
            index.prepare_cached(sql)?.query_row(params![user, room], row).optional()?;
        if let Some((joined, _)) = since {
            let sql = "DELETE FROM members WHERE room = ?1 AND joined = ?2";
            index.prepare_cached(sql)?.execute(params![room, joined])?;
            index.prepare_cached("UPDATE users SET rooms = rooms - 1 WHERE number = ?1")?.execute([user])?;
            let sql = "UPDATE rooms SET members = members - 1 WHERE key = ?1";
            index.prepare_cached(sql)?.execute([room])?;
        }
        if deleted {
            index.prepare_cached("DELETE FROM rooms WHERE key = ?1")?.execute([room])?;
            // It may have more rows than fit a moment: they go bit by bit.
            index.prepare_cached("INSERT OR IGNORE INTO gone_rooms (room) VALUES (?1)")?.execute([room])?;
        }
        Ok(since)
    }

    /// Memberships that ended up to now may be missing: who was away by now can't be told of them.
    pub fn forget_departures(&self) -> Result<(), IndexError> {
        self.set_fact(DEPARTURES_SINCE, self.progress(LogName::Messages)?.last)
    }

    /// Keeps when a membership was, and forgets the one that ended [`DEPARTURES`] ends before it.
    fn remember_departure(
        &self,
        record: &RoomRecord,
        room_id: &str,
        user: UserId,
        (joined, after_seq): (i64, u64),
    ) -> Result<(), IndexError> {
        let index = &self.connection;
        let sql = "INSERT INTO departures (user, room_id, joined, after_seq, rev, upto_seq)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        let values = params![user, room_id, joined, after_seq, record.rev, record.after_seq];
        index.prepare_cached(sql)?.execute(values)?;
        let kept = index.last_insert_rowid() - DEPARTURES;
        index.prepare_cached("DELETE FROM departures WHERE number <= ?1")?.execute([kept])?;
        Ok(())
    }

    /// Raises the newest message of a room.
    pub fn set_last_seq(&self, room_id: &str, seq: u64) -> Result<(), IndexError> {
        let sql = "UPDATE rooms SET last_seq = ?2 WHERE room_id = ?1 AND last_seq < ?2";
        self.connection.prepare_cached(sql)?.execute(params![room_id, seq])?;
        Ok(())
    }
}

/// The fact from behind which message on ended memberships are known.
pub(super) const DEPARTURES_SINCE: &str = "departures_since";

/// Ended memberships that are remembered. Who was away longer than that many ends reach back, on the
/// whole server, is told of a gap.
pub const DEPARTURES: i64 = 1_000_000;

/// Places within one record that `joined` has room for: more than one call may name.
pub(super) const JOINED_BITS: u32 = 18;

/// The `joined` of a record's first place.
pub(super) fn first_joined(rev: u64) -> i64 {
    i64::try_from(rev).unwrap_or(i64::MAX >> JOINED_BITS) << JOINED_BITS
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
