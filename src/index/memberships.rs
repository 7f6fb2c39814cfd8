//! Applies many records of rooms at once: what a start finds in the log and the index does not have.
//!
//! One by one, each membership is a row in a random place of two trees and of the counts. Here the
//! memberships of up to [`MOST_EVENTS`] records are gathered, brought into the order of each tree, and put
//! in along it, in one transaction that also says how far it came: a process killed in the middle goes on
//! at the last of these. What is in the index afterwards is the same.

use rusqlite::{OptionalExtension, params};

use super::IndexError;
use super::apply::first_joined;
use super::store::Store;
use crate::chat::UserId;
use crate::journal::record::{NOBODY, RoomChange, RoomRecord};

/// Beginnings and ends of memberships gathered before they are put in: some 100 MB.
pub const MOST_EVENTS: usize = 2 << 20;

/// Somebody came into a room or left it, or, when that has been put together, a membership to be added or
/// removed.
#[derive(Clone, Copy)]
struct Event {
    user: UserId,
    room: i64,
    /// Its place in the order of all joining and leaving.
    at: i64,
    /// The last message before it.
    after_seq: u64,
    /// Place in `left`; [`CAME`]: none.
    left: u32,
}

/// Marks those who came, or a membership to be added.
const CAME: u32 = u32::MAX;

/// What is remembered of an end beside the rest.
struct Left {
    room_id: String,
    rev: u64,
}

/// An ended membership to be remembered.
struct Departure {
    user: UserId,
    left: u32,
    joined: i64,
    after_seq: u64,
    upto_seq: u64,
}

/// Records that were taken up and are not in the index yet.
pub struct Memberships<'s> {
    store: &'s Store,
    events: Vec<Event>,
    left: Vec<Left>,
    most: usize,
    /// Rooms with a higher key had no members when the last events were put in.
    known: i64,
}

impl<'s> Memberships<'s> {
    /// None yet. The index has all records up to number `done`.
    pub fn behind(store: &'s Store, done: u64) -> Memberships<'s> {
        let known = i64::try_from(done).unwrap_or(i64::MAX);
        Memberships { store, events: Vec::new(), left: Vec::new(), most: MOST_EVENTS, known }
    }

    /// Whether it is time to [`Self::put`].
    pub fn is_full(&self) -> bool {
        // An end takes as much room as several beginnings.
        self.events.len() + 3 * self.left.len() >= self.most
    }

    /// Takes up a record, within a transaction. As for [`Store::apply_room`], records of rooms that are not
    /// there, and of members that are there already, change nothing.
    ///
    /// # Errors
    /// The index can't be read or written; so for all below.
    pub fn take(&mut self, record: &RoomRecord) -> Result<(), IndexError> {
        match &record.change {
            RoomChange::Created { members, .. } => {
                let key = self.store.insert_room(record)?;
                self.came(key, record, members);
            }
            RoomChange::Joined { room_id, users, .. } => {
                if let Some(room) = self.store.room(room_id)? {
                    self.came(room.key, record, users);
                }
            }
            RoomChange::Left { room_id, user, deleted, .. } => {
                if let Some(room) = self.store.room(room_id)? {
                    let left = u32::try_from(self.left.len()).unwrap_or(CAME - 1);
                    self.left.push(Left { room_id: room_id.clone(), rev: record.rev });
                    let at = first_joined(record.rev);
                    self.events.push(Event {
                        user: *user,
                        room: room.key,
                        at,
                        after_seq: record.after_seq,
                        left,
                    });
                    if *deleted {
                        self.store.delete_room(room.key)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn came(&mut self, room: i64, record: &RoomRecord, users: &[UserId]) {
        let after_seq = record.after_seq;
        // A compacted record has nobody in the places of those who have left.
        let places = (first_joined(record.rev)..).zip(users).filter(|(_, user)| **user != NOBODY);
        self.events.extend(places.map(|(at, user)| Event { user: *user, room, at, after_seq, left: CAME }));
    }

    /// Puts in what was taken up, within the same transaction; `done` is the last of those records.
    pub fn put(&mut self, done: u64) -> Result<(), IndexError> {
        let mut events = std::mem::take(&mut self.events);
        events.sort_unstable_by_key(|event| (event.user, event.room, event.at));
        let mut departures = Vec::new();
        self.put_by_user(&mut events, &mut departures)?;
        events.sort_unstable_by_key(|event| (event.room, event.at));
        self.put_by_room(&events)?;
        departures.sort_unstable_by_key(|departure| departure.left);
        for Departure { user, left, joined, after_seq, upto_seq } in departures {
            if let Some(Left { room_id, rev }) = self.left.get(left as usize) {
                self.store.remember_departure((user, room_id), (joined, after_seq), (*rev, upto_seq))?;
            }
        }
        self.left.clear();
        events.clear();
        self.events = events;
        self.known = i64::try_from(done).unwrap_or(i64::MAX);
        Ok(())
    }

    /// Puts together what happened to each user in each room, in that order, and leaves in `events` what
    /// comes of it.
    fn put_by_user(
        &self,
        events: &mut Vec<Event>,
        departures: &mut Vec<Departure>,
    ) -> Result<(), IndexError> {
        let index = &self.store.connection;
        let sql = "SELECT joined, after_seq FROM memberships WHERE user = ?1 AND room = ?2";
        let mut find = index.prepare_cached(sql)?;
        let sql = "INSERT INTO memberships (user, room, joined, after_seq) VALUES (?1, ?2, ?3, ?4)";
        let mut insert = index.prepare_cached(sql)?;
        let mut delete = index.prepare_cached("DELETE FROM memberships WHERE user = ?1 AND room = ?2")?;
        let (mut read, mut written) = (0, 0);
        let (mut counted, mut more) = (0, 0);
        while let Some(&first) = events.get(read) {
            let (user, room) = (first.user, first.room);
            if user != counted {
                self.store.count_rooms(counted, more)?;
                (counted, more) = (user, 0);
            }
            let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
            let before: Option<(i64, u64)> = match room > self.known {
                true => None,
                false => find.query_row(params![user, room], row).optional()?,
            };
            let mut now = before;
            while let Some(event) = events.get(read).filter(|event| (event.user, event.room) == (user, room))
            {
                if event.left == CAME {
                    now = now.or(Some((event.at, event.after_seq)));
                } else if let Some((joined, after_seq)) = now.take() {
                    let (left, upto_seq) = (event.left, event.after_seq);
                    departures.push(Departure { user, left, joined, after_seq, upto_seq });
                }
                read += 1;
            }
            if now == before {
                continue;
            }
            // A removal and an addition take two events at least: nothing unread is written over.
            if let Some((joined, after_seq)) = before {
                delete.execute(params![user, room])?;
                events[written] = Event { user, room, at: joined, after_seq, left: 0 };
                (written, more) = (written + 1, more - 1);
            }
            if let Some((joined, after_seq)) = now {
                insert.execute(params![user, room, joined, after_seq])?;
                events[written] = Event { user, room, at: joined, after_seq, left: CAME };
                (written, more) = (written + 1, more + 1);
            }
        }
        self.store.count_rooms(counted, more)?;
        events.truncate(written);
        Ok(())
    }

    fn put_by_room(&self, events: &[Event]) -> Result<(), IndexError> {
        let index = &self.store.connection;
        let mut insert =
            index.prepare_cached("INSERT INTO members (room, joined, user) VALUES (?1, ?2, ?3)")?;
        let mut delete = index.prepare_cached("DELETE FROM members WHERE room = ?1 AND joined = ?2")?;
        let sql = "UPDATE rooms SET members = members + ?2 WHERE key = ?1";
        let mut count = index.prepare_cached(sql)?;
        for of_room in events.chunk_by(|a, b| a.room == b.room) {
            let mut more = 0i64;
            for Event { user, room, at, left, .. } in of_room {
                if *left == CAME {
                    insert.execute(params![room, at, user])?;
                    more += 1;
                } else {
                    delete.execute(params![room, at])?;
                    more -= 1;
                }
            }
            count.execute(params![of_room[0].room, more])?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rusqlite::types::Value;

    use super::*;
    use crate::chat::OpId;

    /// What happens to a room: who asks for what of which one.
    #[derive(Clone, Debug)]
    enum Wish {
        Create(Vec<u64>),
        Join(usize, Vec<u64>),
        Leave(usize, u64),
        /// The last one out, or somebody a broken log says was.
        Close(usize, u64),
    }

    fn wish() -> impl Strategy<Value = Wish> {
        let users = || prop::collection::vec(0u64..6, 0..5);
        prop_oneof![
            2 => users().prop_map(Wish::Create),
            4 => (0usize..5, users()).prop_map(|(room, users)| Wish::Join(room, users)),
            6 => (0usize..5, 1u64..6).prop_map(|(room, user)| Wish::Leave(room, user)),
            1 => (0usize..5, 1u64..6).prop_map(|(room, user)| Wish::Close(room, user)),
        ]
    }

    fn records(wishes: Vec<Wish>) -> Vec<RoomRecord> {
        let mut rooms = Vec::new();
        let record = |(rev, wish): (u64, Wish)| {
            let op = OpId { instance: 1, count: rev };
            let room = |rooms: &[String], at: usize| {
                rooms.get(at % rooms.len().max(1)).cloned().unwrap_or_else(|| "nowhere".to_owned())
            };
            let change = match wish {
                Wish::Create(mut members) => {
                    members.sort_unstable();
                    members.dedup();
                    let room_id = format!("room {rev}");
                    rooms.push(room_id.clone());
                    let (name, open, created_by, source) = (String::new(), false, 1, None);
                    RoomChange::Created { op, room_id, name, open, created_by, members, source }
                }
                Wish::Join(at, users) => RoomChange::Joined { op, room_id: room(&rooms, at), users, by: 1 },
                Wish::Leave(at, user) => {
                    RoomChange::Left { op, room_id: room(&rooms, at), user, deleted: false }
                }
                Wish::Close(at, user) => {
                    RoomChange::Left { op, room_id: room(&rooms, at), user, deleted: true }
                }
            };
            RoomRecord { rev, change, at: 0, after_seq: rev * 10, synced: 0 }
        };
        (1..).zip(wishes).map(record).collect()
    }

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::create(&dir.path().join("index")).unwrap();
        (dir, store)
    }

    fn dump(store: &Store) -> Vec<Vec<Value>> {
        let mut all = Vec::new();
        for table in ["rooms", "memberships", "members", "room_counts", "departures"] {
            let mut statement =
                store.connection.prepare(&format!("SELECT * FROM {table} ORDER BY 1, 2")).unwrap();
            let columns = statement.column_count();
            let rows = statement.query_map([], |row| (0..columns).map(|at| row.get(at)).collect()).unwrap();
            all.extend(rows.map(|row: rusqlite::Result<Vec<Value>>| row.unwrap()));
        }
        all
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn many_at_once_are_the_same_as_one_by_one(
            wishes in prop::collection::vec(wish(), 1..80),
            alone in 0usize..30,
            most in 1usize..60,
        ) {
            let records = records(wishes);
            let ((_one, expected), (_other, store)) = (self::store(), self::store());
            for record in &records {
                expected.apply_room(record).unwrap();
            }
            let alone = alone.min(records.len());
            records[..alone].iter().for_each(|record| store.apply_room(record).unwrap());
            let mut many = Memberships { most, ..Memberships::behind(&store, alone as u64) };
            for record in &records[alone..] {
                many.take(record).unwrap();
                if many.is_full() {
                    many.put(record.rev).unwrap();
                }
            }
            many.put(records.len() as u64).unwrap();
            prop_assert_eq!(dump(&store), dump(&expected));
        }
    }
}
