//! The log files as operators see them: the newest by name, all of them in sum, and how far the index is
//! behind.

use serde_json::{Value, json};

use crate::journal::segment::Segment;

/// Message files named in a report, at most: the newest.
pub const FILES_NAMED: usize = 16;

/// Files of users, of rooms and of challenges, which stand before those of messages.
const OTHERS: usize = 3;

/// One log file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileState {
    /// Its name in the data directory.
    pub name: String,
    /// Records in it.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What is in files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Records.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// All log files.
#[derive(Clone, Debug, Default)]
pub struct Files {
    /// Users, rooms, challenges, then the newest ones of messages, oldest first.
    pub named: Vec<FileState>,
    /// What is in older files of messages.
    pub older: Amount,
    /// Number of the last file of messages that is in the index, or before the first that there is.
    pub indexed: u64,
}

impl Files {
    /// Notes the size of a file; one that is not known is a new one of messages.
    pub fn set(&mut self, name: &str, records: u64, bytes: u64) {
        match self.named.iter_mut().rev().find(|file| file.name == name) {
            Some(file) => (file.records, file.bytes) = (records, bytes),
            None => {
                self.named.push(FileState { name: name.to_owned(), records, bytes });
                if self.named.len() > OTHERS + FILES_NAMED {
                    let FileState { records, bytes, .. } = self.named.remove(OTHERS);
                    self.older.records += records;
                    self.older.bytes += bytes;
                }
            }
        }
    }

    /// Files of messages before a number are there no longer.
    pub fn forget_before(&mut self, first: u64) {
        let mut place = 0;
        self.named.retain(|file| {
            place += 1;
            place <= OTHERS || Segment::number_of(&file.name).is_some_and(|number| number >= first)
        });
        // What is deleted are all there are but the newest.
        self.older = Amount::default();
        self.indexed = self.indexed.max(first.saturating_sub(1));
    }

    /// Full files of messages that are not in the index.
    pub fn lag(&self) -> u64 {
        let newest = self.named.last().and_then(|file| Segment::number_of(&file.name)).unwrap_or(0);
        newest.saturating_sub(1).saturating_sub(self.indexed)
    }

    /// Each file that is named.
    pub fn report(&self) -> Value {
        let file =
            |file: &FileState| json!({"name": file.name, "records": file.records, "bytes": file.bytes});
        self.named.iter().map(file).collect()
    }

    /// What is in each log.
    pub fn logs(&self) -> Value {
        let (others, messages) = self.named.split_at(OTHERS.min(self.named.len()));
        let amount = |files: &[FileState], older: Amount| {
            json!({
                "records": older.records + files.iter().map(|file| file.records).sum::<u64>(),
                "bytes": older.bytes + files.iter().map(|file| file.bytes).sum::<u64>(),
            })
        };
        let other = |at: usize| amount(others.get(at..=at).unwrap_or_default(), Amount::default());
        json!({
            "users": other(0),
            "chatrooms": other(1),
            "challenges": other(2),
            "messages": amount(messages, self.older),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> Files {
        let named = ["users.jsonl", "chatrooms.jsonl", "challenges.jsonl", "messages_000007.jsonl"];
        let named = named
            .map(|name| FileState { name: name.to_owned(), records: 1, bytes: 10 })
            .into_iter()
            .collect();
        Files { named, older: Amount { records: 600, bytes: 6_000 }, indexed: 5 }
    }

    #[test]
    fn sums_count_files_that_are_no_longer_named() {
        let mut files = files();
        assert_eq!(files.lag(), 1);
        for number in 8..30 {
            files.set(&format!("messages_{number:06}.jsonl"), 1, 10);
        }
        files.set("messages_000029.jsonl", 3, 30);
        files.set("users.jsonl", 2, 20);
        assert_eq!(files.named.len(), OTHERS + FILES_NAMED);
        assert_eq!(files.logs()["messages"], json!({"records": 625, "bytes": 6_250}));
        assert_eq!(files.logs()["users"], json!({"records": 2, "bytes": 20}));
        assert_eq!(files.logs()["chatrooms"], json!({"records": 1, "bytes": 10}));
        files.indexed = 28;
        assert_eq!(files.lag(), 0);
    }

    #[test]
    fn deleted_files_count_no_more() {
        let mut files = files();
        files.set("messages_000008.jsonl", 0, 0);
        files.forget_before(8);
        assert_eq!(files.logs()["messages"], json!({"records": 0, "bytes": 0}));
        assert_eq!((files.lag(), files.named.len()), (0, OTHERS + 1));
    }
}
