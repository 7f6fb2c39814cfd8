//! Who is there, as the index has it, and what of a record still matters by that.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, params};

use crate::chat::UserId;
use crate::index::apply::first_joined;
use crate::index::{IndexError, password, schema};
use crate::journal::record::{NOBODY, Record, RoomChange, RoomRecord, UserChange, UserRecord};

/// What of a record still matters.
pub(super) enum Kept<R> {
    All,
    Part(R),
    Nothing,
}

/// Who is there, as the index has it.
pub struct Living {
    index: Connection,
}

impl Living {
    /// Reads the index of a data directory.
    ///
    /// # Errors
    /// It can't be read.
    pub fn open(data_dir: &Path) -> Result<Living, IndexError> {
        Ok(Living { index: schema::open_reader(data_dir)? })
    }

    fn has_user(&self, number: UserId) -> Result<bool, IndexError> {
        Ok(self.index.prepare_cached("SELECT 1 FROM users WHERE number = ?1")?.exists([number])?)
    }

    fn password(&self, number: UserId) -> Result<Option<String>, IndexError> {
        let sql = "SELECT password FROM users WHERE number = ?1";
        let row = |row: &rusqlite::Row<'_>| Ok(password::unpack(row.get_ref(0)?)?);
        Ok(self.index.prepare_cached(sql)?.query_row([number], row).optional()?.flatten())
    }

    fn looks(&self, number: UserId) -> Result<Option<[Option<String>; 2]>, IndexError> {
        let sql = "SELECT nickname, profile_image FROM users WHERE number = ?1";
        let row = |row: &rusqlite::Row<'_>| Ok([row.get(0)?, row.get(1)?]);
        Ok(self.index.prepare_cached(sql)?.query_row([number], row).optional()?)
    }

    fn generation(&self, number: UserId) -> Result<Option<u32>, IndexError> {
        let sql = "SELECT generation FROM revocations WHERE user = ?1";
        Ok(self.index.prepare_cached(sql)?.query_row([number], |row| row.get(0)).optional()?)
    }

    fn room_key(&self, room_id: &str) -> Result<Option<i64>, IndexError> {
        let sql = "SELECT key FROM rooms WHERE room_id = ?1";
        Ok(self.index.prepare_cached(sql)?.query_row([room_id], |row| row.get(0)).optional()?)
    }

    /// The members that are in the room by this record, each in its place; empty: none is.
    fn members(&self, room: i64, rev: u64, users: &[UserId]) -> Result<Vec<UserId>, IndexError> {
        let sql = "SELECT 1 FROM memberships WHERE user = ?1 AND room = ?2 AND joined = ?3";
        let mut statement = self.index.prepare_cached(sql)?;
        let mut kept = Vec::with_capacity(users.len());
        for (joined, user) in (first_joined(rev)..).zip(users) {
            let stays = statement.exists(params![user, room, joined])?;
            kept.push(if stays { *user } else { NOBODY });
        }
        while kept.last() == Some(&NOBODY) {
            kept.pop();
        }
        Ok(kept)
    }
}

/// A record that can be judged.
pub(super) trait Mortal: Record {
    fn judge(&self, living: &Living) -> Result<Kept<Self>, IndexError>;
    /// The user number it gave, if it did.
    fn number(&self) -> UserId;
}

impl Mortal for UserRecord {
    fn judge(&self, living: &Living) -> Result<Kept<Self>, IndexError> {
        let generation = self.change.generation();
        let revokes = generation.is_some() && living.generation(self.user_id)? == generation;
        Ok(match &self.change {
            UserChange::Created(_) if living.has_user(self.user_id)? => Kept::All,
            UserChange::Password { text, .. } if living.password(self.user_id)?.as_ref() == Some(text) => {
                Kept::All
            }
            // The password has been changed since, and without ending tokens again.
            UserChange::Password { generation: Some(generation), .. } if revokes => Kept::Part(UserRecord {
                change: UserChange::Revoked { generation: *generation },
                ..self.clone()
            }),
            UserChange::Profile { nickname, profile_image }
                if living.looks(self.user_id)?.as_ref().map(|[nickname, image]| (nickname, image))
                    == Some((nickname, profile_image)) =>
            {
                Kept::All
            }
            UserChange::Revoked { .. } if revokes => Kept::All,
            _ => Kept::Nothing,
        })
    }
    fn number(&self) -> UserId {
        match self.change {
            UserChange::Created(_) => self.user_id,
            UserChange::Password { .. } | UserChange::Profile { .. } | UserChange::Revoked { .. } => 0,
        }
    }
}

impl Mortal for RoomRecord {
    fn judge(&self, living: &Living) -> Result<Kept<Self>, IndexError> {
        let (RoomChange::Created { room_id, .. } | RoomChange::Joined { room_id, .. }) = &self.change else {
            return Ok(Kept::Nothing);
        };
        let Some(key) = living.room_key(room_id)? else {
            return Ok(Kept::Nothing);
        };
        let creates = matches!(self.change, RoomChange::Created { .. });
        let (RoomChange::Created { members, .. } | RoomChange::Joined { users: members, .. }) = &self.change
        else {
            return Ok(Kept::Nothing);
        };
        // A room of this id that was made later is another room.
        let rev = i64::try_from(self.rev).unwrap_or(i64::MAX);
        if creates && key != rev || !creates && key > rev {
            return Ok(Kept::Nothing);
        }
        let kept = living.members(key, self.rev, members)?;
        if kept == *members {
            return Ok(Kept::All);
        }
        if kept.is_empty() && !creates {
            return Ok(Kept::Nothing);
        }
        let mut part = self.clone();
        if let RoomChange::Created { members, .. } | RoomChange::Joined { users: members, .. } =
            &mut part.change
        {
            *members = kept;
        }
        Ok(Kept::Part(part))
    }
    fn number(&self) -> UserId {
        0
    }
}
