//! SIGUSR2: the supervisor becomes another executable, and everybody is replaced.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Host, Setup, eventually, greeting, kill, row, setup, wait_until_dead};

/// A host whose executable is a copy that the test may replace.
fn setup_with_copy() -> (TempDir, Setup) {
    let (root, mut setup) = setup();
    let copy = root.path().join("host");
    fs::copy(&setup.program, &copy).unwrap();
    setup.program = copy;
    (root, setup)
}

/// Puts another executable in the place of the running one, as a package does: by a rename.
fn install(setup: &Setup, contents: &[u8]) {
    let new = setup.program.with_extension("new");
    fs::write(&new, contents).unwrap();
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(new, &setup.program).unwrap();
}

fn install_same(setup: &Setup) {
    install(setup, &fs::read(&setup.program).unwrap());
}

fn upgrade(host: &Host, setup: &Setup, manners: &Value) {
    fs::write(setup.data_dir.join("manners"), manners.to_string()).unwrap();
    host.signal(Signal::SIGUSR2);
}

fn change(host: &Host, number: u32, state: &str) -> Value {
    host.status_when(&format!("change {number} {state}"), |status| {
        status["change"]["number"] == number && status["change"]["state"] == state
    })
}

/// The executable that a process runs.
fn executable(pid: i32) -> PathBuf {
    fs::read_link(format!("/proc/{pid}/exe")).unwrap()
}

const EVERYBODY: [&str; 3] = ["storage", "worker 0", "worker 1"];

#[test]
fn everybody_is_replaced_and_what_the_supervisor_holds_stays() {
    let (_root, setup) = setup_with_copy();
    let mut host = setup.start_ready();
    let address = host.address();
    for number in 1..=3 {
        let before = EVERYBODY.map(|name| host.pid_of(name));
        install_same(&setup);
        upgrade(&host, &setup, &json!({}));
        let status = change(&host, number, "done");
        assert_eq!(row(&status, "supervisor")["pid"], host.pid());
        assert_eq!(executable(host.pid()), setup.program);
        for (name, old) in EVERYBODY.into_iter().zip(before) {
            let row = row(&status, name);
            assert!(row["pid"] != old && row["restarts"] == 0 && row["generation"] == number, "{status}");
            assert_eq!(executable(host.pid_of(name)), setup.program);
            wait_until_dead(old);
        }
        assert!(greeting(TcpStream::connect(address).unwrap()).starts_with("worker "));
    }
    // It is still what it was: it replaces, reloads, locks, and ends in order.
    let old = host.pid_of("worker 1");
    kill(old, Signal::SIGKILL);
    host.successor("worker 1", old);
    host.signal(Signal::SIGHUP);
    change(&host, 4, "done");
    let mut second = setup.start();
    assert_eq!(second.wait_for_end(), Some(2));
    host.signal(Signal::SIGTERM);
    assert_eq!(host.wait_for_end(), Some(0), "{:?}", host.lines());
    assert_eq!(fs::read_to_string(setup.data_dir.join("LOCK")).unwrap(), "");
    TcpStream::connect(address).unwrap_err();
}

#[test]
fn an_executable_that_is_not_one_or_cannot_take_over_changes_nothing() {
    let (_root, setup) = setup_with_copy();
    let host = setup.start_ready();
    let good = fs::read(&setup.program).unwrap();
    let before = EVERYBODY.map(|name| host.pid_of(name));
    let cases: [(&[u8], Value, &str); 5] = [
        (b"not a program", json!({}), "cannot be executed"),
        (b"#!/bin/sh\nexit 0\n", json!({}), "cannot take over"),
        (b"#!/bin/sh\necho too old >&2\nexit 2\n", json!({}), "too old"),
        (b"#!/bin/sh\nexec sleep 1000\n", json!({}), "does not say"),
        (&good, json!({"refuses": true}), "it does not want to"),
    ];
    // The time that a trial has is a setting, too.
    fs::write(setup.data_dir.join("manners"), json!({"ready_ms": 700}).to_string()).unwrap();
    host.signal(Signal::SIGHUP);
    change(&host, 1, "done");
    let before_reload = before;
    let before = EVERYBODY.map(|name| host.pid_of(name));
    assert_eq!(before[0], before_reload[0]);
    for (number, (contents, manners, why)) in (2..).zip(cases) {
        install(&setup, contents);
        upgrade(&host, &setup, &manners);
        let status = change(&host, number, "failed");
        let reason = status["change"]["reason"].as_str().unwrap();
        assert!(reason.contains(why) || why == "it does not want to" && reason.contains("say"), "{reason}");
        assert_eq!(EVERYBODY.map(|name| host.pid_of(name)), before);
    }
    install(&setup, &good);
    upgrade(&host, &setup, &json!({}));
    eventually("an upgrade", || {
        let status = host.status();
        if status["change"]["state"] == "failed" {
            host.signal(Signal::SIGUSR2); // 0.7 s may be short on a busy machine
        }
        if status["change"]["state"] == "done" { Ok(()) } else { Err(status) }
    });
}

#[test]
fn children_that_do_not_come_up_bring_the_old_executable_back() {
    for manners in [
        json!({"worker 1": {"exit_before_ready": 1}}),
        json!({"worker 0": {"never_ready": true}, "ready_ms": 3_000}),
        json!({"storage": {"exit_before_ready": 3}}),
        json!({"storage": {"exit_before_ready": 1}}),
    ] {
        let (_root, setup) = setup_with_copy();
        let mut host = setup.start_ready();
        let old = host.pid_of("worker 1");
        install_same(&setup);
        upgrade(&host, &setup, &manners);
        let status = change(&host, 1, "failed");
        assert_eq!(status["ready"], true, "{manners} {status}");
        // The old file has no name any more.
        for process in ["supervisor", "storage", "worker 0", "worker 1"] {
            let pid = i32::try_from(row(&status, process)["pid"].as_i64().unwrap()).unwrap();
            assert!(executable(pid).to_str().unwrap().ends_with("(deleted)"), "{manners} {process}");
        }
        assert_eq!(host.pid_of("worker 1"), old, "{manners}: the last one never had to go");
        host.wait_for_line("going back to the executable before");
        assert!(greeting(TcpStream::connect(host.address()).unwrap()).starts_with("worker "));
        upgrade(&host, &setup, &json!({}));
        change(&host, 2, "done");
        assert_eq!(executable(host.pid()), setup.program);
        host.signal(Signal::SIGTERM);
        assert_eq!(host.wait_for_end(), Some(0), "{:?}", host.lines());
    }
}

#[test]
fn those_who_leave_are_handed_over_too() {
    let (_root, mut setup) = setup_with_copy();
    setup.drain_ms = 3_000;
    let host = setup.clone().with_manners(json!({"worker 0": {"stays": true}})).start_ready();
    let old = host.pid_of("worker 0");
    fs::write(setup.data_dir.join("manners"), "{}").unwrap();
    host.signal(Signal::SIGHUP);
    change(&host, 1, "done");
    upgrade(&host, &setup, &json!({}));
    host.status_when("the second change", |status| status["change"]["number"] == 2);
    change(&host, 2, "done");
    wait_until_dead(old);
    host.wait_for_line("has had its time to leave, killing it");
}

#[test]
fn a_stop_during_an_upgrade_ends_everybody() {
    let (_root, setup) = setup_with_copy();
    let mut host = setup.start_ready();
    upgrade(&host, &setup, &json!({"worker 0": {"never_ready": true}}));
    eventually("a successor", || {
        let started = host.events().iter().filter(|event| *event == "worker 0 started").count();
        if started == 2 { Ok(()) } else { Err(started) }
    });
    let children = host.child_pids();
    host.signal(Signal::SIGTERM);
    assert_eq!(host.wait_for_end(), Some(0), "{:?}", host.lines());
    children.into_iter().for_each(wait_until_dead);
}
