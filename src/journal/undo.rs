//! Makes a large addition to the logs all or nothing.
//!
//! Before the first record of it a small file, `IMPORT`, says where the logs end; after the last one,
//! once all is durable, the file goes. Whoever opens the data directory next and finds it cuts the logs
//! back to those ends: the process that wrote on was interrupted, and nobody has seen what it wrote.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::segment::{self, Segment};
use super::{JournalError, ROOMS, USERS};

/// The file that says that something is unfinished, in the data directory.
pub const MARK: &str = "IMPORT";

/// Where the logs ended before an addition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Bytes of `users.jsonl`.
    pub users: u64,
    /// Bytes of `chatrooms.jsonl`.
    pub rooms: u64,
    /// Number of the newest file of messages.
    pub file: u64,
    /// Bytes of that file.
    pub messages: u64,
}

impl Mark {
    /// Makes it known that what is behind these ends is unfinished. Durable when this returns.
    ///
    /// # Errors
    /// The disk refused; nothing may be appended.
    pub fn set(self, data_dir: &Path) -> Result<(), JournalError> {
        let path = data_dir.join(MARK);
        let new = data_dir.join("IMPORT.new");
        let write = || {
            let text = serde_json::to_string(&self)?;
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            sync_dir(data_dir)
        };
        write().map_err(JournalError::io(&path))
    }

    /// The mark in a data directory, if something is unfinished there.
    ///
    /// # Errors
    /// It can't be read.
    pub fn read(data_dir: &Path) -> Result<Option<Mark>, JournalError> {
        let path = data_dir.join(MARK);
        match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(JournalError::Io { path, source }),
            Ok(bytes) => match serde_json::from_slice(&bytes) {
                Ok(mark) => Ok(Some(mark)),
                Err(error) => Err(JournalError::Damaged { path, line: 1, byte: 0, what: error.to_string() }),
            },
        }
    }
}

/// The addition is complete and durable, or taken back: the mark goes, durably.
///
/// # Errors
/// The disk refused; the addition may yet be taken back by whoever comes next.
pub fn clear(data_dir: &Path) -> Result<(), JournalError> {
    let path = data_dir.join(MARK);
    fs::remove_file(&path).and_then(|()| sync_dir(data_dir)).map_err(JournalError::io(&path))
}

/// Takes back an unfinished addition, if there is one; says how many bytes that were. The caller holds
/// the lock of the data directory.
///
/// # Errors
/// The disk refused; the mark is still there.
pub fn undo(data_dir: &Path) -> Result<Option<u64>, JournalError> {
    let Some(mark) = Mark::read(data_dir)? else {
        return Ok(None);
    };
    let mut bytes = 0;
    for segment in segment::list(data_dir)?.into_iter().filter(|segment| segment.number > mark.file) {
        let wrap = JournalError::io(&segment.path);
        let removed = fs::metadata(&segment.path).and_then(|file| {
            bytes += file.len();
            fs::remove_file(&segment.path)
        });
        removed.map_err(wrap)?;
    }
    let newest = Segment::at(data_dir, mark.file).path;
    for (path, end) in
        [(data_dir.join(USERS), mark.users), (data_dir.join(ROOMS), mark.rooms), (newest, mark.messages)]
    {
        bytes += cut(&path, end).map_err(JournalError::io(&path))?;
    }
    clear(data_dir)?;
    Ok(Some(bytes))
}

/// The same, of somebody who comes after an import that was interrupted, and says so in the log.
///
/// # Errors
/// Those of [`undo`].
pub fn clean_up(data_dir: &Path) -> Result<(), JournalError> {
    if let Some(bytes) = undo(data_dir)? {
        tracing::warn!(bytes, "an import had been interrupted; took back what it had written");
    }
    Ok(())
}

/// Cuts a file to at most `end` bytes, durably; answers how many it lost.
fn cut(path: &PathBuf, end: u64) -> io::Result<u64> {
    let file = match OpenOptions::new().write(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        other => other?,
    };
    let more = file.metadata()?.len().saturating_sub(end);
    if more > 0 {
        file.set_len(end)?;
        file.sync_all()?;
    }
    Ok(more)
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unfinished_is_cut_and_what_was_before_stays() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        for (name, text) in [(USERS, "before"), (ROOMS, ""), ("messages_000002.jsonl", "12")] {
            fs::write(dir.join(name), text).unwrap();
        }
        assert_eq!(undo(dir).unwrap(), None);
        let mark = Mark { users: 6, rooms: 0, file: 2, messages: 2 };
        mark.set(dir).unwrap();
        assert_eq!(Mark::read(dir).unwrap(), Some(mark));
        for (name, text) in [
            (USERS, "before and after"),
            (ROOMS, "new"),
            ("messages_000002.jsonl", "123"),
            ("messages_000003.jsonl", "4"),
        ] {
            fs::write(dir.join(name), text).unwrap();
        }
        assert_eq!(undo(dir).unwrap(), Some(10 + 3 + 1 + 1));
        assert_eq!(fs::read(dir.join(USERS)).unwrap(), b"before");
        assert_eq!(fs::read(dir.join(ROOMS)).unwrap(), b"");
        assert_eq!(fs::read(dir.join("messages_000002.jsonl")).unwrap(), b"12");
        assert!(!dir.join("messages_000003.jsonl").exists());
        assert!(!dir.join(MARK).exists());
        assert_eq!(undo(dir).unwrap(), None);
    }

    #[test]
    fn a_mark_that_cannot_be_read_is_an_error_and_nothing_is_cut() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(MARK), "{").unwrap();
        fs::write(dir.path().join(USERS), "text").unwrap();
        assert!(undo(dir.path()).unwrap_err().to_string().contains(MARK));
        assert_eq!(fs::read(dir.path().join(USERS)).unwrap(), b"text");
    }
}
