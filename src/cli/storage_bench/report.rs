//! What was measured: a table for people and for `docs/benchmarks.md`, and the same as JSON.

use std::fmt::Write;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

/// Longest time a histogram tells from longer ones: an hour, in nanoseconds.
const LONGEST_NS: u64 = 3_600_000_000_000;

/// One figure.
struct Row {
    name: String,
    value: f64,
    unit: &'static str,
}

/// Figures in the order in which they were measured.
#[derive(Default)]
pub struct Report {
    rows: Vec<Row>,
}

impl Report {
    /// Adds a figure, and shows it.
    pub fn add(&mut self, name: impl Into<String>, value: f64, unit: &'static str) {
        let row = Row { name: name.into(), value, unit };
        eprintln!("  {}", line(&row, 0, 0));
        self.rows.push(row);
    }

    /// Adds how long something took and how many a second that makes.
    pub fn add_rate(&mut self, name: &str, count: u64, took: Duration, unit: &'static str) {
        self.add(format!("{name}, time"), took.as_secs_f64(), "s");
        self.add(name, float(count) / took.as_secs_f64().max(1e-9), unit);
    }

    /// Adds the middle and the end of many times.
    pub fn add_times(&mut self, name: &str, times: &Times) {
        for (label, quantile) in [("p50", 0.5), ("p99", 0.99)] {
            self.add(format!("{name}, {label}"), float(times.0.value_at_quantile(quantile)) / 1_000.0, "µs");
        }
        self.add(format!("{name}, max"), float(times.0.max()) / 1_000.0, "µs");
    }

    /// The table.
    pub fn table(&self) -> String {
        let names = self.rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0);
        let values = self.rows.iter().map(|row| figure(row.value).len()).max().unwrap_or(0);
        let mut table = String::new();
        for row in &self.rows {
            // Writing to a string cannot fail.
            let _ = writeln!(table, "{}", line(row, names, values));
        }
        table
    }

    /// The same as an object: of each figure its value and unit, by name.
    pub fn json(&self) -> Value {
        let rows =
            self.rows.iter().map(|row| (row.name.clone(), json!({"value": row.value, "unit": row.unit})));
        Value::Object(rows.collect::<Map<String, Value>>())
    }
}

fn line(row: &Row, names: usize, values: usize) -> String {
    format!("{:names$}  {:>values$} {}", row.name, figure(row.value), row.unit)
}

/// Three figures or all before the point, in groups of three.
fn figure(value: f64) -> String {
    let decimals = match value.abs() {
        v if v >= 100.0 || v == 0.0 => 0,
        v if v >= 10.0 => 1,
        v if v >= 1.0 => 2,
        _ => 3,
    };
    let text = format!("{value:.decimals$}");
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut grouped = String::new();
    for (at, digit) in whole.char_indices() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) && !grouped.ends_with('-') {
            grouped.push(' ');
        }
        grouped.push(digit);
    }
    grouped + rest
}

/// A count as a figure.
pub fn float(count: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "figures are shown with three digits")]
    let float = count as f64;
    float
}

/// How long many like things took.
pub struct Times(Histogram<u64>);

impl Times {
    /// None yet; `None`: a mistake of ours.
    pub fn new() -> Option<Times> {
        Histogram::new_with_bounds(1, LONGEST_NS, 3).ok().map(Times)
    }

    /// Adds one.
    pub fn add(&mut self, took: Duration) {
        self.0.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(LONGEST_NS));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_can_be_read() {
        for (value, text) in [
            (0.0, "0"),
            (0.1234, "0.123"),
            (1.5, "1.50"),
            (42.42, "42.4"),
            (999.6, "1 000"),
            (1_234_567.8, "1 234 568"),
        ] {
            assert_eq!(figure(value), text);
        }
    }

    #[test]
    fn a_table_stands_in_columns() {
        let mut report = Report::default();
        report.add("users", 1_000_000.0, "");
        report.add("비율", 0.5, "s");
        assert_eq!(report.table(), "users  1 000 000 \n비율         0.500 s\n");
        assert_eq!(report.json()["users"]["value"], 1_000_000.0);
    }
}
