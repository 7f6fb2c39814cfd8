//! The control socket, in good and in bad hands.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use serde_json::{Value, json};

use crate::harness::{Host, setup};

fn connect(host: &Host) -> UnixStream {
    minitalk_supervisor::unix::connect(&host.data_dir.join("run"), "control.sock").unwrap()
}

/// The answer to raw bytes; empty: turned away.
fn ask(host: &Host, request: &[u8]) -> String {
    let mut stream = connect(host);
    let mut answer = String::new();
    // A host that has had enough closes with bytes unread, which is an error on either side.
    let _ = stream.write_all(request).and_then(|()| stream.read_to_string(&mut answer));
    answer
}

#[test]
fn one_request_line_gets_one_answer_line() {
    let (_root, setup) = setup();
    let host = setup.start_ready();
    let answer = ask(&host, b"status\n");
    assert_eq!(answer.matches('\n').count(), 1);
    assert!(answer.ends_with('\n'));
    let status: Value = serde_json::from_str(&answer).unwrap();
    let roles: Vec<&Value> =
        status["processes"].as_array().unwrap().iter().map(|process| &process["role"]).collect();
    assert_eq!(roles, ["supervisor", "storage", "worker", "worker"]);

    let other: Value = serde_json::from_str(&ask(&host, b"dance\n")).unwrap();
    assert!(other["error"].as_str().unwrap().contains("unknown"), "{other}");
    assert_eq!(ask(&host, &[b'x'; 10_000]), "");
}

#[test]
fn silent_clients_hold_nobody_up_and_are_let_go() {
    let (_root, setup) = setup();
    let host = setup.start_ready();
    let mut silent: Vec<UnixStream> = (0..100).map(|_| connect(&host)).collect();
    silent[99].write_all(b"stat").unwrap();
    assert_eq!(host.status()["processes"].as_array().unwrap().len(), 4);
    for stream in &mut silent {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest); // ends, with or without an error, only when let go
        assert!(rest.is_empty());
    }
}

#[test]
fn a_fault_of_the_disk_is_the_reason_for_not_being_ready() {
    let (_root, setup) = setup();
    let host = setup.start_ready();
    host.status_when("ready", |status| status["ready"] == true);
    fs::write(host.data_dir.join("disk"), "No space left on device").unwrap();
    host.status_when("the fault", |status| status["reason"] == "disk: No space left on device");
    fs::remove_file(host.data_dir.join("disk")).unwrap();
    host.status_when("ready again", |status| status["ready"] == true);
}

#[test]
fn a_worker_that_is_not_up_is_the_reason_for_not_being_ready() {
    let (_root, setup) = setup();
    let host = setup.with_manners(json!({"worker 1": {"never_ready": true}})).start();
    host.status_when("worker 0", |status| status["reason"] == "worker 1 is not up");
}
