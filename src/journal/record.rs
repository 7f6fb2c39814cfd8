//! One line of a log: a JSON object that ends in the checksum of everything before it.
//!
//! Encoding writes into the batch's buffer and allocates nothing for a message. Decoding checks
//! the sum first, then reads the JSON, so whatever it answers is what was once written.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::stamp::{self, Stamp};
use crate::chat::{OpId, UserId};

/// Between the sum and what it covers.
const CRC_KEY: &[u8] = b",\"crc\":\"";

/// Bytes of a line from [`CRC_KEY`] to its end, without the line feed.
const TAIL: usize = CRC_KEY.len() + 8 + 2;

/// Why a line is not a record.
#[derive(Debug, thiserror::Error)]
pub enum BadRecord {
    /// It does not end as a record does: torn, or overwritten.
    #[error("not a whole record")]
    Shape,
    /// The bytes are not those that were written.
    #[error("checksum does not match")]
    Checksum,
    /// The bytes are those that were written, by something that writes other records.
    #[error("not a record of this kind: {0}")]
    Fields(String),
}

/// A chat message with all the log knows of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// Its place in the one order, from 1.
    pub seq: u64,
    /// The operation that stored it.
    pub id: OpId,
    /// The room.
    pub room_id: Cow<'a, str>,
    /// The sender's name at the time.
    pub sender: Cow<'a, str>,
    /// The text.
    pub content: Cow<'a, str>,
    /// Unix time in milliseconds.
    pub timestamp_ms: i64,
    /// The client's own name for it.
    pub client_id: Option<Cow<'a, str>>,
    /// The sender's number.
    pub user: UserId,
    /// The highest `seq` known to be durable when the line was written.
    pub synced: u64,
}

#[derive(Serialize)]
struct ClientFields<'a> {
    seq: u64,
    #[serde(serialize_with = "op_text")]
    id: OpId,
    #[serde(rename = "roomId")]
    room_id: &'a str,
    sender: &'a str,
    content: &'a str,
    timestamp: &'a str,
    #[serde(rename = "clientId", skip_serializing_if = "Option::is_none")]
    client_id: Option<&'a str>,
}

/// Appends a message's line; answers where in `out` the fields are that clients see (the object
/// without its braces).
pub fn encode_message(message: &Message<'_>, stamp: &mut Stamp, out: &mut Vec<u8>) -> Range<usize> {
    let start = out.len();
    write_json(
        out,
        &ClientFields {
            seq: message.seq,
            id: message.id,
            room_id: &message.room_id,
            sender: &message.sender,
            content: &message.content,
            timestamp: stamp.text(message.timestamp_ms),
            client_id: message.client_id.as_deref(),
        },
    );
    out.pop(); // The closing brace.
    let fields = start + 1..out.len();
    out.extend_from_slice(USER_KEY);
    write_json(out, &message.user);
    out.extend_from_slice(b",\"synced\":");
    write_json(out, &message.synced);
    seal(out, start);
    fields
}

/// Begins what clients do not see.
const USER_KEY: &[u8] = b",\"userId\":";

#[derive(Deserialize)]
struct MessageJson<'a> {
    seq: u64,
    #[serde(deserialize_with = "text_op")]
    id: OpId,
    #[serde(rename = "roomId", borrow)]
    room_id: Cow<'a, str>,
    #[serde(borrow)]
    sender: Cow<'a, str>,
    #[serde(borrow)]
    content: Cow<'a, str>,
    #[serde(deserialize_with = "text_ms")]
    timestamp: i64,
    #[serde(rename = "clientId", borrow, default)]
    client_id: Option<Cow<'a, str>>,
    #[serde(rename = "userId")]
    user: UserId,
    synced: u64,
}

/// Reads a message's line (without its line feed).
///
/// # Errors
/// It is not the line of a message.
pub fn decode_message(line: &[u8]) -> Result<Message<'_>, BadRecord> {
    check(line)?;
    let json: MessageJson<'_> = read_json(line)?;
    Ok(Message {
        seq: json.seq,
        id: json.id,
        room_id: json.room_id,
        sender: json.sender,
        content: json.content,
        timestamp_ms: json.timestamp,
        client_id: json.client_id,
        user: json.user,
        synced: json.synced,
    })
}

/// What clients see of a message's line that [`decode_message`] has accepted.
pub fn client_fields(line: &[u8]) -> Option<&str> {
    // No string holds this text: its quotation marks would be escaped.
    let end = memchr::memmem::rfind(line, USER_KEY)?;
    std::str::from_utf8(line.get(1..end)?).ok()
}

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

/// Appends the sum of what stands behind `start`, and ends the line.
fn seal(out: &mut Vec<u8>, start: usize) {
    let crc = crc32fast::hash(&out[start..]);
    out.extend_from_slice(CRC_KEY);
    out.extend_from_slice(&hex(u64::from(crc)).as_bytes()[8..]);
    out.extend_from_slice(b"\"}\n");
}

/// Checks a line's shape and sum, and does not look at its fields.
///
/// # Errors
/// It is not what was written.
pub fn check(line: &[u8]) -> Result<(), BadRecord> {
    let Some(at) = line.len().checked_sub(TAIL) else {
        return Err(BadRecord::Shape);
    };
    let (body, tail) = line.split_at(at);
    let (key, rest) = tail.split_at(CRC_KEY.len());
    let (digits, end) = rest.split_at(8);
    if key != CRC_KEY || end != b"\"}" || body.first() != Some(&b'{') {
        return Err(BadRecord::Shape);
    }
    // Compared as text: every sum has one spelling.
    if digits == &hex(u64::from(crc32fast::hash(body))).as_bytes()[8..] {
        Ok(())
    } else {
        Err(BadRecord::Checksum)
    }
}

/// The sum a line carries, unchecked; 0 if it carries none.
pub fn sum(line: &[u8]) -> u32 {
    let digits = line.len().checked_sub(10).and_then(|at| std::str::from_utf8(&line[at..at + 8]).ok());
    digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()).unwrap_or(0)
}

fn read_json<'a, T: Deserialize<'a>>(line: &'a [u8]) -> Result<T, BadRecord> {
    serde_json::from_slice(line).map_err(|error| BadRecord::Fields(error.to_string()))
}

fn write_json<T: Serialize>(out: &mut Vec<u8>, value: &T) {
    // Writing to a vector can't fail, and nothing here has keys that are not strings.
    let written = serde_json::to_writer(out, value);
    debug_assert!(written.is_ok());
}

/// The number a line begins with (`{"seq":N,` or `{"rev":N,`), without reading the rest.
pub fn leading_number(line: &[u8]) -> Option<u64> {
    let rest = line.strip_prefix(b"{\"seq\":").or_else(|| line.strip_prefix(b"{\"rev\":"))?;
    let end = rest.iter().position(|byte| !byte.is_ascii_digit())?;
    std::str::from_utf8(&rest[..end]).ok()?.parse().ok()
}

/// The record at the end of a line that begins with something else, if there is one: what is left
/// when a line feed was lost. No string holds its beginning, since quotation marks are escaped.
pub fn last_inside(line: &[u8]) -> Option<&[u8]> {
    let begins = |key: &[u8]| memchr::memmem::rfind(line, key);
    let at = begins(b"{\"seq\":").max(begins(b"{\"rev\":"))?;
    (at > 0).then(|| &line[at..])
}

/// Sixteen lower-case hexadecimal digits.
fn hex(number: u64) -> Hex {
    let mut digits = [0; 16];
    for (byte, pair) in number.to_be_bytes().iter().zip(digits.chunks_exact_mut(2)) {
        pair.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
    Hex(digits)
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

struct Hex([u8; 16]);

impl Hex {
    fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// Writes an `OpId` as its text; by hand, since every message has one.
fn op_text<S: serde::Serializer>(op: &OpId, serializer: S) -> Result<S::Ok, S::Error> {
    let mut text = [b'-'; 33];
    text[..16].copy_from_slice(hex(op.instance).as_bytes());
    let count = hex(op.count);
    let zeros = usize::try_from(op.count.leading_zeros() / 4).unwrap_or(0).min(15);
    let digits = &count.as_bytes()[zeros..];
    let end = 17 + digits.len();
    text[17..end].copy_from_slice(digits);
    // Hexadecimal digits and a hyphen are ASCII.
    serializer.serialize_str(std::str::from_utf8(&text[..end]).unwrap_or_default())
}

fn text_op<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<OpId, D::Error> {
    deserializer.deserialize_str(Text(|text| text.parse().ok()))
}

fn ms_text<S: serde::Serializer>(ms: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(Stamp::default().text(*ms))
}

fn text_ms<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    deserializer.deserialize_str(Text(stamp::parse))
}

/// Reads a value from a string without keeping the string.
struct Text<T>(fn(&str) -> Option<T>);

impl<T> serde::de::Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an operation's id or a time, as text")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        (self.0)(text).ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message<'a>(texts: &'a [String; 3], numbers: [u64; 5], client_id: Option<&'a str>) -> Message<'a> {
        Message {
            seq: numbers[0],
            id: OpId { instance: numbers[1], count: numbers[2] },
            room_id: Cow::Borrowed(&texts[0]),
            sender: Cow::Borrowed(&texts[1]),
            content: Cow::Borrowed(&texts[2]),
            timestamp_ms: i64::try_from(numbers[3] % 4_000_000_000_000).unwrap(),
            client_id: client_id.map(Cow::Borrowed),
            user: numbers[4],
            synced: numbers[0].saturating_sub(1),
        }
    }

    #[test]
    fn a_message_looks_as_documented() {
        let texts = ["r1".to_owned(), "alice".to_owned(), "\"hi\" 안녕\n".to_owned()];
        let message = message(&texts, [5, 0xabc, 16, 1_767_225_600_001, 7], Some("c-1"));
        let mut line = Vec::new();
        let fields = encode_message(&message, &mut Stamp::default(), &mut line);
        let fields = std::str::from_utf8(&line[fields]).unwrap();
        assert_eq!(
            fields,
            r#""seq":5,"id":"0000000000000abc-10","roomId":"r1","sender":"alice","content":"\"hi\" 안녕\n","timestamp":"2026-01-01T00:00:00.001Z","clientId":"c-1""#
        );
        let text = std::str::from_utf8(&line).unwrap();
        let rest = text.strip_prefix('{').unwrap().strip_prefix(fields).unwrap();
        assert!(rest.starts_with(r#","userId":7,"synced":4,"crc":""#), "{rest}");
        assert_eq!(rest.len(), r#","userId":7,"synced":4,"crc":"01234567"}"#.len() + 1);
        assert_eq!(client_fields(&line), Some(fields));
        assert_eq!(leading_number(&line), Some(5));
    }

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

    #[test]
    fn every_flipped_bit_is_noticed() {
        let texts = ["r1".to_owned(), "J*alice".to_owned(), "hello".to_owned()];
        let mut line = Vec::new();
        encode_message(&message(&texts, [5, 1, 2, 3, 4], None), &mut Stamp::default(), &mut line);
        line.pop();
        assert!(decode_message(&line).is_ok());
        for at in 0..line.len() {
            for bit in 0..8 {
                line[at] ^= 1 << bit;
                assert!(decode_message(&line).is_err(), "byte {at} bit {bit}");
                line[at] ^= 1 << bit;
            }
        }
    }

    proptest! {
        #[test]
        fn messages_round_trip(
            texts: [String; 3],
            numbers: [u64; 5],
            client_id: Option<String>,
        ) {
            let message = message(&texts, numbers, client_id.as_deref());
            let mut line = Vec::new();
            encode_message(&message, &mut Stamp::default(), &mut line);
            prop_assert_eq!(line.pop(), Some(b'\n'));
            prop_assert!(!line.contains(&b'\n'));
            prop_assert_eq!(decode_message(&line).unwrap(), message);
        }

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

        #[test]
        fn no_bytes_make_decoding_panic(mut bytes: Vec<u8>, cut in 0usize..200) {
            let _ = decode_message(&bytes);
            let _ = decode::<RoomRecord>(&bytes);
            let _ = leading_number(&bytes);
            let _ = client_fields(&bytes);
            // The same behind a sum that is right.
            bytes.truncate(cut);
            bytes.insert(0, b'{');
            seal(&mut bytes, 0);
            bytes.pop();
            let _ = decode_message(&bytes);
            let _ = decode::<UserRecord>(&bytes);
            let _ = decode::<RoomRecord>(&bytes);
        }
    }
}
