//! `minitalk compact`: makes the logs of users and rooms as short as they can be.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use super::lock;
use super::reindex::ReindexError;
use crate::index::build::{self, BuildError};
use crate::index::compact::{self, CompactError, Living, Plan};
use crate::index::store::{LogName, Progress};
use crate::journal::disk::{Disk, RealDisk};
use crate::journal::recover::{self, Scan};
use crate::journal::{JournalError, compacted, resume, undo};

/// Compacts the logs of a data directory. Exit code 0: done; 1: a log is damaged or the disk refused;
/// 2: a server is using the directory (it compacts by itself), or it is none.
pub fn run(data_dir: &Path) -> ExitCode {
    let done = compact(data_dir, &mut |name, before, after| {
        let _ = writeln!(io::stdout(), "compacted: {name} from {before} to {after} bytes");
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "minitalk: {error}");
            match error {
                ReindexError::Build(_) => ExitCode::FAILURE,
                ReindexError::Lock(_) => ExitCode::from(2),
            }
        }
    }
}

/// Does it; tells of each log how many bytes it had and has.
///
/// # Errors
/// See [`ReindexError`]. Each log is as it was, or compacted.
pub fn compact(data_dir: &Path, tell: &mut dyn FnMut(&str, u64, u64)) -> Result<(), ReindexError> {
    let _lock = lock::lock(data_dir)?;
    undo::undo(data_dir).map_err(BuildError::from)?;
    let last = resume::newest_messages(data_dir).map_err(BuildError::from)?.1.next - 1;
    let (store, ends) = build::open(data_dir, last, &mut |_, _, _| {})?;
    let living = Living::open(data_dir).map_err(BuildError::from)?;
    for (log, scan) in [(LogName::Users, ends.users), (LogName::Rooms, ends.rooms)] {
        if let Some(after) = compact_log(data_dir, log, scan, &living)? {
            let progress = store.progress(log).map_err(BuildError::from)?;
            store.set_progress(log, Progress { bytes: after, ..progress }).map_err(BuildError::from)?;
            tell(log.file(), scan.end, after);
        }
    }
    Ok(())
}

/// The log's bytes afterwards; `None`: it is too short to be compacted.
fn compact_log(
    data_dir: &Path,
    log: LogName,
    scan: Scan,
    living: &Living,
) -> Result<Option<u64>, BuildError> {
    let path = data_dir.join(log.file());
    if scan.end == 0 {
        return Ok(None);
    }
    // Records that may not be durable yet must be before they count as having been.
    recover::mend(&(std::sync::Arc::new(RealDisk) as _), path.clone(), scan)?;
    let plan = Plan { log, end: scan.end, keep: 0 };
    let failed = |error| match error {
        CompactError::Failed(error) => error,
        CompactError::Stopped => io::Error::from(io::ErrorKind::Interrupted).into(),
    };
    let new = compact::write(data_dir, &RealDisk, plan, living, &mut |_| true).map_err(failed)?;
    let Some(mut new) = new else {
        return Ok(None);
    };
    let finished = new.copy(scan.end, &mut |_| true).and_then(|()| new.finish()).map_err(failed);
    match finished {
        Ok(after) => {
            RealDisk.rename(&compacted::unfinished(&path), &path).map_err(JournalError::io(&path))?;
            RealDisk.sync_dir(data_dir).map_err(JournalError::io(data_dir))?;
            Ok(Some(after))
        }
        Err(error) => {
            new.abandon(&RealDisk);
            Err(error)
        }
    }
}
