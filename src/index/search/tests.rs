use proptest::prelude::*;

use super::*;
use crate::index::fixture::{Logs, Said, seq};

const ROOMS: [(&str, u64); 4] = [("a", 1), ("b", 1), ("c", 2), ("quiet", 1)];

const TEXTS: [&str; 4] = ["hello 안녕", "HELLO", "nothing", "a \\ \"hello\""];

/// 2,000 messages in files of 100; room `quiet` has two.
fn logs() -> Logs {
    let said = (1..=2_000usize).map(|seq| Said {
        room: if seq == 333 || seq == 1_666 { "quiet" } else { ROOMS[seq % 3].0 },
        sender: ["alice", "bob"][seq % 2],
        content: TEXTS[seq % 4].to_owned(),
        ms: i64::try_from(seq).unwrap() * 1_000,
    });
    Logs::new(&ROOMS, said.collect(), 100)
}

fn query(text: &str, rooms: Rooms, limit: usize) -> Query {
    let needle = Needle::new(text).unwrap();
    Query { needle, rooms, sender: None, from_ms: None, to_ms: None, before: u64::MAX, limit, work: u64::MAX }
}

/// One page, worked on by two threads.
fn page(logs: &Logs, query: Query) -> Found {
    let search = Search::new(logs.path(), query);
    let work = || search.work(&Reader::open(logs.path()).unwrap());
    let mut pages = std::thread::scope(|scope| {
        let other = scope.spawn(work);
        [work(), other.join().unwrap()].into_iter().flatten().collect::<Vec<_>>()
    });
    assert_eq!(pages.len(), 1, "one thread gets the page");
    pages.remove(0).unwrap()
}

/// All pages; `change` makes the rest of each query.
fn pages(
    logs: &Logs,
    text: &str,
    rooms: &Rooms,
    limit: usize,
    change: impl Fn(&mut Query),
) -> (Vec<u64>, usize) {
    let (mut all, mut count, mut before) = (Vec::new(), 0, u64::MAX);
    loop {
        let mut query = query(text, rooms.clone(), limit);
        change(&mut query);
        query.before = query.before.min(before);
        let found = page(logs, query);
        assert!(found.messages.len() <= limit);
        all.extend(found.messages.iter().map(|fields| seq(fields)));
        count += 1;
        match found.next {
            Some(next) => {
                assert!(next < before, "no page without progress");
                before = next;
            }
            None => return (all, count),
        }
    }
}

fn model(logs: &Logs, wanted: impl Fn(u64, &Said) -> bool) -> Vec<u64> {
    let all = (1..).zip(&logs.said).filter(|(seq, said)| wanted(*seq, said));
    let mut all: Vec<u64> = all.map(|(seq, _)| seq).collect();
    all.reverse();
    all
}

fn has(said: &Said, text: &str) -> bool {
    said.content.to_lowercase().contains(text)
}

#[test]
fn pages_together_are_everything_once() {
    let logs = logs();
    for indexed in [0, 7, 19, 20] {
        logs.index(indexed);
        for limit in [9, 100, 1_000] {
            let expected = model(&logs, |_, said| said.room == "c" && has(said, "hello"));
            let (found, count) = pages(&logs, "hello", &Rooms::Of(2), limit, |_| {});
            assert_eq!(found, expected, "{indexed} {limit}");
            assert_eq!(count, expected.len().div_ceil(limit), "a full last page is known to be the last");
        }
        let of_one = model(&logs, |_, said| said.room != "c" && has(said, "안녕"));
        assert_eq!(pages(&logs, "안녕", &Rooms::Of(1), 50, |_| {}).0, of_one);
        let quiet = Rooms::One("quiet".to_owned());
        let expected = model(&logs, |_, said| said.room == "quiet" && has(said, "hello"));
        assert_eq!(pages(&logs, "hello", &quiet, 50, |_| {}), (expected, 1));
        assert_eq!(pages(&logs, "hello", &Rooms::Of(9), 50, |_| {}), (vec![], 1), "a user without rooms");
        assert_eq!(pages(&logs, "hello", &Rooms::One("none".to_owned()), 50, |_| {}), (vec![], 1));
    }
}

#[test]
fn sender_times_and_position_narrow_a_search() {
    let logs = logs();
    for indexed in [0, 20] {
        logs.index(indexed);
        let expected = model(&logs, |seq, said| {
            has(said, "hello") && said.room != "c" && said.sender == "bob" && (250..=1_150).contains(&seq)
        });
        assert!(expected.len() > 50);
        let narrow = |query: &mut Query| {
            query.sender = Some("bob".to_owned());
            (query.from_ms, query.to_ms) = (Some(250_000), Some(1_150_000));
        };
        assert_eq!(pages(&logs, "hello", &Rooms::Of(1), 40, narrow).0, expected);
        let expected = model(&logs, |seq, said| has(said, "hello") && said.room != "c" && seq < 501);
        let before = |query: &mut Query| query.before = 501;
        assert_eq!(pages(&logs, "hello", &Rooms::Of(1), 1_000, before).0, expected);
    }
}

#[test]
fn a_page_ends_after_its_work_and_the_next_goes_on() {
    let logs = logs();
    for indexed in [0, 5, 20] {
        logs.index(indexed);
        for work in [1, 20_000, 100_000] {
            let short = |query: &mut Query| query.work = work;
            let expected = model(&logs, |_, said| said.room != "c" && has(said, "hello"));
            let (found, count) = pages(&logs, "hello", &Rooms::Of(1), 1_000, short);
            assert_eq!(found, expected, "{indexed} {work}");
            assert!(count > 2, "{count}");
            let (found, count) = pages(&logs, "not there", &Rooms::Of(1), 1_000, short);
            assert_eq!(found, [0; 0]);
            assert!(count > 2, "{count}");
        }
    }
}

#[test]
fn files_without_messages_of_the_rooms_are_not_opened() {
    let logs = logs();
    logs.index(20);
    // Room `quiet` is in files 4 and 17.
    for number in (1..=20).filter(|number| ![4, 17].contains(number)) {
        let path = Segment::at(logs.path(), number).path;
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap(); // Opened, it can't be read.
    }
    let quiet = Rooms::One("quiet".to_owned());
    let expected = model(&logs, |_, said| said.room == "quiet" && has(said, "hello"));
    assert_eq!(pages(&logs, "hello", &quiet, 50, |_| {}).0, expected);
}

#[test]
fn what_is_damaged_is_not_found() {
    let logs = logs();
    let path = Segment::at(logs.path(), 3).path;
    let mut bytes = std::fs::read(&path).unwrap();
    let at = memchr::memmem::find(&bytes, b"{\"seq\":202,").unwrap(); // In room b.
    bytes[at + 20] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    logs.index(20);
    let of_c = model(&logs, |_, said| said.room == "c" && has(said, "hello"));
    assert_eq!(pages(&logs, "hello", &Rooms::Of(2), 1_000, |_| {}).0, of_c);
    let of_all = model(&logs, |seq, said| seq != 202 && said.room != "c" && has(said, "hello"));
    assert_eq!(pages(&logs, "hello", &Rooms::Of(1), 1_000, |_| {}).0, of_all);
}

#[test]
fn what_nobody_wants_any_more_is_not_worked_on() {
    let logs = logs();
    let search = Search::new(logs.path(), query("hello", Rooms::Of(1), 10));
    search.stop();
    assert!(search.work(&Reader::open(logs.path()).unwrap()).is_none());
    assert_eq!(search.state.lock().given, 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn any_log(
        said in prop::collection::vec((0usize..4, 0usize..4, -50i64..50), 1..150),
        per_file in 1usize..40,
        indexed in 0u64..10,
        limit in 1usize..20,
        work in 1u64..60_000,
        from_ms in prop::option::of(-60i64..60),
        to_ms in prop::option::of(-60i64..60),
    ) {
        let said: Vec<Said> = said
            .into_iter()
            .map(|(room, text, ms)| Said {
                room: ROOMS[room].0,
                sender: "alice",
                content: TEXTS[text].to_owned(),
                ms,
            })
            .collect();
        let logs = Logs::new(&ROOMS, said, per_file);
        logs.index(indexed);
        let expected = model(&logs, |_, said| {
            said.room != "c"
                && has(said, "hello")
                && from_ms.is_none_or(|from_ms| said.ms >= from_ms)
                && to_ms.is_none_or(|to_ms| said.ms <= to_ms)
        });
        let (found, _) = pages(&logs, "hello", &Rooms::Of(1), limit, |query| {
            (query.from_ms, query.to_ms, query.work) = (from_ms, to_ms, work);
        });
        prop_assert_eq!(found, expected);
    }
}
