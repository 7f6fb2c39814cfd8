//! Questions to the index, from any process.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::database::Follower;
use super::runs::file::RunFile;
use super::{IndexError, password, schema};
use crate::chat::{UserId, name};

/// Participants that [`RoomInfo`] names, at most.
pub const PARTICIPANTS_SHOWN: usize = 1_000;

/// Participants that a list of rooms names in all: once they are used up, a room shows no more than
/// [`PARTICIPANTS_ALWAYS_SHOWN`], so that a list of large rooms stays a few megabytes.
pub const NAMES_PER_LIST: usize = 100_000;

/// Participants that every room of a list names, if it has them.
pub const PARTICIPANTS_ALWAYS_SHOWN: usize = 10;

/// A user as the index has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The number.
    pub number: UserId,
    /// The name.
    pub username: String,
    /// Text of the password's hash; none: no password is right.
    pub password: Option<String>,
    /// How others see them in challenges.
    pub nickname: Option<String>,
    /// Where their picture is.
    pub profile_image: Option<String>,
    /// Unix time in milliseconds.
    pub created_at_ms: i64,
    /// [`Revocation::generation`]
    pub generation: u32,
}

/// Which of a user's tokens are good no more; the default: all are good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Revocation {
    /// Tokens of this generation are good; those before are not.
    pub generation: u32,
    /// When the latest one began, as Unix time in milliseconds.
    pub at_ms: i64,
    /// The record of `users.jsonl` that says so.
    pub rev: u64,
}

/// Which part of a list is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// Only what stands behind this: a [`RoomInfo::key`], or a [`Participants::next`].
    pub after: Option<i64>,
    /// Entries, at most.
    pub limit: usize,
}

/// A room as the index has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomInfo {
    /// Its place in lists; higher for rooms created later.
    pub key: i64,
    /// Its id.
    pub room_id: String,
    /// What users call it.
    pub name: String,
    /// Anybody may join.
    pub open: bool,
    /// Name of the user who created it.
    pub created_by: String,
    /// Unix time in milliseconds.
    pub created_at_ms: i64,
    /// How many are in it.
    pub participant_count: u64,
    /// The names of the first of them, at most [`PARTICIPANTS_SHOWN`], in order of joining. Fewer in
    /// long lists, see [`NAMES_PER_LIST`].
    pub participants: Vec<String>,
    /// Its newest message; 0: none. Follows what is published by a fraction of a second.
    pub last_seq: u64,
}

/// Ids of some of a user's rooms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomIds {
    /// The ids.
    pub room_ids: Vec<String>,
    /// Behind which key the next page begins; `None`: this is the last.
    pub next: Option<i64>,
}

/// Some of a room's participants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Participants {
    /// Names, in order of joining.
    pub names: Vec<String>,
    /// How many are in the room.
    pub count: u64,
    /// Behind whom the next page begins; `None`: this is the last. Those who join or leave meanwhile
    /// move nobody else.
    pub next: Option<i64>,
}

/// One read-only connection.
pub struct Reader {
    data_dir: PathBuf,
    follower: Follower,
    /// The runs that are open.
    pub(super) runs: Mutex<Vec<Arc<RunFile>>>,
}

impl Reader {
    /// Opens the index of a data directory.
    ///
    /// # Errors
    /// The storage writer has not made one yet, or it can't be read.
    pub fn open(data_dir: &Path) -> Result<Reader, IndexError> {
        let follower = Follower::open(schema::file(data_dir), schema::VERSION)?;
        Ok(Reader { data_dir: data_dir.to_owned(), follower, runs: Mutex::default() })
    }

    pub(super) fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The user of that name, in whichever spelling.
    ///
    /// # Errors
    /// The index can't be read; so for all questions below.
    pub fn user_by_name(&self, name: &str) -> Result<Option<User>, IndexError> {
        self.ask(|index| {
            let sql = format!("{USER} WHERE username = ?1");
            let mut statement = index.prepare_cached(&sql)?;
            let found =
                name::spellings(name).map(|spelling| statement.query_row([spelling], user).optional());
            found.filter_map(Result::transpose).next().transpose()
        })
    }

    /// The user of that number.
    pub fn user_by_number(&self, number: UserId) -> Result<Option<User>, IndexError> {
        self.ask(|index| {
            let sql = format!("{USER} WHERE number = ?1");
            index.prepare_cached(&sql)?.query_row([number], user).optional()
        })
    }

    /// Which of a user's tokens are good no more.
    pub fn revocation(&self, user: UserId) -> Result<Revocation, IndexError> {
        self.ask(|index| {
            let sql = "SELECT generation, at_ms, rev FROM revocations WHERE user = ?1";
            let row = |row: &Row<'_>| {
                Ok(Revocation { generation: row.get(0)?, at_ms: row.get(1)?, rev: row.get(2)? })
            };
            Ok(index.prepare_cached(sql)?.query_row([user], row).optional()?.unwrap_or_default())
        })
    }

    /// Users whose latest revocation is behind record `rev`, in order, each with its record.
    pub fn revoked_after(&self, rev: u64, limit: usize) -> Result<Vec<(UserId, u64)>, IndexError> {
        self.ask(|index| {
            let sql = "SELECT user, rev FROM revocations WHERE rev > ?1 ORDER BY rev LIMIT ?2";
            let row = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
            index.prepare_cached(sql)?.query_map(params![rev, rows(limit)], row)?.collect()
        })
    }

    /// The record of the latest revocation of all; 0: there was none.
    pub fn last_revocation(&self) -> Result<u64, IndexError> {
        self.ask(|index| {
            let sql = "SELECT coalesce(max(rev), 0) FROM revocations";
            index.prepare_cached(sql)?.query_row([], |row| row.get(0))
        })
    }

    /// A page of the ids of the rooms a user is in, in order of their creation, behind `after`.
    pub fn room_ids_of(&self, user: UserId, after: i64, limit: usize) -> Result<RoomIds, IndexError> {
        self.ask(|index| {
            let sql = "SELECT rooms.key, rooms.room_id FROM memberships
                       JOIN rooms ON rooms.key = memberships.room
                       WHERE memberships.user = ?1 AND memberships.room > ?2
                       ORDER BY memberships.room LIMIT ?3";
            let (mut room_ids, mut last) = (Vec::new(), after);
            let mut statement = index.prepare_cached(sql)?;
            let mut rows = statement.query(params![user, after, rows(limit)])?;
            while let Some(row) = rows.next()? {
                last = row.get(0)?;
                room_ids.push(row.get(1)?);
            }
            let next = (room_ids.len() == limit).then_some(last);
            Ok(RoomIds { room_ids, next })
        })
    }

    /// A page of a room's participants, in order of joining; `None`: there is no such room.
    pub fn participants(&self, room_id: &str, page: Page) -> Result<Option<Participants>, IndexError> {
        self.ask(|index| {
            // Count and names belong together.
            let _transaction = index.unchecked_transaction()?;
            let sql = "SELECT key, members FROM rooms WHERE room_id = ?1";
            let room = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
            let found: Option<(i64, u64)> =
                index.prepare_cached(sql)?.query_row([room_id], room).optional()?;
            let Some((key, count)) = found else {
                return Ok(None);
            };
            // One more than asked for tells whether there is a next page.
            let more = Page { limit: page.limit + 1, ..page };
            let mut named = participants(index, key, more)?;
            let next = (named.len() > page.limit).then(|| named[page.limit - 1].0);
            named.truncate(page.limit);
            let names = named.into_iter().map(|(_, name)| name).collect();
            Ok(Some(Participants { names, count, next }))
        })
    }

    /// The rooms a user is in, in order of their creation.
    pub fn rooms_of(&self, user: UserId, page: Page) -> Result<Vec<RoomInfo>, IndexError> {
        self.ask(|index| {
            let transaction = index.unchecked_transaction()?;
            let sql = format!(
                "{ROOM} JOIN memberships ON memberships.room = rooms.key
                 WHERE memberships.user = ?1 AND memberships.room > ?2
                 ORDER BY memberships.room LIMIT ?3"
            );
            let mut statement = index.prepare_cached(&sql)?;
            let after = page.after.unwrap_or(0);
            let found = statement.query_map(params![user, after, rows(page.limit)], room)?;
            let mut rooms = found.collect::<Result<Vec<_>, _>>()?;
            let mut left = NAMES_PER_LIST;
            for room in &mut rooms {
                let shown = left.clamp(PARTICIPANTS_ALWAYS_SHOWN, PARTICIPANTS_SHOWN);
                room.participants = first_participants(&transaction, room.key, shown)?;
                left = left.saturating_sub(room.participants.len());
            }
            Ok(rooms)
        })
    }

    /// A room by its id.
    pub fn room(&self, room_id: &str) -> Result<Option<RoomInfo>, IndexError> {
        self.ask(|index| {
            let transaction = index.unchecked_transaction()?;
            let sql = format!("{ROOM} WHERE rooms.room_id = ?1");
            let found = index.prepare_cached(&sql)?.query_row([room_id], room).optional()?;
            let Some(mut found) = found else {
                return Ok(None);
            };
            found.participants = first_participants(&transaction, found.key, PARTICIPANTS_SHOWN)?;
            Ok(Some(found))
        })
    }

    /// Whether there is such a room.
    pub fn has_room(&self, room_id: &str) -> Result<bool, IndexError> {
        self.ask(|index| index.prepare_cached("SELECT 1 FROM rooms WHERE room_id = ?1")?.exists([room_id]))
    }

    /// Whether a user is in a room. `false`, too, if there is no such room.
    pub fn is_member(&self, room_id: &str, user: UserId) -> Result<bool, IndexError> {
        self.ask(|index| {
            let sql = "SELECT 1 FROM rooms JOIN memberships ON memberships.room = rooms.key
                       WHERE rooms.room_id = ?1 AND memberships.user = ?2";
            index.prepare_cached(sql)?.exists(params![room_id, user])
        })
    }

    /// The newest message of a room; 0: none, or no such room.
    pub fn last_seq(&self, room_id: &str) -> Result<u64, IndexError> {
        self.ask(|index| {
            let sql = "SELECT last_seq FROM rooms WHERE room_id = ?1";
            let found = index.prepare_cached(sql)?.query_row([room_id], |row| row.get(0)).optional()?;
            Ok(found.unwrap_or(0))
        })
    }

    pub(super) fn ask<T>(
        &self,
        question: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, IndexError> {
        self.follower.ask(question)
    }
}

/// What [`user`] reads.
const USER: &str = "SELECT number, username, password, nickname, profile_image, created_ms,
  coalesce(revocations.generation, 0)
  FROM users LEFT JOIN revocations ON revocations.user = users.number";

fn user(row: &Row<'_>) -> rusqlite::Result<User> {
    Ok(User {
        number: row.get(0)?,
        username: row.get(1)?,
        password: password::unpack(row.get_ref(2)?)?,
        nickname: row.get(3)?,
        profile_image: row.get(4)?,
        created_at_ms: row.get(5)?,
        generation: row.get(6)?,
    })
}

/// What [`room`] reads.
const ROOM: &str = "SELECT rooms.key, rooms.room_id, rooms.name, rooms.open, users.username,
  rooms.created_ms, rooms.members, rooms.last_seq
  FROM rooms LEFT JOIN users ON users.number = rooms.created_by";

fn room(row: &Row<'_>) -> rusqlite::Result<RoomInfo> {
    Ok(RoomInfo {
        key: row.get(0)?,
        room_id: row.get(1)?,
        name: row.get(2)?,
        open: row.get(3)?,
        created_by: row.get::<_, Option<String>>(4)?.unwrap_or_default(),
        created_at_ms: row.get(5)?,
        participant_count: row.get(6)?,
        participants: Vec::new(),
        last_seq: row.get(7)?,
    })
}

fn first_participants(index: &Connection, room: i64, limit: usize) -> rusqlite::Result<Vec<String>> {
    let named = participants(index, room, Page { after: None, limit })?;
    Ok(named.into_iter().map(|(_, name)| name).collect())
}

/// Participants with their places in the order of joining.
fn participants(index: &Connection, room: i64, page: Page) -> rusqlite::Result<Vec<(i64, String)>> {
    let sql = "SELECT members.joined, users.username FROM members
               JOIN users ON users.number = members.user
               WHERE members.room = ?1 AND members.joined > ?2 ORDER BY members.joined LIMIT ?3";
    let values = params![room, page.after.unwrap_or(i64::MIN), rows(page.limit)];
    index.prepare_cached(sql)?.query_map(values, |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

/// A limit as SQL knows it.
fn rows(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
