//! What was deleted as a whole, read from `admin.jsonl`.
//!
//! A deletion is one line, so it has happened or it has not. It says up to which record the other
//! logs are of no effect; that they get shorter is housekeeping which may come at any later time.

use std::collections::VecDeque;
use std::path::Path;

use super::record::{self, AdminRecord, Deletion};
use super::recover::{self, Found, From, Scan};
use super::{ADMIN, JournalError};
use crate::chat::{OpId, UserId};

/// Latest deletions that are remembered, so that a repetition is answered like the first one.
const REMEMBERED: usize = 1_024;

/// The latest deletion of each kind, and who asked lately.
#[derive(Clone, Debug, Default)]
pub struct Deletions {
    /// `rev` of the latest deletion of users; 0: there was none.
    pub users: u64,
    /// The highest user number before it.
    pub last_user: UserId,
    /// Last record of `users.jsonl` before it.
    pub users_rev: u64,
    /// Last record of `chatrooms.jsonl` before it.
    pub rooms_rev: u64,
    /// The last message before the latest deletion of messages; 0: there was none.
    pub upto: u64,
    /// Number of the oldest file that may hold messages.
    pub first_file: u64,
    latest: VecDeque<AdminRecord>,
}

impl Deletions {
    /// Takes in the next record.
    pub fn add(&mut self, record: AdminRecord) {
        match record.deletion {
            Deletion::UsersDeleted { last_user, users_rev, rooms_rev, .. } => {
                self.users = record.rev;
                (self.last_user, self.users_rev, self.rooms_rev) = (last_user, users_rev, rooms_rev);
            }
            Deletion::MessagesDeleted { upto, first_file, .. } => {
                (self.upto, self.first_file) = (upto, first_file);
            }
        }
        if self.latest.len() == REMEMBERED {
            self.latest.pop_front();
        }
        self.latest.push_back(record);
    }

    /// What an operation did, if it was one of the latest.
    pub fn find(&self, op: OpId) -> Option<&AdminRecord> {
        self.latest.iter().rev().find(|record| record.op == op)
    }
}

/// Reads the file; answers what it says and where it ends. One that is not there says nothing.
///
/// # Errors
/// It can't be read, or is damaged.
pub fn read(data_dir: &Path) -> Result<(Deletions, Scan), JournalError> {
    let mut deletions = Deletions::default();
    let scan =
        recover::scan(&data_dir.join(ADMIN), From { byte: 0, number: 1 }, false, &mut |line, _, next| {
            let record: AdminRecord = record::decode(line)?;
            let found = Found { number: record.rev, synced: record.synced };
            if record.rev == next {
                deletions.add(record);
            }
            Ok(found)
        })?;
    Ok((deletions, scan))
}
