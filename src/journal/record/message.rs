//! The line of a message.

use std::borrow::Cow;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::text::{op_text, text_ms, text_some_op};
use super::{BadRecord, check, read_json, seal, write_json};
use crate::chat::id::BadOpId;
use crate::chat::{OpId, UserId};
use crate::journal::stamp::Stamp;

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
    /// Where it comes from, if not from a client of this server.
    pub imported: Option<Imported<'a>>,
    /// The highest `seq` known to be durable when the line was written.
    pub synced: u64,
}

/// What is kept of the original of an imported message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported<'a> {
    /// Its id there, which clients see in place of the operation's.
    pub id: Cow<'a, str>,
    /// It is the first of the file of that number.
    pub file: Option<u64>,
    /// The JSON text of an object: what no other field says of the original.
    pub source: Option<Cow<'a, str>>,
}

#[derive(Serialize)]
struct ClientFields<'a> {
    seq: u64,
    id: Id<'a>,
    #[serde(rename = "roomId")]
    room_id: &'a str,
    sender: &'a str,
    content: &'a str,
    timestamp: &'a str,
    #[serde(rename = "clientId", skip_serializing_if = "Option::is_none")]
    client_id: Option<&'a str>,
}

/// A message's `id` as clients see it.
#[derive(Serialize)]
#[serde(untagged)]
enum Id<'a> {
    Own(#[serde(serialize_with = "op_text")] OpId),
    Imported(&'a str),
}

/// What an imported message has behind [`USER_KEY`].
#[derive(Serialize)]
struct ImportedFields<'a> {
    #[serde(serialize_with = "op_text")]
    op: OpId,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<&'a str>,
}

/// Appends a message's line; answers where in `out` the fields are that clients see (the object
/// without its braces).
pub fn encode_message(message: &Message<'_>, stamp: &mut Stamp, out: &mut Vec<u8>) -> Range<usize> {
    let start = out.len();
    write_json(
        out,
        &ClientFields {
            seq: message.seq,
            id: message.imported.as_ref().map_or(Id::Own(message.id), |original| Id::Imported(&original.id)),
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
    if let Some(Imported { file, source, .. }) = &message.imported {
        let brace = out.len();
        write_json(out, &ImportedFields { op: message.id, file: *file, source: source.as_deref() });
        out[brace] = b',';
        out.pop(); // The closing brace.
    }
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
    #[serde(borrow)]
    id: Cow<'a, str>,
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
    #[serde(default, deserialize_with = "text_some_op")]
    op: Option<OpId>,
    #[serde(default)]
    file: Option<u64>,
    #[serde(borrow, default)]
    source: Option<Cow<'a, str>>,
    synced: u64,
}

/// Reads a message's line (without its line feed).
///
/// # Errors
/// It is not the line of a message.
pub fn decode_message(line: &[u8]) -> Result<Message<'_>, BadRecord> {
    check(line)?;
    let json: MessageJson<'_> = read_json(line)?;
    let (id, imported) = match json.op {
        Some(op) => (op, Some(Imported { id: json.id, file: json.file, source: json.source })),
        None => (json.id.parse().map_err(|error: BadOpId| BadRecord::Fields(error.to_string()))?, None),
    };
    Ok(Message {
        seq: json.seq,
        id,
        room_id: json.room_id,
        sender: json.sender,
        content: json.content,
        timestamp_ms: json.timestamp,
        client_id: json.client_id,
        user: json.user,
        imported,
        synced: json.synced,
    })
}

/// What clients see of a message's line that [`decode_message`] has accepted.
pub fn client_fields(line: &[u8]) -> Option<&str> {
    // No string holds this text: its quotation marks would be escaped.
    let end = memchr::memmem::rfind(line, USER_KEY)?;
    std::str::from_utf8(line.get(1..end)?).ok()
}

/// Between a line's parts; no string holds such text, since its quotation marks would be escaped.
const ROOM_KEY: &[u8] = b",\"roomId\":";
const SENDER_KEY: &[u8] = b",\"sender\":";
const CONTENT_KEY: &[u8] = b",\"content\":\"";
const TIME_KEY: &[u8] = b"\",\"timestamp\":\"";

/// The room a line names, whatever else is wrong with it.
pub fn room_of(line: &[u8]) -> Option<Cow<'_, str>> {
    let start = memchr::memmem::find(line, ROOM_KEY)? + ROOM_KEY.len();
    let len = memchr::memmem::find(&line[start..], SENDER_KEY)?;
    let quoted = &line[start..start + len];
    let bare = quoted.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    if memchr::memchr(b'\\', bare).is_none() {
        return std::str::from_utf8(bare).ok().map(Cow::Borrowed);
    }
    serde_json::from_slice(quoted).ok().map(Cow::Owned)
}

/// Where in a line the content's text is, escaped as it stands there.
pub fn content_of(line: &[u8]) -> Option<Range<usize>> {
    let start = memchr::memmem::find(line, CONTENT_KEY)? + CONTENT_KEY.len();
    let len = memchr::memmem::find(&line[start..], TIME_KEY)?;
    Some(start..start + len)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::journal::record::leading_number;

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
            imported: None,
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

    #[test]
    fn an_imported_message_keeps_its_id() {
        let texts = ["r1".to_owned(), "alice".to_owned(), "hi".to_owned()];
        let id = Cow::Borrowed("메시지 \"1\"");
        let source = Some(Cow::Borrowed(r#"{"createdAt":"2026","userId":1}"#));
        let imported = Some(Imported { id, file: Some(3), source });
        let message = Message { imported, ..message(&texts, [5, 0xabc, 16, 0, 7], None) };
        let mut line = Vec::new();
        let fields = encode_message(&message, &mut Stamp::default(), &mut line);
        let fields = String::from_utf8(line[fields].to_vec()).unwrap();
        assert!(fields.starts_with(r#""seq":5,"id":"메시지 \"1\"","roomId":"r1","#), "{fields}");
        assert!(fields.ends_with(r#""timestamp":"1970-01-01T00:00:00.000Z""#), "{fields}");
        assert_eq!(client_fields(&line), Some(fields.as_str()));
        let behind = r#","userId":7,"op":"0000000000000abc-10","file":3,"source":"{\"createdAt\":\"2026\",\"userId\":1}","synced":4,"crc":""#;
        let text = std::str::from_utf8(&line).unwrap();
        assert!(text[fields.len() + 1..].starts_with(behind), "{text}");
        assert_eq!(decode_message(&line[..line.len() - 1]).unwrap(), message);
    }

    proptest! {
        #[test]
        fn messages_round_trip(
            texts: [String; 3],
            numbers: [u64; 5],
            client_id: Option<String>,
            original: Option<(String, Option<u64>, Option<String>)>,
        ) {
            let mut message = message(&texts, numbers, client_id.as_deref());
            message.imported = original.map(|(id, file, source)| Imported {
                id: id.into(),
                file,
                source: source.map(Cow::Owned),
            });
            let mut line = Vec::new();
            encode_message(&message, &mut Stamp::default(), &mut line);
            prop_assert_eq!(line.pop(), Some(b'\n'));
            prop_assert!(!line.contains(&b'\n'));
            prop_assert_eq!(decode_message(&line).unwrap(), message);
        }
    }
}
