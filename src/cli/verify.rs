//! `minitalk verify`: reads every record of a data directory.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use nix::fcntl::{Flock, FlockArg};

use super::lock::{self, LockError};
use crate::journal::JournalError;
use crate::journal::check::{self, Problem, Summary};
use crate::journal::undo::{self, MARK, Mark};

/// Checks all logs and says on standard output what is wrong, a line for each problem, then one that
/// sums up. Exit code 0: everything is as it was written; 1: it is not, or can't be read; 2: there is no
/// such directory. A server may be running.
pub fn run(data_dir: &Path) -> ExitCode {
    if !data_dir.is_dir() {
        // If nothing can be written, the exit code has to do.
        let _ = writeln!(io::stderr(), "minitalk: {}", LockError::Missing(data_dir.display().to_string()));
        return ExitCode::from(2);
    }
    let mut out = io::stdout().lock();
    match report(data_dir, &mut out) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // If nothing can be written, the exit code has to do.
            let _ = writeln!(io::stderr(), "minitalk: cannot write the output: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Writes what [`run`] says; answers whether all is well.
///
/// # Errors
/// `out` can't be written.
pub fn report(data_dir: &Path, out: &mut dyn Write) -> io::Result<bool> {
    if let Err(error) = take_back(data_dir, out)? {
        writeln!(out, "unreadable: {error}")?;
        return Ok(false);
    }
    let mut written = Ok(());
    let checked = check::check(data_dir, is_locked(data_dir), &mut |problem| {
        let Problem { path, line, byte, what } = problem;
        if written.is_ok() {
            written = writeln!(out, "{}:{line}: byte {byte}: {what}", path.display());
        }
    });
    written?;
    match checked {
        Ok(summary) => {
            let good = good(&summary);
            match summary.problems {
                0 => writeln!(out, "clean: {good}")?,
                problems => writeln!(out, "damaged: {problems} problems; good are {good}")?,
            }
            Ok(summary.problems == 0)
        }
        Err(error) => {
            writeln!(out, "unreadable: {error}")?;
            Ok(false)
        }
    }
}

/// What is as it was written; challenges are named where there are any.
fn good(summary: &Summary) -> String {
    let Summary { messages, files, users, rooms, challenges, .. } = summary;
    let good = format!("{messages} messages in {files} files, {users} users, {rooms} room records");
    if *challenges > 0 { format!("{good}, {challenges} challenge records") } else { good }
}

/// If an import was interrupted here, takes back what it wrote, and says so. Nothing else is ever
/// changed, and not even that while somebody has the directory locked.
fn take_back(data_dir: &Path, out: &mut dyn Write) -> io::Result<Result<(), JournalError>> {
    let lock = match Mark::read(data_dir) {
        Ok(None) => return Ok(Ok(())),
        Ok(Some(_)) => lock::lock(data_dir),
        Err(error) => return Ok(Err(error)),
    };
    match lock {
        Err(LockError::InUse(_) | LockError::Missing(_)) => Ok(Ok(())),
        Err(LockError::Unusable { source, .. }) => {
            Ok(Err(JournalError::Io { path: data_dir.join(MARK), source }))
        }
        Ok(_held) => match undo::undo(data_dir) {
            Ok(bytes) => {
                let bytes = bytes.unwrap_or(0);
                writeln!(out, "an import had been interrupted: took back the {bytes} bytes it had written")?;
                Ok(Ok(()))
            }
            Err(error) => Ok(Err(error)),
        },
    }
}

/// Whether a server has the data directory. Asked for a moment by a lock of our own, which others wait
/// out.
fn is_locked(data_dir: &Path) -> bool {
    match File::open(data_dir.join("LOCK")) {
        Ok(file) => Flock::lock(file, FlockArg::LockSharedNonblock).is_err(),
        Err(_) => false,
    }
}
