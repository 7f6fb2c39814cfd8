//! Members of challenges against servers of known faults: exactly those must be found, and nothing in a
//! perfect one.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a helper that fails ends its test")]

mod course;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;
use course::{Fault, start};
use minitalk_bench::{BenchArgs, run};
use serde_json::Value;

/// How another command embeds the load tester.
#[derive(Parser)]
struct Line {
    #[command(flatten)]
    bench: BenchArgs,
}

fn temporary(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// Does what a line says; whether it ended with that code.
fn ends_with(line: &str, code: u8) -> bool {
    let args = Line::try_parse_from(line.split(' ')).unwrap().bench;
    run(args) == std::process::ExitCode::from(code)
}

/// Twenty members who stay for two PINGs, a quarter of whom quit; unless said otherwise.
const CROWD: [(&str, &str); 6] = [
    ("--users", "20"),
    ("--connect-rate", "200/s"),
    ("--duration", "700ms"),
    ("--ping-every", "300ms"),
    ("--drain", "1s"),
    ("--quit", "25"),
];

/// The report of a run of its own name, which ended with that code.
fn race(name: &str, fault: Fault, flags: &str, code: u8) -> Value {
    let (csv, json, html) = (
        temporary(&format!("{name}.csv")),
        temporary(&format!("{name}.json")),
        temporary(&format!("{name}.html")),
    );
    let (csv, json_path, html) = (csv.display(), json.display(), html.display());
    assert!(ends_with(&format!("bench members 30 --csv {csv} --challenge 1"), 0));
    let mut line = format!("bench challenge --target {} --csv {csv}", start(fault));
    line += &format!(" --json {json_path} --html {html} {}", flags.trim_end());
    for (flag, value) in CROWD.iter().filter(|(flag, _)| !flags.contains(flag)) {
        line += &format!(" {flag} {value}");
    }
    let ended = ends_with(&line, code);
    let text = std::fs::read_to_string(&json).unwrap();
    assert!(ended, "{fault:?} should end with {code}:\n{text}");
    serde_json::from_str(&text).unwrap()
}

/// Lost, duplicated, out of order, foreign, unanswered.
fn faults(report: &Value) -> [u64; 5] {
    ["lost", "duplicated", "out_of_order", "foreign", "unanswered"]
        .map(|kind| report["correctness"][kind].as_u64().unwrap())
}

/// Conditions that do not depend on how busy this machine is.
const CALM: &str = "--fail-if errors>0.1% --fail-if dropped>0";

#[test]
fn a_perfect_server_has_no_faults() {
    let report = race("perfect", Fault::None, &format!("{CALM} --record-every 100ms"), 0);
    assert_eq!(faults(&report), [0; 5]);
    let counts = &report["counts"];
    for (what, count) in [("logged_in", 20), ("joined", 20), ("entered", 20), ("connected", 20), ("quit", 5)]
    {
        assert_eq!(counts[what], count, "{what}: {report}");
    }
    assert_eq!((&counts["pings"], &report["errors"]), (&counts["pongs"], &serde_json::json!({})));
    assert!(counts["pings"].as_u64().unwrap() >= 40, "{counts}");
    assert!(counts["heard_updates"].as_u64().unwrap() > 20, "{counts}");
    for kind in ["login", "join", "enter", "connect"] {
        assert_eq!(report["latencies"][format!("{kind}_ms")]["count"], 20, "{kind}");
    }
    // Everybody is told of each other once, in CONNECTED or later, and of the five that quit.
    assert_eq!(counts["heard_entered"], 190);
    assert_eq!(counts["heard_left"], 19 + 18 + 17 + 16 + 15);
    assert_eq!(report["ranked"], 15);
    let page = std::fs::read_to_string(temporary("perfect.html")).unwrap();
    let page = page.replace("<!DOCTYPE html>\n", "");
    let document = roxmltree::Document::parse(&page).unwrap_or_else(|why| panic!("{why}"));
    let figures = document.descendants().filter(|node| node.has_tag_name("figure")).count();
    assert_eq!(figures, 5);
    assert!(page.contains("<strong>Correct</strong>"));
}

#[test]
fn each_fault_is_found_and_nothing_else() {
    for (name, fault, flags, expected) in [
        ("forget-entered", Fault::ForgetEntered, "", [1, 0, 0, 0, 0]),
        ("repeat-entered", Fault::RepeatEntered, "", [0, 1, 0, 0, 0]),
        ("invent-left", Fault::InventLeft, "--quit 0", [0, 0, 0, 1, 0]),
        ("forget-left", Fault::ForgetLeft, "", [1, 0, 0, 0, 0]),
        ("swap-left", Fault::SwapLeft, "", [0, 0, 1, 0, 0]),
        ("backwards", Fault::Backwards, "--record-every 100ms", [0, 0, 1, 0, 0]),
        ("invent-update", Fault::InventUpdate, "--record-every 100ms", [0, 0, 0, 1, 0]),
        ("forget-updates", Fault::ForgetUpdates, "--record-every 100ms --quit 0", [20 * 19, 0, 0, 0, 0]),
        ("no-pong", Fault::NoPong, "", [0, 0, 0, 0, 1]),
        ("forget-rank", Fault::ForgetRank, "", [1, 0, 0, 0, 0]),
        ("rank-twice", Fault::RankTwice, "", [0, 1, 0, 0, 0]),
    ] {
        let report = race(name, fault, &format!("--fail-if errors>100% {flags}"), 1);
        assert_eq!(faults(&report), expected, "{fault:?}: {report}");
    }
}

#[test]
fn a_finisher_is_told_to_have_left_only_by_a_server_that_says_so() {
    // 100 m at this pace take 36 s; the server never says that anybody has finished.
    let report =
        race("unfinished", Fault::None, "--record-every 20s --duration 10ms --quit 0 --fail-if errors>0", 0);
    assert_eq!((&report["counts"]["finished"], faults(&report)), (&0.into(), [0; 5]));
}

#[test]
fn what_a_server_refuses_is_counted_by_kind() {
    let report = race("refuse", Fault::Refuse, CALM, 1);
    assert_eq!((faults(&report), &report["errors"]["enter: 409 said"]), ([0; 5], &2.into()), "{report}");
    assert_eq!(report["error_rate"], 2.0 / (20.0 * 3.0 + 18.0));
    assert_eq!(report["thresholds"][0]["broken"], true);

    let report = race("bad-tickets", Fault::BadTickets, CALM, 1);
    assert_eq!(report["errors"]["connect: INVALID_TICKET"], 20, "{report}");
    assert_eq!(report["counts"]["connected"], 0);
}

#[test]
fn a_broken_connection_is_an_error_and_its_member_comes_back() {
    let flags = "--fail-if errors>50% --duration 2s --quit 0";
    let report = race("hang-up", Fault::HangUp, flags, 0);
    assert_eq!((faults(&report), &report["counts"]["dropped"]), ([0; 5], &1.into()), "{report}");
    assert_eq!(report["counts"]["reentered"], 1, "{report}");
}

#[test]
fn an_operators_thresholds_hold_unless_others_are_given() {
    let slow = Fault::SlowLogin(Duration::from_millis(150));
    let report = race("slow", slow, "--users 3", 1);
    let thresholds = report["thresholds"].as_array().unwrap();
    let conditions: Vec<&str> = thresholds.iter().map(|one| one["condition"].as_str().unwrap()).collect();
    assert_eq!(conditions, ["login.p99>=100ms", "enter.p99>=200ms", "connect.p99>=1s", "errors>=0.1%"]);
    assert_eq!(thresholds[0]["broken"], true);
    let report = race("slow-but-wanted", slow, "--users 3 --fail-if login.p99>60s", 0);
    assert_eq!(report["thresholds"].as_array().unwrap().len(), 1);
}

#[test]
fn a_server_without_rankings_is_not_blamed() {
    let report = race("no-rankings", Fault::NoRankings, CALM, 0);
    assert_eq!((faults(&report), &report["ranked"]), ([0; 5], &Value::Null));
}

#[test]
fn machines_share_the_members_and_their_reports_are_one() {
    let (csv, target) = (temporary("shares.csv"), start(Fault::None));
    let (csv, file) = (csv.display(), |name: &str| temporary(&format!("share-{name}")));
    assert!(ends_with(&format!("bench members 25 --csv {csv} --challenge 1"), 0));
    std::thread::scope(|scope| {
        for which in 1..=2 {
            let json = file(&format!("{which}.json"));
            let line = format!(
                "bench challenge --target {target} --csv {csv} --users 21 --shard {which}/2 --ramp 100/s \
                 --duration 1s --ping-every 300ms --drain 1s {CALM} --json {}",
                json.display()
            );
            scope.spawn(move || assert!(ends_with(&line, 0), "{line}"));
        }
    });
    let (one, two, whole) = (file("1.json"), file("2.json"), file("whole.json"));
    let merge = |files: [&PathBuf; 2], flags: &str, code| {
        let [one, two] = files.map(|file| file.display());
        ends_with(&format!("bench merge {one} {two} --json {} {flags}", whole.display()), code)
    };
    let report =
        |path: &PathBuf| -> Value { serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap() };
    assert!(merge([&one, &two], &format!("{CALM} --html {}", file("whole.html").display()), 0));
    let (one_is, two_is, all) = (report(&one), report(&two), report(&whole));
    assert_eq!((&one_is["plan"]["users"], &two_is["plan"]["users"]), (&10.into(), &11.into()));
    assert_eq!(
        (&all["plan"]["users"], &all["plan"]["shard"], &all["plan"]["connect_rate_per_s"]),
        (&21.into(), &Value::Null, &100.0.into())
    );
    assert_eq!((&all["counts"]["connected"], faults(&all), &all["ranked"]), (&21.into(), [0; 5], &21.into()));
    for kind in ["login", "join", "enter", "connect"] {
        assert_eq!(all["latencies"][format!("{kind}_ms")]["count"], 21, "{kind}");
    }
    let connected = |rows: &Value| -> u64 {
        rows["series"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row["connect_ms"]["count"].as_u64().unwrap())
            .sum()
    };
    assert_eq!(connected(&all), 21);
    assert!(merge([&one, &two], "--fail-if connect.p99>=0ms", 1), "conditions are judged anew");
    assert!(merge([&one, &one], CALM, 2), "one share twice");
    let create = format!("bench challenge --target {target} --csv {csv} --shard 1/2 --create");
    assert!(ends_with(&create, 2), "each machine would make a challenge");
    assert!(ends_with(&format!("bench challenge --target {target} --csv {csv} --users 1 --shard 1/2"), 2));
}

#[test]
fn a_challenge_is_made_and_written_into_the_file() {
    let csv = temporary("created.csv");
    let path = csv.display();
    assert!(ends_with(&format!("bench members 5 --csv {path}"), 0));
    let target = start(Fault::None);
    // Without a challenge there is nothing to enter.
    assert!(ends_with(&format!("bench challenge --target {target} --csv {path}"), 2));
    let line =
        format!("bench challenge --target {target} --csv {path} --create FIVE --duration 100ms {CALM}");
    assert!(ends_with(&line, 0));
    let text = std::fs::read_to_string(&csv).unwrap();
    assert!(text.lines().skip(1).all(|line| line.split(',').nth(1) == Some("7")), "{text}");
    // Another time the same members have joined already.
    let json = temporary("created.json");
    let line = format!("bench challenge --target {target} --csv {path} --duration 100ms {CALM}");
    assert!(ends_with(&format!("{line} --json {}", json.display()), 0));
    let report: Value = serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();
    assert_eq!((&report["counts"]["joined"], &report["counts"]["joined_before"]), (&0.into(), &5.into()));
    assert!(ends_with(&format!("bench challenge --target {target} --csv {path} --create FAR"), 2));
    assert!(ends_with("bench challenge --target 127.0.0.1:1 --csv /nonexistent.csv", 2));
}
