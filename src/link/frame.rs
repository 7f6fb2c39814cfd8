//! What workers and the storage writer say to each other.
//!
//! Encoded with postcard (<https://postcard.jamesmunns.com/wire-format>); strings and bytes are
//! borrowed from the receive buffer. Order is the contract: a peer's frames are handled in the
//! order sent, and the writer publishes to every peer in one order, so that what a worker has been
//! told before an answer arrives is everything that was published before that answer.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::arena::{Ask, Asked, News, Record};
use crate::chat::{OpId, Refusal, RoomEvent, UserId};

/// What a worker says. The first frame of a connection is `Hello`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToWriter<'a> {
    /// Introduces the worker and says what it already knows. [Begins](super::version) alike in all versions.
    Hello {
        /// [`VERSION`](super::version::VERSION) of the worker.
        version: u16,
        /// The worker's number, from 0.
        worker: u16,
        /// [`OpId::instance`] of all this worker's operations.
        instance: u64,
        /// What was last heard on an earlier connection; `None` on the first.
        known: Option<Position>,
    },
    /// Store one chat message. The worker has checked membership, lengths and rate.
    Post {
        /// [`OpId::count`]; rising within a connection, the same again in a retry.
        count: u64,
        /// When the worker took it from the client, by [`clock::now_us`](super::clock::now_us); the same
        /// again in a retry.
        sent_us: u64,
        /// The sender's number.
        user: UserId,
        /// The sender's name as other users see it.
        #[serde(borrow)]
        sender: &'a str,
        /// The room.
        room_id: &'a str,
        /// The text.
        content: &'a str,
        /// The client's own name for this message, unique per user, for exactly-once.
        client_id: Option<&'a str>,
    },
    /// Change users or rooms.
    Change {
        /// [`OpId::count`], drawn from the same counter as those of `Post`.
        count: u64,
        /// The change.
        change: Change,
    },
    /// Answer once the index holds everything that was published before this frame was read.
    Sync {
        /// [`OpId::count`].
        count: u64,
    },
    /// Tell every worker that somebody is typing. Never stored, never answered.
    Typing {
        /// The room.
        #[serde(borrow)]
        room_id: &'a str,
        /// Who types.
        user: UserId,
        /// Their name.
        username: &'a str,
    },
    /// Tell the workers whom it concerns ([`super::census`]). Never stored, never answered.
    Visitors(Visitors),
    /// Delete all messages there are when this is put in order.
    DeleteMessages {
        /// [`OpId::count`].
        count: u64,
        /// Number of the administrator who asks.
        by: UserId,
    },
    /// Tell every worker. Never stored, never answered; may be lost.
    Login(Login<'a>),
    /// Tell every worker. Never stored, never answered.
    AtHome(AtHome),
    /// Keep a ticket until it is redeemed or too old.
    IssueTicket {
        /// [`OpId::count`].
        count: u64,
        /// The ticket.
        ticket: Ticket,
    },
    /// Use a ticket up, if it is there and for this purpose.
    RedeemTicket {
        /// [`OpId::count`].
        count: u64,
        /// [`Ticket::purpose`].
        purpose: Purpose,
        /// [`Ticket::id`].
        id: u128,
    },
    /// Do something about a live challenge ([`super::arena`]).
    Arena {
        /// [`OpId::count`].
        count: u64,
        /// What.
        ask: Ask,
    },
    /// How far a participant of a live challenge is. Never answered.
    Record(Record),
}

/// What somebody may do once, soon, and without showing a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    /// Chosen by the worker at random, so that a retry names the same ticket.
    pub id: u128,
    /// The door it opens.
    pub purpose: Purpose,
    /// For whom.
    pub user: UserId,
    /// What whoever redeems it has to know besides; at most [`TICKET_PAYLOAD_BYTES`].
    pub payload: Vec<u8>,
    /// How long it is good for, in milliseconds.
    pub ttl_ms: u64,
}

/// Bytes of a ticket's payload, at most.
pub const TICKET_PAYLOAD_BYTES: usize = 128;

/// The door a ticket opens; it opens no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Purpose {
    /// Socket.IO, in place of a token.
    Chat,
    /// The WebSocket of a live challenge.
    Challenge,
}

/// Somebody has tried a password.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login<'a> {
    /// Where; hears it as well.
    pub worker: u16,
    /// The name that was given; whether there is such a user does not matter.
    #[serde(borrow)]
    pub name: &'a str,
    /// As it is counted.
    pub address: IpAddr,
    /// From somebody with a token of that user.
    pub with_token: bool,
    /// The password was right.
    pub right: bool,
}

/// Where users have logged in, for a worker that starts and knows nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AtHome {
    /// Who tells; hears it as well.
    pub worker: u16,
    /// It is the one that starts: others are asked to tell.
    pub ask: bool,
    /// A name and an address as one keyed hash, and when somebody last logged in so, by
    /// [`clock::now_us`](super::clock::now_us).
    pub pairs: Vec<(u64, u64)>,
}

/// How many connections a worker has; on a new link it has none until it says so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Visitors {
    /// Addresses whose count has changed.
    pub addresses: Vec<(IpAddr, u32)>,
    /// The same of users.
    pub users: Vec<(UserId, u32)>,
}

/// What the other workers have of something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Others {
    /// Connections on all of them together.
    pub connections: u32,
    /// How many of them have any.
    pub workers: u16,
}

/// How far a worker has followed the two published orders.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The last message `seq`; 0 before the first.
    pub seq: u64,
    /// The last `rev` of `chatrooms.jsonl`; 0 before the first.
    pub rev: u64,
}

/// A change of users or rooms.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// Create users, each on its own: one that is taken does not hinder the next.
    CreateUsers(Vec<NewUser>),
    /// Create rooms, each on its own.
    CreateRooms {
        /// Who asks; becomes a member of each.
        creator: UserId,
        /// The rooms.
        rooms: Vec<NewRoom>,
    },
    /// Put users into a room. Those already in it are left as they are.
    Invite {
        /// The room.
        room_id: String,
        /// Who invites; must be a member.
        by: UserId,
        /// User names.
        participants: Vec<String>,
    },
    /// Enter an open room.
    Join {
        /// The room.
        room_id: String,
        /// Who enters.
        user: UserId,
    },
    /// Delete all users, and all rooms with them.
    DeleteUsers {
        /// Number of the administrator who asks.
        by: UserId,
    },
    /// Leave a room; the last one out deletes it.
    Leave {
        /// The room.
        room_id: String,
        /// Who leaves.
        user: UserId,
    },
    /// Put other hashes of the same passwords in place of outdated ones.
    SetPasswords(Vec<NewPassword>),
    /// Give a user another nickname or picture.
    SetLooks {
        /// Whose.
        user: UserId,
        /// `None`: stays as it is; `Some(None)`: there is none any more. So for the picture.
        nickname: Option<Option<String>>,
        /// Where the picture is.
        profile_image: Option<Option<String>>,
    },
    /// End all tokens that a user has.
    Revoke {
        /// Whose.
        user: UserId,
        /// The generation of the token that they came with; if another is good by now, nothing is done.
        generation: u32,
    },
    /// Give a user another password, and end all tokens.
    ChangePassword {
        /// The hash that is stored and the one that is to be.
        password: NewPassword,
        /// As in `Revoke`.
        generation: u32,
    },
}

impl Change {
    /// The user whose share of changes it takes from; administrators' and those that belong to nobody
    /// are not counted. Nor are those that end tokens: they end the caller's too, so nobody makes many,
    /// and whoever has stolen a token must not be able to keep its owner from ending it.
    pub fn user(&self) -> Option<UserId> {
        match self {
            Change::CreateRooms { creator: user, .. }
            | Change::Invite { by: user, .. }
            | Change::Join { user, .. }
            | Change::Leave { user, .. }
            | Change::SetLooks { user, .. } => Some(*user),
            Change::Revoke { .. }
            | Change::ChangePassword { .. }
            | Change::CreateUsers(_)
            | Change::SetPasswords(_)
            | Change::DeleteUsers { .. } => None,
        }
    }
}

/// Another hash for a user's password.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewPassword {
    /// Whose.
    pub user: UserId,
    /// The hash that it is to replace; if another is stored by now, that one stays.
    pub replaces: String,
    /// PHC string of the new hash.
    pub password: String,
}

/// A user to create.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewUser {
    /// Name, unique.
    pub username: String,
    /// PHC string of the password's hash.
    pub password: String,
    /// How others see them in challenges.
    pub nickname: Option<String>,
    /// Where their picture is.
    pub profile_image: Option<String>,
}

/// A room to create.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewRoom {
    /// Chosen by the worker at random, so that a retry names the same room.
    pub room_id: String,
    /// What users call it.
    pub name: String,
    /// User names beside the creator; may repeat.
    pub participants: Vec<String>,
    /// Anybody may join.
    pub open: bool,
}

/// What the storage writer says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromWriter<'a> {
    /// Answers `Hello`. What was published after the worker's [`Position`] follows, then live.
    Welcome {
        /// Where the published orders stand; a new worker follows from here.
        position: Position,
    },
    /// Answers a `Hello` of another version, and is the last frame. [Alike](super::version) in all versions.
    OtherVersion {
        /// [`VERSION`](super::version::VERSION) of the writer.
        version: u16,
    },
    /// Durable messages, in `seq` order, without gaps, each exactly once per connection.
    Messages {
        /// One or more.
        #[serde(borrow)]
        messages: Vec<Message<'a>>,
    },
    /// Durable changes of membership, in `rev` order. `rev` may jump: other records count too.
    Rooms {
        /// The last `rev` in `events`.
        rev: u64,
        /// One or more.
        events: Vec<RoomEvent>,
    },
    /// Somebody is typing.
    Typing {
        /// The room.
        #[serde(borrow)]
        room_id: &'a str,
        /// Who types; their own sockets are not told.
        user: UserId,
        /// Their name.
        username: &'a str,
    },
    /// The operation is done, and the index already shows it. For a `Post` this comes only when it
    /// repeats an earlier one (same `OpId` or `clientId`); otherwise [`Message::origin`] answers.
    Done {
        /// [`OpId::count`].
        count: u64,
        /// What came of it.
        outcome: Outcome,
    },
    /// The operation was refused and left nothing behind.
    Refused {
        /// [`OpId::count`].
        count: u64,
        /// Why.
        refusal: Refusal,
    },
    /// What the other workers have of what this one has, where that has changed. Before the first word of
    /// it on a link there is nothing elsewhere.
    Elsewhere {
        /// By address.
        addresses: Vec<(IpAddr, Others)>,
        /// By user.
        users: Vec<(UserId, Others)>,
    },
    /// A worker's news, to itself as well.
    #[serde(borrow)]
    Login(Login<'a>),
    /// A worker's news, to itself as well.
    AtHome(AtHome),
    /// Users up to this number are no more, nor is any room that was there.
    UsersDeleted {
        /// The highest number among them.
        last_user: UserId,
    },
    /// What the worker has missed can't be told any more: it lets all its clients go, who come back and
    /// recover, and follows from here.
    Afresh {
        /// Where the published orders stand.
        position: Position,
    },
    /// Tokens of some users are good no more; whose, the index shows.
    Revoked,
    /// What happens in live challenges ([`super::arena`]).
    Arena(News),
}

/// One durable message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message<'a> {
    /// Its place in the one order.
    pub seq: u64,
    /// The operation that stored it; its text form is the message's `id`.
    pub origin: OpId,
    /// Unix time in milliseconds.
    pub timestamp_ms: i64,
    /// When a worker took it from its client, by [`clock::now_us`](super::clock::now_us); 0: it comes from the
    /// log, where that does not stand.
    pub sent_us: u64,
    /// The room.
    pub room_id: &'a str,
    /// The fields a client sees, as the log has them: `"seq":1,…,"timestamp":"…"` and, if given,
    /// `,"clientId":"…"`; a JSON object without its braces.
    pub fields: &'a str,
}

/// What came of an operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The message had been stored before.
    Posted {
        /// Its first seq.
        seq: u64,
        /// Its first id.
        id: OpId,
        /// Its first time.
        timestamp_ms: i64,
    },
    /// For each user of the call, in order: its number, or why not.
    Users(Vec<Result<UserId, Refusal>>),
    /// For each room of the call, in order: nothing to add, or why not.
    Rooms(Vec<Result<(), Refusal>>),
    /// All were deleted.
    Deleted {
        /// How many.
        count: u64,
        /// When, as Unix time in milliseconds.
        at_ms: i64,
    },
    /// Done; nothing to add (`Invite`, `Join`, `Leave`, `SetPasswords`, `Sync`, `IssueTicket`).
    Ok,
    /// The ticket was good, and is no more.
    Ticket {
        /// [`Ticket::user`].
        user: UserId,
        /// [`Ticket::payload`].
        payload: Vec<u8>,
    },
    /// The user's earlier tokens are good no more.
    Revoked {
        /// The generation that is.
        generation: u32,
    },
    /// What came of a [`ToWriter::Arena`].
    Arena(Asked),
}
