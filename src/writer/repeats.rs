//! Which changes were done lately, so that a retry is answered like the first time.
//!
//! Only where an operation's records begin is kept; what came of it is read from the log again,
//! which is rare and exact, also when a crash kept only some of its records.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::path::Path;

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
    places: HashMap<OpId, (LogName, u64), foldhash::fast::RandomState>,
}

impl Repeats {
    /// Remembers that a record of an operation begins at a byte of a log. Of several the first counts.
    pub fn add(&mut self, log: LogName, op: OpId, byte: u64) {
        if self.places.contains_key(&op) {
            return;
        }
        if self.order.len() == REMEMBERED_CHANGES
            && let Some(oldest) = self.order.pop_front()
        {
            self.places.remove(&oldest);
        }
        self.order.push_back(op);
        self.places.insert(op, (log, byte));
    }

    /// Whether there are records of an operation.
    pub fn knows(&self, op: OpId) -> bool {
        self.places.contains_key(&op)
    }

    /// Where the records of an operation begin in a log, if they are there.
    pub fn find(&self, log: LogName, op: OpId) -> Option<u64> {
        self.places.get(&op).filter(|(its, _)| *its == log).map(|(_, byte)| *byte)
    }
}

/// Reads the records of one operation.
///
/// # Errors
/// The log can't be read.
pub fn read<R: Record>(path: &Path, byte: u64, op: OpId) -> Result<Vec<R>, JournalError> {
    let file = File::open(path).map_err(JournalError::io(path))?;
    let mut lines = Lines::new(&file, byte);
    let mut records = Vec::new();
    while let Some(line) = lines.next_line().map_err(JournalError::io(path))? {
        match record::decode::<R>(line.bytes) {
            Ok(record) if record.op() == op => records.push(record),
            _ => break,
        }
    }
    Ok(records)
}
