//! The chat's events: what a client asks (contract §4, "event in") and what it is told.

use std::borrow::Cow;
use std::fmt;
use std::io::Write as _;

use serde::Deserialize;
use serde::de::{self, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::object::Object;
use super::{frame, socketio};
use crate::chat::{Code, OpId, Refusal, rules};

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// Store and broadcast a message.
    SendMessage(SendMessage<'a>),
    /// Receive a room's messages again after [`Command::LeaveRoom`].
    JoinRoom(Cow<'a, str>),
    /// Stop receiving a room's messages on this socket.
    LeaveRoom(Cow<'a, str>),
    /// Read a room's history.
    GetMessages(GetMessages<'a>),
    /// Tell the others that this user is typing.
    Typing(Cow<'a, str>),
    /// Stay for as long as this token lasts.
    AuthRefresh(Cow<'a, str>),
}

/// `send_message`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SendMessage<'a> {
    /// The room.
    #[serde(borrow)]
    pub room_id: Cow<'a, str>,
    /// The text.
    #[serde(borrow)]
    pub content: Cow<'a, str>,
    /// The client's own name for the message.
    #[serde(borrow, default)]
    pub client_id: Option<Cow<'a, str>>,
}

/// `get_messages`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GetMessages<'a> {
    /// The room.
    #[serde(borrow)]
    pub room_id: Cow<'a, str>,
    /// Only messages with a lower seq.
    #[serde(default)]
    pub before: Option<u64>,
    /// Only messages with a higher seq.
    #[serde(default)]
    pub after: Option<u64>,
    /// How many at most.
    #[serde(default)]
    pub limit: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RoomOnly<'a> {
    #[serde(borrow)]
    room_id: Cow<'a, str>,
}

#[derive(Deserialize)]
struct TokenOnly<'a> {
    #[serde(borrow)]
    token: Cow<'a, str>,
}

/// Name and first argument of an event, neither looked into.
#[derive(Debug)]
pub struct Event<'a> {
    /// The event's name.
    pub name: Cow<'a, str>,
    argument: Option<&'a RawValue>,
}

impl<'a> Event<'a> {
    /// Reads `["name", argument, …]`. `None`: not JSON, or not an event.
    pub fn parse(data: &'a str) -> Option<Event<'a>> {
        serde_json::from_str(data).ok()
    }

    /// The command, or the refusal that tells the client what is wrong with it.
    pub fn command(&self) -> Result<Command<'_>, Refusal> {
        let argument = self.argument.map_or("null", RawValue::get);
        match &*self.name {
            "send_message" => {
                let Object(send) = serde_json::from_str::<Object<SendMessage<'_>>>(argument)
                    .map_err(|_| explain_send(argument))?;
                if send.room_id.is_empty() || send.content.is_empty() {
                    return Err(required("roomId and content are required"));
                }
                send.client_id.as_deref().map_or(Ok(()), rules::client_id)?;
                Ok(Command::SendMessage(send))
            }
            "join_room" => room_only(argument).map(Command::JoinRoom),
            "leave_room" => room_only(argument).map(Command::LeaveRoom),
            "typing" => room_only(argument).map(Command::Typing),
            "get_messages" => {
                let Object(get) =
                    serde_json::from_str::<Object<GetMessages<'_>>>(argument).map_err(|_| {
                        required("roomId is required; before, after and limit must be whole numbers")
                    })?;
                Ok(Command::GetMessages(get))
            }
            "auth_refresh" => match serde_json::from_str::<Object<TokenOnly<'_>>>(argument) {
                Ok(Object(TokenOnly { token })) => Ok(Command::AuthRefresh(token)),
                Err(_) => Err(required("token is required, as a string")),
            },
            other => {
                let name: String = other.chars().take(64).collect();
                Err(Refusal::new(Code::UnknownEvent, format!("Unknown event: {name}")))
            }
        }
    }
}

fn room_only(argument: &str) -> Result<Cow<'_, str>, Refusal> {
    match serde_json::from_str::<Object<RoomOnly<'_>>>(argument) {
        Ok(Object(RoomOnly { room_id })) if !room_id.is_empty() => Ok(room_id),
        _ => Err(required("roomId is required")),
    }
}

fn required(message: &str) -> Refusal {
    Refusal::new(Code::InvalidRequest, message)
}

/// `send_message` with anything in its fields, none looked into; `None`: `null`, or not there.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Loose<'a> {
    #[serde(borrow, default)]
    room_id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
    #[serde(borrow, default)]
    client_id: Option<&'a RawValue>,
}

/// Which field of a refused `send_message` was wrong; off the hot path.
fn explain_send(argument: &str) -> Refusal {
    let Ok(Object(loose)) = serde_json::from_str::<Object<Loose<'_>>>(argument) else {
        return required("roomId and content are required");
    };
    if loose.room_id.is_none() || loose.content.is_none() {
        return required("roomId and content are required");
    }
    let fields = [("roomId", loose.room_id), ("content", loose.content), ("clientId", loose.client_id)];
    for (name, value) in fields {
        if value.is_some_and(|value| !value.get().starts_with('"')) {
            return required(&format!("{name} must be a string"));
        }
    }
    // Every field is a string, so one of them is spelt with half of a character.
    required("content is not valid Unicode text")
}

impl<'de: 'a, 'a> Deserialize<'de> for Event<'a> {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EventVisitor;
        impl<'de> Visitor<'de> for EventVisitor {
            type Value = Event<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array that begins with the event's name")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Event<'de>, A::Error> {
                let name = seq.next_element::<&'de RawValue>()?.and_then(socketio::event_name);
                let name = name.ok_or_else(|| de::Error::custom("no name"))?;
                let argument = seq.next_element::<&'de RawValue>()?;
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Event { name, argument })
            }
        }
        deserializer.deserialize_seq(EventVisitor)
    }
}

/// Appends the frame of a `message` event; `fields` as in the log.
pub fn message(fields: &str, out: &mut Vec<u8>) {
    frame::text(&[b"42[\"message\",{\"type\":\"message\",", fields.as_bytes(), b"}]"], out);
}

/// Appends an event's frame again, with one more argument: a text that needs no escaping.
pub fn with_argument(event: &[u8], argument: &[u8], out: &mut Vec<u8>) {
    let Some((_, payload)) = frame::written(event).next() else {
        return;
    };
    let open = payload.strip_suffix(b"]").unwrap_or(payload);
    frame::text(&[open, b",\"", argument, b"\"]"], out);
}

/// Appends the frame of any other event.
pub fn event(name: &str, argument: &serde_json::Value, out: &mut Vec<u8>) {
    let text = format!("42[\"{name}\",{argument}]");
    frame::text(&[text.as_bytes()], out);
}

/// Appends the frame of an `error` event.
pub fn error(refusal: &Refusal, out: &mut Vec<u8>) {
    let argument = serde_json::json!({"message": refusal.message, "code": refusal.code.as_str()});
    event("error", &argument, out);
}

/// Appends the ack of a stored message. `timestamp` is RFC 3339 as in the log.
pub fn ack_stored(ack: u64, id: OpId, seq: u64, timestamp: &str, out: &mut Vec<u8>) {
    let mut text = [0_u8; 160];
    let mut cursor = std::io::Cursor::new(&mut text[..]);
    // 160 bytes hold the longest ids; a write past them could only shorten the text.
    let _ = write!(
        cursor,
        "43{ack}[{{\"ok\":true,\"id\":\"{id}\",\"seq\":{seq},\"timestamp\":\"{timestamp}\"}}]"
    );
    let len = usize::try_from(cursor.position()).unwrap_or(0);
    frame::text(&[&text[..len]], out);
}

/// Appends the ack of anything refused.
pub fn ack_refused(ack: u64, refusal: &Refusal, out: &mut Vec<u8>) {
    let argument =
        serde_json::json!({"ok": false, "code": refusal.code.as_str(), "message": refusal.message});
    ack_with(ack, &argument, out);
}

/// Appends an ack with any argument.
pub fn ack_with(ack: u64, argument: &serde_json::Value, out: &mut Vec<u8>) {
    let text = format!("43{ack}[{argument}]");
    frame::text(&[text.as_bytes()], out);
}

/// Appends the ack of `get_messages`: `fields` of each message, ascending.
pub fn ack_messages(ack: u64, messages: &[String], out: &mut Vec<u8>) {
    let text = format!("43{ack}[{{\"ok\":true,\"messages\":{}}}]", messages_json(messages));
    frame::text(&[text.as_bytes()], out);
}

/// A JSON array of messages out of the `fields` of each.
pub fn messages_json(messages: &[String]) -> String {
    let mut text = String::with_capacity(messages.iter().map(|m| m.len() + 3).sum::<usize>() + 2);
    text.push('[');
    for (at, fields) in messages.iter().enumerate() {
        text.push_str(if at == 0 { "{" } else { ",{" });
        text.push_str(fields);
        text.push('}');
    }
    text.push(']');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(data: &str) -> String {
        Event::parse(data).expect("an event").command().expect_err("a refusal").message
    }

    #[test]
    fn commands_are_read() {
        let event = Event::parse(r#"["send_message",{"roomId":"r","content":"안녕 \"🎉\"","clientId":"c"}]"#)
            .unwrap();
        let Command::SendMessage(send) = event.command().unwrap() else { panic!() };
        assert_eq!(
            (&*send.room_id, &*send.content, send.client_id.as_deref()),
            ("r", "안녕 \"🎉\"", Some("c"))
        );
        let event = Event::parse(r#"["get_messages",{"roomId":"r","after":7}, 1, {}]"#).unwrap();
        let Command::GetMessages(get) = event.command().unwrap() else { panic!() };
        assert_eq!((get.before, get.after, get.limit), (None, Some(7), None));
    }

    #[test]
    fn every_mistake_is_named() {
        assert_eq!(refused(r#"["send_message"]"#), "roomId and content are required");
        assert_eq!(refused(r#"["send_message",{}]"#), "roomId and content are required");
        assert_eq!(
            refused(r#"["send_message",{"roomId":"","content":""}]"#),
            "roomId and content are required"
        );
        assert_eq!(refused(r#"["send_message",{"roomId":"r","content":5}]"#), "content must be a string");
        assert_eq!(refused(r#"["send_message",{"roomId":[],"content":"x"}]"#), "roomId must be a string");
        assert_eq!(
            refused(r#"["send_message",{"roomId":"r","content":"x","clientId":1}]"#),
            "clientId must be a string"
        );
        assert_eq!(
            refused(r#"["send_message",{"roomId":"r","content":"\ud800"}]"#),
            "content is not valid Unicode text"
        );
        let nested = format!(
            r#"["send_message",{{"roomId":"r","content":{}1{}}}]"#,
            "[".repeat(9_000),
            "]".repeat(9_000)
        );
        assert_eq!(refused(&nested), "content must be a string");
        assert_eq!(refused(r#"["send_message","text"]"#), "roomId and content are required");
        assert_eq!(refused(r#"["send_message",["r","x"]]"#), "roomId and content are required");
        assert_eq!(refused(r#"["join_room",null]"#), "roomId is required");
        assert_eq!(refused(r#"["nonsense",1]"#), "Unknown event: nonsense");
    }

    #[test]
    fn an_argument_is_added_to_a_frame() {
        for len in [1, 200, 70_000] {
            let fields = format!(r#""seq":1,"content":"{}""#, "가]".repeat(len));
            let (mut plain, mut marked) = (Vec::new(), Vec::new());
            message(&fields, &mut plain);
            with_argument(&plain, b"1.ab", &mut marked);
            let text = std::str::from_utf8(frame::written(&marked).next().unwrap().1).unwrap();
            let json: serde_json::Value = serde_json::from_str(&text[2..]).unwrap();
            let expected: serde_json::Value =
                serde_json::from_str(&format!("{{\"type\":\"message\",{fields}}}")).unwrap();
            assert_eq!((&text[..2], json), ("42", serde_json::json!(["message", expected, "1.ab"])));
        }
    }

    #[test]
    fn what_is_no_event_is_none() {
        for data in ["[", "[]", "[null]", "[\"connect\"]", "{}", "[\"a\"", "[\"a\"] x"] {
            assert!(Event::parse(data).is_none(), "{data}");
        }
    }
}
