//! The report as one HTML file for people: verdict first, then figures, charts and everything else.
//!
//! The file needs nothing but itself: no script, no font, no picture from elsewhere; its content
//! policy forbids them, so text that came from a server could not call for any either. It is
//! well-formed XML, too, which is how its tests read it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use crate::chart::{COLOURS, Shape, exact};
use crate::charts::{self, Figure};
use crate::escape::escape;
use crate::fail_if::Judged;
use crate::hdr::Percentiles;
use crate::report::{Example, Report};

const MIB: f64 = 1024.0 * 1024.0;
const DAY_S: u64 = 86_400;

/// Writes the report's page.
pub fn write(report: &Report, path: &Path) -> io::Result<()> {
    save(&page(report), path)
}

/// Writes a page to a file.
pub(crate) fn save(page: &str, path: &Path) -> io::Result<()> {
    let named = |why: io::Error| io::Error::new(why.kind(), format!("{}: {why}", path.display()));
    fs::write(path, page).map_err(named)
}

/// The whole page.
pub fn page(report: &Report) -> String {
    let parts = [
        head(report),
        verdict(report),
        tiles(report),
        examples(report),
        threshold_table(&report.thresholds),
        latencies(report),
        figures(report),
        disruptions(report),
        reasons(report),
        numbers(report),
    ];
    document(&format!("{} on {}", report.scenario, report.target), &parts.concat())
}

/// A whole document around its content.
pub(crate) fn document(title: &str, content: &str) -> String {
    let (title, style) = (escape(title), include_str!("page.css"));
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\"/>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
         <title>{title}: load test</title>\n<style>\n{style}</style>\n</head>\n<body>\n{content}</body>\n</html>\n"
    )
}

fn head(report: &Report) -> String {
    let plan = &report.plan;
    let name = escape(&report.scenario);
    let about = format!(
        "{} users in {} rooms on {}, {} from {} UTC",
        grouped(u64::from(plan.users)),
        plan.rooms,
        report.target,
        seconds(plan.warmup_s + plan.duration_s),
        date(report.started_unix_ms),
    );
    format!("<h1>Load test “{name}”</h1>\n<p class=\"soft\">{}</p>\n", escape(&about))
}

fn verdict(report: &Report) -> String {
    let found = &report.correctness;
    let broken = report.thresholds.iter().filter(|judged| judged.broken == Some(true)).count();
    let counts = format!(
        "{} lost, {} duplicated, {} out of order, {} foreign, {} unanswered",
        grouped(found.lost),
        grouped(found.duplicated),
        grouped(found.out_of_order),
        grouped(found.foreign),
        grouped(found.unanswered)
    );
    let (class, word) = match (report.correct, broken, report.exit_code()) {
        (false, ..) => ("bad", "Not correct"),
        (true, 1.., _) => ("bad", "Correct, but a threshold is broken"),
        (true, _, 0) => ("good", "Correct"),
        _ => ("warn", "No fault seen, but not judged in full"),
    };
    let judged_by = match found.judged_by.as_ref() {
        "seq" => "Order judged by the server's own numbers, at every receiver.",
        _ => "The server does not number its messages: order judged per sender, at every receiver.",
    };
    let mut lines = vec![judged_by.to_owned()];
    lines.extend(report.unsound());
    lines.extend(report.preflight.warnings.iter().map(|warning| format!("Beware: {warning}.")));
    if report.totals.bottleneck_s > 0 {
        let seconds = report.totals.bottleneck_s;
        lines.push(format!("In {seconds} seconds the load tester itself may have set the pace."));
    }
    let lines: String =
        lines.iter().map(|line| format!("<p class=\"soft\">{}</p>\n", escape(line))).collect();
    format!(
        "<section class=\"verdict {class}\"><strong>{word}</strong>\n<p>{counts}</p>\n{lines}</section>\n"
    )
}

/// The few figures most people look for.
fn tiles(report: &Report) -> String {
    let mut tiles = vec![];
    let mut tile = |name: &str, value: String, bad: bool| {
        let class = if bad { " class=\"bad\"" } else { "" };
        tiles.push(format!("<div{class}><dt>{}</dt><dd>{}</dd></div>\n", escape(name), escape(&value)));
    };
    tile("connections", grouped(report.connections.connected), false);
    if let Some(messages) = &report.messages {
        tile("sent", grouped(messages.sent), false);
        tile("delivered", grouped(messages.delivered), false);
        tile("deliveries/s", exact(messages.deliveries_per_s.round()), false);
        tile("ack p50", format!("{} ms", two(messages.ack_ms.p50)), false);
        tile("ack p99", format!("{} ms", two(messages.ack_ms.p99)), false);
        tile("delivery p50", format!("{} ms", two(messages.delivery_ms.p50)), false);
        tile("delivery p99", format!("{} ms", two(messages.delivery_ms.p99)), false);
    }
    tile("errors", percent(report.error_rate), report.error_rate > 0.0);
    format!("<dl class=\"tiles\">\n{}</dl>\n", tiles.concat())
}

fn examples(report: &Report) -> String {
    let kinds = report.correctness.examples.iter().filter(|(_, found)| !found.is_empty());
    let parts: String = kinds
        .map(|(kind, found)| {
            let number = |value: Option<u64>| value.map_or_else(String::new, |value| value.to_string());
            let row = |one: &Example| {
                let Example { who, room, message, seq, what } = one;
                vec![
                    who.clone(),
                    room.to_string(),
                    number(message.map(u64::from)),
                    number(*seq),
                    what.clone().into_owned(),
                ]
            };
            let rows = found.iter().map(row).collect();
            format!(
                "<h3>The first {} {}</h3>\n{}",
                found.len(),
                escape(&kind.replace('_', " ")),
                table(&["who", "#room", "#message", "#seq", "what"], rows)
            )
        })
        .collect();
    section("Faults", &parts)
}

/// What the run was to be failed for, if for anything.
pub(crate) fn threshold_table(judged: &[Judged]) -> String {
    let rows: String = judged
        .iter()
        .map(|judged| {
            let (class, state) = match judged.broken {
                Some(true) => ("bad", "broken"),
                Some(false) => ("good", "kept"),
                None => ("warn", "not judged"),
            };
            let found = judged.found.map_or_else(|| "no such figure".to_owned(), exact);
            let condition = escape(&judged.condition);
            format!("<tr><td>{condition}</td><td class=\"n\">{found}</td><td class=\"{class}\">{state}</td></tr>\n")
        })
        .collect();
    if rows.is_empty() {
        return String::new();
    }
    let head = "<thead><tr><th>fails if</th><th class=\"n\">found</th><th>verdict</th></tr></thead>";
    section(
        "Thresholds",
        &format!("<div class=\"wide\"><table>{head}<tbody>\n{rows}</tbody></table></div>\n"),
    )
}

fn latencies(report: &Report) -> String {
    let mut kinds = vec![("handshake", &report.connections.handshake_ms)];
    if let Some(messages) = &report.messages {
        kinds.extend([("acknowledgement", &messages.ack_ms), ("delivery", &messages.delivery_ms)]);
    }
    kinds.push(("recovery", &report.connections.recovery_ms));
    kinds.extend([("history", &report.actions.history.ms), ("search", &report.actions.search.ms)]);
    latency_table(&kinds)
}

/// Distributions that are not empty, by name.
pub(crate) fn latency_table(kinds: &[(&str, &Percentiles)]) -> String {
    let row = |(name, found): &(&str, &Percentiles)| {
        let Percentiles { count, mean, p50, p90, p99, p99_9, p99_99, max } = **found;
        let mut cells = vec![(*name).to_owned(), grouped(count)];
        cells.extend([mean, p50, p90, p99, p99_9, p99_99, max].map(two));
        cells
    };
    let rows = kinds.iter().filter(|(_, found)| found.count > 0).map(row).collect();
    let head = ["ms", "#count", "#mean", "#p50", "#p90", "#p99", "#p99.9", "#p99.99", "#max"];
    section("Latencies", &table(&head, rows))
}

fn figures(report: &Report) -> String {
    let drawn: String = charts::all(report).iter().map(figure).collect();
    format!("<h2>Over time</h2>\n<div class=\"charts\">\n{drawn}</div>\n")
}

/// A chart with its legend and note.
pub(crate) fn figure(figure: &Figure) -> String {
    let chart = &figure.chart;
    let entry = |(place, line): (usize, &crate::chart::Line)| {
        let (class, path) = match line.shape {
            Shape::Line => ("line", "M1 5H25"),
            Shape::Columns => ("columns", "M2 1H24V9H2Z"),
        };
        let swatch = format!(
            "<svg viewBox=\"0 0 26 10\" aria-hidden=\"true\"><path class=\"{class} s{}\" d=\"{path}\"/></svg>",
            place % COLOURS
        );
        format!("<li>{swatch}{}</li>", escape(&line.name))
    };
    let legend: String = chart.lines.iter().enumerate().map(entry).collect();
    let legend = if legend.is_empty() { legend } else { format!("<ul>{legend}</ul>\n") };
    let (title, note) = (escape(&chart.title), escape(figure.note));
    format!(
        "<figure>\n<h3>{title}</h3>\n{legend}<div class=\"chart\">{}</div>\n<figcaption>{note}</figcaption>\n</figure>\n",
        chart.svg()
    )
}

fn disruptions(report: &Report) -> String {
    let rows = report.disruptions.iter().map(|one| {
        vec![
            one.what.clone(),
            two(one.at_s),
            one.pid.map_or_else(String::new, |pid| pid.to_string()),
            one.failed.as_ref().map_or_else(|| "done".to_owned(), |why| format!("not done: {why}")),
            grouped(one.interrupted),
            grouped(one.recovery_ms.count),
            two(one.all_back_ms),
            two(one.ack_ms_max),
        ]
    });
    let head =
        ["what", "#at, s", "#process", "outcome", "#broken", "#back", "#all back, ms", "#longest ack, ms"];
    section("Storms and kills", &table(&head, rows.collect()))
}

/// What was refused, broken or not understood, in the server's words.
fn reasons(report: &Report) -> String {
    let mut rows = vec![];
    let mut note = |kind: &str, reasons: &BTreeMap<String, u64>| {
        rows.extend(reasons.iter().map(|(why, count)| vec![kind.to_owned(), grouped(*count), why.clone()]));
    };
    note("not connected", &report.connections.failed);
    note("connection lost", &report.connections.dropped);
    if let Some(messages) = &report.messages {
        note("message refused", &messages.refusals);
        note("unexpected packet", &messages.other_packets);
    }
    note("history", &report.actions.history.failed);
    note("search", &report.actions.search.failed);
    section("Errors", &table(&["kind", "#count", "in the server's words"], rows))
}

/// The plan, the totals and everything about machines, side by side.
fn numbers(report: &Report) -> String {
    let parts = [
        ("Plan", plan(report)),
        ("Totals", totals(report)),
        ("Connections", connections(report)),
        ("The server", server(report)),
        ("The load tester", tester(report)),
    ];
    let parts = parts.into_iter().filter(|(_, rows)| !rows.is_empty());
    let one = |(name, rows): (&str, Vec<Vec<String>>)| {
        format!("<div><h3>{name}</h3>\n{}</div>\n", table(&[], rows))
    };
    format!("<h2>All figures</h2>\n<div class=\"pair\">\n{}</div>\n", parts.map(one).collect::<String>())
}

/// A row of two cells.
pub(crate) fn row(name: &str, value: impl Into<String>) -> Vec<String> {
    vec![name.to_owned(), value.into()]
}

fn plan(report: &Report) -> Vec<Vec<String>> {
    let plan = &report.plan;
    let mut rows = vec![
        row("users", grouped(u64::from(plan.users))),
        row("rooms", plan.rooms.to_string()),
        row("warm-up, not measured", seconds(plan.warmup_s)),
        row("measured", seconds(plan.duration_s)),
        row("bytes of content (mean)", plan.size_bytes.to_string()),
        row("threads", plan.threads.to_string()),
    ];
    rows.extend(plan.rate_per_s.map(|rate| row("messages due per second", exact(rate))));
    rows.extend(plan.inflight.map(|each| row("messages in flight per user", each.to_string())));
    rows.extend(plan.shard.map(|(which, of)| row("share", format!("machine {which} of {of}"))));
    for phase in &report.phases {
        let measured = if phase.measured { "" } else { ", not measured" };
        let range = format!("{} to {} s{measured}", two(phase.from_s), two(phase.to_s));
        rows.push(row(&format!("phase “{}”", phase.name), range));
    }
    rows
}

fn totals(report: &Report) -> Vec<Vec<String>> {
    let totals = &report.totals;
    let mut rows = vec![
        row("sent", grouped(totals.sent)),
        row("acknowledged", grouped(totals.acked)),
        row("delivered", grouped(totals.delivered)),
        row("late (by more than 1 ms)", grouped(totals.late)),
        row("refused", grouped(totals.errors.refused)),
        row("unsent (the connection took no more)", grouped(totals.errors.unsent)),
        row("other packets", grouped(totals.errors.other)),
        row("error rate", percent(report.error_rate)),
    ];
    if let Some(messages) = &report.messages {
        rows.push(row("acknowledged per second", two(messages.acks_per_s)));
        rows.push(row("delivered per second", two(messages.deliveries_per_s)));
        rows.push(row("latest message left late by", format!("{} ms", two(messages.lag_ms_max))));
    }
    let actions = &report.actions;
    if actions.typing_sent > 0 {
        let told = format!("{} sent, {} heard", grouped(actions.typing_sent), grouped(actions.typing_heard));
        rows.push(row("typing", told));
    }
    rows
}

fn connections(report: &Report) -> Vec<Vec<String>> {
    let found = &report.connections;
    let sum = |reasons: &BTreeMap<String, u64>| grouped(reasons.values().sum());
    let mut rows = vec![
        row("made", grouped(found.connected)),
        row("not made", sum(&found.failed)),
        row("lost", sum(&found.dropped)),
        row("made per second", two(found.connects_per_s)),
        row("on long polling", grouped(found.polling)),
    ];
    if found.interrupted > 0 || report.actions.reconnects > 0 {
        rows.push(row("broken on purpose", grouped(found.interrupted)));
        rows.push(row("came back", grouped(found.recovery_ms.count)));
        rows.push(row("came back to a gap", grouped(found.gaps)));
    }
    if found.slow_readers > 0 {
        let told = format!("{}, {} closed by the server", found.slow_readers, found.slow_readers_closed);
        rows.push(row("slow readers", told));
    }
    rows
}

fn server(report: &Report) -> Vec<Vec<String>> {
    let mut rows = vec![row("address", report.target.clone())];
    let mut targets = report.series.iter().filter_map(|row| row.target.as_ref());
    if let Some(most) = targets.clone().map(|target| target.rss_bytes).max() {
        rows.push(row("most memory", mib(most)));
    }
    if let Some(latest) = targets.next_back() {
        rows.push(row("memory at the end", mib(latest.rss_bytes)));
        for process in &latest.processes {
            let name = format!("{} {} (process {})", process.role, process.id, process.pid);
            let restarts = match process.restarts {
                0 => String::new(),
                restarts => format!(", {restarts} restarts"),
            };
            let told = format!("{}, {} connections{restarts}", mib(process.rss_bytes), process.connections);
            rows.push(row(&name, told));
        }
    }
    if let Some(server) = &report.server {
        rows.push(row("CPU seconds while measured", two(server.cpu_s)));
        let costs = [
            ("CPU seconds per million deliveries", server.cpu_s_per_million_deliveries),
            ("CPU seconds per million acks", server.cpu_s_per_million_acks),
        ];
        rows.extend(costs.into_iter().filter_map(|(name, cost)| Some(row(name, two(cost?)))));
        rows.push(row("memory per connection", format!("{} bytes", server.rss_bytes_per_connection.round())));
    }
    rows
}

fn tester(report: &Report) -> Vec<Vec<String>> {
    let (setup, preflight) = (&report.setup, &report.preflight);
    vec![
        row("version", report.version.clone()),
        row("CPU seconds while measured", two(report.generator_cpu_s)),
        row("seconds it may have set the pace", report.totals.bottleneck_s.to_string()),
        row("open files allowed", grouped(preflight.file_limit)),
        row("source ports of an address", grouped(preflight.ports)),
        row("deliveries/s it can judge", exact(preflight.judges_per_s.round())),
        row("deliveries/s asked of it", exact(preflight.asked_per_s.round())),
        row(
            "signups/s, logins/s, rooms/s",
            [setup.signups_per_s, setup.logins_per_s, setup.rooms_per_s].map(two).join(", "),
        ),
    ]
}

/// A section, unless there is nothing in it.
pub(crate) fn section(title: &str, content: &str) -> String {
    if content.is_empty() { String::new() } else { format!("<h2>{title}</h2>\n{content}") }
}

/// A table of texts; a column whose head begins with `#` holds numbers. Empty without rows.
pub(crate) fn table(head: &[&str], rows: Vec<Vec<String>>) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let class = |column: usize| match head.get(column) {
        Some(name) if name.starts_with('#') => " class=\"n\"",
        _ => "",
    };
    let cells = |tag: &str, cells: &[String]| {
        let cell =
            |(column, text): (usize, &String)| format!("<{tag}{}>{}</{tag}>", class(column), escape(text));
        format!("<tr>{}</tr>\n", cells.iter().enumerate().map(cell).collect::<String>())
    };
    let names: Vec<String> = head.iter().map(|name| name.trim_start_matches('#').to_owned()).collect();
    let head =
        if names.is_empty() { String::new() } else { format!("<thead>{}</thead>", cells("th", &names)) };
    let body: String = rows.iter().map(|row| cells("td", row)).collect();
    format!("<div class=\"wide\"><table>{head}<tbody>\n{body}</tbody></table></div>\n")
}

/// With two digits behind the point.
pub(crate) fn two(value: f64) -> String {
    format!("{value:.2}")
}

/// A share of 1.
pub(crate) fn percent(share: f64) -> String {
    format!("{} %", exact(share * 100.0))
}

fn seconds(value: f64) -> String {
    format!("{} s", exact(value))
}

/// A size in memory.
pub(crate) fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / MIB)
}

/// With a thin space between thousands.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

/// A moment in UTC, to the second. Howard Hinnant's `civil_from_days`, for days since 1970.
pub(crate) fn date(unix_ms: u64) -> String {
    let second = unix_ms / 1000;
    let days = second / DAY_S + 719_468; // since 0000-03-01
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153; // months since March
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, rest) = (second / 3600 % 24, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{rest:02}")
}

#[cfg(test)]
#[path = "page_tests.rs"]
mod tests;
