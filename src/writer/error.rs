//! Why there is no storage writer, and whether there could be another.

use std::io;

use minitalk_supervisor::child::EXIT_CANNOT_LIVE;

use crate::index::IndexError;
use crate::index::build::BuildError;
use crate::journal::JournalError;

/// Why there is no storage writer.
#[derive(Debug, thiserror::Error)]
pub enum WriterError {
    /// A log can't be read, or is damaged.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The index can't be read or written.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The supervisor did not hand over what is needed.
    #[error("{0}")]
    Start(String),
    /// The system refused something.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A thread ended that must not.
    #[error("the {0} thread ended")]
    Thread(&'static str),
}

impl From<BuildError> for WriterError {
    fn from(error: BuildError) -> WriterError {
        match error {
            BuildError::Journal(error) => WriterError::Journal(error),
            BuildError::Index(error) => WriterError::Index(error),
        }
    }
}

impl WriterError {
    /// Exit code of the process: whether starting it again may help.
    pub fn exit_code(&self) -> u8 {
        let hopeless = |error: &io::Error| {
            use io::ErrorKind::{NotADirectory, NotFound, PermissionDenied, ReadOnlyFilesystem};
            matches!(error.kind(), NotADirectory | NotFound | PermissionDenied | ReadOnlyFilesystem)
        };
        let cannot_live = match self {
            WriterError::Journal(JournalError::Damaged { .. }) => true,
            WriterError::Journal(JournalError::Io { source, .. }) => hopeless(source),
            WriterError::Index(IndexError::Io(error)) => hopeless(error),
            WriterError::Start(_) => true,
            WriterError::Index(_) | WriterError::Io(_) | WriterError::Thread(_) => false,
        };
        if cannot_live { EXIT_CANNOT_LIVE } else { 1 }
    }
}
