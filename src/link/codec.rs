//! The bytes of the link: a little-endian `u32` length, then that many bytes of postcard.

use serde::{Deserialize, Serialize};

/// Bytes of one frame's body, at most. Both ends split what is larger.
pub const MAX_FRAME_BYTES: usize = 16 << 20;

/// Bytes before a frame's body.
pub const HEADER_BYTES: usize = 4;

/// What is wrong with bytes from the other end. The connection can't be read any further.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// A frame says or needs more than [`MAX_FRAME_BYTES`].
    #[error("a frame of {0} bytes is over the limit of {MAX_FRAME_BYTES}")]
    TooLarge(usize),
    /// The bytes are not a frame of this version.
    #[error("unreadable frame: {0}")]
    Malformed(#[from] postcard::Error),
    /// A frame was read and so many bytes of its body were not.
    #[error("{0} bytes too many in a frame")]
    Rest(usize),
}

/// Appends one frame to `out`; on an error `out` is as before.
pub fn encode<T: Serialize>(frame: &T, out: &mut Vec<u8>) -> Result<(), LinkError> {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER_BYTES]);
    let mut body = Tail(out);
    if let Err(error) = postcard::to_io(frame, &mut body) {
        out.truncate(start);
        return Err(error.into());
    }
    let len = out.len() - start - HEADER_BYTES;
    match u32::try_from(len) {
        Ok(prefix) if len <= MAX_FRAME_BYTES => {
            out[start..start + HEADER_BYTES].copy_from_slice(&prefix.to_le_bytes());
            Ok(())
        }
        _ => {
            out.truncate(start);
            Err(LinkError::TooLarge(len))
        }
    }
}

/// The body of the first frame in `bytes` and how many bytes it took, or `None` if more are needed.
pub fn split(bytes: &[u8]) -> Result<Option<(&[u8], usize)>, LinkError> {
    let Some((prefix, rest)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
        return Ok(None);
    };
    let len = usize::try_from(u32::from_le_bytes(*prefix)).unwrap_or(usize::MAX);
    if len > MAX_FRAME_BYTES {
        return Err(LinkError::TooLarge(len));
    }
    Ok(rest.get(..len).map(|body| (body, HEADER_BYTES + len)))
}

/// Reads the body of one frame, all of it: what is left over was written by another version.
pub fn decode<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, LinkError> {
    match postcard::take_from_bytes(body)? {
        (frame, []) => Ok(frame),
        (_, rest) => Err(LinkError::Rest(rest.len())),
    }
}

/// Appends to a vector (postcard's own adaptor wants `std::io::Write` by value).
struct Tail<'a>(&'a mut Vec<u8>);

impl std::io::Write for Tail<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::OpId;
    use crate::link::frame::{FromWriter, Message, Position, ToWriter};

    #[test]
    fn frames_survive_any_split() {
        let hello =
            ToWriter::Hello { version: 1, worker: 0, instance: 7, known: Some(Position { seq: 3, rev: 2 }) };
        let typing = ToWriter::Typing { room_id: "방", user: 1, username: "한글" };
        let mut bytes = Vec::new();
        encode(&hello, &mut bytes).unwrap();
        let first = bytes.len();
        encode(&typing, &mut bytes).unwrap();
        for cut in 0..first {
            assert!(split(&bytes[..cut]).unwrap().is_none(), "{cut}");
        }
        let (body, used) = split(&bytes).unwrap().unwrap();
        assert_eq!((decode::<ToWriter>(body).unwrap(), used), (hello, first));
        let (body, _) = split(&bytes[first..]).unwrap().unwrap();
        assert_eq!(decode::<ToWriter>(body).unwrap(), typing);
    }

    #[test]
    fn a_message_borrows_from_the_buffer() {
        let message = Message {
            seq: 1,
            origin: OpId { instance: 2, count: 3 },
            timestamp_ms: 4,
            sent_us: 5,
            room_id: "r",
            fields: "\"seq\":1",
        };
        let mut bytes = Vec::new();
        encode(&FromWriter::Messages { messages: vec![message] }, &mut bytes).unwrap();
        let (body, _) = split(&bytes).unwrap().unwrap();
        assert_eq!(decode::<FromWriter>(body).unwrap(), FromWriter::Messages { messages: vec![message] });
    }

    #[test]
    fn a_body_is_read_to_its_end() {
        let mut bytes = Vec::new();
        encode(&ToWriter::Sync { count: 7 }, &mut bytes).unwrap();
        bytes.push(0);
        assert!(matches!(decode::<ToWriter>(&bytes[HEADER_BYTES..]), Err(LinkError::Rest(1))));
    }

    #[test]
    fn a_length_over_the_limit_is_an_error_not_an_allocation() {
        assert!(matches!(split(&u32::MAX.to_le_bytes()), Err(LinkError::TooLarge(_))));
    }
}
