//! Signals and the end.

use std::fs;
use std::net::TcpStream;

use nix::sys::signal::Signal;
use serde_json::json;

use crate::harness::{Host, kill, setup, wait_until_dead};

/// Where in the children's events something happened.
fn position(host: &Host, event: &str) -> usize {
    let events = host.events();
    events.iter().position(|one| one == event).unwrap_or_else(|| panic!("no {event:?} in {events:?}"))
}

#[test]
fn a_stop_drains_the_workers_and_then_storage() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let (_root, setup) = setup();
        let mut host = setup.start_ready();
        let (address, children) = (host.address(), host.child_pids());
        host.signal(signal);
        assert_eq!(host.wait_for_end(), Some(0), "{:?}", host.lines());
        let storage = position(&host, "storage drains");
        assert!(position(&host, "worker 0 drains") < storage && position(&host, "worker 1 drains") < storage);
        children.into_iter().for_each(wait_until_dead);
        TcpStream::connect(address).unwrap_err();
        assert_eq!(fs::read_to_string(host.data_dir.join("LOCK")).unwrap(), "");
        assert_eq!(fs::read_dir(host.data_dir.join("run")).unwrap().count(), 0);
    }
}

#[test]
fn control_c_reaches_the_whole_group_and_still_drains_in_order() {
    let (_root, setup) = setup();
    let mut host = setup.start_ready();
    kill(-host.pid(), Signal::SIGINT);
    assert_eq!(host.wait_for_end(), Some(0), "{:?}", host.lines());
    assert_eq!(host.events().last().unwrap(), "storage drains");
}

#[test]
fn a_stop_during_the_start_ends_it() {
    let (_root, setup) = setup();
    let mut host = setup.with_manners(json!({"worker 1": {"never_ready": true}})).start();
    host.status_when("the workers to be there", |status| status["processes"][3]["pid"] != 0);
    host.signal(Signal::SIGTERM);
    assert_eq!(host.wait_for_end(), Some(0), "{:?}", host.lines());
}

#[test]
fn who_does_not_drain_in_time_is_killed() {
    let (_root, setup) = setup();
    let mut setup = setup.with_manners(json!({"worker 1": {"deaf": true}}));
    setup.drain_ms = 300;
    let mut host = setup.start_ready();
    let children = host.child_pids();
    host.signal(Signal::SIGTERM);
    assert_eq!(host.wait_for_end(), Some(1));
    let line = host.wait_for_line("not drained within 300ms");
    assert!(line.contains("worker 1") && !line.contains("worker 0"), "{line}");
    children.into_iter().for_each(wait_until_dead);
}

#[test]
fn a_second_signal_kills_at_once() {
    let (_root, setup) = setup();
    let mut host = setup.with_manners(json!({"storage": {"deaf": true}})).start_ready();
    host.signal(Signal::SIGTERM);
    host.status_when("the drain", |status| status["reason"] == "stopping");
    host.signal(Signal::SIGTERM);
    assert_eq!(host.wait_for_end(), Some(1));
    host.wait_for_line("asked to stop a second time");
}

#[test]
fn a_crash_while_draining_is_told() {
    let (_root, setup) = setup();
    let mut host = setup.with_manners(json!({"worker 0": {"exit_at_drain": 5}})).start_ready();
    host.signal(Signal::SIGTERM);
    assert_eq!(host.wait_for_end(), Some(1));
    host.wait_for_line("ended with exit code 5 while draining");
    assert_eq!(host.events().last().unwrap(), "storage drains");
}

#[test]
fn storage_is_still_replaced_while_workers_drain() {
    let (_root, setup) = setup();
    let mut host = setup.with_manners(json!({"worker 0": {"deaf": true}})).start_ready();
    host.signal(Signal::SIGTERM);
    host.status_when("the drain", |status| status["reason"] == "stopping");
    let old = host.pid_of("storage");
    kill(old, Signal::SIGKILL);
    host.successor("storage", old);
    kill(host.pid_of("worker 0"), Signal::SIGKILL);
    assert_eq!(host.wait_for_end(), Some(1));
    assert_eq!(host.events().last().unwrap(), "storage drains");
}
