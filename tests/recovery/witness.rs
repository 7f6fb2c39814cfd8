//! A disk that remembers how everything was before and after each thing it was asked to do: what a
//! process leaves that is killed there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use minitalk::journal::disk::{Disk, LogFile, RealDisk};

/// A disk that keeps a copy of the directory before and after each of its operations on certain files.
#[derive(Clone)]
pub struct Witness {
    /// How the names of these files end.
    suffix: &'static str,
    dir: Arc<Mutex<Option<PathBuf>>>,
    copies: Arc<Mutex<Vec<(String, tempfile::TempDir)>>>,
}

impl Witness {
    pub fn of(suffix: &'static str) -> Witness {
        Witness { suffix, dir: Arc::default(), copies: Arc::default() }
    }

    /// Copies a directory from now on.
    pub fn watch(&self, dir: &Path) {
        *self.dir.lock().unwrap() = Some(dir.to_owned());
    }

    /// What was seen, in order, and when. No more is copied.
    pub fn copies(&self) -> Vec<(String, tempfile::TempDir)> {
        *self.dir.lock().unwrap() = None;
        std::mem::take(&mut *self.copies.lock().unwrap())
    }

    fn see(&self, what: &str, path: &Path) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let Some(dir) =
            self.dir.lock().unwrap().clone().filter(|_| name.ends_with(self.suffix) || path.is_dir())
        else {
            return;
        };
        let copy = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
            }
        }
        self.copies.lock().unwrap().push((format!("{what} {name}"), copy));
    }

    fn around<T>(&self, what: &str, path: &Path, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.see(&format!("before {what}"), path);
        let done = act();
        self.see(&format!("after {what}"), path);
        done
    }
}

impl Disk for Witness {
    fn open(&self, path: &Path) -> io::Result<Box<dyn LogFile>> {
        let inner = RealDisk.open(path)?;
        Ok(Box::new(Seen { inner, path: path.to_owned(), disk: self.clone() }))
    }
    fn create(&self, path: &Path) -> io::Result<Box<dyn LogFile>> {
        let inner = self.around("create", path, || RealDisk.create(path))?;
        Ok(Box::new(Seen { inner, path: path.to_owned(), disk: self.clone() }))
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.around("sync_dir", dir, || RealDisk.sync_dir(dir))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.around("rename", from, || RealDisk.rename(from, to))
    }
    fn reserve(&self, path: &Path, bytes: u64) -> io::Result<()> {
        RealDisk.reserve(path, bytes)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.around("remove", path, || RealDisk.remove(path))
    }
}

struct Seen {
    inner: Box<dyn LogFile>,
    path: PathBuf,
    disk: Witness,
}

impl LogFile for Seen {
    fn write_at(&mut self, bytes: &[u8], place: u64) -> io::Result<usize> {
        // In two parts, so that a copy has half of it.
        let half = bytes.len().div_ceil(2);
        let Seen { inner, path, disk } = self;
        disk.around("write", path, || inner.write_at(&bytes[..half], place))
    }
    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }
    fn sync(&mut self) -> io::Result<()> {
        let Seen { inner, path, disk } = self;
        disk.around("sync", path, || inner.sync())
    }
}
