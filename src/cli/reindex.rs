//! `minitalk reindex`: builds anew everything that is derived from the logs.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use super::lock::{self, LockError};
use crate::config::Environment;
use crate::index::build::{self, BuildError};
use crate::index::challenges;
use crate::journal::undo;
use crate::observe;

/// Why nothing was built.
#[derive(Debug, thiserror::Error)]
pub enum ReindexError {
    /// A server is using the directory, or it is none; nothing was changed.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A log is damaged, or the index can't be written; the old index is as it was.
    #[error(transparent)]
    Build(#[from] BuildError),
}

/// Builds the index of a data directory anew. Exit code 0: done; 1: a log is damaged or the disk
/// refused; 2: a server is using the directory, or it is none. The old index stays until the new one
/// is complete. How far it is is said on standard error.
pub fn run(data_dir: &Path, environment: Environment<'_>) -> ExitCode {
    observe::start("reindex", environment);
    match reindex(data_dir) {
        Ok((users, rooms)) => {
            let _ = writeln!(io::stdout(), "indexed: {users} users, {rooms} room records");
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(io::stderr(), "minitalk: {error}");
            match error {
                ReindexError::Build(_) => ExitCode::FAILURE,
                ReindexError::Lock(_) => ExitCode::from(2),
            }
        }
    }
}

/// Does it; answers how many records of users and of rooms were read.
///
/// # Errors
/// See [`ReindexError`].
pub fn reindex(data_dir: &Path) -> Result<(u64, u64), ReindexError> {
    let _lock = lock::lock(data_dir)?;
    undo::undo(data_dir).map_err(BuildError::from)?;
    let ends = build::rebuild(data_dir, &mut |_, _, _| {})?;
    challenges::build::rebuild(data_dir)?;
    Ok((ends.users.records, ends.rooms.records))
}
