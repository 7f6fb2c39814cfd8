//! One report of several: what each machine counted is added, distributions are added as
//! histograms, and rows lie over each other by the second of the wall clock.
//!
//! Every machine has rooms of its own, so verdicts simply add up. Figures of the server are not
//! added: all machines look at the same one, so the first that saw it stands for all.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::hdr::{Latency, Percentiles};
use crate::race::report::RaceReport;
use crate::report::{Action, Correctness, Histograms, Messages, Phase, Report, SCHEMA};
use crate::series::{Generator, Row};
use crate::shards::{Share, of_one_run};

/// Faults of one kind that are told one by one.
const EXAMPLES: usize = 10;

/// A report, and the file it came from.
pub type Named<T> = (String, T);

/// Reports of one form.
pub enum Written {
    /// Of loads of chats.
    Chats(Vec<Named<Report>>),
    /// Of live challenges.
    Races(Vec<Named<RaceReport>>),
}

/// Reads reports that were written with `--json`; all must be of one form.
pub fn read(paths: &[impl AsRef<Path>]) -> Result<Written, String> {
    let values = paths.iter().map(|path| value(path.as_ref())).collect::<Result<Vec<_>, _>>()?;
    let is_race = |(_, value): &&Named<Value>| value["scenario"] == "challenge";
    let (race, chat) = (values.iter().find(is_race), values.iter().find(|value| !is_race(value)));
    if let (Some((race, _)), Some((chat, _))) = (race, chat) {
        return Err(format!("{race} is of live challenges, {chat} is not: they are of different runs"));
    }
    if race.is_some() { typed(values).map(Written::Races) } else { typed(values).map(Written::Chats) }
}

fn value(path: &Path) -> Result<Named<Value>, String> {
    let name = path.display().to_string();
    let text = fs::read(path).map_err(|why| format!("{name}: {why}"))?;
    let value: Value = serde_json::from_slice(&text).map_err(|why| format!("{name}: not a report: {why}"))?;
    match value["schema"].as_u64() {
        Some(schema) if schema == u64::from(SCHEMA) => Ok((name, value)),
        Some(schema) => Err(format!("{name}: schema {schema}, this program knows {SCHEMA}")),
        None => Err(format!("{name}: not a report of the load tester, as --json writes it")),
    }
}

fn typed<T: DeserializeOwned>(values: Vec<Named<Value>>) -> Result<Vec<Named<T>>, String> {
    let typed = |(name, value): Named<Value>| match serde_json::from_value(value) {
        Ok(report) => Ok((name, report)),
        Err(why) => Err(format!("{name}: not a report: {why}")),
    };
    values.into_iter().map(typed).collect()
}

/// Puts reports together, or says which histogram is damaged or why they are not of one run.
pub fn merge(named: Vec<Named<Report>>) -> Result<Report, String> {
    let missing = of_one_run(&named.iter().map(share).collect::<Vec<_>>())?;
    let reports: Vec<Report> = named.into_iter().map(|(_, report)| report).collect();
    let started = reports.iter().map(|report| report.started_unix_ms).min().unwrap_or_default();
    let histograms: Vec<Histograms> = reports.iter().map(|report| report.histograms.clone()).collect();
    let series = overlaid(&reports)?;
    let shift_s = |report: &Report| report.started_unix_ms.saturating_sub(started) as f64 / 1000.0;
    let mut all = reports.into_iter();
    let mut whole = all.next().ok_or("there is no report to merge")?;
    let first_s = shift_s(&whole);
    shift(&mut whole.phases, first_s);
    whole.disruptions.iter_mut().for_each(|disruption| disruption.at_s += first_s);
    for report in all {
        let later_s = shift_s(&report);
        add(&mut whole, report, later_s);
    }
    whole.started_unix_ms = started;
    whole.series = series;
    whole.plan.shard = None;
    whole.thresholds = vec![];
    whole.preflight.warnings.extend(missing);
    whole.correct = whole.correctness.holds();
    whole.error_rate = error_rate(&whole);
    distribute(&mut whole, &histograms)?;
    Ok(whole)
}

fn share((name, report): &Named<Report>) -> Share {
    Share {
        name: name.clone(),
        scenario: report.scenario.clone(),
        shard: report.plan.shard,
        started_unix_ms: report.started_unix_ms,
        lasted_s: report.series.len() as u64,
    }
}

fn shift(phases: &mut [Phase], by_s: f64) {
    for phase in phases {
        phase.from_s += by_s;
        phase.to_s += by_s;
    }
}

/// Adds another machine's figures, all but distributions and rows.
fn add(whole: &mut Report, other: Report, later_s: f64) {
    if !whole.scenario.split(" + ").any(|name| name == other.scenario) {
        whole.scenario = format!("{} + {}", whole.scenario, other.scenario);
    }
    if !whole.target.split(", ").any(|target| target == other.target) {
        whole.target = format!("{}, {}", whole.target, other.target);
    }
    correctness(&mut whole.correctness, other.correctness);
    let (plan, part) = (&mut whole.plan, other.plan);
    plan.users += part.users;
    plan.rooms += part.rooms;
    plan.threads += part.threads;
    plan.rate_per_s = plan.rate_per_s.zip(part.rate_per_s).map(|(one, two)| one + two);
    plan.warmup_s = plan.warmup_s.max(part.warmup_s);
    plan.duration_s = plan.duration_s.max(part.duration_s);
    whole.setup.signups_per_s += other.setup.signups_per_s;
    whole.setup.logins_per_s += other.setup.logins_per_s;
    whole.setup.rooms_per_s += other.setup.rooms_per_s;
    let (connections, part) = (&mut whole.connections, other.connections);
    connections.connected += part.connected;
    connections.connects_per_s += part.connects_per_s;
    connections.interrupted += part.interrupted;
    connections.gaps += part.gaps;
    connections.polling += part.polling;
    connections.slow_readers += part.slow_readers;
    connections.slow_readers_closed += part.slow_readers_closed;
    reasons(&mut connections.failed, part.failed);
    reasons(&mut connections.dropped, part.dropped);
    match (&mut whole.messages, other.messages) {
        (Some(messages), Some(part)) => count(messages, part),
        (none, part) => *none = none.take().or(part),
    }
    whole.server = whole.server.take().or(other.server);
    whole.generator_cpu_s += other.generator_cpu_s;
    whole.totals.add_all(&other.totals);
    let (actions, part) = (&mut whole.actions, other.actions);
    actions.typing_sent += part.typing_sent;
    actions.typing_heard += part.typing_heard;
    actions.reconnects += part.reconnects;
    reasons(&mut actions.history.failed, part.history.failed);
    reasons(&mut actions.search.failed, part.search.failed);
    let shifted = other.disruptions.into_iter().map(|mut disruption| {
        disruption.at_s += later_s;
        disruption
    });
    whole.disruptions.extend(shifted);
    whole.preflight.judges_per_s += other.preflight.judges_per_s;
    whole.preflight.asked_per_s += other.preflight.asked_per_s;
    whole.preflight.warnings.extend(other.preflight.warnings);
}

fn correctness(whole: &mut Correctness, part: Correctness) {
    whole.lost += part.lost;
    whole.duplicated += part.duplicated;
    whole.out_of_order += part.out_of_order;
    whole.foreign += part.foreign;
    whole.unanswered += part.unanswered;
    if part.judged_by == "content" {
        whole.judged_by = part.judged_by; // the weaker of the two
    }
    for (kind, examples) in part.examples {
        let known = whole.examples.entry(kind).or_default();
        let room = EXAMPLES.saturating_sub(known.len());
        known.extend(examples.into_iter().take(room));
    }
}

fn count(messages: &mut Messages, part: Messages) {
    messages.sent += part.sent;
    messages.unsent += part.unsent;
    messages.late += part.late;
    messages.lag_ms_max = messages.lag_ms_max.max(part.lag_ms_max);
    messages.acked += part.acked;
    messages.refused += part.refused;
    messages.delivered += part.delivered;
    messages.acks_per_s += part.acks_per_s;
    messages.deliveries_per_s += part.deliveries_per_s;
    reasons(&mut messages.refusals, part.refusals);
    reasons(&mut messages.other_packets, part.other_packets);
}

fn reasons(whole: &mut BTreeMap<String, u64>, part: BTreeMap<String, u64>) {
    for (reason, count) in part {
        *whole.entry(reason).or_default() += count;
    }
}

fn error_rate(whole: &Report) -> f64 {
    let errors = &whole.totals.errors;
    let connected: u64 = whole.series.iter().map(|row| row.connected).sum();
    let tried = whole.totals.sent + errors.unsent + connected + errors.failed;
    (errors.total() + whole.correctness.unanswered) as f64 / tried.max(1) as f64
}

/// Adds the distributions and tells their percentiles.
fn distribute(whole: &mut Report, all: &[Histograms]) -> Result<(), String> {
    let sum = |of: fn(&Histograms) -> &str| -> Result<(Percentiles, String), String> {
        let mut latency = Latency::of_run();
        all.iter().try_for_each(|histograms| latency.add_encoded(of(histograms)))?;
        Ok((latency.percentiles(), latency.encode()))
    };
    let kept = &mut whole.histograms;
    (whole.connections.handshake_ms, kept.handshake) = sum(|all| &all.handshake)?;
    (whole.connections.recovery_ms, kept.recovery) = sum(|all| &all.recovery)?;
    let Action { ms: history, .. } = &mut whole.actions.history;
    (*history, kept.history) = sum(|all| &all.history)?;
    (whole.actions.search.ms, kept.search) = sum(|all| &all.search)?;
    let ((ack_ms, ack), (delivery_ms, delivery)) = (sum(|all| &all.ack)?, sum(|all| &all.delivery)?);
    (kept.ack, kept.delivery) = (ack, delivery);
    if let Some(messages) = &mut whole.messages {
        (messages.ack_ms, messages.delivery_ms) = (ack_ms, delivery_ms);
    }
    Ok(())
}

/// The rows of all reports by their seconds, with none left out between the first and the last.
fn overlaid(reports: &[Report]) -> Result<Vec<Row>, String> {
    let mut seconds: BTreeMap<u64, Vec<&Row>> = BTreeMap::new();
    for row in reports.iter().flat_map(|report| &report.series) {
        seconds.entry(row.unix_s).or_default().push(row);
    }
    let (Some(first), Some(last)) = (seconds.keys().next().copied(), seconds.keys().next_back().copied())
    else {
        return Ok(vec![]);
    };
    let row =
        |unix_s| sum(unix_s, unix_s - first, seconds.get(&unix_s).map(Vec::as_slice).unwrap_or_default());
    (first..=last).map(row).collect()
}

fn sum(unix_s: u64, at_s: u64, rows: &[&Row]) -> Result<Row, String> {
    let (mut ack, mut delivery) = (Latency::of_second(), Latency::of_second());
    let mut whole = Row { unix_s, at_s, ..Row::default() };
    for row in rows {
        ack.add_encoded(&row.ack_hdr)?;
        delivery.add_encoded(&row.delivery_hdr)?;
        whole.connections += row.connections;
        whole.connected += row.connected;
        whole.sent += row.sent;
        whole.acked += row.acked;
        whole.delivered += row.delivered;
        whole.late += row.late;
        whole.faults += row.faults;
        whole.errors += row.errors;
        whole.target = whole.target.take().or_else(|| row.target.clone());
        whole.generator = Generator {
            cpu_share: whole.generator.cpu_share + row.generator.cpu_share,
            lag_ms: whole.generator.lag_ms.max(row.generator.lag_ms),
            bottleneck: whole.generator.bottleneck || row.generator.bottleneck,
        };
    }
    let busiest = rows.iter().max_by_key(|row| row.sent);
    whole.phase = busiest.map(|row| row.phase.clone()).unwrap_or_default();
    (whole.ack_ms, whole.delivery_ms) = (ack.percentiles(), delivery.percentiles());
    (whole.ack_hdr, whole.delivery_hdr) = (ack.encode(), delivery.encode());
    Ok(whole)
}
