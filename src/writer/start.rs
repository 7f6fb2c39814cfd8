//! From a data directory in whatever state to one that is fit to be written.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::arena;
use super::files::{Amount, FILES_NAMED, FileState, Files};
use super::judge;
use super::remember;
use super::repeats::Repeats;
use super::reserve::Reserve;
use super::sequence::Sequence;
use crate::config::Storage;
use crate::index::build::{self, BuildError};
use crate::index::challenges::{self, ChallengeStore};
use crate::index::store::Store;
use crate::journal::append::Log;
use crate::journal::check::Problem;
use crate::journal::deletions::{self, Deletions};
use crate::journal::disk::Disk;
use crate::journal::recover::{self, Scan};
use crate::journal::rolling::Segments;
use crate::journal::{ADMIN, CHALLENGES, JournalError, ROOMS, USERS, resume, segment, undo};

/// Everything that the writer's threads begin with.
pub struct Recovered {
    /// Messages.
    pub segments: Segments,
    /// Their order.
    pub sequence: Sequence,
    /// Users.
    pub users: Log,
    /// Rooms.
    pub rooms: Log,
    /// The ends of these two.
    pub ends: judge::Ends,
    /// The latest changes of them.
    pub repeats: Repeats,
    /// The index, in step with all logs.
    pub store: Store,
    /// The newest messages of rooms are not in step: the disk was full.
    pub heads_behind: bool,
    /// Live challenges.
    pub challenges: Challenges,
    /// Deletions.
    pub admin: Log,
    /// The last of them.
    pub admin_rev: u64,
    /// What they deleted.
    pub deletions: Deletions,
    /// Records of users and of rooms that are no longer in the files.
    pub gone: [u64; 2],
    /// The files, for reports.
    pub files: Files,
    /// What is wrong with full ones, as far as they were read.
    pub damage: Vec<Problem>,
}

/// Live challenges: what the writer's thread of them begins with.
pub struct Challenges {
    /// The log.
    pub log: Log,
    /// Where it ends.
    pub ends: arena::Ends,
    /// The database, in step with it.
    pub store: ChallengeStore,
}

/// Recovers all logs, then brings the index into step.
///
/// # Errors
/// A log is damaged, or the directory can't be used.
pub fn recover(
    data_dir: &Path,
    disk: &Arc<dyn Disk>,
    storage: &Storage,
    reserve: &Reserve,
) -> Result<Recovered, BuildError> {
    let recovered = match recover_all(data_dir, disk, storage) {
        Err(error) if error.is_full() => {
            tracing::warn!(%error, "trying again with the reserve");
            reserve.clear()?;
            recover_all(data_dir, disk, storage)
        }
        other => other,
    }?;
    if let Err(error) = reserve.restore() {
        tracing::warn!(%error, "cannot set the reserve aside; refusing to store until that can be done");
    }
    Ok(recovered)
}

fn recover_all(data_dir: &Path, disk: &Arc<dyn Disk>, storage: &Storage) -> Result<Recovered, BuildError> {
    undo::clean_up(data_dir)?;
    resume::create_missing(data_dir, disk)?;
    let (deletions, admin) = deletions::read(data_dir)?;
    let admin_rev = admin.next - 1;
    let admin = recover::mend(disk, data_dir.join(ADMIN), admin)?;
    let (segments, scan) = resume::messages(data_dir, disk, storage.messages_per_file)?;
    let last = scan.next - 1;
    let mut damage = Vec::new();
    let sequence = remember::remember(data_dir, last, storage.dedup_window_messages, &mut damage)?;
    let mut repeats = Repeats::default();
    let (store, read) = build::open(data_dir, last, &mut |log, op, byte| repeats.add(log, op, byte))?;
    let (challenges, scan_of_challenges) = recover_challenges(data_dir, disk)?;
    let mut files = message_files(data_dir, &segments, scan, deletions.upto)?;
    let others = [state(USERS, read.users), state(ROOMS, read.rooms), state(CHALLENGES, scan_of_challenges)];
    files.named.splice(..0, others);
    files.indexed = files.indexed.max(store.last_file()?.map_or(0, |file| file.number));
    let gone = [read.users, read.rooms].map(|scan| scan.next - 1 - scan.in_file());
    let users = recover::mend(disk, data_dir.join(USERS), read.users)?;
    let rooms = recover::mend(disk, data_dir.join(ROOMS), read.rooms)?;
    let ends =
        judge::Ends { users: read.users.next - 1, rooms: read.rooms.next - 1, last_user: store.last_user()? };
    let heads_behind = read.heads_behind;
    Ok(Recovered {
        heads_behind,
        segments,
        sequence,
        users,
        rooms,
        ends,
        repeats,
        store,
        challenges,
        admin,
        admin_rev,
        deletions,
        gone,
        files,
        damage,
    })
}

fn recover_challenges(data_dir: &Path, disk: &Arc<dyn Disk>) -> Result<(Challenges, Scan), BuildError> {
    let (store, scan) = challenges::build::open(data_dir)?;
    let ends =
        arena::Ends { rev: scan.next - 1, challenge: store.last_challenge()?, entry: store.last_entry()? };
    let log = recover::mend(disk, data_dir.join(CHALLENGES), scan)?;
    Ok((Challenges { log, ends, store }, scan))
}

fn state(name: &str, scan: Scan) -> FileState {
    FileState { name: name.to_owned(), records: scan.in_file(), bytes: scan.end }
}

/// The files of messages and what they hold; the counts of full ones follow from where the next begins.
fn message_files(
    data_dir: &Path,
    segments: &Segments,
    scan: Scan,
    deleted_upto: u64,
) -> Result<Files, JournalError> {
    let mut files = Files::default();
    let (log, number, records) = segments.newest();
    let mut behind = scan.next - records;
    let listed = segment::list(data_dir)?;
    files.indexed = listed.first().map_or(0, |first| first.number.saturating_sub(1));
    files.named.push(FileState { name: name(log.path()), records, bytes: log.end() });
    let older = listed.iter().rev().filter(|segment| segment.number != number);
    for (at, segment) in older.enumerate() {
        let path = &segment.path;
        let bytes = fs::metadata(path).map_err(JournalError::io(path))?.len();
        if at + 1 >= FILES_NAMED {
            files.older.bytes += bytes;
            continue;
        }
        let first = resume::first_message(path).ok().flatten().unwrap_or(behind);
        files.named.push(FileState { name: name(path), records: behind.saturating_sub(first), bytes });
        behind = first;
    }
    files.named.reverse();
    if listed.len() > FILES_NAMED {
        let records = behind.saturating_sub(1).saturating_sub(deleted_upto);
        files.older = Amount { records, ..files.older };
    }
    Ok(files)
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
