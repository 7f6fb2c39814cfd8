//! Why a command failed: one line for the operator and an exit code for the script.

use std::io::{self, Write};
use std::path::PathBuf;

use minitalk_supervisor::child::ChildError;
use minitalk_supervisor::{NAME, StartError};

use crate::config::BadConfig;

/// A command's failure.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The command line is wrong.
    #[error("{what} (try '{of} --help')")]
    Usage {
        /// What is wrong.
        what: String,
        /// The command whose help says more.
        of: String,
    },
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] BadConfig),
    /// The server could not be started; nothing was changed.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The new executable has the process and cannot go on with the server, which ends. Unlike a [`Fault::Start`] this
    /// says nothing about the next start: the service manager is to try.
    #[error("cannot go on with the server of before, which ends: {0}")]
    NotTakenOver(StartError),
    /// The secret of the tokens could not be read or made.
    #[error("cannot use {}: {error}", path.display())]
    Secret {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: io::Error,
    },
    /// A file that the command is about cannot be read.
    #[error("{}: cannot be read: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// There is no server to ask.
    #[error("no server is running in {}", data_dir.display())]
    NotRunning {
        /// Where it was looked for.
        data_dir: PathBuf,
    },
    /// The server does not answer as it should.
    #[error("the server in {} does not answer: {error}", data_dir.display())]
    NoAnswer {
        /// Where it runs.
        data_dir: PathBuf,
        /// What went wrong.
        error: io::Error,
    },
    /// The server goes on as it was.
    #[error("not upgraded, everything is as it was: {0}")]
    NotUpgraded(String),
    /// The server ended in the middle of it; something may have started it again.
    #[error("the server in {} ended while it was upgraded; its log says why", data_dir.display())]
    EndedInUpgrade {
        /// Where it ran.
        data_dir: PathBuf,
    },
    /// Standard output cannot be written.
    #[error("cannot write the output: {0}")]
    Output(io::Error),
    /// A role was not started as the supervisor starts it.
    #[error(transparent)]
    Child(#[from] ChildError),
    /// A measurement of the storage could not be made.
    #[error(transparent)]
    StorageBench(#[from] super::storage_bench::BenchError),
    /// A process that the supervisor started ended, with its own exit code.
    #[error("{what}")]
    Process {
        /// Which, and why.
        what: String,
        /// Tells the supervisor whether another one would fare better.
        exit_code: u8,
    },
}

impl Fault {
    /// See the exit codes in [`crate::cli`]; a role has the supervisor's.
    pub fn exit_code(&self) -> u8 {
        match self {
            Fault::NotTakenOver(_)
            | Fault::NotRunning { .. }
            | Fault::NoAnswer { .. }
            | Fault::NotUpgraded(_)
            | Fault::EndedInUpgrade { .. }
            | Fault::Output(_) => 1,
            Fault::Usage { .. }
            | Fault::Config(_)
            | Fault::Start(_)
            | Fault::Secret { .. }
            | Fault::Unreadable { .. }
            | Fault::StorageBench(_) => 2,
            Fault::Process { exit_code, .. } => *exit_code,
            Fault::Child(ChildError::NotSupervised) => 2,
            Fault::Child(_) => 1,
        }
    }

    /// One line on standard error; if that is closed, the exit code has to do.
    pub fn tell(&self) {
        let _ = io::stderr().write_all(format!("{NAME}: {self}\n").as_bytes());
    }
}
