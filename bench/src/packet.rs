//! Socket.IO packets (protocol 5 in Engine.IO 4), as much of them as a load tester meets.
//!
//! Nothing is parsed as JSON: a field is found by its name and read where it stands. That is sound
//! because a quote inside a JSON string is always escaped, so `"seq":` can only be a field.

use memchr::memmem::Finder;

/// What one text message from the server means.
#[derive(Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// The Engine.IO session is open.
    Open,
    /// The server asks whether we are alive; answered by a pong with the same payload.
    Ping(&'a [u8]),
    /// We are in the namespace.
    Connected,
    /// We are not, with the server's reason.
    ConnectError(&'a [u8]),
    /// The session is over.
    Bye,
    /// An event that carries a message.
    Message(Delivery<'a>),
    /// The answer to what we sent.
    Ack(Ack),
    /// Somebody in the room is typing.
    Typing,
    /// What was missed is too much to be told again.
    Gap,
    /// Anything else, such as an `error` event.
    Other,
}

/// The fields of a delivery that are looked at.
#[derive(Debug, PartialEq, Eq)]
pub struct Delivery<'a> {
    /// The server's number of the message; not every server gives one.
    pub seq: Option<u64>,
    /// The room it says it is of.
    pub room_id: Option<&'a [u8]>,
}

/// The fields of an ack that are looked at.
#[derive(Debug, PartialEq, Eq)]
pub struct Ack {
    /// The number we gave the request.
    pub id: u32,
    /// Whether it was granted.
    pub ok: bool,
    /// The server's number of the stored message; not every server gives one.
    pub seq: Option<u64>,
}

/// Reads packets; holds the prepared searches.
pub struct Reader {
    seq: Finder<'static>,
    room_id: Finder<'static>,
    ok: Finder<'static>,
}

impl Reader {
    /// Prepares the searches.
    pub fn new() -> Reader {
        Reader {
            seq: Finder::new(b"\"seq\":"),
            room_id: Finder::new(b"\"roomId\":"),
            ok: Finder::new(b"\"ok\":"),
        }
    }

    /// What `text` means.
    pub fn read<'a>(&self, text: &'a [u8]) -> Packet<'a> {
        match text {
            [b'4', b'2', event @ ..] if event.starts_with(b"[\"message\",") => {
                let room_id = after(&self.room_id, event).and_then(quoted);
                Packet::Message(Delivery { seq: self.seq(event), room_id })
            }
            [b'4', b'2', event @ ..] if event.starts_with(b"[\"typing\",") => Packet::Typing,
            [b'4', b'2', event @ ..] if event.starts_with(b"[\"gap\",") => Packet::Gap,
            [b'4', b'3', answer @ ..] => {
                let (id, rest) = leading_number(answer);
                match id.and_then(|id| u32::try_from(id).ok()) {
                    Some(id) => Packet::Ack(Ack { id, ok: self.ok(rest), seq: self.seq(rest) }),
                    None => Packet::Other,
                }
            }
            [b'2', payload @ ..] => Packet::Ping(payload),
            [b'0', ..] => Packet::Open,
            [b'4', b'0', ..] => Packet::Connected,
            [b'4', b'4', reason @ ..] => Packet::ConnectError(reason),
            [b'1'] | [b'4', b'1', ..] => Packet::Bye,
            _ => Packet::Other,
        }
    }

    fn seq(&self, text: &[u8]) -> Option<u64> {
        after(&self.seq, text).and_then(|value| leading_number(value).0)
    }

    fn ok(&self, text: &[u8]) -> bool {
        after(&self.ok, text).is_some_and(|value| value.starts_with(b"true"))
    }
}

/// Appends the packet that asks for `content` to be said in `room_id`, up to the content.
pub fn begin_send(out: &mut Vec<u8>, ack_id: u32, room_id: &str) {
    out.extend_from_slice(b"42");
    out.extend_from_slice(ack_id.to_string().as_bytes());
    out.extend_from_slice(b"[\"send_message\",{\"roomId\":\"");
    out.extend_from_slice(room_id.as_bytes());
    out.extend_from_slice(b"\",\"content\":\"");
}

/// Appends what follows the content; with `client_id`, the server knows the message again.
pub fn end_send(out: &mut Vec<u8>, client_id: Option<&str>) {
    if let Some(id) = client_id {
        out.extend_from_slice(b"\",\"clientId\":\"");
        out.extend_from_slice(id.as_bytes());
    }
    out.extend_from_slice(b"\"}]");
}

/// The packet that tells the room somebody is typing.
pub fn typing(room_id: &str) -> String {
    format!("42[\"typing\",{{\"roomId\":\"{room_id}\"}}]")
}

/// The packet that asks for the newest messages of a room.
pub fn history(ack_id: u32, room_id: &str, limit: u32) -> String {
    format!("42{ack_id}[\"get_messages\",{{\"roomId\":\"{room_id}\",\"limit\":{limit}}}]")
}

/// The packet that asks to be let in; with `since`, to be told all that came after that `seq`.
pub fn connect(since: Option<u64>) -> String {
    since.map_or_else(|| "40".to_owned(), |seq| format!("40{{\"since\":{seq}}}"))
}

/// The session's id in the packet that opens it.
pub fn sid(open: &[u8]) -> Option<String> {
    let value = after(&Finder::new(b"\"sid\":"), open).and_then(quoted)?;
    String::from_utf8(value.to_vec()).ok()
}

/// The text from a field's value on.
fn after<'a>(field: &Finder, text: &'a [u8]) -> Option<&'a [u8]> {
    field.find(text).map(|at| text[at + field.needle().len()..].trim_ascii_start())
}

fn quoted(value: &[u8]) -> Option<&[u8]> {
    let inside = value.strip_prefix(b"\"")?;
    memchr::memchr(b'"', inside).map(|end| &inside[..end])
}

/// The decimal number `text` begins with, and what follows it.
fn leading_number(text: &[u8]) -> (Option<u64>, &[u8]) {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (number, rest) = text.split_at(digits);
    let value = number.iter().try_fold(0_u64, |sum, digit| {
        sum.checked_mul(10).and_then(|tens| tens.checked_add(u64::from(digit - b'0')))
    });
    (value.filter(|_| digits > 0), rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, meaning: Packet) {
        assert_eq!(Reader::new().read(text.as_bytes()), meaning, "{text}");
    }

    #[test]
    fn the_session_packets() {
        check(r#"0{"sid":"x"}"#, Packet::Open);
        check("2", Packet::Ping(b""));
        check(r#"40{"sid":"x"}"#, Packet::Connected);
        check(r#"44{"message":"no"}"#, Packet::ConnectError(br#"{"message":"no"}"#));
        check("1", Packet::Bye);
        check("41", Packet::Bye);
        check("6", Packet::Other);
        check("", Packet::Other);
        check(r#"42["error",{"message":"no"}]"#, Packet::Other);
        check(r#"42["typing",{"roomId":"r"}]"#, Packet::Typing);
        check(r#"42["gap",{"from":1,"to":2}]"#, Packet::Gap);
        check(r#"42["messages",{"seq":1}]"#, Packet::Other);
    }

    #[test]
    fn deliveries_and_acks_are_read_where_they_stand() {
        let full = Delivery { seq: Some(12), room_id: Some(b"r1") };
        check(
            r#"42["message",{"type":"message","seq":12,"roomId":"r1","content":"x"},"12"]"#,
            Packet::Message(full),
        );
        let spaced = Delivery { seq: Some(12), room_id: Some(b"r1") };
        check(r#"42["message", {"seq": 12, "roomId": "r1"}]"#, Packet::Message(spaced));
        let bare = Delivery { seq: None, room_id: Some(b"r1") };
        check(r#"42["message",{"content":"a \"seq\":5 b","roomId":"r1"}]"#, Packet::Message(bare));
        check(r#"4317[{"ok":true,"id":"a","seq":3}]"#, Packet::Ack(Ack { id: 17, ok: true, seq: Some(3) }));
        check(r#"430[{"ok": false,"code":"OVERLOADED"}]"#, Packet::Ack(Ack { id: 0, ok: false, seq: None }));
        check(r#"43[{"ok":true}]"#, Packet::Other);
        check(r#"4399999999999999999999[{"ok":true}]"#, Packet::Other);
    }

    #[test]
    fn a_send_is_one_json_array() {
        let mut out = vec![];
        begin_send(&mut out, 7, "room");
        out.extend(b"hello");
        let mut known = out.clone();
        end_send(&mut out, None);
        assert_eq!(out, br#"427["send_message",{"roomId":"room","content":"hello"}]"#);
        end_send(&mut known, Some("c1"));
        assert_eq!(known, br#"427["send_message",{"roomId":"room","content":"hello","clientId":"c1"}]"#);
        assert_eq!(sid(br#"0{"sid":"abc","upgrades":[]}"#).as_deref(), Some("abc"));
        assert_eq!(connect(Some(9)), r#"40{"since":9}"#);
    }
}
