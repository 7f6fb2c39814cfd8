//! The lines of `challenges.jsonl`: challenges, who takes part in them, and what became of each.
//!
//! How far a challenge is follows from its times; only that its end was carried out is written.

use serde::{Deserialize, Serialize};

use super::event::Record;
use super::text::{ms_text, op_text, text_ms, text_some_op};
use crate::challenge::{Amount, ChallengeId, Distance, EntryId, Participation};
use crate::chat::{OpId, UserId};

/// A line of `challenges.jsonl`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChallengeRecord {
    /// The record's place in its file, from 1.
    pub rev: u64,
    /// What happened.
    #[serde(flatten)]
    pub change: ChallengeChange,
    /// The challenge.
    pub challenge_id: ChallengeId,
    /// The operation that did it; none: the server itself did.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        serialize_with = "some_op_text",
        deserialize_with = "text_some_op"
    )]
    pub op: Option<OpId>,
    /// Unix time in milliseconds.
    #[serde(serialize_with = "ms_text", deserialize_with = "text_ms")]
    pub at: i64,
    /// The highest `rev` of this file known to be durable when the line was written.
    pub synced: u64,
}

/// What can happen to a challenge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase", rename_all_fields = "camelCase")]
pub enum ChallengeChange {
    /// Exists from now on.
    Created {
        /// What it is called.
        title: String,
        /// What is said about it.
        description: String,
        /// How many may take part.
        max_participants: u32,
        /// When it starts, as Unix time in milliseconds.
        #[serde(serialize_with = "ms_text", deserialize_with = "text_ms")]
        start_at: i64,
        /// When it is over.
        #[serde(serialize_with = "ms_text", deserialize_with = "text_ms")]
        end_at: i64,
        /// How far.
        distance: Distance,
        /// PHC string of the password's hash; none: anybody may join.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        password: Option<String>,
        /// Anybody may watch.
        broadcast: bool,
        /// Who asked.
        created_by: UserId,
    },
    /// Takes part, for the first time or again.
    Joined {
        /// Who.
        user_id: UserId,
    },
    /// Does not take part after all.
    Cancelled {
        /// Who.
        user_id: UserId,
    },
    /// Has come in.
    Entered {
        /// Who.
        user_id: UserId,
        /// The stay.
        entry: EntryId,
    },
    /// Stands otherwise from now on, or is ranked.
    Status {
        /// Who.
        user_id: UserId,
        /// How.
        status: Participation,
        /// The final place.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rank: Option<u32>,
        /// Kilometres.
        distance: Amount,
        /// Minutes per kilometre, as last heard.
        pace: Amount,
        /// Minutes per kilometre over all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        average_pace: Option<Amount>,
    },
    /// The end was carried out: nobody is in any more, and everybody is ranked who is to be.
    Ended,
}

impl ChallengeRecord {
    /// Whose standing it changes.
    pub fn user(&self) -> Option<UserId> {
        match &self.change {
            ChallengeChange::Joined { user_id }
            | ChallengeChange::Cancelled { user_id }
            | ChallengeChange::Entered { user_id, .. }
            | ChallengeChange::Status { user_id, .. } => Some(*user_id),
            ChallengeChange::Created { .. } | ChallengeChange::Ended => None,
        }
    }
}

fn some_op_text<S: serde::Serializer>(op: &Option<OpId>, serializer: S) -> Result<S::Ok, S::Error> {
    match op {
        Some(op) => op_text(op, serializer),
        None => serializer.serialize_none(),
    }
}

/// Stands for the operation of what nobody asked for.
const NOBODYS: OpId = OpId { instance: 0, count: 0 };

impl Record for ChallengeRecord {
    fn rev(&self) -> u64 {
        self.rev
    }
    fn synced(&self) -> u64 {
        self.synced
    }
    fn op(&self) -> OpId {
        self.op.unwrap_or(NOBODYS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::record::{decode, encode};

    fn line(record: &ChallengeRecord) -> String {
        let mut line = Vec::new();
        encode(record, &mut line);
        assert_eq!(decode::<ChallengeRecord>(&line[..line.len() - 1]).unwrap(), *record);
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn challenges_look_as_documented() {
        let op = Some(OpId { instance: 1, count: 2 });
        let change = ChallengeChange::Created {
            title: "새벽 달리기".into(),
            description: "d".into(),
            max_participants: 10,
            start_at: 0,
            end_at: 300_000,
            distance: Distance::M100,
            password: None,
            broadcast: true,
            created_by: 7,
        };
        let created = ChallengeRecord { rev: 1, change, challenge_id: 3, op, at: 0, synced: 0 };
        let begins = r#"{"rev":1,"event":"created","title":"새벽 달리기","description":"d","maxParticipants":10,"startAt":"1970-01-01T00:00:00.000Z","endAt":"1970-01-01T00:05:00.000Z","distance":"M100","broadcast":true,"createdBy":7,"challengeId":3,"op":"0000000000000001-2","at":"1970-01-01T00:00:00.000Z","synced":0,"crc":""#;
        assert!(line(&created).starts_with(begins), "{}", line(&created));
        let change = ChallengeChange::Status {
            user_id: 9,
            status: Participation::NotStarted,
            rank: Some(1),
            distance: Amount::try_from(0.5).unwrap(),
            pace: Amount::ZERO,
            average_pace: None,
        };
        let status = ChallengeRecord { rev: 2, change, op: None, ..created.clone() };
        let begins = r#"{"rev":2,"event":"status","userId":9,"status":"NOT_STARTED","rank":1,"distance":0.5,"pace":0.0,"challengeId":3,"at":"1970-01-01T00:00:00.000Z","synced":0,"crc":""#;
        assert!(line(&status).starts_with(begins), "{}", line(&status));
        for change in [
            ChallengeChange::Joined { user_id: 9 },
            ChallengeChange::Cancelled { user_id: 9 },
            ChallengeChange::Entered { user_id: 9, entry: 4 },
            ChallengeChange::Ended,
        ] {
            line(&ChallengeRecord { change, ..created.clone() });
        }
    }
}
