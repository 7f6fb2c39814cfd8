//! Appending to logs, and what happens when the disk refuses.
//!
//! A failed write or sync is never tried again on the same handle: the kernel may have dropped the
//! pages and answer the next sync with success. The handle is dropped instead, and [`Log::heal`]
//! opens the file anew, cuts it back to the last accepted record and writes anew what was accepted
//! without being known to be durable. Until that succeeds, nothing is appended, and as long as
//! refused records may still be in the file ([`Log::is_tainted`]) their senders are told nothing:
//! a recovery might find them good.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use super::disk::{Disk, LogFile};
use super::lines::Lines;
use super::record;
use crate::metrics::histogram::Histogram;

/// Bytes written at a time when records are written anew.
const REWRITE_BYTES: usize = 256 << 10;

/// Bytes written to find out whether a disk takes writes: a page, so that a full disk shows.
const PROBE_BYTES: usize = 4 << 10;

/// One file being appended to.
pub struct Log {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    /// `None` after a failure.
    file: Option<Box<dyn LogFile>>,
    /// Bytes of accepted records: where the next is written.
    end: u64,
    /// Bytes known to be durable, at most `end`.
    synced: u64,
    /// Refused records may stand behind `end`, in the file or on the device.
    tainted: bool,
    /// How long syncs take, if anybody wants to know.
    times: Option<Arc<Histogram>>,
}

impl Log {
    /// An existing file whose records up to byte `end` are good and up to byte `synced` durable. It
    /// has to be healed before it can be appended to.
    pub fn broken(disk: Arc<dyn Disk>, path: PathBuf, end: u64, synced: u64) -> Log {
        Log { disk, path, file: None, end, synced, tainted: false, times: None }
    }

    /// A new, empty file that will be there after a crash.
    ///
    /// # Errors
    /// The disk refused. The file may exist.
    pub fn create(disk: Arc<dyn Disk>, path: PathBuf) -> io::Result<Log> {
        let mut file = disk.create(&path)?;
        file.sync()?;
        disk.sync_dir(path.parent().unwrap_or(Path::new(".")))?;
        Ok(Log { disk, path, file: Some(file), end: 0, synced: 0, tainted: false, times: None })
    }

    /// Notes how long each sync of accepted records takes from now on.
    pub fn note_times(&mut self, times: Arc<Histogram>) {
        self.times = Some(times);
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of accepted records.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Whether all accepted records are known to be durable.
    pub fn is_synced(&self) -> bool {
        self.synced == self.end
    }

    /// Whether [`Log::heal`] must succeed before anything is appended.
    pub fn is_broken(&self) -> bool {
        self.file.is_none()
    }

    /// Whether records that were not accepted may be found behind the end by whoever reads the file
    /// next, a recovery included. Healing the log makes sure that they are not; before that nobody may
    /// be told that they were refused.
    pub fn is_tainted(&self) -> bool {
        self.tainted
    }

    /// Appends whole records. Accepted when written or, with `sync`, when durable.
    ///
    /// # Errors
    /// None of the records is accepted, and the log is broken.
    pub fn append(&mut self, records: &[u8], sync: bool) -> io::Result<()> {
        let Some(file) = self.file.as_mut() else {
            return Err(io::Error::other("the log is not open"));
        };
        let end = self.end + records.len() as u64;
        let mut result = write_all(file.as_mut(), records, self.end).and_then(|whole| match whole {
            true => Ok(()),
            false => is_written(&self.path, records, self.end),
        });
        if sync && result.is_ok() {
            result = timed(self.times.as_deref(), || file.sync());
        }
        match result {
            Ok(()) => {
                self.end = end;
                if sync {
                    self.synced = end;
                }
            }
            Err(_) => {
                self.file = None;
                // Where the file did not grow, nothing of the records is in it.
                self.tainted = fs::metadata(&self.path).map_or(true, |file| file.len() > self.end);
            }
        }
        result
    }

    /// Makes all accepted records durable.
    ///
    /// # Errors
    /// The log is broken; healing it writes them anew.
    pub fn sync(&mut self) -> io::Result<()> {
        if self.is_synced() {
            return Ok(());
        }
        let Some(file) = self.file.as_mut() else {
            return Err(io::Error::other("the log is not open"));
        };
        let result = timed(self.times.as_deref(), || file.sync());
        match result {
            Ok(()) => self.synced = self.end,
            Err(_) => self.file = None,
        }
        result
    }

    /// Takes back what was accepted behind byte `end`. The log is broken until it is healed.
    pub fn take_back(&mut self, end: u64) {
        self.file = None;
        self.tainted |= self.end > end;
        self.end = self.end.min(end);
        self.synced = self.synced.min(end);
    }

    /// Makes a broken log fit to be appended to: opens it anew, cuts it behind the last accepted
    /// record, and makes all accepted records durable.
    ///
    /// # Errors
    /// The log is as broken as before.
    pub fn heal(&mut self) -> io::Result<()> {
        if self.file.is_some() {
            return Ok(());
        }
        let mut file = self.disk.open(&self.path)?;
        file.set_len(self.end)?;
        self.rewrite(file.as_mut())?;
        file.sync()?;
        self.synced = self.end;
        self.file = Some(file);
        self.tainted = false;
        Ok(())
    }

    /// Finds out whether a disk that failed takes writes again, without leaving anything behind.
    ///
    /// # Errors
    /// It does not. The log is broken.
    pub fn probe(&mut self) -> io::Result<()> {
        self.heal()?;
        let Some(file) = self.file.as_mut() else {
            return Err(io::Error::other("the log is not open"));
        };
        // Should the process end in between, recovery finds an unfinished write and cuts it.
        let result = write_all(file.as_mut(), &[b'?'; PROBE_BYTES], self.end)
            .and_then(|_| file.sync())
            .and_then(|()| file.set_len(self.end))
            .and_then(|()| file.sync());
        if result.is_err() {
            self.file = None;
            // Nothing of the probe may stay for readers to stumble over, if that can be had.
            let _ = self.heal();
        }
        result
    }

    /// Writes the records that are not known to be durable over themselves: what the kernel has
    /// given up on writing becomes new to it.
    fn rewrite(&self, file: &mut dyn LogFile) -> io::Result<()> {
        if self.is_synced() {
            return Ok(());
        }
        let source = File::open(&self.path)?;
        let mut lines = Lines::up_to(&source, self.synced, self.end);
        let mut place = self.synced;
        let mut records = Vec::new();
        while let Some(line) = lines.next_line()? {
            if record::check(line.bytes).is_err() || !line.finished {
                let text = format!("an accepted record at byte {} is gone", line.start);
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
            records.extend_from_slice(line.bytes);
            records.push(b'\n');
            if records.len() >= REWRITE_BYTES {
                write_all(file, &records, place)?;
                place = line.end;
                records.clear();
            }
        }
        write_all(file, &records, place).map(drop)
    }
}

/// Does something and notes how long that took.
fn timed<T>(times: Option<&Histogram>, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let done = work();
    if let Some(times) = times {
        times.note_time(start.elapsed());
    }
    done
}

/// What a device that takes less than it was given says of the rest is looked at before it is
/// believed. Costs nothing otherwise.
fn is_written(path: &Path, records: &[u8], place: u64) -> io::Result<()> {
    let mut found = vec![0; records.len()];
    File::open(path)?.read_exact_at(&mut found, place)?;
    if found == records {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "what was written in part is not in the file"))
}

/// Writes all of `bytes` at a place; answers whether one write took it all.
///
/// # Errors
/// The disk refused; a part may be there.
pub fn write_all(file: &mut dyn LogFile, mut bytes: &[u8], mut place: u64) -> io::Result<bool> {
    let all = bytes.len();
    let mut whole = true;
    while !bytes.is_empty() {
        match file.write_at(bytes, place) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                whole &= count == all;
                bytes = &bytes[count..];
                place += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(whole)
}
