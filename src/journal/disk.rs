//! All that the writer asks of a disk, narrow enough for a test to play a bad one.
//!
//! Only writing passes through here. Reading needs no double: what a bad disk leaves behind is in
//! the file for anybody to read.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::posix_fallocate;

/// Where logs are kept.
pub trait Disk: Send + Sync {
    /// Opens an existing file for writing.
    ///
    /// # Errors
    /// It is not there, or must not be written.
    fn open(&self, path: &Path) -> io::Result<Box<dyn LogFile>>;

    /// Makes an empty file that only its owner may read, or empties the one that is there, and opens
    /// it for writing.
    ///
    /// # Errors
    /// The directory takes no file.
    fn create(&self, path: &Path) -> io::Result<Box<dyn LogFile>>;

    /// Makes durable which files a directory holds.
    ///
    /// # Errors
    /// The device refused; whether a new file survives is unknown.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Makes a file of `bytes` that nobody reads, with the space it takes on the device.
    ///
    /// # Errors
    /// There is not that much space, or the directory takes no file. A part of it may be there.
    fn reserve(&self, path: &Path, bytes: u64) -> io::Result<()>;

    /// Gives a file another name in its directory, in place of what had it.
    ///
    /// # Errors
    /// Both are as before.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file, if it is there.
    ///
    /// # Errors
    /// The directory can't be written.
    fn remove(&self, path: &Path) -> io::Result<()>;
}

/// One file open for writing.
pub trait LogFile: Send {
    /// Writes some of `bytes` at a place; answers how many.
    ///
    /// # Errors
    /// Nothing can be said about what is at that place and behind it.
    fn write_at(&mut self, bytes: &[u8], place: u64) -> io::Result<usize>;

    /// Cuts or extends the file.
    ///
    /// # Errors
    /// The file is as before.
    fn set_len(&mut self, len: u64) -> io::Result<()>;

    /// Makes durable what was written, and the file's length.
    ///
    /// # Errors
    /// What was written since the last success may be lost, and a second call may succeed without
    /// having written it: the handle must not be used again.
    fn sync(&mut self) -> io::Result<()>;
}

/// The file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn open(&self, path: &Path) -> io::Result<Box<dyn LogFile>> {
        Ok(Box::new(OpenOptions::new().write(true).open(path)?))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn LogFile>> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        Ok(Box::new(file))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn reserve(&self, path: &Path, bytes: u64) -> io::Result<()> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        let bytes = i64::try_from(bytes).map_err(io::Error::other)?;
        posix_fallocate(&file, 0, bytes)?;
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}

impl LogFile for File {
    fn write_at(&mut self, bytes: &[u8], place: u64) -> io::Result<usize> {
        FileExt::write_at(self, bytes, place)
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        File::set_len(self, len)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}
