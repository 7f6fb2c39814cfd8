//! Lines of the logs.

use std::borrow::Cow;

use arbitrary::{Arbitrary, Unstructured};
use minitalk::chat::OpId;
use minitalk::journal::record::{
    self, AdminRecord, Imported, Message, Record, RoomRecord, UserRecord, decode_message, encode_message,
};
use minitalk::journal::stamp::{self, Stamp};

/// A message to be written, and how its line is damaged.
#[derive(Arbitrary, Debug)]
struct Written<'a> {
    numbers: [u64; 5],
    timestamp_ms: i64,
    texts: [&'a str; 3],
    client_id: Option<&'a str>,
    original: Option<(&'a str, Option<u64>, Option<&'a str>)>,
    flip: (u16, u8),
}

/// Reads the bytes as a line, as a line with its sum, and writes a message that they describe.
pub fn run(data: &[u8]) {
    lines(data);
    let mut sealed = [b"{", data].concat();
    let sum = crc32fast::hash(&sealed);
    sealed.extend_from_slice(format!(",\"crc\":\"{sum:08x}\"}}").as_bytes());
    assert!(record::check(&sealed).is_ok());
    assert_eq!(record::sum(&sealed), sum);
    lines(&sealed);
    if let Ok(written) = Written::arbitrary(&mut Unstructured::new(data)) {
        message(&written);
    }
}

/// Whatever is read is what would be written.
fn lines(line: &[u8]) {
    if let Ok(message) = decode_message(line)
        && is_spelt(message.timestamp_ms)
    {
        let again = line_of(&message);
        assert_eq!(decode_message(&again).ok(), Some(message));
    }
    if let Ok(found) = record::decode::<UserRecord>(line) {
        same(&found, found.at);
    }
    if let Ok(found) = record::decode::<RoomRecord>(line) {
        same(&found, found.at);
    }
    if let Ok(found) = record::decode::<AdminRecord>(line) {
        same(&found, found.at);
    }
    let _ = (record::leading_number(line), record::client_fields(line), record::room_of(line));
    if let Some(inside) = record::last_inside(line) {
        assert!(inside.len() < line.len() && line.ends_with(inside));
    }
    if let Some(content) = record::content_of(line) {
        assert!(content.end <= line.len());
    }
}

fn same<R: Record + PartialEq + std::fmt::Debug>(found: &R, at: i64) {
    let mut line = Vec::new();
    record::encode(found, &mut line);
    assert_eq!(line.pop(), Some(b'\n'));
    if is_spelt(at) {
        assert_eq!(record::decode::<R>(&line).ok().as_ref(), Some(found));
    }
}

/// The log spells the years 0 to 9999.
fn is_spelt(ms: i64) -> bool {
    stamp::parse(Stamp::default().text(ms)) == Some(ms)
}

fn line_of(message: &Message<'_>) -> Vec<u8> {
    let mut line = Vec::new();
    encode_message(message, &mut Stamp::default(), &mut line);
    assert_eq!(line.pop(), Some(b'\n'));
    assert!(!line.contains(&b'\n'));
    line
}

fn message(written: &Written<'_>) {
    let [seq, instance, count, user, synced] = written.numbers;
    let [room_id, sender, content] = written.texts.map(Cow::Borrowed);
    let imported = written.original.map(|(id, file, source)| Imported {
        id: id.into(),
        file,
        source: source.map(Cow::Borrowed),
    });
    let id = OpId { instance, count };
    let timestamp_ms = if is_spelt(written.timestamp_ms) { written.timestamp_ms } else { 7 };
    let client_id = written.client_id.map(Cow::Borrowed);
    let message =
        Message { seq, id, room_id, sender, content, timestamp_ms, client_id, user, imported, synced };
    let mut line = line_of(&message);
    assert_eq!(decode_message(&line).ok().as_ref(), Some(&message));
    assert_eq!(record::leading_number(&line), Some(seq));
    assert_eq!(record::room_of(&line), Some(message.room_id.clone()));
    let content = record::content_of(&line).map(|at| [b"\"", &line[at], b"\""].concat());
    let content = content.and_then(|quoted| serde_json::from_slice::<String>(&quoted).ok());
    assert_eq!(content.as_deref(), Some(&*message.content));
    let seen = record::client_fields(&line).map(|fields| format!("{{{fields}}}"));
    let seen: Option<serde_json::Value> = seen.and_then(|seen| serde_json::from_str(&seen).ok());
    assert_eq!(seen.and_then(|seen| seen.get("seq")?.as_u64()), Some(seq));
    assert_eq!(record::last_inside(&line), None);
    assert_eq!(record::last_inside(&[b"x", &line[..]].concat()), Some(&line[..]));
    let at = usize::from(written.flip.0) % line.len();
    line[at] ^= written.flip.1.max(1);
    assert!(decode_message(&line).is_err(), "byte {at} is another");
}
