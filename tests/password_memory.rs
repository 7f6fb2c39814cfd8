//! A hash of a password fills many megabytes, and none of them stay when it is made.
#![allow(clippy::expect_used, reason = "tests")]

mod common;

use common::{Options, Server, until};
use serde_json::json;

/// One hash takes so much: less than in the default configuration, for tests share their machine.
const HASH_MIB: u64 = 8;

/// What a worker may hold with some users and nothing to do: far less than two hashes.
const IDLE_MIB: u64 = 40;

/// What it may hold while it works: its one hash more, and some room. It held fourteen of them once, 124 MiB.
const BUSY_MIB: u64 = IDLE_MIB + 2 * HASH_MIB;

/// Users, and users of one call: short calls, of which both workers get some.
const USERS: usize = 200;
const CALL: usize = 10;

/// A line of a process's `status`, in MiB.
fn mib(pid: i32, line: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the worker runs");
    let value = status.lines().find_map(|text| text.strip_prefix(line)).expect("Linux says it");
    value.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") >> 10
}

#[test]
fn workers_hold_no_memory_of_hashes_that_are_made() {
    let argon2 = "memory_kib = 8192\niterations = 1\nparallelism = 1";
    let mut server = Server::start(&Options { workers: 2, argon2, ..Options::default() });
    for call in 0..USERS / CALL {
        // Signs up by one batch call and logs in by another.
        server.new_users(&format!("user{call}x"), CALL);
    }
    let one = json!({"username": "user0x0", "password": "password"});
    assert_eq!(server.post("/api/auth/login", None, &one).status, 200);
    for pid in server.pids("worker") {
        let highest = mib(pid, "VmHWM:");
        assert!(highest <= BUSY_MIB, "at most {highest} MiB were held");
        until("the last hash's memory is given back", || (mib(pid, "VmRSS:") <= IDLE_MIB).then_some(()));
    }
    server.stop();
}
