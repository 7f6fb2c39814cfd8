//! `minitalk reindex`: builds anew everything that is derived from the logs.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::config::Environment;
use crate::index::build::{self, BuildError};
use crate::observe;

/// Why nothing was built.
#[derive(Debug, thiserror::Error)]
pub enum ReindexError {
    /// A server is using the directory; nothing was changed.
    #[error("{0} is in use by a server; stop it first (it builds the index by itself if there is none)")]
    InUse(String),
    /// The directory is not there or not usable; nothing was changed.
    #[error("{path}: {source}")]
    Unusable {
        /// What was looked for.
        path: String,
        /// What the system said.
        source: io::Error,
    },
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
                ReindexError::InUse(_) | ReindexError::Unusable { .. } => ExitCode::from(2),
            }
        }
    }
}

/// Does it; answers how many records of users and of rooms were read.
///
/// # Errors
/// See [`ReindexError`].
pub fn reindex(data_dir: &Path) -> Result<(u64, u64), ReindexError> {
    let _lock = lock(data_dir)?;
    let ends = build::rebuild(data_dir, &mut |_, _, _| {})?;
    Ok((ends.users.records, ends.rooms.records))
}

/// Keeps servers out while it is held.
fn lock(data_dir: &Path) -> Result<Flock<File>, ReindexError> {
    let path = data_dir.join("LOCK");
    let unusable = |source| ReindexError::Unusable { path: path.display().to_string(), source };
    let opened =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
    Flock::lock(opened.map_err(unusable)?, FlockArg::LockExclusiveNonblock).map_err(
        |(_, errno)| match errno {
            Errno::EWOULDBLOCK => ReindexError::InUse(data_dir.display().to_string()),
            errno => unusable(errno.into()),
        },
    )
}
