//! How often something took how long, or was how large: a fixed row of counters.
//!
//! To note a value costs a search among a dozen bounds and two additions, takes no lock and no memory, so
//! that it can be done for each message.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

/// The bounds of a histogram and their unit.
#[derive(Debug)]
pub struct Scale {
    /// Largest value of each bucket, rising; there is one more bucket above.
    pub bounds: &'static [u64],
    /// How many make one of the unit that is reported.
    pub per_unit: f64,
}

/// Microseconds in 1 ms to 10 s, reported in seconds.
pub static WAITING: Scale = Scale {
    bounds: &[
        1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000, 2_000_000,
        5_000_000, 10_000_000,
    ],
    per_unit: 1e6,
};

/// Microseconds in 0.1 ms to 10 s, reported in seconds.
pub static SYNCING: Scale = Scale {
    bounds: &[
        100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000,
        2_000_000, 5_000_000, 10_000_000,
    ],
    per_unit: 1e6,
};

/// Things in 1 to 10,000.
pub static CROWD: Scale =
    Scale { bounds: &[1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000], per_unit: 1.0 };

/// Values by size.
#[derive(Debug)]
pub struct Histogram {
    scale: &'static Scale,
    /// One for each bound, and one for what is above all of them.
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
}

impl Histogram {
    /// Nothing is noted.
    pub fn new(scale: &'static Scale) -> Histogram {
        let counts = (0..=scale.bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Histogram { scale, counts, sum: AtomicU64::new(0) }
    }

    /// Notes a value.
    pub fn note(&self, value: u64) {
        let bucket = self.scale.bounds.partition_point(|bound| *bound < value);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// Notes a time, in microseconds.
    pub fn note_time(&self, time: Duration) {
        self.note(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }

    /// The bounds `le` and the `sum` in the unit that is reported, and how many values are in each bucket.
    pub fn report(&self) -> Value {
        #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53: 285 years of microseconds")]
        let in_units = |value: u64| value as f64 / self.scale.per_unit;
        let le: Vec<f64> = self.scale.bounds.iter().copied().map(in_units).collect();
        let counts: Vec<u64> = self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        json!({"le": le, "counts": counts, "sum": in_units(self.sum.load(Ordering::Relaxed))})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_in_the_first_bucket_that_holds_it() {
        let histogram = Histogram::new(&CROWD);
        [0, 1, 2, 3, 5, 10_000, 10_001, 1_000_000].into_iter().for_each(|value| histogram.note(value));
        let report = histogram.report();
        assert_eq!(report["counts"], json!([2, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2]));
        assert_eq!(report["sum"], json!(1_020_012.0));
    }

    #[test]
    fn times_are_reported_in_seconds() {
        let histogram = Histogram::new(&SYNCING);
        histogram.note_time(Duration::from_micros(1_500));
        histogram.note_time(Duration::from_millis(1));
        let report = histogram.report();
        assert_eq!(report["le"][0], json!(0.0001));
        assert_eq!(report["counts"].as_array().unwrap()[3..5], [json!(1), json!(1)]);
        assert_eq!(report["sum"], json!(0.0025));
    }

    #[test]
    fn bounds_rise() {
        for scale in [&WAITING, &SYNCING, &CROWD] {
            assert!(scale.bounds.is_sorted_by(|a, b| a < b), "{scale:?}");
        }
    }
}
