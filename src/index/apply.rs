//! What records do to the index: each is applied within a transaction of the writing connection.

use rusqlite::{OptionalExtension, params};

use super::store::{LogName, Progress, Store};
use super::{IndexError, password};
use crate::chat::UserId;
use crate::journal::deletions::Deletions;
use crate::journal::record::{NOBODY, Profile, RoomChange, RoomRecord, UserChange, UserRecord};

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

impl Store {
    /// Brings deletions into the index, within a transaction; those that are there already change
    /// nothing.
    pub fn apply_deletions(&self, deletions: &Deletions) -> Result<(), IndexError> {
        if self.fact("users_deleted")? < deletions.users {
            // Without a condition SQLite frees the pages and reads no rows.
            self.connection.execute_batch(
                "DELETE FROM users; DELETE FROM revocations; DELETE FROM rooms; DELETE FROM memberships; DELETE FROM members;
                 DELETE FROM room_counts; DELETE FROM departures;",
            )?;
            self.set_fact("users_deleted", deletions.users)?;
            self.set_fact("last_user", deletions.last_user)?;
        }
        if self.fact("messages_deleted")? < deletions.upto {
            let index = &self.connection;
            index.execute("DELETE FROM segments WHERE number < ?1", [deletions.first_file])?;
            // One that reaches over the end names files that are gone, which have no messages.
            index.execute("DELETE FROM runs WHERE last_segment < ?1", [deletions.first_file])?;
            index.execute("DELETE FROM times WHERE first_seq <= ?1", [deletions.upto])?;
            let sql = "UPDATE rooms SET last_seq = 0 WHERE last_seq BETWEEN 1 AND ?1";
            self.connection.execute(sql, [deletions.upto])?;
            let last = self.progress(LogName::Messages)?.last.max(deletions.upto);
            self.set_progress(LogName::Messages, Progress { last, ..Progress::default() })?;
            self.set_fact("messages_deleted", deletions.upto)?;
        }
        Ok(())
    }

    pub(super) fn fact(&self, name: &str) -> Result<u64, IndexError> {
        let sql = "SELECT value FROM facts WHERE name = ?1";
        let found = self.connection.prepare_cached(sql)?.query_row([name], |row| row.get(0)).optional()?;
        Ok(found.unwrap_or(0))
    }

    fn set_fact(&self, name: &str, value: u64) -> Result<(), IndexError> {
        let sql = "INSERT OR REPLACE INTO facts (name, value) VALUES (?1, ?2)";
        self.connection.prepare_cached(sql)?.execute(params![name, value])?;
        Ok(())
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
            UserChange::Password { text, .. } => {
                let sql = "UPDATE users SET password = ?2 WHERE number = ?1";
                self.connection.prepare_cached(sql)?.execute(params![record.user_id, password::pack(text)])?
            }
            UserChange::Profile { nickname, profile_image } => {
                let sql = "UPDATE users SET nickname = ?2, profile_image = ?3 WHERE number = ?1";
                let values = params![record.user_id, nickname, profile_image];
                self.connection.prepare_cached(sql)?.execute(values)?
            }
            UserChange::Revoked { .. } => usize::from(self.user(record.user_id)?.is_some()),
        };
        if let (1, Some(generation)) = (done, record.change.generation()) {
            self.revoke(record, generation)?;
        }
        Ok(done == 1)
    }

    fn revoke(&self, record: &UserRecord, generation: u32) -> Result<(), IndexError> {
        let sql = "INSERT OR REPLACE INTO revocations (user, generation, at_ms, rev) VALUES (?1, ?2, ?3, ?4)";
        let values = params![record.user_id, generation, record.at, record.rev];
        self.connection.prepare_cached(sql)?.execute(values)?;
        Ok(())
    }

    /// Applies a record of `chatrooms.jsonl`. Records of rooms that are not there, and of members that
    /// are there already, change nothing.
    pub fn apply_room(&self, record: &RoomRecord) -> Result<(), IndexError> {
        match &record.change {
            RoomChange::Created { members, .. } => {
                let key = self.insert_room(record)?;
                self.add_members(key, record, members)
            }
            RoomChange::Joined { room_id, users, .. } => match self.room(room_id)? {
                Some(room) => self.add_members(room.key, record, users),
                None => Ok(()),
            },
            RoomChange::Left { room_id, user, deleted, .. } => match self.room(room_id)? {
                Some(room) => self.remove_member(room.key, *user, *deleted)?.map_or(Ok(()), |since| {
                    self.remember_departure((*user, room_id), since, (record.rev, record.after_seq))
                }),
                None => Ok(()),
            },
        }
    }

    /// Adds a room without members; answers its key. The record must be one of a room's creation.
    pub(super) fn insert_room(&self, record: &RoomRecord) -> Result<i64, IndexError> {
        // The record's number makes a key that a rebuilt index gives again.
        let key = i64::try_from(record.rev).unwrap_or(i64::MAX);
        if let RoomChange::Created { room_id, name, open, created_by, .. } = &record.change {
            let sql = "INSERT INTO rooms (key, room_id, name, open, created_by, created_ms, members)
                       VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0)";
            let values = params![key, room_id, name, open, created_by, record.at];
            self.connection.prepare_cached(sql)?.execute(values)?;
        }
        Ok(key)
    }

    /// Removes a room.
    pub(super) fn delete_room(&self, room: i64) -> Result<(), IndexError> {
        self.connection.prepare_cached("DELETE FROM rooms WHERE key = ?1")?.execute([room])?;
        Ok(())
    }

    /// A user is in so many rooms more.
    pub(super) fn count_rooms(&self, user: UserId, more: i64) -> Result<(), IndexError> {
        if more == 0 {
            return Ok(());
        }
        let sql = "INSERT INTO room_counts (user, rooms) VALUES (?1, ?2)
                   ON CONFLICT (user) DO UPDATE SET rooms = rooms + ?2";
        self.connection.prepare_cached(sql)?.execute(params![user, more])?;
        if more < 0 {
            let sql = "DELETE FROM room_counts WHERE user = ?1 AND rooms <= 0";
            self.connection.prepare_cached(sql)?.execute([user])?;
        }
        Ok(())
    }

    fn add_members(&self, room: i64, record: &RoomRecord, users: &[UserId]) -> Result<(), IndexError> {
        let index = &self.connection;
        let sql = "INSERT OR IGNORE INTO memberships (user, room, joined, after_seq)
                   VALUES (?1, ?2, ?3, ?4)";
        let mut membership = index.prepare_cached(sql)?;
        let mut member =
            index.prepare_cached("INSERT INTO members (room, joined, user) VALUES (?1, ?2, ?3)")?;
        let first = first_joined(record.rev);
        let mut added = 0;
        // A compacted record has nobody in the places of those who have left.
        for (joined, user) in (first..).zip(users).filter(|(_, user)| **user != NOBODY) {
            if membership.execute(params![user, room, joined, record.after_seq])? == 1 {
                member.execute(params![room, joined, user])?;
                self.count_rooms(*user, 1)?;
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
            self.count_rooms(user, -1)?;
            let sql = "UPDATE rooms SET members = members - 1 WHERE key = ?1";
            index.prepare_cached(sql)?.execute([room])?;
        }
        if deleted {
            self.delete_room(room)?;
        }
        Ok(since)
    }

    /// Memberships that ended up to now may be missing: who was away by now can't be told of them.
    pub fn forget_departures(&self) -> Result<(), IndexError> {
        self.set_fact(DEPARTURES_SINCE, self.progress(LogName::Messages)?.last)
    }

    /// Keeps when a membership was (`joined` and the last message before it, number of its end and the last
    /// message before that), and forgets the one that ended [`DEPARTURES`] ends before it.
    pub(super) fn remember_departure(
        &self,
        (user, room_id): (UserId, &str),
        (joined, after_seq): (i64, u64),
        (rev, upto_seq): (u64, u64),
    ) -> Result<(), IndexError> {
        let index = &self.connection;
        let sql = "INSERT INTO departures (user, room_id, joined, after_seq, rev, upto_seq)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        let values = params![user, room_id, joined, after_seq, rev, upto_seq];
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

    /// Raises the newest messages of the next `most` rooms behind key `after` as `newest` says; answers the
    /// last of them, `None`: there are no more.
    pub(super) fn raise_last_seqs(
        &self,
        after: i64,
        most: u64,
        newest: &dyn Fn(&str) -> Option<u64>,
    ) -> Result<Option<i64>, IndexError> {
        let sql = "SELECT key, room_id, last_seq FROM rooms WHERE key > ?1 ORDER BY key LIMIT ?2";
        let (mut last, mut raised) = (None, Vec::new());
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query(params![after, most])?;
        while let Some(row) = rows.next()? {
            let (key, had): (i64, u64) = (row.get(0)?, row.get(2)?);
            let room_id = row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?;
            raised.extend(newest(room_id).filter(|seq| *seq > had).map(|seq| (key, seq)));
            last = Some(key);
        }
        let mut update = self.connection.prepare_cached("UPDATE rooms SET last_seq = ?2 WHERE key = ?1")?;
        for (key, seq) in raised {
            update.execute(params![key, seq])?;
        }
        Ok(last)
    }
}
