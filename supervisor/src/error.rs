//! Why a host could not be started. Each is one line for the operator; nothing has been served yet.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// A start that failed.
#[derive(Debug)]
pub enum StartError {
    /// The address cannot be listened on: in use, not of this host, or not permitted.
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// The data directory cannot be made or written.
    DataDir {
        /// The directory, or the file in it.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Another host works in the data directory.
    Locked {
        /// The directory.
        data_dir: PathBuf,
        /// The process that holds it, as far as it is known.
        pid: Option<i32>,
    },
    /// The supervisor's own needs (signals, sockets, settings) were refused.
    System {
        /// What was being done.
        what: &'static str,
        /// What the system said.
        error: io::Error,
    },
}

impl StartError {
    pub(crate) fn is_address_in_use(&self) -> bool {
        matches!(self, StartError::Listen { error, .. } if error.kind() == io::ErrorKind::AddrInUse)
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Listen { address, .. } if self.is_address_in_use() => {
                write!(f, "cannot listen on {address}: the address is in use by another process")
            }
            StartError::Listen { address, error } => write!(f, "cannot listen on {address}: {error}"),
            StartError::DataDir { path, error } => write!(f, "cannot use {}: {error}", path.display()),
            StartError::Locked { data_dir, pid: Some(pid) } => {
                write!(f, "data directory {} is in use by process {pid}", data_dir.display())
            }
            StartError::Locked { data_dir, pid: None } => {
                write!(f, "data directory {} is in use by another process", data_dir.display())
            }
            StartError::System { what, error } => write!(f, "cannot {what}: {error}"),
        }
    }
}

impl std::error::Error for StartError {}
