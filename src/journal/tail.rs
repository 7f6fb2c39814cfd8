//! Where the messages of the newest files stand: those the index does not have yet.
//!
//! Each reading process keeps one. It follows the files as they grow, up to what has been published,
//! and drops a file once the index has it. A room stands in it as a sum of its id: 12 bytes a
//! message; who reads at a place finds out whether it is the room's.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::JournalError;
use super::places::{Located, Place};
use super::read::Window;
use super::recover::From;
use super::segment::{self, Segment};
use super::walk::{self, Passed};

/// Messages kept track of in all files together, at 12 bytes each. Of further files the places are
/// found anew each time they are asked for.
const TAIL_MESSAGES: usize = 512 << 10;

/// Messages kept track of in one file alone, whatever the others have: only who sets files to be larger
/// than the bound above comes near it. A still larger file is read anew for each question.
const FILE_MESSAGES: usize = 8 << 20;

/// Messages of one block, within which places are sorted by room.
const BLOCK_MESSAGES: usize = 4_096;

/// The newest files.
pub struct Tail {
    data_dir: PathBuf,
    /// Without gaps in their order, oldest first.
    files: VecDeque<Followed>,
    /// Messages kept track of, at most.
    most: usize,
    /// The same for one file alone.
    most_of_one: usize,
}

/// One file and how far it was read.
struct Followed {
    number: u64,
    path: PathBuf,
    /// `None`: it is not read yet, or was dropped to save memory.
    read: Option<Reading>,
}

struct Reading {
    file: File,
    /// Where to read on.
    next: From,
    blocks: Vec<Block>,
    messages: usize,
}

/// Some messages in a row.
struct Block {
    first: Place,
    last_seq: u64,
    /// The latest of their times, in Unix milliseconds.
    upto_ms: i64,
    /// Sorted by room once the block is full.
    entries: Vec<Entry>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    /// Sum of the room's id.
    room: u32,
    /// Distance from the block's first message.
    seq: u32,
    /// The same in bytes.
    byte: u32,
}

impl Tail {
    /// Nothing is read yet.
    pub fn new(data_dir: &Path) -> Tail {
        Tail {
            data_dir: data_dir.to_owned(),
            files: VecDeque::new(),
            most: TAIL_MESSAGES,
            most_of_one: FILE_MESSAGES,
        }
    }

    /// Learns which files there are behind number `indexed`; answers their numbers, oldest first.
    /// `upto` is the last message that may be asked for.
    ///
    /// # Errors
    /// A file can't be read.
    pub fn follow(&mut self, indexed: u64, upto: u64) -> Result<Vec<u64>, JournalError> {
        while self.files.front().is_some_and(|file| file.number <= indexed) {
            self.files.pop_front();
        }
        let behind = self.files.front().is_none_or(|file| file.number > indexed + 1);
        if behind || !self.files.back_mut().is_some_and(Followed::is_there) {
            self.list(indexed)?;
        }
        // The newest file tells whether there is another one behind it.
        while let Some(newest) = self.files.back_mut() {
            newest.read_on(upto)?;
            let number = newest.number + 1;
            if newest.next_seq() > upto {
                break;
            }
            let next = Segment::at(&self.data_dir, number);
            if !next.path.try_exists().map_err(JournalError::io(&next.path))? {
                break;
            }
            self.files.push_back(Followed { number, path: next.path, read: None });
        }
        self.drop_beyond(None);
        Ok(self.files.iter().map(|file| file.number).collect())
    }

    /// Where in a file messages may stand that are in a room and a window, ascending. Some of them may
    /// be of another room or of an earlier time.
    ///
    /// # Errors
    /// The file can't be read. One that is gone has no messages.
    pub fn places(
        &mut self,
        number: u64,
        room_id: &str,
        window: Window,
        upto: u64,
    ) -> Result<Vec<Located>, JournalError> {
        let Some(at) = self.files.iter().position(|file| file.number == number) else {
            // Somebody who knows of a newer index has dropped it since.
            let path = Segment::at(&self.data_dir, number).path;
            return Followed { number, path, read: None }.places(room_id, window, upto);
        };
        let places = self.files[at].places(room_id, window, upto);
        self.drop_beyond(Some(at));
        places
    }

    fn list(&mut self, indexed: u64) -> Result<(), JournalError> {
        let segments = segment::list(&self.data_dir)?;
        let mut known = std::mem::take(&mut self.files);
        known.retain_mut(Followed::is_there);
        for Segment { number, path } in segments.into_iter().filter(|segment| segment.number > indexed) {
            let read = known.iter_mut().find(|file| file.number == number).and_then(|file| file.read.take());
            self.files.push_back(Followed { number, path, read });
        }
        Ok(())
    }

    /// Keeps to the bound: drops the oldest first, and last the newest and the one just asked for.
    fn drop_beyond(&mut self, asked: Option<usize>) {
        let newest = self.files.len().saturating_sub(1);
        let mut messages: usize = self.files.iter().map(Followed::messages).sum();
        for (at, file) in self.files.iter_mut().enumerate() {
            if messages > self.most && at != newest && Some(at) != asked {
                messages -= file.messages();
                file.read = None;
            }
        }
        for file in self.files.iter_mut().filter(|file| file.messages() > self.most_of_one) {
            file.read = None;
        }
    }
}

impl Followed {
    fn places(&mut self, room_id: &str, window: Window, upto: u64) -> Result<Vec<Located>, JournalError> {
        self.read_on(upto)?;
        let (room, mut places) = (sum(room_id), Vec::new());
        for block in self.read.iter().flat_map(|reading| &reading.blocks) {
            block.collect(room, window, &mut places);
        }
        places.sort_unstable();
        Ok(places.into_iter().map(|place| Located { segment: self.number, place }).collect())
    }

    /// Whether the file that is being read is still the one of that name.
    fn is_there(&mut self) -> bool {
        match &self.read {
            Some(reading) => reading.file.metadata().is_ok_and(|data| data.nlink() > 0),
            None => self.path.exists(),
        }
    }

    fn messages(&self) -> usize {
        self.read.as_ref().map_or(0, |reading| reading.messages)
    }

    fn next_seq(&self) -> u64 {
        self.read.as_ref().map_or(0, |reading| reading.next.number)
    }

    /// Reads what was appended since, up to a message.
    fn read_on(&mut self, upto: u64) -> Result<(), JournalError> {
        let reading = match &mut self.read {
            Some(reading) => reading,
            None => match File::open(&self.path) {
                Ok(file) => {
                    let next = From { byte: 0, number: 0 };
                    self.read.insert(Reading { file, next, blocks: Vec::new(), messages: 0 })
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(source) => return Err(JournalError::Io { path: self.path.clone(), source }),
            },
        };
        if reading.next.number > upto {
            return Ok(());
        }
        let Reading { file, next, blocks, messages } = reading;
        *next = walk::walk(&*file, &self.path, *next, upto, &mut |passed| {
            note(blocks, &passed);
            *messages += 1;
            true
        })?;
        Ok(())
    }
}

fn note(blocks: &mut Vec<Block>, passed: &Passed<'_>) {
    let Passed { place, room_id, timestamp_ms, .. } = *passed;
    // A damaged line's time is not known: it is within any window, so that its damage is found.
    let ms = timestamp_ms.unwrap_or(i64::MAX);
    if let Some(block) = blocks.last_mut()
        && let Some(entry) = block.entry(room_id, place)
    {
        block.entries.push(entry);
        block.last_seq = place.seq;
        block.upto_ms = block.upto_ms.max(ms);
        if block.is_full() {
            block.entries.sort_unstable();
            block.entries.shrink_to_fit();
        }
        return;
    }
    let entries = vec![Entry { room: sum(room_id), seq: 0, byte: 0 }];
    blocks.push(Block { first: place, last_seq: place.seq, upto_ms: ms, entries });
}

impl Block {
    /// A further entry; `None`: the block is full, or the message too far from its first.
    fn entry(&self, room_id: &str, place: Place) -> Option<Entry> {
        if self.is_full() {
            return None;
        }
        let seq = u32::try_from(place.seq.checked_sub(self.first.seq)?).ok()?;
        let byte = u32::try_from(place.byte.checked_sub(self.first.byte)?).ok()?;
        Some(Entry { room: sum(room_id), seq, byte })
    }

    fn is_full(&self) -> bool {
        self.entries.len() >= BLOCK_MESSAGES
    }

    fn collect(&self, room: u32, window: Window, places: &mut Vec<Place>) {
        let Window { before, after, since_ms } = window;
        if before.is_some_and(|before| self.first.seq >= before)
            || after.is_some_and(|after| self.last_seq <= after)
            || since_ms.is_some_and(|since_ms| self.upto_ms < since_ms)
        {
            return;
        }
        // The newest block is not sorted.
        let entries = match self.is_full() {
            true => &self.entries[self.entries.partition_point(|entry| entry.room < room)..],
            false => &self.entries[..],
        };
        for entry in entries {
            if entry.room == room {
                let seq = self.first.seq + u64::from(entry.seq);
                if window.holds_seq(seq) {
                    places.push(Place { seq, byte: self.first.byte + u64::from(entry.byte) });
                }
            } else if self.is_full() {
                break;
            }
        }
    }
}

fn sum(room_id: &str) -> u32 {
    crc32fast::hash(room_id.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;
    use crate::chat::OpId;
    use crate::journal::record::{self, Message};
    use crate::journal::stamp::Stamp;

    const ROOMS: [&str; 3] = ["a", "b", "c"];

    /// Files of 5,000 messages, more than a block has.
    fn logs(files: u64) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for number in 1..=files {
            let mut text = Vec::new();
            for seq in (number - 1) * 5_000 + 1..=number * 5_000 {
                let message = Message {
                    seq,
                    id: OpId { instance: 1, count: seq },
                    room_id: Cow::Borrowed(ROOMS[usize::try_from(seq % 3).unwrap()]),
                    sender: Cow::Borrowed("alice"),
                    content: Cow::Borrowed("hello"),
                    timestamp_ms: i64::try_from(seq).unwrap(),
                    client_id: None,
                    user: 7,
                    imported: None,
                    synced: 0,
                };
                record::encode_message(&message, &mut Stamp::default(), &mut text);
            }
            std::fs::write(Segment::at(dir.path(), number).path, text).unwrap();
        }
        dir
    }

    fn seqs(tail: &mut Tail, number: u64, room: &str, window: Window) -> Vec<u64> {
        let places = tail.places(number, room, window, u64::MAX).unwrap();
        assert!(places.iter().all(|at| at.segment == number));
        places.into_iter().map(|at| at.place.seq).collect()
    }

    #[test]
    fn memory_is_bounded_and_answers_are_not() {
        let dir = logs(4);
        let mut tail = Tail::new(dir.path());
        tail.most = 7_000;
        assert_eq!(tail.follow(0, u64::MAX).unwrap(), [1, 2, 3, 4]);
        for _ in 0..2 {
            for number in [1, 4, 3, 2, 1] {
                let expected: Vec<u64> =
                    ((number - 1) * 5_000 + 1..=number * 5_000).filter(|seq| seq % 3 == 1).collect();
                assert_eq!(seqs(&mut tail, number, "b", Window::default()), expected);
                // The newest, which is followed, and the one asked for.
                assert!(tail.files.iter().filter(|file| file.messages() > 0).count() <= 2);
            }
        }
        // One file alone is more than may be kept.
        (tail.most, tail.most_of_one) = (100, 4_000);
        assert_eq!(seqs(&mut tail, 4, "c", Window::default()).len(), 1_667);
        assert_eq!(tail.files.iter().map(Followed::messages).sum::<usize>(), 0);
        assert_eq!(seqs(&mut tail, 4, "c", Window::default()).len(), 1_667);
    }

    #[test]
    fn windows_leave_out_what_is_outside() {
        let dir = logs(1);
        let mut tail = Tail::new(dir.path());
        tail.follow(0, u64::MAX).unwrap();
        let window = Window { before: Some(4_500), after: Some(4_490), since_ms: Some(4_097) };
        assert_eq!(seqs(&mut tail, 1, "a", window), [4_491, 4_494, 4_497]);
        // Of the block that reaches the time, all.
        let since = Window { since_ms: Some(4_097), ..Window::default() };
        assert_eq!(seqs(&mut tail, 1, "a", since)[0], 4_098);
        assert_eq!(tail.follow(1, u64::MAX).unwrap(), [0; 0]);
        assert_eq!(tail.follow(0, u64::MAX).unwrap(), [1], "an index that goes back");
    }
}
