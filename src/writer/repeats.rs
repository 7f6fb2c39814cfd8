//! Which changes were done lately, so that a retry is answered like the first time.
//!
//! Only where an operation's records begin is kept; what came of it is read from the log again,
//! which is rare and exact, also when a crash kept only some of its records: those that a retry adds
//! stand elsewhere, and each such run is kept.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::path::Path;

use smallvec::SmallVec;

use crate::chat::OpId;
use crate::config::REMEMBERED_CHANGES;
use crate::index::store::LogName;
use crate::journal::JournalError;
use crate::journal::lines::Lines;
use crate::journal::record::{self, Record};

/// The latest operations of which the logs have records.
#[derive(Default)]
pub struct Repeats {
    order: VecDeque<OpId>,
    places: HashMap<OpId, Places, foldhash::fast::RandomState>,
    /// Whose record was the last one of users and of rooms.
    last: [Option<OpId>; 2],
}

/// An operation changes one log only.
struct Places {
    log: LogName,
    /// Where its runs of records begin.
    runs: SmallVec<[u64; 1]>,
}

/// Runs that are kept of one operation: every one but the first is a crash in the midst of it.
const RUNS: usize = 64;

impl Repeats {
    /// Remembers that a record of an operation begins at a byte of a log. Records have to come in order;
    /// of those that follow each other the first counts.
    pub fn add(&mut self, log: LogName, op: OpId, byte: u64) {
        let last = self.last[usize::from(log == LogName::Rooms)].replace(op);
        if let Some(places) = self.places.get_mut(&op) {
            if last != Some(op) && places.runs.len() < RUNS {
                places.runs.push(byte);
            }
            return;
        }
        if self.order.len() == REMEMBERED_CHANGES
            && let Some(oldest) = self.order.pop_front()
        {
            self.places.remove(&oldest);
        }
        self.order.push_back(op);
        self.places.insert(op, Places { log, runs: SmallVec::from([byte]) });
    }

    /// Whether there are records of an operation.
    pub fn knows(&self, op: OpId) -> bool {
        self.places.contains_key(&op)
    }

    /// Where runs of an operation's records begin in a log.
    pub fn find(&self, log: LogName, op: OpId) -> &[u64] {
        self.places.get(&op).filter(|places| places.log == log).map_or(&[], |places| &places.runs)
    }

    /// A log was compacted: what began at byte `tail` or behind it is so many bytes further to the
    /// front, and what was before it is forgotten.
    pub fn moved(&mut self, log: LogName, tail: u64, bytes: u64) {
        let Repeats { order, places, .. } = self;
        places.retain(|_, places| {
            if places.log == log {
                places.runs.retain(|byte| *byte >= tail);
                places.runs.iter_mut().for_each(|byte| *byte -= bytes);
            }
            !places.runs.is_empty()
        });
        order.retain(|op| places.contains_key(op));
    }
}

/// Reads the records of one operation, given where its runs of them begin.
///
/// # Errors
/// The log can't be read.
pub fn read<R: Record>(path: &Path, runs: &[u64], op: OpId) -> Result<Vec<R>, JournalError> {
    let mut records = Vec::new();
    if runs.is_empty() {
        return Ok(records);
    }
    let file = File::open(path).map_err(JournalError::io(path))?;
    for &byte in runs {
        let mut lines = Lines::new(&file, byte);
        while let Some(line) = lines.next_line().map_err(JournalError::io(path))? {
            match record::decode::<R>(line.bytes) {
                Ok(record) if record.op() == op => records.push(record),
                _ => break,
            }
        }
    }
    Ok(records)
}
