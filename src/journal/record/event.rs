//! The lines of users and rooms.

use serde::{Deserialize, Serialize};

use super::text::{ms_text, op_text, text_ms, text_op};
use super::{BadRecord, check, read_json, seal, write_json};
use crate::chat::{OpId, UserId};

/// A line of `users.jsonl`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UserRecord {
    /// The record's place in its file, from 1.
    pub rev: u64,
    /// What happened.
    pub event: UserEvent,
    /// The operation that did it.
    #[serde(serialize_with = "op_text", deserialize_with = "text_op")]
    pub op: OpId,
    /// The user's number.
    pub user_id: UserId,
    /// The name.
    pub username: String,
    /// PHC string of the password's hash.
    pub password: String,
    /// Unix time in milliseconds.
    #[serde(serialize_with = "ms_text", deserialize_with = "text_ms")]
    pub created_at: i64,
    /// The highest `rev` of this file known to be durable when the line was written.
    pub synced: u64,
}

/// What can happen to a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UserEvent {
    /// Exists from now on.
    Created,
}

/// A line of `chatrooms.jsonl`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RoomRecord {
    /// The record's place in its file, from 1.
    pub rev: u64,
    /// What happened.
    #[serde(flatten)]
    pub change: RoomChange,
    /// Unix time in milliseconds.
    #[serde(serialize_with = "ms_text", deserialize_with = "text_ms")]
    pub at: i64,
    /// The last message published when this was put in order.
    pub after_seq: u64,
    /// The highest `rev` of this file known to be durable when the line was written.
    pub synced: u64,
}

/// What can happen to a room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase", rename_all_fields = "camelCase")]
pub enum RoomChange {
    /// Exists from now on.
    Created {
        /// The operation that did it.
        #[serde(serialize_with = "op_text", deserialize_with = "text_op")]
        op: OpId,
        /// The room.
        room_id: String,
        /// What users call it.
        name: String,
        /// Anybody may join.
        open: bool,
        /// Who asked.
        created_by: UserId,
        /// All its members, in order of joining, nobody twice.
        members: Vec<UserId>,
    },
    /// These are new in it.
    Joined {
        /// The operation that did it.
        #[serde(serialize_with = "op_text", deserialize_with = "text_op")]
        op: OpId,
        /// The room.
        room_id: String,
        /// Who is new, in order.
        users: Vec<UserId>,
        /// Who invited them, or who joined.
        by: UserId,
    },
    /// This one is no longer in it.
    Left {
        /// The operation that did it.
        #[serde(serialize_with = "op_text", deserialize_with = "text_op")]
        op: OpId,
        /// The room.
        room_id: String,
        /// Who left.
        user: UserId,
        /// Nobody remained, so the room is gone.
        deleted: bool,
    },
}

impl RoomChange {
    /// The operation that did it.
    pub fn op(&self) -> OpId {
        match self {
            RoomChange::Created { op, .. } | RoomChange::Joined { op, .. } | RoomChange::Left { op, .. } => {
                *op
            }
        }
    }
}

/// A record of a log whose records are counted by `rev`.
pub trait Record: Serialize + for<'a> Deserialize<'a> {
    /// Its place in its file.
    fn rev(&self) -> u64;
    /// The highest place known to be durable when it was written.
    fn synced(&self) -> u64;
    /// The operation that wrote it.
    fn op(&self) -> OpId;
}

impl Record for UserRecord {
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

impl Record for RoomRecord {
    fn rev(&self) -> u64 {
        self.rev
    }
    fn synced(&self) -> u64 {
        self.synced
    }
    fn op(&self) -> OpId {
        self.change.op()
    }
}

/// Appends the line of a user's or a room's record.
pub fn encode<R: Record>(record: &R, out: &mut Vec<u8>) {
    let start = out.len();
    write_json(out, record);
    out.pop(); // The closing brace.
    seal(out, start);
}

/// Reads such a line (without its line feed).
///
/// # Errors
/// It is not the line of an `R`.
pub fn decode<R: Record>(line: &[u8]) -> Result<R, BadRecord> {
    check(line)?;
    read_json(line)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn room_records_look_as_documented() {
        let op = OpId { instance: 1, count: 2 };
        let record = RoomRecord {
            rev: 1,
            change: RoomChange::Created {
                op,
                room_id: "r".into(),
                name: "n".into(),
                open: false,
                created_by: 1,
                members: vec![1, 2],
            },
            at: 0,
            after_seq: 9,
            synced: 0,
        };
        let mut line = Vec::new();
        encode(&record, &mut line);
        let text = std::str::from_utf8(&line).unwrap();
        assert!(
            text.starts_with(
                r#"{"rev":1,"event":"created","op":"0000000000000001-2","roomId":"r","name":"n","open":false,"createdBy":1,"members":[1,2],"at":"1970-01-01T00:00:00.000Z","afterSeq":9,"synced":0,"crc":""#
            ),
            "{text}"
        );
        assert_eq!(decode::<RoomRecord>(&line[..line.len() - 1]).unwrap(), record);
        let left = RoomChange::Left { op, room_id: "r".into(), user: 3, deleted: true };
        let record = RoomRecord { rev: 2, change: left, ..record };
        line.clear();
        encode(&record, &mut line);
        assert_eq!(decode::<RoomRecord>(&line[..line.len() - 1]).unwrap(), record);
    }

    proptest! {
        #[test]
        fn users_round_trip(texts: [String; 2], numbers: [u64; 5]) {
            let [username, password] = texts;
            let record = UserRecord {
                rev: numbers[0],
                event: UserEvent::Created,
                op: OpId { instance: numbers[1], count: numbers[2] },
                user_id: numbers[3],
                username,
                password,
                created_at: i64::try_from(numbers[4] % 4_000_000_000_000).unwrap(),
                synced: 0,
            };
            let mut line = Vec::new();
            encode(&record, &mut line);
            line.pop();
            prop_assert_eq!(decode::<UserRecord>(&line).unwrap(), record);
        }
    }
}
