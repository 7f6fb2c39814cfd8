//! WebSocket frames (RFC 6455), the client's side: bytes in, frames out, no sockets.
//!
//! A decoder is shown what has arrived and answers "a frame", "not yet" or "wrong". Frames from a
//! server are never masked, those of a client always are.

use std::ops::Range;

/// The kinds of frame a client meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    /// More of the message that came before.
    Continuation,
    /// UTF-8 text; all of Socket.IO but attachments.
    Text,
    /// Bytes.
    Binary,
    /// The peer is going.
    Close,
    /// Must be answered with a pong of the same payload.
    Ping,
    /// The answer to a ping.
    Pong,
}

/// What the bytes at hand begin with.
#[derive(Debug, PartialEq, Eq)]
pub enum Decoded {
    /// A whole frame.
    Frame {
        /// Its kind.
        opcode: Opcode,
        /// Whether it ends its message.
        last: bool,
        /// Where its payload lies.
        payload: Range<usize>,
    },
    /// The beginning of a frame.
    NotYet,
    /// Something a server may not send.
    Wrong(&'static str),
}

/// Reads the frame at the start of `bytes`; payloads of more than `payload_bytes_max` are wrong.
pub fn decode(bytes: &[u8], payload_bytes_max: usize) -> Decoded {
    let &[first, second, ..] = bytes else { return Decoded::NotYet };
    if first & 0x70 != 0 {
        return Decoded::Wrong("a frame with reserved bits set");
    }
    if second & 0x80 != 0 {
        return Decoded::Wrong("a masked frame from the server");
    }
    let opcode = match first & 0x0f {
        0 => Opcode::Continuation,
        1 => Opcode::Text,
        2 => Opcode::Binary,
        8 => Opcode::Close,
        9 => Opcode::Ping,
        10 => Opcode::Pong,
        _ => return Decoded::Wrong("a frame of unknown kind"),
    };
    let (start, length) = match (second & 0x7f, bytes.get(2..4), bytes.get(2..10)) {
        (126, Some(&[a, b]), _) => (4, u64::from(u16::from_be_bytes([a, b]))),
        (127, _, Some(&[a, b, c, d, e, f, g, h])) => (10, u64::from_be_bytes([a, b, c, d, e, f, g, h])),
        (126 | 127, ..) => return Decoded::NotYet,
        (short, ..) => (2, u64::from(short)),
    };
    match usize::try_from(length) {
        Ok(length) if length <= payload_bytes_max => match start + length {
            end if end <= bytes.len() => {
                Decoded::Frame { opcode, last: first & 0x80 != 0, payload: start..end }
            }
            _ => Decoded::NotYet,
        },
        _ => Decoded::Wrong("a frame larger than any this server was asked for"),
    }
}

/// Appends one whole masked frame to `out`.
pub fn encode(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8], key: [u8; 4]) {
    let code = match opcode {
        Opcode::Continuation => 0,
        Opcode::Text => 1,
        Opcode::Binary => 2,
        Opcode::Close => 8,
        Opcode::Ping => 9,
        Opcode::Pong => 10,
    };
    out.push(0x80 | code);
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(short @ 0..=125), _) => out.push(0x80 | short),
        (_, Ok(medium)) => {
            out.push(0x80 | 126);
            out.extend_from_slice(&medium.to_be_bytes());
        }
        _ => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&key);
    out.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 100_000;

    /// What a server sends: the same frame without mask.
    fn served(opcode: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = vec![0x80 | opcode];
        match payload.len() {
            short @ 0..=125 => out.push(u8::try_from(short).unwrap()),
            medium @ 126..=65_535 => {
                out.push(126);
                out.extend(u16::try_from(medium).unwrap().to_be_bytes());
            }
            long => {
                out.push(127);
                out.extend((long as u64).to_be_bytes());
            }
        }
        out.extend(payload);
        out
    }

    #[test]
    fn every_cut_of_a_frame_is_not_yet() {
        for length in [0, 1, 125, 126, 300, 65_535, 65_536] {
            let bytes = served(1, &vec![b'x'; length]);
            let head = bytes.len() - length;
            for cut in (0..head).chain(bytes.len().saturating_sub(1)..bytes.len()) {
                assert_eq!(decode(&bytes[..cut], MAX), Decoded::NotYet, "{length} bytes cut at {cut}");
            }
            let frame = Decoded::Frame { opcode: Opcode::Text, last: true, payload: head..bytes.len() };
            assert_eq!(decode(&bytes, MAX), frame);
        }
    }

    #[test]
    fn what_no_server_may_send_is_wrong() {
        for bytes in [[0xc1, 0x01], [0x81, 0x81], [0x83, 0x01]] {
            assert!(matches!(decode(&bytes, MAX), Decoded::Wrong(_)), "{bytes:?}");
        }
        assert!(matches!(decode(&served(2, &[0; 100]), 99), Decoded::Wrong(_)));
        let mut endless = vec![0x81, 127];
        endless.extend([0xff; 8]);
        assert!(matches!(decode(&endless, MAX), Decoded::Wrong(_)));
    }

    #[test]
    fn a_masked_frame_unmasks_to_its_payload() {
        for length in [0, 5, 126, 70_000] {
            let payload: Vec<u8> = (0..=255).cycle().take(length).collect();
            let key = [1, 2, 3, 4];
            let mut out = vec![];
            encode(&mut out, Opcode::Ping, &payload, key);
            assert_eq!((out[0], out[1] & 0x80), (0x89, 0x80));
            let body = &out[out.len() - length..];
            assert_eq!(&out[out.len() - length - 4..out.len() - length], key);
            assert!(body.iter().zip(key.iter().cycle()).map(|(b, k)| b ^ k).eq(payload.iter().copied()));
        }
    }
}
