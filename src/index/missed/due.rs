//! When a user was in which room, as the index tells.

use std::collections::{HashMap, HashSet};

use rusqlite::{Connection, OptionalExtension, params};
use smallvec::SmallVec;

use super::Absence;
use crate::chat::UserId;
use crate::index::apply::{DEPARTURES_SINCE, JOINED_BITS};
use crate::index::store::LogName;
use crate::index::{IndexError, Reader};

/// When a user was in which room: behind one message and up to another.
#[derive(Debug, Default)]
pub(super) struct Due(pub(super) HashMap<String, SmallVec<[(u64, u64); 1]>>);

impl Due {
    fn add(&mut self, room_id: &str, from: u64, upto: u64) {
        if from < upto {
            self.0.entry(room_id.to_owned()).or_default().push((from, upto));
        }
    }

    /// Whether the user was in the room when the message was said.
    pub(super) fn holds(&self, room_id: &str, seq: u64) -> bool {
        let spans = self.0.get(room_id);
        spans.is_some_and(|spans| spans.iter().any(|&(after, upto)| after < seq && seq <= upto))
    }
}

impl Reader {
    /// The user's rooms that have a message after their absence began, as far as the index knows, and
    /// the last message that it knows of.
    pub(super) fn rooms_with_news(&self, absence: &Absence) -> Result<(HashSet<String>, u64), IndexError> {
        self.ask(|index| {
            let _transaction = index.unchecked_transaction()?;
            let sql = "SELECT last FROM progress WHERE log = ?1";
            let known = index.prepare_cached(sql)?.query_row([LogName::Messages.as_str()], |row| row.get(0));
            let sql = "SELECT rooms.room_id FROM memberships JOIN rooms ON rooms.key = memberships.room
                       WHERE memberships.user = ?1 AND rooms.last_seq > ?2";
            let mut statement = index.prepare_cached(sql)?;
            let rooms = statement.query_map(params![absence.user, absence.after], |row| row.get(0))?;
            Ok((rooms.collect::<Result<_, _>>()?, known.optional()?.unwrap_or(0)))
        })
    }

    /// When the user of an absence was in the rooms named, and in rooms they left meanwhile. `None`:
    /// some of those may be forgotten.
    pub(super) fn due(&self, absence: &Absence, rooms: HashSet<String>) -> Result<Option<Due>, IndexError> {
        self.ask(|index| {
            let transaction = index.unchecked_transaction()?;
            if forgotten(&transaction, absence.after)? {
                return Ok(None);
            }
            let mut due = Due::default();
            for room_id in rooms {
                if let Some((joined, after)) = membership(&transaction, absence.user, &room_id)?
                    && joined >> JOINED_BITS <= absence.rev
                {
                    due.add(&room_id, after.max(absence.after), absence.upto);
                }
            }
            departures(&transaction, absence, &mut due)?;
            Ok(Some(due))
        })
    }
}

/// Whether departures since a message may have been forgotten.
fn forgotten(index: &Connection, after: u64) -> rusqlite::Result<bool> {
    let sql = "SELECT number, upto_seq FROM departures ORDER BY number LIMIT 1";
    let row = |row: &rusqlite::Row<'_>| Ok((row.get::<_, i64>(0)?, row.get::<_, u64>(1)?));
    let oldest = index.prepare_cached(sql)?.query_row([], row).optional()?;
    let sql = "SELECT value FROM facts WHERE name = ?1";
    let since = index.prepare_cached(sql)?.query_row([DEPARTURES_SINCE], |row| row.get::<_, u64>(0));
    if since.optional()?.is_some_and(|since| after < since) {
        return Ok(true);
    }
    Ok(oldest.is_some_and(|(number, upto)| number > 1 && after < upto))
}

/// When a membership began: its `joined` and the last message before it.
fn membership(index: &Connection, user: UserId, room_id: &str) -> rusqlite::Result<Option<(u64, u64)>> {
    let sql = "SELECT memberships.joined, memberships.after_seq
               FROM rooms JOIN memberships ON memberships.room = rooms.key
               WHERE rooms.room_id = ?1 AND memberships.user = ?2";
    let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
    index.prepare_cached(sql)?.query_row(params![room_id, user], row).optional()
}

fn departures(index: &Connection, absence: &Absence, due: &mut Due) -> rusqlite::Result<()> {
    let sql = "SELECT room_id, joined, after_seq, rev, upto_seq FROM departures
               WHERE user = ?1 AND upto_seq > ?2";
    let mut statement = index.prepare_cached(sql)?;
    let mut rows = statement.query(params![absence.user, absence.after])?;
    while let Some(row) = rows.next()? {
        let (joined, after, rev, left): (u64, u64, u64, u64) =
            (row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?);
        if joined >> JOINED_BITS <= absence.rev {
            // Who left after coming back was there to the end.
            let upto = if rev <= absence.rev { left.min(absence.upto) } else { absence.upto };
            due.add(row.get_ref(0)?.as_str()?, after.max(absence.after), upto);
        }
    }
    Ok(())
}
