//! The load tester against the server it lives with: quiet, in storms, and while its processes are
//! killed. It is its own judge's job to find what is lost; here only its verdict counts.
#![allow(clippy::unwrap_used, reason = "a helper that fails ends its test")]

mod common;

use common::server::minitalk;
use common::{Options, Server};
use serde_json::Value;

/// Runs `minitalk bench` against a server; its report, once it has ended with 0.
fn bench(server: &Server, line: &str) -> Value {
    let target = format!("127.0.0.1:{}", server.port);
    let output = minitalk()
        .arg("bench")
        .args(line.split(' '))
        .args(["--target", &target, "--json", "-"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line} ended with {}:\n{said}\n{}", output.status, server.stderr());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    for fault in ["lost", "duplicated", "out_of_order", "foreign", "unanswered"] {
        assert_eq!(report["correctness"][fault], 0, "{line}: {said}");
    }
    assert_eq!(report["correctness"]["judged_by"], "seq");
    report
}

#[test]
fn presets_storms_and_kills_find_no_fault() {
    let server = Server::start(&Options::default());
    let report = bench(&server, "quick --duration 3s --fail-if lost>0 --fail-if errors>0");
    let sent = report["messages"]["sent"].as_u64().unwrap();
    assert_eq!((sent, &report["messages"]["delivered"]), (86, &(3 * sent).into()));
    let processes = |row: &Value| row["target"]["processes"].as_array().map_or(0, Vec::len);
    assert!(
        report["series"].as_array().unwrap().iter().any(|row| processes(row) == 4),
        "supervisor, storage, two workers"
    );

    let mixed = "quick --users 40 --duration 2s --rate 200 --polling 25 --reconnect-storm 50";
    let report = bench(&server, mixed);
    assert_eq!(
        (&report["connections"]["polling"], &report["disruptions"][0]["interrupted"]),
        (&10.into(), &20.into())
    );
    assert_eq!(report["disruptions"][0]["recovery_ms"]["count"], 20);

    for process in ["worker", "writer"] {
        let report = bench(&server, &format!("quick --duration 4s --rate 100 --polling 20 --kill {process}"));
        let kill = &report["disruptions"][0];
        assert!(kill["pid"].is_u64() && kill["failed"].is_null(), "{kill}");
        assert_eq!(
            (&report["messages"]["acked"], &kill["recovery_ms"]["count"]),
            (&report["messages"]["sent"], &kill["interrupted"])
        );
    }
    // Both must have been started again by somebody, else nothing would have been acked.
    let restarts: u64 = server.status()["processes"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|process| process["restarts"].as_u64())
        .sum();
    assert_eq!(restarts, 2);
}

/// Runs `minitalk` with those words, which must end with 0.
fn done(words: &[&str]) -> Vec<u8> {
    let output = minitalk().args(words).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?} ended with {}:\n{said}", output.status);
    output.stdout
}

/// Memory that five minutes may add, in bytes: that of a stay of five hundred is some 60 MiB.
const FLAT_BYTES: u64 = 4 << 20;

/// The operator's plan of `docs/load-scenarios.md`, for five minutes and five hundred members.
#[test]
fn members_of_a_challenge_find_no_fault() {
    let dir = tempfile::tempdir().unwrap();
    let (csv, data) = (dir.path().join("members.csv"), dir.path().join("data"));
    let (csv, data_dir) = (csv.to_str().unwrap(), data.to_str().unwrap());
    done(&["bench", "members", "500", "--csv", csv]);
    done(&["import", "--data-dir", data_dir, csv]);
    let options = Options { tables: "[challenge]\ntest_login = true\n", ..Options::default() };
    let server = Server::on(&options, &data);
    let target = format!("127.0.0.1:{}", server.port);
    let race = |flags: &str| -> Value {
        let line = ["bench", "challenge", "--target", &target, "--csv", csv, "--create", "--json", "-"];
        let calm = ["--fail-if", "errors>0.1%", "--fail-if", "dropped>0"];
        let words: Vec<&str> = line.into_iter().chain(calm).chain(flags.split(' ')).collect();
        let report: Value = serde_json::from_slice(&done(&words)).unwrap();
        for fault in ["lost", "duplicated", "out_of_order", "foreign", "unanswered"] {
            assert_eq!(report["correctness"][fault], 0, "{flags}: {report}");
        }
        assert_eq!(report["counts"]["pings"], report["counts"]["pongs"]);
        report
    };
    let report = race("--ramp 100/s --duration 5m --ping-every 30s --drain 60s");
    let counts = &report["counts"];
    assert_eq!((&counts["connected"], &counts["quit"]), (&500.into(), &25.into()), "{counts}");
    assert!(counts["pings"].as_u64().unwrap() >= 500 * 9, "{counts}");
    let stay = report["series"].as_array().unwrap().iter().filter(|row| row["stage"] == "stay");
    let memory: Vec<u64> = stay.filter_map(|row| row["target"]["rss_bytes"].as_u64()).collect();
    let (early, late) = (memory[memory.len() / 10], memory[memory.len() - 1]);
    assert!(late < early + FLAT_BYTES, "{early} bytes at first, {late} in the end: {memory:?}");

    let moving = "--users 150 --duration 4s --ping-every 1s --record-every 500ms --drain 60s";
    let report = race(moving);
    let counts = &report["counts"];
    assert!(counts["heard_updates"].as_u64().unwrap() > 150 * 149, "{counts}");
}

/// Members are in while workers, then the storage writer, are killed: each comes back with a fresh ticket, and
/// in the end each is in the ranking once.
#[test]
fn members_of_a_challenge_come_back_when_processes_are_killed() {
    let dir = tempfile::tempdir().unwrap();
    let (csv, data) = (dir.path().join("members.csv"), dir.path().join("data"));
    let (csv, data_dir) = (csv.to_str().unwrap(), data.to_str().unwrap());
    done(&["bench", "members", "60", "--csv", csv]);
    done(&["import", "--data-dir", data_dir, csv]);
    let options = Options { tables: "[challenge]\ntest_login = true\n", ..Options::default() };
    let server = Server::on(&options, &data);
    let target = format!("127.0.0.1:{}", server.port);
    for process in ["worker", "writer"] {
        let line =
            "--create --duration 7s --every 3s --ping-every 1s --record-every 500ms --drain 60s --quit 10";
        let words =
            ["bench", "challenge", "--target", &target, "--csv", csv, "--json", "-", "--kill", process];
        let calm = ["--fail-if", "errors>0", "--fail-if", "dropped>0", "--fail-if", "recovery.p99>60s"];
        let words: Vec<&str> = words.into_iter().chain(line.split(' ')).chain(calm).collect();
        let report: Value = serde_json::from_slice(&done(&words)).unwrap();
        for fault in ["lost", "duplicated", "out_of_order", "foreign", "unanswered"] {
            assert_eq!(report["correctness"][fault], 0, "{process}: {report}");
        }
        let kills = report["disruptions"].as_array().unwrap();
        // The second is left out where the first one's successor is not up when the stay is over.
        assert!(!kills.is_empty(), "{process}: {report}");
        assert!(kills.iter().all(|kill| kill["pid"].is_u64() && kill["failed"].is_null()), "{kills:?}");
        let (broke, counts) = (&report["counts"]["interrupted"], &report["counts"]);
        assert!(broke.as_u64().unwrap() >= 1, "{process}: {counts}");
        assert_eq!((&counts["reentered"], &report["latencies"]["recovery_ms"]["count"]), (broke, broke));
        // All but the six that have given up.
        assert_eq!((&counts["quit"], &report["ranked"]), (&6.into(), &54.into()), "{process}: {counts}");
    }
}

#[test]
fn what_cannot_be_done_is_said_before_anything_is_touched() {
    for (line, told) in [
        ("quick --target 127.0.0.1:1", "no server answers at 127.0.0.1:1"),
        ("quick --users 5 --rooms 6", "6 rooms need at least as many users"),
        ("quick --fail-if p99>200", "a latency needs its unit"),
        ("quick --shard 3/2", "there is no machine 3 of 2"),
        ("custom --scenario /nonexistent.toml", "/nonexistent.toml: No such file"),
        ("merge /nonexistent.json", "/nonexistent.json: No such file"),
        ("qick", "a similar subcommand exists: 'quick' (try 'minitalk bench --help')"),
        ("quick --json /nonexistent/r.json", "cannot be written: /nonexistent/r.json: No such file"),
        (
            "challenge --csv x --html /nonexistent/r.html",
            "cannot be written: /nonexistent/r.html: No such file",
        ),
        ("quick --duration 0s", "nothing to measure"),
        ("quick --kill worker --every 0s", "expected at least 100ms"),
        ("challenge --csv x --every 5s", "--kill"),
        ("challenge --csv x --shard 3/2", "there is no machine 3 of 2"),
    ] {
        let output = minitalk().arg("bench").args(line.split(' ')).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{line}: {said}");
        assert!(said.contains(told) && said.lines().count() == 1, "{line}: {said}");
    }
}
