//! What is found, by either way, against a model that looks at every message.

use proptest::prelude::*;

use super::*;
use crate::chat::OpId;
use crate::index::fixture::{Logs, Said, seq};
use crate::index::store::{LogName, Progress, Store};
use crate::journal::record::{RoomChange, RoomRecord};

const ROOMS: [&str; 4] = ["a", "b", "c", "d"];
const USER: UserId = 1;
const PER_FILE: usize = 20;

/// A change of the user's membership behind a message: joined, or left.
type Change = (u64, usize);

struct Story {
    logs: Logs,
    /// For each room, between which messages the user was in it.
    stays: Vec<Vec<(u64, u64)>>,
    rev: u64,
}

/// Somebody else is in all rooms. The index knows of messages up to `known`, and has so many files.
fn story(rooms: &[usize], mut changes: Vec<Change>, known: u64, files: u64) -> Story {
    let said = rooms.iter().enumerate().map(|(at, room)| Said {
        room: ROOMS[*room],
        sender: "alice",
        content: format!("message {}", at + 1),
        ms: 0,
    });
    let logs = Logs::new(&ROOMS.map(|room| (room, 2)), said.collect(), PER_FILE);
    let store = Store::open(logs.path()).unwrap().unwrap();
    let mut stays = vec![Vec::new(); ROOMS.len()];
    let mut inside = [None; ROOMS.len()];
    let mut rev = ROOMS.len() as u64;
    changes.sort_unstable();
    for (after_seq, room) in changes {
        rev += 1;
        let (op, room_id) = (OpId { instance: 1, count: rev }, ROOMS[room].to_owned());
        let change = match inside[room].take() {
            None => {
                inside[room] = Some(after_seq);
                RoomChange::Joined { op, room_id, users: vec![USER], by: 2 }
            }
            Some(since) => {
                stays[room].push((since, after_seq));
                RoomChange::Left { op, room_id, user: USER, deleted: false }
            }
        };
        store.apply_room(&RoomRecord { rev, change, at: 0, after_seq, synced: 0 }).unwrap();
    }
    for (room, since) in inside.iter().enumerate() {
        stays[room].extend(since.map(|since| (since, u64::MAX)));
    }
    for (seq, room) in (1..=known).zip(rooms) {
        store.set_last_seq(ROOMS[*room], seq).unwrap();
    }
    store.set_progress(LogName::Messages, Progress { last: known, ..Progress::default() }).unwrap();
    logs.index(files);
    Story { logs, stays, rev }
}

/// Messages, and what was missing.
type Told = (Vec<u64>, Vec<(u64, u64)>);

type Finder = fn(Log<'_>, &Absence, u64) -> Result<Option<(Piece, Missed)>, ReadError>;

impl Story {
    fn missed(&self, rooms: &[usize], after: u64, upto: u64) -> Vec<u64> {
        let due = |seq: u64| {
            let room = rooms[usize::try_from(seq).unwrap() - 1];
            self.stays[room].iter().any(|&(from, to)| from < seq && seq <= to)
        };
        (after + 1..=upto).filter(|seq| due(*seq)).collect()
    }

    /// All messages of all pieces; `None`: too much.
    fn find(&self, finder: Finder, after: u64, upto: u64, most: u64) -> Option<Vec<u64>> {
        let (all, holes) = self.find_all(finder, after, upto, most)?;
        assert_eq!(holes, []);
        Some(all)
    }

    /// All pieces, and what was missing.
    fn find_all(&self, finder: Finder, after: u64, upto: u64, most: u64) -> Option<Told> {
        let history = History::open(self.logs.path()).unwrap();
        let log = Log { data_dir: self.logs.path(), history: &history };
        let mut absence = Absence { user: USER, after, upto, rev: self.rev };
        let (mut piece, missed) = finder(log, &absence, most).unwrap()?;
        let (mut all, mut holes) = (Vec::new(), Vec::new());
        loop {
            holes.append(&mut piece.holes);
            for (number, fields) in &piece.messages {
                assert_eq!(seq(fields), *number);
                all.push(*number);
            }
            assert!(piece.upto > absence.after || piece.upto == upto);
            if piece.upto == upto {
                return Some((all, holes));
            }
            absence.after = piece.upto;
            piece = missed.read(log, &absence).unwrap();
        }
    }
}

/// Changes bytes of messages, each in the middle of its line.
fn damage(logs: &Logs, seqs: &[u64]) {
    for seq in seqs {
        let number = (seq - 1) / PER_FILE as u64 + 1;
        let path = crate::journal::segment::Segment::at(logs.path(), number).path;
        let mut bytes = std::fs::read(&path).unwrap();
        let at = memchr::memmem::find(&bytes, format!("{{\"seq\":{seq},").as_bytes()).unwrap();
        bytes[at + 30] ^= 1;
        std::fs::write(path, bytes).unwrap();
    }
}

#[test]
fn what_is_damaged_is_a_hole_however_it_was_found() {
    let rooms: Vec<usize> = (0..100).map(|at| at % 4).collect();
    let bad = [1, 30, 41, 42, 60, 61, 90, 100];
    let expected = vec![(30, 30), (41, 42), (60, 61), (90, 90), (100, 100)];
    for (indexed, late) in [(0, false), (2, false), (5, false), (2, true), (5, true)] {
        let story =
            story(&rooms, (0..4).map(|room| (0, room)).collect(), 100, if late { indexed } else { 0 });
        damage(&story.logs, &bad);
        story.logs.index(indexed);
        for finder in [short as Finder, long as Finder] {
            let (found, holes) = story.find_all(finder, 10, 100, 99).unwrap();
            assert_eq!(found, (11..=100).filter(|seq| !bad.contains(seq)).collect::<Vec<u64>>());
            assert_eq!(holes, expected, "{indexed} {late}");
            // Files that are gone, the one that is written to last excepted.
            let number = 2;
            let path = crate::journal::segment::Segment::at(story.logs.path(), number).path;
            let bytes = std::fs::read(&path).unwrap();
            std::fs::remove_file(&path).unwrap();
            if indexed > 1 {
                let (found, holes) = story.find_all(finder, 25, 80, 99).unwrap();
                assert_eq!(found, (43..=80).filter(|seq| !bad.contains(seq)).collect::<Vec<u64>>());
                assert_eq!(holes, [(26, 42), (60, 61)], "{indexed} {late}");
            }
            std::fs::write(path, bytes).unwrap();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn both_ways_find_what_was_due(
        rooms in prop::collection::vec(0..ROOMS.len(), 1..120),
        changes in prop::collection::vec((0..120u64, 0..ROOMS.len()), 0..12),
        cuts in prop::array::uniform4(0.0..=1.0f64),
    ) {
        let count = rooms.len() as u64;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a share")]
        let share = |of: u64, cut: f64| (of as f64 * cut) as u64;
        let changes = changes.into_iter().map(|(after, room)| (after.min(count), room)).collect();
        let known = share(count, cuts[0]);
        let story = story(&rooms, changes, known, share(count / PER_FILE as u64, cuts[1]));
        let after = share(count, cuts[2]);
        let upto = after + share(count - after, cuts[3]);
        let expected = story.missed(&rooms, after, upto);
        let most = expected.len() as u64;
        for finder in [short as Finder, long as Finder] {
            let found = story.find(finder, after, upto, most);
            prop_assert_eq!(found.as_ref(), Some(&expected));
            if most > 0 {
                prop_assert_eq!(story.find(finder, after, upto, most - 1), None);
            }
        }
    }
}

#[test]
fn more_than_a_piece_comes_in_pieces() {
    let rooms: Vec<usize> = (0..3_000).map(|at| at % 3).collect();
    let story = story(&rooms, vec![(0, 0), (0, 1), (1_000, 1), (2_000, 1)], 2_900, 100);
    let expected = story.missed(&rooms, 10, 3_000);
    for finder in [short as Finder, long as Finder, Missed::find as Finder] {
        assert_eq!(story.find(finder, 10, 3_000, 10_000).as_ref(), Some(&expected));
    }
}

#[test]
fn changes_after_coming_back_change_nothing_before_it() {
    let rooms = vec![0; 30];
    let mut story = story(&rooms, vec![(0, 0), (20, 0)], 30, 1);
    assert_eq!(story.find(short, 10, 25, 99), Some((11..=20).collect()));
    story.rev -= 1; // The user left, but only after coming back.
    assert_eq!(story.find(short, 10, 25, 99), Some((11..=25).collect()));
    assert_eq!(story.find(long, 10, 25, 99), Some((11..=25).collect()));
    story.rev -= 1; // And joined after coming back.
    assert_eq!(story.find(short, 10, 25, 99), Some(vec![]));
}

#[test]
fn a_room_that_is_gone_is_still_found() {
    let rooms = vec![0; 60];
    let story = story(&rooms, vec![(0, 0)], 60, 0);
    let store = Store::open(story.logs.path()).unwrap().unwrap();
    let op = OpId { instance: 1, count: 99 };
    for (rev, user, deleted) in [(story.rev + 1, 2, false), (story.rev + 2, USER, true)] {
        let change = RoomChange::Left { op, room_id: "a".into(), user, deleted };
        store.apply_room(&RoomRecord { rev, change, at: 0, after_seq: 50, synced: 0 }).unwrap();
    }
    let story = Story { rev: story.rev + 2, ..story };
    for finder in [short as Finder, long as Finder] {
        assert_eq!(story.find(finder, 30, 60, 99), Some((31..=50).collect()));
    }
    story.logs.index(2);
    for finder in [short as Finder, long as Finder] {
        assert_eq!(story.find(finder, 30, 60, 99), Some((31..=50).collect()));
    }
}
