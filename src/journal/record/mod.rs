//! One line of a log: a JSON object that ends in the checksum of everything before it.
//!
//! Here is what all lines have in common; [`message`], [`event`], [`challenge`] and [`admin`] are the kinds. Encoding
//! writes into the batch's buffer and allocates nothing for a message. Decoding checks the sum
//! first, then reads the JSON, so whatever it answers is what was once written.

mod admin;
mod challenge;
mod event;
mod message;
mod text;

pub use admin::{AdminRecord, Deletion};
pub use challenge::{ChallengeChange, ChallengeRecord};
pub use event::{NOBODY, Profile, Record, RoomChange, RoomRecord, UserChange, UserRecord, decode, encode};
pub use message::{Imported, Message, client_fields, content_of, decode_message, encode_message, room_of};

use serde::{Deserialize, Serialize};

use self::text::hex;

/// Between the sum and what it covers.
const CRC_KEY: &[u8] = b",\"crc\":\"";

/// Bytes of a line from [`CRC_KEY`] to its end, without the line feed.
const TAIL: usize = CRC_KEY.len() + 8 + 2;

/// The same with the line feed.
pub(super) const TAIL_BYTES: usize = TAIL + 1;

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

/// Appends the sum of what stands behind `start`, and ends the line.
pub(super) fn seal(out: &mut Vec<u8>, start: usize) {
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

/// The number of the good record in a line, and where it begins: at 0, or behind what is left of another
/// one that has lost its line feed.
pub fn find_good(line: &[u8]) -> Option<(usize, u64)> {
    let good = |line: &[u8]| check(line).ok().and_then(|()| leading_number(line));
    let behind = || last_inside(line).and_then(|inside| Some((line.len() - inside.len(), good(inside)?)));
    good(line).map(|number| (0, number)).or_else(behind)
}

/// The sum a line carries, unchecked; 0 if it carries none.
pub fn sum(line: &[u8]) -> u32 {
    let digits = line.len().checked_sub(10).and_then(|at| std::str::from_utf8(&line[at..at + 8]).ok());
    digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()).unwrap_or(0)
}

pub(super) fn read_json<'a, T: Deserialize<'a>>(line: &'a [u8]) -> Result<T, BadRecord> {
    serde_json::from_slice(line).map_err(|error| BadRecord::Fields(error.to_string()))
}

fn write_json<T: Serialize>(out: &mut Vec<u8>, value: &T) {
    // Writing to a vector can't fail, and nothing here has keys that are not strings.
    let written = serde_json::to_writer(out, value);
    debug_assert!(written.is_ok());
}

/// The last of some lines, without its line feed; `None`: there is none.
pub fn last_line(lines: &[u8]) -> Option<&[u8]> {
    lines.strip_suffix(b"\n")?.rsplit(|byte| *byte == b'\n').next()
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_record_is_found_behind_a_lost_line_feed() {
        let line = br#"{"seq":1,"content":"{\"seq\":9"}?{"seq":2,"x":1}"#;
        assert_eq!(last_inside(line), Some(&br#"{"seq":2,"x":1}"#[..]));
        assert_eq!(last_inside(br#"{"rev":2,"x":1}"#), None);
        assert_eq!(last_inside(b""), None);
    }

    proptest! {
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
            let _ = decode::<ChallengeRecord>(&bytes);
            let _ = decode::<RoomRecord>(&bytes);
        }
    }
}
