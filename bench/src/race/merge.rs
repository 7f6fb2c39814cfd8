//! One report of several machines' shares of the members. Each machine has judged its own members about each
//! other, so verdicts add up; distributions are added as histograms, and rows lie over each other by the second
//! of the wall clock.

use std::collections::BTreeMap;

use super::report::{Histograms, Latencies, RaceReport};
use super::tally::{Counts, Row};
use crate::hdr::{Latency, Percentiles};
use crate::merge::Named;
use crate::shards::{Share, of_one_run};

/// Puts reports together, or says why they are not of one run or which histogram is damaged.
pub fn merge(named: Vec<Named<RaceReport>>) -> Result<RaceReport, String> {
    let missing = of_one_run(&named.iter().map(share).collect::<Vec<_>>())?;
    let reports: Vec<RaceReport> = named.into_iter().map(|(_, report)| report).collect();
    let series = overlaid(&reports)?;
    let (latencies, histograms) = distributions(&reports)?;
    let started = reports.iter().map(|report| report.started_unix_ms).min().unwrap_or_default();
    let mut all = reports.into_iter();
    let mut whole = all.next().ok_or("there is no report to merge")?;
    let shift = |report: &mut RaceReport| {
        let later_s = report.started_unix_ms.saturating_sub(started) as f64 / 1000.0;
        report.disruptions.iter_mut().for_each(|kill| kill.at_s += later_s);
    };
    shift(&mut whole);
    for mut report in all {
        shift(&mut report);
        add(&mut whole, report);
    }
    whole.started_unix_ms = started;
    whole.plan.shard = None;
    whole.warnings.extend(missing);
    whole.correct = whole.correctness.total() == 0;
    let errors = whole.errors.values().sum::<u64>() + whole.correctness.unanswered;
    whole.error_rate = errors as f64 / whole.counts.operations.max(1) as f64;
    (whole.latencies, whole.histograms) = (latencies, histograms);
    (whole.series, whole.thresholds) = (series, vec![]);
    Ok(whole)
}

fn share((name, report): &Named<RaceReport>) -> Share {
    Share {
        name: name.clone(),
        scenario: report.scenario.clone(),
        shard: report.plan.shard,
        started_unix_ms: report.started_unix_ms,
        lasted_s: report.series.len() as u64,
    }
}

/// Adds another machine's figures, all but distributions and rows.
fn add(whole: &mut RaceReport, other: RaceReport) {
    if !whole.target.split(", ").any(|target| target == other.target) {
        whole.target = format!("{}, {}", whole.target, other.target);
    }
    whole.ended_early_s = whole.ended_early_s.or(other.ended_early_s);
    whole.correctness.add(other.correctness);
    whole.ranked = whole.ranked.zip(other.ranked).map(|(one, two)| one + two);
    let (plan, part) = (&mut whole.plan, other.plan);
    plan.users += part.users;
    plan.connect_rate_per_s += part.connect_rate_per_s;
    plan.duration_s = plan.duration_s.max(part.duration_s);
    plan.challenges.extend(part.challenges);
    plan.challenges.sort_unstable();
    plan.challenges.dedup();
    count(&mut whole.counts, &other.counts);
    for (what, count) in other.errors {
        *whole.errors.entry(what).or_default() += count;
    }
    whole.server = whole.server.take().or(other.server);
    whole.generator_cpu_s += other.generator_cpu_s;
    whole.disruptions.extend(other.disruptions);
    whole.warnings.extend(other.warnings);
}

fn count(whole: &mut Counts, part: &Counts) {
    whole.begun += part.begun;
    whole.logged_in += part.logged_in;
    whole.joined += part.joined;
    whole.joined_before += part.joined_before;
    whole.entered += part.entered;
    whole.connected += part.connected;
    whole.dropped += part.dropped;
    whole.interrupted += part.interrupted;
    whole.reentered += part.reentered;
    whole.finished += part.finished;
    whole.quit += part.quit;
    whole.pings += part.pings;
    whole.pongs += part.pongs;
    whole.records += part.records;
    whole.heard_entered += part.heard_entered;
    whole.heard_left += part.heard_left;
    whole.heard_updates += part.heard_updates;
    whole.operations += part.operations;
}

fn distributions(reports: &[RaceReport]) -> Result<(Latencies, Histograms), String> {
    let sum = |of: fn(&Histograms) -> &str| -> Result<(Percentiles, String), String> {
        let mut latency = Latency::of_run();
        reports.iter().try_for_each(|report| latency.add_encoded(of(&report.histograms)))?;
        Ok((latency.percentiles(), latency.encode()))
    };
    let (mut latencies, mut kept) = (Latencies::default(), Histograms::default());
    (latencies.login_ms, kept.login) = sum(|all| &all.login)?;
    (latencies.join_ms, kept.join) = sum(|all| &all.join)?;
    (latencies.enter_ms, kept.enter) = sum(|all| &all.enter)?;
    (latencies.connect_ms, kept.connect) = sum(|all| &all.connect)?;
    (latencies.pong_ms, kept.pong) = sum(|all| &all.pong)?;
    (latencies.update_ms, kept.update) = sum(|all| &all.update)?;
    (latencies.recovery_ms, kept.recovery) = sum(|all| &all.recovery)?;
    Ok((latencies, kept))
}

/// The rows of all reports by their seconds, with none left out between the first and the last.
fn overlaid(reports: &[RaceReport]) -> Result<Vec<Row>, String> {
    let mut seconds: BTreeMap<u64, Vec<&Row>> = BTreeMap::new();
    for report in reports {
        for row in &report.series {
            seconds.entry(report.started_unix_ms / 1000 + row.at_s).or_default().push(row);
        }
    }
    let (Some(first), Some(last)) = (seconds.keys().next().copied(), seconds.keys().next_back().copied())
    else {
        return Ok(vec![]);
    };
    let row = |second| sum(second - first, seconds.get(&second).map(Vec::as_slice).unwrap_or_default());
    (first..=last).map(row).collect()
}

fn sum(at_s: u64, rows: &[&Row]) -> Result<Row, String> {
    let mut whole = Row { at_s, ..Row::default() };
    let (mut login, mut enter, mut connect) =
        (Latency::of_second(), Latency::of_second(), Latency::of_second());
    for row in rows {
        whole.connections += row.connections;
        whole.connected += row.connected;
        whole.heard += row.heard;
        whole.errors += row.errors;
        whole.faults += row.faults;
        login.add_encoded(&row.login_hdr)?;
        enter.add_encoded(&row.enter_hdr)?;
        connect.add_encoded(&row.connect_hdr)?;
        whole.target = whole.target.take().or_else(|| row.target.clone());
        whole.tester_cores += row.tester_cores;
    }
    let busiest = rows.iter().max_by_key(|row| row.connections);
    whole.stage = busiest.map(|row| row.stage.clone()).unwrap_or_default();
    (whole.login_ms, whole.login_hdr) = (login.percentiles(), login.encode());
    (whole.enter_ms, whole.enter_hdr) = (enter.percentiles(), enter.encode());
    (whole.connect_ms, whole.connect_hdr) = (connect.percentiles(), connect.encode());
    Ok(whole)
}
