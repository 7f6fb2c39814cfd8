//! `minitalk export`: everything in the older JSON layout, in memory that does not grow with it.
//!
//! The logs say what there is and in which order; the index, brought into step first, what of it still
//! holds: who is in a room by now, which password. What is exported can be imported again.

mod elements;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use self::elements::{ArrayFile, Object};
use super::import::fields::Fields;
use super::import::old;
use super::known::Known;
use super::lock::{self, LockError};
use super::progress::Progress;
use super::{DataArgs, Fault};
use crate::config::Environment;
use crate::index::IndexError;
use crate::index::build::{self, BuildError, Ends};
use crate::index::store::Store;
use crate::journal::compacted::{Compacted, HEADER_BYTES};
use crate::journal::lines::Lines;
use crate::journal::record::{
    self, BadRecord, Message, Profile, RoomChange, RoomRecord, UserChange, UserRecord,
};
use crate::journal::recover::{self, Scan};
use crate::journal::stamp::Stamp;
use crate::journal::{JournalError, ROOMS, USERS, resume, segment, undo};
use crate::observe;

/// Messages of one file that were not imported from files of their own.
const MESSAGES_PER_FILE: u64 = 100_000;

/// Where from and where to.
#[derive(Debug, Args)]
pub struct ExportArgs {
    #[command(flatten)]
    data: DataArgs,
    /// Directory to write to; made if it is missing, else empty
    #[arg(value_name = "DST")]
    destination: PathBuf,
}

/// Why there is no export.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// Somebody is using the data directory, or there is none.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The destination has something in it already.
    #[error("{} is not empty; nothing was written", .0.display())]
    NotEmpty(PathBuf),
    /// The destination can't be written.
    #[error("{}: {error}", path.display())]
    Destination {
        /// Which.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A log can't be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The index can't be read.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The index can't be brought into step.
    #[error(transparent)]
    Build(#[from] BuildError),
}

/// Exports. Exit code 0: done; 1: a log is damaged or the disk refused; 2: the request was wrong, or a
/// server is using the directory.
pub(super) fn run(args: ExportArgs, environment: Environment<'_>) -> Result<ExitCode, Fault> {
    observe::start("export", environment);
    let data_dir = args.data.data_dir(environment)?;
    match export(&data_dir, &args.destination) {
        Ok(Counts { users, rooms, messages, files, left_out }) => {
            let mut text =
                format!("exported: {users} users, {rooms} rooms, {messages} messages in {files} files\n");
            if left_out > 0 {
                text += &format!("left out: {left_out} messages whose room or sender is no longer there\n");
            }
            super::show(&text).map(ExitCode::from)
        }
        Err(error) => {
            let _ = writeln!(io::stderr(), "minitalk: {error}");
            Ok(match error {
                ExportError::Lock(_) | ExportError::NotEmpty(_) => ExitCode::from(2),
                _ => ExitCode::FAILURE,
            })
        }
    }
}

/// What was exported.
struct Counts {
    users: u64,
    rooms: u64,
    messages: u64,
    files: u64,
    /// Messages that nobody can read any more, and no import would take.
    left_out: u64,
}

fn export(data_dir: &Path, destination: &Path) -> Result<Counts, ExportError> {
    let _lock = lock::lock(data_dir)?;
    let refused = |error| ExportError::Destination { path: destination.to_owned(), error };
    fs::create_dir_all(destination).map_err(refused)?;
    if fs::read_dir(destination).map_err(refused)?.next().is_some() {
        return Err(ExportError::NotEmpty(destination.to_owned()));
    }
    undo::undo(data_dir)?;
    let (_, messages) = resume::newest_messages(data_dir)?;
    let (store, Ends { users, rooms, .. }) = build::open(data_dir, messages.next - 1, &mut |_, _, _| {})?;
    let mut export =
        Export { data_dir, destination, store, object: Object::default(), stamp: Stamp::default() };
    let users = export.users(users)?;
    let rooms = export.rooms(rooms)?;
    let counts = Counts { users, rooms, messages: 0, files: 0, left_out: 0 };
    export.messages(messages, counts)
}

struct Export<'a> {
    data_dir: &'a Path,
    destination: &'a Path,
    store: Store,
    /// Used again for each element.
    object: Object,
    stamp: Stamp,
}

impl Export<'_> {
    fn refused(&self) -> impl FnOnce(io::Error) -> ExportError + use<> {
        let path = self.destination.to_owned();
        |error| ExportError::Destination { path, error }
    }

    fn users(&mut self, scan: Scan) -> Result<u64, ExportError> {
        let path = self.data_dir.join(USERS);
        let mut out = ArrayFile::create(self.destination, old::USERS).map_err(self.refused())?;
        let mut progress = Progress::new("users", scan.end);
        each_line(&path, scan.end, &mut |line, byte, bad| {
            let record: UserRecord = record::decode(line).map_err(bad)?;
            progress.item(byte);
            let UserChange::Created(profile) = &record.change else {
                return Ok(());
            };
            let Some(password) = self.store.password(record.user_id)? else {
                return Ok(()); // No longer there.
            };
            // As they are by now.
            let (nickname, profile_image) = self.store.looks(record.user_id)?.unwrap_or_default();
            let profile = Profile { nickname, profile_image, ..profile.clone() };
            self.user(&profile, password.as_deref(), record.at);
            out.push(&self.object).map_err(self.refused())
        })?;
        progress.finish();
        let users = out.elements();
        out.finish().map_err(self.refused())?;
        Ok(users)
    }

    fn user(&mut self, profile: &Profile, password: Option<&str>, at: i64) {
        let Export { object, stamp, .. } = self;
        let mut original = original(profile.source.as_deref());
        object.clear();
        object.original("id", &mut original);
        object.field("username", &mut original, &profile.username);
        object.field("password", &mut original, &password);
        object.field("createdAt", &mut original, stamp.text(at));
        object.optional("nickname", &mut original, profile.nickname.as_deref());
        object.optional("profileImage", &mut original, profile.profile_image.as_deref());
        object.rest(&original);
    }

    fn rooms(&mut self, scan: Scan) -> Result<u64, ExportError> {
        let path = self.data_dir.join(ROOMS);
        let mut out = ArrayFile::create(self.destination, old::ROOMS).map_err(self.refused())?;
        let mut progress = Progress::new("rooms", scan.end);
        each_line(&path, scan.end, &mut |line, byte, bad| {
            let record: RoomRecord = record::decode(line).map_err(bad)?;
            progress.item(byte);
            if self.room(&record)? { out.push(&self.object).map_err(self.refused()) } else { Ok(()) }
        })?;
        progress.finish();
        let rooms = out.elements();
        out.finish().map_err(self.refused())?;
        Ok(rooms)
    }

    /// Makes an element of a room as it is by now; `false`: the record creates none that is still there.
    fn room(&mut self, record: &RoomRecord) -> Result<bool, ExportError> {
        let RoomChange::Created { room_id, name, open, created_by, source, .. } = &record.change else {
            return Ok(false);
        };
        let Some(room) = self.store.room(room_id)? else {
            return Ok(false);
        };
        if i64::try_from(record.rev) != Ok(room.key) {
            return Ok(false); // Another one has the id by now.
        }
        let creator = self.store.user(*created_by)?.map(|(name, _)| name);
        let mut members = Vec::new();
        self.store.member_names(room.key, &mut |name| members.push(name.to_owned()))?;
        let Export { object, stamp, .. } = self;
        let mut original = original(source.as_deref());
        object.clear();
        object.field("roomId", &mut original, room_id);
        object.field("name", &mut original, name);
        object.names("participants", &mut original, &members);
        object.field("createdBy", &mut original, &creator);
        object.field("createdAt", &mut original, stamp.text(record.at));
        object.optional("open", &mut original, open.then_some(true));
        object.rest(&original);
        Ok(true)
    }

    /// Answers what was exported with the messages.
    fn messages(&mut self, newest: Scan, mut counts: Counts) -> Result<Counts, ExportError> {
        let segments = segment::list(self.data_dir)?;
        let bytes = segments.iter().filter_map(|segment| segment.path.metadata().ok()).map(|file| file.len());
        let mut progress = Progress::new("messages", bytes.sum());
        let (mut file, mut before): (Option<ArrayFile>, u64) = (None, 0);
        let (mut rooms, mut senders) = (Known::default(), Known::default());
        for (at, segment) in segments.iter().enumerate() {
            let end = if at + 1 == segments.len() { newest.end } else { u64::MAX };
            let read = each_line(&segment.path, end, &mut |line, byte, bad| {
                let message = record::decode_message(line).map_err(bad)?;
                progress.item(before + byte);
                let begins = message.imported.as_ref().and_then(|original| original.file);
                let room = |id: &str| Ok(self.store.room(id)?.map(drop));
                let is_there = rooms.look_up(&message.room_id, room)?.is_some()
                    && senders.look_up(&message.sender, |name| self.store.user_number(name))?.is_some();
                let full = message.imported.is_none()
                    && file.as_ref().is_some_and(|file| file.elements() >= MESSAGES_PER_FILE);
                // Also where it is left out a file begins: those behind it keep their numbers.
                if begins.is_some() || is_there && (file.is_none() || full) {
                    let wanted = begins.unwrap_or(0).max(counts.files + 1);
                    self.next_file(&mut file, &mut counts.files, wanted)?;
                }
                if !is_there {
                    counts.left_out += 1;
                    return Ok(());
                }
                self.message(&message);
                counts.messages += 1;
                file.as_mut().map_or(Ok(()), |file| file.push(&self.object)).map_err(self.refused())
            })?;
            before += read;
        }
        progress.finish();
        file.map_or(Ok(()), ArrayFile::finish).map_err(self.refused())?;
        Ok(counts)
    }

    /// Goes on with the file of number `wanted`. Those between were empty where they came from.
    fn next_file(
        &self,
        file: &mut Option<ArrayFile>,
        number: &mut u64,
        wanted: u64,
    ) -> Result<(), ExportError> {
        let wanted = if wanted - *number > EMPTY_FILES { *number + 1 } else { wanted };
        while *number < wanted {
            file.take().map_or(Ok(()), ArrayFile::finish).map_err(self.refused())?;
            *number += 1;
            let next = ArrayFile::create(self.destination, &format!("messages_{number}.json"));
            *file = Some(next.map_err(self.refused())?);
        }
        Ok(())
    }

    fn message(&mut self, message: &Message<'_>) {
        let Export { object, stamp, .. } = self;
        let imported = message.imported.as_ref();
        let mut original = original(imported.and_then(|imported| imported.source.as_deref()));
        let own = message.id.to_string();
        let at = stamp.text(message.timestamp_ms);
        object.clear();
        object.field("id", &mut original, imported.map_or(own.as_str(), |imported| &imported.id));
        object.field("roomId", &mut original, &message.room_id);
        object.field("sender", &mut original, &message.sender);
        object.field("content", &mut original, &message.content);
        object.field("timestamp", &mut original, at);
        object.field("createdAt", &mut original, at);
        object.optional("clientId", &mut original, message.client_id.as_deref());
        object.rest(&original);
    }
}

/// Empty files in a row that are written to keep a number; a larger step is none of counting.
const EMPTY_FILES: u64 = 1_000;

/// What is kept of an original; nothing, if it was none.
fn original(source: Option<&str>) -> Fields<'_> {
    source.and_then(|source| Fields::parse(source).ok()).unwrap_or_default()
}

type EachLine<'a> = dyn FnMut(&[u8], u64, &dyn Fn(BadRecord) -> ExportError) -> Result<(), ExportError> + 'a;

/// Tells each record's line of a log up to a byte, and where it begins; answers how many bytes that were.
fn each_line(path: &Path, end: u64, tell: &mut EachLine<'_>) -> Result<u64, ExportError> {
    let file = File::open(path).map_err(JournalError::io(path))?;
    let compacted = Compacted::of(&file).map_err(JournalError::io(path))?;
    let begin = compacted.map_or(0, |_| HEADER_BYTES as u64);
    let mut lines = Lines::up_to(&file, begin, end);
    let mut read = 0;
    while let Some(line) = lines.next_line().map_err(JournalError::io(path))? {
        let bad = |bad: BadRecord| recover::damaged(&file, path, line.start, bad.to_string()).into();
        tell(line.bytes, line.start, &bad)?;
        read = line.end;
    }
    Ok(read)
}
