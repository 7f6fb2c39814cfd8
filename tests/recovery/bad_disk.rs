//! A disk that refuses on command and forgets what was not synced.
//!
//! It works on real files, so that everything else reads them as always, and keeps beside them what
//! a loss of power would leave: of each file what its last sync made durable, of each directory the
//! names that its last sync did.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use minitalk::journal::disk::{Disk, LogFile, RealDisk};

/// What to do to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Refuse a write.
    Write(io::ErrorKind),
    /// Write a part, then refuse the rest.
    Part(usize, io::ErrorKind),
    /// Write at most this many bytes a call; no error.
    Short(usize),
    /// Refuse a sync; what was written is dropped, and a later sync says nothing of it.
    Sync(io::ErrorKind),
    /// Say that a sync was done, and do nothing: what removing the protection looks like.
    Lie,
    /// Refuse to cut or lengthen a file.
    Cut(io::ErrorKind),
    /// Refuse to open a file for writing.
    Open(io::ErrorKind),
    /// Refuse to make a file.
    Create(io::ErrorKind),
    /// Refuse to give a file another name.
    Rename(io::ErrorKind),
}

#[derive(Default)]
struct State {
    faults: Vec<Planned>,
    /// What of each file survives.
    durable: HashMap<PathBuf, Vec<u8>>,
    /// Names that survive.
    named: HashSet<PathBuf>,
    /// Names given to other files since the last sync of their directory, in order.
    renamed: Vec<(PathBuf, PathBuf)>,
    /// Files removed since then.
    removed: Vec<PathBuf>,
    syncs: usize,
}

struct Planned {
    fault: Fault,
    /// Part of the file's name.
    name: &'static str,
    /// Calls of its kind that pass before it strikes.
    after: usize,
    /// Calls it strikes then.
    times: usize,
}

/// The disk; clones are the same one.
#[derive(Clone, Default)]
pub struct BadDisk(Arc<Mutex<State>>);

impl BadDisk {
    /// Plans a fault for files whose names contain `name`: after `after` calls of its kind, `times`
    /// times.
    pub fn plan(&self, fault: Fault, name: &'static str, after: usize, times: usize) {
        self.0.lock().unwrap().faults.push(Planned { fault, name, after, times });
    }

    /// No faults from now on.
    pub fn mend(&self) {
        self.0.lock().unwrap().faults.clear();
    }

    /// Leaves in `to` what the end of the process now would leave of the files in `from`: all that was
    /// written.
    pub fn crash(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_file() {
                fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
            }
        }
    }

    pub fn syncs(&self) -> usize {
        self.0.lock().unwrap().syncs
    }

    /// Leaves in `to` what a loss of power now would leave of the files in `from`.
    pub fn lose_power(&self, from: &Path, to: &Path) {
        let state = self.0.lock().unwrap();
        fs::create_dir_all(to).unwrap();
        for (path, bytes) in &state.durable {
            if state.named.contains(path) && path.parent() == Some(from) {
                fs::write(to.join(path.file_name().unwrap()), bytes).unwrap();
            }
        }
    }

    fn strike(&self, path: &Path, wanted: impl Fn(Fault) -> bool) -> Option<Fault> {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let mut state = self.0.lock().unwrap();
        for planned in &mut state.faults {
            if !wanted(planned.fault) || !name.contains(planned.name) {
                continue;
            }
            if planned.after > 0 {
                planned.after -= 1;
            } else if planned.times > 0 {
                planned.times -= 1;
                return Some(planned.fault);
            }
        }
        None
    }
}

impl Disk for BadDisk {
    fn open(&self, path: &Path) -> io::Result<Box<dyn LogFile>> {
        if let Some(Fault::Open(kind)) = self.strike(path, |fault| matches!(fault, Fault::Open(_))) {
            return Err(kind.into());
        }
        // What is there when it is first opened was there before the power was on.
        let mut state = self.0.lock().unwrap();
        state.durable.entry(path.to_owned()).or_insert_with(|| fs::read(path).unwrap_or_default());
        state.named.insert(path.to_owned());
        Ok(Box::new(BadFile { inner: RealDisk.open(path)?, path: path.to_owned(), disk: self.clone() }))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn LogFile>> {
        if let Some(Fault::Create(kind)) = self.strike(path, |fault| matches!(fault, Fault::Create(_))) {
            return Err(kind.into());
        }
        let inner = RealDisk.create(path)?;
        Ok(Box::new(BadFile { inner, path: path.to_owned(), disk: self.clone() }))
    }

    fn reserve(&self, path: &Path, bytes: u64) -> io::Result<()> {
        match self.strike(path, |fault| matches!(fault, Fault::Create(_))) {
            Some(Fault::Create(kind)) => Err(kind.into()),
            _ => RealDisk.reserve(path, bytes),
        }
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        for entry in fs::read_dir(dir)? {
            state.named.insert(entry?.path());
        }
        // A name given away or taken in place of another's is durable now as well.
        for (from, to) in std::mem::take(&mut state.renamed) {
            state.named.remove(&from);
            if let Some(bytes) = state.durable.remove(&from) {
                state.durable.insert(to, bytes);
            }
        }
        for gone in std::mem::take(&mut state.removed) {
            state.named.remove(&gone);
        }
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        if let Some(Fault::Rename(kind)) = self.strike(from, |fault| matches!(fault, Fault::Rename(_))) {
            return Err(kind.into());
        }
        RealDisk.rename(from, to)?;
        self.0.lock().unwrap().renamed.push((from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)?;
        self.0.lock().unwrap().removed.push(path.to_owned());
        Ok(())
    }
}

struct BadFile {
    inner: Box<dyn LogFile>,
    path: PathBuf,
    disk: BadDisk,
}

impl LogFile for BadFile {
    fn write_at(&mut self, bytes: &[u8], place: u64) -> io::Result<usize> {
        let writing = |fault| matches!(fault, Fault::Write(_) | Fault::Part(..) | Fault::Short(_));
        match self.disk.strike(&self.path, writing) {
            Some(Fault::Write(kind)) => Err(kind.into()),
            Some(Fault::Part(count, kind)) => {
                self.inner.write_at(&bytes[..count.min(bytes.len())], place)?;
                Err(kind.into())
            }
            Some(Fault::Short(count)) => self.inner.write_at(&bytes[..count.clamp(1, bytes.len())], place),
            _ => self.inner.write_at(bytes, place),
        }
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        if let Some(Fault::Cut(kind)) = self.disk.strike(&self.path, |fault| matches!(fault, Fault::Cut(_))) {
            return Err(kind.into());
        }
        self.inner.set_len(len)
    }

    fn sync(&mut self) -> io::Result<()> {
        match self.disk.strike(&self.path, |fault| matches!(fault, Fault::Sync(_) | Fault::Lie)) {
            Some(Fault::Sync(kind)) => return Err(kind.into()),
            Some(Fault::Lie) => return Ok(()),
            _ => {}
        }
        let now = fs::read(&self.path)?;
        let mut state = self.disk.0.lock().unwrap();
        state.durable.insert(self.path.clone(), now);
        state.syncs += 1;
        Ok(())
    }
}
