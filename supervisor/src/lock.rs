//! One host per data directory: an advisory lock on `LOCK`, with the holder's pid inside for people.
//!
//! The lock belongs to the open file, not to a process: the storage child inherits it, so that a
//! killed supervisor's directory stays locked until its orphaned writer is dead too.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal;
use nix::unistd::Pid;

use crate::error::StartError;

const LOCK: &str = "LOCK";
/// Time for the orphans of a killed host to die.
const ORPHANS_DIE: Duration = Duration::from_secs(5);
/// Time for a holder that seems alive to turn out dead: one killed a moment ago still runs until the
/// kernel gets to it, and one that is just starting has not written its pid yet.
pub(crate) const HOLDER_DIES: Duration = Duration::from_millis(500);
const RETRY: Duration = Duration::from_millis(20);

/// A locked data directory. Unless released it stays locked until this process, and every process
/// that inherited the lock, is gone.
#[derive(Debug)]
pub struct Lock {
    file: ManuallyDrop<Flock<File>>,
    data_dir: PathBuf,
}

impl Lock {
    /// Locks `data_dir`, which is made (mode 0700) if it is missing.
    ///
    /// A living holder is an error after half a second. One that is dead has left orphans behind that
    /// still hold the lock; they are given five seconds.
    pub fn take(data_dir: &Path) -> Result<Lock, StartError> {
        let fault = |path: &Path, error| StartError::DataDir { path: path.to_owned(), error };
        DirBuilder::new().recursive(true).mode(0o700).create(data_dir).map_err(|e| fault(data_dir, e))?;
        let path = data_dir.join(LOCK);
        let mut file = open(&path).map_err(|e| fault(&path, e))?;
        let begun = Instant::now();
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(mut file) => {
                    write_pid(&mut file, Some(std::process::id())).map_err(|e| fault(&path, e))?;
                    return Ok(Lock { file: ManuallyDrop::new(file), data_dir: data_dir.to_owned() });
                }
                Err((same, Errno::EWOULDBLOCK)) => file = same,
                Err((_, errno)) => return Err(fault(&path, errno.into())),
            }
            let holder = read_holder(&mut file);
            let patience = if matches!(holder, Holder::Dead(_)) { ORPHANS_DIE } else { HOLDER_DIES };
            if begun.elapsed() >= patience {
                return Err(StartError::Locked { data_dir: data_dir.to_owned(), pid: holder.pid() });
            }
            thread::sleep(RETRY);
        }
    }

    /// The lock of the executable before: it is this process's already.
    pub(crate) fn handed_over(fd: OwnedFd, data_dir: PathBuf) -> io::Result<Lock> {
        let file =
            Flock::lock(File::from(fd), FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| errno)?;
        Ok(Lock { file: ManuallyDrop::new(file), data_dir })
    }

    /// The locked directory.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The lock itself, for the child that writes.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Ends a clean life: no pid stays behind, and the lock is free. All children must be gone.
    pub(crate) fn release(self) {
        let mut file = ManuallyDrop::into_inner(self.file);
        // A pid left behind costs the next start a retry at most.
        let _ = write_pid(&mut file, None);
    }
}

/// Who is named in the lock file of `data_dir`, whether the lock is held or not.
pub(crate) fn holder(data_dir: &Path) -> Holder {
    match File::open(data_dir.join(LOCK)) {
        Ok(mut file) => read_holder(&mut file),
        Err(_) => Holder::Unknown,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holder {
    Living(i32),
    /// The host did not end cleanly.
    Dead(i32),
    /// The last host ended cleanly, or there was none, or it has not written its pid yet.
    Unknown,
}

impl Holder {
    fn pid(&self) -> Option<i32> {
        match self {
            Holder::Living(pid) | Holder::Dead(pid) => Some(*pid),
            Holder::Unknown => None,
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

fn read_holder(file: &mut File) -> Holder {
    let mut text = String::new();
    let read = file.rewind().and_then(|()| file.take(32).read_to_string(&mut text));
    match (read, text.trim().parse::<i32>()) {
        // In a container every life of the host may have the same pid.
        (Ok(_), Ok(pid)) if pid == nix::unistd::getpid().as_raw() => Holder::Dead(pid),
        (Ok(_), Ok(pid)) if pid > 0 && is_alive(pid) => Holder::Living(pid),
        (Ok(_), Ok(pid)) if pid > 0 => Holder::Dead(pid),
        _ => Holder::Unknown,
    }
}

/// A zombie is dead: its parent may take its time to notice, or never do.
fn is_alive(pid: i32) -> bool {
    if signal::kill(Pid::from_raw(pid), None) == Err(Errno::ESRCH) {
        return false;
    }
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(')').next().and_then(|rest| rest.trim_start().chars().next());
    !matches!(state, Some('Z' | 'X'))
}

fn write_pid(file: &mut File, pid: Option<u32>) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    pid.map_or(Ok(()), |pid| writeln!(file, "{pid}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_names_its_holder_and_a_released_one_nobody() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("a/b");
        let lock = Lock::take(&dir).unwrap();
        let pid = fs::read_to_string(dir.join(LOCK)).unwrap();
        assert_eq!(pid, format!("{}\n", std::process::id()));
        lock.release();
        assert_eq!(fs::read_to_string(dir.join(LOCK)).unwrap(), "");
        Lock::take(&dir).unwrap();
    }

    #[test]
    fn a_living_holder_is_an_error_that_names_it() {
        let root = tempfile::tempdir().unwrap();
        let lock = Lock::take(root.path()).unwrap();
        fs::write(root.path().join(LOCK), "1\n").unwrap(); // init lives
        let error = Lock::take(root.path()).unwrap_err();
        assert!(matches!(error, StartError::Locked { pid: Some(1), .. }), "{error}");
        assert!(error.to_string().contains("process 1"), "{error}");
        lock.release();
    }

    #[test]
    fn the_file_says_how_the_last_host_ended() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(holder(root.path()), Holder::Unknown);
        let own = nix::unistd::getpid().as_raw();
        for (text, expected) in [
            ("1\n", Holder::Living(1)),
            ("", Holder::Unknown),
            ("x", Holder::Unknown),
            ("-5\n", Holder::Unknown),
            ("2147483646\n", Holder::Dead(2_147_483_646)),
            (&format!("{own}\n"), Holder::Dead(own)),
        ] {
            fs::write(root.path().join(LOCK), text).unwrap();
            assert_eq!(holder(root.path()), expected, "{text:?}");
        }
    }

    #[test]
    fn a_process_is_dead_as_soon_as_it_has_ended() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while is_alive(pid) {
            assert!(Instant::now() < deadline, "a zombie counts as alive");
            thread::sleep(RETRY);
        }
        child.wait().unwrap();
        assert!(!is_alive(pid));
        assert!(is_alive(nix::unistd::getpid().as_raw()));
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_an_error_that_names_it() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        fs::write(&file, "").unwrap();
        let error = Lock::take(&file.join("data")).unwrap_err();
        assert!(error.to_string().contains("file/data"), "{error}");
    }
}
