//! How fast a child's counters grow: every figure of its reports whose name ends in `_total`.

use std::time::{Duration, Instant};

use serde_json::{Map, Value};

/// Shortest time between the two reports that a rate is made of.
const WINDOW: Duration = Duration::from_secs(1);
const COUNTER: &str = "_total";

/// The rates of one process.
#[derive(Debug, Default)]
pub(crate) struct Rates {
    /// The report that the next rates count from.
    base: Option<(Instant, Map<String, Value>)>,
    /// `messages_in_total` as `messages_in_per_s`.
    current: Map<String, Value>,
}

impl Rates {
    /// Takes in a report that came at `now`.
    pub(crate) fn take(&mut self, report: &Value, now: Instant) {
        let counters = counters(report);
        match &self.base {
            Some((then, _)) if now.saturating_duration_since(*then) < WINDOW => return,
            Some((then, before)) => self.current = rates(before, &counters, now.duration_since(*then)),
            None => {}
        }
        self.base = Some((now, counters));
    }

    /// By name, per second; empty until there were two reports far enough apart.
    pub(crate) fn current(&self) -> &Map<String, Value> {
        &self.current
    }
}

fn counters(report: &Value) -> Map<String, Value> {
    let fields = report.as_object().into_iter().flatten();
    let counters = fields.filter(|(name, value)| name.ends_with(COUNTER) && value.is_u64());
    counters.map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn rates(before: &Map<String, Value>, after: &Map<String, Value>, time: Duration) -> Map<String, Value> {
    let rate = |(name, value): (&String, &Value)| {
        let grown = value.as_u64()?.saturating_sub(before.get(name)?.as_u64()?);
        // Exact up to 2^32 per window, and nothing here grows faster.
        let per_second = f64::from(u32::try_from(grown).unwrap_or(u32::MAX)) / time.as_secs_f64();
        let name = format!("{}_per_s", name.strip_suffix(COUNTER)?);
        Some((name, Value::from((per_second * 10.0).round() / 10.0)))
    };
    after.iter().filter_map(rate).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn counters_become_rates_and_other_figures_do_not() {
        let start = Instant::now();
        let mut rates = Rates::default();
        rates.take(&json!({"messages_in_total": 100, "connections": 5, "total": 1}), start);
        assert!(rates.current().is_empty());
        rates.take(&json!({"messages_in_total": 150}), start + Duration::from_millis(500));
        assert!(rates.current().is_empty());
        rates.take(&json!({"messages_in_total": 300, "connections": 9}), start + Duration::from_secs(2));
        assert_eq!(Value::from(rates.current().clone()), json!({"messages_in_per_s": 100.0}));
        rates.take(&json!({"messages_in_total": 300}), start + Duration::from_secs(3));
        assert_eq!(Value::from(rates.current().clone()), json!({"messages_in_per_s": 0.0}));
    }
}
