//! The page, made of reports that no run would bring, too.

use roxmltree::{Document, ParsingOptions};
use serde_json::{Value, json};

use super::*;

/// Text that would do harm if it came through as it is.
const EVIL: &str = "</td><script>alert(1)</script><img src=x onerror='alert(2)'>\" & \u{0}\u{1b}[2J";

fn distribution(ms: f64) -> Value {
    json!({"count": 5, "mean": ms, "p50": ms, "p90": ms * 2.0, "p99": ms * 3.0, "p99_9": ms * 4.0,
        "p99_99": ms * 5.0, "max": ms * 6.0})
}

fn rows(count: u64, text: &str) -> Vec<Value> {
    let process = |role: &str, id| json!({"role": role, "id": id, "pid": 7, "rss_bytes": 50_000_000, "connections": 15});
    let row = |at: u64| {
        json!({"at_s": at, "unix_s": 1_790_000_000 + at, "phase": text, "connections": 30, "sent": 10 + at % 7,
            "acked": 10, "delivered": 90, "ack_ms": distribution(1.5), "delivery_ms": distribution(2.5),
            "errors": {"refused": at % 2},
            "target": {"rss_bytes": 150_000_000, "queue_storage": at, "queue_unanswered": 1,
                "processes": [process("worker", 0), process("worker", 1), process("storage", 0), process(text, 0)]},
            "generator": {"cpu_share": 0.5}})
    };
    (0..count).map(row).collect()
}

/// A report of so many seconds in which every text from outside is `text`.
fn report(seconds: u64, text: &str) -> Report {
    let mut latency = crate::hdr::Latency::of_run();
    (0..seconds * 10).for_each(|n| latency.note(0, n * n * 1000));
    let reasons = json!({text: 3});
    let example = json!({"who": text, "room": 1, "message": 2, "seq": null, "what": text});
    let report = json!({
        "schema": 1, "version": "0", "started_unix_ms": 1_790_000_000_250_u64, "scenario": text, "target": text,
        "correct": false,
        "correctness": {"lost": 1_234_567, "duplicated": 0, "out_of_order": 0, "foreign": 0, "unanswered": 0,
            "judged_by": "seq", "examples": {"lost": [example], text: [example]}},
        "plan": {"users": 30, "rooms": 10, "threads": 1, "rate_per_s": 30.0, "inflight": null, "size_bytes": 100,
            "warmup_s": 0.0, "duration_s": 30.0},
        "setup": {},
        "connections": {"connected": 30, "failed": reasons, "dropped": reasons, "connects_per_s": 100.0,
            "handshake_ms": distribution(3.0)},
        "messages": {"sent": 10, "unsent": 0, "late": 0, "lag_ms_max": 0.5, "acked": 10, "refused": 0,
            "refusals": reasons, "other_packets": reasons, "delivered": 90, "acks_per_s": 10.0,
            "deliveries_per_s": 90.0, "ack_ms": distribution(1.5), "delivery_ms": distribution(2.5)},
        "server": null, "generator_cpu_s": 0.5, "totals": {}, "error_rate": 0.001,
        "disruptions": [{"what": text, "at_s": 1.0, "failed": text}],
        "thresholds": [{"condition": text, "found": 3.0, "broken": true}],
        "preflight": {"warnings": [text]},
        "phases": [{"name": text, "from_s": 0.2, "to_s": 1e9, "measured": true}],
        "series": rows(seconds, text),
        "histograms": {"ack": latency.encode(), "delivery": latency.encode()},
    });
    serde_json::from_value(report).unwrap()
}

fn parsed(page: &str) -> Document<'_> {
    let options = ParsingOptions { allow_dtd: true, ..ParsingOptions::default() };
    Document::parse_with_options(page, options).unwrap_or_else(|why| panic!("{why}"))
}

#[test]
fn runs_of_any_length_make_a_sound_page() {
    for (seconds, columns) in [(0, 0), (1, 1), (600, 600), (5000, 1000)] {
        let page = page(&report(seconds, "quick"));
        let document = parsed(&page);
        assert!(!page.contains("NaN") && !page.contains("inf\""), "{seconds} s");
        let figures: Vec<_> = document.descendants().filter(|node| node.has_tag_name("figure")).collect();
        assert_eq!(figures.len(), if seconds > 1 { 11 } else { 10 }, "{seconds} s");
        for figure in figures {
            let class = |node: &roxmltree::Node| node.attribute("class").unwrap_or_default().to_owned();
            let readings = figure.descendants().filter(|node| class(node) == "reading").count();
            let chart = figure.descendants().find(|node| class(node) == "chart").unwrap();
            let title = chart.descendants().find(|node| node.tag_name().name() == "title").unwrap();
            let drawn = chart.descendants().filter(|node| class(node).starts_with("line")).count();
            if title.text() == Some("How latencies are spread") {
                continue;
            }
            assert_eq!(drawn > 0, seconds > 0, "{:?} of {seconds} s", title.text());
            assert!(readings <= columns, "{:?} of {seconds} s has {readings} readings", title.text());
        }
    }
}

#[test]
fn what_came_from_outside_stays_text() {
    let page = page(&report(3, EVIL));
    let document = parsed(&page);
    for node in document.descendants().filter(roxmltree::Node::is_element) {
        assert!(!["script", "img", "link", "iframe", "object"].contains(&node.tag_name().name()));
        for attribute in node.attributes() {
            assert!(
                !attribute.name().starts_with("on")
                    && attribute.name() != "src"
                    && attribute.name() != "href"
            );
        }
    }
    let telling =
        document.descendants().filter(|node| node.text().is_some_and(|text| text.contains("alert(1)")));
    assert!(telling.count() > 20, "it is shown where it belongs");
}

#[test]
fn the_verdict_comes_first_and_says_how_many() {
    let page = page(&report(3, "quick"));
    let document = parsed(&page);
    let section = document.descendants().find(|node| node.has_tag_name("section")).unwrap();
    let text: String = section.descendants().filter_map(|node| node.text()).collect();
    assert!(text.contains("Not correct") && text.contains("1\u{202f}234\u{202f}567 lost"), "{text}");
    assert!(page.find("<section").unwrap() < page.find("<h2>").unwrap());
}

#[test]
fn dates_are_those_of_the_calendar() {
    assert_eq!(date(0), "1970-01-01 00:00:00");
    assert_eq!(date(951_782_399_000), "2000-02-28 23:59:59");
    assert_eq!(date(951_782_400_000), "2000-02-29 00:00:00");
    assert_eq!(date(1_767_225_599_999), "2025-12-31 23:59:59");
    assert_eq!(date(4_107_542_400_000), "2100-03-01 00:00:00");
}
