//! Makes a log shorter: leaves out the records that the index shows to be of no effect any more.
//!
//! A record dies when a later one ends what it began, and never comes back: members leave, rooms are
//! deleted with the last of them, users with all others. So each record may be judged by the index as
//! it is at that moment, with no snapshot held open: whatever killed it stands behind the part that is
//! being judged, and everything there is copied as it is. Replaying the result gives what replaying the
//! whole log gives, places of members included.
//!
//! The caller keeps the newest part from being judged, holds changes back while the very last of it is
//! copied, and gives the result the log's name. [`living`] judges.

mod living;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

pub use self::living::Living;

use self::living::{Kept, Mortal};
use super::IndexError;
use super::build::BuildError;
use super::store::LogName;
use crate::journal::compacted::{self, Compacted, HEADER_BYTES};
use crate::journal::disk::{Disk, LogFile};
use crate::journal::lines::Lines;
use crate::journal::record::{self, BadRecord, Record, RoomRecord, UserRecord};
use crate::journal::{JournalError, append, recover};

/// Bytes written at a time.
const WRITE_BYTES: usize = 256 << 10;

/// Bytes written between two syncs, so that the last one is short and disturbs nobody.
const SYNC_BYTES: u64 = 8 << 20;

/// Places of a log looked at to estimate how much of it lives.
const SAMPLES: u64 = 64;

/// Records read at each of them.
const SAMPLE_RECORDS: usize = 64;

/// Why a log was not compacted. It is as it was.
#[derive(Debug, thiserror::Error)]
pub enum CompactError {
    /// A log or the index can't be read, or the new file can't be written.
    #[error(transparent)]
    Failed(#[from] BuildError),
    /// It was told to stop.
    #[error("stopped")]
    Stopped,
}

impl From<IndexError> for CompactError {
    fn from(error: IndexError) -> CompactError {
        CompactError::Failed(error.into())
    }
}

impl From<JournalError> for CompactError {
    fn from(error: JournalError) -> CompactError {
        CompactError::Failed(error.into())
    }
}

/// Called after each piece of work with the bytes of the log that are done; `false`: stop.
pub type Pace<'a> = dyn FnMut(u64) -> bool + 'a;

/// A log's successor that is not finished yet.
pub struct Unfinished {
    log: PathBuf,
    path: PathBuf,
    source: File,
    out: Box<dyn LogFile>,
    header: Compacted,
    /// Byte of the log from which on everything is copied.
    tail: u64,
    /// Byte of the log up to which everything is in the new file.
    done: u64,
    /// Bytes of the new file, those in `buffer` included.
    end: u64,
    /// Bytes of it known to be durable.
    synced: u64,
    buffer: Vec<u8>,
}

/// How a log is to be compacted.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Which one.
    pub log: LogName,
    /// Bytes of it that hold good records.
    pub end: u64,
    /// Bytes at its end that are copied as they are; at least the last record is.
    pub keep: u64,
}

/// Estimates which part of a log's bytes, from 0 to 1, still matters.
///
/// # Errors
/// The log or the index can't be read.
pub fn live_share(data_dir: &Path, plan: Plan, living: &Living) -> Result<f64, CompactError> {
    match plan.log {
        LogName::Users => sample::<UserRecord>(data_dir, plan, living),
        _ => sample::<RoomRecord>(data_dir, plan, living),
    }
}

fn sample<R: Mortal>(data_dir: &Path, plan: Plan, living: &Living) -> Result<f64, CompactError> {
    let path = data_dir.join(plan.log.file());
    let file = File::open(&path).map_err(JournalError::io(&path))?;
    let wrap = |source| JournalError::Io { path: path.clone(), source };
    let (mut all, mut lives) = (0, 0);
    for place in 0..SAMPLES {
        // The first line behind the place: long lines are as likely to be met as they are long.
        let start = recover::line_start_before(&file, plan.end / SAMPLES * place, 0).map_err(wrap)?;
        let mut lines = Lines::up_to(&file, start, plan.end);
        for _ in 0..SAMPLE_RECORDS {
            let Some(line) = lines.next_line().map_err(wrap)? else {
                break;
            };
            let Ok(record) = record::decode::<R>(line.bytes) else {
                continue; // The header; damage is for others to find.
            };
            let bytes = line.bytes.len();
            all += bytes;
            lives += match record.judge(living)? {
                Kept::All => bytes,
                Kept::Part(part) => encoded(&part).len(),
                Kept::Nothing => 0,
            };
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    let share = lives as f64 / all.max(1) as f64;
    Ok(share)
}

fn encoded<R: Record>(record: &R) -> Vec<u8> {
    let mut line = Vec::new();
    record::encode(record, &mut line);
    line
}

/// Writes what matters of a log's older part beside it. `None`: it has no older part.
///
/// # Errors
/// See [`CompactError`]; what was written is removed.
pub fn write(
    data_dir: &Path,
    disk: &dyn Disk,
    plan: Plan,
    living: &Living,
    pace: &mut Pace<'_>,
) -> Result<Option<Unfinished>, CompactError> {
    let log = data_dir.join(plan.log.file());
    let wrap = |source| JournalError::Io { path: log.clone(), source };
    let source = File::open(&log).map_err(wrap)?;
    let before = Compacted::of(&source).map_err(wrap)?;
    let begin = before.map_or(0, |_| HEADER_BYTES as u64);
    let tail = recover::line_start_before(&source, plan.end, plan.keep.max(1)).map_err(wrap)?;
    // Where numbers have gaps already, nothing can be copied as if they had none.
    let tail = tail.max(before.map_or(0, |before| before.bytes));
    if tail <= begin {
        return Ok(None);
    }
    let path = compacted::unfinished(&log);
    let out = disk.create(&path).map_err(JournalError::io(&path))?;
    let header = Compacted { last_user: before.map_or(0, |before| before.last_user), ..Compacted::default() };
    let end = HEADER_BYTES as u64;
    let buffer = vec![b'\n'; HEADER_BYTES];
    let mut new = Unfinished { log, path, source, out, header, tail, done: begin, end, synced: 0, buffer };
    let judged = match plan.log {
        LogName::Users => new.judge::<UserRecord>(living, pace),
        _ => new.judge::<RoomRecord>(living, pace),
    };
    if let Err(error) = judged {
        new.abandon(disk);
        return Err(error);
    }
    new.header.upto = new.header.upto.max(before.map_or(0, |before| before.upto));
    new.header.bytes = new.end;
    Ok(Some(new))
}

impl Unfinished {
    /// Byte of the log from which on everything is copied, and by how much it moves to the front.
    pub fn moves(&self) -> (u64, u64) {
        (self.tail, self.tail.saturating_sub(self.header.bytes))
    }

    /// Byte of the log up to which everything is in the new file.
    pub fn done(&self) -> u64 {
        self.done
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Records of the older part that were kept.
    pub fn kept(&self) -> Compacted {
        self.header
    }

    /// Removes it again.
    pub fn abandon(self, disk: &dyn Disk) {
        drop(self.out);
        if let Err(error) = disk.remove(&self.path) {
            tracing::warn!(file = %self.path.display(), %error, "cannot remove a file that is of no use");
        }
    }

    fn judge<R: Mortal>(&mut self, living: &Living, pace: &mut Pace<'_>) -> Result<(), CompactError> {
        let log = self.log.clone();
        let source = self.source.try_clone().map_err(JournalError::io(&log))?;
        let mut lines = Lines::up_to(&source, self.done, self.tail);
        let mut paced = self.done;
        while let Some(line) = lines.next_line().map_err(JournalError::io(&log))? {
            let damaged = |error: BadRecord| recover::damaged(&source, &log, line.start, error.to_string());
            if !line.finished {
                return Err(damaged(BadRecord::Shape).into());
            }
            let record: R = record::decode(line.bytes).map_err(damaged)?;
            let kept = record.judge(living)?;
            let part = match &kept {
                Kept::All => None,
                Kept::Part(part) => Some(encoded(part)),
                Kept::Nothing => Some(Vec::new()),
            };
            match part {
                None => {
                    self.buffer.extend_from_slice(line.bytes);
                    self.buffer.push(b'\n');
                    self.end += line.end - line.start;
                }
                Some(part) => {
                    self.buffer.extend_from_slice(&part);
                    self.end += part.len() as u64;
                }
            }
            self.header.records += u64::from(!matches!(kept, Kept::Nothing));
            self.header.upto = record.rev();
            self.header.last_user = self.header.last_user.max(record.number());
            self.done = line.end;
            self.flush(WRITE_BYTES)?;
            if self.done - paced >= WRITE_BYTES as u64 {
                paced = self.done;
                if !pace(self.done) {
                    return Err(CompactError::Stopped);
                }
            }
        }
        self.flush(1)
    }

    /// Copies what the log has up to byte `end`, which must hold good records.
    ///
    /// # Errors
    /// See [`CompactError`].
    pub fn copy(&mut self, end: u64, pace: &mut Pace<'_>) -> Result<(), CompactError> {
        use std::os::unix::fs::FileExt;
        let mut piece = vec![0; WRITE_BYTES];
        while self.done < end {
            let wanted = usize::try_from(end - self.done).unwrap_or(WRITE_BYTES).min(WRITE_BYTES);
            let piece = &mut piece[..wanted];
            self.source.read_exact_at(piece, self.done).map_err(JournalError::io(&self.log))?;
            self.buffer.extend_from_slice(piece);
            self.done += wanted as u64;
            self.end += wanted as u64;
            self.flush(1)?;
            if !pace(self.done) {
                return Err(CompactError::Stopped);
            }
        }
        Ok(())
    }

    /// Writes the header and makes all durable; answers the bytes of the new file, which may now take the
    /// log's name.
    ///
    /// # Errors
    /// The disk refused.
    pub fn finish(&mut self) -> Result<u64, CompactError> {
        let wrap = |source| JournalError::Io { path: self.path.clone(), source };
        append::write_all(self.out.as_mut(), &self.header.encode(), 0).map_err(wrap)?;
        self.out.sync().map_err(wrap)?;
        Ok(self.end)
    }

    /// Writes what is gathered if it has that many bytes.
    fn flush(&mut self, least: usize) -> Result<(), CompactError> {
        if self.buffer.len() < least {
            return Ok(());
        }
        let place = self.end - self.buffer.len() as u64;
        let mut result = append::write_all(self.out.as_mut(), &self.buffer, place).map(drop);
        if result.is_ok() && self.end - self.synced >= SYNC_BYTES {
            result = self.out.sync();
            self.synced = self.end;
        }
        self.buffer.clear();
        result.map_err(|source: io::Error| JournalError::Io { path: self.path.clone(), source }.into())
    }
}
