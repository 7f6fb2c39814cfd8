//! Logs and an index for the tests of those who read messages.

use std::borrow::Cow;
use std::path::Path;

use super::sealed::{self, Found, SealedFile};
use super::store::{self, Store};
use super::{Reader, schema};
use crate::chat::OpId;
use crate::journal::record::{self, Message, RoomChange, RoomRecord};
use crate::journal::segment::{self, Segment};
use crate::journal::stamp::Stamp;

/// One message as a test wants it.
#[derive(Clone, Debug)]
pub struct Said {
    pub room: &'static str,
    pub sender: &'static str,
    pub content: String,
    pub ms: i64,
}

/// A data directory.
pub struct Logs {
    pub dir: tempfile::TempDir,
    pub said: Vec<Said>,
}

impl Logs {
    /// Message `seq` is the one at `seq - 1`; so many stand in each file. The index has the rooms, each
    /// of one member, and no file.
    pub fn new(rooms: &[(&str, u64)], said: Vec<Said>, per_file: usize) -> Logs {
        let dir = tempfile::tempdir().unwrap();
        for (at, of_file) in said.chunks(per_file).enumerate() {
            let mut text = Vec::new();
            for (within, message) in of_file.iter().enumerate() {
                line((at * per_file + within) as u64 + 1, message, &mut text);
            }
            std::fs::write(Segment::at(dir.path(), at as u64 + 1).path, text).unwrap();
        }
        store::make_directory(dir.path()).unwrap();
        let store = Store::create(&schema::file(dir.path())).unwrap();
        for (rev, (room_id, user)) in (1..).zip(rooms) {
            let change = RoomChange::Created {
                op: OpId { instance: 1, count: rev },
                room_id: (*room_id).to_owned(),
                name: "a room".to_owned(),
                open: false,
                created_by: *user,
                members: vec![*user],
                source: None,
            };
            store.apply_room(&RoomRecord { rev, change, at: 0, after_seq: 0, synced: 0 }).unwrap();
        }
        store.finish().unwrap();
        Logs { dir, said }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Puts the next files into the index, up to number `upto`.
    pub fn index(&self, upto: u64) {
        let store = Store::open(self.path()).unwrap().unwrap();
        let done = store.last_file().unwrap().map_or(0, |file| file.number);
        let segments = segment::list(self.path()).unwrap();
        for segment in segments.iter().filter(|segment| (done + 1..=upto).contains(&segment.number)) {
            self.index_file(&store, segment, store.last_file().unwrap());
        }
    }

    /// Reads a file again that is in the index.
    pub fn index_again(&self, number: u64) {
        let store = Store::open(self.path()).unwrap().unwrap();
        let before = Reader::open(self.path()).unwrap().files_before(number, 1).unwrap().pop();
        self.index_file(&store, &Segment::at(self.path(), number), before);
    }

    fn index_file(&self, store: &Store, segment: &Segment, before: Option<SealedFile>) {
        let added = sealed::read(self.path(), segment, before, &mut |_| {}, &mut || false);
        let mut found = Some(Found::Added(added.unwrap().unwrap()));
        while let Some(next) = found {
            store.begin().unwrap();
            assert!(store.put_found(&next).unwrap());
            store.commit().unwrap();
            found = sealed::merge(self.path(), &store.runs().unwrap(), &mut || false).unwrap();
        }
    }
}

/// The line of a message.
pub fn line(seq: u64, said: &Said, out: &mut Vec<u8>) {
    let message = Message {
        seq,
        id: OpId { instance: 1, count: seq },
        room_id: Cow::Borrowed(said.room),
        sender: Cow::Borrowed(said.sender),
        content: Cow::Borrowed(&said.content),
        timestamp_ms: said.ms,
        client_id: None,
        user: 7,
        imported: None,
        synced: 0,
    };
    record::encode_message(&message, &mut Stamp::default(), out);
}

/// The number of a message as clients see it.
pub fn seq(fields: &str) -> u64 {
    let json: serde_json::Value = serde_json::from_str(&format!("{{{fields}}}")).unwrap();
    assert!(json.get("userId").is_none() && json["content"].is_string());
    json["seq"].as_u64().unwrap()
}
