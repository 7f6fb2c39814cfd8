//! What comes up, in which order, and what stops a start.

use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::Signal;
use serde_json::json;

use crate::harness::{eventually, greeting, setup, wait_until_dead};

#[test]
fn storage_comes_first_and_ready_last() {
    let (root, mut setup) = setup();
    let notified = root.path().join("notify");
    let systemd = UnixDatagram::bind(&notified).unwrap();
    notified.to_str().unwrap().clone_into(&mut setup.notify_socket);
    let host = setup.start_ready();

    assert_eq!(host.events()[0], "storage started");
    assert_eq!(host.events().len(), 3);
    let address = host.address();
    let expected = format!("minitalk: ready on {address} (2 workers, data in {})", host.data_dir.display());
    assert_eq!(host.lines(), [expected]);
    assert!(greeting(TcpStream::connect(address).unwrap()).starts_with("worker "));
    eventually("READY=1", || {
        let mut bytes = [0; 64];
        let count = systemd.recv(&mut bytes).unwrap();
        (&bytes[..count] == b"READY=1").then_some(()).ok_or(())
    });

    let status = host.status_when("the first reports", |status| status["ready"] == true);
    assert_eq!(status["reason"], "");
    assert_eq!(status["listen"], json!([address.to_string()]));
    assert_eq!(host.process("supervisor")["pid"], host.pid());
    let worker = host.process("worker 1");
    assert_eq!((&worker["connections"], &worker["restarts"]), (&json!(7), &json!(0)));
    assert!(worker["rss_bytes"].as_u64().unwrap() > 100_000, "{worker}");
}

#[test]
fn what_it_makes_is_private() {
    let (_root, setup) = setup();
    let host = setup.start_ready();
    for (path, mode) in [
        ("", 0o700),
        ("LOCK", 0o600),
        ("run", 0o700),
        ("run/storage.sock", 0o600),
        ("run/control.sock", 0o600),
    ] {
        let meta = fs::metadata(host.data_dir.join(path)).unwrap();
        assert_eq!(meta.permissions().mode() & 0o777, mode, "{path}");
    }
    assert_eq!(fs::read_to_string(host.data_dir.join("LOCK")).unwrap(), format!("{}\n", host.pid()));
}

#[test]
fn no_worker_is_started_before_storage_is_ready() {
    let (_root, setup) = setup();
    let host = setup.with_manners(json!({"storage": {"never_ready": true}})).start();
    eventually("storage", || if host.events().is_empty() { Err(()) } else { Ok(()) });
    let status = host.status();
    assert_eq!((&status["ready"], &status["reason"]), (&json!(false), &json!("storage is not up")));
    assert_eq!(host.process("worker 0")["pid"], 0);
    assert_eq!(host.events(), ["storage started"]);
}

#[test]
fn a_port_in_use_ends_the_start_and_leaves_nothing() {
    let (_root, mut setup) = setup();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    setup.address = taken.local_addr().unwrap();
    let mut host = setup.start();
    assert_eq!(host.wait_for_end(), Some(2));
    host.wait_for_line(&format!("minitalk: cannot listen on {}", setup.address));
    assert!(!setup.data_dir.exists());
}

#[test]
fn a_second_host_is_refused_on_the_same_port_and_in_the_same_directory() {
    let (root, setup) = setup();
    let first = setup.start_ready();

    let mut same_port = setup.clone();
    same_port.address = first.address();
    same_port.data_dir = root.path().join("other");
    let mut second = same_port.start();
    assert_eq!(second.wait_for_end(), Some(2));
    second.wait_for_line("in use");
    assert!(!same_port.data_dir.exists());

    let mut same_dir = setup.start();
    assert_eq!(same_dir.wait_for_end(), Some(2));
    same_dir.wait_for_line(&format!("in use by process {}", first.pid()));
    assert!(greeting(TcpStream::connect(first.address()).unwrap()).starts_with("worker "));
}

#[test]
fn a_directory_that_only_orphans_still_lock_is_waited_for() {
    let (_root, setup) = setup();
    fs::create_dir(&setup.data_dir).unwrap();
    let lock = setup.data_dir.join("LOCK");
    let mut dead = std::process::Command::new("true").spawn().unwrap();
    dead.wait().unwrap();
    fs::write(&lock, dead.id().to_string()).unwrap();
    let held_by_orphan = Flock::lock(File::open(&lock).unwrap(), FlockArg::LockExclusive).unwrap();

    let host = setup.start();
    eventually("attempt at the lock", || {
        let fds = fs::read_dir(format!("/proc/{}/fd", host.pid())).unwrap().flatten();
        let open: Vec<_> = fds.flat_map(|fd| fs::read_link(fd.path())).collect();
        if open.contains(&lock) { Ok(()) } else { Err(open) }
    });
    assert!(host.lines().is_empty(), "{:?}", host.lines());
    drop(held_by_orphan);
    host.wait_for_line("ready on ");
}

#[test]
fn a_killed_host_can_be_started_again_at_once_on_its_port() {
    let (_root, mut setup) = setup();
    for _ in 0..5 {
        let mut host = setup.start_ready();
        setup.address = host.address();
        let children = host.child_pids();
        assert_eq!(children.len(), 3);
        host.signal(Signal::SIGKILL);
        let next = setup.start_ready();
        assert_eq!(next.address(), setup.address);
        children.into_iter().for_each(wait_until_dead);
        assert_eq!(host.wait_for_end(), None);
        drop(next);
    }
}
