//! Socket.IO protocol 5: packets inside Engine.IO messages.
//!
//! Source: <https://socket.io/docs/v4/socket-io-protocol/>. A packet is
//! `<type>[<attachments>-][<namespace>,][<id>][<JSON>]`.

/// Binary attachments one packet may announce. The chat has no use for any; this many are read
/// away so that the client gets an answer instead of a broken connection.
pub const MAX_ATTACHMENTS: u8 = 10;

/// What a packet is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Enter a namespace.
    Connect,
    /// Leave a namespace.
    Disconnect,
    /// An event, perhaps with attachments to follow.
    Event,
    /// The answer to an event of ours, perhaps with attachments to follow.
    Ack,
}

/// A packet, borrowed from its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// What it is for.
    pub kind: Kind,
    /// Binary frames that follow and belong to it.
    pub attachments: u8,
    /// `/` unless given.
    pub namespace: &'a str,
    /// Asks for (event) or names (ack) an acknowledgement.
    pub id: Option<u64>,
    /// The JSON text, not yet looked at; empty if there is none.
    pub data: &'a str,
}

/// The text is not a packet a client may send; the protocol wants the connection closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadPacket(pub &'static str);

/// Reads one packet.
pub fn decode(text: &str) -> Result<Packet<'_>, BadPacket> {
    let mut rest = text.get(1..).ok_or(BadPacket("empty packet"))?;
    let (kind, binary) = match text.as_bytes().first() {
        Some(b'0') => (Kind::Connect, false),
        Some(b'1') => (Kind::Disconnect, false),
        Some(b'2') => (Kind::Event, false),
        Some(b'3') => (Kind::Ack, false),
        Some(b'5') => (Kind::Event, true),
        Some(b'6') => (Kind::Ack, true),
        _ => return Err(BadPacket("unknown packet type")),
    };
    let mut attachments = 0;
    if binary {
        let (count, after) = rest.split_once('-').ok_or(BadPacket("no number of attachments"))?;
        let count: u8 = digits(count).ok_or(BadPacket("bad number of attachments"))?;
        if count > MAX_ATTACHMENTS {
            return Err(BadPacket("too many attachments"));
        }
        (attachments, rest) = (count, after);
    }
    let mut namespace = "/";
    if rest.starts_with('/') {
        (namespace, rest) = rest.split_once(',').unwrap_or((rest, ""));
        // A query string after the namespace is a relic that clients may still send.
        namespace = namespace.split_once('?').map_or(namespace, |(name, _)| name);
    }
    let end = rest.bytes().position(|b| !b.is_ascii_digit()).unwrap_or(rest.len());
    let (id, data) = rest.split_at(end);
    let id = match id {
        "" => None,
        _ => Some(digits(id).ok_or(BadPacket("bad acknowledgement id"))?),
    };
    if matches!(kind, Kind::Event | Kind::Ack) && !data.starts_with('[') {
        return Err(BadPacket("an event needs an array"));
    }
    Ok(Packet { kind, attachments, namespace, id, data })
}

fn digits<T: std::str::FromStr>(text: &str) -> Option<T> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packet(kind: Kind, namespace: &str, id: Option<u64>, data: &'static str) -> Packet<'static> {
        let namespace = if namespace == "/" { "/" } else { "/admin" };
        Packet { kind, attachments: 0, namespace, id, data }
    }

    #[test]
    fn the_examples_of_the_protocol_document() {
        for (text, expected) in [
            ("0", packet(Kind::Connect, "/", None, "")),
            ("0{\"token\":\"123\"}", packet(Kind::Connect, "/", None, "{\"token\":\"123\"}")),
            ("0/admin,{\"token\":\"123\"}", packet(Kind::Connect, "/admin", None, "{\"token\":\"123\"}")),
            ("0/admin", packet(Kind::Connect, "/admin", None, "")),
            ("0/admin?x=1,", packet(Kind::Connect, "/admin", None, "")),
            ("1/admin,", packet(Kind::Disconnect, "/admin", None, "")),
            ("2[\"foo\"]", packet(Kind::Event, "/", None, "[\"foo\"]")),
            ("2/admin,456[\"bar\"]", packet(Kind::Event, "/admin", Some(456), "[\"bar\"]")),
            ("3/admin,456[]", packet(Kind::Ack, "/admin", Some(456), "[]")),
            ("212[\"foo\"]", packet(Kind::Event, "/", Some(12), "[\"foo\"]")),
        ] {
            assert_eq!(decode(text), Ok(expected), "{text}");
        }
        let binary = decode("51-[\"baz\",{\"_placeholder\":true,\"num\":0}]").unwrap();
        assert_eq!((binary.kind, binary.attachments), (Kind::Event, 1));
    }

    #[test]
    fn what_is_not_a_packet_is_refused() {
        for text in [
            "",
            "4{}",
            "7",
            "x",
            "2",
            "2{}",
            "2abc",
            "299999999999999999999[\"a\"]",
            "5[\"a\"]",
            "511-[\"a\"]",
            "5x-[]",
        ] {
            assert!(decode(text).is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,64}") {
            let _ = decode(&text);
        }

        #[test]
        fn no_packet_like_text_panics(text in "[0-9][0-9]{0,3}-?(/[a-z가]{0,3},?)?[0-9]{0,22}\\[?.{0,8}") {
            let _ = decode(&text);
        }
    }
}
