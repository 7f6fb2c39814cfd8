//! What workers and the storage writer say to each other about live challenges.
//!
//! # What a worker asks
//!
//! [`Ask`] goes in a `ToWriter::Arena` and is answered with `Done {Outcome::Arena(Asked)}` or `Refused`, as
//! every operation; asked again under the same number it is answered the same and done once. What an answer
//! speaks of is durable and in the index of challenges before the answer comes, so whoever reads that index
//! then reads it.
//!
//! | ask | when | answer | refusals |
//! |---|---|---|---|
//! | `Create` | the fields are checked by the worker | `Created` | |
//! | `Join` | the worker has checked the password of a private challenge | `Joined` | `CHALLENGE_NOT_FOUND`, `ALREADY_JOINED`, `CHALLENGE_FULL`, `WRONG_STATE` |
//! | `Cancel` | | `Cancelled` | `CHALLENGE_NOT_FOUND`, `NOT_JOINED`, `WRONG_STATE` |
//! | `Enter` | somebody wants a ticket, whose number the worker has drawn | `Ticket` | `CHALLENGE_NOT_FOUND`, `WRONG_STATE`, `RATE_LIMITED` |
//! | `Redeem` | a socket has come with a ticket | `Entered` | `INVALID_TICKET` |
//! | `Refresh` | a member has changed how others see them | `Refreshed` | |
//! | `Leave` | a socket with an entry is gone, or is to go | `Left`, also if it was not in any more | |
//!
//! All but `Enter` and `Refresh` may also be refused with `STORAGE_FULL` or `STORAGE_FAILED`; not so `Leave`, which waits
//! until the disk takes it.
//!
//! [`Record`] is told and not answered. One that is older, by its own time, than what is known of this entry
//! is dropped, as is one of an entry that is not in any more.
//!
//! # What every worker hears
//!
//! [`News`], in one order for all. On each connection it begins with `Live {first: true, …}`: whatever the
//! worker knew of live challenges is to be forgotten, and what follows is what there is, up to
//! `Live {last: true, …}`.
//! The news before that on the same connection, if there is any, is about what it will say as well. A socket
//! whose entry is not in there has been put out meanwhile (by `Left` with a reason that nobody could tell any
//! more), or replaced.
//!
//! An answer to `Redeem` comes behind the `Entered` that it led to, and whatever was published before. So when
//! it is there, the mirror shows the participant and all others, and what comes from then on is news to the socket.
//!
//! | news | what a worker does |
//! |---|---|
//! | `Live` | notes a challenge and who is in; sent in pieces, after the last of which it lets go of sockets that are in none |
//! | `Phase` | notes that it has started |
//! | `Entered` | closes a socket of that participant with a lower entry; tells the others `USER_ENTERED` unless `again` |
//! | `Left` | closes the socket with that entry, if it has it; tells the others `USER_LEFT`; the runner is `Finished` after `Finish`, forgotten after `Quit`, `Kicked` and `Expired`, and `Away` after the rest |
//! | `Moved` | tells each of the others `PARTICIPANT_UPDATE`; notes the ranking |
//! | `Looks` | notes what newcomers are told of that member, in whatever challenges |
//! | `Over` | everybody has left; forgets the challenge |

use serde::{Deserialize, Serialize};

use crate::challenge::{Amount, ChallengeId, Distance, EntryId, Reason, Schedule, Status, TicketKind};
use crate::chat::UserId;

/// Participants in one `Live`, at most.
pub const RUNNERS_PER_FRAME: usize = 1_000;

/// What a worker asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ask {
    /// Make a challenge.
    Create(Box<NewChallenge>),
    /// Take part.
    Join {
        /// In what.
        challenge: ChallengeId,
        /// Who.
        user: UserId,
    },
    /// Take that back.
    Cancel {
        /// In what.
        challenge: ChallengeId,
        /// Who.
        user: UserId,
    },
    /// Give out a ticket.
    Enter {
        /// For what.
        challenge: ChallengeId,
        /// For whom.
        user: UserId,
        /// Of the token that was shown; the ticket ends with the tokens of this generation.
        generation: u32,
        /// Drawn at random by the worker, so that a retry names the same ticket.
        ticket: u128,
    },
    /// Let somebody in who has a ticket.
    Redeem {
        /// The ticket.
        ticket: u128,
    },
    /// A member's nickname or picture is another one, as the index of users has it.
    Refresh {
        /// Whose.
        user: UserId,
    },
    /// Note that somebody is no longer in.
    Leave {
        /// In what.
        challenge: ChallengeId,
        /// Who.
        user: UserId,
        /// Which stay ends.
        entry: EntryId,
        /// Why; not `Finish` or `Expired`, which nobody but the writer decides.
        reason: Reason,
    },
}

/// A challenge to make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewChallenge {
    /// Who asks.
    pub by: UserId,
    /// What it is called.
    pub title: String,
    /// What is said about it.
    pub description: String,
    /// How many may take part, at most [`PARTICIPANTS_MAX`](crate::challenge::PARTICIPANTS_MAX).
    pub max_participants: u32,
    /// When it starts, as Unix time in milliseconds. When it ends follows from the distance.
    pub start_ms: i64,
    /// How far.
    pub distance: Distance,
    /// PHC string of the password's hash; `Some`: it is private.
    pub password: Option<String>,
    /// Anybody may watch.
    pub broadcast: bool,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Asked {
    /// Of `Create`.
    Created {
        /// Its number.
        challenge: ChallengeId,
    },
    /// Of `Join`.
    Joined {
        /// Number of the participation.
        participant: u64,
    },
    /// Of `Cancel`.
    Cancelled {
        /// Number of the participation.
        participant: u64,
    },
    /// Of `Enter`: the ticket is good for [`ticket_ttl`](crate::config::Challenge::ticket_ttl).
    Ticket {
        /// What it is for.
        kind: TicketKind,
    },
    /// Of `Redeem`: they are in.
    Entered {
        /// In what.
        challenge: ChallengeId,
        /// Who.
        user: UserId,
        /// This stay; named with everything that is said of it from now on.
        entry: EntryId,
        /// Of the token that the ticket was given out for.
        generation: u32,
    },
    /// Of `Refresh`: whoever is told of the member from now on is told of that.
    Refreshed,
    /// Of `Leave`: the stay is over, by this or by something before.
    Left,
}

/// How far a participant is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// In what.
    pub challenge: ChallengeId,
    /// Who.
    pub user: UserId,
    /// The stay.
    pub entry: EntryId,
    /// Kilometres.
    pub distance: Amount,
    /// Minutes per kilometre.
    pub pace: Amount,
    /// When, by the client: Unix time in milliseconds.
    pub timestamp_ms: i64,
}

/// What happens in live challenges.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum News {
    /// Challenges that can be entered, and who is in them or was.
    Live {
        /// Forget everything that was known before.
        first: bool,
        /// Everything was told that there is. A challenge that opens later is neither first nor last.
        last: bool,
        /// Challenges not named before.
        challenges: Vec<LiveChallenge>,
        /// Participants, of these or earlier ones; at most [`RUNNERS_PER_FRAME`].
        runners: Vec<(ChallengeId, Runner)>,
    },
    /// The clock has changed what a challenge is.
    Phase {
        /// Which.
        challenge: ChallengeId,
        /// What it is now.
        status: Status,
        /// Since when, as Unix time in milliseconds.
        at_ms: i64,
    },
    /// Somebody has come in.
    Entered {
        /// Where.
        challenge: ChallengeId,
        /// Who, and how far they were when they left last time.
        runner: Runner,
        /// They were in already: a newer socket takes the place of an older one.
        again: bool,
        /// When, as Unix time in milliseconds.
        at_ms: i64,
    },
    /// Somebody is no longer in.
    Left {
        /// Where.
        challenge: ChallengeId,
        /// Who.
        user: UserId,
        /// The stay that is over.
        entry: EntryId,
        /// Why.
        reason: Reason,
        /// The rank of who has finished.
        rank: Option<u32>,
        /// When, as Unix time in milliseconds.
        at_ms: i64,
    },
    /// How far some participants are, who may have left since; of each the latest. May be lost.
    Moved {
        /// Where.
        challenge: ChallengeId,
        /// Who and how far.
        moves: Vec<Move>,
    },
    /// A member is seen otherwise.
    Looks {
        /// Who.
        user: UserId,
        /// What others call them.
        nickname: String,
        /// Where their picture is.
        profile_image: Option<String>,
    },
    /// A challenge is over.
    Over {
        /// Which.
        challenge: ChallengeId,
        /// When, as Unix time in milliseconds.
        at_ms: i64,
    },
}

/// A challenge that can be entered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveChallenge {
    /// Which.
    pub challenge: ChallengeId,
    /// Anybody may watch.
    pub broadcast: bool,
    /// How far.
    pub distance: Distance,
    /// Its times.
    pub schedule: Schedule,
}

/// A participant who is in, has finished, or was in and may come back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Runner {
    /// The number.
    pub user: UserId,
    /// The latest stay.
    pub entry: EntryId,
    /// What others call them.
    pub nickname: String,
    /// Where their picture is.
    pub profile_image: Option<String>,
    /// How far they are.
    pub at: Place,
    /// Whether they are in.
    pub standing: Standing,
}

/// Whether a participant is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// Is in.
    In,
    /// Has finished with this rank, and keeps it.
    Finished(u32),
    /// May come back; not ranked until then.
    Away,
}

/// How far a participant is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Kilometres.
    pub distance: Amount,
    /// Minutes per kilometre.
    pub pace: Amount,
    /// When, by the client: Unix time in milliseconds; 0: nothing was heard.
    pub timestamp_ms: i64,
    /// Of two who are equally far the one with the lower number was there first.
    pub reached: u64,
}

/// A participant's latest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// Who.
    pub user: UserId,
    /// How far.
    pub at: Place,
}
