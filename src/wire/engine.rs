//! Engine.IO protocol 4: the handshake's answers and the packet types.
//!
//! Source: <https://socket.io/docs/v4/engine-io-protocol/>.

use std::time::Duration;

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

/// The OPEN packet. Times go out in milliseconds, `max_payload` in bytes.
pub fn open(sid: &str, ping_interval: Duration, ping_timeout: Duration, max_payload: usize) -> String {
    format!(
        "0{{\"sid\":\"{sid}\",\"upgrades\":[],\"pingInterval\":{},\"pingTimeout\":{},\"maxPayload\":{max_payload}}}",
        ping_interval.as_millis(),
        ping_timeout.as_millis(),
    )
}
