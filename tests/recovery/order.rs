//! One order, no gaps, no repetitions.

use minitalk::chat::{OpId, UserId};
use minitalk::index::Reader;
use minitalk::index::history::History;
use minitalk::journal::read::Window;
use minitalk::link::frame::{Login, Others, Outcome, Position, ToWriter, Visitors};

use crate::host::{Heard, Host, post};

fn seqs(heard: &[Heard]) -> Vec<u64> {
    let seq = |heard: &Heard| match heard {
        Heard::Message { seq, .. } => Some(*seq),
        _ => None,
    };
    heard.iter().filter_map(seq).collect()
}

#[test]
fn all_workers_hear_all_messages_in_one_order() {
    let host = Host::started();
    let mut workers: Vec<_> = (1..=3).map(|instance| host.worker(instance)).collect();
    for worker in &mut workers {
        assert_eq!(worker.hear(), [Heard::Welcome(Position::default())]);
    }
    for _ in 0..200 {
        for worker in &mut workers {
            worker.post("r", "hello");
        }
    }
    let expected: Vec<u64> = (1..=600).collect();
    let mut orders = Vec::new();
    for worker in &mut workers {
        let heard = worker.hear_until(|heard| matches!(heard, Heard::Message { seq: 600, .. }));
        assert_eq!(seqs(&heard), expected);
        orders.push(heard);
    }
    assert_eq!(orders[0], orders[1]);
    assert_eq!(orders[0], orders[2]);
    host.assert_clean();
}

#[test]
fn files_follow_one_another_and_numbers_go_on_after_a_restart() {
    let mut host = Host::new().per_file(10);
    for round in 0..4u64 {
        host.start().unwrap();
        let mut worker = host.worker(round + 1);
        let start = round * 13;
        let rev = u64::from(round > 0);
        assert_eq!(worker.hear(), [Heard::Welcome(Position { seq: start, rev })]);
        if round == 0 {
            worker.create_users(&["alice"]);
            worker.create_room(1, "r", &[]).unwrap();
        }
        for number in 1..=13 {
            assert_eq!(worker.posted(round + 1, "r", "hello"), Ok(start + number));
        }
        host.stop();
        host.assert_clean();
    }
    let (_, said) = host.verify();
    assert_eq!(said, "clean: 52 messages in 6 files, 1 users, 1 room records\n");
    let seqs: Vec<u64> = host.messages().iter().map(|message| message["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, (1..=52).collect::<Vec<u64>>());
    let after = Window { after: Some(8), ..Window::default() };
    let messages = History::open(host.data_dir()).unwrap().read("r", after, 30).unwrap();
    assert!(messages[0].starts_with(r#""seq":9,"#) && messages[29].starts_with(r#""seq":38,"#));
}

#[test]
fn a_batch_never_spans_two_files() {
    let mut host = Host::new().per_file(10);
    host.start().unwrap();
    let mut worker = host.worker(1);
    let frames: Vec<_> = (1..=95).map(|count| post(count, "r", "hello", None)).collect();
    worker.send_all(&frames);
    worker.hear_until(|heard| matches!(heard, Heard::Message { seq: 95, .. }));
    let report = host.running().report();
    let records: Vec<_> = report["files"].as_array().unwrap().iter().map(|file| &file["records"]).collect();
    assert_eq!(records, [0, 0, 0, 10, 10, 10, 10, 10, 10, 10, 10, 10, 5]);
    host.assert_clean();
}

#[test]
fn a_repeated_message_is_answered_with_the_first() {
    let mut host = Host::started();
    let mut worker = host.worker(1);
    worker.send(&post(1, "r", "hello", Some("mine")));
    let first = worker.outcome_of_post(OpId { instance: 1, count: 1 });
    assert_eq!(first, Ok(1));
    let repeats = |host: &Host, why: &str| {
        // Twice in one batch behind a new one, from another worker; then the same operation.
        let mut other = host.worker(2);
        let new = host.messages().len() as u64 + 1;
        other.send_all(&[
            post(new * 10, "r", "new", None),
            post(new * 10 + 1, "r", "hello again", Some("mine")),
            post(new * 10, "r", "new", None),
        ]);
        let posted = |count: u64, seq: u64| move |heard: &Heard| matches!(heard, Heard::Done(its, Outcome::Posted { seq: first, .. }) if (*its, *first) == (count, seq));
        let heard = other.hear_until(posted(new * 10, new));
        assert!(heard.iter().any(posted(new * 10 + 1, 1)), "{why}: {heard:?}");
        assert_eq!(seqs(&heard), [new], "{why}");
        let mut again = host.worker(1);
        again.send(&post(1, "r", "hello", Some("mine")));
        assert_eq!(again.outcome_of_post(OpId { instance: 1, count: 1 }), Ok(1), "{why}");
    };
    repeats(&host, "at once");
    host.restart();
    repeats(&host, "after a restart");
    assert_eq!(host.messages().len(), 3);
}

#[test]
fn beyond_the_window_a_repetition_is_new() {
    let mut host = Host::new();
    host.config.storage.dedup_window_messages = 5;
    for _ in 0..2 {
        host.start().unwrap();
        let base = host.messages().len() as u64;
        let mut worker = host.worker(1);
        for count in base + 1..=base + 6 {
            worker.send(&post(count, "r", "hello", Some(&format!("id {count}"))));
            assert_eq!(worker.outcome_of_post(OpId { instance: 1, count }), Ok(count));
        }
        worker.send(&post(base + 2, "r", "hello", None));
        assert_eq!(worker.outcome_of_post(OpId { instance: 1, count: base + 2 }), Ok(base + 2));
        host.stop();
    }
    host.start().unwrap();
    let mut worker = host.worker(1);
    worker.send(&post(7, "r", "hello", None));
    assert_eq!(worker.outcome_of_post(OpId { instance: 1, count: 7 }), Ok(13));
}

#[test]
fn a_sync_shows_all_that_was_published() {
    let host = Host::started();
    let mut worker = host.worker(1);
    assert_eq!(worker.create_users(&["alice"]), [Ok(1)]);
    worker.create_room(1, "r", &[]).unwrap();
    let reader = Reader::open(host.data_dir()).unwrap();
    for round in 1..=20 {
        worker.posted(1, "r", "hello").unwrap();
        worker.sync();
        assert_eq!(reader.last_seq("r").unwrap(), round);
    }
    // Behind posts in the same write, too.
    let (first, second, sync) = (worker.next_count(), worker.next_count(), worker.next_count());
    worker.send_all(&[
        post(first, "r", "x", None),
        post(second, "r", "y", None),
        ToWriter::Sync { count: sync },
    ]);
    worker.answer(sync).unwrap();
    assert_eq!(reader.last_seq("r").unwrap(), 22);
}

#[test]
fn typing_reaches_everybody_and_is_not_stored() {
    let host = Host::started();
    let mut workers: Vec<_> = (1..=2).map(|instance| host.worker(instance)).collect();
    workers.iter_mut().for_each(|worker| drop(worker.hear()));
    workers[0].send(&ToWriter::Typing { room_id: "r", user: 1, username: "alice" });
    for worker in &mut workers {
        assert_eq!(worker.hear(), [Heard::Typing("alice".to_owned())]);
    }
    assert!(host.messages().is_empty());
}

#[test]
fn attempts_to_log_in_reach_everybody() {
    let host = Host::started();
    let mut workers: Vec<_> = (1..=2).map(|instance| host.worker(instance)).collect();
    workers.iter_mut().for_each(|worker| drop(worker.hear()));
    let login = Login {
        worker: 1,
        name: "alice",
        address: "127.0.0.1".parse().unwrap(),
        with_token: false,
        right: false,
    };
    workers[0].send(&ToWriter::Login(login));
    for worker in &mut workers {
        assert_eq!(worker.hear(), [Heard::Login("alice".to_owned())]);
    }
}

fn users(users: &[(UserId, u32)]) -> ToWriter<'static> {
    ToWriter::Visitors(Visitors { addresses: Vec::new(), users: users.to_vec() })
}

fn elsewhere(user: UserId, connections: u32, workers: u16) -> Heard {
    Heard::Elsewhere(vec![(user, Others { connections, workers })])
}

#[test]
fn counts_of_connections_reach_those_workers_only_that_they_concern() {
    let host = Host::started();
    let mut workers: Vec<_> = (1..=3).map(|instance| host.worker(instance)).collect();
    workers.iter_mut().for_each(|worker| drop(worker.hear()));
    let [one, two, three] = workers.as_mut_slice() else { panic!("three workers") };
    // Each is on one worker, and more than the publishing thread takes in at once: nobody is told.
    (1..=1_000).for_each(|user| one.send(&users(&[(user, 1)])));
    one.sync();
    two.send(&users(&[(7, 2), (5_000, 1)]));
    assert_eq!(two.hear(), [elsewhere(7, 1, 1)]);
    assert_eq!(one.hear(), [elsewhere(7, 2, 1)]);
    // In order, and none lost.
    (2..=900).for_each(|count| one.send(&users(&[(7, count)])));
    for count in 2..=900 {
        assert_eq!(two.hear(), [elsewhere(7, count, 1)]);
    }
    two.send(&users(&[(7, 0)]));
    assert_eq!(two.hear(), [elsewhere(7, 0, 0)]);
    assert_eq!(one.hear(), [elsewhere(7, 0, 0)]);
    // As many as allowed: all are to know, also one that comes later, until there is room again.
    one.send(&users(&[(7, 1_000)]));
    assert_eq!(two.hear(), [elsewhere(7, 1_000, 1)]);
    assert_eq!(three.hear(), [elsewhere(7, 1_000, 1)], "the first that concerns it");
    let mut late = host.worker(4);
    late.hear();
    assert_eq!(late.hear(), [elsewhere(7, 1_000, 1)]);
    one.send(&users(&[(7, 999)]));
    for worker in [two, three, &mut late] {
        assert_eq!(worker.hear(), [elsewhere(7, 0, 0)]);
    }
}

#[test]
fn what_a_worker_had_goes_with_its_connection() {
    let host = Host::started();
    let mut workers: Vec<_> = (1..=2).map(|instance| host.worker(instance)).collect();
    workers.iter_mut().for_each(|worker| drop(worker.hear()));
    for worker in &mut workers {
        worker.send(&users(&[(7, 3)]));
    }
    assert_eq!(workers[0].hear(), [elsewhere(7, 3, 1)]);
    // The same process on another connection, while the first is still open.
    let mut again = host.worker(2);
    again.hear();
    assert_eq!(workers[0].hear(), [elsewhere(7, 0, 0)]);
    workers[1].send(&users(&[(7, 9)]));
    again.send(&users(&[(7, 1)]));
    assert_eq!(workers[0].hear(), [elsewhere(7, 1, 1)]);
    assert_eq!(again.hear(), [elsewhere(7, 3, 1)]);
    drop(again);
    assert_eq!(workers[0].hear(), [elsewhere(7, 0, 0)]);
}

#[test]
fn a_message_too_large_for_the_log_is_refused_and_others_are_not() {
    let host = Host::started();
    let mut worker = host.worker(1);
    let large = "\u{1}".repeat(minitalk::config::MESSAGE_BYTES + 1);
    assert_eq!(worker.posted(1, "r", &large).unwrap_err().code, minitalk::chat::Code::BodyTooLarge);
    let fits = "\u{1}".repeat(minitalk::config::MESSAGE_BYTES - 100);
    for seq in 1..=4 {
        assert_eq!(worker.posted(1, "r", &fits), Ok(seq));
    }
    host.assert_clean();
}

#[test]
fn a_peer_that_breaks_the_order_is_let_go() {
    let host = Host::started();
    let mut silent = host.worker(0);
    assert_eq!(silent.try_hear(), None, "an instance of 0 is no greeting");
    let mut garbage = host.worker(1);
    garbage.hear();
    garbage.send(&ToWriter::Hello { version: 1, worker: 0, instance: 2, known: None });
    assert_eq!(garbage.try_hear(), None);
    assert_eq!(host.worker(3).posted(3, "r", "hello"), Ok(1));
}
