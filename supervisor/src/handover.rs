//! Handing a whole host over to another executable: what `exec` does not keep, and what it is not to close.
//!
//! `exec` keeps the process with its pid, its children, the blocked and pending signals, and every
//! descriptor that may be inherited; it loses all memory. So the supervisor writes down in a memory file
//! which descriptor is what and which child is who, makes them inheritable, and executes. On the other
//! side they are taken up again under the same numbers. Should the execution be refused, nothing has
//! happened.
//!
//! Before that, the executable is tried as a child ([`Trial`]): it reads the same document and its own
//! configuration, and says [`UNDERSTOOD`]. Who does not say that is not executed.

use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::execv;
use serde::{Deserialize, Serialize};

use crate::slot::SlotParts;
use crate::status::LastChange;
use crate::{NAME, Settings, unix};

/// Of the document. One that is not the reader's own is refused.
const FORMAT: u32 = 1;
/// What an executable says that could take over.
const UNDERSTOOD: &str = "minitalk can take over";
/// Bytes kept of what a trial says.
const WORDS: u64 = 4 << 10;

/// Argument before the number of the descriptor that is taken over from.
pub const TAKE_OVER: &str = "--take-over";
/// Argument of a trial: the document is standard input, and nothing is to be done but to say whether it
/// could be acted on.
pub const TRY: &str = "--try-to-take-over";

/// What is executed in place of the running supervisor.
#[derive(Clone, Debug)]
pub struct Executable {
    /// Where a new version is put.
    pub path: PathBuf,
    /// The arguments of the running one, without its name and without [`TAKE_OVER`].
    pub arguments: Vec<OsString>,
}

/// What the next supervisor in this process has to know.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Document {
    format: u32,
    pub(crate) purpose: Purpose,
    pub(crate) body: Body,
}

/// The host, with descriptors by their numbers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Body {
    pub(crate) path: PathBuf,
    pub(crate) data_dir: PathBuf,
    pub(crate) lock: RawFd,
    pub(crate) control: RawFd,
    pub(crate) storage: RawFd,
    pub(crate) addresses: Vec<SocketAddr>,
    /// By worker, then by address.
    pub(crate) listeners: Vec<Vec<RawFd>>,
    pub(crate) slots: Vec<SlotParts>,
    pub(crate) generation: u32,
    pub(crate) last_change: LastChange,
    pub(crate) age: Duration,
    /// In force before; on the way back, again.
    pub(crate) settings: Settings,
}

/// Why another executable takes over.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Purpose {
    /// To replace everybody. The descriptor is the executable to go back to.
    Upgrade(RawFd),
    /// To undo that; the text says what has failed.
    Back(String),
    /// Only to say whether it could.
    Trial,
}

impl Document {
    pub(crate) fn new(purpose: Purpose, body: Body) -> Document {
        Document { format: FORMAT, purpose, body }
    }

    /// From the beginning of the file, wherever its position is.
    pub(crate) fn read(mut file: &File) -> io::Result<Document> {
        file.rewind()?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        let document: Document = serde_json::from_str(&text)?;
        if document.format != FORMAT {
            let text = format!("hand-over format {}, this version has {FORMAT}", document.format);
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        Ok(document)
    }

    fn write(&self) -> io::Result<File> {
        let mut file = File::from(memfd_create("minitalk-hand-over", MFdFlags::MFD_CLOEXEC)?);
        file.write_all(&serde_json::to_vec(self)?)?;
        file.rewind()?;
        Ok(file)
    }
}

/// Executes `program` in place of this one; `fds` are all that the document names. Returns only if that
/// is refused, and then everything is as before.
pub(crate) fn execute(
    program: &Path,
    executable: &Executable,
    document: &Document,
    fds: &[BorrowedFd<'_>],
) -> io::Error {
    let attempt = || -> io::Result<()> {
        let file = document.write()?;
        let program = CString::new(program.as_os_str().as_bytes())?;
        let number = OsString::from(file.as_raw_fd().to_string());
        let own = [OsStr::new(NAME)].into_iter();
        let take_over = [OsStr::new(TAKE_OVER), &number];
        let arguments = own.chain(executable.arguments.iter().map(OsString::as_os_str)).chain(take_over);
        let arguments: Result<Vec<CString>, _> =
            arguments.map(|text| CString::new(text.as_bytes())).collect();
        let arguments = arguments?;
        for fd in fds.iter().copied().chain([file.as_fd()]) {
            fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty()))?;
        }
        execv(&program, &arguments)?;
        Ok(())
    };
    let error = attempt().err().unwrap_or_else(|| io::Error::other("nothing was executed"));
    for fd in fds {
        let _ = close_on_exec(*fd); // no worse than one descriptor too many in a child
    }
    error
}

/// Takes charge of a descriptor that was handed over by [`execute`].
pub(crate) fn adopt(number: RawFd) -> io::Result<OwnedFd> {
    if number < 3 || !Path::new(&format!("/proc/self/fd/{number}")).is_symlink() {
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!("descriptor {number} was not handed over"),
        ));
    }
    let fd = unix::own(number);
    close_on_exec(fd.as_fd())?;
    Ok(fd)
}

fn close_on_exec(fd: BorrowedFd<'_>) -> io::Result<()> {
    Ok(fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).map(drop)?)
}

/// An executable that is being tried. Dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Trial {
    child: Child,
    pub(crate) deadline: Instant,
}

impl Trial {
    pub(crate) fn start(executable: &Executable, body: Body, deadline: Instant) -> io::Result<Trial> {
        let document = Document::new(Purpose::Trial, body).write()?;
        let child = Command::new(&executable.path)
            .args(&executable.arguments)
            .arg(TRY)
            .stdin(Stdio::from(document))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        Ok(Trial { child, deadline })
    }

    /// How it went; none: it goes on. An error is a line for the operator.
    pub(crate) fn verdict(&mut self, now: Instant) -> Option<Result<(), String>> {
        match self.child.try_wait() {
            Ok(None) if self.deadline <= now => {
                Some(Err("it does not say whether it can take over".to_owned()))
            }
            Ok(None) => None,
            Ok(Some(status)) => {
                let said = words(self.child.stdout.take());
                if status.success() && said.trim() == UNDERSTOOD {
                    return Some(Ok(()));
                }
                let complaint = words(self.child.stderr.take());
                let last = complaint.trim().lines().last().unwrap_or("it does not say why").to_owned();
                Some(Err(format!("it cannot take over ({status}): {last}")))
            }
            Err(error) => Some(Err(error.to_string())),
        }
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        // One that has ended has been waited for, and is not harmed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What an ended process has said. It may have left others behind that hold the pipe: those are not waited for.
fn words(pipe: Option<impl Read + AsFd>) -> String {
    let Some(pipe) = pipe else { return String::new() };
    let mut text = Vec::new();
    if fcntl(&pipe, FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK)).is_ok() {
        let _ = pipe.take(WORDS).read_to_end(&mut text); // what was there before it would have to wait
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// In a trial: the settings in force, by the document on standard input.
pub fn tried() -> io::Result<Settings> {
    let document = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    Ok(Document::read(&document)?.body.settings)
}

/// In a trial, when everything else that could fail has been tried: this executable could take over.
pub fn say_understood() -> io::Result<()> {
    io::stdout().write_all(format!("{UNDERSTOOD}\n").as_bytes())
}
