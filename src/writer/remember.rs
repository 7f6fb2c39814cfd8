//! Reads the latest messages back into the window in which repetitions are recognised.
//!
//! A sealed file may be damaged: what can't be read of it leaves places of which nothing is known, so
//! that all others keep theirs. A repetition of such a message would be stored again; it is one that a
//! client sends after the disk has spoilt the first, within the window.

use std::fs::File;
use std::path::Path;

use super::sequence::Sequence;
use crate::journal::check::Problem;
use crate::journal::lines::Lines;
use crate::journal::record::{self, Message};
use crate::journal::segment::{self, Segment};
use crate::journal::{JournalError, recover};

/// The order after message `last`, with the latest `window` messages before its end. Notes the first
/// fault of each damaged file.
///
/// # Errors
/// The directory can't be read.
pub fn remember(
    data_dir: &Path,
    last: u64,
    window: usize,
    damage: &mut Vec<Problem>,
) -> Result<Sequence, JournalError> {
    let before = last.saturating_sub(window as u64);
    let mut back = Back { sequence: Sequence::new(before, window), before, last, window };
    let listed = segment::list(data_dir)?;
    // A first line that can't be read tells nothing; then all files are looked into.
    let segments = segment::since(listed.clone(), before).unwrap_or(listed);
    for segment in &segments {
        if let Err(error) = back.read(segment) {
            damage.push(problem(error));
        }
    }
    back.fill(last + 1);
    Ok(back.sequence)
}

struct Back {
    sequence: Sequence,
    before: u64,
    last: u64,
    window: usize,
}

impl Back {
    /// Reads a file to its end; the error is the first fault in it.
    fn read(&mut self, segment: &Segment) -> Result<(), JournalError> {
        let path = &segment.path;
        let file = File::open(path).map_err(JournalError::io(path))?;
        let end = file.metadata().map_err(JournalError::io(path))?.len();
        let after = self.sequence.next() - 1;
        let byte = segment::find_after(&file, end, after).map_err(JournalError::io(path))?;
        let mut lines = Lines::new(&file, byte);
        let mut first = None;
        while let Some(line) = lines.next_line().map_err(JournalError::io(path))? {
            let what = match record::decode_message(line.bytes) {
                Ok(_) if !line.finished => Some("the line has no end".to_owned()),
                Ok(message) => self.take(&message),
                Err(error) => Some(error.to_string()),
            };
            if let Some(what) = what {
                first.get_or_insert((line.start, what));
            }
        }
        match first {
            Some((byte, what)) => Err(recover::damaged(&file, path, byte, what)),
            None => Ok(()),
        }
    }

    /// Puts a message in its place; says what is wrong with that.
    fn take(&mut self, message: &Message<'_>) -> Option<String> {
        let (seq, next) = (message.seq, self.sequence.next());
        if seq <= self.before || seq < next || seq > self.last {
            let known = seq <= self.before;
            return (!known).then(|| format!("number {seq} where {next} belongs"));
        }
        let begins = next == self.before + 1;
        if seq > next && begins {
            // Older files have been taken away.
            self.sequence = Sequence::new(seq - 1, self.window);
        }
        self.fill(seq);
        let client_id = message.client_id.as_deref();
        self.sequence.recall(message.id, message.user, client_id, message.timestamp_ms);
        (seq > next && !begins).then(|| format!("number {seq} where {next} belongs"))
    }

    fn fill(&mut self, next: u64) {
        while self.sequence.next() < next {
            self.sequence.recall_unknown();
        }
    }
}

/// What an operator is told of a file that can't be read whole.
pub fn problem(error: JournalError) -> Problem {
    match error {
        JournalError::Damaged { path, line, byte, what } => Problem { path, line, byte, what },
        JournalError::Io { path, source } => {
            Problem { path, line: 0, byte: 0, what: format!("can't be read: {source}") }
        }
    }
}
