//! Nicknames and pictures that change: whatever is cut, built anew, compacted or asked twice.

use minitalk::challenge::{Distance, Reason};
use minitalk::chat::Code;
use minitalk::cli::{compact, reindex};
use minitalk::index::Reader;
use minitalk::link::arena::{Ask, Asked, News};
use minitalk::link::frame::{Change, Outcome};

use crate::host::{Heard, Host, Worker};

type Looks = (Option<String>, Option<String>);

fn some(text: &str) -> Option<Option<String>> {
    Some(Some(text.to_owned()))
}

fn set(user: u64, nickname: Option<Option<String>>, profile_image: Option<Option<String>>) -> Change {
    Change::SetLooks { user, nickname, profile_image }
}

fn known(host: &Host, user: u64) -> Looks {
    let found = Reader::open(host.data_dir()).unwrap().user_by_number(user).unwrap().unwrap();
    (found.nickname, found.profile_image)
}

fn looks(nickname: Option<&str>, profile_image: Option<&str>) -> Looks {
    (nickname.map(str::to_owned), profile_image.map(str::to_owned))
}

fn peopled() -> (Host, Worker) {
    let host = Host::started();
    let mut worker = host.worker(1);
    assert_eq!(worker.create_users(&["alice", "bob"]), [Ok(1), Ok(2)]);
    (host, worker)
}

#[test]
fn what_is_not_named_stays_and_what_is_the_same_is_no_record() {
    let (mut host, mut worker) = peopled();
    let rest = Ok(Outcome::Ok);
    for (change, expected) in [
        (set(1, some("a"), None), looks(Some("a"), None)),
        (set(1, None, some("http://p")), looks(Some("a"), Some("http://p"))),
        (set(1, Some(None), None), looks(None, Some("http://p"))),
        (set(1, None, None), looks(None, Some("http://p"))),
        (set(1, Some(None), some("http://p")), looks(None, Some("http://p"))),
        (set(1, some("가"), Some(None)), looks(Some("가"), None)),
    ] {
        assert_eq!(worker.change(change), rest);
        assert_eq!(known(&host, 1), expected);
    }
    assert_eq!(worker.change(set(3, some("x"), None)).unwrap_err().code, Code::Unauthorized);
    assert_eq!(known(&host, 2), looks(None, None));
    let text = String::from_utf8(host.read("users.jsonl")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 6, "{text}");
    assert!(lines[5].starts_with(r#"{"rev":6,"event":"profile","op":""#), "{}", lines[5]);
    assert!(lines[5].contains(r#","userId":1,"nickname":"가","at":""#), "{}", lines[5]);
    host.restart();
    assert_eq!(known(&host, 1), looks(Some("가"), None));
    host.assert_clean();
}

#[test]
fn a_retry_takes_back_nothing_that_came_later() {
    let (mut host, mut worker) = peopled();
    let count = worker.next_count();
    let change = set(1, some("first"), None);
    assert_eq!(worker.change_as(count, change.clone()), Ok(Outcome::Ok));
    assert_eq!(worker.change(set(1, some("second"), None)), Ok(Outcome::Ok));
    assert_eq!(worker.change_as(count, change.clone()), Ok(Outcome::Ok));
    host.restart();
    assert_eq!(host.worker(1).change_as(count, change), Ok(Outcome::Ok));
    assert_eq!(known(&host, 1), looks(Some("second"), None));
}

#[test]
fn the_latest_outlives_compaction_and_building_anew() {
    let (mut host, mut worker) = peopled();
    for round in 0..20 {
        worker.change(set(1, some(&format!("old {round}")), some("http://old"))).unwrap();
        worker.change(set(2, some("same"), None)).unwrap();
        worker.change(set(2, Some(None), None)).unwrap();
    }
    worker.change(set(1, some("new"), Some(None))).unwrap();
    worker.create_users(&["carol"]);
    host.stop();
    let expected = [looks(Some("new"), None), looks(None, None)];
    for round in 0..2 {
        compact::compact(host.data_dir(), &mut |_, _, _| {}).unwrap();
        host.assert_clean();
        assert_eq!([known(&host, 1), known(&host, 2)], expected, "compacted, round {round}");
        reindex::reindex(host.data_dir()).unwrap();
        assert_eq!([known(&host, 1), known(&host, 2)], expected, "built anew, round {round}");
    }
    let text = String::from_utf8(host.read("users.jsonl")).unwrap();
    assert!(!text.contains("old ") && text.contains("\"new\""), "{text}");
    host.start().unwrap();
}

/// Whoever is told of a member after the answer is told of the new looks.
#[test]
fn those_in_challenges_are_seen_by_the_new_one() {
    let (host, mut worker) = peopled();
    let mut other = host.worker(2);
    let [first, second] = [1, 2].map(|_| worker.new_challenge(1, Distance::M100, 9));
    let entry = worker.enters(first, 1, 1);
    worker.enters(first, 2, 2);
    worker.asks(Ask::Join { challenge: second, user: 1 }).unwrap();
    other.hears_challenges = true;
    worker.change(set(1, some("new"), some("http://p"))).unwrap();
    assert_eq!(worker.asks(Ask::Refresh { user: 1 }), Ok(Asked::Refreshed));
    // Of somebody who is in nothing there is nothing to tell.
    worker.create_users(&["carol"]);
    assert_eq!(worker.asks(Ask::Refresh { user: 3 }), Ok(Asked::Refreshed));
    assert_eq!(worker.asks(Ask::Refresh { user: 9 }), Ok(Asked::Refreshed));
    worker.asks(Ask::Leave { challenge: first, user: 1, entry, reason: Reason::Timeout }).unwrap();
    let told = other.hear_until(|heard| matches!(heard, Heard::Arena(News::Left { .. })));
    let seen: Vec<&News> = told
        .iter()
        .filter_map(|heard| match heard {
            Heard::Arena(news @ News::Looks { .. }) => Some(news),
            _ => None,
        })
        .collect();
    let (nickname, profile_image) = ("new".to_owned(), Some("http://p".to_owned()));
    assert_eq!(seen, [&News::Looks { user: 1, nickname, profile_image }]);
    // A worker that comes later, and one that is told of an entry, hear the same; even when nobody has said
    // that it changed.
    let mut late = host.worker(3);
    late.hears_challenges = true;
    let named = |worker: &mut Worker| loop {
        for heard in worker.hear() {
            match heard {
                Heard::Arena(News::Live { runners, .. }) => {
                    if let Some((_, runner)) = runners.into_iter().find(|(_, runner)| runner.user == 1) {
                        return runner.nickname;
                    }
                }
                Heard::Arena(News::Entered { runner, .. }) if runner.user == 1 => return runner.nickname,
                _ => {}
            }
        }
    };
    assert_eq!(named(&mut late), "new");
    worker.change(set(1, some("newer"), None)).unwrap();
    worker.asks(Ask::Enter { challenge: first, user: 1, generation: 0, ticket: 3 }).unwrap();
    worker.redeems(3);
    assert_eq!(named(&mut other), "newer");
    host.assert_clean();
}
