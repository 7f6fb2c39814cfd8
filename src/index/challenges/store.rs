//! The one writing connection: applies records, and answers what must be known to judge what is asked.

use std::ops::Deref;
use std::path::Path;

use rusqlite::types::Type;
use rusqlite::{OptionalExtension, Row, params};

use super::{VERSION, file};
use crate::challenge::{Amount, ChallengeId, Distance, EntryId, Participation};
use crate::chat::{OpId, UserId};
use crate::index::IndexError;
use crate::index::database::Database;
use crate::journal::record::{ChallengeChange, ChallengeRecord};

/// The writing connection.
pub struct ChallengeStore {
    database: Database,
}

/// A challenge as it must be known to judge what is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChallengeState {
    /// Which.
    pub id: ChallengeId,
    /// When it starts, as Unix time in milliseconds.
    pub start_ms: i64,
    /// When it is over.
    pub end_ms: i64,
    /// How far.
    pub distance: Distance,
    /// Anybody may watch.
    pub broadcast: bool,
    /// How many may take part.
    pub max_participants: u32,
    /// How many do.
    pub participants: u32,
    /// The last final place that was given.
    pub ranked: u32,
}

/// A participant as they must be known to judge what is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParticipantState {
    /// Number of the participation.
    pub id: u64,
    /// Who.
    pub user: UserId,
    /// How they stand.
    pub status: Participation,
    /// The latest stay; 0: none.
    pub entry: EntryId,
    /// When they first came in, as Unix time in milliseconds.
    pub entered_ms: Option<i64>,
    /// Kilometres, when they last left.
    pub distance: Amount,
    /// Minutes per kilometre, when they last left.
    pub pace: Amount,
    /// The final place.
    pub rank: Option<u32>,
    /// The latest operation of theirs.
    pub op: OpId,
}

impl Deref for ChallengeStore {
    type Target = Database;

    fn deref(&self) -> &Database {
        &self.database
    }
}

impl ChallengeStore {
    /// Opens the database of a data directory for writing; `None`: there is none yet.
    ///
    /// # Errors
    /// There is one that can't be used.
    pub fn open(data_dir: &Path) -> Result<Option<ChallengeStore>, IndexError> {
        Ok(Database::open(&file(data_dir), VERSION)?.map(ChallengeStore::of))
    }

    pub(super) fn of(database: Database) -> ChallengeStore {
        ChallengeStore { database }
    }

    pub(super) fn into_database(self) -> Database {
        self.database
    }

    /// Applies a record.
    ///
    /// # Errors
    /// The database can't be read or written; so for all below.
    pub fn apply(&self, record: &ChallengeRecord) -> Result<(), IndexError> {
        let ChallengeRecord { ref change, challenge_id: challenge, op, at, .. } = *record;
        let op = op.map(op_bytes);
        match change {
            ChallengeChange::Created {
                title,
                description,
                max_participants,
                start_at,
                end_at,
                distance,
                password,
                broadcast,
                created_by,
            } => {
                let sql =
                    "INSERT INTO challenges (id, title, description, max_participants, start_ms, end_ms,
                             distance, password, broadcast, created_by, created_ms, updated_ms, op)
                           VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?11, ?12)";
                let code = distance.code();
                self.connection.prepare_cached(sql)?.execute(params![
                    challenge,
                    title,
                    description,
                    max_participants,
                    start_at,
                    end_at,
                    code,
                    password,
                    broadcast,
                    created_by,
                    at,
                    op
                ])?;
            }
            ChallengeChange::Joined { user_id } => {
                let sql = "INSERT INTO participants (challenge, user, status, joined_ms, changed_ms, op)
                           VALUES (?1, ?2, ?3, ?4, ?4, ?5)
                           ON CONFLICT (challenge, user) DO UPDATE SET status = ?3, joined_ms = ?4,
                             changed_ms = ?4, op = ?5";
                let status = Participation::Waiting.number();
                self.connection.prepare_cached(sql)?.execute(params![challenge, user_id, status, at, op])?;
                self.count(challenge, 1, at)?;
            }
            ChallengeChange::Cancelled { user_id } => {
                let sql = "UPDATE participants SET status = ?3, changed_ms = ?4, op = ?5
                           WHERE challenge = ?1 AND user = ?2";
                let status = Participation::Left.number();
                self.connection.prepare_cached(sql)?.execute(params![challenge, user_id, status, at, op])?;
                self.count(challenge, -1, at)?;
            }
            ChallengeChange::Entered { user_id, entry } => {
                let sql = "UPDATE participants SET status = ?3, changed_ms = ?4, op = ?5, entry = ?6,
                             entered_ms = coalesce(entered_ms, ?4)
                           WHERE challenge = ?1 AND user = ?2";
                let status = Participation::Running.number();
                let values = params![challenge, user_id, status, at, op, entry];
                self.connection.prepare_cached(sql)?.execute(values)?;
            }
            ChallengeChange::Status { user_id, status, rank, distance, pace, average_pace } => {
                let sql = "UPDATE participants SET status = ?3, changed_ms = ?4, rank = coalesce(?5, rank),
                             distance = ?6, pace = ?7, average_pace = coalesce(?8, average_pace)
                           WHERE challenge = ?1 AND user = ?2";
                let (distance, pace, average) = (distance.get(), pace.get(), average_pace.map(Amount::get));
                let values = params![challenge, user_id, status.number(), at, rank, distance, pace, average];
                self.connection.prepare_cached(sql)?.execute(values)?;
                if let Some(rank) = rank {
                    let sql = "UPDATE challenges SET ranked = max(ranked, ?2), updated_ms = ?3 WHERE id = ?1";
                    self.connection.prepare_cached(sql)?.execute(params![challenge, rank, at])?;
                }
            }
            ChallengeChange::Ended => {
                let sql = "UPDATE challenges SET ended = 1, updated_ms = ?2 WHERE id = ?1";
                self.connection.prepare_cached(sql)?.execute(params![challenge, at])?;
            }
        }
        Ok(())
    }

    fn count(&self, challenge: ChallengeId, more: i64, at: i64) -> Result<(), IndexError> {
        let sql = "UPDATE challenges SET participants = participants + ?2, updated_ms = ?3 WHERE id = ?1";
        self.connection.prepare_cached(sql)?.execute(params![challenge, more, at])?;
        Ok(())
    }

    /// The highest number of a challenge; 0 before the first.
    pub fn last_challenge(&self) -> Result<ChallengeId, IndexError> {
        let sql = "SELECT coalesce(max(id), 0) FROM challenges";
        Ok(self.connection.query_row(sql, [], |row| row.get(0))?)
    }

    /// The highest number of a stay; 0 before the first.
    pub fn last_entry(&self) -> Result<EntryId, IndexError> {
        let sql = "SELECT coalesce(max(entry), 0) FROM participants";
        Ok(self.connection.query_row(sql, [], |row| row.get(0))?)
    }

    /// A challenge.
    pub fn challenge(&self, id: ChallengeId) -> Result<Option<ChallengeState>, IndexError> {
        let sql = format!("{CHALLENGE} WHERE id = ?1");
        Ok(self.connection.prepare_cached(&sql)?.query_row([id], challenge).optional()?)
    }

    /// The challenge that an operation made.
    pub fn created_by(&self, op: OpId) -> Result<Option<ChallengeId>, IndexError> {
        let sql = "SELECT id FROM challenges WHERE op = ?1";
        Ok(self.connection.prepare_cached(sql)?.query_row([op_bytes(op)], |row| row.get(0)).optional()?)
    }

    /// Challenges whose end was not carried out and that start behind one time and up to another, the first
    /// ones first.
    pub fn starting(&self, after_ms: i64, upto_ms: i64) -> Result<Vec<ChallengeState>, IndexError> {
        let sql =
            format!("{CHALLENGE} WHERE ended = 0 AND start_ms > ?1 AND start_ms <= ?2 ORDER BY start_ms, id");
        let mut statement = self.connection.prepare_cached(&sql)?;
        let found = statement.query_map([after_ms, upto_ms], challenge)?;
        Ok(found.collect::<Result<_, _>>()?)
    }

    /// When the first of those starts that start behind a time.
    pub fn next_start(&self, after_ms: i64) -> Result<Option<i64>, IndexError> {
        let sql = "SELECT min(start_ms) FROM challenges WHERE ended = 0 AND start_ms > ?1";
        Ok(self.connection.prepare_cached(sql)?.query_row([after_ms], |row| row.get(0))?)
    }

    /// A participant.
    pub fn participant(
        &self,
        challenge: ChallengeId,
        user: UserId,
    ) -> Result<Option<ParticipantState>, IndexError> {
        let sql = format!("{PARTICIPANT} WHERE challenge = ?1 AND user = ?2");
        let values = params![challenge, user];
        Ok(self.connection.prepare_cached(&sql)?.query_row(values, participant).optional()?)
    }

    /// All who take part in a challenge or did.
    pub fn participants(&self, challenge: ChallengeId) -> Result<Vec<ParticipantState>, IndexError> {
        let sql = format!("{PARTICIPANT} WHERE challenge = ?1");
        let mut statement = self.connection.prepare_cached(&sql)?;
        let found = statement.query_map([challenge], participant)?;
        Ok(found.collect::<Result<_, _>>()?)
    }
}

/// What [`challenge`] reads.
const CHALLENGE: &str = "SELECT id, start_ms, end_ms, distance, broadcast, max_participants, participants,
  ranked FROM challenges";

fn challenge(row: &Row<'_>) -> rusqlite::Result<ChallengeState> {
    Ok(ChallengeState {
        id: row.get(0)?,
        start_ms: row.get(1)?,
        end_ms: row.get(2)?,
        distance: distance(row, 3)?,
        broadcast: row.get(4)?,
        max_participants: row.get(5)?,
        participants: row.get(6)?,
        ranked: row.get(7)?,
    })
}

/// What [`participant`] reads.
const PARTICIPANT: &str =
    "SELECT id, user, status, entry, entered_ms, distance, pace, rank, op FROM participants";

fn participant(row: &Row<'_>) -> rusqlite::Result<ParticipantState> {
    Ok(ParticipantState {
        id: row.get(0)?,
        user: row.get(1)?,
        status: status(row, 2)?,
        entry: row.get(3)?,
        entered_ms: row.get(4)?,
        distance: amount(row, 5)?,
        pace: amount(row, 6)?,
        rank: row.get(7)?,
        op: bytes_op(row.get(8)?),
    })
}

pub(super) fn distance(row: &Row<'_>, at: usize) -> rusqlite::Result<Distance> {
    let code = row.get_ref(at)?.as_str()?;
    Distance::of(code).ok_or_else(|| unknown(at, Type::Text))
}

pub(super) fn status(row: &Row<'_>, at: usize) -> rusqlite::Result<Participation> {
    Participation::of(row.get(at)?).ok_or_else(|| unknown(at, Type::Integer))
}

pub(super) fn amount(row: &Row<'_>, at: usize) -> rusqlite::Result<Amount> {
    Amount::try_from(row.get::<_, f64>(at)?).map_err(|_| unknown(at, Type::Real))
}

fn unknown(at: usize, kind: Type) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(at, kind, "not a value that was put in".into())
}

fn op_bytes(op: OpId) -> [u8; 16] {
    ((u128::from(op.instance) << 64) | u128::from(op.count)).to_be_bytes()
}

fn bytes_op(bytes: [u8; 16]) -> OpId {
    let (instance, count) = bytes.split_at(8);
    let number = |half: &[u8]| half.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
    OpId { instance: number(instance), count: number(count) }
}
