//! The report as one HTML file for people: verdict first, then figures, charts and everything else.
//!
//! The file needs nothing but itself: no script, no font, no picture from elsewhere; its content
//! policy forbids them, so text that came from a server could not call for any either. It is
//! well-formed XML, too, which is how its tests read it.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use self::parts::{
    date, document, grouped, heading, latency_table, mib, over_time, percent, row, save, section,
    side_by_side, table, threshold_table, two, verdict_of,
};
use crate::chart::exact;
use crate::charts;
use crate::escape::escape;
use crate::report::{Example, Report};

pub(crate) mod parts;

/// Writes the report's page.
pub fn write(report: &Report, path: &Path) -> io::Result<()> {
    save(&page(report), path)
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

fn head(report: &Report) -> String {
    let plan = &report.plan;
    let about = format!(
        "{} users in {} rooms on {}, {} from {} UTC",
        grouped(u64::from(plan.users)),
        plan.rooms,
        report.target,
        seconds(plan.warmup_s + plan.duration_s),
        date(report.started_unix_ms),
    );
    heading(&report.scenario, &about)
}

fn verdict(report: &Report) -> String {
    let found = &report.correctness;
    let counts = [found.lost, found.duplicated, found.out_of_order, found.foreign, found.unanswered];
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
    verdict_of(report.correct, report.exit_code(), counts, &lines)
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

fn latencies(report: &Report) -> String {
    let mut kinds = vec![("handshake", &report.connections.handshake_ms)];
    if let Some(messages) = &report.messages {
        kinds.extend([("acknowledgement", &messages.ack_ms), ("delivery", &messages.delivery_ms)]);
    }
    kinds.push(("recovery", &report.connections.recovery_ms));
    kinds.extend([("history", &report.actions.history.ms), ("search", &report.actions.search.ms)]);
    latency_table(&kinds)
}

fn figures(report: &Report) -> String {
    over_time(&charts::all(report))
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
    side_by_side(parts.into())
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

fn seconds(value: f64) -> String {
    format!("{} s", exact(value))
}

#[cfg(test)]
#[path = "page_tests.rs"]
mod tests;
