//! A log that was changed behind the writer's back: found to the byte, never passed over.

use minitalk::writer::WriterError;
use minitalk_supervisor::child::EXIT_CANNOT_LIVE;

use crate::host::Host;

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
    flip_everywhere("messages_000001.jsonl", refuses("messages_000001.jsonl"));
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
    host.write(name, &[lines[0], lines[2], lines[3]].concat());
    let place = format!(":2: byte {}: ", lines[0].len());
    assert!(host.verify().1.contains(&place), "{}", host.verify().1);
    assert!(host.verify().1.contains("number 3 where 2 belongs"), "{}", host.verify().1);
    host.write(name, &[lines[0], lines[1], lines[1], lines[2], lines[3]].concat());
    assert!(host.verify().1.contains("number 2 where 3 belongs"), "{}", host.verify().1);
    host.write(name, &lines[..3].concat());
    assert!(host.verify().1.contains("number 5 where 4 belongs"), "{}", host.verify().1);
    host.write(name, &whole);
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
    host.write(name, &bytes);
    assert!(!host.verify().0);
    let lock = std::fs::File::create(host.path("LOCK")).unwrap();
    let lock = nix::fcntl::Flock::lock(lock, nix::fcntl::FlockArg::LockExclusive).unwrap();
    host.assert_clean();
    drop(lock);
    assert!(!host.verify().0);
}
