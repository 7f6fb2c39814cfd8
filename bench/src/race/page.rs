//! The report of a run with challenges as one HTML file, with the parts of all reports' pages.

use std::io;
use std::path::Path;

use super::report::RaceReport;
use super::tally::Row;
use crate::chart::{Axis, Chart, Line, Shape};
use crate::charts::Figure;
use crate::hdr::Percentiles;
use crate::page::parts::{
    date, document, grouped, heading, latency_table, mib, over_time, percent, row, save, section,
    side_by_side, table, threshold_table, two, verdict_of,
};

const MIB: f64 = 1024.0 * 1024.0;

/// Most points of a line; of a longer run every second, third, … second is shown.
const POINTS_MAX: usize = 1200;

/// Writes the report's page.
pub fn write(report: &RaceReport, path: &Path) -> io::Result<()> {
    save(&page(report), path)
}

/// The whole page.
fn page(report: &RaceReport) -> String {
    let parts = [
        head(report),
        verdict(report),
        section("Faults", &examples(report)),
        threshold_table(&report.thresholds),
        latencies(report),
        kills(report),
        charts(report),
        section("Errors", &errors(report)),
        numbers(report),
    ];
    document(&format!("challenge on {}", report.target), &parts.concat())
}

fn head(report: &RaceReport) -> String {
    let (users, begun) = (grouped(report.plan.users as u64), date(report.started_unix_ms));
    let about = format!("{users} members of live challenges on {}, from {begun} UTC", report.target);
    heading("challenge", &about)
}

fn verdict(report: &RaceReport) -> String {
    let found = &report.correctness;
    let counts = [found.lost, found.duplicated, found.out_of_order, found.foreign, found.unanswered];
    let mut judged = vec!["What each member was told about each other, judged at every member.".to_owned()];
    judged.extend(
        report.ranked.map(|ranked| format!("In the end {} were looked for in the ranking.", grouped(ranked))),
    );
    judged.extend(report.warnings.iter().map(|warning| format!("Beware: {warning}.")));
    verdict_of(report.correct, report.exit_code(), counts, &judged)
}

fn examples(report: &RaceReport) -> String {
    let mut rows = vec![];
    for (kind, examples) in &report.correctness.examples {
        rows.extend(examples.iter().map(|one| {
            vec![kind.replace('_', " "), one.who.to_string(), one.about.to_string(), one.what.clone()]
        }));
    }
    table(&["kind", "#member", "#about", "what"], rows)
}

fn latencies(report: &RaceReport) -> String {
    let found = &report.latencies;
    latency_table(&[
        ("login", &found.login_ms),
        ("join", &found.join_ms),
        ("enter", &found.enter_ms),
        ("connect", &found.connect_ms),
        ("pong", &found.pong_ms),
        ("update", &found.update_ms),
        ("recovery", &found.recovery_ms),
    ])
}

fn kills(report: &RaceReport) -> String {
    let rows = report.disruptions.iter().map(|one| {
        vec![
            one.what.clone(),
            two(one.at_s),
            one.pid.map_or_else(String::new, |pid| pid.to_string()),
            one.failed.as_ref().map_or_else(|| "done".to_owned(), |why| format!("not done: {why}")),
            grouped(one.interrupted),
            grouped(one.recovery_ms.count),
            two(one.all_back_ms),
        ]
    });
    let head = ["what", "#at, s", "#process", "outcome", "#broken", "#back", "#all back, ms"];
    section("Kills", &table(&head, rows.collect()))
}

fn errors(report: &RaceReport) -> String {
    let rows = report.errors.iter().map(|(what, count)| vec![grouped(*count), what.clone()]);
    table(&["#count", "what"], rows.collect())
}

fn charts(report: &RaceReport) -> String {
    let step = report.series.len().div_ceil(POINTS_MAX).max(1);
    let rows: Vec<&Row> = report.series.iter().step_by(step).collect();
    let line = |name: &str, value: &dyn Fn(&Row) -> Option<f64>| Line {
        name: name.to_owned(),
        points: rows.iter().map(|row| (row.at_s as f64, value(row))).collect(),
        shape: Shape::Line,
    };
    let chart = |title: &str, unit: &'static str, lines: Vec<Line>| {
        let values = lines.iter().flat_map(|line| &line.points).filter_map(|(_, value)| *value);
        let y = Axis::from_zero(values.fold(0.0, f64::max));
        let x = Axis::time(0.0, rows.last().map_or(0.0, |row| row.at_s as f64));
        let marks = report.disruptions.iter().map(|one| (one.at_s, one.what.clone())).collect();
        let bands = vec![];
        Chart {
            title: title.to_owned(),
            unit,
            x_unit: "time since the first login",
            x,
            y,
            lines,
            bands,
            marks,
        }
    };
    let p99 = |found: Percentiles| (found.count > 0).then_some(found.p99);
    let connections = vec![line("connections", &|row| Some(row.connections as f64))];
    let heard =
        vec![line("heard", &|row| Some(row.heard as f64)), line("errors", &|row| Some(row.errors as f64))];
    let latency = vec![
        line("login", &|row| p99(row.login_ms)),
        line("enter", &|row| p99(row.enter_ms)),
        line("connect", &|row| p99(row.connect_ms)),
    ];
    let memory = vec![line("server", &|row| Some(row.target.as_ref()?.rss_bytes as f64 / MIB))];
    let cores = vec![line("load tester", &|row| Some(row.tester_cores))];
    let figures = [
        (chart("Connections", "", connections), "Open at the end of each second."),
        (chart("Messages heard, and errors", "/s", heard), "All members together."),
        (chart("99th percentiles", "ms", latency), "Of what ended in each second; gaps: nothing did."),
        (
            chart("Memory of the server", "MiB", memory),
            "Empty when the server does not tell and no --pid was given.",
        ),
        (chart("CPU of the load tester", "cores", cores), "Near one core, its figures may be its own."),
    ];
    over_time(&figures.map(|(chart, note)| Figure { chart, note }))
}

fn numbers(report: &RaceReport) -> String {
    let (plan, counts) = (&report.plan, &report.counts);
    let every =
        plan.record_every_s.map_or_else(|| "none".to_owned(), |every| format!("every {} s", two(every)));
    let mut asked = vec![
        row("members", grouped(plan.users as u64)),
        row("begun per second", two(plan.connect_rate_per_s)),
        row("stay", format!("{} s", two(plan.duration_s))),
        row("PING", format!("every {} s", two(plan.ping_every_s))),
        row("RECORD", every),
        row("quit in the end", format!("{} %", two(plan.quit_percent))),
    ];
    asked.extend(plan.shard.map(|(which, of)| row("share", format!("machine {which} of {of}"))));
    let done = [
        ("logged in", counts.logged_in),
        ("joined", counts.joined),
        ("had joined before", counts.joined_before),
        ("tickets", counts.entered),
        ("connected", counts.connected),
        ("lost their connection", counts.dropped),
        ("lost it by a kill", counts.interrupted),
        ("came back", counts.reentered),
        ("finished", counts.finished),
        ("quit", counts.quit),
        ("PING", counts.pings),
        ("PONG", counts.pongs),
        ("RECORD", counts.records),
        ("USER_ENTERED heard", counts.heard_entered),
        ("USER_LEFT heard", counts.heard_left),
        ("PARTICIPANT_UPDATE heard", counts.heard_updates),
    ];
    let mut done: Vec<Vec<String>> = done.iter().map(|(name, count)| row(name, grouped(*count))).collect();
    done.push(row("errors of all calls and handshakes", percent(report.error_rate)));
    let mut machines = vec![row("CPU seconds of the load tester", two(report.generator_cpu_s))];
    if let Some(server) = &report.server {
        machines.push(row("CPU seconds of the server", two(server.cpu_s)));
        machines.push(row("of this machine", format!("{} %", two(server.cpu_percent))));
        machines.push(row("memory before the first member", mib(server.rss_bytes_idle)));
        machines.push(row("memory when all were there", mib(server.rss_bytes_connected)));
        machines.push(row("memory when they had stayed", mib(server.rss_bytes_end)));
    }
    side_by_side(vec![("Plan", asked), ("Members and messages", done), ("While all were there", machines)])
}
