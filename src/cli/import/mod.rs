//! `minitalk import`: the older JSON layout, or members of challenges, into a data directory.
//!
//! Reading order: [`people`] and [`old`] say what a source holds, [`mod@array`] and [`fields`] read its
//! JSON without ever holding a file, [`users`], [`rooms`] and [`messages`] write, [`target`] is the data
//! directory, [`bad`] what is left out.
//!
//! All or nothing: `journal::undo` marks where the logs ended, the index is made beside the one in use,
//! and both become fact in one step at the end.

pub mod array;
mod bad;
pub mod fields;
mod messages;
pub(super) mod old;
mod people;
mod rooms;
mod sorted;
mod syntax;
mod target;
mod users;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use self::bad::Skipped;
use self::people::{Csv, NdJson, People};
use self::sorted::Sorted;
use self::target::Target;
use self::users::{Numbering, Outcome, Pass};
use super::lock::{self, LockError};
use super::progress::Progress;
use super::{DataArgs, Fault};
use crate::config::{Config, Environment};
use crate::index::IndexError;
use crate::index::build::BuildError;
use crate::journal::JournalError;
use crate::observe;

/// Bytes that a user takes in a source, at least; to guess how many come.
const USER_BYTES: u64 = 100;

/// Where from, and how strictly.
#[derive(Debug, Args)]
pub struct ImportArgs {
    #[command(flatten)]
    data: DataArgs,
    /// Leave out what is bad and list it, instead of changing nothing
    #[arg(long)]
    skip_bad: bool,
    /// File that takes the list of all that was left out
    #[arg(long, value_name = "FILE", requires = "skip_bad")]
    skipped: Option<PathBuf>,
    /// Directory with users.json, chatrooms.json and messages_N.json; or a .csv or .ndjson file of members
    #[arg(value_name = "SRC")]
    source: PathBuf,
}

/// Why nothing was imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// Somebody is using the data directory, or it can't be used.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The source is not one.
    #[error("{}: {what}", path.display())]
    NoSource {
        /// What was named.
        path: PathBuf,
        /// What it should be.
        what: &'static str,
    },
    /// A file of the source, or the list of what was left out, can't be read or written.
    #[error("{}: {error}", path.display())]
    Source {
        /// Which.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The source is bad; each line names file, byte and element.
    #[error("{}\nnothing was changed (--skip-bad leaves out what is bad)", .0.join("\n"))]
    Bad(Vec<String>),
    /// Too many users have the name of another to remember them all.
    #[error("more than {0} users have the name of another; nothing was changed")]
    TooManySameNames(usize),
    /// A log can't be read or written.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The index can't be read or written.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The data directory can't be brought into order.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The system refuses something.
    #[error(transparent)]
    System(#[from] io::Error),
}

/// What was imported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    users: u64,
    rooms: u64,
    messages: u64,
    files: usize,
    left_out: u64,
}

/// Imports. Exit code 0: done; 1: the source is bad or the disk refused, and nothing was changed; 2: the
/// request was wrong, or a server is using the directory.
pub(super) fn run(args: ImportArgs, environment: Environment<'_>) -> Result<ExitCode, Fault> {
    observe::start("import", environment);
    let ImportArgs { data, skip_bad, skipped, source } = args;
    let config = data.config(environment)?;
    let mut out = Skipped::new(skip_bad, skipped);
    let done = out.as_mut().map_err(|error| error.to_string()).map(|skipped| {
        let done = import(&config, &source, skipped);
        let _ = skipped.tell();
        done
    });
    let text = match done {
        Ok(Ok(counts)) => {
            let Counts { users, rooms, messages, files, left_out } = counts;
            let text = format!(
                "imported: {users} users, {rooms} rooms, {messages} messages from {files} files; left out: {left_out}\n"
            );
            return super::show(&text).map(ExitCode::from);
        }
        Ok(Err(error)) => {
            let code = error.exit_code();
            let _ = writeln!(io::stderr(), "minitalk: {error}");
            return Ok(ExitCode::from(code));
        }
        Err(text) => text,
    };
    let _ = writeln!(io::stderr(), "minitalk: {text}");
    Ok(ExitCode::from(2))
}

impl ImportError {
    fn exit_code(&self) -> u8 {
        match self {
            ImportError::Lock(_) | ImportError::NoSource { .. } => 2,
            _ => 1,
        }
    }
}

/// What there is to import.
enum Kind {
    Old { rooms: PathBuf, messages: Vec<(u64, PathBuf)> },
    Csv,
    NdJson,
}

fn import(config: &Config, source: &Path, skipped: &mut Skipped) -> Result<Counts, ImportError> {
    let (kind, users_file) = kind(source)?;
    let _lock = lock::make_and_lock(&config.data_dir)?;
    let expected = users_file.metadata().map_or(0, |file| file.len()) / USER_BYTES;
    let target = Target::open(&config.data_dir, &config.storage, expected)?;
    let mut import = Import { config, kind, users_file, expected, skipped, target: Some(target) };
    let done = import.all();
    match (done, import.target.take()) {
        (Ok(counts), Some(target)) => target.finish().map(|()| counts),
        (Ok(counts), None) => Ok(counts),
        (Err(error), target) => {
            // If taking back fails as well, the mark is still there for whoever comes next.
            target.map_or(Ok(()), Target::give_up)?;
            Err(error)
        }
    }
}

fn kind(source: &Path) -> Result<(Kind, PathBuf), ImportError> {
    let fault = |error| ImportError::Source { path: source.to_owned(), error };
    let what = "neither a directory with users.json, nor a .csv or .ndjson file";
    let no_source = |what| ImportError::NoSource { path: source.to_owned(), what };
    let Ok(data) = source.metadata() else {
        return Err(no_source("there is no such file or directory"));
    };
    if data.is_dir() {
        let users = source.join(old::USERS);
        if !users.is_file() {
            return Err(no_source(what));
        }
        let messages = old::message_files(source).map_err(fault)?;
        return Ok((Kind::Old { rooms: source.join(old::ROOMS), messages }, users));
    }
    match source.extension().and_then(|extension| extension.to_str()) {
        Some(end) if end.eq_ignore_ascii_case("csv") => Ok((Kind::Csv, source.to_owned())),
        Some(end) if ["ndjson", "jsonl"].iter().any(|name| end.eq_ignore_ascii_case(name)) => {
            Ok((Kind::NdJson, source.to_owned()))
        }
        _ => Err(no_source(what)),
    }
}

/// An import under way.
struct Import<'a> {
    config: &'a Config,
    kind: Kind,
    users_file: PathBuf,
    expected: u64,
    skipped: &'a mut Skipped,
    /// `None` only while it is being taken back.
    target: Option<Target>,
}

impl Import<'_> {
    fn all(&mut self) -> Result<Counts, ImportError> {
        let users = self.users()?;
        let Some(target) = &mut self.target else {
            return Ok(Counts::default());
        };
        let mut counts = Counts { users, ..Counts::default() };
        if let Kind::Old { rooms, messages } = &self.kind {
            if rooms.is_file() {
                counts.rooms = rooms::import(rooms, target, self.skipped)?;
            }
            let content_chars = self.config.limits.content_chars;
            counts.messages = messages::import(messages, content_chars, target, self.skipped)?;
            counts.files = messages.len();
        }
        counts.left_out = self.skipped.total();
        Ok(counts)
    }

    /// Users, as often as it takes until all have a number and a name of their own.
    fn users(&mut self) -> Result<u64, ImportError> {
        let (mut numbering, mut taken) = (Numbering::Given, Vec::new());
        loop {
            let outcome = self.pass(numbering, &taken)?;
            match outcome {
                (Outcome::Done, count) => return Ok(count),
                (Outcome::NotRising, _) => {
                    let old = matches!(self.kind, Kind::Old { .. });
                    numbering = if old { Numbering::InOrder } else { Numbering::Sorted };
                    taken.clear();
                }
                (Outcome::SameNames(numbers), _) => {
                    if !self.skipped.allowed() {
                        return Err(self.name_all(numbering, &numbers)?);
                    }
                    taken = numbers;
                }
            }
            self.skipped.again()?;
            if let Some(target) = self.target.take() {
                self.target = Some(target.again(&self.config.storage, self.expected)?);
            }
        }
    }

    /// Reads the users once; answers how many were written, too.
    fn pass(&mut self, numbering: Numbering, taken: &[u64]) -> Result<(Outcome, u64), ImportError> {
        let Import { kind, users_file: path, skipped, target, .. } = self;
        let Some(target) = target else {
            return Ok((Outcome::Done, 0));
        };
        let before = target.users.last;
        let outcome = read(kind, path, numbering, target, skipped, taken, false)?;
        Ok((outcome, target.users.last - before))
    }

    /// Names every user whose name another has.
    fn name_all(&mut self, numbering: Numbering, taken: &[u64]) -> Result<ImportError, ImportError> {
        let Import { kind, users_file: path, target, .. } = self;
        let mut found = Skipped::new(true, None)?;
        if let Some(target) = target.take() {
            // From the same beginning as when the numbers were given.
            let mut target = target.again(&self.config.storage, self.expected)?;
            read(kind, path, numbering, &mut target, &mut found, taken, true)?;
            target.give_up()?;
        }
        Ok(ImportError::Bad(found.into_lines()))
    }
}

/// Opens the source and reads its users once.
fn read(
    kind: &Kind,
    path: &Path,
    numbering: Numbering,
    target: &mut Target,
    skipped: &mut Skipped,
    taken: &[u64],
    dry: bool,
) -> Result<Outcome, ImportError> {
    let unreadable = |error| ImportError::Source { path: path.to_owned(), error };
    let now = jiff::Timestamp::now().as_millisecond();
    let mut people: Box<dyn People> = match kind {
        Kind::Old { .. } => Box::new(old::OldUsers::open(path).map_err(unreadable)?),
        Kind::NdJson => Box::new(NdJson::open(path, now).map_err(unreadable)?),
        Kind::Csv => match Csv::open(path, now).map_err(unreadable)? {
            Ok(csv) => Box::new(csv),
            // Without a header nothing of the file can be kept.
            Err(flaw) => return Err(ImportError::Bad(vec![format!("{}: {}", path.display(), flaw.what)])),
        },
    };
    if numbering == Numbering::Sorted {
        people = Box::new(Sorted::of(people.as_mut(), (path, &target.data_dir), skipped)?);
    }
    let mut progress = Progress::new("users", path.metadata().map_or(0, |file| file.len()));
    let outcome = Pass { path, numbering, taken, dry }.run(people.as_mut(), target, skipped, &mut progress);
    progress.finish();
    outcome
}
