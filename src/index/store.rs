//! The index's one writing connection: applies records, and answers what must be known to judge a change.

use std::fs;
use std::ops::Deref;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use rusqlite::{ErrorCode, OptionalExtension, params};

use super::database::Database;
pub use super::database::Progress;
use super::{IndexError, password, schema};
use crate::chat::{UserId, name};
use crate::journal;

/// Which log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogName {
    /// `users.jsonl`
    Users,
    /// `chatrooms.jsonl`
    Rooms,
    /// The messages; only the last `seq` is kept.
    Messages,
    /// `challenges.jsonl`, which has a database of its own.
    Challenges,
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
    database: Database,
}

impl Deref for Store {
    type Target = Database;

    fn deref(&self) -> &Database {
        &self.database
    }
}

/// A nickname and a picture, as far as there are.
pub type Looks = (Option<String>, Option<String>);

impl Store {
    /// Opens the index of a data directory for writing; `None`: there is none yet.
    ///
    /// # Errors
    /// There is one that can't be used.
    pub fn open(data_dir: &Path) -> Result<Option<Store>, IndexError> {
        let database = Database::open(&schema::file(data_dir), schema::VERSION)?;
        Ok(database.map(|database| Store { database }))
    }

    /// Makes an empty index in a file that nobody else knows yet; it is not safe from crashes until
    /// [`Store::finish`].
    ///
    /// # Errors
    /// The file can't be made.
    pub fn create(file: &Path) -> Result<Store, IndexError> {
        Ok(Store { database: Database::create(file, schema::TABLES)? })
    }

    /// Opens a copy of an index that nobody else knows yet, as after [`Store::create`].
    ///
    /// # Errors
    /// The file can't be used.
    pub fn open_copy(file: &Path) -> Result<Store, IndexError> {
        Ok(Store { database: Database::open_copy(file, schema::VERSION)? })
    }

    /// Declares a created index complete.
    ///
    /// # Errors
    /// The disk refused.
    pub fn finish(self) -> Result<(), IndexError> {
        self.database.finish(schema::VERSION)
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

    /// The number of the user of a name, in whichever spelling.
    pub fn user_number(&self, username: &str) -> Result<Option<UserId>, IndexError> {
        let mut statement = self.connection.prepare_cached("SELECT number FROM users WHERE username = ?1")?;
        let number = |spelling| statement.query_row([spelling], |row| row.get(0)).optional();
        let found = name::spellings(username).map(number);
        Ok(found.filter_map(Result::transpose).next().transpose()?)
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

    /// A user's nickname and picture; `None`: there is no such user.
    pub fn looks(&self, number: UserId) -> Result<Option<Looks>, IndexError> {
        let sql = "SELECT nickname, profile_image FROM users WHERE number = ?1";
        let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
        Ok(self.connection.prepare_cached(sql)?.query_row([number], row).optional()?)
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
            LogName::Challenges => journal::CHALLENGES,
            LogName::Rooms | LogName::Messages => journal::ROOMS,
        }
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            LogName::Users => "users",
            LogName::Rooms => "rooms",
            LogName::Messages => "messages",
            LogName::Challenges => "challenges",
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
