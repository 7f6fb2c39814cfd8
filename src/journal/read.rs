//! Answers a room's history from the logs, while the writer appends to them.
//!
//! Message files are searched for the room's id as text, which runs at memory speed; only lines
//! that hold it are read as records, and their sums checked.

use std::collections::VecDeque;
use std::fs::File;
use std::path::Path;

use memchr::memmem::Finder;

use super::JournalError;
use super::lines::{self, BlocksBack, Lines};
use super::record::{self, Message};
use super::segment::{self, Segment};

/// Which messages of a room are asked for. All bounds given must hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// Only those with a lower `seq`.
    pub before: Option<u64>,
    /// Only those with a higher `seq`.
    pub after: Option<u64>,
    /// Only those of this Unix time in milliseconds or later.
    pub since_ms: Option<i64>,
}

/// The messages of a room in a window, ascending by `seq`: of each the fields that clients see, as
/// a JSON object without its braces. With `after` or `since_ms` given, the first `limit`; else the
/// newest.
///
/// # Errors
/// A file can't be read, or a message of the room is damaged.
pub fn history(
    data_dir: &Path,
    room_id: &str,
    window: Window,
    limit: usize,
) -> Result<Vec<String>, JournalError> {
    let Ok(quoted) = serde_json::to_string(room_id) else {
        return Ok(Vec::new()); // No string fails to be written.
    };
    let search = Search { room_id, needle: format!(",\"roomId\":{quoted},"), window, limit };
    let segments = segment::list(data_dir)?;
    if limit == 0 {
        return Ok(Vec::new());
    }
    if window.after.is_some() || window.since_ms.is_some() {
        search.first(segments)
    } else {
        search.newest(&segments)
    }
}

struct Search<'a> {
    room_id: &'a str,
    /// How the room's id looks in a line. No content looks like it: its quotation marks would be
    /// escaped.
    needle: String,
    window: Window,
    limit: usize,
}

impl Search<'_> {
    fn newest(&self, segments: &[Segment]) -> Result<Vec<String>, JournalError> {
        let finder = Finder::new(&self.needle);
        let (mut found, mut hits) = (VecDeque::new(), Vec::new());
        for segment in segments.iter().rev() {
            let path = &segment.path;
            let wrap = |source| JournalError::Io { path: path.clone(), source };
            let (file, end) = open(path)?;
            let end = match self.window.before {
                Some(before) => segment::find_after(&file, end, before.saturating_sub(1)).map_err(wrap)?,
                None => lines::last_line_end(&file, end).map_err(wrap)?,
            };
            let mut blocks = BlocksBack::new(&file, end);
            while let Some((start, block)) = blocks.next_block().map_err(wrap)? {
                // The search runs several times faster forward than backward.
                hits.clear();
                hits.extend(finder.find_iter(block));
                for &at in hits.iter().rev() {
                    let (from, to) = line_around(block, at);
                    if let Some(fields) = self.accept(path, start + from as u64, &block[from..to])? {
                        found.push_front(fields);
                    }
                    if found.len() == self.limit {
                        return Ok(found.into());
                    }
                }
            }
        }
        Ok(found.into())
    }

    fn first(&self, segments: Vec<Segment>) -> Result<Vec<String>, JournalError> {
        let finder = Finder::new(&self.needle);
        let mut found = Vec::new();
        for segment in self.starting(segments)? {
            let path = &segment.path;
            let wrap = |source| JournalError::Io { path: path.clone(), source };
            let (file, end) = open(path)?;
            let start = segment::find_after(&file, end, self.window.after.unwrap_or(0)).map_err(wrap)?;
            let mut lines = Lines::up_to(&file, start, end);
            while let Some(line) = lines.next_line().map_err(wrap)? {
                if self.is_behind(line.bytes) {
                    return Ok(found);
                }
                if !line.finished || finder.find(line.bytes).is_none() {
                    continue;
                }
                found.extend(self.accept(path, line.start, line.bytes)?);
                if found.len() == self.limit {
                    return Ok(found);
                }
            }
        }
        Ok(found)
    }

    /// The files to search, oldest first.
    fn starting(&self, segments: Vec<Segment>) -> Result<Vec<Segment>, JournalError> {
        let mut segments = segment::since(segments, self.window.after.unwrap_or(0))?;
        let Some(since_ms) = self.window.since_ms else {
            return Ok(segments);
        };
        // Clocks may be set back, so the times of files are not quite in order: the newest file that
        // begins before the time asked for, and all behind it.
        let mut start = 0;
        for (at, segment) in segments.iter().enumerate().skip(1).rev() {
            let (file, _) = open(&segment.path)?;
            let mut lines = Lines::new(&file, 0);
            let first = lines.next_line().map_err(JournalError::io(&segment.path))?;
            let first = first.and_then(|line| record::decode_message(line.bytes).ok());
            if first.is_some_and(|first| first.timestamp_ms < since_ms) {
                start = at;
                break;
            }
        }
        segments.drain(..start);
        Ok(segments)
    }

    fn is_behind(&self, line: &[u8]) -> bool {
        match (self.window.before, record::leading_number(line)) {
            (Some(before), Some(seq)) => seq >= before,
            _ => false,
        }
    }

    /// A line that looks like the room's: its fields, if it is in the window.
    fn accept(&self, path: &Path, byte: u64, line: &[u8]) -> Result<Option<String>, JournalError> {
        let damaged = |what| JournalError::Damaged { path: path.to_owned(), line: 0, byte, what };
        let message = record::decode_message(line).map_err(|error| damaged(error.to_string()))?;
        if message.room_id != self.room_id || !self.window.holds(&message) {
            return Ok(None);
        }
        match record::client_fields(line) {
            Some(fields) => Ok(Some(fields.to_owned())),
            None => Err(damaged("no fields for clients".to_owned())),
        }
    }
}

impl Window {
    fn holds(&self, message: &Message<'_>) -> bool {
        self.before.is_none_or(|before| message.seq < before)
            && self.after.is_none_or(|after| message.seq > after)
            && self.since_ms.is_none_or(|since_ms| message.timestamp_ms >= since_ms)
    }
}

/// The line of a block that byte `at` is in.
fn line_around(block: &[u8], at: usize) -> (usize, usize) {
    let from = memchr::memrchr(b'\n', &block[..at]).map_or(0, |found| found + 1);
    let to = memchr::memchr(b'\n', &block[at..]).map_or(block.len(), |found| at + found);
    (from, to)
}

/// Opens a log for reading; answers its length, too.
///
/// # Errors
/// It can't be opened.
pub(super) fn open(path: &Path) -> Result<(File, u64), JournalError> {
    let file = File::open(path).map_err(JournalError::io(path))?;
    let end = file.metadata().map_err(JournalError::io(path))?.len();
    Ok((file, end))
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;
    use crate::chat::OpId;
    use crate::journal::stamp::Stamp;

    /// Three files of 100 messages in three rooms, one second apart, and the torn beginning of
    /// another.
    fn logs() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let mut stamp = Stamp::default();
        for number in 1..=3u64 {
            let mut text = Vec::new();
            for seq in (number - 1) * 100 + 1..=number * 100 {
                let room = ["a", "b \"quoted\"", "한글"][usize::try_from(seq % 3).unwrap()];
                let message = Message {
                    seq,
                    id: OpId { instance: 1, count: seq },
                    room_id: Cow::Borrowed(room),
                    sender: Cow::Borrowed("alice"),
                    content: Cow::Owned(format!(r#"{seq},"roomId":"a","#)),
                    timestamp_ms: i64::try_from(seq).unwrap() * 1_000,
                    client_id: None,
                    user: 7,
                    synced: 0,
                };
                record::encode_message(&message, &mut stamp, &mut text);
            }
            if number == 3 {
                text.extend_from_slice(br#"{"seq":301,"id":"0","roomId":"a","sen"#);
            }
            std::fs::write(Segment::at(dir.path(), number).path, text).unwrap();
        }
        dir
    }

    fn seqs(dir: &Path, room: &str, window: Window, limit: usize) -> Vec<u64> {
        let messages = history(dir, room, window, limit).unwrap();
        let seq = |fields: &String| {
            let json: serde_json::Value = serde_json::from_str(&format!("{{{fields}}}")).unwrap();
            assert_eq!((json["roomId"].as_str(), json.get("userId")), (Some(room), None));
            json["seq"].as_u64().unwrap()
        };
        messages.iter().map(seq).collect()
    }

    #[test]
    fn the_newest_come_in_ascending_order() {
        let dir = logs();
        let all = |room: &str| seqs(dir.path(), room, Window::default(), 1_000);
        assert_eq!(all("a"), (1..=100).map(|n| n * 3).collect::<Vec<u64>>());
        assert_eq!(all("b \"quoted\"").len(), 100);
        assert_eq!(all("한글").len(), 100);
        assert_eq!(all("b").len(), 0);
        assert_eq!(seqs(dir.path(), "a", Window::default(), 2), [297, 300]);
        let window = Window { before: Some(201), ..Window::default() };
        assert_eq!(seqs(dir.path(), "a", window, 3), [192, 195, 198]);
        assert_eq!(seqs(dir.path(), "a", Window { before: Some(0), ..window }, 3), [0; 0]);
    }

    #[test]
    fn after_a_point_the_first_come_first() {
        let dir = logs();
        let after = |after| Window { after: Some(after), ..Window::default() };
        assert_eq!(seqs(dir.path(), "a", after(99), 3), [102, 105, 108]);
        assert_eq!(seqs(dir.path(), "a", after(0), 1), [3]);
        assert_eq!(seqs(dir.path(), "a", after(297), 9), [300]);
        assert_eq!(seqs(dir.path(), "a", after(300), 9), [0; 0]);
        let between = Window { before: Some(106), ..after(99) };
        assert_eq!(seqs(dir.path(), "a", between, 9), [102, 105]);
    }

    #[test]
    fn since_a_time_the_first_come_first() {
        let dir = logs();
        let since = |ms| Window { since_ms: Some(ms), ..Window::default() };
        assert_eq!(seqs(dir.path(), "a", since(150_000), 3), [150, 153, 156]);
        assert_eq!(seqs(dir.path(), "a", since(150_001), 1), [153]);
        assert_eq!(seqs(dir.path(), "a", since(-5), 1), [3]);
        assert_eq!(seqs(dir.path(), "a", since(300_001), 1), [0; 0]);
    }

    #[test]
    fn a_damaged_message_of_the_room_is_an_error_and_of_another_is_not() {
        let dir = logs();
        let path = Segment::at(dir.path(), 2).path;
        let mut bytes = std::fs::read(&path).unwrap();
        let content = memchr::memmem::find(&bytes, b"content").unwrap();
        bytes[content] ^= 1; // In message 101, of room 한글.
        std::fs::write(&path, bytes).unwrap();
        assert!(history(dir.path(), "a", Window::default(), 1_000).is_ok());
        let error = history(dir.path(), "한글", Window::default(), 1_000).unwrap_err();
        assert!(error.to_string().contains("messages_000002.jsonl"), "{error}");
    }
}
