//! Users and rooms: what is refused, what is told, what a retry is answered.

use minitalk::chat::{Code, Refusal, RoomEvent};
use minitalk::index::{Page, Reader};
use minitalk::link::frame::{Change, Outcome, ToWriter};

use crate::host::{Heard, Host, Worker, rooms, users};

/// A host with alice, bob, carol and dave, numbers 1 to 4.
fn peopled() -> (Host, Worker) {
    let host = Host::started();
    let mut worker = host.worker(1);
    assert_eq!(worker.create_users(&["alice", "bob", "carol", "dave"]), [Ok(1), Ok(2), Ok(3), Ok(4)]);
    (host, worker)
}

fn join(room_id: &str, user: u64) -> Change {
    Change::Join { room_id: room_id.to_owned(), user }
}

fn leave(room_id: &str, user: u64) -> Change {
    Change::Leave { room_id: room_id.to_owned(), user }
}

fn invite(room_id: &str, by: u64, names: &[&str]) -> Change {
    let participants = names.iter().map(|name| (*name).to_owned()).collect();
    Change::Invite { room_id: room_id.to_owned(), by, participants }
}

fn code(result: Result<Outcome, Refusal>) -> Code {
    result.unwrap_err().code
}

#[test]
fn user_numbers_have_no_gaps_and_names_are_unique() {
    let (mut host, mut worker) = peopled();
    let taken = Err(Code::UsernameTaken);
    assert_eq!(worker.create_users(&["eve", "bob", "eve", "frank"]), [Ok(5), taken, taken, Ok(6)]);
    host.restart();
    let mut worker = host.worker(2);
    assert_eq!(worker.create_users(&["alice", "grace"]), [taken, Ok(7)]);
    let reader = Reader::open(host.data_dir()).unwrap();
    assert_eq!(reader.user_by_name("frank").unwrap().unwrap().number, 6);
    assert_eq!(reader.user_by_number(7).unwrap().unwrap().username, "grace");
    assert_eq!(reader.user_by_number(8).unwrap(), None);
    host.assert_clean();
}

#[test]
fn rooms_are_what_they_were_made_to_be() {
    let (host, mut worker) = peopled();
    worker.create_room(2, "r", &["carol", "bob", "carol", "alice"]).unwrap();
    worker.posted(1, "r", "hello").unwrap();
    worker.sync();
    let reader = Reader::open(host.data_dir()).unwrap();
    let room = reader.room("r").unwrap().unwrap();
    assert_eq!(room.participants, ["bob", "carol", "alice"]);
    assert_eq!((room.participant_count, room.created_by.as_str(), room.last_seq), (3, "bob", 1));
    assert_eq!((room.name.as_str(), room.open), ("room r", false));
    assert!(reader.is_member("r", 3).unwrap() && !reader.is_member("r", 4).unwrap());
    assert!(!reader.is_member("other", 3).unwrap());
    assert_eq!(reader.room("other").unwrap(), None);
    assert_eq!(reader.last_seq("other").unwrap(), 0);
}

#[test]
fn lists_come_in_order_and_in_pages() {
    let (host, mut worker) = peopled();
    for room in ["a", "b", "c", "d"] {
        worker.create_room(1, room, &[]).unwrap();
    }
    for room in ["c", "a", "d"] {
        worker.change(invite(room, 1, &["bob"])).unwrap();
    }
    let reader = Reader::open(host.data_dir()).unwrap();
    let ids = reader.room_ids_of(2, 0, 2).unwrap();
    assert_eq!(ids.room_ids, ["a", "c"]);
    let rest = reader.room_ids_of(2, ids.next.unwrap(), 2).unwrap();
    assert_eq!((rest.room_ids, rest.next), (vec!["d".to_owned()], None));
    let mut page = Page { after: None, limit: 2 };
    let first = reader.rooms_of(2, page).unwrap();
    page.after = Some(first[1].key);
    let second = reader.rooms_of(2, page).unwrap();
    let names: Vec<_> = first.iter().chain(&second).map(|room| room.room_id.as_str()).collect();
    assert_eq!(names, ["a", "c", "d"]);
    assert_eq!(first[0].participants, ["alice", "bob"]);
}

#[test]
fn what_may_not_be_is_refused_and_leaves_nothing() {
    let (host, mut worker) = peopled();
    worker.create_room(1, "closed", &["bob"]).unwrap();
    let before = host.read("chatrooms.jsonl");
    let ghosts: Vec<String> = (1..=12).map(|number| format!("ghost{number}")).collect();
    let ghosts: Vec<&str> = ghosts.iter().map(String::as_str).collect();
    let refusal = worker.create_room(1, "new", &ghosts).unwrap_err();
    assert_eq!(refusal.code, Code::UnknownParticipants);
    assert!(refusal.message.ends_with("ghost9, ghost10 and 2 more"), "{}", refusal.message);
    assert_eq!(code(worker.change(invite("closed", 1, &["carol", "ghost"]))), Code::UnknownParticipants);
    assert_eq!(code(worker.change(invite("closed", 3, &["dave"]))), Code::NotAMember);
    assert_eq!(code(worker.change(invite("none", 1, &["dave"]))), Code::RoomNotFound);
    assert_eq!(code(worker.change(join("closed", 3))), Code::RoomNotOpen);
    assert_eq!(code(worker.change(join("none", 3))), Code::RoomNotFound);
    assert_eq!(code(worker.change(leave("closed", 3))), Code::NotAMember);
    assert_eq!(code(worker.change(leave("none", 3))), Code::RoomNotFound);
    // Nothing to do is no refusal, and no record.
    assert_eq!(worker.change(join("closed", 2)), Ok(Outcome::Ok));
    assert_eq!(worker.change(invite("closed", 1, &["bob"])), Ok(Outcome::Ok));
    assert_eq!(host.read("chatrooms.jsonl"), before);
}

#[test]
fn nobody_is_in_more_rooms_than_allowed() {
    let mut host = Host::new();
    host.config.rooms_per_user = 2;
    host.start().unwrap();
    let mut worker = host.worker(1);
    worker.create_users(&["alice", "bob"]);
    // In one call: the limit holds within it.
    let Ok(Outcome::Rooms(made)) = worker.change(rooms(
        2,
        &[("a", true, &["alice"]), ("b", true, &["alice"]), ("c", true, &["alice"]), ("d", true, &[])],
    )) else {
        panic!("refused as a whole");
    };
    assert_eq!(made.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, true, false, false]);
    let refusal = made[2].clone().unwrap_err();
    assert_eq!(refusal.code, Code::TooManyRooms);
    assert!(refusal.message.starts_with("bob "), "{}", refusal.message);
    worker.change(leave("a", 2)).unwrap();
    worker.create_room(2, "e", &[]).unwrap();
    assert_eq!(code(worker.change(invite("e", 2, &["alice"]))), Code::TooManyRooms);
    assert_eq!(code(worker.change(join("a", 2))), Code::TooManyRooms);
}

#[test]
fn the_last_one_out_deletes_the_room() {
    let (mut host, mut worker) = peopled();
    worker.create_room(1, "r", &["bob"]).unwrap();
    worker.change(leave("r", 1)).unwrap();
    worker.change(leave("r", 2)).unwrap();
    assert_eq!(code(worker.change(join("r", 1))), Code::RoomNotFound);
    worker.create_room(3, "r", &[]).unwrap();
    let told = worker_events(&host);
    assert_eq!(
        told[1..],
        [
            RoomEvent::Left { room_id: "r".into(), user: 1, deleted: false },
            RoomEvent::Left { room_id: "r".into(), user: 2, deleted: true },
            RoomEvent::Created { room_id: "r".into(), members: vec![3] },
        ]
    );
    host.restart();
    let reader = Reader::open(host.data_dir()).unwrap();
    assert_eq!(reader.room("r").unwrap().unwrap().participants, ["carol"]);
    host.assert_clean();
}

/// All changes of rooms, as a worker hears them that has missed them.
fn worker_events(host: &Host) -> Vec<RoomEvent> {
    let last = host.running().report()["position"]["rev"].as_u64().unwrap();
    let mut worker = host.worker_at(99, Some(Default::default()));
    let heard = worker.hear_until(|heard| matches!(heard, Heard::Rooms(rev, _) if *rev == last));
    let events = |heard: Heard| match heard {
        Heard::Rooms(_, events) => events,
        _ => Vec::new(),
    };
    heard.into_iter().flat_map(events).collect()
}

#[test]
fn a_change_is_told_to_all_before_it_is_answered() {
    let (host, mut worker) = peopled();
    let mut other = host.worker(2);
    other.hear();
    worker.create_room(1, "r", &["bob"]).unwrap();
    let created = RoomEvent::Created { room_id: "r".into(), members: vec![1, 2] };
    assert_eq!(other.hear(), [Heard::Rooms(1, vec![created])]);
    let count = worker.next_count();
    worker.send(&ToWriter::Change { count, change: invite("r", 2, &["carol", "alice", "dave"]) });
    let joined = RoomEvent::Joined { room_id: "r".into(), users: vec![3, 4] };
    assert_eq!(worker.hear(), [Heard::Rooms(2, vec![joined])]);
    assert_eq!(worker.hear(), [Heard::Done(count, Outcome::Ok)]);
}

#[test]
fn a_retried_change_is_answered_like_the_first_time() {
    let (mut host, mut worker) = peopled();
    let steps: Vec<(Change, Result<Outcome, Refusal>)> = [
        users(&["eve", "bob", "eve", "frank"]),
        rooms(1, &[("a", true, &["bob"]), ("b", false, &["ghost"]), ("c", false, &[])]),
        invite("a", 1, &["carol"]),
        join("a", 4),
        leave("a", 2),
        leave("c", 1),
    ]
    .into_iter()
    .map(|change| {
        let outcome = worker.change(change.clone());
        assert!(outcome.is_ok(), "{outcome:?}");
        (change, outcome)
    })
    .collect();
    let records = (host.read("users.jsonl"), host.read("chatrooms.jsonl"));
    for round in 0..3 {
        let mut again = host.worker(1);
        for (count, (change, outcome)) in (2..).zip(&steps) {
            assert_eq!(again.change_as(count, change.clone()), *outcome, "round {round}, operation {count}");
        }
        assert_eq!((host.read("users.jsonl"), host.read("chatrooms.jsonl")), records);
        host.restart();
    }
    // Twice in one write: decided once.
    let mut again = host.worker(1);
    let change = users(&["gina"]);
    let twice = [0, 1].map(|_| ToWriter::Change { count: 50, change: change.clone() });
    again.send_all(&twice);
    for _ in 0..2 {
        assert_eq!(again.answer(50), Ok(Outcome::Users(vec![Ok(7)])));
    }
}

#[test]
fn many_users_in_one_go() {
    let (host, mut worker) = peopled();
    let first = worker.next_count();
    for op in 0..20 {
        let names: Vec<String> = (0..1_000).map(|number| format!("user {op} {number}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        worker.send(&ToWriter::Change { count: first + op, change: users(&names) });
    }
    for op in 0..20u64 {
        let Ok(Outcome::Users(made)) = worker.answer(first + op) else {
            panic!("refused");
        };
        let numbers: Vec<u64> = made.into_iter().map(Result::unwrap).collect();
        let start = 5 + op * 1_000;
        assert_eq!(numbers, (start..start + 1_000).collect::<Vec<u64>>());
    }
    host.assert_clean();
}
