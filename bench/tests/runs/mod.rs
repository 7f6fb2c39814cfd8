//! Presets, scenario files, storms, thresholds and merged reports against a server of known faults.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::SeqCst;

use clap::Parser;
use minitalk_bench::merge::Written;
use minitalk_bench::{BenchArgs, Report, measure, merge};

use crate::Line;
use crate::server::{Fault, STALL, start_counting};

fn args(line: &str) -> BenchArgs {
    Line::try_parse_from(line.split(' ')).unwrap().bench
}

/// The report, and how many deliveries the server says it broke.
fn run(fault: Fault, line: &str) -> (Report, u64) {
    let (address, broken) = start_counting(fault);
    let report = measure(&args(&format!("bench {line} --target {address}")), &mut |_| ()).unwrap();
    (report, broken.load(SeqCst))
}

/// Lost, duplicated, out of order, foreign, unanswered.
fn faults(report: &Report) -> [u64; 5] {
    let found = &report.correctness;
    [found.lost, found.duplicated, found.out_of_order, found.foreign, found.unanswered]
}

fn temporary(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// 20 users in 4 rooms, 475 messages, 2,375 deliveries.
const SMALL: &str = "custom --users 20 --rooms 4 --rate 500 --duration 1s --drain 2s";

#[test]
fn a_preset_greets_and_finds_no_fault_in_a_perfect_server() {
    for threads in [1, 2] {
        let (report, _) = run(Fault::None, &format!("quick --duration 2s --rate 200 --threads {threads}"));
        let messages = report.messages.as_ref().unwrap();
        assert_eq!((faults(&report), report.exit_code()), ([0; 5], 0), "{report}");
        assert_eq!((messages.sent, messages.acked, messages.delivered), (380, 380, 1140), "{report}");
        assert_eq!((report.actions.typing_sent, report.actions.typing_heard), (76, 152), "{report}");
        assert_eq!(report.actions.history.ms.count, 4, "{report}");
        let names: Vec<&str> = report.phases.iter().map(|phase| phase.name.as_str()).collect();
        assert_eq!(names, ["countdown", "celebration"]);
    }
}

#[test]
fn history_that_is_never_answered_is_told() {
    let (report, _) = run(Fault::NoHistory, "quick --duration 2s --rate 200 --drain 500ms");
    assert_eq!((faults(&report), report.exit_code()), ([0; 5], 0), "{report}");
    assert!(report.to_string().contains("\n  4 × not answered\n"), "{report}");
}

#[test]
fn one_fault_in_a_thousand_deliveries_is_counted_exactly() {
    for (fault, kind) in [(Fault::DropThousandth, 0), (Fault::RepeatThousandth, 1)] {
        let (report, broken) = run(fault, SMALL);
        let mut expected = [0; 5];
        expected[kind] = broken;
        assert_eq!((faults(&report), broken, report.exit_code()), (expected, 2, 1), "{report}");
    }
}

#[test]
fn a_stall_shows_in_the_latency_of_all_that_was_due_meanwhile() {
    let (report, _) =
        run(Fault::Stall, "fanout --users 5 --rate 500 --warmup 0s --duration 400ms --drain 2s");
    let delivery = report.messages.as_ref().unwrap().delivery_ms;
    assert_eq!((faults(&report), delivery.count), ([0; 5], 1000), "{report}");
    let stall_ms = STALL.as_secs_f64() * 1000.0;
    assert!(delivery.max >= stall_ms, "the message that was held: {report}");
    // 150 of the 200 messages were due during the stall; each waited for the rest of it.
    assert!(delivery.p50 >= stall_ms / 3.0, "{report}");
}

#[test]
fn a_storm_loses_nothing_where_what_was_missed_is_told_again() {
    for threads in [1, 2] {
        let (report, _) = run(Fault::None, &format!("{SMALL} --reconnect-storm --threads {threads}"));
        let messages = report.messages.as_ref().unwrap();
        assert_eq!((faults(&report), report.exit_code()), ([0; 5], 0), "{report}");
        assert_eq!((messages.acked, messages.delivered), (475, 2375), "{report}");
        let storm = &report.disruptions[0];
        assert_eq!((storm.interrupted, storm.recovery_ms.count), (20, 20), "{report}");
        assert!(storm.all_back_ms > 0.0 && report.connections.recovery_ms.count == 20, "{report}");
    }
}

#[test]
fn what_is_not_told_again_after_a_storm_is_lost_and_what_is_told_twice_is_duplicated() {
    let half = format!("{SMALL} --reconnect-storm 50");
    let (report, broken) = run(Fault::Forget, &half);
    assert!(broken > 0 && faults(&report) == [broken, 0, 0, 0, 0], "{broken} broken:\n{report}");
    let (report, broken) = run(Fault::Retell, &half);
    assert!(broken > 0 && faults(&report) == [0, broken, 0, 0, 0], "{broken} broken:\n{report}");
}

#[test]
fn a_message_whose_ack_was_lost_is_repeated_and_may_be_stored_once_only() {
    let storm = format!("{SMALL} --reconnect-storm");
    let (report, _) = run(Fault::LoseAck, &storm);
    assert_eq!((faults(&report), report.messages.as_ref().unwrap().acked), ([0; 5], 475), "{report}");
    let (report, broken) = run(Fault::StoreAgain, &storm);
    // Each of the room's five members is told twice, and the second ack names another seq. An ack that
    // the storm cut off is such a case of its own.
    assert!(broken >= 5, "{report}");
    assert_eq!(faults(&report), [0, broken, 0, broken / 5, 0], "{report}");
}

#[test]
fn slow_readers_are_owed_nothing_and_others_everything() {
    let (report, _) = run(Fault::None, &format!("{SMALL} --slow-readers 25"));
    assert_eq!((faults(&report), report.exit_code()), ([0; 5], 0), "{report}");
    assert_eq!(report.connections.slow_readers, 5, "{report}");
    let delivered = report.messages.as_ref().unwrap().delivered;
    assert!((475..2375).contains(&delivered) && delivered == report.totals.delivered, "{report}");
}

#[test]
fn a_scenario_file_runs_with_all_its_mix() {
    let file = temporary("scenario.toml");
    let text = "name = \"all\"\nusers = 12\nrooms = 3\nrate = 100\nfail_if = [\"lost>0\"]\n\n\
        [[phase]]\nkind = \"steady\"\nduration = \"500ms\"\n\n[[phase]]\nname = \"peak\"\nkind = \"spike\"\n\
        duration = \"250ms\"\nlevel = 400\n\n[[phase]]\nkind = \"ramp\"\nduration = \"500ms\"\nlevel = 0\n\n\
        [mix]\ntyping = 10\nhistory = 5\nsearch = 5\nreconnect = 2\n";
    std::fs::write(&file, text).unwrap();
    let (report, _) = run(Fault::None, &format!("custom --scenario {}", file.display()));
    assert_eq!(
        (faults(&report), report.exit_code(), report.scenario.as_str()),
        ([0; 5], 0, "all"),
        "{report}"
    );
    assert_eq!(report.messages.as_ref().unwrap().acked, 50 + 100 + 25, "{report}");
    let actions = &report.actions;
    assert_eq!((actions.typing_sent, actions.search.ms.count, actions.reconnects), (18, 9, 4), "{report}");
    assert_eq!(report.connections.recovery_ms.count, report.connections.interrupted, "{report}");
    assert_eq!(report.thresholds[0].broken, Some(false), "{report}");
    std::fs::write(&file, text.replace("typing", "typin")).unwrap();
    let line = format!("bench custom --scenario {}", file.display());
    let failure = measure(&args(&line), &mut |_| ()).unwrap_err().to_string();
    assert!(failure.contains("scenario.toml: line 23: unknown field `typin`"), "{failure}");
}

#[test]
fn thresholds_decide_the_exit_code() {
    let (address, _) = start_counting(Fault::None);
    for (condition, code, told) in [
        ("p99>60s", 0, "kept: fail if p99>60s"),
        ("delivered<1000000", 1, "BROKEN: fail if delivered<1000000; found "),
        ("recovery.p99>1s", 2, "NOT JUDGED: fail if recovery.p99>1s"),
    ] {
        let line = format!("bench quick --duration 300ms --target {address} --fail-if {condition}");
        let report = measure(&args(&line), &mut |_| ()).unwrap();
        assert_eq!(report.exit_code(), code, "{report}");
        assert!(report.to_string().contains(told), "{report}");
    }
    let failure = Line::try_parse_from(["bench", "quick", "--fail-if", "p99>200"]).err().unwrap().to_string();
    assert!(failure.contains("a latency needs its unit"), "{failure}");
}

#[test]
fn shards_merge_into_one_exact_report() {
    let (address, _) = start_counting(Fault::None);
    let shard = |i: u32| {
        let line = format!("bench quick --duration 1s --rate 300 --target {address} --shard {i}/2");
        let report = measure(&args(&line), &mut |_| ()).unwrap();
        let file = temporary(&format!("shard{i}.json"));
        report.publish(Some(&file)).unwrap();
        (report, file)
    };
    let shards: Vec<(Report, PathBuf)> = std::thread::scope(|scope| {
        [1, 2].map(|i| scope.spawn(move || shard(i))).map(|run| run.join().unwrap())
    })
    .into();
    let files: Vec<&PathBuf> = shards.iter().map(|(_, file)| file).collect();
    let merged = |files: &[&PathBuf]| match merge::read(files).unwrap() {
        Written::Chats(reports) => merge::merge(reports),
        Written::Races(_) => panic!("no race"),
    };
    let whole = merged(&files).unwrap();
    assert!(whole.preflight.warnings.iter().all(|told| !told.contains("missing")), "{whole}");
    assert!(merged(&files[..1]).unwrap().to_string().contains("of 2 machines these are missing: 2"));
    let twice = merged(&[files[0], files[1], files[0]]).unwrap_err();
    assert!(twice.contains("shard1.json and") && twice.contains("both of machine 1 of 2"), "{twice}");
    let sum = |of: fn(&Report) -> u64| shards.iter().map(|(report, _)| of(report)).sum::<u64>();
    let delivered = |report: &Report| report.messages.as_ref().unwrap().delivery_ms;
    assert_eq!((whole.plan.users, whole.plan.rooms, whole.plan.shard), (30, 10, None));
    assert_eq!(whole.totals.sent, sum(|report| report.totals.sent));
    assert_eq!(delivered(&whole).count, sum(|report| report.messages.as_ref().unwrap().delivery_ms.count));
    let slowest = shards.iter().map(|(report, _)| delivered(report).max).reduce(f64::max).unwrap();
    assert!((delivered(&whole).max - slowest).abs() < f64::EPSILON, "{whole}");
    assert_eq!(whole.series.iter().map(|row| row.delivered).sum::<u64>(), whole.totals.delivered);
    assert_eq!(whole.series.iter().map(|row| row.delivery_ms.count).sum::<u64>(), whole.totals.delivered);
    assert!(whole.series.windows(2).all(|two| two[1].unix_s == two[0].unix_s + 1));
    assert!(whole.correct && whole.exit_code() == 0, "{whole}");
    for (name, text, told) in [
        ("none.json", None, "none.json: No such file"),
        ("future.json", Some("{\"schema\": 99}"), "schema 99"),
        ("empty.json", Some("{}"), "empty.json: not a report of the load tester"),
        (
            "race.json",
            Some("{\"schema\": 1, \"scenario\": \"challenge\"}"),
            "race.json is of live challenges",
        ),
    ] {
        if let Some(text) = text {
            std::fs::write(temporary(name), text).unwrap();
        }
        let failure = merge::read(&[files[0], &temporary(name)]).err().unwrap();
        assert!(failure.contains(told), "{failure}");
    }
}
