//! What is derived from `challenges.jsonl`: challenges, participants, results.
//!
//! A database of its own, `index/challenges.sqlite`: [`store`] is its one writing connection, the storage
//! writer's arena thread's; [`read`] asks it from any process; [`build`] brings it into step with the log.

pub mod build;
pub mod read;
pub mod store;

use std::path::{Path, PathBuf};

use super::schema;

pub use read::{ChallengeInfo, ChallengeReader, ParticipantInfo};
pub use store::{ChallengeState, ChallengeStore, ParticipantState};

/// Changes with every change of [`TABLES`] or of what is put in; another number means building anew.
const VERSION: i64 = 1;

/// Times, in Unix milliseconds, end in `_ms`. `op` is the latest operation that changed the row, as 16
/// bytes; `status` is [`Participation::number`](crate::challenge::Participation::number).
const TABLES: &str = "
CREATE TABLE challenges (
  id INTEGER PRIMARY KEY,
  title TEXT NOT NULL,
  description TEXT NOT NULL,
  max_participants INTEGER NOT NULL,
  start_ms INTEGER NOT NULL,
  end_ms INTEGER NOT NULL,
  distance TEXT NOT NULL,
  password TEXT,
  broadcast INTEGER NOT NULL,
  created_by INTEGER NOT NULL,
  created_ms INTEGER NOT NULL,
  updated_ms INTEGER NOT NULL,
  participants INTEGER NOT NULL DEFAULT 0,
  ranked INTEGER NOT NULL DEFAULT 0,
  ended INTEGER NOT NULL DEFAULT 0,
  op BLOB NOT NULL
);
CREATE UNIQUE INDEX challenges_by_op ON challenges (op);
CREATE INDEX challenges_to_come ON challenges (start_ms) WHERE ended = 0;
CREATE TABLE participants (
  id INTEGER PRIMARY KEY,
  challenge INTEGER NOT NULL,
  user INTEGER NOT NULL,
  status INTEGER NOT NULL,
  joined_ms INTEGER NOT NULL,
  changed_ms INTEGER NOT NULL,
  entered_ms INTEGER,
  entry INTEGER NOT NULL DEFAULT 0,
  distance REAL NOT NULL DEFAULT 0,
  pace REAL NOT NULL DEFAULT 0,
  average_pace REAL,
  rank INTEGER,
  op BLOB NOT NULL,
  UNIQUE (challenge, user)
);
CREATE INDEX participants_ranked ON participants (challenge, rank) WHERE rank IS NOT NULL;
CREATE INDEX participants_in ON participants (challenge) WHERE status = 1;
CREATE INDEX participants_entries ON participants (entry);
";

/// The database in a data directory.
pub fn file(data_dir: &Path) -> PathBuf {
    schema::directory(data_dir).join("challenges.sqlite")
}
