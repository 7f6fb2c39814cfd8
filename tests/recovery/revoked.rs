//! Ended tokens stay ended: whatever is cut, built anew, compacted or asked twice.

use std::fs;

use minitalk::challenge::{Distance, Participation};
use minitalk::chat::{Code, Refusal};
use minitalk::cli::{compact, reindex};
use minitalk::index::challenges::ChallengeReader;
use minitalk::index::{Reader, Revocation};
use minitalk::link::arena::{Ask, Asked};
use minitalk::link::frame::{Change, NewPassword, Outcome, Purpose, Ticket, ToWriter};

use crate::host::{Heard, Host, Worker};

fn revoke(user: u64, generation: u32) -> Change {
    Change::Revoke { user, generation }
}

fn password(user: u64, generation: u32, replaces: &str, password: &str) -> Change {
    let [replaces, password] = [replaces, password].map(str::to_owned);
    Change::ChangePassword { password: NewPassword { user, replaces, password }, generation }
}

fn done(generation: u32) -> Result<Outcome, Refusal> {
    Ok(Outcome::Revoked { generation })
}

fn code(result: Result<Outcome, Refusal>) -> Code {
    result.unwrap_err().code
}

/// What the index says of a user: generation, record and password.
fn known(host: &Host, user: u64) -> (u32, u64, String) {
    let reader = Reader::open(host.data_dir()).unwrap();
    let Revocation { generation, rev, .. } = reader.revocation(user).unwrap();
    let found = reader.user_by_number(user).unwrap().unwrap();
    assert_eq!(found.generation, generation);
    (generation, rev, found.password.unwrap())
}

/// A host with alice and bob, 1 and 2.
fn peopled() -> (Host, Worker) {
    let host = Host::started();
    let mut worker = host.worker(1);
    assert_eq!(worker.create_users(&["alice", "bob"]), [Ok(1), Ok(2)]);
    (host, worker)
}

#[test]
fn each_one_is_a_line_and_only_who_came_with_a_good_token_may() {
    let (mut host, mut worker) = peopled();
    assert_eq!(worker.change(revoke(1, 0)), done(1));
    assert_eq!(code(worker.change(revoke(1, 0))), Code::Unauthorized);
    assert_eq!(code(worker.change(revoke(3, 0))), Code::Unauthorized);
    assert_eq!(code(worker.change(password(1, 0, "$argon2id$x", "new"))), Code::Unauthorized);
    assert_eq!(code(worker.change(password(1, 1, "another", "new"))), Code::Unauthorized);
    assert_eq!(worker.change(password(1, 1, "$argon2id$x", "new")), done(2));
    let text = String::from_utf8(host.read("users.jsonl")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 4);
    for (line, begins, holds) in [
        (lines[2], r#"{"rev":3,"event":"revoked","op":"#, r#","userId":1,"generation":1,"at":""#),
        (
            lines[3],
            r#"{"rev":4,"event":"password","op":"#,
            r#","userId":1,"password":"new","generation":2,"at":""#,
        ),
    ] {
        assert!(line.starts_with(begins) && line.contains(holds), "{line}");
    }
    for _ in 0..2 {
        assert_eq!(known(&host, 1), (2, 4, "new".to_owned()));
        assert_eq!(known(&host, 2), (0, 0, "$argon2id$x".to_owned()));
        host.restart();
    }
    host.assert_clean();
}

#[test]
fn all_hear_a_sign_before_the_answer_and_the_index_has_it_then() {
    let (host, mut worker) = peopled();
    let mut other = host.worker(2);
    other.hear();
    worker.change(revoke(2, 0)).unwrap();
    assert_eq!(other.hear(), [Heard::Revoked]);
    assert_eq!(known(&host, 2).0, 1);
    let count = worker.next_count();
    worker.send(&ToWriter::Change { count, change: revoke(1, 0) });
    assert_eq!(worker.hear(), [Heard::Revoked]);
    assert_eq!(worker.hear(), [Heard::Done(count, Outcome::Revoked { generation: 1 })]);
    let reader = Reader::open(host.data_dir()).unwrap();
    assert_eq!(reader.last_revocation().unwrap(), 4);
    assert_eq!(reader.revoked_after(0, 9).unwrap(), [(2, 3), (1, 4)]);
    assert_eq!(reader.revoked_after(3, 9).unwrap(), [(1, 4)]);
    assert_eq!(reader.revoked_after(0, 1).unwrap(), [(2, 3)]);
    assert_eq!(reader.revoked_after(4, 9).unwrap(), []);
}

#[test]
fn a_retried_one_is_answered_like_the_first_time() {
    let (mut host, mut worker) = peopled();
    assert_eq!(worker.change_as(10, revoke(1, 0)), done(1));
    assert_eq!(worker.change_as(11, password(1, 1, "$argon2id$x", "new")), done(2));
    let before = host.read("users.jsonl");
    for _ in 0..3 {
        let mut again = host.worker(1);
        assert_eq!(again.change_as(10, revoke(1, 0)), done(1));
        assert_eq!(again.change_as(11, password(1, 1, "$argon2id$x", "new")), done(2));
        assert_eq!(host.read("users.jsonl"), before);
        host.restart();
    }
}

#[test]
fn the_log_may_end_in_the_midst_of_them() {
    let (mut host, mut worker) = peopled();
    for generation in 0..2 {
        worker.change(revoke(1, generation)).unwrap();
    }
    worker.change(password(1, 2, "$argon2id$x", "new")).unwrap();
    host.stop();
    let whole = host.read("users.jsonl");
    let ends: Vec<usize> =
        whole.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1).collect();
    for cut in ends[1]..=whole.len() {
        host.write("users.jsonl", &whole[..cut]);
        fs::remove_dir_all(host.path("index")).unwrap();
        host.start().unwrap_or_else(|error| panic!("cut at {cut}: {error}"));
        let left = ends.iter().filter(|end| **end <= cut).count();
        let generation = u32::try_from(left - 2).unwrap();
        let rev = if left == 2 { 0 } else { left as u64 };
        let text = if left == 5 { "new" } else { "$argon2id$x" };
        assert_eq!(known(&host, 1), (generation, rev, text.to_owned()), "cut at {cut}");
        host.stop();
        host.assert_clean();
    }
}

#[test]
fn the_latest_one_survives_compaction_and_a_new_index() {
    let (mut host, mut worker) = peopled();
    for generation in 0..50 {
        worker.change(revoke(1, generation)).unwrap();
    }
    worker.change(password(1, 50, "$argon2id$x", "first")).unwrap();
    // Another hash of the same password: the record before it matters only for what it ends.
    let outdated = NewPassword { user: 1, replaces: "first".to_owned(), password: "second".to_owned() };
    worker.change(Change::SetPasswords(vec![outdated])).unwrap();
    worker.change(password(2, 0, "$argon2id$x", "other")).unwrap();
    worker.change(revoke(2, 1)).unwrap();
    worker.create_users(&["carol", "dave"]);
    host.stop();
    let expected = [known(&host, 1), known(&host, 2)];
    assert_eq!(expected, [(51, 53, "second".to_owned()), (2, 56, "other".to_owned())]);
    for round in 0..3 {
        compact::compact(host.data_dir(), &mut |_, _, _| {}).unwrap();
        host.assert_clean();
        assert_eq!([known(&host, 1), known(&host, 2)], expected, "compacted, round {round}");
        reindex::reindex(host.data_dir()).unwrap();
        assert_eq!([known(&host, 1), known(&host, 2)], expected, "built anew, round {round}");
        let text = String::from_utf8(host.read("users.jsonl")).unwrap();
        assert!(text.lines().count() <= 12, "{text}");
        assert!(!text.contains("\"first\""), "{text}");
        host.start().unwrap();
        let mut worker = host.worker(10 + round);
        worker.create_users(&[&format!("more {round}")]);
        host.stop();
    }
}

#[test]
fn deleting_all_users_deletes_what_was_ended_of_them() {
    let (mut host, mut worker) = peopled();
    worker.change(revoke(2, 0)).unwrap();
    worker.change(Change::DeleteUsers { by: 1 }).unwrap();
    assert_eq!(worker.create_users(&["bob"]), [Ok(3)]);
    for _ in 0..2 {
        assert_eq!(known(&host, 3).0, 0);
        assert_eq!(Reader::open(host.data_dir()).unwrap().revocation(2).unwrap(), Revocation::default());
        host.stop();
        reindex::reindex(host.data_dir()).unwrap();
        host.start().unwrap();
    }
    assert_eq!(code(host.worker(3).change(revoke(2, 0))), Code::Unauthorized);
}

#[test]
fn a_ticket_is_in_no_file_and_gone_with_its_writer() {
    let (mut host, mut worker) = peopled();
    let files = |host: &Host| ["users.jsonl", "chatrooms.jsonl", "admin.jsonl"].map(|name| host.read(name));
    let before = files(&host);
    let issue = |worker: &mut Worker, id: u128| {
        let count = worker.next_count();
        let ticket = Ticket { id, purpose: Purpose::Chat, user: 1, payload: vec![7], ttl_ms: 3_600_000 };
        worker.send(&ToWriter::IssueTicket { count, ticket });
        worker.answer(count)
    };
    let redeem = |worker: &mut Worker, id: u128| {
        let count = worker.next_count();
        worker.send(&ToWriter::RedeemTicket { count, purpose: Purpose::Chat, id });
        worker.answer(count)
    };
    let good = Ok(Outcome::Ticket { user: 1, payload: vec![7] });
    assert_eq!(issue(&mut worker, 5), Ok(Outcome::Ok));
    assert_eq!(issue(&mut worker, 6), Ok(Outcome::Ok));
    let mut other = host.worker(2);
    assert_eq!(redeem(&mut other, 5), good);
    assert_eq!(code(redeem(&mut worker, 5)), Code::Unauthorized);
    assert_eq!(files(&host), before);
    host.restart();
    let mut worker = host.worker(3);
    assert_eq!(code(redeem(&mut worker, 6)), Code::Unauthorized);
    assert_eq!(issue(&mut worker, 7), Ok(Outcome::Ok));
    assert_eq!(redeem(&mut worker, 7), good);
}

#[test]
fn a_ticket_for_a_challenge_ends_with_the_tokens_of_its_time_whenever_it_was_given_out() {
    let (host, mut worker) = peopled();
    let challenge = worker.new_challenge(1, Distance::M100, 9);
    let enter = |user, generation, ticket| Ask::Enter { challenge, user, generation, ticket };
    for user in [1, 2] {
        worker.asks(Ask::Join { challenge, user }).unwrap();
        worker.asks(enter(user, 0, user.into())).unwrap();
    }
    worker.change(revoke(1, 0)).unwrap();
    // The call was let in with a token that was good then, and comes here behind its end.
    worker.asks(enter(1, 0, 3)).unwrap();
    for ticket in [1, 3] {
        assert_eq!(worker.asks(Ask::Redeem { ticket }).unwrap_err().code, Code::InvalidTicket);
    }
    let index = ChallengeReader::open(host.data_dir()).unwrap();
    assert_eq!(index.participant(challenge, 1).unwrap().unwrap().status, Participation::Waiting);
    let entered = |asked| matches!(asked, Ok(Asked::Entered { .. }));
    assert!(entered(worker.asks(Ask::Redeem { ticket: 2 })), "another's");
    worker.asks(enter(1, 1, 4)).unwrap();
    let redeeming = worker.next_count() + 100;
    let first = worker.asks_as(redeeming, Ask::Redeem { ticket: 4 });
    assert!(entered(first.clone()));
    // Its socket is seated or turned away by what the worker is told, so a repetition hears the same.
    worker.change(revoke(1, 1)).unwrap();
    assert_eq!(worker.asks_as(redeeming, Ask::Redeem { ticket: 4 }), first);
    host.assert_clean();
}
