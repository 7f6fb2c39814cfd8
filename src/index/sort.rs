//! Sorts more than memory holds, in a file that is gone afterwards.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, params};

use super::{IndexError, schema, store};

/// KiB that are sorted in memory at a time.
const CACHE_KIB: i64 = 65_536;

/// Entries answered at a time.
const PAGE: u64 = 10_000;

/// Entries with keys. SQLite has the one external sort of this program.
pub struct Sorter {
    connection: Connection,
    file: PathBuf,
}

impl Sorter {
    /// An empty one, in a data directory.
    ///
    /// # Errors
    /// The disk refuses; so for all below.
    pub fn new(data_dir: &Path) -> Result<Sorter, IndexError> {
        store::make_directory(data_dir)?;
        let file = schema::directory(data_dir).join("sorting.sqlite");
        let _ = std::fs::remove_file(&file);
        let connection = Connection::open(&file)?;
        connection.pragma_update(None, "journal_mode", "OFF")?;
        connection.pragma_update(None, "synchronous", "OFF")?;
        connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
        connection
            .execute_batch("CREATE TABLE entries (key INTEGER NOT NULL, value BLOB NOT NULL); BEGIN")?;
        Ok(Sorter { connection, file })
    }

    /// Adds an entry.
    pub fn add(&self, key: u64, value: &[u8]) -> Result<(), IndexError> {
        let sql = "INSERT INTO entries (key, value) VALUES (?1, ?2)";
        self.connection.prepare_cached(sql)?.execute(params![key, value])?;
        Ok(())
    }

    /// Sorts by key; those of one key stay in order.
    pub fn sort(&self) -> Result<(), IndexError> {
        let sql = "CREATE TABLE sorted AS SELECT value FROM entries ORDER BY key, rowid; DROP TABLE entries";
        Ok(self.connection.execute_batch(sql)?)
    }

    /// Some entries behind the first `after` of those sorted, in order; none: that was all.
    pub fn page(&self, after: u64) -> Result<Vec<Vec<u8>>, IndexError> {
        let sql = "SELECT value FROM sorted WHERE rowid > ?1 ORDER BY rowid LIMIT ?2";
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map(params![after, PAGE], |row| row.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

impl Drop for Sorter {
    fn drop(&mut self) {
        // What is left is overwritten by the next one.
        let _ = std::fs::remove_file(&self.file);
    }
}
