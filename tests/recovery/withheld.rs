//! A disk that refuses a batch and then does not even let the file be cut back: the refused lines
//! stand in it, and should the process end now, the next one takes them for good. So nobody is told
//! "refused" before the cut is durable.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use minitalk::chat::{Code, OpId};
use minitalk::link::frame::Outcome;

use crate::bad_disk::{BadDisk, Fault};
use crate::host::{Heard, Host, Worker, post, rooms, users};

const OTHER: ErrorKind = ErrorKind::Other;

/// What keeps a log from being mended.
const NO_CUT: [Fault; 3] =
    [Fault::Cut(OTHER), Fault::Open(ErrorKind::ReadOnlyFilesystem), Fault::Sync(OTHER)];

fn host(disk: &BadDisk) -> Host {
    let mut host = Host::new().with_disk(Arc::new(disk.clone()));
    host.start().unwrap();
    host
}

fn op(count: u64) -> OpId {
    OpId { instance: 1, count }
}

fn contents(host: &Host) -> Vec<String> {
    host.messages().iter().map(|message| message["content"].as_str().unwrap().to_owned()).collect()
}

/// One message confirmed, one refused by the disk for as long as `no_cut` holds, and a third that is
/// refused at once, which says that the second has been worked on and not answered.
fn with_a_withheld_message(disk: &BadDisk, no_cut: Fault) -> (Host, Worker) {
    let host = host(disk);
    let mut worker = host.worker(1);
    assert_eq!(worker.posted(1, "r", "kept"), Ok(1));
    disk.plan(Fault::Sync(OTHER), "messages", 0, 1);
    disk.plan(no_cut, "messages", 0, usize::MAX);
    worker.send(&post(2, "r", "withheld", Some("name")));
    host.wait_until(|report| report["disk"] != "ok");
    worker.send(&post(3, "r", "too late", None));
    let heard = worker.hear_until(|heard| matches!(heard, Heard::Refused(3, _)));
    assert!(!heard.iter().any(|heard| matches!(heard, Heard::Refused(2, _))), "{no_cut:?}: {heard:?}");
    (host, worker)
}

#[test]
fn what_the_disk_refused_and_keeps_is_answered_by_the_next_process() {
    for no_cut in NO_CUT {
        let disk = BadDisk::default();
        let (host, mut worker) = with_a_withheld_message(&disk, no_cut);
        // The same again, as a worker asks whose connection broke, and as a client asks who waits in
        // vain: the first is not answered otherwise than later, nor is the second.
        let mut again = host.worker(1);
        again.send_all(&[post(2, "r", "withheld", Some("name")), post(4, "r", "withheld", Some("name"))]);
        again.send(&post(5, "r", "too late as well", None));
        let heard = again.hear_until(|heard| matches!(heard, Heard::Refused(5, _)));
        assert!(!heard.iter().any(|heard| matches!(heard, Heard::Refused(2 | 4, _))), "{heard:?}");
        let after = tempfile::tempdir().unwrap();
        BadDisk::crash(host.data_dir(), after.path());
        let next = Host::started_on(after.path());
        // Only where the cut was made and not synced does a process that ends leave it cut.
        let cut = no_cut == Fault::Sync(OTHER);
        assert_eq!(contents(&next), ["kept", "withheld"][..if cut { 1 } else { 2 }], "{no_cut:?}");
        let mut again = next.worker(1);
        again.send(&post(2, "r", "withheld", Some("name")));
        assert_eq!(again.outcome_of_post(op(2)), Ok(2));
        again.send(&post(4, "r", "withheld", Some("name")));
        assert_eq!(again.outcome_of_post(op(4)), Ok(2));
        assert_eq!(contents(&next), ["kept", "withheld"], "{no_cut:?}");
        next.assert_clean();
        // The process did not end after all: the cut succeeds, and then all of them are refused.
        disk.mend();
        assert_eq!(worker.outcome_of_post(op(2)).unwrap_err().code, Code::StorageFailed);
        host.wait_until(|report| report["disk"] == "ok");
        assert_eq!(contents(&host), ["kept"]);
        assert_eq!(worker.posted(1, "r", "next").unwrap(), 2);
        host.assert_clean();
    }
}

#[test]
fn those_who_asked_again_are_refused_with_the_first() {
    let disk = BadDisk::default();
    let (host, _) = with_a_withheld_message(&disk, Fault::Cut(OTHER));
    let mut again = host.worker(1);
    again.send_all(&[post(2, "r", "withheld", Some("name")), post(4, "r", "withheld", Some("name"))]);
    again.send(&post(5, "r", "too late", None));
    again.hear_until(|heard| matches!(heard, Heard::Refused(5, _)));
    disk.mend();
    let heard = again.hear_until(|heard| matches!(heard, Heard::Refused(4, _)));
    assert!(heard.iter().any(|heard| matches!(heard, Heard::Refused(2, _))), "{heard:?}");
}

#[test]
fn a_message_stored_before_is_answered_while_the_disk_refuses() {
    let disk = BadDisk::default();
    let (host, _) = with_a_withheld_message(&disk, Fault::Cut(OTHER));
    let mut again = host.worker(1);
    again.send(&post(1, "r", "kept", None));
    assert_eq!(again.outcome_of_post(op(1)), Ok(1));
}

#[test]
fn a_process_that_drains_leaves_it_to_the_next() {
    let disk = BadDisk::default();
    let (mut host, mut worker) = with_a_withheld_message(&disk, Fault::Cut(OTHER));
    host.stop();
    while let Some(heard) = worker.try_hear() {
        assert!(!heard.iter().any(|heard| matches!(heard, Heard::Refused(2, _))), "{heard:?}");
    }
    disk.mend();
    host.start().unwrap();
    let mut again = host.worker(1);
    again.send(&post(2, "r", "withheld", Some("name")));
    assert_eq!(again.outcome_of_post(op(2)), Ok(2));
    assert_eq!(contents(&host), ["kept", "withheld"]);
}

/// What is there of `alice2` and `b` after an end of the process now.
fn there(files: &Path) -> (Host, bool, bool) {
    let host = Host::started_on(files);
    let reader = minitalk::index::Reader::open(host.data_dir()).unwrap();
    let user = reader.user_by_name("alice2").unwrap().is_some();
    let room = reader.room("b").unwrap().is_some();
    (host, user, room)
}

#[test]
fn changes_of_users_and_rooms_likewise() {
    for (name, no_cut) in
        ["users", "chatrooms"].into_iter().flat_map(|name| NO_CUT.map(|no_cut| (name, no_cut)))
    {
        let disk = BadDisk::default();
        let host = host(&disk);
        let mut worker = host.worker(1);
        assert_eq!(worker.create_users(&["alice"]), [Ok(1)]);
        worker.create_room(1, "a", &[]).unwrap();
        let of_users = name == "users";
        let change = || if of_users { users(&["alice2"]) } else { rooms(1, &[("b", false, &[])]) };
        disk.plan(Fault::Sync(OTHER), name, 0, 1);
        disk.plan(no_cut, name, 0, usize::MAX);
        worker.ask(50, change());
        host.wait_until(|report| report["disk"] != "ok");
        // What comes now is refused; what was done before is not.
        let mut again = host.worker(1);
        again.ask(50, change());
        again.ask(1, users(&["alice"]));
        assert_eq!(again.answer(1), Ok(Outcome::Users(vec![Ok(1)])), "{name} {no_cut:?}");
        again.ask(51, users(&["zoe"]));
        let heard = again.hear_until(|heard| matches!(heard, Heard::Refused(51, _)));
        assert!(!heard.iter().any(|heard| matches!(heard, Heard::Refused(50, _))), "{heard:?}");
        let after = tempfile::tempdir().unwrap();
        BadDisk::crash(host.data_dir(), after.path());
        let (next, user, room) = there(after.path());
        if no_cut != Fault::Sync(OTHER) {
            assert_eq!((user, room), (of_users, !of_users), "{name} {no_cut:?}");
        }
        let mut asks = next.worker(1);
        let refused = |outcome: Outcome| match outcome {
            Outcome::Users(all) => all.iter().any(Result::is_err),
            Outcome::Rooms(all) => all.iter().any(Result::is_err),
            _ => false,
        };
        assert!(!refused(asks.change_as(50, change()).unwrap()), "{name} {no_cut:?}");
        next.assert_clean();
        disk.mend();
        assert_eq!(worker.answer(50).unwrap_err().code, Code::StorageFailed);
        host.wait_until(|report| report["disk"] == "ok");
        let reader = minitalk::index::Reader::open(host.data_dir()).unwrap();
        assert_eq!(reader.user_by_name("alice2").unwrap(), None);
        assert_eq!(reader.room("b").unwrap(), None);
        host.assert_clean();
    }
}
