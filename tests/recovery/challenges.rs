//! Live challenges: who may do what, who was first, and what a restart leaves of it.

use std::collections::HashMap;
use std::fs;
use std::sync::Barrier;
use std::thread;

use minitalk::challenge::{Amount, Distance, Participation, Reason, TicketKind};
use minitalk::chat::{Code, OpId, Refusal};
use minitalk::index::challenges::ChallengeReader;
use minitalk::journal::record::{self, ChallengeChange, ChallengeRecord};
use minitalk::link::arena::{Ask, Asked, Move, NewChallenge, News, Record, Standing};
use minitalk::link::frame::{Outcome, ToWriter};

use crate::host::{Heard, Host, Worker, now_ms};

/// A host with users 1 to 5, and a worker that hears of challenges.
fn peopled() -> (Host, Worker) {
    let host = Host::started();
    let mut worker = host.worker(1);
    worker.create_users(&["alice", "bob", "carol", "dave", "eve"]);
    worker.hears_challenges = true;
    (host, worker)
}

fn code(result: Result<Asked, Refusal>) -> Code {
    result.unwrap_err().code
}

fn km(number: f64) -> Amount {
    Amount::try_from(number).unwrap()
}

fn join(challenge: u64, user: u64) -> Ask {
    Ask::Join { challenge, user }
}

fn enter(challenge: u64, user: u64, ticket: u128) -> Ask {
    Ask::Enter { challenge, user, generation: 0, ticket }
}

fn run(worker: &mut Worker, (challenge, user, entry): (u64, u64, u64), distance: f64, timestamp_ms: i64) {
    let (distance, pace) = (km(distance), km(6.0));
    worker.send(&ToWriter::Record(Record { challenge, user, entry, distance, pace, timestamp_ms }));
}

/// The next thing heard of challenges.
fn news(worker: &mut Worker) -> News {
    loop {
        for heard in worker.hear() {
            if let Heard::Arena(news) = heard {
                return news;
            }
        }
    }
}

/// Waits for the news that somebody is no longer in.
fn left(worker: &mut Worker) -> (u64, u64, Reason, Option<u32>) {
    loop {
        if let News::Left { user, entry, reason, rank, .. } = news(worker) {
            return (user, entry, reason, rank);
        }
    }
}

fn status(host: &Host, challenge: u64, user: u64) -> (Participation, Option<u32>) {
    let index = ChallengeReader::open(host.data_dir()).unwrap();
    let known = index.participant(challenge, user).unwrap().unwrap();
    (known.status, known.rank)
}

#[test]
fn who_may_take_part() {
    let (host, mut worker) = peopled();
    let challenge = worker.new_challenge(1, Distance::M100, 2);
    assert_eq!(code(worker.asks(join(9, 1))), Code::ChallengeNotFound);
    assert_eq!(worker.asks(join(challenge, 1)), Ok(Asked::Joined { participant: 1 }));
    assert_eq!(code(worker.asks(join(challenge, 1))), Code::AlreadyJoined);
    assert_eq!(worker.asks(join(challenge, 2)), Ok(Asked::Joined { participant: 2 }));
    assert_eq!(code(worker.asks(join(challenge, 3))), Code::ChallengeFull);
    assert_eq!(code(worker.asks(Ask::Cancel { challenge, user: 3 })), Code::NotJoined);
    let cancelled = Ok(Asked::Cancelled { participant: 1 });
    assert_eq!(worker.asks(Ask::Cancel { challenge, user: 1 }), cancelled);
    assert_eq!(code(worker.asks(Ask::Cancel { challenge, user: 1 })), Code::NotJoined);
    assert_eq!(code(worker.asks(enter(challenge, 1, 1))), Code::WrongState);
    assert_eq!(worker.asks(join(challenge, 3)), Ok(Asked::Joined { participant: 3 }));
    assert_eq!(worker.asks(Ask::Cancel { challenge, user: 3 }), Ok(Asked::Cancelled { participant: 3 }));
    assert_eq!(worker.asks(join(challenge, 1)), Ok(Asked::Joined { participant: 1 }));
    // One that starts tomorrow can be joined, and not entered.
    let later = NewChallenge {
        by: 1,
        title: "tomorrow".to_owned(),
        description: String::new(),
        max_participants: 9,
        start_ms: now_ms() + 86_400_000,
        distance: Distance::Half,
        password: Some("$argon2id$".to_owned()),
        broadcast: false,
    };
    let created = worker.asks(Ask::Create(Box::new(later))).unwrap();
    assert_eq!(created, Asked::Created { challenge: 2 });
    worker.asks(join(2, 1)).unwrap();
    assert_eq!(code(worker.asks(enter(2, 1, 1))), Code::WrongState);
    let index = ChallengeReader::open(host.data_dir()).unwrap();
    let challenges = index.challenges(0, 10).unwrap();
    let shown: Vec<_> = challenges.iter().map(|one| (one.id, one.participants, one.broadcast)).collect();
    assert_eq!(shown, [(2, 1, false), (1, 2, true)]);
    assert_eq!(challenges[0].end_ms - challenges[0].start_ms, 180 * 60_000);
    host.assert_clean();
}

#[test]
fn a_retry_is_answered_like_the_first_time_also_by_the_next_process() {
    let (mut host, mut worker) = peopled();
    let challenge = worker.new_challenge(1, Distance::M100, 9);
    let create = worker.next_count();
    let ask = |start_ms| {
        let new = NewChallenge {
            by: 1,
            title: "twice".to_owned(),
            description: String::new(),
            max_participants: 9,
            start_ms,
            distance: Distance::One,
            password: None,
            broadcast: false,
        };
        Ask::Create(Box::new(new))
    };
    let start_ms = now_ms() + 60_000;
    let created = worker.asks_as(create, ask(start_ms));
    let joining = worker.next_count();
    let joined = worker.asks_as(joining, join(challenge, 1));
    assert_eq!(worker.asks_as(create, ask(start_ms)), created);
    assert_eq!(worker.asks_as(joining, join(challenge, 1)), joined);
    host.restart();
    let mut worker = host.worker(1);
    assert_eq!(worker.asks_as(create, ask(start_ms)), created);
    assert_eq!(worker.asks_as(joining, join(challenge, 1)), joined);
    worker.asks(enter(challenge, 1, 5)).unwrap();
    let redeeming = worker.next_count() + 100;
    let entered = worker.asks_as(redeeming, Ask::Redeem { ticket: 5 });
    assert_eq!(worker.asks_as(redeeming, Ask::Redeem { ticket: 5 }), entered);
    assert_eq!(code(worker.asks(Ask::Redeem { ticket: 5 })), Code::InvalidTicket);
    let index = ChallengeReader::open(host.data_dir()).unwrap();
    assert_eq!((index.count().unwrap(), index.challenge(1).unwrap().unwrap().participants), (2, 1));
    host.assert_clean();
}

#[test]
fn everybody_hears_the_same_and_ranks_are_kept() {
    let (host, mut one) = peopled();
    let mut two = host.worker(2);
    two.hears_challenges = true;
    let challenge = one.new_challenge(1, Distance::M100, 9);
    let first = one.enters(challenge, 1, 1);
    let second = two.enters(challenge, 2, 2);
    let third = two.enters(challenge, 3, 3);
    run(&mut two, (challenge, 2, second), 0.05, 10);
    run(&mut two, (challenge, 2, second), 0.04, 9);
    run(&mut two, (challenge, 2, first), 0.09, 11);
    run(&mut two, (challenge, 3, third), 0.1, 12);
    assert_eq!(left(&mut two), (3, third, Reason::Finish, Some(1)));
    run(&mut two, (challenge, 2, second), 0.3, 20);
    assert_eq!(left(&mut two), (2, second, Reason::Finish, Some(2)));
    let leave = Ask::Leave { challenge, user: 1, entry: first, reason: Reason::Timeout };
    assert_eq!(one.asks(leave.clone()), Ok(Asked::Left));
    assert_eq!(one.asks(leave), Ok(Asked::Left));
    assert_eq!(code(one.asks(enter(challenge, 2, 4))), Code::WrongState);
    // What both have heard, from the first entry on.
    let heard = |worker: &mut Worker| {
        let mut all = Vec::new();
        loop {
            match news(worker) {
                News::Entered { runner, again, .. } => all.push(format!("in {} {again}", runner.user)),
                News::Moved { moves, .. } => all.extend(moves.iter().map(shown)),
                News::Left { user, reason: Reason::Timeout, .. } => {
                    all.push(format!("out {user}"));
                    return all;
                }
                News::Left { user, rank, .. } => all.push(format!("done {user} {rank:?}")),
                _ => {}
            }
        }
    };
    // Each worker has read on for its own answers; a third one has not.
    let mut three = host.worker(3);
    three.hears_challenges = true;
    let mut runners = HashMap::new();
    while runners.len() < 3 {
        if let News::Live { runners: some, .. } = news(&mut three) {
            runners.extend(some.into_iter().map(|(_, runner)| (runner.user, runner)));
        }
    }
    assert_eq!(runners[&3].standing, Standing::Finished(1));
    assert_eq!(runners[&2].standing, Standing::Finished(2));
    assert_eq!((runners[&1].standing, &*runners[&1].nickname), (Standing::Away, "alice"));
    assert_eq!((runners[&2].at.distance, runners[&2].at.timestamp_ms), (km(0.3), 20));
    // The two that heard it all heard the same.
    let again = enter(challenge, 1, 6);
    assert_eq!(one.asks(again), Ok(Asked::Ticket { kind: TicketKind::Reenter }));
    for worker in [&mut one, &mut two] {
        worker.sync();
    }
    let mut four = host.worker(4);
    let entry = four.redeems(6);
    let other = Ask::Leave { challenge, user: 1, entry, reason: Reason::Timeout };
    run(&mut four, (challenge, 1, entry), 0.02, 5);
    assert_eq!(four.asks(other), Ok(Asked::Left));
    let expected = ["in 1 false", "1 0.02", "out 1"];
    assert_eq!(heard(&mut one), expected);
    assert_eq!(heard(&mut three), expected);
    assert_eq!(status(&host, challenge, 3), (Participation::Completed, Some(1)));
    let index = ChallengeReader::open(host.data_dir()).unwrap();
    let ranking: Vec<_> = index.ranking(challenge, 0, 9).unwrap().iter().map(|one| one.user).collect();
    assert_eq!((ranking, index.ranked(challenge).unwrap()), (vec![3, 2], 2));
    let report = host.running().report()["challenges"].clone();
    assert_eq!((&report["active"], &report["timeouts_total"]), (&0.into(), &2.into()), "{report}");
    assert_eq!((&report["tickets_issued_total"], &report["tickets_used_total"]), (&4.into(), &4.into()));
    host.assert_clean();
}

fn shown(step: &Move) -> String {
    format!("{} {}", step.user, step.at.distance.get())
}

#[test]
fn a_newer_socket_takes_the_place_of_an_older_one() {
    let (host, mut worker) = peopled();
    let challenge = worker.new_challenge(1, Distance::M100, 9);
    worker.asks(join(challenge, 1)).unwrap();
    for ticket in [1, 2] {
        assert_eq!(worker.asks(enter(challenge, 1, ticket)), Ok(Asked::Ticket { kind: TicketKind::Enter }));
    }
    let older = worker.redeems(1);
    let mut other = host.worker(2);
    let newer = other.redeems(2);
    assert!(newer > older);
    let entered = loop {
        if let News::Entered { runner, again: true, .. } = news(&mut worker) {
            break runner;
        }
    };
    assert_eq!((entered.user, entered.entry), (1, newer));
    // What the older one still says is of no effect.
    run(&mut worker, (challenge, 1, older), 0.1, 10);
    let leave = Ask::Leave { challenge, user: 1, entry: older, reason: Reason::Quit };
    assert_eq!(worker.asks(leave), Ok(Asked::Left));
    assert_eq!(status(&host, challenge, 1), (Participation::Running, None));
    assert_eq!(code(worker.asks(enter(challenge, 1, 3))), Code::WrongState);
}

/// Two sockets on two workers come with the same ticket at the same time, a thousand times.
#[test]
fn of_two_with_one_ticket_exactly_one_comes_in() {
    const PAIRS: u64 = 1_000;
    let host = Host::started();
    let mut worker = host.worker(1);
    let names: Vec<String> = (1..=PAIRS).map(|number| format!("user {number}")).collect();
    worker.create_users(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let challenge = worker.new_challenge(1, Distance::M100, u32::try_from(PAIRS).unwrap());
    let mut frames = Vec::new();
    for user in 1..=PAIRS {
        frames.push(ToWriter::Arena { count: 10_000 + user, ask: join(challenge, user) });
    }
    for user in 1..=PAIRS {
        frames.push(ToWriter::Arena { count: 20_000 + user, ask: enter(challenge, user, user.into()) });
    }
    worker.send_all(&frames);
    for count in [10_000, 20_000].into_iter().flat_map(|base| base + 1..=base + PAIRS) {
        worker.answer(count).unwrap();
    }
    let start = Barrier::new(2);
    let redeem_all = |instance: u64| {
        let mut worker = host.worker(instance);
        let redeem = |user: u64| ToWriter::Arena { count: user, ask: Ask::Redeem { ticket: user.into() } };
        let frames: Vec<_> = (1..=PAIRS).map(redeem).collect();
        start.wait();
        // In pieces, so that both are at it all the time.
        frames.chunks(20).for_each(|some| worker.send_all(some));
        (1..=PAIRS)
            .filter(|user| match worker.answer(*user) {
                Ok(Outcome::Arena(Asked::Entered { user: entered, .. })) => entered == *user,
                Err(refusal) if refusal.code == Code::InvalidTicket => false,
                other => panic!("{other:?}"),
            })
            .collect::<Vec<u64>>()
    };
    let (one, two) = thread::scope(|scope| {
        let one = scope.spawn(|| redeem_all(2));
        let two = scope.spawn(|| redeem_all(3));
        (one.join().unwrap(), two.join().unwrap())
    });
    let mut winners: Vec<u64> = one.iter().chain(&two).copied().collect();
    winners.sort_unstable();
    assert_eq!(winners, (1..=PAIRS).collect::<Vec<_>>(), "{} and {}", one.len(), two.len());
    let report = host.running().report()["challenges"].clone();
    assert_eq!(report["tickets_used_total"], PAIRS, "{report}");
    host.assert_clean();
}

#[test]
fn who_was_on_a_worker_that_died_is_disconnected_and_comes_back() {
    let (host, mut other) = peopled();
    let mut worker = host.worker(7);
    let challenge = worker.new_challenge(1, Distance::M100, 9);
    let entry = worker.enters(challenge, 1, 1);
    let staying = other.enters(challenge, 2, 2);
    run(&mut worker, (challenge, 1, entry), 0.05, 10);
    drop(worker);
    // Its successor has the same number.
    let mut worker = host.worker(8);
    assert_eq!(left(&mut other), (1, entry, Reason::Disconnected, None));
    assert_eq!(worker.asks(enter(challenge, 1, 3)), Ok(Asked::Ticket { kind: TicketKind::Reenter }));
    worker.redeems(3);
    let back = loop {
        if let News::Entered { runner, .. } = news(&mut other) {
            break runner;
        }
    };
    assert_eq!((back.user, back.at.distance), (1, km(0.05)));
    run(&mut other, (challenge, 2, staying), 0.1, 1);
    assert_eq!(left(&mut other), (2, staying, Reason::Finish, Some(1)));
}

#[test]
fn who_was_in_when_the_service_ended_is_disconnected_and_comes_back() {
    let (mut host, mut worker) = peopled();
    let challenge = worker.new_challenge(1, Distance::M100, 9);
    let entry = worker.enters(challenge, 1, 1);
    worker.enters(challenge, 2, 2);
    run(&mut worker, (challenge, 1, entry), 0.2, 1);
    assert_eq!(left(&mut worker), (1, entry, Reason::Finish, Some(1)));
    drop(worker);
    host.restart();
    host.wait_until(|report| report["challenges"]["disconnected_total"] == 1);
    assert_eq!(status(&host, challenge, 1), (Participation::Completed, Some(1)));
    assert_eq!(status(&host, challenge, 2), (Participation::Disconnected, None));
    let mut worker = host.worker(2);
    worker.asks(enter(challenge, 2, 3)).unwrap();
    let entry = worker.redeems(3);
    worker.hears_challenges = true;
    run(&mut worker, (challenge, 2, entry), 0.2, 1);
    assert_eq!(left(&mut worker), (2, entry, Reason::Finish, Some(2)));
    host.assert_clean();
}

/// A log of a challenge that started four minutes ago or more: users 1 and 2 are in, 3 has never come, 4 has
/// timed out on the way, 5 has cancelled.
fn underway(host: &Host, end_at: i64) {
    let op = Some(OpId { instance: 9, count: 0 });
    let created = ChallengeChange::Created {
        title: "t".into(),
        description: "d".into(),
        max_participants: 9,
        start_at: end_at - Distance::M100.time_ms(),
        end_at,
        distance: Distance::M100,
        password: None,
        broadcast: false,
        created_by: 1,
    };
    let mut changes = vec![created];
    changes.extend((1..=5).map(|user_id| ChallengeChange::Joined { user_id }));
    changes.extend([1, 2, 4].map(|user_id| ChallengeChange::Entered { user_id, entry: user_id }));
    changes.push(ChallengeChange::Cancelled { user_id: 5 });
    changes.push(ChallengeChange::Status {
        user_id: 4,
        status: Participation::Timeout,
        rank: None,
        distance: km(0.07),
        pace: km(5.0),
        average_pace: None,
    });
    let mut lines = Vec::new();
    for (rev, change) in (1..).zip(changes) {
        let record =
            ChallengeRecord { rev, change, challenge_id: 1, op, at: end_at - 100_000, synced: rev - 1 };
        record::encode(&record, &mut lines);
    }
    host.write("challenges.jsonl", &lines);
}

#[test]
fn an_end_that_nobody_was_there_for_is_carried_out_at_the_start() {
    let (mut host, worker) = peopled();
    drop(worker);
    host.stop();
    underway(&host, now_ms() - 1_000);
    host.start().unwrap();
    host.wait_until(|report| {
        report["challenges"]["live"] == 0 && report["queue"] == 0 && {
            let index = ChallengeReader::open(host.data_dir()).unwrap();
            index.participant(1, 3).unwrap().unwrap().status == Participation::NotStarted
        }
    });
    assert_eq!(status(&host, 1, 4), (Participation::Timeout, Some(1)));
    assert_eq!(status(&host, 1, 1), (Participation::Expired, Some(2)));
    assert_eq!(status(&host, 1, 2), (Participation::Expired, Some(3)));
    assert_eq!(status(&host, 1, 5), (Participation::Left, None));
    assert_eq!(code(host.worker(2).asks(enter(1, 1, 1))), Code::WrongState);
    let log = host.read("challenges.jsonl");
    assert_eq!(
        log.split(|byte| *byte == b'\n')
            .filter(|line| line.starts_with(b"{\"rev\":16,\"event\":\"ended\""))
            .count(),
        1
    );
    // Once is enough.
    host.restart();
    host.worker(3).sync();
    host.stop();
    assert_eq!(host.read("challenges.jsonl"), log);
    host.assert_clean();
}

#[test]
fn at_the_end_of_time_who_is_in_expires() {
    let (mut host, worker) = peopled();
    drop(worker);
    host.stop();
    let end_at = now_ms() + 10_000;
    underway(&host, end_at);
    host.start().unwrap();
    let mut worker = host.worker(2);
    worker.hears_challenges = true;
    host.wait_until(|report| report["challenges"]["disconnected_total"] == 2);
    assert_eq!(worker.asks(enter(1, 1, 1)), Ok(Asked::Ticket { kind: TicketKind::Reenter }));
    let entry = worker.redeems(1);
    run(&mut worker, (1, 1, entry), 0.09, 1);
    assert_eq!(left(&mut worker), (1, entry, Reason::Expired, Some(1)));
    loop {
        if let News::Over { challenge, at_ms } = news(&mut worker) {
            assert!(challenge == 1 && at_ms >= end_at);
            break;
        }
    }
    assert_eq!(status(&host, 1, 1), (Participation::Expired, Some(1)));
    assert_eq!(status(&host, 1, 4), (Participation::Timeout, Some(2)));
    assert_eq!(status(&host, 1, 2), (Participation::Disconnected, Some(3)));
    assert_eq!(status(&host, 1, 3), (Participation::NotStarted, None));
    let index = ChallengeReader::open(host.data_dir()).unwrap();
    assert_eq!(index.participant(1, 1).unwrap().unwrap().distance, km(0.09));
    host.assert_clean();
}

#[test]
fn an_index_of_challenges_that_is_gone_or_garbage_comes_back_the_same() {
    let (mut host, mut worker) = peopled();
    let challenge = worker.new_challenge(1, Distance::M100, 9);
    for user in 1..=3 {
        let entry = worker.enters(challenge, user, user.into());
        let leave = Ask::Leave { challenge, user, entry, reason: Reason::Quit };
        worker.asks(leave).unwrap();
    }
    drop(worker);
    let answers = |host: &Host| {
        let index = ChallengeReader::open(host.data_dir()).unwrap();
        format!("{:?}{:?}", index.challenges(0, 9).unwrap(), index.participants(challenge, 0, 9).unwrap())
    };
    let expected = answers(&host);
    host.stop();
    let file = host.path("index/challenges.sqlite");
    let whole = fs::read(&file).unwrap();
    let mut garbage = whole.clone();
    garbage[4_100..8_000].fill(0xA5);
    for state in [Vec::new(), b"no database".to_vec(), whole[..5_000].to_vec(), garbage] {
        fs::write(&file, state).unwrap();
        host.start().unwrap();
        assert_eq!(answers(&host), expected);
        host.stop();
    }
    fs::remove_file(&file).unwrap();
    minitalk::cli::reindex::reindex(host.data_dir()).unwrap();
    assert_eq!(answers(&host), expected);
    let (clean, said) = host.verify();
    assert!(clean && said.ends_with(", 10 challenge records\n"), "{said}");
}
