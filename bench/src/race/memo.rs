//! What was read lately, by its bytes: a server that tells thousands of a newcomer sends each the same
//! message, and reading it once is enough. Messages are compared whole, so nothing is taken for another.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;

use super::heard::{self, Heard};

/// Messages that are kept; two for each of some thousand members. A power of two.
const SLOTS: usize = 1 << 14;

/// Bytes of a message that is worth being kept, at most.
const MESSAGE_BYTES: usize = 512;

/// What all are told about one member.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum About {
    /// `USER_ENTERED`, and how far the member has come.
    Entered(u64, f64),
    /// `USER_LEFT`.
    Left(u64),
    /// `PARTICIPANT_UPDATE`: how far, and the time it names.
    Update(u64, f64, Option<i64>),
}

impl About {
    /// What a message says of a member; `None`: it is another, or not whole.
    fn of(message: &Heard) -> Option<About> {
        match (message.kind.as_ref(), message.user_id?, message.distance) {
            ("USER_ENTERED", user, Some(distance)) => Some(About::Entered(user, distance)),
            ("USER_LEFT", user, _) if message.reason.is_some() => Some(About::Left(user)),
            ("PARTICIPANT_UPDATE", user, Some(distance)) => {
                Some(About::Update(user, distance, message.timestamp))
            }
            _ => None,
        }
    }
}

/// A message.
pub enum Said<'a> {
    /// About a member.
    Member(About),
    /// Any other.
    Other(Heard<'a>),
}

/// A message's bytes, and what they say.
type Kept = (Box<[u8]>, About);

/// The latest messages about members: each has one place, where the next one takes over.
pub struct Memo {
    slots: Vec<Option<Kept>>,
    hasher: RandomState,
}

impl Default for Memo {
    fn default() -> Memo {
        Memo { slots: vec![None; SLOTS], hasher: RandomState::default() }
    }
}

impl Memo {
    /// Reads a message, or says that it is none.
    pub fn read<'a>(&mut self, text: &'a [u8]) -> Result<Said<'a>, String> {
        if text.len() > MESSAGE_BYTES {
            return heard::read(text).map(Said::Other);
        }
        let hash = usize::try_from(self.hasher.hash_one(text) & (SLOTS as u64 - 1)).unwrap_or_default();
        let slot = &mut self.slots[hash];
        if let Some((bytes, news)) = slot
            && **bytes == *text
        {
            return Ok(Said::Member(*news));
        }
        let message = heard::read(text)?;
        Ok(match About::of(&message) {
            Some(news) => {
                *slot = Some((text.into(), news));
                Said::Member(news)
            }
            None => Said::Other(message),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_what_was_read() {
        let mut memo = Memo::default();
        for round in 0..2 {
            for user in 1..=6_000_u64 {
                let kinds = [
                    (
                        format!(r#"{{"type":"USER_ENTERED","userId":{user},"distance":0.5}}"#),
                        About::Entered(user, 0.5),
                    ),
                    (format!(r#"{{"type":"USER_LEFT","userId":{user},"reason":"QUIT"}}"#), About::Left(user)),
                    (
                        format!(
                            r#"{{"type":"PARTICIPANT_UPDATE","userId":{user},"distance":1,"timestamp":7}}"#
                        ),
                        About::Update(user, 1.0, Some(7)),
                    ),
                ];
                for (text, news) in kinds {
                    assert!(
                        matches!(memo.read(text.as_bytes()), Ok(Said::Member(read)) if read == news),
                        "{round}"
                    );
                }
            }
        }
    }

    #[test]
    fn other_messages_are_read_each_time_and_broken_ones_refused() {
        let mut memo = Memo::default();
        for text in [r#"{"type":"PONG","timestamp":1}"#, r#"{"type":"USER_LEFT","userId":3}"#] {
            for _ in 0..2 {
                assert!(matches!(memo.read(text.as_bytes()), Ok(Said::Other(_))));
            }
        }
        assert!(memo.read(br#"{"type":"USER_LEFT","userId":3,"reason":"QUIT""#).is_err());
    }
}
