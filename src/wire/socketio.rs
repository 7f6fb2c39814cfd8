//! Socket.IO protocol 5: packets inside Engine.IO messages.
//!
//! Source: <https://socket.io/docs/v4/socket-io-protocol/>. A packet is
//! `<type>[<attachments>-][<namespace>,][<id>][<JSON>]`.

use std::borrow::Cow;

use bytes::Bytes;
use serde_json::value::RawValue;

use super::engine::packet;
use super::frame;

pub use super::placeholders::attachments_fit;

/// Binary attachments one packet may announce, as in the reference implementation.
pub const MAX_ATTACHMENTS: u8 = 10;

/// Names that events must not have, because the API of clients gives them a meaning of their own.
const RESERVED: [&str; 6] =
    ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];

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
    match kind {
        Kind::Event | Kind::Ack if !data.starts_with('[') => Err(BadPacket("an event needs an array")),
        Kind::Connect if !(data.is_empty() || data.starts_with('{')) => {
            Err(BadPacket("a connect packet carries an object"))
        }
        Kind::Disconnect if !data.is_empty() => Err(BadPacket("a disconnect packet carries nothing")),
        _ => Ok(Packet { kind, attachments, namespace, id, data }),
    }
}

fn digits<T: std::str::FromStr>(text: &str) -> Option<T> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// Whether an event may have this name.
pub fn is_event_name(name: &str) -> bool {
    !RESERVED.contains(&name)
}

/// The elements of a packet's array, none looked into.
#[derive(Debug)]
pub struct Arguments<'a>(pub Vec<&'a RawValue>);

impl<'a> Arguments<'a> {
    /// Reads an array. `None`: the text is not one.
    pub fn parse(data: &'a str) -> Option<Arguments<'a>> {
        serde_json::from_str(data).ok().map(Arguments)
    }

    /// Takes the first argument for an event's name. `None`: it cannot be one.
    pub fn event(data: &'a str) -> Option<(Cow<'a, str>, Arguments<'a>)> {
        let Arguments(mut arguments) = Arguments::parse(data)?;
        if arguments.is_empty() {
            return None;
        }
        let name = event_name(arguments.remove(0))?;
        Some((name, Arguments(arguments)))
    }

    /// The array's text, behind `first` elements of another origin.
    pub fn text(&self, first: &[&str]) -> String {
        let rest = self.0.iter().map(|argument| argument.get());
        let elements: Vec<&str> = first.iter().copied().chain(rest).collect();
        format!("[{}]", elements.join(","))
    }
}

/// The name in an event's first element: a string that is not reserved or, as in the reference
/// implementation, a number.
pub fn event_name(element: &RawValue) -> Option<Cow<'_, str>> {
    let text = element.get();
    if text.starts_with('"') {
        let name: Name<'_> = serde_json::from_str(text).ok()?;
        return is_event_name(&name.0).then_some(name.0);
    }
    serde_json::from_str::<serde_json::Number>(text).is_ok().then_some(Cow::Borrowed(text))
}

/// A string, borrowed when it has no escapes.
#[derive(serde::Deserialize)]
#[serde(transparent)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// What this server sends, as WebSocket frames that hold Engine.IO messages.
pub mod write {
    use super::{Bytes, Cow, frame, packet};

    /// What goes before a packet's data: `4`, the packet's type and number of attachments, the
    /// namespace unless it is `/`, the acknowledgement's number.
    fn head(kind: char, attachments: usize, namespace: &str, id: Option<u64>) -> String {
        let message = char::from(packet::MESSAGE);
        let attachments: Cow<'_, str> =
            if attachments == 0 { "".into() } else { format!("{attachments}-").into() };
        let namespace: Cow<'_, str> =
            if namespace == "/" { "".into() } else { format!("{namespace},").into() };
        let id: Cow<'_, str> = id.map_or("".into(), |id| id.to_string().into());
        format!("{message}{kind}{attachments}{namespace}{id}")
    }

    /// The client has entered a namespace under that session id; by the `pid` it may come back to it.
    pub fn connect(namespace: &str, sid: &str, pid: Option<&str>, out: &mut Vec<u8>) {
        let pid: Cow<'_, str> = pid.map_or("".into(), |pid| format!(",\"pid\":\"{pid}\"").into());
        let text = format!("{}{{\"sid\":\"{sid}\"{pid}}}", head('0', 0, namespace, None));
        frame::text(&[text.as_bytes()], out);
    }

    /// The client may not enter. `message` must need no escapes in JSON.
    pub fn connect_error(namespace: &str, message: &str, out: &mut Vec<u8>) {
        let text = format!("{}{{\"message\":\"{message}\"}}", head('4', 0, namespace, None));
        frame::text(&[text.as_bytes()], out);
    }

    /// The server throws the client out of a namespace.
    pub fn disconnect(namespace: &str, out: &mut Vec<u8>) {
        frame::text(&[head('1', 0, namespace, None).as_bytes()], out);
    }

    /// An event; `array` is the JSON of its name and arguments.
    pub fn event(namespace: &str, id: Option<u64>, array: &str, attachments: &[Bytes], out: &mut Vec<u8>) {
        let kind = if attachments.is_empty() { '2' } else { '5' };
        with_attachments(&head(kind, attachments.len(), namespace, id), array, attachments, out);
    }

    /// The acknowledgement of a client's event; `array` is the JSON of its arguments.
    pub fn ack(namespace: &str, id: u64, array: &str, attachments: &[Bytes], out: &mut Vec<u8>) {
        let kind = if attachments.is_empty() { '3' } else { '6' };
        with_attachments(&head(kind, attachments.len(), namespace, Some(id)), array, attachments, out);
    }

    fn with_attachments(head: &str, array: &str, attachments: &[Bytes], out: &mut Vec<u8>) {
        frame::text(&[head.as_bytes(), array.as_bytes()], out);
        for attachment in attachments {
            frame::binary(&[attachment], out);
        }
    }
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
            ("1", packet(Kind::Disconnect, "/", None, "")),
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
            "0[]",
            "0\"token\"",
            "1{}",
            "2abc[\"a\"]",
        ] {
            assert!(decode(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn names_of_events() {
        let name = |data| Arguments::event(data).map(|(name, rest)| (name.into_owned(), rest.text(&["0"])));
        assert_eq!(name(r#"["a",1, {"b": [2]}]"#), Some(("a".to_owned(), r#"[0,1,{"b": [2]}]"#.to_owned())));
        assert_eq!(name(r#"["\u0061"]"#), Some(("a".to_owned(), "[0]".to_owned())));
        assert_eq!(name("[7,1]"), Some(("7".to_owned(), "[0,1]".to_owned())));
        for data in
            ["[]", "[null]", "[{}]", "[true]", "[\"connect\"]", "[\"disconnecting\",1]", "[\"a\"", "{}"]
        {
            assert_eq!(name(data), None, "{data}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            ack in any::<bool>(),
            namespace in prop_oneof![Just("/".to_owned()), "/[a-z가-힣]{1,9}"],
            id in prop::option::of(any::<u64>()),
            data in "\\[\"[a-z ]{1,9}\"(,[0-9]{1,3}){0,3}\\]",
            attachments in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..10),
        ) {
            let attachments: Vec<Bytes> = attachments.into_iter().map(Bytes::from).collect();
            let mut frames = Vec::new();
            if ack {
                write::ack(&namespace, id.unwrap_or(0), &data, &attachments, &mut frames);
            } else {
                write::event(&namespace, id, &data, &attachments, &mut frames);
            }
            let found: Vec<&[u8]> = frame::written(&frames).map(|(_, payload)| payload).collect();
            let text = std::str::from_utf8(found[0]).unwrap();
            let packet = decode(text.strip_prefix('4').unwrap()).unwrap();
            let kind = if ack { Kind::Ack } else { Kind::Event };
            let id = if ack { Some(id.unwrap_or(0)) } else { id };
            prop_assert_eq!((packet.kind, packet.namespace, packet.id), (kind, &*namespace, id));
            prop_assert_eq!((packet.data, usize::from(packet.attachments)), (&*data, attachments.len()));
            prop_assert_eq!(&found[1..], &attachments[..]);
        }

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
