//! Why something was refused, as a small code a client can act on and a sentence a person can read.

use serde::{Deserialize, Serialize};

/// What a client can do about a refusal depends on nothing but this code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Code {
    /// A field is missing, empty, of the wrong type or outside its range.
    InvalidRequest,
    /// The body or packet is not valid JSON or not valid UTF-8.
    InvalidJson,
    /// The body is larger than its limit.
    BodyTooLarge,
    /// The body did not arrive in time.
    RequestTimeout,
    /// No token, or one that is forged, expired or of a user that is not there.
    Unauthorized,
    /// The name or the password is wrong; deliberately the same for both.
    InvalidCredentials,
    /// The name belongs to somebody else.
    UsernameTaken,
    /// Named participants do not exist.
    UnknownParticipants,
    /// There is no such room.
    RoomNotFound,
    /// The caller is not in the room.
    NotAMember,
    /// Pages of this origin may not call.
    OriginNotAllowed,
    /// The room can only be entered by invitation.
    RoomNotOpen,
    /// Only an administrator may do this.
    Forbidden,
    /// The user is in as many rooms as one may be.
    TooManyRooms,
    /// The content has more characters than allowed.
    ContentTooLong,
    /// The user sends faster than allowed; try again a little later.
    RateLimited,
    /// As many connections as allowed come from this address.
    TooManyConnections,
    /// Too many wrong passwords came from this address; try again later.
    TooManyAttempts,
    /// The server has more in hand than it may hold; try again a little later.
    Overloaded,
    /// The disk did not take the record; nothing was stored.
    StorageFailed,
    /// The disk is full; nothing was stored.
    StorageFull,
    /// The event has no meaning here.
    UnknownEvent,
    /// No such path.
    NotFound,
    /// The path exists, the method does not.
    MethodNotAllowed,
    /// A mistake of the server's own.
    Internal,
    /// The token of this socket has come to its end.
    TokenExpired,
    /// All tokens of this socket's user were ended.
    LoggedOut,
    /// The password that the caller says is theirs is not.
    WrongPassword,
    /// What has to be read for an answer can't be read at this moment; try again a little later.
    Unavailable,
    /// There is no such challenge.
    ChallengeNotFound,
    /// The user takes part in the challenge already.
    AlreadyJoined,
    /// The user does not take part in the challenge.
    NotJoined,
    /// As many take part in the challenge as may.
    ChallengeFull,
    /// Not as the challenge, or the participant in it, stands now.
    WrongState,
    /// The ticket was used, is too old, is for something else, or never was.
    InvalidTicket,
}

impl Code {
    /// The spelling clients see.
    pub fn as_str(self) -> &'static str {
        match self {
            Code::InvalidRequest => "INVALID_REQUEST",
            Code::InvalidJson => "INVALID_JSON",
            Code::BodyTooLarge => "BODY_TOO_LARGE",
            Code::RequestTimeout => "REQUEST_TIMEOUT",
            Code::Unauthorized => "UNAUTHORIZED",
            Code::InvalidCredentials => "INVALID_CREDENTIALS",
            Code::UsernameTaken => "USERNAME_TAKEN",
            Code::UnknownParticipants => "UNKNOWN_PARTICIPANTS",
            Code::RoomNotFound => "ROOM_NOT_FOUND",
            Code::NotAMember => "NOT_A_MEMBER",
            Code::OriginNotAllowed => "ORIGIN_NOT_ALLOWED",
            Code::RoomNotOpen => "ROOM_NOT_OPEN",
            Code::Forbidden => "FORBIDDEN",
            Code::TooManyRooms => "TOO_MANY_ROOMS",
            Code::ContentTooLong => "CONTENT_TOO_LONG",
            Code::RateLimited => "RATE_LIMITED",
            Code::TooManyConnections => "TOO_MANY_CONNECTIONS",
            Code::TooManyAttempts => "TOO_MANY_ATTEMPTS",
            Code::Overloaded => "OVERLOADED",
            Code::StorageFailed => "STORAGE_FAILED",
            Code::StorageFull => "STORAGE_FULL",
            Code::UnknownEvent => "UNKNOWN_EVENT",
            Code::NotFound => "NOT_FOUND",
            Code::MethodNotAllowed => "METHOD_NOT_ALLOWED",
            Code::Internal => "INTERNAL",
            Code::TokenExpired => "TOKEN_EXPIRED",
            Code::LoggedOut => "LOGGED_OUT",
            Code::WrongPassword => "WRONG_PASSWORD",
            Code::Unavailable => "UNAVAILABLE",
            Code::ChallengeNotFound => "CHALLENGE_NOT_FOUND",
            Code::AlreadyJoined => "ALREADY_JOINED",
            Code::NotJoined => "NOT_JOINED",
            Code::ChallengeFull => "CHALLENGE_FULL",
            Code::WrongState => "WRONG_STATE",
            Code::InvalidTicket => "INVALID_TICKET",
        }
    }
}

/// A refusal: the code and the sentence that goes with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// What kind of refusal.
    pub code: Code,
    /// One sentence for a person; names what was wrong.
    pub message: String,
}

impl Refusal {
    /// A refusal with its sentence.
    pub fn new(code: Code, message: impl Into<String>) -> Refusal {
        Refusal { code, message: message.into() }
    }

    /// The caller is not in the room it named.
    pub fn not_a_member() -> Refusal {
        Refusal::new(Code::NotAMember, "You are not a member of this chat room")
    }

    /// There is no room of that id.
    pub fn room_not_found() -> Refusal {
        Refusal::new(Code::RoomNotFound, "Chat room not found")
    }

    /// The user sends messages faster than allowed.
    pub fn too_many_messages() -> Refusal {
        Refusal::new(Code::RateLimited, "Too many messages, slow down")
    }

    /// The user asks for something more often than allowed.
    pub fn too_many_requests() -> Refusal {
        Refusal::new(Code::RateLimited, "Too many requests, slow down")
    }

    /// A bounded queue is full.
    pub fn overloaded() -> Refusal {
        Refusal::new(Code::Overloaded, "The server is overloaded, try again shortly")
    }
}
