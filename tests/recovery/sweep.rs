//! Every write, every sync and every cut of a short life fails once, or with all that follow for a
//! while; then the process ends, or the machine. Each time a checker compares what was told with what
//! is there: nothing confirmed is lost, nothing refused is stored, nothing is there twice.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use minitalk::chat::OpId;
use minitalk::config::Fsync;

use crate::bad_disk::{BadDisk, Fault};
use crate::host::{Heard, Host, Worker, post, rooms, users};

/// Rounds of one message, one user and one room.
const ROUNDS: u64 = 4;

/// What was told of each message, user and room, by name.
#[derive(Default)]
struct Told {
    confirmed: HashSet<String>,
    refused: HashSet<String>,
}

impl Told {
    fn note(&mut self, name: String, good: bool) {
        if good {
            self.confirmed.insert(name)
        } else {
            self.refused.insert(name)
        };
    }
}

/// Says all that is wrong between what was told and what is there.
fn judge(told: &Told, there: &[String]) -> Vec<String> {
    let mut faults = Vec::new();
    let distinct: HashSet<&String> = there.iter().collect();
    if distinct.len() != there.len() {
        faults.push(format!("twice: {there:?}"));
    }
    let missing = told.confirmed.iter().filter(|name| !distinct.contains(name));
    faults.extend(missing.map(|name| format!("lost: {name}")));
    for name in distinct {
        if told.refused.contains(name) {
            faults.push(format!("refused and stored: {name}"));
        } else if !told.confirmed.contains(name) {
            faults.push(format!("invented: {name}"));
        }
    }
    faults
}

/// Names of all messages, users and rooms of a host.
fn there(host: &Host) -> Vec<String> {
    let content = |message: serde_json::Value| message["content"].as_str().unwrap().to_owned();
    let mut names: Vec<String> = host.messages().into_iter().map(content).collect();
    let reader = minitalk::index::Reader::open(host.data_dir()).unwrap();
    for round in 0..ROUNDS {
        let (user, room) = (format!("user {round}"), format!("room {round}"));
        names.extend(reader.user_by_name(&user).unwrap().map(|_| user));
        names.extend(reader.room(&room).unwrap().map(|_| room));
    }
    names
}

/// Asks for everything at once and takes what answers come until the disk is well.
fn live(host: &Host, disk: &BadDisk, worker: &mut Worker) -> Told {
    let mut told = Told::default();
    let name = |count: u64| match count % 3 {
        0 => format!("message {}", count / 3 - 1),
        1 => format!("user {}", count / 3 - 1),
        _ => format!("room {}", count / 3 - 1),
    };
    let mut open = HashSet::new();
    for round in 0..ROUNDS {
        let count = (round + 1) * 3;
        worker.send(&post(count, "r", &name(count), None));
        worker.ask(count + 1, users(&[name(count + 1).as_str()]));
        worker.ask(count + 2, rooms(1, &[(name(count + 2).as_str(), false, &[])]));
        open.extend([count, count + 1, count + 2]);
        // One round after the other, as far as there are answers without the disk being mended.
        while open.iter().any(|count| *count < round * 3) && host.running().report()["disk"] == "ok" {
            hear(worker, &mut open, &mut told, &name);
        }
    }
    disk.mend();
    while !open.is_empty() {
        hear(worker, &mut open, &mut told, &name);
    }
    told
}

fn hear(worker: &mut Worker, open: &mut HashSet<u64>, told: &mut Told, name: &dyn Fn(u64) -> String) {
    for heard in worker.hear() {
        let (count, good) = match heard {
            Heard::Message { origin: OpId { instance: 1, count }, .. } => (count, true),
            Heard::Done(count, _) => (count, true),
            Heard::Refused(count, _) => (count, false),
            _ => continue,
        };
        if open.remove(&count) {
            told.note(name(count), good);
        }
    }
}

fn judge_dir(told: &Told, files: &Path) -> Vec<String> {
    let host = Host::started_on(files);
    host.assert_clean();
    judge(told, &there(&host))
}

/// Lives once with a fault, and judges what is there as it is, after an end of the process, and after
/// a loss of power.
fn check(faults: &[Fault], name: &'static str, after: usize, times: usize) {
    let disk = BadDisk::default();
    let mut host = Host::new().per_file(2).with_disk(Arc::new(disk.clone()));
    host.start().unwrap();
    let mut worker = host.worker(1);
    assert_eq!(worker.create_users(&["creator"]), [Ok(1)]);
    for fault in faults {
        // What fails first is cut for the first time.
        let after = if matches!(fault, Fault::Cut(_)) { 0 } else { after };
        disk.plan(*fault, name, after, times);
    }
    let told = live(&host, &disk, &mut worker);
    let what = format!("{faults:?} of {name}, {times} after {after}");
    assert_eq!(judge(&told, &there(&host)), [""; 0], "{what}");
    let (crash, power) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    BadDisk::crash(host.data_dir(), crash.path());
    assert_eq!(judge_dir(&told, crash.path()), [""; 0], "{what}, process ended");
    disk.lose_power(host.data_dir(), power.path());
    assert_eq!(judge_dir(&told, power.path()), [""; 0], "{what}, power lost");
}

fn sweep(faults: &[Fault]) {
    for name in ["messages", "users", "chatrooms"] {
        for after in 0..=4 {
            check(faults, name, after, 1);
        }
        check(faults, name, 1, 3);
    }
}

#[test]
fn each_write_is_refused() {
    sweep(&[Fault::Write(ErrorKind::StorageFull)]);
    sweep(&[Fault::Part(20, ErrorKind::Other)]);
}

#[test]
fn each_write_is_short() {
    for size in [1, 7] {
        for name in ["messages", "users", "chatrooms"] {
            check(&[Fault::Short(size)], name, 0, 10_000);
        }
    }
}

#[test]
fn each_sync_fails() {
    sweep(&[Fault::Sync(ErrorKind::Other)]);
}

#[test]
fn each_sync_fails_and_so_does_the_cut() {
    sweep(&[Fault::Sync(ErrorKind::Other), Fault::Cut(ErrorKind::Other)]);
}

#[test]
fn each_write_is_torn_and_the_cut_fails() {
    sweep(&[Fault::Part(60, ErrorKind::Other), Fault::Cut(ErrorKind::Other)]);
}

/// The checker finds what it looks for.
#[test]
fn a_disk_that_lies_is_found_out() {
    let disk = BadDisk::default();
    let mut host = Host::new().with_disk(Arc::new(disk.clone()));
    host.config.storage.fsync = Fsync::Never;
    host.start().unwrap();
    let mut worker = host.worker(1);
    assert_eq!(worker.create_users(&["creator"]), [Ok(1)]);
    let told = live(&host, &disk, &mut worker);
    let power = tempfile::tempdir().unwrap();
    disk.lose_power(host.data_dir(), power.path());
    let faults = judge_dir(&told, power.path());
    assert!(faults.iter().any(|fault| fault.starts_with("lost: message")), "{faults:?}");
    let mut wrong = Told { refused: told.confirmed.clone(), ..Told::default() };
    assert!(judge(&wrong, &there(&host))[0].starts_with("refused and stored"));
    wrong.refused.clear();
    assert!(judge(&wrong, &there(&host))[0].starts_with("invented"));
}
