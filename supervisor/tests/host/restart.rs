//! Children that die.

use std::net::TcpStream;

use nix::sys::signal::Signal;
use serde_json::json;

use crate::harness::{greeting, kill, setup, wait_until_dead};

#[test]
fn a_killed_child_is_replaced() {
    let (_root, setup) = setup();
    let host = setup.start_ready();
    for name in ["worker 1", "storage", "worker 0", "worker 1"] {
        let (old, restarts) = (host.pid_of(name), host.process(name)["restarts"].as_u64().unwrap());
        kill(old, Signal::SIGKILL);
        let new = host.successor(name, old);
        assert_eq!(new["restarts"], restarts + 1, "{name}");
    }
    host.wait_for_line("was killed by SIGKILL, starting it again");
    host.wait_for_line("is back");
    host.status_when("ready again", |status| status["ready"] == true);
    let ready_lines = host.lines().iter().filter(|line| line.contains("ready on")).count();
    assert_eq!(ready_lines, 1);
}

#[test]
fn a_child_that_is_killed_again_and_again_always_comes_back() {
    let (_root, setup) = setup();
    let host = setup.start_ready();
    for _ in 0..20 {
        let old = host.pid_of("worker 0");
        kill(old, Signal::SIGKILL);
        host.successor("worker 0", old);
    }
    assert_eq!(host.process("worker 0")["restarts"], 20);
}

#[test]
fn clients_that_connect_while_no_worker_lives_wait_and_are_served() {
    let (_root, mut setup) = setup();
    setup.workers = 1;
    let host = setup.start_ready();
    for _ in 0..5 {
        let old = host.pid_of("worker 0");
        host.signal(Signal::SIGSTOP); // no successor before the client has connected
        kill(old, Signal::SIGKILL);
        wait_until_dead(old);
        let client = TcpStream::connect(host.address()).unwrap();
        host.signal(Signal::SIGCONT);
        let greeting = greeting(client);
        assert!(!greeting.ends_with(&format!(" {old}")) && greeting.starts_with("worker 0 "), "{greeting}");
    }
}

#[test]
fn a_child_that_never_gets_ready_ends_the_host() {
    let (_root, setup) = setup();
    let mut host = setup.with_manners(json!({"worker 1": {"exit_before_ready": 7}})).start();
    assert_eq!(host.wait_for_end(), Some(1));
    let line = host.wait_for_line("5 times in a row");
    assert!(line.starts_with("minitalk: worker 1 "), "{line}");
    assert_eq!(host.events().iter().filter(|event| *event == "worker 1 started").count(), 5);
    assert!(!host.lines().iter().any(|line| line.contains("ready on")), "{:?}", host.lines());
}

#[test]
fn a_child_that_says_it_cannot_live_ends_the_host_at_once() {
    let (_root, setup) = setup();
    let mut host = setup.with_manners(json!({"storage": {"exit_before_ready": 3}})).start();
    assert_eq!(host.wait_for_end(), Some(1));
    host.wait_for_line("cannot live");
    assert_eq!(host.events(), ["storage started"]);
}

#[test]
fn a_child_that_cannot_be_led_any_more_is_replaced() {
    let (_root, setup) = setup();
    let host = setup.with_manners(json!({"worker 0": {"leaves": true}})).start_ready();
    host.wait_for_line("minitalk: worker 0 ");
    host.status_when("a successor", |status| status["processes"][2]["restarts"] != 0);
}

#[test]
fn the_children_of_a_killed_supervisor_die_with_it() {
    let (_root, setup) = setup();
    let mut host = setup.start_ready();
    let children = host.child_pids();
    assert_eq!(children.len(), 3);
    host.signal(Signal::SIGKILL);
    children.into_iter().for_each(wait_until_dead);
    assert_eq!(host.wait_for_end(), None);
}
