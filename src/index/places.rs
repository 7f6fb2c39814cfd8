//! The index's tables of full files and runs: writing them, and asking them.

use rusqlite::{OptionalExtension, Row as SqlRow, params};

use super::runs::Run;
use super::sealed::{Added, Found, SealedFile};
use super::store::Store;
use super::{IndexError, Reader};
use crate::chat::UserId;

impl Store {
    /// Puts in what was found, within a transaction; `false`: it is out of date, and nothing was done.
    ///
    /// # Errors
    /// The index can't be written; so for all below.
    pub fn put_found(&self, found: &Found) -> Result<bool, IndexError> {
        match found {
            Found::Added(added) => self.put_file(added).map(|()| true),
            Found::Merged { inputs, run } => self.put_merged(inputs, run),
            Found::Remade { lost, runs, broken } => self.put_remade(lost, runs, broken),
            Found::Lost { from } => self.forget_from(*from).map(|()| true),
        }
    }

    fn put_file(&self, added: &Added) -> Result<(), IndexError> {
        let Added { file, times, run } = added;
        let sql = "INSERT OR REPLACE INTO times (upto_ms, first_seq) VALUES (?1, ?2)";
        let mut statement = self.connection.prepare_cached(sql)?;
        for (upto_ms, first_seq) in times {
            statement.execute(params![upto_ms, first_seq])?;
        }
        // It may have been there in part.
        let sql = "DELETE FROM runs WHERE first_segment = ?1 AND last_segment = ?1";
        self.connection.prepare_cached(sql)?.execute([file.number])?;
        if let Some(run) = run {
            self.put_run(run)?;
        }
        let sql = "INSERT OR REPLACE INTO segments
                   (number, first_seq, last_seq, from_ms, to_ms, upto_ms, bytes, whole)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
        let SealedFile { number, first_seq, last_seq, from_ms, to_ms, upto_ms, bytes, whole } = file;
        let values = params![number, first_seq, last_seq, from_ms, to_ms, upto_ms, bytes, whole];
        self.connection.prepare_cached(sql)?.execute(values)?;
        Ok(())
    }

    fn put_merged(&self, inputs: &[Run], run: &Run) -> Result<bool, IndexError> {
        let there = self.runs()?;
        if !inputs.iter().all(|input| there.contains(input)) {
            return Ok(false);
        }
        for input in inputs {
            self.connection.prepare_cached("DELETE FROM runs WHERE id = ?1")?.execute([input.id])?;
        }
        self.put_run(run)?;
        Ok(true)
    }

    fn put_remade(&self, lost: &Run, runs: &[Run], broken: &[u64]) -> Result<bool, IndexError> {
        if !self.runs()?.contains(lost) {
            return Ok(false);
        }
        self.connection.prepare_cached("DELETE FROM runs WHERE id = ?1")?.execute([lost.id])?;
        runs.iter().try_for_each(|run| self.put_run(run))?;
        for number in broken {
            let sql = "UPDATE segments SET whole = 0 WHERE number = ?1";
            self.connection.prepare_cached(sql)?.execute([number])?;
        }
        Ok(true)
    }

    fn put_run(&self, run: &Run) -> Result<(), IndexError> {
        let sql = "INSERT INTO runs
                   (id, first_segment, last_segment, first_seq, last_seq, level, bytes, messages, sum)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
        let Run { id, first_segment, last_segment, first_seq, last_seq, level, bytes, messages, sum } = run;
        let values =
            params![id, first_segment, last_segment, first_seq, last_seq, level, bytes, messages, sum];
        self.connection.prepare_cached(sql)?.execute(values)?;
        Ok(())
    }

    /// Forgets all that is known of files from a number on, within a transaction; they are read again.
    pub fn forget_from(&self, segment: u64) -> Result<(), IndexError> {
        let index = &self.connection;
        let sql = "SELECT min(first_seq) FROM segments WHERE number >= ?1";
        let seq: Option<u64> = index.prepare_cached(sql)?.query_row([segment], |row| row.get(0))?;
        index.execute("DELETE FROM times WHERE first_seq >= ?1", [seq.unwrap_or(i64::MAX.unsigned_abs())])?;
        index.execute("DELETE FROM runs WHERE last_segment >= ?1", [segment])?;
        index.execute("DELETE FROM segments WHERE number >= ?1", [segment])?;
        Ok(())
    }

    /// All runs, oldest first.
    pub fn runs(&self) -> Result<Vec<Run>, IndexError> {
        Ok(self.connection.prepare_cached(RUNS)?.query_map([], run)?.collect::<Result<_, _>>()?)
    }

    /// The newest file that is in the index.
    pub fn last_file(&self) -> Result<Option<SealedFile>, IndexError> {
        Ok(self.connection.prepare_cached(LAST_FILE)?.query_row([], file).optional()?)
    }
}

const LAST_FILE: &str =
    "SELECT number, first_seq, last_seq, from_ms, to_ms, upto_ms, bytes, whole FROM segments
                         ORDER BY number DESC LIMIT 1";

const RUNS: &str = "SELECT id, first_segment, last_segment, first_seq, last_seq, level, bytes, messages, sum
                    FROM runs ORDER BY first_segment";

fn file(row: &SqlRow<'_>) -> rusqlite::Result<SealedFile> {
    Ok(SealedFile {
        number: row.get(0)?,
        first_seq: row.get(1)?,
        last_seq: row.get(2)?,
        from_ms: row.get(3)?,
        to_ms: row.get(4)?,
        upto_ms: row.get(5)?,
        bytes: row.get(6)?,
        whole: row.get(7)?,
    })
}

fn run(row: &SqlRow<'_>) -> rusqlite::Result<Run> {
    Ok(Run {
        id: row.get(0)?,
        first_segment: row.get(1)?,
        last_segment: row.get(2)?,
        first_seq: row.get(3)?,
        last_seq: row.get(4)?,
        level: row.get(5)?,
        bytes: row.get(6)?,
        messages: row.get(7)?,
        sum: row.get(8)?,
    })
}

impl Reader {
    /// Ids of the rooms a user is in.
    ///
    /// # Errors
    /// The index can't be read; so for all below.
    pub fn all_room_ids_of(&self, user: UserId) -> Result<Vec<String>, IndexError> {
        self.ask(|index| {
            let sql = "SELECT rooms.room_id FROM memberships
                       JOIN rooms ON rooms.key = memberships.room WHERE memberships.user = ?1";
            index.prepare_cached(sql)?.query_map([user], |row| row.get(0))?.collect()
        })
    }

    /// The newest file that is in the index. All before it are in it as well.
    pub fn last_file(&self) -> Result<Option<SealedFile>, IndexError> {
        self.ask(|index| index.prepare_cached(LAST_FILE)?.query_row([], file).optional())
    }

    /// The newest files with a lower number than `below`, at most so many, newest first.
    pub fn files_before(&self, below: u64, most: usize) -> Result<Vec<SealedFile>, IndexError> {
        self.ask(|index| {
            let sql =
                "SELECT number, first_seq, last_seq, from_ms, to_ms, upto_ms, bytes, whole FROM segments
                       WHERE number < ?1 ORDER BY number DESC LIMIT ?2";
            index.prepare_cached(sql)?.query_map(params![below, most], file)?.collect()
        })
    }

    /// The files that could not be read to their end, oldest first.
    pub fn broken_files(&self) -> Result<Vec<SealedFile>, IndexError> {
        self.ask(|index| {
            let sql =
                "SELECT number, first_seq, last_seq, from_ms, to_ms, upto_ms, bytes, whole FROM segments
                       WHERE NOT whole ORDER BY number";
            index.prepare_cached(sql)?.query_map([], file)?.collect()
        })
    }

    /// Behind one message and up to another: stretches of messages in which the index may lack some, since files
    /// of the index's were gone or could not be read. First and last number of each, ascending.
    pub(super) fn not_known(&self, after: u64, upto: u64) -> Result<Vec<(u64, u64)>, IndexError> {
        self.ask(|index| {
            let sql = "SELECT first_seq, last_seq, whole FROM segments
                       WHERE last_seq >= ?1 ORDER BY number";
            let mut statement = index.prepare_cached(sql)?;
            let mut rows = statement.query([after])?;
            let (mut stretches, mut behind) = (Vec::new(), after.saturating_add(1));
            while let Some(row) = rows.next()? {
                let (first, last, whole): (u64, u64, bool) = (row.get(0)?, row.get(1)?, row.get(2)?);
                let from = if whole { first } else { last.saturating_add(1) };
                let begin = behind;
                let end = from.saturating_sub(1).min(upto);
                if begin <= end {
                    stretches.push((begin, end));
                }
                behind = behind.max(last.saturating_add(1));
                if last >= upto {
                    break;
                }
            }
            Ok(stretches)
        })
    }

    /// The newest file that is in the index and all runs, oldest first, at one moment.
    pub(super) fn last_file_and_runs(&self) -> Result<(Option<SealedFile>, Vec<Run>), IndexError> {
        self.ask(|index| {
            let _transaction = index.unchecked_transaction()?;
            let last = index.prepare_cached(LAST_FILE)?.query_row([], file).optional()?;
            let runs = index.prepare_cached(RUNS)?.query_map([], run)?.collect::<Result<_, _>>()?;
            Ok((last, runs))
        })
    }

    /// All runs, oldest first.
    pub fn runs(&self) -> Result<Vec<Run>, IndexError> {
        self.ask(|index| index.prepare_cached(RUNS)?.query_map([], run)?.collect())
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
}
