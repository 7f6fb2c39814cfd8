//! `minitalk verify`: reads every record of a data directory.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use nix::fcntl::{Flock, FlockArg};

use crate::journal::check::{self, Problem, Summary};

/// Checks all logs and says on standard output what is wrong, a line for each problem, then one that
/// sums up. Exit code 0: everything is as it was written; 1: it is not, or can't be read. A server may
/// be running.
pub fn run(data_dir: &Path) -> ExitCode {
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
    let mut written = Ok(());
    let checked = check::check(data_dir, is_locked(data_dir), &mut |problem| {
        let Problem { path, line, byte, what } = problem;
        if written.is_ok() {
            written = writeln!(out, "{}:{line}: byte {byte}: {what}", path.display());
        }
    });
    written?;
    match checked {
        Ok(Summary { messages, files, users, rooms, problems: 0 }) => {
            writeln!(
                out,
                "clean: {messages} messages in {files} files, {users} users, {rooms} room records"
            )?;
            Ok(true)
        }
        Ok(Summary { messages, files, users, rooms, problems }) => {
            writeln!(
                out,
                "damaged: {problems} problems; \
                 good are {messages} messages in {files} files, {users} users, {rooms} room records"
            )?;
            Ok(false)
        }
        Err(error) => {
            writeln!(out, "unreadable: {error}")?;
            Ok(false)
        }
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
