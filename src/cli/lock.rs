//! Keeps servers out of a data directory while a command works in it.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// Why a data directory can't be had; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// A server, or another command, is using it.
    #[error("{0} is in use by a server or another command; stop it first")]
    InUse(String),
    /// There is no such directory.
    #[error("there is no data directory {0}: is --data-dir (or MINITALK_DATA_DIR) right?")]
    Missing(String),
    /// The directory is not usable.
    #[error("{path}: {source}")]
    Unusable {
        /// What was looked for.
        path: String,
        /// What the system said.
        source: io::Error,
    },
}

/// Keeps servers out while it is held.
pub type Held = Flock<File>;

/// Locks a data directory that is there.
///
/// # Errors
/// See [`LockError`].
pub fn lock(data_dir: &Path) -> Result<Held, LockError> {
    let path = data_dir.join("LOCK");
    let unusable = |source| LockError::Unusable { path: path.display().to_string(), source };
    let opened =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
    let opened = opened.map_err(|error| match data_dir.is_dir() {
        true => unusable(error),
        false => LockError::Missing(data_dir.display().to_string()),
    });
    Flock::lock(opened?, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        Errno::EWOULDBLOCK => LockError::InUse(data_dir.display().to_string()),
        errno => unusable(errno.into()),
    })
}

/// Locks a data directory, which is made if it is missing.
///
/// # Errors
/// See [`LockError`].
pub fn make_and_lock(data_dir: &Path) -> Result<Held, LockError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(data_dir);
    made.map_err(|source| LockError::Unusable { path: data_dir.display().to_string(), source })?;
    lock(data_dir)
}
