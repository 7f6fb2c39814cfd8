//! SIGHUP: children are replaced while the host serves.

use std::fs;
use std::net::TcpStream;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::{Host, Setup, eventually, greeting, kill, row, setup, wait_until_dead};

/// What the next reload reads.
fn write_manners(setup: &Setup, manners: &Value) {
    fs::write(setup.data_dir.join("manners"), manners.to_string()).unwrap();
}

fn reload(host: &Host, setup: &Setup, manners: &Value) {
    write_manners(setup, manners);
    host.signal(Signal::SIGHUP);
}

/// The status once the change of that number has come to its end.
fn change(host: &Host, number: u32, state: &str) -> Value {
    host.status_when(&format!("change {number} {state}"), |status| {
        status["change"]["number"] == number && status["change"]["state"] == state
    })
}

fn pids(host: &Host) -> [i32; 3] {
    ["storage", "worker 0", "worker 1"].map(|name| host.pid_of(name))
}

/// Places in the children's events.
fn positions(host: &Host, event: &str) -> Vec<usize> {
    host.events().iter().enumerate().filter(|(_, one)| *one == event).map(|(at, _)| at).collect()
}

#[test]
fn workers_are_replaced_one_by_one_and_storage_is_not() {
    let (_root, setup) = setup();
    let host = setup.start_ready();
    let [storage, first, second] = pids(&host);
    reload(&host, &setup, &json!({}));
    let status = change(&host, 1, "done");
    assert_eq!(host.pid_of("storage"), storage);
    for (name, old) in [("worker 0", first), ("worker 1", second)] {
        let row = row(&status, name);
        assert_ne!(row["pid"], old);
        assert_eq!(
            (&row["generation"], &row["restarts"], &row["leaving"]),
            (&json!(1), &json!(0), &json!(false))
        );
        wait_until_dead(old);
    }
    let (started, leaves) = (positions(&host, "worker 0 started"), positions(&host, "worker 0 leaves"));
    assert!(
        started[1] < leaves[0] && started[1] < positions(&host, "worker 1 started")[1],
        "{:?}",
        host.events()
    );
    host.wait_for_line("reloading: read the manners");
    host.wait_for_line("reload done");
    assert!(greeting(TcpStream::connect(host.address()).unwrap()).starts_with("worker "));
}

#[test]
fn storage_is_replaced_first_if_it_is_concerned() {
    let (_root, setup) = setup();
    let host = setup.start_ready();
    let [storage, ..] = pids(&host);
    reload(&host, &setup, &json!({"storage": {}}));
    change(&host, 1, "done");
    assert_ne!(host.pid_of("storage"), storage);
    assert_eq!(host.process("storage")["restarts"], 0);
    let started = positions(&host, "storage started");
    assert!(positions(&host, "storage drains")[0] < started[1]);
    assert!(started[1] < positions(&host, "worker 0 started")[1]);
}

#[test]
fn a_mistake_changes_nothing() {
    let (_root, setup) = setup();
    let host = setup.start_ready();
    let before = pids(&host);
    fs::write(setup.data_dir.join("manners"), "not JSON").unwrap();
    host.signal(Signal::SIGHUP);
    let status = change(&host, 1, "failed");
    assert!(status["change"]["reason"].as_str().unwrap().contains("expected"), "{status}");
    host.wait_for_line("not reloaded, everything stays as it was");
    assert_eq!(pids(&host), before);
}

#[test]
fn successors_that_do_not_come_up_take_the_change_back() {
    for manners in [
        json!({"worker 1": {"exit_before_ready": 1}}),
        json!({"worker 1": {"exit_before_ready": 3}}),
        json!({"worker 1": {"never_ready": true}, "ready_ms": 500}),
        json!({"storage": {"exit_before_ready": 1}}),
        json!({"storage": {"never_ready": true}, "ready_ms": 500}),
    ] {
        let (_root, setup) = setup();
        let host = setup.start_ready();
        let before = pids(&host);
        reload(&host, &setup, &manners);
        let status = change(&host, 1, "failed");
        let about_storage = manners["storage"].is_object();
        // Whoever has not been replaced goes on; whoever has is replaced again.
        for (name, old, stays) in [
            ("storage", before[0], !about_storage),
            ("worker 0", before[1], about_storage),
            ("worker 1", before[2], true),
        ] {
            let row = row(&status, name);
            assert_eq!(row["ready"], true, "{manners} {status}");
            assert_eq!(row["pid"] == old, stays, "{manners} {name} {status}");
        }
        host.wait_for_line("taking the change back");
        reload(&host, &setup, &json!({}));
        change(&host, 2, "done");
        assert!(!host.lines().iter().any(|line| line.contains("stopping")), "{:?}", host.lines());
    }
}

#[test]
fn two_signals_in_a_row_are_acted_on_in_a_row() {
    let (_root, setup) = setup();
    let host = setup.start_ready();
    write_manners(&setup, &json!({}));
    host.signal(Signal::SIGHUP);
    host.status_when("a change", |status| status["change"]["number"] == 1);
    host.signal(Signal::SIGHUP);
    change(&host, 2, "done");
    assert_eq!(host.process("worker 1")["generation"], 2);
    host.status_when("nobody leaving", |status| status["processes"].as_array().unwrap().len() == 4);
}

#[test]
fn an_old_worker_may_stay_for_the_drain_time_and_a_new_one_may_die_meanwhile() {
    let (_root, mut setup) = setup();
    setup.drain_ms = 4_000;
    let host = setup.clone().with_manners(json!({"worker 0": {"stays": true}})).start_ready();
    let old = host.pid_of("worker 0");
    reload(&host, &setup, &json!({}));
    // Looked for from the beginning: its time is short, and runs.
    let status = host.status_when("the old one beside its successor", |status| {
        let rows = status["processes"].as_array().unwrap();
        rows.iter().any(|row| row["pid"] == old && row["leaving"] == true && row["id"] == 0)
    });
    let new = i32::try_from(row(&status, "worker 0")["pid"].as_i64().unwrap()).unwrap();
    assert_ne!(new, old);
    kill(new, Signal::SIGKILL);
    assert_eq!(host.successor("worker 0", new)["restarts"], 1);
    change(&host, 1, "done");
    host.wait_for_line("has had its time to leave, killing it");
    wait_until_dead(old);
    host.status_when("ready", |status| status["ready"] == true);
}

#[test]
fn storage_may_die_during_a_reload() {
    let (_root, setup) = setup();
    let host = setup.start_ready();
    for number in 1..=5 {
        reload(&host, &setup, &json!({"storage": {}}));
        host.status_when("the change", |status| status["change"]["number"] == number);
        if let Some(pid) = Some(host.pid_of("storage")).filter(|pid| *pid != 0) {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL);
        }
        change(&host, number, "done");
    }
    host.status_when("ready", |status| status["ready"] == true);
}

#[test]
fn a_stop_during_a_reload_ends_everybody_in_order() {
    let (_root, setup) = setup();
    for manners in [json!({"worker 0": {"never_ready": true}}), json!({"storage": {"never_ready": true}})] {
        let mut host = setup.start_ready();
        reload(&host, &setup, &manners);
        eventually("a successor", || {
            let begun = ["worker 0 started", "storage started"].map(|event| positions(&host, event).len());
            if begun.contains(&2) { Ok(()) } else { Err(begun) }
        });
        let children = host.child_pids();
        host.signal(Signal::SIGTERM);
        host.wait_for_line("stopping");
        host.signal(Signal::SIGTERM); // storage that never gets ready does not drain either
        host.wait_for_end();
        children.into_iter().for_each(wait_until_dead);
        fs::remove_file(setup.data_dir.join("events")).unwrap();
    }
}
