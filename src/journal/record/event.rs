//! The lines of users and rooms.

use serde::{Deserialize, Serialize};

use super::text::{Ms, ms_text, op_text, text_ms, text_op};
use super::{BadRecord, check, read_json, seal, write_json};
use crate::chat::{OpId, UserId};

/// A line of `users.jsonl`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserRecord {
    /// The record's place in its file, from 1.
    pub rev: u64,
    /// The operation that did it.
    pub op: OpId,
    /// The user's number.
    pub user_id: UserId,
    /// What happened.
    pub change: UserChange,
    /// Unix time in milliseconds.
    pub at: i64,
    /// The highest `rev` of this file known to be durable when the line was written.
    pub synced: u64,
}

/// What can happen to a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserChange {
    /// Exists from now on.
    Created(Profile),
    /// Has another password from now on.
    Password {
        /// The hash's text.
        text: String,
        /// It also ends earlier tokens, as [`UserChange::Revoked`]; `None`: it is another hash of the same
        /// password.
        generation: Option<u32>,
    },
    /// Is seen otherwise from now on.
    Profile {
        /// How others see them in challenges; `None`: by the name.
        nickname: Option<String>,
        /// Where their picture is, if they have one.
        profile_image: Option<String>,
    },
    /// Tokens of earlier generations are good no more.
    Revoked {
        /// The generation that is good from now on; the first one is 0.
        generation: u32,
    },
}

/// What is known of a user from the beginning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// The name.
    pub username: String,
    /// PHC string of the password's hash, or bcrypt's; none: no password opens this account.
    pub password: Option<String>,
    /// How others see them in challenges.
    pub nickname: Option<String>,
    /// Where their picture is.
    pub profile_image: Option<String>,
    /// Of an imported user, the JSON text of an object: what no other field says of the original.
    pub source: Option<String>,
}

/// The fields of a user's line, in order; `S` is borrowed text or owned.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct UserLine<S> {
    rev: u64,
    event: UserEvent,
    #[serde(serialize_with = "op_text", deserialize_with = "text_op")]
    op: OpId,
    user_id: UserId,
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<S>,
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<S>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nickname: Option<S>,
    #[serde(skip_serializing_if = "Option::is_none")]
    profile_image: Option<S>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_at: Option<Ms>,
    #[serde(skip_serializing_if = "Option::is_none")]
    generation: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<Ms>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<S>,
    synced: u64,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum UserEvent {
    Created,
    Password,
    Profile,
    Revoked,
}

impl Serialize for UserRecord {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let UserRecord { rev, op, user_id, at, synced, .. } = *self;
        let mut line = UserLine {
            rev,
            event: UserEvent::Created,
            op,
            user_id,
            username: None,
            password: None,
            nickname: None,
            profile_image: None,
            created_at: None,
            generation: None,
            at: None,
            source: None,
            synced,
        };
        match &self.change {
            UserChange::Created(profile) => {
                line.username = Some(profile.username.as_str());
                line.password = profile.password.as_deref();
                line.nickname = profile.nickname.as_deref();
                line.profile_image = profile.profile_image.as_deref();
                line.source = profile.source.as_deref();
                line.created_at = Some(Ms(at));
            }
            UserChange::Password { text, generation } => {
                line.event = UserEvent::Password;
                line.password = Some(text);
                line.generation = *generation;
                line.at = Some(Ms(at));
            }
            UserChange::Profile { nickname, profile_image } => {
                line.event = UserEvent::Profile;
                line.nickname = nickname.as_deref();
                line.profile_image = profile_image.as_deref();
                line.at = Some(Ms(at));
            }
            UserChange::Revoked { generation } => {
                line.event = UserEvent::Revoked;
                line.generation = Some(*generation);
                line.at = Some(Ms(at));
            }
        }
        line.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for UserRecord {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<UserRecord, D::Error> {
        let missing = serde::de::Error::missing_field;
        let line = UserLine::<String>::deserialize(deserializer)?;
        let (change, at) = match line.event {
            UserEvent::Created => {
                let profile = Profile {
                    username: line.username.ok_or_else(|| missing("username"))?,
                    password: line.password,
                    nickname: line.nickname,
                    profile_image: line.profile_image,
                    source: line.source,
                };
                (UserChange::Created(profile), line.created_at.ok_or_else(|| missing("createdAt"))?)
            }
            UserEvent::Password => {
                let text = line.password.ok_or_else(|| missing("password"))?;
                let generation = line.generation;
                (UserChange::Password { text, generation }, line.at.ok_or_else(|| missing("at"))?)
            }
            UserEvent::Profile => {
                let (nickname, profile_image) = (line.nickname, line.profile_image);
                (UserChange::Profile { nickname, profile_image }, line.at.ok_or_else(|| missing("at"))?)
            }
            UserEvent::Revoked => {
                let generation = line.generation.ok_or_else(|| missing("generation"))?;
                (UserChange::Revoked { generation }, line.at.ok_or_else(|| missing("at"))?)
            }
        };
        let UserLine { rev, op, user_id, synced, .. } = line;
        Ok(UserRecord { rev, op, user_id, change, at: at.0, synced })
    }
}

impl UserChange {
    /// The generation of tokens that is good from this on, if it ends earlier ones.
    pub fn generation(&self) -> Option<u32> {
        match self {
            UserChange::Created(_) | UserChange::Profile { .. } => None,
            UserChange::Password { generation, .. } => *generation,
            UserChange::Revoked { generation } => Some(*generation),
        }
    }
}

/// Stands in a compacted record in the place of a member who has left: no user has this number.
pub const NOBODY: UserId = 0;

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
        /// Of an imported room, as [`Profile::source`].
        #[serde(default, skip_serializing_if = "Option::is_none")]
        source: Option<String>,
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
                source: None,
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

    #[test]
    fn user_records_look_as_documented() {
        let op = OpId { instance: 1, count: 2 };
        let profile = Profile { username: "가나".into(), nickname: Some("n".into()), ..Profile::default() };
        let change = UserChange::Created(profile);
        let record = UserRecord { rev: 1, op, user_id: 7, change, at: 0, synced: 0 };
        let line = |record: &UserRecord| {
            let mut line = Vec::new();
            encode(record, &mut line);
            assert_eq!(decode::<UserRecord>(&line[..line.len() - 1]).unwrap(), *record);
            String::from_utf8(line).unwrap()
        };
        let begins = r#"{"rev":1,"event":"created","op":"0000000000000001-2","userId":7,"username":"가나","nickname":"n","createdAt":"1970-01-01T00:00:00.000Z","synced":0,"crc":""#;
        assert!(line(&record).starts_with(begins), "{}", line(&record));
        let change = UserChange::Password { text: "$argon2id$".into(), generation: None };
        let record = UserRecord { rev: 2, change, ..record };
        let begins = r#"{"rev":2,"event":"password","op":"0000000000000001-2","userId":7,"password":"$argon2id$","at":"1970-01-01T00:00:00.000Z","synced":0,"crc":""#;
        assert!(line(&record).starts_with(begins), "{}", line(&record));
        let record = UserRecord { rev: 3, change: UserChange::Revoked { generation: 4 }, ..record };
        let begins = r#"{"rev":3,"event":"revoked","op":"0000000000000001-2","userId":7,"generation":4,"at":"1970-01-01T00:00:00.000Z","synced":0,"crc":""#;
        assert!(line(&record).starts_with(begins), "{}", line(&record));
        let change = UserChange::Profile { nickname: None, profile_image: Some("p".into()) };
        let record = UserRecord { rev: 4, change, ..record };
        let begins = r#"{"rev":4,"event":"profile","op":"0000000000000001-2","userId":7,"profileImage":"p","at":"1970-01-01T00:00:00.000Z","synced":0,"crc":""#;
        assert!(line(&record).starts_with(begins), "{}", line(&record));
    }

    proptest! {
        #[test]
        fn users_round_trip(
            username: String,
            texts: [Option<String>; 4],
            numbers: [u64; 5],
            generation: Option<u32>,
        ) {
            let [password, nickname, profile_image, source] = texts;
            let change = match (password, generation) {
                (Some(text), _) if numbers[0].is_multiple_of(2) => UserChange::Password { text, generation },
                (None, Some(generation)) => UserChange::Revoked { generation },
                (None, None) if numbers[0].is_multiple_of(2) => UserChange::Profile { nickname, profile_image },
                (password, _) => {
                    UserChange::Created(Profile { username, password, nickname, profile_image, source })
                }
            };
            let record = UserRecord {
                rev: numbers[0],
                op: OpId { instance: numbers[1], count: numbers[2] },
                user_id: numbers[3],
                change,
                at: i64::try_from(numbers[4] % 4_000_000_000_000).unwrap(),
                synced: 0,
            };
            let mut line = Vec::new();
            encode(&record, &mut line);
            line.pop();
            prop_assert_eq!(decode::<UserRecord>(&line).unwrap(), record);
        }
    }
}
