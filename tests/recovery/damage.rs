//! A log that was changed behind the writer's back: found to the byte, never passed over.

use minitalk::chat::OpId;
use minitalk::writer::WriterError;
use minitalk_supervisor::child::EXIT_CANNOT_LIVE;

use crate::host::{Host, post};

/// A stopped host with a full file of messages, a half-full one, users and rooms.
fn stopped() -> Host {
    let mut host = Host::new().per_file(4);
    host.start().unwrap();
    let mut worker = host.worker(1);
    for name in ["alice", "bob", "carol"] {
        worker.create_users(&[name]);
    }
    for room in ["a", "b", "c"] {
        worker.create_room(1, room, &["bob"]).unwrap();
    }
    (1..=7).for_each(|_| drop(worker.posted(1, "a", "J*hello")));
    host.stop();
    host.assert_clean();
    host
}

/// Flips every bit of a file's second record; `verify` must name file, line and byte. Each damaged
/// state is handed on.
fn flip_everywhere(name: &str, mut judge: impl FnMut(&mut Host)) {
    let mut host = stopped();
    let whole = host.read(name);
    let line = |number: usize| whole.split_inclusive(|byte| *byte == b'\n').nth(number).unwrap().len();
    let (start, len) = (line(0), line(1));
    let place = format!("{}:2: byte {start}: ", host.path(name).display());
    for byte in start..start + len {
        for bit in 0..8 {
            let mut bytes = whole.clone();
            bytes[byte] ^= 1 << bit;
            host.write(name, &bytes);
            let (clean, said) = host.verify();
            assert!(!clean && said.starts_with(&place), "byte {byte} bit {bit}: {said}");
            if bit == byte % 8 {
                judge(&mut host);
            }
        }
    }
}

/// The writer must not start, and must say where the damage is.
fn refuses(name: &'static str) -> impl FnMut(&mut Host) {
    move |host| {
        let before = host.read(name);
        let Err(error) = host.start() else {
            panic!("started on a damaged log");
        };
        assert_eq!(error.exit_code(), EXIT_CANNOT_LIVE);
        let text = error.to_string();
        assert!(text.contains(&format!("{name}:2: byte ")), "{text}");
        assert!(matches!(error, WriterError::Journal(_)));
        assert_eq!(host.read(name), before, "a damaged file is left as it is");
    }
}

#[test]
fn any_bit_of_the_newest_file() {
    flip_everywhere("messages_000002.jsonl", refuses("messages_000002.jsonl"));
}

#[test]
fn any_bit_of_a_full_file() {
    flip_everywhere("messages_000001.jsonl", |host| {
        let before = host.read("messages_000001.jsonl");
        host.start().unwrap();
        let (damage, byte) =
            (host.running().report()["damage"].clone(), before.iter().position(|b| *b == b'\n'));
        assert_eq!(damage[0]["file"], "messages_000001.jsonl", "{damage}");
        assert_eq!(
            (&damage[0]["line"], &damage[0]["byte"]),
            (&2.into(), &(byte.unwrap() + 1).into()),
            "{damage}"
        );
        assert_eq!(damage.as_array().unwrap().len(), 1, "{damage}");
        // All else is as it was: repetitions are recognised, and the order goes on.
        let mut worker = host.worker(1);
        let count = |message: &str| u64::from_str_radix(message.split_once('-').unwrap().1, 16).unwrap();
        let last = host.read("messages_000002.jsonl");
        let last: serde_json::Value =
            serde_json::from_slice(last.split(|b| *b == b'\n').next().unwrap()).unwrap();
        let first = count(last["id"].as_str().unwrap());
        worker.send(&post(first, "a", "J*hello", None));
        assert_eq!(worker.outcome_of_post(OpId { instance: 1, count: first }), Ok(5));
        worker.send(&post(1_000, "a", "new", None));
        assert_eq!(worker.outcome_of_post(OpId { instance: 1, count: 1_000 }), Ok(8));
        host.stop();
        assert_eq!(host.read("messages_000001.jsonl"), before, "a damaged file is left as it is");
        let mut newest = host.read("messages_000002.jsonl");
        newest.truncate(memchr::memmem::rfind(&newest, b"{\"seq\":8").unwrap());
        host.write("messages_000002.jsonl", &newest);
    });
}

/// The end of a full file tells where the next begins; the next one knows it, too.
#[test]
fn the_end_of_a_full_file() {
    let mut host = stopped();
    let name = "messages_000001.jsonl";
    let whole = host.read(name);
    for cut in [1, 30, whole.len()] {
        host.write(name, &whole[..whole.len() - cut]);
        host.start().unwrap();
        assert_eq!(host.running().report()["position"]["seq"], 7);
        assert_eq!(host.worker(2).posted(2, "a", "new"), Ok(8));
        host.stop();
        let mut newest = host.read("messages_000002.jsonl");
        newest.truncate(memchr::memmem::rfind(&newest, b"{\"seq\":8").unwrap());
        host.write("messages_000002.jsonl", &newest);
    }
    // Nothing knows where to go on.
    host.write(name, &whole[..whole.len() - 1]);
    host.write("messages_000002.jsonl", b"");
    assert_eq!(host.start().unwrap_err().exit_code(), EXIT_CANNOT_LIVE);
}

/// Read in the background, slowly and from where it was, until what is wrong is found.
#[test]
fn reading_in_the_background_finds_what_is_wrong_and_what_is_no_longer() {
    let mut host = Host::new().per_file(50);
    host.config.storage.scrub_bytes_per_second = 1 << 30;
    host.config.storage.scrub_interval = std::time::Duration::from_secs(1);
    // Only the last messages are looked into at a start.
    host.config.storage.dedup_window_messages = 10;
    host.start().unwrap();
    let mut worker = host.worker(1);
    assert_eq!(worker.create_users(&["alice", "bob"]), [Ok(1), Ok(2)]);
    (1..=160).for_each(|_| drop(worker.posted(1, "a", "hello")));
    let name = "messages_000002.jsonl";
    let whole = host.read(name);
    let start = whole.split_inclusive(|byte| *byte == b'\n').take(20).map(<[u8]>::len).sum::<usize>();
    let mut bytes = whole.clone();
    bytes[start + 40] ^= 4;
    host.replace(name, &bytes);
    let found = |report: &serde_json::Value| report["damage"] != serde_json::json!([]);
    host.wait_until(found);
    let expected =
        serde_json::json!([{"file": name, "line": 21, "byte": start, "what": "checksum does not match"}]);
    assert_eq!(host.running().report()["damage"], expected);
    assert_eq!(host.running().report()["disk"], "ok");
    assert_eq!(worker.posted(1, "a", "goes on"), Ok(161));
    // It is known after a restart, before it is read again.
    host.restart();
    assert_eq!(host.running().report()["damage"], expected);
    // Restored from a copy.
    host.replace(name, &whole);
    host.wait_until(|report| !found(report));
    for (file, what) in [(name, "the file is not there"), ("users.jsonl", "not a whole record")] {
        let good = host.read(file);
        if file == name {
            std::fs::remove_file(host.path(file)).unwrap();
        } else {
            let mut bytes = good.clone();
            bytes[0] ^= 1;
            host.replace(file, &bytes);
        }
        host.wait_until(|report| report["damage"][0]["file"] == file && report["damage"][0]["what"] == what);
        host.replace(file, &good);
        host.wait_until(|report| !found(report));
    }
}

/// Said at once, however slowly the rest is read; the oldest and several in a row, too.
#[test]
fn files_that_are_missing_are_said_at_once() {
    let mut host = Host::new().per_file(10);
    host.config.storage.scrub_bytes_per_second = 1;
    host.config.storage.dedup_window_messages = 10;
    host.start().unwrap();
    let mut worker = host.worker(1);
    worker.create_users(&["alice", "bob"]);
    (1..=75).for_each(|_| drop(worker.posted(1, "a", "hello")));
    drop(worker);
    host.stop();
    let names = [1, 2, 4].map(|number| format!("messages_{number:06}.jsonl"));
    let good = names.each_ref().map(|name| host.read(name));
    names.iter().for_each(|name| std::fs::remove_file(host.path(name)).unwrap());
    host.start().unwrap();
    host.wait_until(|report| report["damage"].as_array().is_some_and(|damage| damage.len() == names.len()));
    let damage = host.running().report()["damage"].clone();
    for (problem, name) in damage.as_array().unwrap().iter().zip(&names) {
        assert_eq!(
            (&problem["file"], &problem["what"]),
            (&(&**name).into(), &"the file is not there".into())
        );
        assert!(host.verify().1.contains("is not there"));
    }
    assert_eq!(host.worker(2).posted(2, "a", "goes on"), Ok(76));
    host.stop();
    names.iter().zip(&good).for_each(|(name, bytes)| host.write(name, bytes));
    host.start().unwrap();
    host.wait_until(|report| report["damage"] == serde_json::json!([]));
    host.stop();
    host.assert_clean();
}

/// A full file that can be opened and not be read: whoever comes after it is indexed, and it is when it
/// can be read again.
#[test]
fn a_full_file_that_cannot_be_read_holds_up_no_other() {
    let mut host = Host::new().per_file(10);
    host.config.storage.dedup_window_messages = 10;
    host.start().unwrap();
    let mut worker = host.worker(1);
    worker.create_users(&["alice", "bob"]);
    worker.create_room(1, "a", &["bob"]).unwrap();
    (1..=75).for_each(|_| drop(worker.posted(1, "a", "hello")));
    drop(worker);
    host.stop();
    std::fs::remove_dir_all(host.path("index")).unwrap();
    let path = host.path("messages_000003.jsonl");
    let aside = host.path("aside");
    std::fs::rename(&path, &aside).unwrap();
    std::fs::create_dir(&path).unwrap();
    host.start().unwrap();
    let reader = minitalk::index::Reader::open(host.data_dir()).unwrap();
    let broken = || reader.broken_files().unwrap().iter().map(|file| file.number).collect::<Vec<_>>();
    let wait = |holds: &dyn Fn() -> bool| {
        let end = std::time::Instant::now() + crate::host::DEADLINE;
        while !holds() {
            assert!(std::time::Instant::now() < end, "{:?} {:?}", reader.last_file(), broken());
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    };
    wait(&|| reader.last_file().unwrap().is_some_and(|file| file.number == 7));
    assert_eq!(broken(), [3]);
    let history = minitalk::index::history::History::open(host.data_dir()).unwrap();
    let all = || history.read("a", minitalk::journal::read::Window::default(), 1_000).unwrap().len();
    assert_eq!(all(), 65);
    std::fs::remove_dir(&path).unwrap();
    std::fs::rename(&aside, &path).unwrap();
    // It is looked at every few seconds, and whenever another file is full.
    let mut worker = host.worker(2);
    (1..=10).for_each(|_| drop(worker.posted(2, "a", "more")));
    wait(&|| broken().is_empty());
    assert_eq!(all(), 85);
    drop(worker);
    host.stop();
    host.assert_clean();
}

#[test]
fn any_bit_of_the_users() {
    flip_everywhere("users.jsonl", refuses("users.jsonl"));
}

#[test]
fn any_bit_of_the_rooms() {
    flip_everywhere("chatrooms.jsonl", refuses("chatrooms.jsonl"));
}

#[test]
fn a_missing_record_a_repeated_one_and_a_missing_file_are_found() {
    let host = stopped();
    let name = "messages_000001.jsonl";
    let whole = host.read(name);
    let lines: Vec<&[u8]> = whole.split_inclusive(|byte| *byte == b'\n').collect();
    host.replace(name, &[lines[0], lines[2], lines[3]].concat());
    let place = format!(":2: byte {}: ", lines[0].len());
    assert!(host.verify().1.contains(&place), "{}", host.verify().1);
    assert!(host.verify().1.contains("number 3 where 2 belongs"), "{}", host.verify().1);
    host.replace(name, &[lines[0], lines[1], lines[1], lines[2], lines[3]].concat());
    assert!(host.verify().1.contains("number 2 where 3 belongs"), "{}", host.verify().1);
    host.replace(name, &lines[..3].concat());
    assert!(host.verify().1.contains("number 5 where 4 belongs"), "{}", host.verify().1);
    host.replace(name, &whole);
    host.assert_clean();
    std::fs::remove_file(host.path(name)).unwrap();
    assert!(host.verify().1.contains("messages_000001.jsonl is not there"), "{}", host.verify().1);
}

#[test]
fn verify_works_beside_a_writer() {
    let mut host = stopped();
    host.start().unwrap();
    host.assert_clean();
    // An unfinished last line is being written, if there is a writer; the lock says so.
    let name = "messages_000002.jsonl";
    host.stop();
    let mut bytes = host.read(name);
    bytes.extend_from_slice(br#"{"seq":8,"id":"0"#);
    host.replace(name, &bytes);
    assert!(!host.verify().0);
    let lock = std::fs::File::create(host.path("LOCK")).unwrap();
    let lock = nix::fcntl::Flock::lock(lock, nix::fcntl::FlockArg::LockExclusive).unwrap();
    host.assert_clean();
    drop(lock);
    assert!(!host.verify().0);
}
