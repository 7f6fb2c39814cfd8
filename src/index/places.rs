//! The index's tables of where messages stand: writing them, and asking them.

use std::time::{Duration, Instant};

use rusqlite::{OptionalExtension, Row as SqlRow, params};

use super::sealed::{Piece, SealedFile};
use super::store::Store;
use super::{IndexError, Reader};
use crate::chat::UserId;
use crate::journal::places::{self, Located};

/// Rows of a room that is gone, removed in one step.
const GONE_ROWS: u64 = 200;

/// Rows put in between two looks at the clock.
const ROWS_AT_ONCE: usize = 16;

impl Store {
    /// Puts in some more of a piece, for about as long as said, in a transaction of its own; answers
    /// whether that was the last of it.
    ///
    /// # Errors
    /// The index can't be written; the piece is as before, and a transaction may be open.
    pub fn put_places(&self, piece: &mut Piece, at_most: Duration) -> Result<bool, IndexError> {
        let start = Instant::now();
        self.begin()?;
        let mut done = piece.done;
        while done < piece.rows.len() && (done == piece.done || start.elapsed() < at_most) {
            let end = piece.rows.len().min(done + ROWS_AT_ONCE);
            self.put_rows(piece, done..end)?;
            done = end;
        }
        let whole = done == piece.rows.len();
        if whole {
            self.put_file(piece)?;
        }
        self.commit()?;
        piece.done = done;
        Ok(whole)
    }

    fn put_rows(&self, piece: &Piece, range: std::ops::Range<usize>) -> Result<(), IndexError> {
        let sql = "INSERT OR REPLACE INTO room_segments (room, first_seq, segment, count, places)
                   VALUES (?1, ?2, ?3, ?4, ?5)";
        let mut statement = self.connection.prepare_cached(sql)?;
        for row in &piece.rows[range] {
            statement.execute(params![row.room, row.first_seq, row.segment, row.count, row.places])?;
        }
        Ok(())
    }

    fn put_file(&self, piece: &Piece) -> Result<(), IndexError> {
        let sql = "INSERT OR REPLACE INTO times (upto_ms, first_seq) VALUES (?1, ?2)";
        let mut statement = self.connection.prepare_cached(sql)?;
        for (upto_ms, first_seq) in &piece.times {
            statement.execute(params![upto_ms, first_seq])?;
        }
        if let Some(file) = piece.file {
            let sql = "INSERT OR REPLACE INTO segments
                       (number, first_seq, last_seq, from_ms, to_ms, upto_ms, bytes)
                       VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
            let SealedFile { number, first_seq, last_seq, from_ms, to_ms, upto_ms, bytes } = file;
            let values = params![number, first_seq, last_seq, from_ms, to_ms, upto_ms, bytes];
            self.connection.prepare_cached(sql)?.execute(values)?;
        }
        Ok(())
    }

    /// Puts in a whole piece and the newest messages of its rooms, within the transaction at hand.
    ///
    /// # Errors
    /// The index can't be written.
    pub fn put_all(&self, piece: &Piece) -> Result<(), IndexError> {
        self.put_rows(piece, 0..piece.rows.len())?;
        let sql = "UPDATE rooms SET last_seq = ?2 WHERE key = ?1 AND last_seq < ?2";
        let mut head = self.connection.prepare_cached(sql)?;
        for of_room in piece.rows.chunk_by(|a, b| a.room == b.room) {
            let last = of_room.iter().map(|row| row.last_seq).max();
            head.execute(params![of_room[0].room, last])?;
        }
        self.put_file(piece)
    }

    /// Removes some rows of rooms that are gone; answers whether there are more.
    ///
    /// # Errors
    /// The index can't be written; a transaction may be open.
    pub fn forget_gone(&self) -> Result<bool, IndexError> {
        let index = &self.connection;
        let sql = "SELECT room FROM gone_rooms LIMIT 1";
        let gone: Option<i64> = index.prepare_cached(sql)?.query_row([], |row| row.get(0)).optional()?;
        let Some(room) = gone else {
            return Ok(false);
        };
        self.begin()?;
        let sql = "DELETE FROM room_segments WHERE room = ?1 AND first_seq IN
                   (SELECT first_seq FROM room_segments WHERE room = ?1 ORDER BY first_seq LIMIT ?2)";
        let removed = index.prepare_cached(sql)?.execute(params![room, GONE_ROWS])?;
        if (removed as u64) < GONE_ROWS {
            index.prepare_cached("DELETE FROM gone_rooms WHERE room = ?1")?.execute([room])?;
        }
        self.commit()?;
        Ok(true)
    }

    /// The key of a room; `None`: there is none of that id.
    ///
    /// # Errors
    /// The index can't be read.
    pub fn room_key(&self, room_id: &str) -> Result<Option<i64>, IndexError> {
        Ok(self.connection.prepare_cached(ROOM_KEY)?.query_row([room_id], |row| row.get(0)).optional()?)
    }

    /// The newest file that is in the index.
    ///
    /// # Errors
    /// The index can't be read.
    pub fn last_file(&self) -> Result<Option<SealedFile>, IndexError> {
        Ok(self.connection.prepare_cached(LAST_FILE)?.query_row([], file).optional()?)
    }
}

const ROOM_KEY: &str = "SELECT key FROM rooms WHERE room_id = ?1";

const LAST_FILE: &str = "SELECT number, first_seq, last_seq, from_ms, to_ms, upto_ms, bytes FROM segments
                         ORDER BY number DESC LIMIT 1";

fn file(row: &SqlRow<'_>) -> rusqlite::Result<SealedFile> {
    Ok(SealedFile {
        number: row.get(0)?,
        first_seq: row.get(1)?,
        last_seq: row.get(2)?,
        from_ms: row.get(3)?,
        to_ms: row.get(4)?,
        upto_ms: row.get(5)?,
        bytes: row.get(6)?,
    })
}

impl Reader {
    /// The key of a room.
    ///
    /// # Errors
    /// The index can't be read; so for all below.
    pub fn room_key(&self, room_id: &str) -> Result<Option<i64>, IndexError> {
        self.ask(|index| index.prepare_cached(ROOM_KEY)?.query_row([room_id], |row| row.get(0)).optional())
    }

    /// Keys and ids of the rooms a user is in.
    pub fn room_keys_of(&self, user: UserId) -> Result<Vec<(i64, String)>, IndexError> {
        self.ask(|index| {
            let sql = "SELECT rooms.key, rooms.room_id FROM memberships
                       JOIN rooms ON rooms.key = memberships.room WHERE memberships.user = ?1";
            index.prepare_cached(sql)?.query_map([user], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        })
    }

    /// The newest file that is in the index. All before it are in it as well.
    pub fn last_file(&self) -> Result<Option<SealedFile>, IndexError> {
        self.ask(|index| index.prepare_cached(LAST_FILE)?.query_row([], file).optional())
    }

    /// The newest files with a lower number than `below`, at most so many, newest first.
    pub fn files_before(&self, below: u64, most: usize) -> Result<Vec<SealedFile>, IndexError> {
        self.ask(|index| {
            let sql = "SELECT number, first_seq, last_seq, from_ms, to_ms, upto_ms, bytes FROM segments
                       WHERE number < ?1 ORDER BY number DESC LIMIT ?2";
            index.prepare_cached(sql)?.query_map(params![below, most], file)?.collect()
        })
    }

    /// The newest `most` places of a room's messages in `from..below`, ascending.
    pub fn places_before(
        &self,
        room: i64,
        from: u64,
        below: u64,
        most: usize,
    ) -> Result<Vec<Located>, IndexError> {
        self.ask(|index| {
            let sql = "SELECT first_seq, segment, places FROM room_segments
                       WHERE room = ?1 AND first_seq < ?2 ORDER BY first_seq DESC";
            let mut statement = index.prepare_cached(sql)?;
            let mut rows = statement.query(params![room, below])?;
            // Newest first, until turned round.
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                let listed = located(row)?;
                let done = listed.first().is_none_or(|first| first.place.seq < from);
                let wanted = listed.into_iter().rev().filter(|at| (from..below).contains(&at.place.seq));
                found.extend(wanted.take(most.saturating_sub(found.len())));
                if done || found.len() == most {
                    break;
                }
            }
            found.reverse();
            Ok(found)
        })
    }

    /// The first `most` places of a room's messages in `from..below`, ascending.
    pub fn places_from(
        &self,
        room: i64,
        from: u64,
        below: u64,
        most: usize,
    ) -> Result<Vec<Located>, IndexError> {
        self.ask(|index| {
            // The row before `from` may reach over it.
            let sql = "SELECT first_seq, segment, places FROM room_segments
                       WHERE room = ?1 AND first_seq < ?3 AND first_seq >= coalesce(
                         (SELECT max(first_seq) FROM room_segments WHERE room = ?1 AND first_seq <= ?2), 0)
                       ORDER BY first_seq";
            let mut statement = index.prepare_cached(sql)?;
            let mut rows = statement.query(params![room, from, below])?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                let wanted = located(row)?.into_iter().filter(|at| (from..below).contains(&at.place.seq));
                found.extend(wanted.take(most - found.len()));
                if found.len() == most {
                    break;
                }
            }
            Ok(found)
        })
    }

    /// Where to begin looking for messages of a time or later, up to message `upto`: no earlier one is
    /// of that time. `None`: there is none.
    pub fn seq_since(&self, since_ms: i64, upto: u64) -> Result<Option<u64>, IndexError> {
        self.ask(|index| {
            let sql = "SELECT first_seq FROM times WHERE upto_ms >= ?1 AND first_seq <= ?2
                       ORDER BY upto_ms, first_seq LIMIT 1";
            index.prepare_cached(sql)?.query_row(params![since_ms, upto], |row| row.get(0)).optional()
        })
    }

    /// How many messages rooms have in the files of `from..below`: tells `add` the room, the number of
    /// the file and how many, one room after the other.
    pub fn count_places(
        &self,
        rooms: &[i64],
        from: u64,
        below: u64,
        add: &mut dyn FnMut(i64, u64, u64),
    ) -> Result<(), IndexError> {
        self.ask(|index| {
            let sql = "SELECT segment, count FROM room_segments
                       WHERE room = ?1 AND first_seq >= ?2 AND first_seq < ?3";
            let mut statement = index.prepare_cached(sql)?;
            for room in rooms {
                let mut rows = statement.query(params![room, from, below])?;
                while let Some(row) = rows.next()? {
                    add(*room, row.get(0)?, row.get(1)?);
                }
            }
            Ok(())
        })
    }
}

fn located(row: &SqlRow<'_>) -> rusqlite::Result<Vec<Located>> {
    let (first_seq, segment) = (row.get(0)?, row.get(1)?);
    let packed = row.get_ref(2)?.as_blob()?;
    Ok(places::unpack(first_seq, packed).into_iter().map(|place| Located { segment, place }).collect())
}
