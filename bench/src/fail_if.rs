//! Conditions that fail a run: `p99>200ms`, `lost>0`, `errors>0.1%`.
//!
//! A condition names a figure of the report, compares it, and gives a number with its unit. A figure
//! the run does not have (a percentile of nothing, a recovery time without a storm) cannot be judged.
//! Every kind of report says by itself which figures it has ([`Figures`]).

use serde::{Deserialize, Serialize};

use crate::hdr::Percentiles;
use crate::report::Report;

/// What may be named, for the message that tells a wrong name.
const FIGURES: &str = "mean, p50, p90, p99, p99.9, p99.99, max (of deliveries; of others as ack.p99, connect.p99, \
     history.p99, search.p99, recovery.p99; of challenges as login.p99, join.p99, enter.p99, connect.p99, \
     pong.p99, update.p99), lost, duplicated, reordered, foreign, unanswered, errors, \
     late, refused, unsent, failed, dropped, sent, acked, delivered, rss";

/// A condition that must not hold.
#[derive(Clone, Debug, PartialEq)]
pub struct FailIf {
    text: String,
    figure: Figure,
    than: Than,
    bound: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Figure {
    Latency(Of, Point),
    Count(Count),
    /// Of all errors, or of the late messages, in percent.
    Share(Count),
    /// Bytes of the server's memory, the most it had.
    Memory,
}

/// Whose latency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names that are typed")]
pub enum Of {
    Delivery,
    Ack,
    Connect,
    History,
    Search,
    Recovery,
    Login,
    Join,
    Enter,
    Pong,
    Update,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Point {
    Mean,
    P50,
    P90,
    P99,
    P999,
    P9999,
    Max,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names that are typed")]
pub enum Count {
    Lost,
    Duplicated,
    Reordered,
    Foreign,
    Unanswered,
    Errors,
    Late,
    Refused,
    Unsent,
    Failed,
    Dropped,
    Sent,
    Acked,
    Delivered,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Than {
    More,
    AtLeast,
    Less,
    AtMost,
    Equal,
    Unequal,
}

/// A report, asked for its figures; `None`: its run has no such figure.
pub trait Figures {
    /// A distribution that is not empty.
    fn latency(&self, of: Of) -> Option<Percentiles>;
    /// A count.
    fn count(&self, count: Count) -> Option<f64>;
    /// The same in percent of what it is a part of.
    fn percent(&self, count: Count) -> Option<f64>;
    /// The most memory the server had, in bytes.
    fn memory(&self) -> Option<f64>;
}

/// What became of a condition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judged {
    /// As it was written.
    pub condition: String,
    /// The figure, in ms, bytes, percent or as a count; `None`: the run has none.
    pub found: Option<f64>,
    /// Whether the condition holds, which fails the run; `None`: it could not be judged.
    pub broken: Option<bool>,
}

impl FailIf {
    /// Reads a condition, or says what is wrong with it.
    pub fn parse(text: &str) -> Result<FailIf, String> {
        let wrong = |what: String| format!("{what}; write a condition such as 'p99>200ms' or 'errors>0.1%'");
        let at = text.find(['>', '<', '=', '!']).ok_or_else(|| wrong("no comparison".into()))?;
        let (name, rest) = (text[..at].trim(), &text[at..]);
        let sign = rest.find(|c| !matches!(c, '>' | '<' | '=' | '!')).map_or(rest, |end| &rest[..end]);
        let than = match sign {
            ">" => Than::More,
            ">=" => Than::AtLeast,
            "<" => Than::Less,
            "<=" => Than::AtMost,
            "=" | "==" => Than::Equal,
            "!=" => Than::Unequal,
            _ => return Err(wrong(format!("'{sign}' compares nothing"))),
        };
        let value = rest[sign.len()..].trim();
        let unit_at = value.find(|c: char| !matches!(c, '0'..='9' | '.')).unwrap_or(value.len());
        let (number, unit) = (&value[..unit_at], value[unit_at..].trim());
        let number: f64 = number.parse().map_err(|_| wrong(format!("'{value}' is no number")))?;
        let figure =
            figure(name, unit == "%").ok_or_else(|| format!("'{name}' is no figure; there are {FIGURES}"))?;
        let factor = factor(figure, unit).map_err(wrong)?;
        Ok(FailIf { text: text.trim().to_owned(), figure, than, bound: number * factor })
    }

    /// Looks the figure up in a report.
    pub fn judge(&self, report: &impl Figures) -> Judged {
        let found = match self.figure {
            Figure::Latency(of, point) => report.latency(of).map(|all| at(point, &all)),
            Figure::Count(count) => report.count(count),
            Figure::Share(count) => report.percent(count),
            Figure::Memory => report.memory(),
        };
        let broken = found.map(|found| match self.than {
            Than::More => found > self.bound,
            Than::AtLeast => found >= self.bound,
            Than::Less => found < self.bound,
            Than::AtMost => found <= self.bound,
            Than::Equal => found == self.bound,
            Than::Unequal => found != self.bound,
        });
        Judged { condition: self.text.clone(), found, broken }
    }
}

fn figure(name: &str, in_percent: bool) -> Option<Figure> {
    let (of, point) = match name.split_once('.') {
        Some(("ack", point)) => (Of::Ack, point),
        Some(("delivery", point)) => (Of::Delivery, point),
        Some(("connect", point)) => (Of::Connect, point),
        Some(("history", point)) => (Of::History, point),
        Some(("search", point)) => (Of::Search, point),
        Some(("recovery", point)) => (Of::Recovery, point),
        Some(("login", point)) => (Of::Login, point),
        Some(("join", point)) => (Of::Join, point),
        Some(("enter", point)) => (Of::Enter, point),
        Some(("pong", point)) => (Of::Pong, point),
        Some(("update", point)) => (Of::Update, point),
        _ => (Of::Delivery, name),
    };
    let point = match point {
        "mean" => Some(Point::Mean),
        "p50" => Some(Point::P50),
        "p90" => Some(Point::P90),
        "p99" => Some(Point::P99),
        "p99.9" => Some(Point::P999),
        "p99.99" => Some(Point::P9999),
        "max" => Some(Point::Max),
        _ => None,
    };
    if let Some(point) = point {
        return Some(Figure::Latency(of, point));
    }
    let count = match name {
        "rss" => return Some(Figure::Memory),
        "lost" => Count::Lost,
        "duplicated" => Count::Duplicated,
        "reordered" | "out_of_order" => Count::Reordered,
        "foreign" => Count::Foreign,
        "unanswered" => Count::Unanswered,
        "errors" => Count::Errors,
        "late" => Count::Late,
        "refused" => Count::Refused,
        "unsent" => Count::Unsent,
        "failed" => Count::Failed,
        "dropped" => Count::Dropped,
        "sent" => Count::Sent,
        "acked" => Count::Acked,
        "delivered" => Count::Delivered,
        _ => return None,
    };
    Some(if in_percent { Figure::Share(count) } else { Figure::Count(count) })
}

/// What turns the unit into ms, bytes, percent or a count.
fn factor(figure: Figure, unit: &str) -> Result<f64, String> {
    match (figure, unit) {
        (Figure::Latency(..), "us" | "µs") => Ok(0.001),
        (Figure::Latency(..), "ms") => Ok(1.0),
        (Figure::Latency(..), "s") => Ok(1000.0),
        (Figure::Latency(..), _) => Err("a latency needs its unit: us, ms or s".into()),
        (Figure::Memory, "" | "B") => Ok(1.0),
        (Figure::Memory, "KiB") => Ok(1024.0),
        (Figure::Memory, "MiB") => Ok(1024.0 * 1024.0),
        (Figure::Memory, "GiB") => Ok(1024.0 * 1024.0 * 1024.0),
        (Figure::Memory, _) => Err("memory is in KiB, MiB or GiB".into()),
        (Figure::Share(Count::Errors | Count::Late | Count::Refused | Count::Unsent), "%") => Ok(1.0),
        (Figure::Share(_), _) => Err("only errors, late, refused and unsent are also told in percent".into()),
        (Figure::Count(_), "") => Ok(1.0),
        (Figure::Count(_), _) => Err(format!("a count has no unit '{unit}'")),
    }
}

fn at(point: Point, all: &Percentiles) -> f64 {
    match point {
        Point::Mean => all.mean,
        Point::P50 => all.p50,
        Point::P90 => all.p90,
        Point::P99 => all.p99,
        Point::P999 => all.p99_9,
        Point::P9999 => all.p99_99,
        Point::Max => all.max,
    }
}

impl Figures for Report {
    fn latency(&self, of: Of) -> Option<Percentiles> {
        let found = match of {
            Of::Delivery => self.messages.as_ref()?.delivery_ms,
            Of::Ack => self.messages.as_ref()?.ack_ms,
            Of::Connect => self.connections.handshake_ms,
            Of::History => self.actions.history.ms,
            Of::Search => self.actions.search.ms,
            Of::Recovery => self.connections.recovery_ms,
            Of::Login | Of::Join | Of::Enter | Of::Pong | Of::Update => return None,
        };
        Some(found).filter(|found| found.count > 0)
    }

    fn count(&self, count: Count) -> Option<f64> {
        let (found, errors, totals) = (&self.correctness, &self.totals.errors, &self.totals);
        let of_messages = |number: u64| self.messages.as_ref().map(|_| number);
        let number = match count {
            Count::Lost => of_messages(found.lost),
            Count::Duplicated => of_messages(found.duplicated),
            Count::Reordered => of_messages(found.out_of_order),
            Count::Foreign => of_messages(found.foreign),
            Count::Unanswered => of_messages(found.unanswered),
            Count::Errors => Some(errors.total() + found.unanswered),
            Count::Late => of_messages(totals.late),
            Count::Refused => of_messages(errors.refused),
            Count::Unsent => of_messages(errors.unsent),
            Count::Failed => Some(errors.failed),
            Count::Dropped => Some(errors.dropped),
            Count::Sent => of_messages(totals.sent),
            Count::Acked => of_messages(totals.acked),
            Count::Delivered => of_messages(totals.delivered),
        };
        number.map(|number| number as f64)
    }

    fn percent(&self, count: Count) -> Option<f64> {
        if count == Count::Errors {
            return Some(self.error_rate * 100.0);
        }
        let due = self.totals.sent + self.totals.errors.unsent;
        self.count(count).filter(|_| due > 0).map(|number| number / due as f64 * 100.0)
    }

    fn memory(&self) -> Option<f64> {
        let memory = |row: &crate::series::Row| Some(row.target.as_ref()?.rss_bytes as f64);
        self.series.iter().filter_map(memory).reduce(f64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_read_with_their_units() {
        for (text, bound) in [
            ("p99>200ms", 200.0),
            (" ack.p99.9 >= 1.5s ", 1500.0),
            ("p50 > 900us", 0.9),
            ("errors>0.1%", 0.1),
            ("lost>0", 0.0),
            ("rss>64MiB", 67_108_864.0),
            ("delivered<1000", 1000.0),
        ] {
            assert_eq!(FailIf::parse(text).map(|condition| condition.bound), Ok(bound), "{text}");
        }
    }

    #[test]
    fn mistakes_are_told_in_one_line() {
        for (text, told) in [
            ("p99", "no comparison"),
            ("p99>200", "a latency needs its unit"),
            ("p98>1ms", "'p98' is no figure; there are mean, p50"),
            ("lost>>0", "'>>' compares nothing"),
            ("lost>many", "'many' is no number"),
            ("lost>0%", "only errors, late, refused and unsent"),
            ("lost>0ms", "a count has no unit 'ms'"),
            ("nap.p99>1ms", "'nap.p99' is no figure"),
            ("", "no comparison"),
        ] {
            let failure = FailIf::parse(text).unwrap_err();
            assert!(failure.contains(told) && failure.lines().count() == 1, "{text}: {failure}");
        }
    }
}
