use proptest::prelude::*;

use super::*;
use crate::index::fixture::{Logs, Said, line, seq};
use crate::journal::segment::Segment;

const ROOMS: [(&str, u64); 3] = [("a", 1), ("b \"quoted\"", 1), ("한글", 2)];

fn said(room: usize, ms: i64) -> Said {
    // Contents that look like other rooms' lines.
    Said { room: ROOMS[room].0, sender: "alice", content: r#","roomId":"a","#.to_owned(), ms }
}

/// Five files of 100 messages in three rooms, one second apart.
fn logs() -> Logs {
    let said = (1..=500).map(|seq| said(seq % 3, i64::try_from(seq).unwrap() * 1_000)).collect();
    Logs::new(&ROOMS, said, 100)
}

fn seqs(history: &History, room: &str, window: Window, limit: usize) -> Vec<u64> {
    history.read(room, window, limit).unwrap().iter().map(|fields| seq(fields)).collect()
}

/// What a look at all messages would answer.
fn model(logs: &Logs, room: &str, window: Window, limit: usize) -> Vec<u64> {
    let all = (1..).zip(&logs.said).filter(|(seq, said)| {
        said.room == room
            && window.holds_seq(*seq)
            && window.since_ms.is_none_or(|since_ms| said.ms >= since_ms)
    });
    let all: Vec<u64> = all.map(|(seq, _)| seq).collect();
    if window.after.is_some() || window.since_ms.is_some() {
        return all[..all.len().min(limit)].to_vec();
    }
    all[all.len().saturating_sub(limit)..].to_vec()
}

fn with(before: Option<u64>, after: Option<u64>, since_ms: Option<i64>) -> Window {
    Window { before, after, since_ms }
}

#[test]
fn every_depth_however_much_the_index_has() {
    let logs = logs();
    let history = History::open(logs.path()).unwrap();
    for indexed in 0..=5 {
        logs.index(indexed);
        for room in ["a", "b \"quoted\"", "한글", "b", "nowhere"] {
            for at in [0, 1, 2, 99, 100, 101, 102, 250, 299, 300, 301, 400, 499, 500, 501] {
                for limit in [0, 1, 3, 40, 1_000] {
                    let since = i64::try_from(at).unwrap() * 1_000;
                    for window in [
                        with(Some(at), None, None),
                        with(Some(501), Some(at), None),
                        with(Some(at), Some(at.saturating_sub(120)), None),
                        with(Some(501), None, Some(since)),
                        with(Some(400), Some(at / 2), Some(since + 1)),
                        Window::default(),
                    ] {
                        let found = seqs(&history, room, window, limit);
                        assert_eq!(
                            found,
                            model(&logs, room, window, limit),
                            "{indexed} {room} {window:?} {limit}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn nothing_behind_what_is_published_is_read_or_remembered() {
    let logs = logs();
    logs.index(4);
    let history = History::open(logs.path()).unwrap();
    let newest = |before| seqs(&history, "a", with(Some(before), None, None), 2);
    assert_eq!(newest(451), [447, 450]);
    // The file is cut back to there and goes on in another way.
    let path = Segment::at(logs.path(), 5).path;
    let bytes = std::fs::read(&path).unwrap();
    let cut = memchr::memmem::find(&bytes, b"{\"seq\":451,").unwrap();
    let mut other = bytes[..cut].to_vec();
    for number in 451..=460 {
        line(number, &Said { content: "other text of another length".to_owned(), ..said(0, 1) }, &mut other);
    }
    other.extend_from_slice(br#"{"seq":461,"id":"0","roomId":"a","sen"#);
    std::fs::write(&path, other).unwrap();
    assert_eq!(newest(461), [459, 460]);
    assert_eq!(newest(u64::MAX), [459, 460], "nothing of what is not finished");
}

#[test]
fn files_follow_each_other_while_they_are_read() {
    let logs = logs();
    logs.index(1);
    let last = Segment::at(logs.path(), 5).path;
    let bytes = std::fs::read(&last).unwrap();
    std::fs::remove_file(&last).unwrap();
    let history = History::open(logs.path()).unwrap();
    let newest = |before| seqs(&history, "a", with(Some(before), None, None), 2);
    assert_eq!(newest(401), [396, 399]);
    std::fs::write(&last, bytes).unwrap();
    assert_eq!(newest(501), [495, 498]);
    logs.index(3);
    assert_eq!(newest(501), [495, 498]);
    assert_eq!(newest(301), [297, 300]);
}

#[test]
fn files_that_are_gone_have_no_messages() {
    let logs = logs();
    logs.index(3);
    let history = History::open(logs.path()).unwrap();
    assert_eq!(seqs(&history, "a", Window::default(), 1_000).len(), 166);
    for number in [1, 2, 4, 5] {
        std::fs::remove_file(Segment::at(logs.path(), number).path).unwrap();
    }
    assert_eq!(
        seqs(&history, "a", Window::default(), 1_000),
        (67..=100).map(|n| n * 3).collect::<Vec<u64>>()
    );
    assert_eq!(seqs(&history, "a", with(None, Some(0), None), 1), [201]);
    // Another file comes behind them.
    let mut text = Vec::new();
    line(501, &said(0, 501_000), &mut text);
    std::fs::write(Segment::at(logs.path(), 6).path, text).unwrap();
    assert_eq!(seqs(&history, "a", Window::default(), 1), [501]);
}

#[test]
fn what_is_damaged_is_left_out() {
    for indexed in [0, 5] {
        // Damaged before the index is made, and after it.
        for late in [false, true] {
            let logs = logs();
            if late {
                logs.index(indexed);
            }
            let path = Segment::at(logs.path(), 2).path;
            let mut bytes = std::fs::read(&path).unwrap();
            let content = memchr::memmem::find(&bytes, b"content").unwrap();
            bytes[content] ^= 1; // In message 101, of room 한글.
            std::fs::write(&path, bytes).unwrap();
            logs.index(indexed);
            let history = History::open(logs.path()).unwrap();
            assert_eq!(seqs(&history, "a", Window::default(), 1_000).len(), 166);
            assert_eq!(seqs(&history, "한글", with(None, Some(101), None), 1), [104]);
            assert_eq!(seqs(&history, "한글", with(Some(101), None, None), 1), [98]);
            let rest = seqs(&history, "한글", Window::default(), 1_000);
            let mut all = model(&logs, "한글", Window::default(), 1_000);
            all.retain(|seq| *seq != 101);
            assert_eq!(rest, all);
            assert_eq!(seqs(&history, "한글", with(None, Some(98), None), 2), [104, 107]);
            assert_eq!(seqs(&history, "한글", with(Some(107), None, None), 2), [98, 104]);
            let look = history.look("한글", Window::default(), 1_000).unwrap();
            let unknown = history.unknown(0, 500, 1_000).unwrap();
            // By who knew its room, or by who knew that it is missing.
            let (known, nobody) = if late && indexed > 0 { (vec![101], vec![]) } else { (vec![], vec![101]) };
            assert_eq!((look.missing, unknown), (known, nobody));
        }
    }
}

#[test]
fn a_file_that_cannot_be_read_holds_up_no_later_one() {
    let logs = logs();
    let path = Segment::at(logs.path(), 3).path;
    let bytes = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap(); // It can be opened, and not be read.
    logs.index(5);
    let history = History::open(logs.path()).unwrap();
    let rest = |room: &str| -> Vec<u64> {
        let all = model(&logs, room, Window::default(), 1_000);
        all.into_iter().filter(|seq| !(201..=300).contains(seq)).collect()
    };
    for (room, _) in ROOMS {
        assert_eq!(seqs(&history, room, Window::default(), 1_000), rest(room));
        let first = seqs(&history, room, with(None, Some(190), None), 1_000);
        assert_eq!(first, rest(room).into_iter().filter(|seq| *seq > 190).collect::<Vec<u64>>());
    }
    let reader = crate::index::Reader::open(logs.path()).unwrap();
    let broken = reader.broken_files().unwrap();
    assert_eq!(
        broken.iter().map(|file| (file.number, file.first_seq, file.last_seq)).collect::<Vec<_>>(),
        [(3, 201, 300)]
    );
    // Restored from a copy.
    std::fs::remove_dir(&path).unwrap();
    std::fs::write(&path, bytes).unwrap();
    logs.index_again(3);
    assert!(reader.broken_files().unwrap().is_empty());
    for (room, _) in ROOMS {
        let all = model(&logs, room, Window::default(), 1_000);
        assert_eq!(seqs(&history, room, Window::default(), 1_000), all);
        assert_eq!(seqs(&history, room, with(None, Some(0), None), 1_000), all);
    }
}

#[test]
fn very_many_files_are_few_runs_and_every_depth_is_found() {
    let said = (1..=1_400usize).map(|seq| said(seq * seq % 7 % 3, i64::try_from(seq).unwrap())).collect();
    let logs = Logs::new(&ROOMS, said, 10);
    let history = History::open(logs.path()).unwrap();
    for indexed in [1, 7, 8, 9, 63, 64, 65, 100, 140] {
        logs.index(indexed);
        for (room, _) in ROOMS {
            for at in (0..1_410).step_by(97) {
                for window in [with(Some(at), None, None), with(None, Some(at), None)] {
                    assert_eq!(seqs(&history, room, window, 30), model(&logs, room, window, 30));
                }
            }
        }
    }
    let runs = crate::index::Reader::open(logs.path()).unwrap().runs().unwrap();
    assert_eq!(runs.iter().map(|run| run.level).collect::<Vec<_>>(), [2, 2, 1, 0, 0, 0, 0]);
    assert_eq!(runs.iter().map(|run| run.messages).sum::<u64>(), 1_400);
}

#[test]
fn a_run_that_is_lost_is_made_again() {
    let logs = logs();
    logs.index(4);
    let lost = crate::index::Reader::open(logs.path()).unwrap().runs().unwrap()[1];
    std::fs::remove_file(crate::index::runs::path(logs.path(), lost.id)).unwrap();
    let history = History::open(logs.path()).unwrap();
    assert_eq!(
        seqs(&history, "a", Window::default(), 1_000),
        model(&logs, "a", Window::default(), 1_000),
        "found without it"
    );
    let mut seen = |_, _, _| {};
    drop(crate::index::build::open(logs.path(), 500, &mut seen).unwrap());
    let reader = crate::index::Reader::open(logs.path()).unwrap();
    assert_eq!(reader.last_file().unwrap().unwrap().number, 1);
    for indexed in [1, 3, 5] {
        logs.index(indexed);
        let all = model(&logs, "a", Window::default(), 1_000);
        assert_eq!(seqs(&history, "a", Window::default(), 1_000), all);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn any_log_and_any_clock(
        said in prop::collection::vec((0usize..3, -50i64..50), 1..120),
        per_file in 1usize..40,
        indexed in 0u64..8,
        windows in prop::collection::vec(
            (prop::option::of(0u64..130), prop::option::of(0u64..130), prop::option::of(-60i64..60), 1usize..20),
            12,
        ),
    ) {
        let said = said.into_iter().map(|(room, ms)| self::said(room, ms)).collect();
        let logs = Logs::new(&ROOMS, said, per_file);
        let history = History::open(logs.path()).unwrap();
        let files = u64::try_from(logs.said.len().div_ceil(per_file)).unwrap();
        for indexed in [indexed.min(files - 1), files] {
            logs.index(indexed);
            for (before, after, since_ms, limit) in windows.iter().copied() {
                let window = with(before, after, since_ms);
                for (room, _) in ROOMS {
                    prop_assert_eq!(
                        seqs(&history, room, window, limit),
                        model(&logs, room, window, limit),
                        "{} {:?}", room, window
                    );
                }
            }
        }
    }
}

/// The files of all runs the index names, oldest first.
fn run_files(logs: &Logs) -> Vec<std::path::PathBuf> {
    let named = Reader::open(logs.path()).unwrap().runs().unwrap();
    named.iter().map(|run| runs::path(logs.path(), run.id)).collect()
}

fn assert_as_ever(logs: &Logs, history: &History) {
    for room in ["a", "b \"quoted\"", "한글", "nowhere"] {
        for at in [1, 100, 101, 250, 333, 500] {
            for limit in [1, 40, 1_000] {
                for window in [with(Some(at), None, None), with(Some(501), Some(at), None), Window::default()]
                {
                    let found = seqs(history, room, window, limit);
                    assert_eq!(found, model(logs, room, window, limit), "{room} {limit} {window:?}");
                }
            }
        }
    }
}

#[test]
fn a_run_that_is_gone_or_damaged_is_done_without() {
    let logs = logs();
    logs.index(4);
    let files = run_files(&logs);
    assert_eq!(files.len(), 4);
    for (at, file) in files.iter().enumerate() {
        let whole = std::fs::read(file).unwrap();
        let flipped = |byte: usize| {
            let mut bytes = whole.clone();
            bytes[byte] ^= 4;
            bytes
        };
        let (middle, end) = (flipped(whole.len() / 3), flipped(whole.len() - 2));
        // Found at the start, and by somebody who has it open.
        let open = History::open(logs.path()).unwrap();
        assert_as_ever(&logs, &open);
        for state in [None, Some(middle), Some(end), Some(Vec::new())] {
            match state {
                Some(bytes) => std::fs::write(file, bytes).unwrap(),
                None => std::fs::remove_file(file).unwrap(),
            }
            assert_as_ever(&logs, &History::open(logs.path()).unwrap());
            assert_as_ever(&logs, &open);
            std::fs::write(file, &whole).unwrap();
        }
        if at % 2 == 0 {
            std::fs::remove_file(file).unwrap();
        }
    }
    // Two of them at once.
    assert_as_ever(&logs, &History::open(logs.path()).unwrap());
}

/// Of a run of many files, one question reads a few; who asks for what is near has it.
#[test]
fn a_run_of_many_files_is_made_again_as_it_was() {
    let said = (1..=520u64).map(|seq| said(usize::from(seq <= 30), i64::try_from(seq).unwrap()));
    let logs = Logs::new(&ROOMS, said.collect(), 8);
    logs.index(64);
    let reader = Reader::open(logs.path()).unwrap();
    let lost = reader.runs().unwrap();
    assert_eq!((lost.len(), lost[0].level), (1, 2));
    let file = runs::path(logs.path(), lost[0].id);
    let whole = std::fs::read(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    let history = History::open(logs.path()).unwrap();
    assert_eq!(seqs(&history, "a", Window::default(), 20), (501..=520).collect::<Vec<_>>());
    let far = history.read("b \"quoted\"", Window::default(), 20);
    assert!(matches!(far, Err(ReadError::Index(IndexError::Remaking))), "{far:?}");
    assert_eq!(seqs(&history, "b \"quoted\"", with(Some(31), None, None), 20), (11..=30).collect::<Vec<_>>());

    assert_eq!(crate::index::remake::lost(logs.path(), &lost), lost);
    let found = crate::index::remake::remake(logs.path(), &reader, &lost[0], &mut || false).unwrap().unwrap();
    let store = crate::index::store::Store::open(logs.path()).unwrap().unwrap();
    for is_new in [true, false] {
        store.begin().unwrap();
        // Told twice, it is out of date, unless it has become the very same.
        let same = reader.runs().unwrap() == lost;
        assert_eq!(store.put_found(&found).unwrap(), is_new || same);
        store.commit().unwrap();
    }
    let made = reader.runs().unwrap();
    assert_eq!((made.len(), made[0].level, made[0].messages), (1, 2, 512));
    assert_eq!(std::fs::read(runs::path(logs.path(), made[0].id)).unwrap(), whole);
    assert_eq!(seqs(&history, "b \"quoted\"", Window::default(), 20), (11..=30).collect::<Vec<_>>());
    assert!(crate::index::remake::lost(logs.path(), &made).is_empty());
}
