//! System calls of the storage writer that fail: once, for a while, or until it is killed.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::common::socket::Socket;
use crate::common::{Options, Server, until};
use crate::crew::{
    Crew, assert_good, assert_reads, start_on_mounted_again, wait_until_not_ready, wait_until_ready,
};
use crate::volume::Volume;

/// strace at work on a process; it lets go when dropped.
struct Injection(Child);

impl Injection {
    /// Faults for the calls on one file of the storage writer.
    fn new(server: &Server, file: &str, faults: &[&str]) -> Injection {
        let mut strace = Command::new("strace");
        strace.args(["-qq", "-f", "-o", "/dev/null", "-p", &server.pids("storage")[0].to_string(), "-P"]);
        strace.arg(server.data_dir.join(file));
        for fault in faults {
            strace.args(["-e", &format!("inject={fault}")]);
        }
        let child = strace.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let child = child.unwrap_or_else(|error| panic!("this test needs strace: {error}"));
        Injection(child)
    }

    /// Waits until every thread is traced.
    fn attached(self, server: &Server) -> Injection {
        let tasks = format!("/proc/{}/task", server.pids("storage")[0]);
        until("strace has hold of every thread", || {
            std::fs::read_dir(&tasks)
                .unwrap()
                .all(|task| {
                    let status =
                        std::fs::read_to_string(task.unwrap().path().join("status")).unwrap_or_default();
                    status.lines().any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0"))
                })
                .then_some(())
        });
        self
    }
}

impl Drop for Injection {
    fn drop(&mut self) {
        // It lets go of a process on INT, and waits for ever for one that was killed.
        let strace = Pid::from_raw(i32::try_from(self.0.id()).unwrap());
        let _ = kill(strace, Signal::SIGINT);
        let patience = Instant::now() + Duration::from_secs(5);
        while matches!(self.0.try_wait(), Ok(None)) && Instant::now() < patience {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn started() -> (Arc<Server>, Crew) {
    let server = Arc::new(Server::start(&Options::default()));
    let crew = Crew::start(&server, "crew", 20);
    crew.wait_for_confirmed(50);
    (server, crew)
}

const MESSAGES: &str = "messages_000001.jsonl";

/// A fault that passes: refused or not, it goes on, and the log is what was told.
fn passing(file: &str, faults: &[&str], refusals: usize) {
    let (server, crew) = started();
    let injection = Injection::new(&server, file, faults).attached(&server);
    let users = crew.ledger().users.len();
    crew.wait_for_confirmed(100);
    until("signups go on", || (crew.ledger().users.len() > users + 20).then_some(()));
    drop(injection);
    wait_until_ready(&server);
    let ledger = crew.finish();
    let failed = ledger.users.values().filter(|told| !**told).count();
    assert!(ledger.refused.len() + failed >= refusals, "nothing was refused: the fault did not strike");
    assert_good(&ledger, &server);
    drop(server);
}

#[test]
fn one_sync_fails() {
    passing(MESSAGES, &["fdatasync:error=EIO:when=3"], 1);
    passing("users.jsonl", &["fdatasync:error=EIO:when=3"], 1);
}

#[test]
fn one_write_fails() {
    passing(MESSAGES, &["pwrite64:error=EIO:when=4"], 1);
    passing("users.jsonl", &["pwrite64:error=EIO:when=2"], 1);
}

/// The call says that it wrote ten bytes, and wrote none.
#[test]
fn one_write_is_short_and_a_lie() {
    passing(MESSAGES, &["pwrite64:retval=10:when=4"], 1);
}

/// A fault that stays until it is taken away.
fn staying(faults: &[&str], code: &str) {
    let (server, crew) = started();
    let injection = Injection::new(&server, MESSAGES, faults).attached(&server);
    wait_until_not_ready(&server);
    assert_reads(&server, &crew.user, &crew.room);
    drop(injection);
    wait_until_ready(&server);
    crew.wait_for_confirmed(50);
    let ledger = crew.finish();
    assert!(!ledger.refused.is_empty() && ledger.refused.values().all(|its| its == code), "{code}");
    assert_good(&ledger, &server);
}

#[test]
fn every_write_is_refused_for_a_while() {
    staying(&["pwrite64:error=ENOSPC:when=5+"], "STORAGE_FULL");
    staying(&["pwrite64:error=EROFS", "openat:error=EROFS"], "STORAGE_FAILED");
}

#[test]
fn nothing_works_for_a_while() {
    staying(&["fdatasync:error=EIO", "ftruncate:error=EIO"], "STORAGE_FAILED");
}

/// Refused lines stand in the file, can't be cut, and the process is killed: the next one finds them.
/// Nobody has been told that they were refused.
#[test]
fn nothing_works_until_it_is_killed() {
    let (server, crew) = started();
    let injection = Injection::new(&server, MESSAGES, &["fdatasync:error=EIO", "ftruncate:error=EIO"]);
    let injection = injection.attached(&server);
    wait_until_not_ready(&server);
    let storage = server.pids("storage")[0];
    kill(Pid::from_raw(storage), Signal::SIGKILL).unwrap();
    drop(injection);
    crew.wait_for_confirmed(50);
    wait_until_ready(&server);
    assert_good(&crew.finish(), &server);
}

/// The file system makes itself read-only. What stores nothing goes on; when it has been mounted anew
/// and the server started again, all is as told.
#[test]
fn a_file_system_that_has_become_read_only() {
    let volume = Volume::new("ext4", 48);
    let server = Arc::new(Server::on(&Options::default(), &volume.data_dir()));
    let crew = Crew::start(&server, "crew", 20);
    crew.wait_for_confirmed(50);
    let before = server.fingerprint();
    // Linux may answer a sync that is under way at that moment with success and lose what it was for
    // (6.18 does so to a program that only writes and syncs): what is confirmed from now on may be gone.
    let told = crew.ledger();
    volume.find_error();
    wait_until_not_ready(&server);
    // What was under way can't be cut from the file any more, so those who asked for it wait; who comes
    // now is told.
    let mut fresh = Vec::new();
    let ack = until("a message is refused at once", || {
        let content = format!("fresh {}", fresh.len());
        let mut socket = Socket::connect(&server, &crew.user);
        socket.set_patience(Duration::from_secs(1));
        fresh.push(content.clone());
        socket.say(1, &json!({"roomId": crew.room, "content": content}))
    });
    assert_eq!((&ack["ok"], &ack["code"]), (&json!(false), &json!("STORAGE_FAILED")), "{ack}");
    let last = fresh.pop().unwrap();
    for _ in 0..3 {
        assert_reads(&server, &crew.user, &crew.room);
    }
    assert_eq!(server.fingerprint(), before, "nobody was restarted");
    server.signal(Signal::SIGKILL);
    let mut ledger = crew.finish();
    ledger.confirmed.retain(|content, _| told.confirmed.contains_key(content));
    ledger.users.retain(|name, created| !*created || told.users.contains_key(name));
    ledger.asked.extend(fresh);
    ledger.asked.insert(last.clone());
    ledger.refused.insert(last, "STORAGE_FAILED".to_owned());
    let server = start_on_mounted_again(server, &volume);
    assert_good(&ledger, &server);
    assert_eq!(server.post("/api/auth/signup", None, &signup("after")).status, 201);
}

fn signup(name: &str) -> serde_json::Value {
    json!({"username": name, "password": "password"})
}
