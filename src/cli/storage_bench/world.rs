//! The made-up people, rooms and messages: everything follows from a number, so that nothing has to be
//! kept to be found again.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

/// Members of an ordinary room, at least.
const MEMBERS_MIN: u64 = 2;
/// More that an ordinary room may have.
const MEMBERS_SPREAD: u64 = 17;
/// Members of the large room, at most.
const LARGE_ROOM: u64 = 100_000;
/// Rooms that the first user is in, at most.
const ROOMS_OF_FIRST: u64 = 10_000;
/// The first rooms may be entered by anybody: the large one and an ordinary one.
pub const OPEN_ROOMS: u64 = 2;
/// One message of so many is in the large room.
const LARGE_ROOM_SHARE: u64 = 10;
/// One message of so many holds [`NEEDLE`].
const NEEDLE_SHARE: u64 = 10_000;
/// Bytes of a message's content, about.
const CONTENT_BYTES: usize = 100;

/// What is searched for.
pub const NEEDLE: &str = "Wasserfallbrücke";

/// Words of messages, in two scripts.
const WORDS: [&str; 24] = [
    "안녕", "meeting", "내일", "tomorrow", "점심", "lunch", "회의", "deploy", "확인", "thanks", "파일",
    "review", "서버", "report", "주말", "weekend", "사진", "picture", "음악", "coffee", "질문", "answer",
    "도움", "again",
];

/// How many there are of each.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct World {
    /// Users, numbered from 1.
    pub users: u64,
    /// Rooms, numbered from 1. The first is the large one.
    pub rooms: u64,
    /// Messages, numbered from 1.
    pub messages: u64,
}

/// A number that looks like chance and is a different one for every number (splitmix64).
pub fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A user's name. Names are in no order, as those of real people are not.
pub fn name(user: u64) -> String {
    format!("u{:x}", mix(user))
}

/// A user's nickname.
pub fn nickname(user: u64) -> String {
    format!("회원 {user}")
}

/// A room's id, of the length that the server's own have.
pub fn room_id(room: u64) -> String {
    format!("r{:016x}{:016x}", mix(room), mix(room ^ u64::MAX))
}

impl World {
    /// The members of a room, in order of joining, nobody twice.
    pub fn members(&self, room: u64) -> Vec<u64> {
        if room == 1 {
            return (1..=self.users.min(LARGE_ROOM)).collect();
        }
        let wanted = MEMBERS_MIN + mix(room ^ 0xa5a5) % MEMBERS_SPREAD;
        let mut members = vec![self.creator(room)];
        for at in 1..wanted {
            let member = self.some_user(room, at);
            if !members.contains(&member) {
                members.push(member);
            }
        }
        members
    }

    /// The first member of a room.
    pub fn creator(&self, room: u64) -> u64 {
        if room <= ROOMS_OF_FIRST { 1 } else { self.some_user(room, 0) }
    }

    fn some_user(&self, room: u64, at: u64) -> u64 {
        1 + mix(room.wrapping_mul(64) + at) % self.users
    }

    /// The room of a message.
    pub fn room_of(&self, message: u64) -> u64 {
        let chance = mix(message ^ 0x5a5a);
        if chance.is_multiple_of(LARGE_ROOM_SHARE) { 1 } else { 1 + (chance >> 8) % self.rooms }
    }

    /// Writes a message's content.
    pub fn content(message: u64, out: &mut String) {
        out.clear();
        // Writing to a string cannot fail.
        let _ = write!(out, "{message}");
        if message.is_multiple_of(NEEDLE_SHARE) {
            out.push(' ');
            out.push_str(NEEDLE);
        }
        let mut chance = mix(message);
        while out.len() < CONTENT_BYTES {
            out.push(' ');
            let at = usize::try_from(chance % WORDS.len() as u64).unwrap_or(0);
            out.push_str(WORDS[at]);
            chance = mix(chance);
        }
    }

    /// Messages that hold [`NEEDLE`].
    pub fn needles(&self) -> u64 {
        self.messages / NEEDLE_SHARE
    }
}
