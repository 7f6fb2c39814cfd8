//! WebSocket frames (RFC 6455): a client's frames out of a buffer, ours into one.
//!
//! The header is read by tungstenite; this module adds what a server must demand of a client and
//! works in place on a buffer that all connections of a worker share.

use std::io::Cursor;

use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

/// Close codes of RFC 6455 §7.4.1 and the IANA registry that this server sends.
pub mod close_code {
    /// The purpose is fulfilled.
    pub const NORMAL: u16 = 1000;
    /// The server is going down; come back.
    pub const GOING_AWAY: u16 = 1001;
    /// The bytes break the protocol.
    pub const PROTOCOL_ERROR: u16 = 1002;
    /// Text that is not UTF-8.
    pub const INVALID_TEXT: u16 = 1007;
    /// The client broke a rule of this server.
    pub const POLICY: u16 = 1008;
    /// A message over the size limit.
    pub const TOO_BIG: u16 = 1009;
    /// The client is no longer believed to be who it was: of the range for private use (RFC 6455 §7.4.2).
    pub const NOT_BELIEVED: u16 = 4401;
    /// The server starts anew, or another process takes its place; come back (IANA's registry of close codes).
    pub const SERVICE_RESTART: u16 = 1012;
    /// The client reads too slowly; come back.
    pub const TRY_AGAIN_LATER: u16 = 1013;
}

/// Bytes of a control frame's payload, at most (RFC 6455 §5.5).
const CONTROL_BYTES: u64 = 125;

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// First frame of a text message.
    Text,
    /// First frame of a binary message.
    Binary,
    /// A later frame of a message.
    Continuation,
    /// Asks for a pong.
    Ping,
    /// Answers a ping.
    Pong,
    /// Ends the connection.
    Close,
}

/// What a client's frame says of itself before its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What it is for.
    pub kind: Kind,
    /// The last frame of its message.
    pub last: bool,
    /// Bytes of the header itself.
    pub size: usize,
    /// Bytes of the payload.
    pub len: usize,
    /// The key that the payload is masked with.
    pub mask: [u8; 4],
}

/// The client broke the protocol; the connection is to be closed with `code`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Violation {
    /// A [`close_code`].
    pub code: u16,
    /// For the close frame and the log.
    pub reason: &'static str,
}

/// A protocol error with its reason.
pub const fn violation(reason: &'static str) -> Violation {
    Violation { code: close_code::PROTOCOL_ERROR, reason }
}

/// The message or packet is over `socketio.max_payload`.
pub const TOO_BIG: Violation = Violation { code: close_code::TOO_BIG, reason: "message too big" };

/// Reads the header at the start of `bytes`.
///
/// `None`: more bytes are needed. A frame over `max_payload` bytes is refused by its header alone,
/// before any of it is kept.
pub fn header(bytes: &[u8], max_payload: usize) -> Result<Option<Header>, Violation> {
    let mut cursor = Cursor::new(bytes);
    let (header, len) = match FrameHeader::parse(&mut cursor) {
        Ok(Some(found)) => found,
        Ok(None) => return Ok(None),
        Err(_) => return Err(violation("invalid opcode")),
    };
    let size = usize::try_from(cursor.position()).map_err(|_| TOO_BIG)?;
    if header.rsv1 || header.rsv2 || header.rsv3 {
        return Err(violation("reserved bits are set"));
    }
    let Some(mask) = header.mask else {
        return Err(violation("client frames must be masked"));
    };
    let kind = kind(header.opcode)?;
    if matches!(kind, Kind::Ping | Kind::Pong | Kind::Close) && (!header.is_final || len > CONTROL_BYTES) {
        return Err(violation("control frames must be short and whole"));
    }
    let len = usize::try_from(len).ok().filter(|len| *len <= max_payload.max(125)).ok_or(TOO_BIG)?;
    Ok(Some(Header { kind, last: header.is_final, size, len, mask }))
}

fn kind(opcode: OpCode) -> Result<Kind, Violation> {
    Ok(match opcode {
        OpCode::Data(Data::Text) => Kind::Text,
        OpCode::Data(Data::Binary) => Kind::Binary,
        OpCode::Data(Data::Continue) => Kind::Continuation,
        OpCode::Control(Control::Ping) => Kind::Ping,
        OpCode::Control(Control::Pong) => Kind::Pong,
        OpCode::Control(Control::Close) => Kind::Close,
        OpCode::Data(Data::Reserved(_)) | OpCode::Control(Control::Reserved(_)) => {
            return Err(violation("invalid opcode"));
        }
    })
}

/// Unmasks, eight bytes at a time; the mask repeats every four.
pub fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = payload.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
}

/// Checks a close frame's payload (RFC 6455 §5.5.1) and answers the code to send back.
pub fn close_reply(payload: &[u8]) -> Result<u16, Violation> {
    match payload {
        [] => Ok(close_code::NORMAL),
        [_] => Err(violation("a close code has two bytes")),
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            let allowed = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
            if !allowed {
                return Err(violation("invalid close code"));
            }
            if std::str::from_utf8(reason).is_err() {
                return Err(Violation {
                    code: close_code::INVALID_TEXT,
                    reason: "close reason is not UTF-8",
                });
            }
            Ok(code)
        }
    }
}

/// Appends the header of an unmasked, whole frame of `len` payload bytes.
fn begin(first: u8, len: usize, out: &mut Vec<u8>) {
    out.push(first);
    if len < 126 {
        out.push(u8::try_from(len).unwrap_or(u8::MAX));
    } else if let Ok(len) = u16::try_from(len) {
        out.push(126);
        out.extend_from_slice(&len.to_be_bytes());
    } else {
        out.push(127);
        out.extend_from_slice(&u64::try_from(len).unwrap_or(u64::MAX).to_be_bytes());
    }
}

/// Appends a text frame whose payload is the concatenation of `parts`.
pub fn text(parts: &[&[u8]], out: &mut Vec<u8>) {
    whole(0x81, parts, out);
}

/// Appends a binary frame whose payload is the concatenation of `parts`.
pub fn binary(parts: &[&[u8]], out: &mut Vec<u8>) {
    whole(0x82, parts, out);
}

fn whole(first: u8, parts: &[&[u8]], out: &mut Vec<u8>) {
    let len = parts.iter().map(|part| part.len()).sum();
    out.reserve(len + 10);
    begin(first, len, out);
    for part in parts {
        out.extend_from_slice(part);
    }
}

/// Reads back whole frames that this module has written; ends where they do.
pub fn written(mut frames: &[u8]) -> impl Iterator<Item = (Kind, &[u8])> {
    std::iter::from_fn(move || {
        let (kind, payload, len) = first_written(frames)?;
        frames = &frames[len..];
        Some((kind, payload))
    })
}

/// Reads back the first of whole frames that this module has written, and how many bytes it has.
pub fn first_written(frames: &[u8]) -> Option<(Kind, &[u8], usize)> {
    let mut cursor = Cursor::new(frames);
    let (header, len) = FrameHeader::parse(&mut cursor).ok()??;
    let start = usize::try_from(cursor.position()).ok()?;
    let end = start.checked_add(usize::try_from(len).ok()?)?;
    Some((kind(header.opcode).ok()?, frames.get(start..end)?, end))
}

/// Appends a pong that returns `payload` (at most 125 bytes, as a ping's is).
pub fn pong(payload: &[u8], out: &mut Vec<u8>) {
    begin(0x8a, payload.len(), out);
    out.extend_from_slice(payload);
}

/// Appends a close frame. A reason over 123 bytes is cut at a character.
pub fn close(code: u16, reason: &str, out: &mut Vec<u8>) {
    let reason = &reason[..reason.floor_char_boundary(123)];
    begin(0x88, 2 + reason.len(), out);
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(reason.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
        let mask = [1, 2, 3, 4];
        let mut bytes = Vec::new();
        begin(first, payload.len(), &mut bytes);
        bytes[1] |= 0x80;
        bytes.extend_from_slice(&mask);
        bytes.extend(payload.iter().enumerate().map(|(i, b)| b ^ mask[i % 4]));
        bytes
    }

    #[test]
    fn frames_of_every_length_form_are_read_at_their_last_byte() {
        for len in [0, 1, 125, 126, 127, 65_535, 65_536] {
            let payload: Vec<u8> = (0..len).map(|i| u8::try_from(i % 251).unwrap()).collect();
            let whole = masked(0x81, &payload);
            for cut in [1, 2, 3, whole.len() - 1] {
                if cut < whole.len() {
                    let found = header(&whole[..cut], 1 << 20).unwrap();
                    assert!(found.is_none_or(|found| found.size + found.len > cut), "{len} {cut}");
                }
            }
            let mut bytes = whole.clone();
            let found = header(&bytes, 1 << 20).unwrap().unwrap();
            unmask(&mut bytes[found.size..], found.mask);
            assert_eq!((found.kind, found.last, &bytes[found.size..]), (Kind::Text, true, &payload[..]));
        }
    }

    #[test]
    fn what_a_client_must_not_send_is_refused() {
        let code = |bytes: Vec<u8>| header(&bytes, 1000).unwrap_err().code;
        assert_eq!(code(vec![0x81, 0x00]), 1002, "not masked");
        assert_eq!(code(masked(0xc1, b"x")), 1002, "reserved bit");
        assert_eq!(code(masked(0x83, b"x")), 1002, "reserved opcode");
        assert_eq!(code(masked(0x09, b"x")), 1002, "fragmented ping");
        assert_eq!(code(masked(0x89, &[0; 126])), 1002, "long ping");
        assert_eq!(code(masked(0x81, &[0; 1001])), 1009, "over the limit");
        assert_eq!(code(vec![0x81, 0xff, 0xff, 255, 255, 255, 255, 255, 255, 255, 1, 2, 3, 4]), 1009);
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut frames = Vec::new();
        text(&[b"a", b"b"], &mut frames);
        binary(&[&[0; 70_000]], &mut frames);
        close(1000, "", &mut frames);
        let found: Vec<_> = written(&frames).map(|(kind, payload)| (kind, payload.len())).collect();
        assert_eq!(found, [(Kind::Text, 2), (Kind::Binary, 70_000), (Kind::Close, 2)]);
        assert_eq!(written(&frames[..3]).count(), 0, "a frame that is not whole");
    }

    #[test]
    fn close_frames_are_checked() {
        assert_eq!(close_reply(b""), Ok(1000));
        assert_eq!(close_reply(&[0x03, 0xe8, b'x']), Ok(1000));
        for bad in [&[3][..], &[0, 0], &[0x03, 0xed], &[0x03, 0xe8, 0xff]] {
            assert!(close_reply(bad).is_err(), "{bad:?}");
        }
    }
}
