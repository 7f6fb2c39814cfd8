//! Latencies as HDR histograms, and how they are written into a report so that reports of several
//! machines add up exactly.
//!
//! A histogram is written in the V2 format, deflated and in base64 (the form HdrHistogram's own
//! tools read; <https://github.com/HdrHistogram/HdrHistogram>). Values are microseconds.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};
use serde::{Deserialize, Serialize};

/// Longest latency told apart, in µs: an hour.
const LATENCY_US_MAX: u64 = 3_600_000_000;

/// Significant digits of the histograms of a whole run.
const DIGITS_RUN: u8 = 3;

/// Significant digits of the histograms of one second: there are many of them.
const DIGITS_SECOND: u8 = 2;

/// Latencies in fixed memory.
#[derive(Clone, Debug)]
pub struct Latency(Histogram<u64>);

impl Latency {
    /// For a whole run: three digits.
    pub fn of_run() -> Latency {
        Latency::with(DIGITS_RUN)
    }

    /// For one second: two digits.
    pub fn of_second() -> Latency {
        Latency::with(DIGITS_SECOND)
    }

    fn with(digits: u8) -> Latency {
        #[expect(clippy::expect_used, reason = "the bounds are constants that the histogram accepts")]
        let histogram = Histogram::new_with_bounds(1, LATENCY_US_MAX, digits).expect("valid bounds");
        Latency(histogram)
    }

    /// Notes the time from one moment to another.
    pub fn note(&mut self, from_ns: u64, to_ns: u64) {
        self.0.saturating_record(to_ns.saturating_sub(from_ns) / 1000);
    }

    /// Adds all of another's, exactly.
    pub fn add(&mut self, other: &Latency) {
        #[expect(clippy::expect_used, reason = "all histograms are made with the same bounds")]
        self.0.add(&other.0).expect("equal bounds");
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The distribution in milliseconds.
    pub fn percentiles(&self) -> Percentiles {
        let ms = |us: u64| us as f64 / 1000.0;
        let at = |quantile| ms(self.0.value_at_quantile(quantile));
        Percentiles {
            count: self.0.len(),
            mean: self.0.mean() / 1000.0,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            p99_99: at(0.9999),
            max: ms(self.0.max()),
        }
    }

    /// The buckets that hold anything: upper bound in ms and count, for drawing.
    pub fn buckets(&self) -> impl Iterator<Item = (f64, u64)> {
        self.0.iter_recorded().map(|step| (step.value_iterated_to() as f64 / 1000.0, step.count_at_value()))
    }

    /// Deflated V2 in base64; empty when nothing was noted.
    pub fn encode(&self) -> String {
        if self.0.is_empty() {
            return String::new();
        }
        let mut bytes = vec![];
        #[expect(clippy::expect_used, reason = "nothing fails that writes to memory")]
        V2DeflateSerializer::new().serialize(&self.0, &mut bytes).expect("written to memory");
        STANDARD.encode(bytes)
    }

    /// Adds what another wrote with [`Latency::encode`], or says why it cannot.
    pub fn add_encoded(&mut self, text: &str) -> Result<(), String> {
        if text.is_empty() {
            return Ok(());
        }
        let bytes = STANDARD.decode(text).map_err(|why| format!("not base64: {why}"))?;
        let other: Histogram<u64> = Deserializer::new()
            .deserialize(&mut bytes.as_slice())
            .map_err(|why| format!("not an HDR histogram: {why}"))?;
        self.0.add(&other).map_err(|why| format!("an HDR histogram of other bounds: {why}"))
    }
}

/// A distribution in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Percentiles {
    pub count: u64,
    pub mean: f64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p99_9: f64,
    pub p99_99: f64,
    pub max: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_from_text_is_what_one_histogram_would_hold() {
        let (mut whole, mut one, mut two) = (Latency::of_run(), Latency::of_run(), Latency::of_run());
        for n in 0..10_000_u64 {
            let latency = n * n * 977;
            whole.note(0, latency);
            if n % 3 == 0 { &mut one } else { &mut two }.note(0, latency);
        }
        let mut merged = Latency::of_run();
        merged.add_encoded(&one.encode()).unwrap();
        merged.add_encoded(&two.encode()).unwrap();
        assert_eq!(merged.percentiles(), whole.percentiles());
        assert_eq!(merged.encode(), whole.encode());
        assert!(merged.buckets().eq(whole.buckets()));
    }

    #[test]
    fn nothing_is_nothing_and_nonsense_is_told() {
        let mut empty = Latency::of_second();
        assert_eq!(empty.encode(), "");
        assert_eq!(empty.add_encoded(""), Ok(()));
        assert_eq!(empty.percentiles(), Percentiles::default());
        for text in ["?", "AAAA", "HISTFAAA"] {
            assert!(empty.add_encoded(text).is_err(), "{text}");
        }
    }
}
