//! The lines of `admin.jsonl`: what administrators had deleted.

use serde::{Deserialize, Serialize};

use super::event::Record;
use super::text::{ms_text, op_text, text_ms, text_op};
use crate::chat::{OpId, UserId};

/// A line of `admin.jsonl`. It is both the deletion itself and the note of who had it done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AdminRecord {
    /// The record's place in its file, from 1.
    pub rev: u64,
    /// What was deleted.
    #[serde(flatten)]
    pub deletion: Deletion,
    /// The operation that did it.
    #[serde(serialize_with = "op_text", deserialize_with = "text_op")]
    pub op: OpId,
    /// Number of the user who asked.
    pub by: UserId,
    /// Their name.
    pub by_name: String,
    /// Unix time in milliseconds.
    #[serde(serialize_with = "ms_text", deserialize_with = "text_ms")]
    pub at: i64,
    /// The highest `rev` of this file known to be durable when the line was written.
    pub synced: u64,
}

/// What can be deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Deletion {
    /// All users, and all rooms with them.
    UsersDeleted {
        /// How many there were.
        users: u64,
        /// The highest number that was given to one; the next gets one more.
        last_user: UserId,
        /// Records of `users.jsonl` up to this `rev` are of no effect any more.
        users_rev: u64,
        /// Records of `chatrooms.jsonl` up to this `rev` are of no effect any more.
        rooms_rev: u64,
    },
    /// All messages.
    MessagesDeleted {
        /// How many there were.
        messages: u64,
        /// The number of the last one of them; the next message gets one more.
        upto: u64,
        /// Number of the oldest file that may hold messages; older ones are removed.
        first_file: u64,
    },
}

impl Deletion {
    /// How many were deleted.
    pub fn count(&self) -> u64 {
        match self {
            Deletion::UsersDeleted { users, .. } => *users,
            Deletion::MessagesDeleted { messages, .. } => *messages,
        }
    }
}

impl Record for AdminRecord {
    fn rev(&self) -> u64 {
        self.rev
    }
    fn synced(&self) -> u64 {
        self.synced
    }
    fn op(&self) -> OpId {
        self.op
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::record::{decode, encode};

    #[test]
    fn deletions_look_as_documented() {
        let op = OpId { instance: 1, count: 2 };
        let deletion = Deletion::UsersDeleted { users: 3, last_user: 4, users_rev: 5, rooms_rev: 6 };
        let record = AdminRecord { rev: 1, deletion, op, by: 7, by_name: "root".into(), at: 0, synced: 0 };
        let mut line = Vec::new();
        encode(&record, &mut line);
        let text = std::str::from_utf8(&line).unwrap();
        let begins = r#"{"rev":1,"event":"usersDeleted","users":3,"lastUser":4,"usersRev":5,"roomsRev":6,"op":"0000000000000001-2","by":7,"byName":"root","at":"1970-01-01T00:00:00.000Z","synced":0,"crc":""#;
        assert!(text.starts_with(begins), "{text}");
        assert_eq!(decode::<AdminRecord>(&line[..line.len() - 1]).unwrap(), record);
        let deletion = Deletion::MessagesDeleted { messages: 8, upto: 9, first_file: 10 };
        let record = AdminRecord { rev: 2, deletion, ..record };
        line.clear();
        encode(&record, &mut line);
        assert_eq!(decode::<AdminRecord>(&line[..line.len() - 1]).unwrap(), record);
    }
}
