//! A log that ends anywhere: what is whole stays, what is not is cut off.

use std::fs;

use minitalk::challenge::Distance;
use minitalk::index::challenges::ChallengeReader;
use minitalk::link::arena::{Ask, Asked};

use crate::host::Host;

/// A stopped host with 30 messages in three files, and some users, rooms and participants.
fn stopped() -> Host {
    let mut host = Host::new().per_file(11);
    host.start().unwrap();
    let mut worker = host.worker(1);
    for name in ["alice", "bob", "carol", "dave"] {
        worker.create_users(&[name]);
    }
    for room in ["a", "b", "c", "d"] {
        worker.create_room(1, room, &["bob"]).unwrap();
    }
    let challenge = worker.new_challenge(1, Distance::M100, 10);
    for user in 1..=4 {
        worker.asks(Ask::Join { challenge, user }).unwrap();
    }
    for number in 1..=30 {
        worker.posted(1, "a", &format!("message {number}")).unwrap();
    }
    host.stop();
    host
}

/// Where the last `count` lines begin, and where the last one ends.
fn starts(bytes: &[u8], count: usize) -> Vec<usize> {
    let mut starts = vec![0];
    starts.extend(bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1));
    starts[starts.len() - 1 - count..].to_vec()
}

/// Cuts a file at every byte of its last three records, and hands each outcome to `judge` with the
/// number of whole records left.
fn cut_everywhere(name: &str, judge: impl Fn(&Host, usize)) {
    let mut host = stopped();
    let whole = host.read(name);
    let lines = whole.iter().filter(|byte| **byte == b'\n').count();
    let starts = starts(&whole, 3);
    for cut in starts[0]..whole.len() {
        host.write(name, &whole[..cut]);
        let left = lines - 3 + starts[1..].iter().filter(|end| **end <= cut).count();
        let (clean, _) = host.verify();
        assert_eq!(clean, starts.contains(&cut), "unstarted, cut at {cut}");
        host.start().unwrap_or_else(|error| panic!("cut at {cut}: {error}"));
        assert_eq!(host.read(name), whole[..*starts.iter().rfind(|end| **end <= cut).unwrap()]);
        judge(&host, left);
        host.stop();
        host.assert_clean();
        // The index of a longer log must not be used with a shorter one.
        fs::remove_dir_all(host.path("index")).unwrap();
    }
}

#[test]
fn messages_may_end_anywhere() {
    cut_everywhere("messages_000003.jsonl", |host, left| {
        let last = 22 + u64::try_from(left).unwrap();
        assert_eq!(host.running().report()["position"]["seq"], last);
        let mut worker = host.worker(2);
        assert_eq!(worker.posted(2, "a", "new"), Ok(last + 1));
    });
}

#[test]
fn users_may_end_anywhere() {
    cut_everywhere("users.jsonl", |host, left| {
        let mut worker = host.worker(2);
        assert_eq!(worker.create_users(&["zoe"]), [Ok(u64::try_from(left).unwrap() + 1)]);
    });
}

#[test]
fn rooms_may_end_anywhere() {
    cut_everywhere("chatrooms.jsonl", |host, left| {
        assert_eq!(host.running().report()["position"]["rev"], left);
        let mut worker = host.worker(2);
        worker.create_room(1, "new", &[]).unwrap();
    });
}

#[test]
fn challenges_may_end_anywhere() {
    cut_everywhere("challenges.jsonl", |host, left| {
        let joined = u64::try_from(left).unwrap() - 1;
        let index = ChallengeReader::open(host.data_dir()).unwrap();
        assert_eq!(u64::from(index.challenge(1).unwrap().unwrap().participants), joined);
        let ask = Ask::Join { challenge: 1, user: 9 };
        assert_eq!(host.worker(2).asks(ask), Ok(Asked::Joined { participant: joined + 1 }));
    });
}

#[test]
fn an_index_that_is_ahead_of_a_cut_log_is_built_anew() {
    for name in ["messages_000003.jsonl", "users.jsonl", "chatrooms.jsonl", "challenges.jsonl"] {
        let mut host = stopped();
        let whole = host.read(name);
        host.write(name, &whole[..starts(&whole, 3)[1]]);
        host.start().unwrap();
        let mut worker = host.worker(2);
        let last = host.running().report()["position"]["seq"].as_u64().unwrap();
        worker.sync();
        let reader = minitalk::index::Reader::open(host.data_dir()).unwrap();
        assert_eq!(reader.last_seq("a").unwrap(), last, "{name}");
        assert_eq!(reader.user_by_name("dave").unwrap().is_some(), name != "users.jsonl");
        assert_eq!(reader.room("d").unwrap().is_some(), name != "chatrooms.jsonl");
        let index = ChallengeReader::open(host.data_dir()).unwrap();
        assert_eq!(index.participant(1, 4).unwrap().is_some(), name != "challenges.jsonl");
        host.stop();
        host.assert_clean();
    }
}

#[test]
fn a_new_file_may_be_empty_or_torn() {
    for torn in [&b""[..], &br#"{"seq":34,"id":"00"#[..], &[0; 5_000][..]] {
        let mut host = Host::new().per_file(3);
        host.start().unwrap();
        let mut worker = host.worker(1);
        (1..=6).for_each(|_| drop(worker.posted(1, "a", "x")));
        host.stop();
        host.write("messages_000003.jsonl", torn);
        host.start().unwrap();
        assert_eq!(host.worker(2).posted(2, "a", "y"), Ok(7));
        host.stop();
        host.assert_clean();
    }
}

#[test]
fn what_a_crash_left_of_an_unfinished_batch_is_cut_with_all_behind_it() {
    let host = {
        let mut host = Host::new();
        host.config.storage.fsync = minitalk::config::Fsync::Never;
        host.start().unwrap();
        let mut worker = host.worker(1);
        (1..=9).for_each(|_| drop(worker.posted(1, "a", "x")));
        host.stop();
        host
    };
    // None of the nine claims that one before it was durable: a hole among them is an unfinished
    // write, wherever the pages behind it ended up.
    let name = "messages_000001.jsonl";
    let whole = host.read(name);
    let starts = starts(&whole, 9);
    for (hole, filler) in [(4, 0u8), (4, b'\n'), (0, 0), (8, b'?')] {
        let mut host = Host::new();
        let mut bytes = whole.clone();
        bytes[starts[hole] + 5..starts[hole] + 60].fill(filler);
        host.write(name, &bytes);
        host.start().unwrap();
        assert_eq!(host.read(name), whole[..starts[hole]]);
        assert_eq!(host.worker(2).posted(2, "a", "y"), Ok(u64::try_from(hole).unwrap() + 1));
        host.stop();
        host.assert_clean();
    }
}
