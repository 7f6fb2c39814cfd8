//! A page in Prometheus' text format, version 0.0.4
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>).

use std::fmt::Write;

use serde_json::{Number, Value};

/// The `content-type` of a page.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What kind of figure a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, but for new beginnings at 0.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Values by size.
    Histogram,
}

/// A label of a sample: its name and value.
pub type Label<'a> = (&'a str, &'a str);

/// A page being written.
#[derive(Debug, Default)]
pub struct Page(String);

impl Page {
    /// Begins a metric; its samples follow.
    pub fn metric(&mut self, name: &str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    /// A sample of the metric that was begun last.
    pub fn sample(&mut self, name: &str, labels: &[Label<'_>], value: &Number) {
        let labels = braced(labels);
        self.line(format_args!("{name}{labels} {}", spelt(value)));
    }

    /// All samples of a histogram that [`Histogram::report`](super::histogram::Histogram::report) made; of
    /// anything else none.
    pub fn histogram(&mut self, name: &str, labels: &[Label<'_>], report: &Value) {
        let (Some(le), Some(counts), Value::Number(sum)) =
            (report["le"].as_array(), report["counts"].as_array(), &report["sum"])
        else {
            return;
        };
        let ends = le.iter().map(|bound| bound.as_number().map(spelt).unwrap_or_default());
        let mut total = 0;
        for (end, count) in ends.chain(["+Inf".to_owned()]).zip(counts) {
            total += count.as_u64().unwrap_or(0);
            let labels = braced(&[labels, &[("le", &end)]].concat());
            self.line(format_args!("{name}_bucket{labels} {total}"));
        }
        let labels = braced(labels);
        self.line(format_args!("{name}_sum{labels} {}", spelt(sum)));
        self.line(format_args!("{name}_count{labels} {total}"));
    }

    /// The page.
    pub fn finish(self) -> String {
        self.0
    }

    fn line(&mut self, text: std::fmt::Arguments<'_>) {
        // Nothing keeps a string from growing.
        let _ = self.0.write_fmt(text);
        self.0.push('\n');
    }
}

fn braced(labels: &[Label<'_>]) -> String {
    let escape = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let pairs: Vec<String> =
        labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escape(value))).collect();
    if pairs.is_empty() { String::new() } else { format!("{{{}}}", pairs.join(",")) }
}

/// As Prometheus' own libraries spell it, so that bounds of buckets are the same text everywhere: 1 and
/// not 1.0.
fn spelt(number: &Number) -> String {
    match (number.as_u64(), number.as_f64()) {
        (None, Some(fraction)) => fraction.to_string(),
        _ => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn samples_stand_behind_their_metric() {
        let mut page = Page::default();
        page.metric("rooms", Kind::Gauge, "Rooms with \\ and\nmore.");
        page.sample("rooms", &[], &Number::from(u64::MAX));
        page.metric("moves_total", Kind::Counter, "Moves.");
        page.sample("moves_total", &[("to", "a\"b\\c\n"), ("worker", "0")], &Number::from_f64(0.25).unwrap());
        page.sample("moves_total", &[("worker", "1")], &Number::from_f64(3.0).unwrap());
        let expected = "# HELP rooms Rooms with \\\\ and\\nmore.\n\
                        # TYPE rooms gauge\n\
                        rooms 18446744073709551615\n\
                        # HELP moves_total Moves.\n\
                        # TYPE moves_total counter\n\
                        moves_total{to=\"a\\\"b\\\\c\\n\",worker=\"0\"} 0.25\n\
                        moves_total{worker=\"1\"} 3\n";
        assert_eq!(page.finish(), expected);
    }

    #[test]
    fn buckets_hold_all_below_their_bound() {
        let mut page = Page::default();
        page.metric("took_seconds", Kind::Histogram, "Time.");
        let report = json!({"le": [0.001, 1.0], "counts": [3, 0, 2], "sum": 4.5});
        page.histogram("took_seconds", &[("worker", "0")], &report);
        let expected = "# HELP took_seconds Time.\n\
                        # TYPE took_seconds histogram\n\
                        took_seconds_bucket{worker=\"0\",le=\"0.001\"} 3\n\
                        took_seconds_bucket{worker=\"0\",le=\"1\"} 3\n\
                        took_seconds_bucket{worker=\"0\",le=\"+Inf\"} 5\n\
                        took_seconds_sum{worker=\"0\"} 4.5\n\
                        took_seconds_count{worker=\"0\"} 5\n";
        assert_eq!(page.finish(), expected);
    }

    #[test]
    fn what_is_no_histogram_is_left_out() {
        let mut page = Page::default();
        page.histogram("x", &[], &Value::Null);
        page.histogram("x", &[], &json!({"le": 1, "counts": [1], "sum": 1}));
        assert_eq!(page.finish(), "");
    }
}
