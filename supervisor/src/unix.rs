//! Unix sockets named by a directory and a file name, whatever the length of the directory's path.
//!
//! The kernel takes 107 bytes of path at most; a data directory may well be deeper. So the directory
//! is opened first and the socket is named through `/proc/self/fd`, which is always short.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, UnixAddr};

/// Listens on `dir/name`, readable and writable by this user only.
///
/// A socket left there by an earlier process is replaced, so the caller must hold whatever lock says
/// that no living process listens on it. Anything that is not a socket stays and is an error.
pub fn bind(dir: &Path, name: &str) -> io::Result<UnixListener> {
    let dir = open(dir)?;
    let path = short_path(&dir, name);
    match fs::symlink_metadata(&path) {
        Ok(meta) if meta.file_type().is_socket() => fs::remove_file(&path)?,
        Ok(_) => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "a file that is no socket is there"));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(&path)?;
    fs::set_permissions(&path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Connects to the socket `dir/name`. Waits while its backlog is full.
pub fn connect(dir: &Path, name: &str) -> io::Result<UnixStream> {
    let dir = open(dir)?;
    UnixStream::connect(short_path(&dir, name))
}

/// Connects like [`connect`] and never waits; neither does the connection.
///
/// # Errors
/// `WouldBlock` while the backlog is full: try again a little later.
pub fn connect_at_once(dir: &Path, name: &str) -> io::Result<UnixStream> {
    let dir = open(dir)?;
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = socket::socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    socket::connect(socket.as_raw_fd(), &UnixAddr::new(&short_path(&dir, name))?)?;
    Ok(UnixStream::from(socket))
}

/// Takes charge of a descriptor that has just come into this process, by a message or by `exec`: it is
/// open, and nobody else here has heard of its number.
#[allow(unsafe_code)]
pub(crate) fn own(fd: RawFd) -> OwnedFd {
    // SAFETY: the callers have the number from an SCM_RIGHTS message received a moment ago, or from the
    // supervisor that executed this process and left the descriptor open, which they have looked up.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

fn open(dir: &Path) -> io::Result<File> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_PATH;
    OpenOptions::new().read(true).custom_flags(flags.bits()).open(dir)
}

/// Valid while `dir` is open.
fn short_path(dir: &File, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{name}", dir.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    fn deep_dir() -> (tempfile::TempDir, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("d".repeat(100)).join("e".repeat(100));
        fs::create_dir_all(&deep).unwrap();
        (root, deep)
    }

    #[test]
    fn a_path_longer_than_the_kernel_takes_works_and_is_private() {
        let (_root, dir) = deep_dir();
        let listener = bind(&dir, "x.sock").unwrap();
        let mode = fs::metadata(dir.join("x.sock")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        let mut client = connect(&dir, "x.sock").unwrap();
        client.write_all(b"hello").unwrap();
        drop(client);
        let mut said = String::new();
        listener.accept().unwrap().0.read_to_string(&mut said).unwrap();
        assert_eq!(said, "hello");
    }

    #[test]
    fn a_full_backlog_is_told_at_once() {
        let (_root, dir) = deep_dir();
        let listener = bind(&dir, "x.sock").unwrap();
        // A backlog of none still takes one.
        socket::listen(&listener, socket::Backlog::new(0).unwrap()).unwrap();
        let mut waiting = Vec::new();
        let refused = loop {
            match connect_at_once(&dir, "x.sock") {
                Ok(client) => waiting.push(client),
                Err(error) => break error,
            }
            assert!(waiting.len() < 10);
        };
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        drop(listener.accept().unwrap());
        let mut client = connect_at_once(&dir, "x.sock").unwrap();
        assert_eq!(client.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn a_left_over_socket_is_replaced_and_a_file_is_not() {
        let (_root, dir) = deep_dir();
        drop(bind(&dir, "x.sock").unwrap());
        bind(&dir, "x.sock").unwrap();

        fs::write(dir.join("notes"), "keep").unwrap();
        bind(&dir, "notes").unwrap_err();
        assert_eq!(fs::read_to_string(dir.join("notes")).unwrap(), "keep");
    }
}
