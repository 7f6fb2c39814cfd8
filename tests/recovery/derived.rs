//! An index that is gone, cut or garbage: the logs have everything.

use std::fs;

use minitalk::cli::lock::LockError;
use minitalk::cli::reindex::{ReindexError, reindex};
use minitalk::index::{Page, Reader};

use crate::host::Host;

fn stopped() -> Host {
    let mut host = Host::started();
    let mut worker = host.worker(1);
    let names: Vec<String> = (1..=300).map(|number| format!("user {number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    worker.create_users(&names);
    for room in ["a", "b", "c"] {
        worker.create_room(1, room, &names[..100]).unwrap();
        worker.posted(1, room, "hello").unwrap();
    }
    worker.change(minitalk::link::frame::Change::Leave { room_id: "b".into(), user: 5 }).unwrap();
    worker.sync();
    drop(worker);
    host.stop();
    host
}

/// Everything the index is asked for.
fn answers(host: &Host) -> String {
    let reader = Reader::open(host.data_dir()).unwrap();
    let page = Page { after: None, limit: 10 };
    let mut all = format!("{:?}", reader.rooms_of(1, page).unwrap());
    for number in [1, 5, 150, 300, 301] {
        all += &format!(
            "{:?}{:?}",
            reader.user_by_number(number).unwrap(),
            reader.room_ids_of(number, 0, 1_000).unwrap()
        );
        all += &format!("{:?}", reader.user_by_name(&format!("user {number}")).unwrap());
    }
    all
}

#[test]
fn whatever_happens_to_it_it_comes_back_the_same() {
    let mut host = stopped();
    host.start().unwrap();
    let expected = answers(&host);
    let file = host.path("index/index.sqlite");
    let whole = {
        host.stop();
        fs::read(&file).unwrap()
    };
    let garbage = |at: usize, len: usize| {
        let mut bytes = whole.clone();
        bytes[at..at + len].fill(0xA5);
        bytes
    };
    let mut states: Vec<Option<Vec<u8>>> = vec![None, Some(Vec::new()), Some(b"no database".to_vec())];
    states
        .extend([100, 4_096, 5_000, whole.len() / 2, whole.len() - 1].map(|len| Some(whole[..len].to_vec())));
    states.extend([0, 30, 4_100, whole.len() / 2, whole.len() - 2_000].map(|at| Some(garbage(at, 1_500))));
    for (case, state) in states.into_iter().enumerate() {
        for side in ["index/index.sqlite-wal", "index/index.sqlite-shm"] {
            let _ = fs::remove_file(host.path(side));
        }
        match state {
            Some(bytes) => fs::write(&file, bytes).unwrap(),
            None => fs::remove_dir_all(host.path("index")).unwrap(),
        }
        host.start().unwrap_or_else(|error| panic!("case {case}: {error}"));
        assert_eq!(answers(&host), expected, "case {case}");
        assert_eq!(
            host.worker(case as u64 + 2).create_users(&["user 1", &format!("new {case}")])[1],
            Ok(301)
        );
        host.stop();
        // Back to the logs as they were, for the next case.
        let users = host.read("users.jsonl");
        let kept: Vec<&[u8]> = users.split_inclusive(|byte| *byte == b'\n').take(300).collect();
        host.write("users.jsonl", &kept.concat());
    }
}

#[test]
fn an_index_of_other_logs_is_not_used() {
    let (mut one, mut other) = (stopped(), Host::started());
    let mut worker = other.worker(9);
    worker.create_users(&["somebody else"]);
    drop(worker);
    other.stop();
    fs::copy(other.path("index/index.sqlite"), one.path("index/index.sqlite")).unwrap();
    one.start().unwrap();
    let reader = Reader::open(one.data_dir()).unwrap();
    assert_eq!(reader.user_by_name("somebody else").unwrap(), None);
    assert!(reader.user_by_name("user 300").unwrap().is_some());
}

#[test]
fn a_reader_follows_when_the_index_is_built_anew() {
    let mut host = stopped();
    host.start().unwrap();
    let reader = Reader::open(host.data_dir()).unwrap();
    assert_eq!(reader.user_by_name("late").unwrap(), None);
    host.stop();
    fs::remove_dir_all(host.path("index")).unwrap();
    host.start().unwrap();
    host.worker(2).create_users(&["late"]);
    assert_eq!(reader.user_by_name("late").unwrap().unwrap().number, 301);
}

#[test]
fn reindex_builds_it_offline_and_only_offline() {
    let mut host = stopped();
    host.start().unwrap();
    let expected = answers(&host);
    host.stop();
    fs::remove_dir_all(host.path("index")).unwrap();
    assert_eq!(reindex(host.data_dir()).unwrap(), (300, 4));
    assert_eq!(answers(&host), expected);
    assert_eq!(reindex(host.data_dir()).unwrap(), (300, 4), "again, over the one that is there");
    let lock = fs::File::create(host.path("LOCK")).unwrap();
    let lock = nix::fcntl::Flock::lock(lock, nix::fcntl::FlockArg::LockExclusive).unwrap();
    assert!(matches!(reindex(host.data_dir()), Err(ReindexError::Lock(LockError::InUse(_)))));
    drop(lock);
    let nowhere = host.path("nowhere");
    assert!(matches!(reindex(&nowhere), Err(ReindexError::Lock(LockError::Missing(_)))));
    assert!(!nowhere.exists());
}

#[test]
fn an_index_that_stopped_early_catches_up() {
    let mut host = stopped();
    let old = fs::read(host.path("index/index.sqlite")).unwrap();
    host.start().unwrap();
    let mut worker = host.worker(2);
    worker.create_users(&["late"]);
    worker.create_room(301, "d", &["user 2"]).unwrap();
    worker.posted(2, "d", "hello").unwrap();
    drop(worker);
    host.stop();
    for side in ["index/index.sqlite-wal", "index/index.sqlite-shm"] {
        let _ = fs::remove_file(host.path(side));
    }
    fs::write(host.path("index/index.sqlite"), old).unwrap();
    host.start().unwrap();
    let reader = Reader::open(host.data_dir()).unwrap();
    let room = reader.room("d").unwrap().unwrap();
    assert_eq!((room.created_by.as_str(), room.participant_count, room.last_seq), ("late", 2, 4));
}

/// Parts of `index/places` that are gone or damaged under a running server: history is served meanwhile, and they
/// are made again.
#[test]
fn parts_of_the_places_that_are_gone_or_damaged_are_made_again() {
    use minitalk::index::history::History;
    use minitalk::index::runs;
    use minitalk::journal::read::Window;

    let mut host = Host::new().per_file(10);
    host.config.storage.scrub_bytes_per_second = 1 << 30;
    host.config.storage.scrub_interval = std::time::Duration::from_secs(1);
    host.start().unwrap();
    let mut worker = host.worker(1);
    worker.create_users(&["alice"]);
    for room in ["a", "b"] {
        worker.create_room(1, room, &[]).unwrap();
    }
    for at in 0..125 {
        worker.posted(1, ["a", "b"][at % 2], "hello").unwrap();
    }
    let reader = Reader::open(host.data_dir()).unwrap();
    let wait = |what: &str, holds: &dyn Fn() -> bool| {
        let end = std::time::Instant::now() + crate::host::DEADLINE;
        while !holds() {
            assert!(std::time::Instant::now() < end, "{what}: {:?}", reader.runs());
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    };
    // Eight files have become one run, four are runs of their own.
    wait("indexed", &|| reader.last_file().unwrap().is_some_and(|file| file.number == 12));
    wait("merged", &|| reader.runs().unwrap().len() == 5);
    let file = |at: usize| runs::path(host.data_dir(), reader.runs().unwrap()[at].id);
    let is_sound = || {
        let named = reader.runs().unwrap();
        named.len() == 5
            && named.iter().all(|run| {
                let file = runs::file::RunFile::open(&runs::path(host.data_dir(), run.id), *run);
                file.and_then(|file| file.check(&mut |_| true)).is_ok()
            })
    };
    let served = || {
        // As a worker that has just started.
        let history = History::open(host.data_dir()).unwrap();
        for (room, expected) in [("a", 63), ("b", 62), ("nowhere", 0)] {
            assert_eq!(history.read(room, Window::default(), 1_000).unwrap().len(), expected, "{room}");
            assert_eq!(history.read(room, Window::default(), 1).unwrap().len(), expected.min(1), "{room}");
        }
    };
    assert!(is_sound());
    for at in [0, 2, 4] {
        fs::remove_file(file(at)).unwrap();
        served();
        wait("gone", &is_sound);
        served();
        let damaged = file(at);
        let mut bytes = fs::read(&damaged).unwrap();
        bytes[3] ^= 16;
        fs::write(&damaged, bytes).unwrap();
        served();
        wait("damaged", &is_sound);
        served();
    }
    drop(worker);
    host.stop();
    host.assert_clean();
}
