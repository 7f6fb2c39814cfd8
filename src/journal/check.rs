//! Reads every record of every log and says all that is wrong, for `minitalk verify`.
//!
//! Works beside a writer: what is being written at the very end of a file is then no fault.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::compacted::Compacted;
use super::lines::Lines;
use super::record::{self, AdminRecord, BadRecord, ChallengeRecord, RoomRecord, UserChange, UserRecord};
use super::segment::{self, Segment};
use super::{ADMIN, CHALLENGES, JournalError, ROOMS, USERS, deletions};

/// Something that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The file.
    pub path: PathBuf,
    /// Line, from 1; 0: it is about the file.
    pub line: u64,
    /// Byte of the file where the line begins, from 0.
    pub byte: u64,
    /// What is wrong.
    pub what: String,
}

/// What was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Good messages.
    pub messages: u64,
    /// Their files.
    pub files: u64,
    /// Users created by good records of `users.jsonl`.
    pub users: u64,
    /// Good records of `chatrooms.jsonl`.
    pub rooms: u64,
    /// Good records of `challenges.jsonl`.
    pub challenges: u64,
    /// Problems found.
    pub problems: u64,
}

/// Reads everything. With `live`, a writer is at work.
///
/// # Errors
/// A file can't be read; nothing is said about its records.
pub fn check(data_dir: &Path, live: bool, tell: &mut dyn FnMut(Problem)) -> Result<Summary, JournalError> {
    let mut summary = Summary::default();
    let mut told = 0;
    let mut tell = |problem| {
        told += 1;
        tell(problem);
    };
    let mut deletion = |line: &[u8]| record::decode::<AdminRecord>(line).map(|record| record.rev);
    check_log(&data_dir.join(ADMIN), live, &mut deletion, &mut tell)?;
    // What is wrong with it has been told; what can be read of it counts.
    let deletions = deletions::read(data_dir).map(|(deletions, _)| deletions).unwrap_or_default();
    let first_file = deletions.first_file.max(1);
    let mut segments = segment::list(data_dir)?;
    // Deleted, and about to be removed.
    segments.retain(|segment| segment.number >= first_file);
    let mut next = deletions.upto + 1;
    for (at, segment) in segments.iter().enumerate() {
        let expected = Segment::at(data_dir, at as u64 + first_file);
        if at == 0 && segment.number != first_file || at > 0 && segments[at - 1].number + 1 != segment.number
        {
            let what = format!("{} is not there", expected.path.file_name().unwrap_or_default().display());
            tell(Problem { path: segment.path.clone(), line: 1, byte: 0, what });
        }
        let newest = at + 1 == segments.len();
        let mut read = |line: &[u8]| record::decode_message(line).map(|message| message.seq);
        let (last, good) = check_file(&segment.path, next, live && newest, &mut read, &mut tell)?;
        if good == 0 && !newest {
            let what = "no message in it, and it is not the newest file".to_owned();
            tell(Problem { path: segment.path.clone(), line: 1, byte: 0, what });
        }
        next = last;
        summary.messages += good;
        summary.files += 1;
    }
    let compacted = header(&data_dir.join(USERS));
    let (mut last, mut created) = (0, 0);
    let mut user = |line: &[u8]| {
        let record: UserRecord = record::decode(line)?;
        if let Some(compacted) = compacted.filter(|compacted| record.rev > compacted.upto) {
            // The latest users before may be among those that are gone.
            last = last.max(compacted.last_user);
        }
        let wrong = match &record.change {
            UserChange::Created(_) if record.user_id <= last => {
                format!("user number {} behind {last}", record.user_id)
            }
            UserChange::Password { .. } | UserChange::Profile { .. } | UserChange::Revoked { .. }
                if record.user_id > last || record.user_id == 0 =>
            {
                format!("a change of user {}, who is not there", record.user_id)
            }
            _ => {
                created += u64::from(record.user_id > last);
                last = last.max(record.user_id);
                return Ok(record.rev);
            }
        };
        Err(BadRecord::Fields(wrong))
    };
    check_log(&data_dir.join(USERS), live, &mut user, &mut tell)?;
    summary.users = created;
    let mut room = |line: &[u8]| record::decode::<RoomRecord>(line).map(|record| record.rev);
    summary.rooms = check_log(&data_dir.join(ROOMS), live, &mut room, &mut tell)?;
    let mut challenge = |line: &[u8]| record::decode::<ChallengeRecord>(line).map(|record| record.rev);
    summary.challenges = check_log(&data_dir.join(CHALLENGES), live, &mut challenge, &mut tell)?;
    summary.problems = told;
    Ok(summary)
}

type Read<'a> = dyn FnMut(&[u8]) -> Result<u64, BadRecord> + 'a;

/// A log that may not be there yet; answers how many good records it has.
fn check_log(
    path: &Path,
    live: bool,
    read: &mut Read<'_>,
    tell: &mut dyn FnMut(Problem),
) -> Result<u64, JournalError> {
    match path.try_exists() {
        Ok(false) => Ok(0),
        _ => check_file(path, 1, live, read, tell).map(|(_, good)| good),
    }
}

/// Checks one file whose first record should have number `next`; answers the number that should
/// follow its last, and how many records are good.
fn check_file(
    path: &Path,
    mut next: u64,
    growing: bool,
    read: &mut Read<'_>,
    tell: &mut dyn FnMut(Problem),
) -> Result<(u64, u64), JournalError> {
    let wrap = |source: io::Error| JournalError::Io { path: path.to_owned(), source };
    let file = File::open(path).map_err(wrap)?;
    let mut lines = Lines::new(&file, 0);
    let (mut number, mut good) = (0, 0);
    let mut compacted: Option<Compacted> = None;
    while let Some(line) = lines.next_line().map_err(wrap)? {
        number += 1;
        let mut problem =
            |what| tell(Problem { path: path.to_owned(), line: number, byte: line.start, what });
        if !line.finished {
            if !growing {
                problem("the last line has no end (a start of the server cuts it off)".to_owned());
            }
            continue;
        }
        if number == 1 {
            match Compacted::decode(line.bytes) {
                Ok(header) => compacted = header,
                Err(error) => problem(format!("the header: {error}")),
            }
            if compacted.is_some() {
                continue;
            }
        }
        if let Some(header) = compacted.filter(|header| line.start >= header.bytes) {
            if line.start != header.bytes || good != header.records || next > header.upto + 1 {
                problem(format!("{good} records before it; the header says {}", header.records));
            }
            next = header.upto + 1;
            compacted = None;
        }
        match read(line.bytes) {
            Ok(found) => {
                let fits = match compacted {
                    Some(header) => (next..=header.upto).contains(&found),
                    None => found == next,
                };
                if fits {
                    good += 1;
                } else {
                    problem(format!("number {found} where {next} belongs"));
                }
                next = found + 1;
            }
            Err(error) => {
                problem(error.to_string());
                next += 1;
            }
        }
    }
    if let Some(header) = compacted.filter(|header| good != header.records) {
        let what = format!("{good} records in it; the header says {}", header.records);
        tell(Problem { path: path.to_owned(), line: number + 1, byte: header.bytes, what });
    }
    Ok((next, good))
}

/// What a log says of its compaction; one that can't be read is the main reader's to tell.
fn header(path: &Path) -> Option<Compacted> {
    File::open(path).ok().and_then(|file| Compacted::of(&file).ok()).flatten()
}
