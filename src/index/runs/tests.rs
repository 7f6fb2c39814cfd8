use proptest::prelude::*;

use super::file::RunFile;
use super::merge::{FAN_IN, due, merge};
use super::writer::Writer;
use super::*;
use crate::journal::places::{Place, pack};

fn part(room: u64, first_seq: u64, segment: u64, count: u64) -> Part {
    let places: Vec<Place> = (0..count).map(|n| Place { seq: first_seq + n, byte: n * 300 }).collect();
    Part { room, first_seq, segment, count, places: pack(&places) }
}

fn write(dir: &Path, id: u64, segment: u64, (first_seq, last_seq): (u64, u64), parts: &[Part]) -> RunFile {
    let path = dir.join(id.to_string());
    let mut writer = Writer::create(&path, segment, first_seq).unwrap();
    parts.iter().for_each(|part| writer.push(part).unwrap());
    let (bytes, messages, sum) = writer.finish().unwrap();
    let (first_segment, last_segment) = (segment, segment);
    let run = Run { id, first_segment, last_segment, first_seq, last_seq, level: 0, bytes, messages, sum };
    RunFile::open(&path, run).unwrap()
}

fn before(file: &RunFile, room: u64, below: u64) -> Vec<Part> {
    let mut found = Vec::new();
    file.cursor()
        .before(room, below, &mut |part| {
            found.push(part);
            true
        })
        .unwrap();
    found
}

fn from(file: &RunFile, room: u64, from: u64) -> Vec<Part> {
    let mut found = Vec::new();
    file.cursor()
        .from(room, from, &mut |part| {
            found.push(part);
            true
        })
        .unwrap();
    found
}

/// Entries of many rooms in `files` files of messages, of which the seventh room has very many.
fn files(dir: &Path, rooms: u64, files: u64) -> (Vec<RunFile>, Vec<Part>) {
    let (mut all, mut runs) = (Vec::new(), Vec::new());
    for segment in 1..=files {
        let (first, mut seq, mut parts) = (segment * 1_000_000, segment * 1_000_000, Vec::new());
        for room in 0..rooms {
            for _ in 0..if room == 7 { 400 } else { u64::from((room + segment).is_multiple_of(3)) } {
                let count = 1 + (room * 7 + segment) % 60;
                parts.push(part(room << 40, seq, segment, count));
                seq += count;
            }
        }
        runs.push(write(dir, segment, segment, (first, seq - 1), &parts));
        all.extend(parts);
    }
    (runs, all)
}

fn check(file: &RunFile, all: &[Part], rooms: u64) {
    file.check(&mut |_| true).unwrap();
    assert_eq!(file.run.messages, all.iter().map(|part| part.count).sum::<u64>());
    for room in (0..rooms).map(|room| room << 40).chain([1, u64::MAX]) {
        let of_room: Vec<&Part> = all.iter().filter(|part| part.room == room).collect();
        let some = of_room.iter().step_by(of_room.len() / 9 + 1).map(|part| part.first_seq);
        for at in some.flat_map(|seq| [seq, seq + 1]).chain([0, u64::MAX]) {
            let mut expected: Vec<Part> =
                of_room.iter().filter(|part| part.first_seq < at).map(|part| (*part).clone()).collect();
            let found = before(file, room, at);
            expected.reverse();
            assert_eq!(found, expected, "room {room} before {at}");
            // Perhaps some that end before it, and all that don't.
            let (found, least) = (from(file, room, at), of_room.iter().filter(|part| part.first_seq >= at));
            assert!(found.len() - least.clone().count() <= 2, "room {room} from {at}");
            assert!(least.copied().eq(found.iter().filter(|part| part.first_seq >= at)));
            let over = of_room.iter().rev().find(|part| part.first_seq <= at);
            assert!(over.is_none_or(|part| found.contains(part)), "room {room} from {at}");
        }
    }
}

#[test]
fn every_entry_is_found_in_one_run_and_in_a_merged_one() {
    let dir = tempfile::tempdir().unwrap();
    for rooms in [1, 8, 3_000] {
        let (runs, mut all) = files(dir.path(), rooms, 5);
        for run in &runs {
            let of_run: Vec<Part> =
                all.iter().filter(|part| part.segment == run.run.first_segment).cloned().collect();
            check(run, &of_run, rooms.min(40));
        }
        let path = dir.path().join("merged");
        let merged = merge(&path, 9, &runs, &mut || false).unwrap().unwrap();
        assert_eq!((merged.level, merged.first_segment, merged.last_segment), (1, 1, 5));
        all.sort_by_key(|part| (part.room, part.first_seq));
        check(&RunFile::open(&path, merged).unwrap(), &all, rooms.min(40));
        if rooms == 3_000 {
            assert!(merge(&path, 9, &runs, &mut || true).unwrap().is_none());
        }
    }
}

#[test]
fn any_damage_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let run = files(dir.path(), 300, 1).0.remove(0).run;
    let path = dir.path().join("1");
    let whole = fs::read(&path).unwrap();
    let sound = || RunFile::open(&path, run).and_then(|file| file.check(&mut |_| true));
    sound().unwrap();
    for at in (0..whole.len()).step_by(7).chain(whole.len() - 120..whole.len()) {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        fs::write(&path, bytes).unwrap();
        let error = sound().expect_err("damage that nobody sees");
        assert!(
            matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof),
            "{at}: {error}"
        );
    }
    for length in [0, 10, 55, 56, 57, whole.len() - 1] {
        fs::write(&path, &whole[..length]).unwrap();
        assert_eq!(sound().unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
    fs::write(&path, &whole).unwrap();
    let other = Run { sum: run.sum ^ 1, ..run };
    assert!(RunFile::open(&path, other).is_err(), "a file of the same name from another time");
}

#[test]
fn runs_stay_few() {
    let run = |segment, level| Run {
        id: segment,
        first_segment: segment,
        last_segment: segment,
        first_seq: segment,
        last_seq: segment,
        level,
        bytes: 0,
        messages: 0,
        sum: 0,
    };
    let (mut runs, mut most, mut rewritten) = (Vec::new(), 0, 0);
    for segment in (1..=10_000).filter(|segment| *segment != 5_000) {
        runs.push(run(segment, 0));
        while let Some(inputs) = due(&runs) {
            let merged = Run {
                last_segment: inputs[FAN_IN - 1].last_segment,
                level: inputs[0].level + 1,
                ..inputs[0]
            };
            rewritten += merged.last_segment + 1 - merged.first_segment;
            runs.retain(|run| {
                run.first_segment < merged.first_segment || run.first_segment > merged.last_segment
            });
            let at = runs.partition_point(|run| run.first_segment < merged.first_segment);
            runs.insert(at, merged);
        }
        most = most.max(runs.len());
    }
    assert!(most <= 2 * 5 * (FAN_IN - 1), "{most}");
    assert!(rewritten < 5 * 10_000, "{rewritten}");
    assert!(runs.windows(2).all(|pair| pair[0].last_segment < pair[1].first_segment));
}

proptest! {
    #[test]
    fn ids_keep_their_sums_and_sums_differ(one in ".{0,40}", other in ".{0,40}") {
        prop_assert_eq!(one == other, room_sum(&one) == room_sum(&other));
        prop_assert_eq!(room_key(&one), room_key(&one));
    }
}

#[test]
fn sums_are_those_of_fnv_1a() {
    // From the test vectors that come with the published function.
    assert_eq!(room_sum(""), 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d);
    assert_eq!(room_sum("a"), 0xd228_cb69_6f1a_8caf_7891_2b70_4e4a_8964);
}

#[test]
fn only_files_that_nobody_names_are_swept() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(free_id(dir.path()).unwrap(), 1);
    for id in 1..=4 {
        fs::write(path(dir.path(), id), "x").unwrap();
    }
    assert_eq!(free_id(dir.path()).unwrap(), 5);
    let named = Run {
        id: 3,
        first_segment: 1,
        last_segment: 1,
        first_seq: 1,
        last_seq: 1,
        level: 0,
        bytes: 1,
        messages: 1,
        sum: 0,
    };
    sweep(dir.path(), &[named]).unwrap();
    assert_eq!(ids(dir.path()).unwrap(), [3]);
}
