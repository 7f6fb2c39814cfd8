//! Space set aside for the time when the disk is full.
//!
//! A full disk refuses more than new records: cutting a log back, syncing it and writing the index
//! may need a few blocks, too. So a file of a known size is kept that holds nothing. When the disk
//! first says that it is full, the file goes, and what must still be written has its space; new
//! operations are refused meanwhile, or they would eat it up. Once the file can be made again there
//! is space for it and for what comes, and operations are taken again.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::statvfs::statvfs;
use parking_lot::Mutex;

use crate::journal::disk::Disk;

/// Name of the file in the data directory.
pub const FILE: &str = "reserve";

/// A small file system gives no more than this part of itself.
const LARGEST_PART: u64 = 16;

/// Bytes of a block on most file systems; less is no reserve.
const BLOCK_BYTES: u64 = 4 << 10;

/// The file, and whether it is there.
pub struct Reserve {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    /// 0: none is wanted.
    bytes: u64,
    /// It was given up and has not been made again.
    released: AtomicBool,
    /// Held while the file is made or removed.
    work: Mutex<()>,
}

impl Reserve {
    /// A reserve of `wanted` bytes, or a sixteenth of the file system if that is less. Nothing is
    /// done yet.
    pub fn new(disk: Arc<dyn Disk>, data_dir: &Path, wanted: u64) -> Reserve {
        let (_, total) = space(data_dir).unwrap_or((0, u64::MAX));
        let bytes = wanted.min(total / LARGEST_PART) / BLOCK_BYTES * BLOCK_BYTES;
        let (path, released) = (data_dir.join(FILE), AtomicBool::new(bytes > 0));
        Reserve { disk, path, bytes, released, work: Mutex::new(()) }
    }

    /// Whether the disk was full and has not been found otherwise since: nothing new may be stored.
    pub fn is_released(&self) -> bool {
        self.released.load(Ordering::Acquire)
    }

    /// The disk is full: what must be written may take the space.
    pub fn release(&self) {
        let _working = self.work.lock();
        if self.bytes == 0 || self.released.swap(true, Ordering::AcqRel) {
            return;
        }
        match self.disk.remove(&self.path) {
            Ok(()) => tracing::warn!(bytes = self.bytes, "the disk is full; the reserve is in use"),
            Err(error) => tracing::error!(%error, "cannot give up the reserve"),
        }
    }

    /// Removes a file that an earlier process left.
    ///
    /// # Errors
    /// The directory can't be written.
    pub fn clear(&self) -> io::Result<()> {
        self.disk.remove(&self.path)
    }

    /// Makes the file if it is not there.
    ///
    /// # Errors
    /// There is no space for it, or the disk takes nothing.
    pub fn restore(&self) -> io::Result<()> {
        let _working = self.work.lock();
        if !self.is_released() {
            return Ok(());
        }
        if let Err(error) = self.disk.reserve(&self.path, self.bytes) {
            // What there is of it is worth more to the others.
            let _ = self.disk.remove(&self.path);
            if error.kind() != io::ErrorKind::Unsupported {
                return Err(error);
            }
            tracing::warn!("the file system sets no space aside; there will be no reserve");
        }
        self.released.store(false, Ordering::Release);
        Ok(())
    }
}

/// Bytes that are free for this process on the file system of a path, and all of its bytes.
///
/// # Errors
/// The file system does not tell.
pub fn space(path: &Path) -> io::Result<(u64, u64)> {
    let stat = statvfs(path)?;
    let unit = stat.fragment_size();
    Ok((stat.blocks_available().saturating_mul(unit), stat.blocks().saturating_mul(unit)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::disk::RealDisk;

    #[test]
    fn it_takes_its_space_and_gives_it_back() {
        let dir = tempfile::tempdir().unwrap();
        let reserve = Reserve::new(Arc::new(RealDisk), dir.path(), 100_000);
        assert!(reserve.is_released());
        reserve.restore().unwrap();
        let file = dir.path().join(FILE);
        assert_eq!(std::fs::metadata(&file).unwrap().len(), 98_304);
        assert!(!reserve.is_released());
        reserve.release();
        assert!(reserve.is_released() && !file.exists());
        reserve.restore().unwrap();
        assert!(!reserve.is_released() && file.exists());
    }

    #[test]
    fn none_is_never_released() {
        let dir = tempfile::tempdir().unwrap();
        let reserve = Reserve::new(Arc::new(RealDisk), dir.path(), 0);
        reserve.release();
        assert!(!reserve.is_released());
        reserve.restore().unwrap();
        assert!(!dir.path().join(FILE).exists());
    }
}
