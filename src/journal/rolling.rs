//! Appending to the messages' files: when one is full, the next begins.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::append::Log;
use super::disk::Disk;
use super::segment::Segment;
use crate::metrics::histogram::Histogram;

/// The messages' files: the newest is appended to, and followed by another when it is full.
pub struct Segments {
    disk: Arc<dyn Disk>,
    data_dir: PathBuf,
    /// Number of the newest file.
    number: u64,
    /// Records in it.
    records: u64,
    log: Log,
    /// Records of a full file.
    per_file: u64,
    /// How long syncs take, if anybody wants to know.
    times: Option<Arc<Histogram>>,
}

impl Segments {
    /// Goes on with a file that recovery has found to hold `records` good ones.
    pub fn resume(
        disk: Arc<dyn Disk>,
        data_dir: PathBuf,
        number: u64,
        records: u64,
        log: Log,
        per_file: u64,
    ) -> Segments {
        Segments { disk, data_dir, number, records, log, per_file: per_file.max(1), times: None }
    }

    /// Notes how long each sync takes from now on.
    pub fn note_times(&mut self, times: Arc<Histogram>) {
        self.log.note_times(times.clone());
        self.times = Some(times);
    }

    /// Records that one call of [`Segments::append`] may bring: what is left of the file.
    pub fn room(&self) -> u64 {
        if self.is_full() { self.per_file } else { self.per_file - self.records }
    }

    /// The newest file, its number and its records.
    pub fn newest(&self) -> (&Log, u64, u64) {
        (&self.log, self.number, self.records)
    }

    /// Appends `count` whole records, at most [`Segments::room`], to one file.
    ///
    /// # Errors
    /// None of them is accepted; [`Segments::heal`] must succeed before the next call.
    pub fn append(&mut self, records: &[u8], count: u64, sync: bool) -> io::Result<()> {
        if self.is_full() {
            self.roll()?;
        }
        self.log.append(records, sync)?;
        self.records += count;
        Ok(())
    }

    /// Makes all accepted records durable.
    ///
    /// # Errors
    /// As [`Log::sync`].
    pub fn sync(&mut self) -> io::Result<()> {
        self.log.sync()
    }

    /// As [`Log::heal`].
    ///
    /// # Errors
    /// As [`Log::heal`].
    pub fn heal(&mut self) -> io::Result<()> {
        self.log.heal()
    }

    /// As [`Log::is_tainted`].
    pub fn is_tainted(&self) -> bool {
        self.log.is_tainted()
    }

    /// As [`Log::probe`]; begins the next file if this one is full.
    ///
    /// # Errors
    /// As [`Log::probe`].
    pub fn probe(&mut self) -> io::Result<()> {
        if self.is_full() {
            self.heal()?;
            self.roll()?;
        }
        self.log.probe()
    }

    /// Whether the next call of [`Segments::append`] begins a new file, which makes durable all that
    /// was accepted before.
    pub fn is_full(&self) -> bool {
        self.records >= self.per_file
    }

    /// Sees to it that the newest file is empty; answers its number. All that was accepted is durable
    /// then, in the files before it.
    ///
    /// # Errors
    /// The disk refused; [`Segments::heal`] must succeed before the next call.
    pub fn begin_file(&mut self) -> io::Result<u64> {
        if self.records > 0 {
            self.roll()?;
        }
        Ok(self.number)
    }

    /// A full file is durable, whatever the policy, before there is a next one: so damage in any but
    /// the newest file is never an unfinished write.
    fn roll(&mut self) -> io::Result<()> {
        self.log.sync()?;
        let next = Segment::at(&self.data_dir, self.number + 1);
        self.log = Log::create(self.disk.clone(), next.path)?;
        if let Some(times) = &self.times {
            self.log.note_times(times.clone());
        }
        self.number = next.number;
        self.records = 0;
        Ok(())
    }
}
