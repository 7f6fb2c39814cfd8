//! What may be done to users and rooms, as the index has them in the open transaction.

use std::collections::HashSet;
use std::path::Path;

use super::repeats::Repeats;
use crate::chat::rules::PARTICIPANTS_PER_CALL;
use crate::chat::{Code, OpId, Refusal, UserId};
use crate::index::IndexError;
use crate::index::store::{LogName, RoomState, Store};
use crate::journal::JournalError;

/// Names a refusal mentions, at most.
const NAMES_MENTIONED: usize = 10;

/// Why nothing can be said about a change.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The index can't be read or written.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// A log can't be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A log can't be written.
    #[error("{0}")]
    Disk(#[from] std::io::Error),
}

/// The ends of the two logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Last record of `users.jsonl`.
    pub users: u64,
    /// Last record of `chatrooms.jsonl`.
    pub rooms: u64,
    /// The highest user number.
    pub last_user: UserId,
}

/// What changes are judged by.
pub struct Judge<'a> {
    /// The index, in an open transaction.
    pub store: &'a Store,
    /// Earlier operations.
    pub repeats: &'a Repeats,
    /// Where they can be read again: users and rooms.
    pub paths: [&'a Path; 2],
    /// Rooms one user may be in.
    pub rooms_per_user: u64,
    /// Unix time in milliseconds.
    pub now_ms: i64,
    /// The last message published.
    pub after_seq: u64,
    /// What is durable of the two logs.
    pub durable: Ends,
}

/// A verdict, or no way to reach one.
pub type Judged<T> = Result<Result<T, Refusal>, Failure>;

impl Judge<'_> {
    /// Whether a change of rooms was done before. For those that write one record or none.
    pub fn did(&self, op: OpId) -> bool {
        !self.repeats.find(LogName::Rooms, op).is_empty()
    }

    pub fn room(&self, room_id: &str) -> Judged<RoomState> {
        Ok(self.store.room(room_id)?.ok_or_else(Refusal::room_not_found))
    }

    /// Whether somebody has a name in another spelling, as older data may have it; in this one, the index refuses
    /// it.
    pub fn is_taken(&self, name: &str) -> Result<bool, Failure> {
        Ok(!name.is_ascii() && self.store.user_number(name)?.is_some())
    }

    /// The numbers of named users, in order, nobody twice.
    pub fn resolve(&self, names: &[String]) -> Judged<Vec<UserId>> {
        if names.len() > PARTICIPANTS_PER_CALL + 1 {
            let text = format!("participants must not exceed {PARTICIPANTS_PER_CALL}");
            return Ok(Err(Refusal::new(Code::InvalidRequest, text)));
        }
        let (mut numbers, mut seen, mut unknown) = (Vec::new(), HashSet::new(), Vec::new());
        for name in names {
            match self.store.user_number(name)? {
                Some(number) if seen.insert(number) => numbers.push(number),
                Some(_) => {}
                None => unknown.push(name.as_str()),
            }
        }
        Ok(if unknown.is_empty() { Ok(numbers) } else { Err(unknown_participants(&unknown)) })
    }

    /// Whether all these users may be in one room more.
    pub fn check_room_for(&self, users: &[UserId]) -> Judged<()> {
        for user in users {
            match self.store.user(*user)? {
                Some((_, rooms)) if rooms < self.rooms_per_user => {}
                Some((name, _)) => {
                    let text = format!("{name} is in {} rooms, as many as allowed", self.rooms_per_user);
                    return Ok(Err(Refusal::new(Code::TooManyRooms, text)));
                }
                None => return Ok(Err(Refusal::new(Code::Unauthorized, "There is no such user"))),
            }
        }
        Ok(Ok(()))
    }
}

fn unknown_participants(names: &[&str]) -> Refusal {
    let mut text = format!("Unknown participants: {}", names[..names.len().min(NAMES_MENTIONED)].join(", "));
    if names.len() > NAMES_MENTIONED {
        text += &format!(" and {} more", names.len() - NAMES_MENTIONED);
    }
    Refusal::new(Code::UnknownParticipants, text)
}
