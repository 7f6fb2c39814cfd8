//! Which charts a report is shown with, and what each of them is drawn from.

use std::collections::BTreeMap;

use crate::chart::{Axis, Band, Chart, Line, Shape};
use crate::hdr::{Latency, Percentiles};
use crate::report::Report;
use crate::series::Row;

const MIB: f64 = 1024.0 * 1024.0;

/// Most points of a line; a longer run shows several seconds as one point.
const POINTS_MAX: usize = 1200;

/// Columns of a histogram for each power of ten.
const COLUMNS_PER_DECADE: u32 = 16;

/// A chart, and what to say beneath it.
pub struct Figure {
    /// What is drawn.
    pub chart: Chart,
    /// How to read it, or why it is empty.
    pub note: &'static str,
}

/// All charts of a report, in order; those whose figures a run cannot have are left out.
pub fn all(report: &Report) -> Vec<Figure> {
    let over_time = OverTime::of(report);
    let mut figures = vec![];
    if report.messages.is_some() {
        figures.push(over_time.sending());
        figures.push(over_time.delivering());
        figures.push(over_time.latency("Acknowledgement", |row| &row.ack_ms));
        figures.push(over_time.latency("Delivery", |row| &row.delivery_ms));
        figures.push(histogram(report));
    }
    figures.push(over_time.connections());
    figures.push(over_time.balance());
    figures.push(over_time.memory());
    figures.push(over_time.queues());
    if report.series.iter().any(|row| row.errors.total() + row.faults > 0) {
        figures.push(over_time.errors());
    }
    figures.push(over_time.generator());
    figures
}

/// The run second by second, a few seconds together when it was long.
struct OverTime<'a> {
    rows: Vec<&'a [Row]>,
    x: Axis,
    bands: Vec<Band>,
    marks: Vec<(f64, String)>,
}

impl OverTime<'_> {
    fn of(report: &Report) -> OverTime<'_> {
        let series = &report.series;
        let step = series.len().div_ceil(POINTS_MAX).max(1);
        // Rows are counted in seconds of the wall clock, phases from the moment the first connection was dialled.
        let into_s = (report.started_unix_ms % 1000) as f64 / 1000.0;
        let end = series.last().map_or(0.0, |row| row.at_s as f64 + 1.0);
        let band = |phase: &crate::report::Phase| Band {
            range: (phase.from_s + into_s, phase.to_s + into_s),
            name: phase.name.clone(),
        };
        let mark = |one: &crate::report::Disruption| (one.at_s + into_s, one.what.clone());
        OverTime {
            rows: series.chunks(step).collect(),
            x: Axis::time(0.0, end),
            bands: report.phases.iter().map(band).collect(),
            marks: report.disruptions.iter().map(mark).collect(),
        }
    }

    /// A line through what `value` makes of each point's seconds.
    fn line(&self, name: &str, value: impl Fn(&[Row]) -> Option<f64>) -> Line {
        let point = |rows: &&[Row]| Some((middle(rows), value(rows)));
        Line {
            name: name.to_owned(),
            points: self.rows.iter().filter_map(point).collect(),
            shape: Shape::Line,
        }
    }

    fn chart(&self, title: &str, unit: &'static str, lines: Vec<Line>) -> Chart {
        let y = Axis::from_zero(extent(&lines).1);
        self.chart_with(title, unit, y, lines)
    }

    fn chart_with(&self, title: &str, unit: &'static str, y: Axis, lines: Vec<Line>) -> Chart {
        let (bands, marks) = (self.bands.clone(), self.marks.clone());
        Chart {
            title: title.to_owned(),
            unit,
            x_unit: "time since the first dial",
            x: self.x.clone(),
            y,
            lines,
            bands,
            marks,
        }
    }

    fn sending(&self) -> Figure {
        let lines = vec![
            self.line("sent", mean(|row| row.sent)),
            self.line("acknowledged", mean(|row| row.acked)),
            self.line("late", mean(|row| row.late)),
        ];
        Figure {
            chart: self.chart("Messages sent", "messages/s", lines),
            note: "Late messages left more than a millisecond after they should have. The first and the last second are cut.",
        }
    }

    fn delivering(&self) -> Figure {
        let lines = vec![self.line("delivered", mean(|row| row.delivered))];
        Figure {
            chart: self.chart("Messages delivered", "deliveries/s", lines),
            note: "Each message is delivered to everybody in its room.",
        }
    }

    fn latency(&self, what: &str, of: fn(&Row) -> &Percentiles) -> Figure {
        let worst = |pick: fn(&Percentiles) -> f64| {
            move |rows: &[Row]| {
                let found = rows.iter().map(of).filter(|found| found.count > 0).map(pick);
                found.reduce(f64::max)
            }
        };
        let lines = vec![
            self.line("p50", worst(|found| found.p50)),
            self.line("p90", worst(|found| found.p90)),
            self.line("p99", worst(|found| found.p99)),
            self.line("p99.9", worst(|found| found.p99_9)),
            self.line("max", worst(|found| found.max)),
        ];
        let (min, max) = extent(&lines);
        Figure {
            chart: self.chart_with(&format!("{what} latency"), "ms (log)", Axis::log(min, max), lines),
            note: "From the moment a message should have left. Seconds in which nothing came are gaps.",
        }
    }

    fn connections(&self) -> Figure {
        let lines = vec![self.line("open", last(|row| Some(row.connections as f64)))];
        Figure {
            chart: self.chart("Connections", "connections", lines),
            note: "Open at the end of each second.",
        }
    }

    fn balance(&self) -> Figure {
        let lines = self.by_process(|process| {
            (process.role == "worker").then(|| (format!("worker {}", process.id), process.connections as f64))
        });
        Figure {
            chart: self.chart("Balance of the workers", "connections", lines),
            note: "Connections of each worker, as the server's /api/stats tells.",
        }
    }

    fn memory(&self) -> Figure {
        let mut lines =
            self.by_process(|process| Some((process.role.clone(), process.rss_bytes as f64 / MIB)));
        if lines.is_empty() {
            let all = |row: &Row| Some(row.target.as_ref()?.rss_bytes as f64 / MIB);
            lines.push(self.line("all processes", last(all)));
        }
        Figure {
            chart: self.chart("The server's memory", "MiB resident", lines),
            note: "Processes of a role together, as /api/stats tells or as --pid finds.",
        }
    }

    fn queues(&self) -> Figure {
        let storage = last(|row| Some(row.target.as_ref()?.queue_storage? as f64));
        let unanswered = last(|row| Some(row.target.as_ref()?.queue_unanswered? as f64));
        let lines = vec![
            self.line("waiting for the storage writer", storage),
            self.line("waiting for its answer", unanswered),
        ];
        Figure {
            chart: self.chart("The server's queues", "messages", lines),
            note: "At the end of each second, as /api/stats tells.",
        }
    }

    fn errors(&self) -> Figure {
        let lines = vec![
            self.line("refused", mean(|row| row.errors.refused)),
            self.line("unsent", mean(|row| row.errors.unsent)),
            self.line("not connected", mean(|row| row.errors.failed)),
            self.line("connection lost", mean(|row| row.errors.dropped)),
            self.line("unexpected packets", mean(|row| row.errors.other)),
            self.line("duplicated, out of order, foreign", mean(|row| row.faults)),
        ];
        Figure {
            chart: self.chart("Errors and faults", "each second", lines),
            note: "What was lost is only known at the end.",
        }
    }

    fn generator(&self) -> Figure {
        let lines = vec![
            self.line("CPU cores used", |rows| {
                rows.iter().map(|row| row.generator.cpu_share).reduce(f64::max)
            }),
            self.line("seconds in which it may have set the pace", |rows| {
                Some(if rows.iter().any(|row| row.generator.bottleneck) { 1.0 } else { 0.0 })
            }),
        ];
        Figure {
            chart: self.chart("The load tester itself", "cores", lines),
            note: "Where the second line is up, the figures may be the load tester's own.",
        }
    }

    /// A line for each name that `of` gives; values of the same name and second are added up.
    fn by_process(&self, of: impl Fn(&crate::watch::Process) -> Option<(String, f64)>) -> Vec<Line> {
        let mut lines: BTreeMap<(usize, String), Vec<Option<f64>>> = BTreeMap::new();
        for (place, rows) in self.rows.iter().enumerate() {
            let target = rows.last().and_then(|row| row.target.as_ref());
            for (name, value) in target.iter().flat_map(|target| &target.processes).filter_map(&of) {
                // Shorter names first, so that worker 10 follows worker 9.
                let values = lines.entry((name.len(), name)).or_insert_with(|| vec![None; self.rows.len()]);
                values[place] = Some(values[place].unwrap_or_default() + value);
            }
        }
        let at = |place: usize| middle(self.rows[place]);
        let line = |((_, name), values): ((usize, String), Vec<Option<f64>>)| Line {
            name,
            points: values.into_iter().enumerate().map(|(place, value)| (at(place), value)).collect(),
            shape: Shape::Line,
        };
        lines.into_iter().map(line).collect()
    }
}

/// The middle of several seconds.
fn middle(rows: &[Row]) -> f64 {
    rows.first().map_or(0.0, |row| row.at_s as f64 + rows.len() as f64 / 2.0)
}

/// Of several seconds, the mean of a count.
fn mean(count: fn(&Row) -> u64) -> impl Fn(&[Row]) -> Option<f64> {
    move |rows| Some(rows.iter().map(count).sum::<u64>() as f64 / rows.len().max(1) as f64)
}

/// Of several seconds, what there was at the end.
fn last(value: impl Fn(&Row) -> Option<f64>) -> impl Fn(&[Row]) -> Option<f64> {
    move |rows| rows.last().and_then(&value)
}

/// The smallest value above 0 and the largest value of all lines.
fn extent(lines: &[Line]) -> (f64, f64) {
    let values = || lines.iter().flat_map(|line| &line.points).filter_map(|(_, value)| *value);
    (values().filter(|value| *value > 0.0).fold(f64::INFINITY, f64::min), values().fold(0.0, f64::max))
}

/// How the latencies of the whole measured window are spread.
fn histogram(report: &Report) -> Figure {
    let kinds = [("acknowledgements", &report.histograms.ack), ("deliveries", &report.histograms.delivery)];
    let decoded = kinds.map(|(name, text)| {
        let mut latency = Latency::of_run();
        latency.add_encoded(text).ok(); // a report that was read is checked by then; nonsense shows as nothing
        (name, latency.buckets().collect::<Vec<_>>())
    });
    let all = || decoded.iter().flat_map(|(_, buckets)| buckets).map(|(ms, _)| *ms);
    let x = (all().fold(f64::INFINITY, f64::min), all().fold(0.0, f64::max));
    let lines: Vec<Line> = decoded.iter().rev().map(|(name, buckets)| columns(name, buckets)).collect();
    let y = Axis::log(1.0, extent(&lines).1);
    let chart = Chart {
        title: "How latencies are spread".to_owned(),
        unit: "messages (log)",
        x_unit: "ms (log)",
        x: Axis::log(x.0, x.1),
        y,
        lines,
        bands: vec![],
        marks: vec![],
    };
    Figure { chart, note: "Of the measured window; both axes are logarithmic, so single outliers show." }
}

/// Buckets put together into columns of equal width on a logarithmic axis.
fn columns(name: &str, buckets: &[(f64, u64)]) -> Line {
    let per_decade = f64::from(COLUMNS_PER_DECADE);
    #[expect(clippy::cast_possible_truncation, reason = "saturates; the logarithm of a latency is small")]
    let column = |ms: f64| (ms.max(1e-3).log10() * per_decade).floor() as i32;
    let begin = |column: i32| 10_f64.powf(f64::from(column) / per_decade);
    let mut counts: BTreeMap<i32, u64> = BTreeMap::new();
    buckets.iter().for_each(|(ms, count)| *counts.entry(column(*ms)).or_default() += count);
    let (first, last) = match (counts.keys().next(), counts.keys().next_back()) {
        (Some(first), Some(last)) => (*first, *last),
        _ => return Line { name: name.to_owned(), points: vec![], shape: Shape::Columns },
    };
    let height = |column: i32| counts.get(&column).map(|count| *count as f64);
    let points = (first..=last + 1).map(|column| (begin(column), height(column))).collect();
    Line { name: name.to_owned(), points, shape: Shape::Columns }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_hold_every_value_once() {
        let mut latency = Latency::of_run();
        (0..5000_u64).for_each(|n| latency.note(0, n * n * 1000));
        let buckets: Vec<_> = latency.buckets().collect();
        let line = columns("x", &buckets);
        let sum: f64 = line.points.iter().filter_map(|(_, count)| *count).sum();
        assert_eq!(sum, 5000.0);
        assert!(line.points.is_sorted_by(|a, b| a.0 < b.0) && line.points.last().unwrap().1.is_none());
        assert!(columns("x", &[]).points.is_empty());
    }
}
