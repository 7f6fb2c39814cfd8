//! Engine.IO protocol 4: the handshake's answers, the packet types, and the payloads of long polling.
//!
//! Source: <https://socket.io/docs/v4/engine-io-protocol/>. A payload is one or more packets with a
//! [`SEPARATOR`] between them; a binary packet is `b` and its bytes in base64.

use std::time::Duration;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;

use super::frame::{self, Kind};

/// Stands between two packets of a payload.
pub const SEPARATOR: u8 = 0x1e;

/// Base64 as browsers write it; like the reference server, unpadded is read as well.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Packet types as a text frame spells them in its first byte.
pub mod packet {
    /// Server to client, once: session parameters.
    pub const OPEN: u8 = b'0';
    /// Either way: the transport is being closed.
    pub const CLOSE: u8 = b'1';
    /// Server to client: are you there?
    pub const PING: u8 = b'2';
    /// Client to server: I am.
    pub const PONG: u8 = b'3';
    /// Either way: payload of the layer above.
    pub const MESSAGE: u8 = b'4';
    /// Client to server: the probed transport takes over.
    pub const UPGRADE: u8 = b'5';
    /// Either way: nothing.
    pub const NOOP: u8 = b'6';
    /// Either way: bytes for the layer above, in base64.
    pub const BINARY: u8 = b'b';
}

/// Why a handshake is refused, with the code and sentence that Engine.IO clients know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeError {
    /// `transport` names none of ours.
    UnknownTransport,
    /// `sid` names no session.
    UnknownSession,
    /// A handshake must be a GET.
    BadMethod,
    /// Something else about the request is wrong.
    BadRequest,
    /// The origin may not connect.
    Forbidden,
    /// `EIO` is not 4.
    UnsupportedVersion,
}

impl HandshakeError {
    /// The body of the answer.
    pub fn body(self) -> String {
        let (code, message) = match self {
            HandshakeError::UnknownTransport => (0, "Transport unknown"),
            HandshakeError::UnknownSession => (1, "Session ID unknown"),
            HandshakeError::BadMethod => (2, "Bad handshake method"),
            HandshakeError::BadRequest => (3, "Bad request"),
            HandshakeError::Forbidden => (4, "Forbidden"),
            HandshakeError::UnsupportedVersion => (5, "Unsupported protocol version"),
        };
        format!("{{\"code\":{code},\"message\":\"{message}\"}}")
    }

    /// The HTTP status of the answer.
    pub fn status(self) -> u16 {
        if self == HandshakeError::Forbidden { 403 } else { 400 }
    }
}

/// What an OPEN packet says. Times go out in milliseconds, `max_payload` in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Open<'a> {
    /// Name of the session.
    pub sid: &'a str,
    /// The transport may be exchanged for a WebSocket.
    pub upgrade: bool,
    /// Time between a pong and the next ping.
    pub ping_interval: Duration,
    /// Longest wait for a pong.
    pub ping_timeout: Duration,
    /// Bytes of one payload or WebSocket message from the client, at most.
    pub max_payload: usize,
}

/// The OPEN packet.
pub fn open(open: &Open<'_>) -> String {
    let upgrades = if open.upgrade { "\"websocket\"" } else { "" };
    format!(
        "0{{\"sid\":\"{}\",\"upgrades\":[{upgrades}],\"pingInterval\":{},\"pingTimeout\":{},\"maxPayload\":{}}}",
        open.sid,
        open.ping_interval.as_millis(),
        open.ping_timeout.as_millis(),
        open.max_payload,
    )
}

/// One packet of a payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// Its type and its text.
    Text(&'a str),
    /// A binary message.
    Binary(Bytes),
}

/// The bytes are no payload; the protocol wants the session closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a payload")]
pub struct BadPayload;

/// Reads the first packet of a payload; answers how many bytes it took, its separator included.
pub fn first_packet(payload: &[u8]) -> Result<(Packet<'_>, usize), BadPayload> {
    let end = memchr::memchr(SEPARATOR, payload).unwrap_or(payload.len());
    let text = std::str::from_utf8(&payload[..end]).map_err(|_| BadPayload)?;
    let used = payload.len().min(end + 1);
    // A separator at the very end announces a packet that is not there.
    if end + 1 == payload.len() {
        return Err(BadPayload);
    }
    match text.as_bytes() {
        [] => Err(BadPayload),
        [packet::BINARY, encoded @ ..] => Ok((Packet::Binary(decode_binary(encoded)?), used)),
        _ => Ok((Packet::Text(text), used)),
    }
}

/// Reads what stands behind [`packet::BINARY`].
pub fn decode_binary(encoded: &[u8]) -> Result<Bytes, BadPayload> {
    BASE64.decode(encoded).map(Bytes::from).map_err(|_| BadPayload)
}

/// Appends the packets that lie in `frames`, which [`frame`] has written, to a payload: up to `most`,
/// from which they are taken off. Answers the bytes of `frames` that are done. A close frame becomes a
/// [`packet::CLOSE`].
pub fn append_frames(frames: &[u8], most: &mut usize, payload: &mut Vec<u8>) -> usize {
    let mut done = 0;
    while *most > 0
        && let Some((kind, body, len)) = frame::first_written(&frames[done..])
    {
        done += len;
        if !matches!(kind, Kind::Text | Kind::Binary | Kind::Close) {
            continue;
        }
        *most -= 1;
        if !payload.is_empty() {
            payload.push(SEPARATOR);
        }
        match kind {
            Kind::Binary => {
                payload.push(packet::BINARY);
                payload.extend_from_slice(BASE64.encode(body).as_bytes());
            }
            Kind::Close => payload.push(packet::CLOSE),
            _ => payload.extend_from_slice(body),
        }
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(mut payload: &[u8]) -> Result<Vec<Packet<'_>>, BadPayload> {
        let mut packets = Vec::new();
        loop {
            let (packet, used) = first_packet(payload)?;
            packets.push(packet);
            payload = &payload[used..];
            if payload.is_empty() {
                return Ok(packets);
            }
        }
    }

    #[test]
    fn the_examples_of_the_protocol_document() {
        let packets = decode(b"4hello\x1e2\x1e4world").unwrap();
        assert_eq!(packets, [Packet::Text("4hello"), Packet::Text("2"), Packet::Text("4world")]);
        let packets = decode("4€\x1ebAQIDBA==".as_bytes()).unwrap();
        assert_eq!(packets, [Packet::Text("4€"), Packet::Binary(Bytes::from_static(&[1, 2, 3, 4]))]);
        assert_eq!(decode(b"bAQIDBA").unwrap(), [Packet::Binary(Bytes::from_static(&[1, 2, 3, 4]))]);
    }

    #[test]
    fn what_is_no_payload_is_refused() {
        for payload in [&b""[..], b"\x1e", b"4a\x1e", b"\x1e4a", b"4a\x1e\x1e4b", b"b!", b"4\xff", b"bA"] {
            assert!(decode(payload).is_err(), "{payload:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(packets in prop::collection::vec(
            prop_oneof![
                "[0-6][^\x1e]{0,300}".prop_map(Ok),
                prop::collection::vec(any::<u8>(), 0..300).prop_map(Err),
            ],
            1..8,
        )) {
            let mut frames = Vec::new();
            for packet in &packets {
                match packet {
                    Ok(text) => frame::text(&[text.as_bytes()], &mut frames),
                    Err(bytes) => frame::binary(&[bytes], &mut frames),
                }
            }
            let (mut payload, mut done, mut apart) = (Vec::new(), 0, Vec::new());
            prop_assert_eq!(append_frames(&frames, &mut { usize::MAX }, &mut payload), frames.len());
            while done < frames.len() {
                let (mut two, mut part) = (2, Vec::new());
                done += append_frames(&frames[done..], &mut two, &mut part);
                apart.push(part);
            }
            prop_assert_eq!(apart.join(&SEPARATOR), &payload[..]);
            let expected: Vec<Packet<'_>> = packets
                .iter()
                .map(|packet| match packet {
                    Ok(text) => Packet::Text(text),
                    Err(bytes) => Packet::Binary(Bytes::copy_from_slice(bytes)),
                })
                .collect();
            prop_assert_eq!(decode(&payload), Ok(expected));
        }

        #[test]
        fn no_bytes_panic(payload in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&payload);
        }

        #[test]
        fn no_payload_like_bytes_panic(payload in "(b?[0-6A-Za-z+/=]{0,9}\x1e?){0,9}") {
            let _ = decode(payload.as_bytes());
        }
    }
}
