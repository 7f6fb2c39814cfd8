//! Questions to the database of challenges, from any process.

use std::path::Path;

use rusqlite::{OptionalExtension, Row, params};

use super::store::{amount, distance, status};
use super::{VERSION, file};
use crate::challenge::{Amount, ChallengeId, Distance, EntryId, Participation, Schedule};
use crate::chat::UserId;
use crate::index::IndexError;
use crate::index::database::Follower;

/// A challenge as the index has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChallengeInfo {
    /// Its number; higher for those created later.
    pub id: ChallengeId,
    /// What it is called.
    pub title: String,
    /// What is said about it.
    pub description: String,
    /// How many may take part.
    pub max_participants: u32,
    /// How many do.
    pub participants: u32,
    /// When it starts, as Unix time in milliseconds.
    pub start_ms: i64,
    /// When it is over.
    pub end_ms: i64,
    /// How far.
    pub distance: Distance,
    /// PHC string of the password's hash; `Some`: it is private.
    pub password: Option<String>,
    /// Anybody may watch.
    pub broadcast: bool,
    /// Who asked for it.
    pub created_by: UserId,
    /// Unix time in milliseconds.
    pub created_ms: i64,
    /// When it or who takes part last changed.
    pub updated_ms: i64,
}

impl ChallengeInfo {
    /// Its times, where it can be entered so many milliseconds before its start.
    pub fn schedule(&self, ready_before_ms: i64) -> Schedule {
        let ready_ms = self.start_ms.saturating_sub(ready_before_ms);
        Schedule { ready_ms, start_ms: self.start_ms, end_ms: self.end_ms }
    }
}

/// A participant as the index has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParticipantInfo {
    /// Number of the participation; higher for those who joined later.
    pub id: u64,
    /// Who.
    pub user: UserId,
    /// How they stand.
    pub status: Participation,
    /// When they joined, as Unix time in milliseconds.
    pub joined_ms: i64,
    /// The latest stay; 0: none.
    pub entry: EntryId,
    /// Kilometres, when they last left.
    pub distance: Amount,
    /// Minutes per kilometre over all, of who is ranked.
    pub average_pace: Option<Amount>,
    /// The final place.
    pub rank: Option<u32>,
}

/// One read-only connection.
pub struct ChallengeReader {
    follower: Follower,
}

impl ChallengeReader {
    /// Opens the database of a data directory.
    ///
    /// # Errors
    /// The storage writer has not made one yet, or it can't be read.
    pub fn open(data_dir: &Path) -> Result<ChallengeReader, IndexError> {
        Ok(ChallengeReader { follower: Follower::open(file(data_dir), VERSION)? })
    }

    /// A challenge.
    ///
    /// # Errors
    /// The database can't be read; so for all questions below.
    pub fn challenge(&self, id: ChallengeId) -> Result<Option<ChallengeInfo>, IndexError> {
        self.follower.ask(|index| {
            let sql = format!("{CHALLENGE} WHERE id = ?1");
            index.prepare_cached(&sql)?.query_row([id], challenge).optional()
        })
    }

    /// How many challenges there are.
    pub fn count(&self) -> Result<u64, IndexError> {
        // Numbers have no gaps.
        self.follower.ask(|index| {
            index
                .prepare_cached("SELECT coalesce(max(id), 0) FROM challenges")?
                .query_row([], |row| row.get(0))
        })
    }

    /// Some challenges, the newest first, without the first `skip` of them.
    pub fn challenges(&self, skip: u64, limit: u32) -> Result<Vec<ChallengeInfo>, IndexError> {
        self.follower.ask(|index| {
            let sql = format!(
                "{CHALLENGE} WHERE id <= (SELECT coalesce(max(id), 0) FROM challenges) - ?1
                 ORDER BY id DESC LIMIT ?2"
            );
            let skip = i64::try_from(skip).unwrap_or(i64::MAX);
            index.prepare_cached(&sql)?.query_map(params![skip, limit], challenge)?.collect()
        })
    }

    /// A participant; also one who has cancelled.
    pub fn participant(
        &self,
        challenge: ChallengeId,
        user: UserId,
    ) -> Result<Option<ParticipantInfo>, IndexError> {
        self.follower.ask(|index| {
            let sql = format!("{PARTICIPANT} WHERE challenge = ?1 AND user = ?2");
            index.prepare_cached(&sql)?.query_row(params![challenge, user], participant).optional()
        })
    }

    /// Participants who have not cancelled, in order of number, behind participation `after`.
    pub fn participants(
        &self,
        challenge: ChallengeId,
        after: u64,
        limit: u32,
    ) -> Result<Vec<ParticipantInfo>, IndexError> {
        self.follower.ask(|index| {
            let sql = format!(
                "{PARTICIPANT} WHERE challenge = ?1 AND id > ?2 AND status <> ?3 ORDER BY id LIMIT ?4"
            );
            let values = params![challenge, after, Participation::Left.number(), limit];
            index.prepare_cached(&sql)?.query_map(values, participant)?.collect()
        })
    }

    /// Those who are ranked for good, the first one first, without the first `skip` of them: who has
    /// finished, and when the challenge is over who was in it.
    pub fn ranking(
        &self,
        challenge: ChallengeId,
        skip: u32,
        limit: u32,
    ) -> Result<Vec<ParticipantInfo>, IndexError> {
        self.follower.ask(|index| {
            let sql = format!("{PARTICIPANT} WHERE challenge = ?1 AND rank > ?2 ORDER BY rank LIMIT ?3");
            index.prepare_cached(&sql)?.query_map(params![challenge, skip, limit], participant)?.collect()
        })
    }

    /// How many are ranked for good.
    pub fn ranked(&self, challenge: ChallengeId) -> Result<u32, IndexError> {
        self.follower.ask(|index| {
            let sql = "SELECT ranked FROM challenges WHERE id = ?1";
            let found = index.prepare_cached(sql)?.query_row([challenge], |row| row.get(0)).optional()?;
            Ok(found.unwrap_or(0))
        })
    }
}

/// What [`challenge`] reads.
const CHALLENGE: &str = "SELECT id, title, description, max_participants, participants, start_ms, end_ms,
  distance, password, broadcast, created_by, created_ms, updated_ms FROM challenges";

fn challenge(row: &Row<'_>) -> rusqlite::Result<ChallengeInfo> {
    Ok(ChallengeInfo {
        id: row.get(0)?,
        title: row.get(1)?,
        description: row.get(2)?,
        max_participants: row.get(3)?,
        participants: row.get(4)?,
        start_ms: row.get(5)?,
        end_ms: row.get(6)?,
        distance: distance(row, 7)?,
        password: row.get(8)?,
        broadcast: row.get(9)?,
        created_by: row.get(10)?,
        created_ms: row.get(11)?,
        updated_ms: row.get(12)?,
    })
}

/// What [`participant`] reads.
const PARTICIPANT: &str =
    "SELECT id, user, status, joined_ms, entry, distance, average_pace, rank FROM participants";

fn participant(row: &Row<'_>) -> rusqlite::Result<ParticipantInfo> {
    let average: Option<f64> = row.get(6)?;
    Ok(ParticipantInfo {
        id: row.get(0)?,
        user: row.get(1)?,
        status: status(row, 2)?,
        joined_ms: row.get(3)?,
        entry: row.get(4)?,
        distance: amount(row, 5)?,
        average_pace: average.and_then(|average| Amount::try_from(average).ok()),
        rank: row.get(7)?,
    })
}
