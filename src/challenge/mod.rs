//! Live challenges: what holds whoever asks, on whatever process.
//!
//! Pure: no I/O, no clock, no JSON; the time is passed in, as Unix time in milliseconds.
//!
//! | module | what it says |
//! |---|---|
//! | [`distance`] | which distances there are, how long each is and how much time it has |
//! | [`amount`] | numbers of clients that can be compared |
//! | [`schedule`] | how far a challenge is, by the clock alone |
//! | [`participation`] | what may become of a participant, and by what |
//! | [`ranking`] | who is before whom |
//! | [`updates`] | the latest of everybody, a bounded number at a time |
//!
//! How far a challenge is follows from its times and is computed wherever it is asked for, so it is never
//! stale, also after a restart. What became of a participant is a decision of the storage writer's and is
//! in `challenges.jsonl`.

pub mod amount;
pub mod distance;
pub mod participation;
pub mod ranking;
pub mod schedule;
pub mod updates;

pub use amount::Amount;
pub use distance::Distance;
pub use participation::{Event, Participation, Reason, TicketKind};
pub use ranking::Ranking;
pub use schedule::{Schedule, Status};
pub use updates::Updates;

/// A challenge's number: 1, 2, 3, … in order of creation.
pub type ChallengeId = u64;

/// Names one stay of a participant in a challenge. Grows with every entry on the whole host, so of two
/// sockets of one participant the one with the higher number is the newer.
pub type EntryId = u64;

/// Participants of one challenge, at most.
pub const PARTICIPANTS_MAX: u32 = 100_000;
