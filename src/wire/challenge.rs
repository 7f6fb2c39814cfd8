//! What is said over the WebSocket of a live challenge (contract §5): JSON objects in text messages, told
//! apart by `type`, in both directions. Times are Unix milliseconds, distances kilometres, paces minutes a
//! kilometre.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::frame;
use super::object::{self, Object};
use crate::challenge::Reason;
use crate::chat::UserId;

/// Bytes of one message from a client, at most; those there are have about a hundred.
pub const MESSAGE_BYTES: usize = 4 << 10;

/// Kilometres that a client may say it has come, at most: more than any challenge has.
const MOST_KM: f64 = 1_000.0;

/// Minutes a kilometre that a client may say, at most; somebody who stands still has a large one.
const MOST_PACE: f64 = 1_000_000.0;

/// What a client says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Command {
    /// It is there.
    Ping,
    /// Where it is.
    Record(Position),
    /// It gives up.
    Quit,
    /// It was thrown out by those who run the challenge.
    Kicked,
}

/// How far somebody has come.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
pub struct Position {
    /// Kilometres.
    pub distance: f64,
    /// Minutes a kilometre.
    pub pace: f64,
    /// When, as Unix time in milliseconds; a client may leave it to the server.
    #[serde(default)]
    pub timestamp: Option<i64>,
}

/// What a client got wrong, or the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ErrorCode {
    /// There is no ticket.
    Unauthorized,
    /// The ticket is none, was used, or is too old.
    InvalidTicket,
    /// `type` says nothing known.
    InvalidMessageType,
    /// It is no JSON object in a text message.
    MessageProcessingError,
    /// A `RECORD` does not say where its client is.
    RecordProcessingError,
}

/// A mistake in a client's message; its connection stays open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Which kind.
    pub code: ErrorCode,
    /// One sentence for a person.
    pub text: &'static str,
}

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Option<&'a RawValue>,
}

/// Reads a client's message.
///
/// # Errors
/// What the client is told about it.
pub fn parse(text: &str) -> Result<Command, Mistake> {
    let no_object = |_| UNREADABLE;
    let Object(head) = serde_json::from_str::<Object<Head<'_>>>(text).map_err(no_object)?;
    let kind = head.kind.and_then(object::text).unwrap_or_default();
    match kind.as_str() {
        "PING" => Ok(Command::Ping),
        "RECORD" => position(text).map(Command::Record),
        "QUIT" => Ok(Command::Quit),
        "KICKED" => Ok(Command::Kicked),
        _ => Err(Mistake {
            code: ErrorCode::InvalidMessageType,
            text: "type must be PING, RECORD, QUIT or KICKED",
        }),
    }
}

/// What is said of a message that is no JSON object.
pub const UNREADABLE: Mistake = Mistake {
    code: ErrorCode::MessageProcessingError,
    text: "a message must be a JSON object in a text frame",
};

fn position(text: &str) -> Result<Position, Mistake> {
    let mistake = |text| Mistake { code: ErrorCode::RecordProcessingError, text };
    let read = serde_json::from_str::<Object<Position>>(text);
    let Object(position) =
        read.map_err(|_| mistake("distance and pace must be numbers, timestamp Unix milliseconds"))?;
    if !(0.0..=MOST_KM).contains(&position.distance) {
        return Err(mistake("distance must be 0 to 1000 kilometres"));
    }
    if !(0.0..=MOST_PACE).contains(&position.pace) {
        return Err(mistake("pace must be 0 to 1000000 minutes a kilometre"));
    }
    if position.timestamp.is_some_and(|at| at < 0) {
        return Err(mistake("timestamp must not be negative"));
    }
    Ok(position)
}

/// A participant as others see them.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Runner<'a> {
    /// Number.
    pub user_id: UserId,
    /// Nickname, or the name if there is none.
    pub nickname: Cow<'a, str>,
    /// The address of a picture.
    pub profile_image: Option<Cow<'a, str>>,
    /// Kilometres.
    pub distance: f64,
    /// Minutes a kilometre.
    pub pace: f64,
}

/// What a client is told.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "SCREAMING_SNAKE_CASE", rename_all_fields = "camelCase")]
pub enum Told<'a> {
    /// It is in.
    Connected {
        /// The challenge.
        challenge_id: u64,
        /// The client's user.
        user_id: UserId,
        /// How others see it.
        me: &'a Runner<'a>,
        /// Others, at most as many as the server puts into one message.
        participants: &'a [Runner<'a>],
        /// Unix time in milliseconds.
        timestamp: i64,
    },
    /// Somebody else is there.
    UserEntered {
        /// Number.
        user_id: UserId,
        /// Nickname.
        nickname: &'a str,
        /// The address of a picture.
        profile_image: Option<&'a str>,
        /// Kilometres.
        distance: f64,
        /// Minutes a kilometre.
        pace: f64,
        /// Unix time in milliseconds.
        timestamp: i64,
    },
    /// Somebody else is there no longer.
    UserLeft {
        /// Number.
        user_id: UserId,
        /// Why.
        reason: Reason,
        /// Unix time in milliseconds.
        timestamp: i64,
    },
    /// Somebody else has come further.
    ParticipantUpdate {
        /// Number.
        user_id: UserId,
        /// Kilometres.
        distance: f64,
        /// Minutes a kilometre.
        pace: f64,
        /// Unix time in milliseconds, as their client said.
        timestamp: i64,
    },
    /// Answers `PING`.
    Pong {
        /// Unix time in milliseconds.
        timestamp: i64,
    },
    /// Something was wrong.
    Error {
        /// What.
        error_code: ErrorCode,
        /// One sentence for a person.
        error_message: &'a str,
        /// Unix time in milliseconds.
        timestamp: i64,
    },
}

/// Appends a message's frame.
pub fn write(told: &Told<'_>, out: &mut Vec<u8>) {
    // Writing to a vector can't fail, and no map has a key that is no text.
    let json = serde_json::to_vec(told).unwrap_or_default();
    frame::text(&[&json], out);
}

/// What those are told who only watch, as Server-Sent Events.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged, rename_all_fields = "camelCase")]
pub enum Spectacle {
    /// The challenge has started.
    Start {
        /// Unix time in milliseconds.
        timestamp: i64,
    },
    /// Somebody has come further.
    Running {
        /// Number.
        user_id: UserId,
        /// Kilometres.
        distance: f64,
        /// Minutes a kilometre.
        pace: f64,
        /// Unix time in milliseconds, as their client said.
        timestamp: i64,
    },
    /// Somebody has come the whole distance.
    Finish {
        /// Number.
        user_id: UserId,
        /// Place, from 1.
        rank: u32,
        /// Unix time in milliseconds.
        timestamp: i64,
    },
    /// Somebody is there no longer.
    Leave {
        /// Number.
        user_id: UserId,
        /// Why.
        reason: Reason,
        /// Unix time in milliseconds.
        timestamp: i64,
    },
    /// The challenge is over, and so is this.
    End {
        /// Unix time in milliseconds.
        timestamp: i64,
    },
}

impl Spectacle {
    /// Appends it as an event.
    pub fn write(&self, out: &mut Vec<u8>) {
        let name = match self {
            Spectacle::Start { .. } => "start",
            Spectacle::Running { .. } => "running",
            Spectacle::Finish { .. } => "finish",
            Spectacle::Leave { .. } => "leave",
            Spectacle::End { .. } => "end",
        };
        for part in [b"event: ", name.as_bytes(), b"\ndata: "] {
            out.extend_from_slice(part);
        }
        // Writing to a vector can't fail, and JSON has no line ends of its own.
        out.extend(serde_json::to_vec(self).unwrap_or_default());
        out.extend_from_slice(b"\n\n");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn code(text: &str) -> ErrorCode {
        parse(text).unwrap_err().code
    }

    #[test]
    fn clients_say_four_things() {
        assert_eq!(parse(r#"{"type":"PING"}"#), Ok(Command::Ping));
        assert_eq!(parse(r#" {"x":[1],"type":"QUIT"} "#), Ok(Command::Quit));
        assert_eq!(parse(r#"{"type":"KICKED"}"#), Ok(Command::Kicked));
        let record = parse(r#"{"type":"RECORD","distance":1.5,"pace":6,"timestamp":1767225600000}"#);
        let timestamp = Some(1_767_225_600_000);
        assert_eq!(record, Ok(Command::Record(Position { distance: 1.5, pace: 6.0, timestamp })));
        let record = parse(r#"{"type":"RECORD","distance":0,"pace":0}"#);
        assert_eq!(record, Ok(Command::Record(Position { distance: 0.0, pace: 0.0, timestamp: None })));
    }

    #[test]
    fn each_mistake_has_its_code() {
        for text in ["", "PING", "[]", "1", "null", r#"["PING"]"#, r#"{"type":"PING""#, &"[".repeat(4_000)] {
            assert_eq!(code(text), ErrorCode::MessageProcessingError, "{text}");
        }
        for text in ["{}", r#"{"type":null}"#, r#"{"type":1}"#, r#"{"type":"ping"}"#, r#"{"type":"HELLO"}"#] {
            assert_eq!(code(text), ErrorCode::InvalidMessageType, "{text}");
        }
        for fields in [
            "",
            r#","distance":1"#,
            r#","pace":1"#,
            r#","distance":-1,"pace":1"#,
            r#","distance":1001,"pace":1"#,
            r#","distance":"1","pace":1"#,
            r#","distance":null,"pace":1"#,
            r#","distance":1e999,"pace":1"#,
            r#","distance":1,"pace":-1"#,
            r#","distance":1,"pace":1,"timestamp":"now""#,
            r#","distance":1,"pace":1,"timestamp":-1"#,
        ] {
            assert_eq!(
                code(&format!(r#"{{"type":"RECORD"{fields}}}"#)),
                ErrorCode::RecordProcessingError,
                "{fields}"
            );
        }
    }

    #[test]
    fn what_clients_are_told_looks_as_the_contract_says() {
        let me = Runner { user_id: 1, nickname: "가".into(), profile_image: None, distance: 0.0, pace: 0.0 };
        let other =
            Runner { user_id: 2, profile_image: Some("http://a/b.png".into()), distance: 1.5, ..me.clone() };
        let text = |told: &Told<'_>| serde_json::to_string(told).unwrap();
        assert_eq!(
            text(&Told::Connected {
                challenge_id: 7,
                user_id: 1,
                me: &me,
                participants: &[other],
                timestamp: 5
            }),
            r#"{"type":"CONNECTED","challengeId":7,"userId":1,"me":{"userId":1,"nickname":"가","profileImage":null,"distance":0.0,"pace":0.0},"participants":[{"userId":2,"nickname":"가","profileImage":"http://a/b.png","distance":1.5,"pace":0.0}],"timestamp":5}"#
        );
        assert_eq!(
            text(&Told::UserEntered {
                user_id: 2,
                nickname: "n",
                profile_image: None,
                distance: 0.5,
                pace: 6.0,
                timestamp: 5
            }),
            r#"{"type":"USER_ENTERED","userId":2,"nickname":"n","profileImage":null,"distance":0.5,"pace":6.0,"timestamp":5}"#
        );
        assert_eq!(
            text(&Told::UserLeft { user_id: 2, reason: Reason::Finish, timestamp: 5 }),
            r#"{"type":"USER_LEFT","userId":2,"reason":"FINISH","timestamp":5}"#
        );
        assert_eq!(
            text(&Told::ParticipantUpdate { user_id: 2, distance: 0.5, pace: 6.0, timestamp: 5 }),
            r#"{"type":"PARTICIPANT_UPDATE","userId":2,"distance":0.5,"pace":6.0,"timestamp":5}"#
        );
        assert_eq!(text(&Told::Pong { timestamp: 5 }), r#"{"type":"PONG","timestamp":5}"#);
        let error_code = ErrorCode::InvalidTicket;
        assert_eq!(
            text(&Told::Error { error_code, error_message: "no", timestamp: 5 }),
            r#"{"type":"ERROR","errorCode":"INVALID_TICKET","errorMessage":"no","timestamp":5}"#
        );
    }

    #[test]
    fn spectacles_are_events() {
        let mut out = Vec::new();
        Spectacle::Start { timestamp: 5 }.write(&mut out);
        Spectacle::Running { user_id: 1, distance: 0.5, pace: 6.0, timestamp: 6 }.write(&mut out);
        Spectacle::Finish { user_id: 1, rank: 1, timestamp: 7 }.write(&mut out);
        Spectacle::Leave { user_id: 2, reason: Reason::Quit, timestamp: 8 }.write(&mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "event: start\ndata: {\"timestamp\":5}\n\n\
             event: running\ndata: {\"userId\":1,\"distance\":0.5,\"pace\":6.0,\"timestamp\":6}\n\n\
             event: finish\ndata: {\"userId\":1,\"rank\":1,\"timestamp\":7}\n\n\
             event: leave\ndata: {\"userId\":2,\"reason\":\"QUIT\",\"timestamp\":8}\n\n"
        );
    }

    proptest! {
        #[test]
        fn any_text_is_a_command_or_a_mistake(text in r#"(\{"type":"(RECORD|PING)")?(,"distance":[^}]{0,9})?.*"#) {
            if let Ok(Command::Record(position)) = parse(&text) {
                prop_assert!((0.0..=MOST_KM).contains(&position.distance));
            }
        }
    }
}
