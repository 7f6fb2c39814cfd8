//! The judge against servers of known faults: it must find exactly those, and nothing in a perfect one.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a helper that fails ends its test")]

mod runs;
mod server;

use clap::Parser;
use minitalk_bench::hdr::Latency;
use minitalk_bench::live::Step;
use minitalk_bench::series::Row;
use minitalk_bench::{BenchArgs, Report, measure};
use server::{Fault, start};

/// How another command embeds the load tester.
#[derive(Parser)]
struct Line {
    #[command(flatten)]
    bench: BenchArgs,
}

fn args(fault: Fault, line: &str) -> BenchArgs {
    let line = format!("bench {line} --target {}", start(fault));
    Line::try_parse_from(line.split(' ')).unwrap().bench
}

fn run(fault: Fault, line: &str) -> Report {
    measure(&args(fault, line), &mut |_| ()).unwrap()
}

/// 200 messages to a room of five.
const FANOUT: &str = "fanout --users 5 --rate 500 --warmup 0s --duration 400ms --drain 300ms";

/// Finds so many lost, duplicated, out of order, foreign; the fault comes once in a hundred.
fn check(fault: Fault, expected: [u64; 4]) {
    for threads in [1, 2] {
        let report = run(fault, &format!("{FANOUT} --threads {threads}"));
        let found = &report.correctness;
        let counts = [found.lost, found.duplicated, found.out_of_order, found.foreign];
        assert_eq!(counts, expected, "{fault:?} with {threads} threads:\n{report}");
        assert_eq!(report.exit_code(), u8::from(expected != [0; 4]), "{fault:?}:\n{report}");
        let messages = report.messages.as_ref().unwrap();
        assert_eq!((messages.sent, messages.acked), (200, 200), "{fault:?}:\n{report}");
    }
}

#[test]
fn a_perfect_server_has_no_faults() {
    check(Fault::None, [0, 0, 0, 0]);
}

#[test]
fn a_dropped_delivery_is_lost() {
    check(Fault::Drop, [2, 0, 0, 0]);
    let report = run(Fault::Drop, FANOUT);
    let lost = &report.correctness.examples["lost"];
    assert_eq!(lost.iter().map(|example| example.seq).collect::<Vec<_>>(), [Some(37), Some(137)]);
    assert!(lost.iter().all(|example| example.who.ends_with("u0")), "{report}");
}

#[test]
fn a_repeated_delivery_is_duplicated() {
    check(Fault::Repeat, [0, 2, 0, 0]);
}

#[test]
fn two_swapped_deliveries_are_out_of_order() {
    check(Fault::Swap, [0, 0, 2, 0]);
}

#[test]
fn an_invented_delivery_is_foreign() {
    check(Fault::Invent, [0, 0, 0, 2]);
}

#[test]
fn changed_content_is_foreign_and_what_was_sent_is_lost() {
    check(Fault::Change, [2, 0, 0, 2]);
}

#[test]
fn another_rooms_name_is_foreign_and_what_was_sent_is_lost() {
    check(Fault::Misplace, [2, 0, 0, 2]);
}

#[test]
fn a_server_without_seq_is_judged_by_content() {
    check(Fault::NoSeq, [0, 0, 0, 0]);
    assert_eq!(run(Fault::NoSeq, FANOUT).correctness.judged_by, "content");
    assert_eq!(run(Fault::None, FANOUT).correctness.judged_by, "seq");
}

#[test]
fn fragments_with_pings_between_are_put_together() {
    check(Fault::Fragment, [0, 0, 0, 0]);
}

#[test]
fn a_swallowed_message_is_unanswered() {
    let report = run(Fault::Swallow, FANOUT);
    assert_eq!((report.correctness.unanswered, report.correctness.lost), (2, 0), "{report}");
    assert_eq!(report.exit_code(), 1);
}

#[test]
fn a_refused_message_is_no_fault_but_told() {
    let report = run(Fault::Refuse, FANOUT);
    let messages = report.messages.as_ref().unwrap();
    assert_eq!((messages.refused, messages.acked, report.exit_code()), (2, 198, 0), "{report}");
    assert!(report.to_string().contains("OVERLOADED"), "{report}");
}

#[test]
fn a_broken_connection_spoils_the_verdict_but_loses_nothing() {
    let report = run(Fault::HangUp, FANOUT);
    assert!(report.correct, "{report}");
    assert!(report.unsound().unwrap().contains("1 of 5 connections broke"), "{report}");
    assert_eq!(report.exit_code(), 2);
}

#[test]
fn several_rooms_and_threads_add_up() {
    for threads in [1, 2, 3] {
        let line = "fanout --users 12 --rooms 4 --rate 500 --warmup 100ms --duration 300ms --size 900";
        let report = run(Fault::None, &format!("{line} --threads {threads}"));
        let messages = report.messages.as_ref().unwrap();
        assert!(report.correct, "{report}");
        assert_eq!((messages.sent, messages.delivered), (200, 600), "{report}");
        assert_eq!(messages.delivery_ms.count, 450, "those of the measured 300 ms: {report}");
    }
}

#[test]
fn ingest_keeps_its_messages_in_flight_and_judges_them() {
    for line in ["ingest --users 6 --inflight 3", "ingest --users 7 --rooms 2 --threads 2"] {
        let report = run(Fault::None, &format!("{line} --warmup 50ms --duration 200ms"));
        let messages = report.messages.as_ref().unwrap();
        assert!(report.correct && messages.acked > 18, "{report}");
        assert_eq!(messages.sent, messages.acked, "{report}");
    }
}

#[test]
fn connect_reports_handshakes_and_the_servers_memory() {
    let pid = std::process::id();
    let report = run(Fault::None, &format!("connect --users 20 --duration 100ms --pid {pid}"));
    assert_eq!((report.connections.connected, report.connections.handshake_ms.count), (20, 20));
    assert!(report.messages.is_none() && report.exit_code() == 0, "{report}");
    assert!(report.server.unwrap().rss_bytes_connected > 0);
}

#[test]
fn correctness_is_the_first_line_and_json_says_the_same() {
    let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench-report.json");
    let report = run(Fault::None, FANOUT);
    assert!(report.to_string().starts_with("lost 0, duplicated 0, out of order 0, foreign 0\n"), "{report}");
    report.publish(Some(&file)).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!((&json["correct"], &json["messages"]["sent"]), (&true.into(), &200.into()));
}

#[test]
fn the_series_adds_up_to_the_totals_and_is_told_while_it_runs() {
    let mut seen = vec![];
    let mut steps = vec![];
    let line = format!("{FANOUT} --duration 2500ms --threads 2").replace("--duration 400ms ", "");
    let report = measure(&args(Fault::Repeat, &line), &mut |snapshot| {
        if let Some(row) = snapshot.row {
            seen.push(row.at_s);
        }
        if steps.last() != Some(&snapshot.step) {
            steps.push(snapshot.step);
        }
    })
    .unwrap();
    let series = &report.series;
    let sum = |of: fn(&Row) -> u64| series.iter().map(of).sum::<u64>();
    let messages = report.messages.as_ref().unwrap();
    assert_eq!((sum(|row| row.sent), sum(|row| row.acked)), (1250, 1250), "{report}");
    assert_eq!((sum(|row| row.delivered), report.totals.delivered), (messages.delivered, messages.delivered));
    assert_eq!((sum(|row| row.faults), sum(|row| row.connected)), (report.correctness.duplicated, 5));
    assert_eq!(sum(|row| row.delivery_ms.count), messages.delivered);
    assert!(series.iter().enumerate().all(|(at, row)| row.at_s == at as u64), "no second is left out");
    assert!(series.windows(2).all(|two| two[1].unix_s == two[0].unix_s + 1));
    assert!(seen.len() >= 2 && seen.iter().enumerate().all(|(at, second)| *second == at as u64), "{seen:?}");
    assert_eq!(steps[..3], [Step::SignUp, Step::LogIn, Step::Rooms]);
    let mut whole = Latency::of_run();
    whole.add_encoded(&report.histograms.delivery).unwrap();
    assert_eq!(whole.percentiles(), messages.delivery_ms);
}

#[test]
fn what_cannot_be_measured_is_one_clear_line() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let line = format!("bench fanout --target {nobody}");
    let failure = measure(&Line::parse_from(line.split(' ')).bench, &mut |_| ()).unwrap_err().to_string();
    assert!(failure.contains("no server answers") && failure.lines().count() == 1, "{failure}");
    let failure =
        measure(&args(Fault::None, "fanout --users 2 --rooms 3"), &mut |_| ()).unwrap_err().to_string();
    assert_eq!(failure, "3 rooms need at least as many users");
}
