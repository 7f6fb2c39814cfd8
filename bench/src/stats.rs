//! What one thread counts and times, and how threads' figures become one.

use std::collections::BTreeMap;
use std::ops::{AddAssign, Range};

use hdrhistogram::Histogram;

/// Longest latency told apart, in µs: an hour.
const LATENCY_US_MAX: u64 = 3_600_000_000;

/// Different reasons for broken connections that are kept.
const REASONS_MAX: usize = 10;

/// A message this late is counted as late; at or below it the timer's own grain is seen.
const LATE_NS: u64 = 1_000_000;

/// Latencies, to three digits, in fixed memory.
#[derive(Clone)]
pub struct Latency(pub Histogram<u64>);

impl Latency {
    fn new() -> Latency {
        #[expect(clippy::expect_used, reason = "the bounds are constants that the histogram accepts")]
        let histogram = Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).expect("valid bounds");
        Latency(histogram)
    }

    /// Notes the time from one moment to another.
    pub fn note(&mut self, from_ns: u64, to_ns: u64) {
        self.0.saturating_record(to_ns.saturating_sub(from_ns) / 1000);
    }
}

/// How often each reason was met; the rest goes under one name.
#[derive(Clone, Default)]
pub struct Reasons(pub BTreeMap<String, u64>);

impl Reasons {
    /// Counts one more.
    pub fn note(&mut self, reason: &str, count: u64) {
        let reason =
            if self.0.len() < REASONS_MAX || self.0.contains_key(reason) { reason } else { "others" };
        *self.0.entry(reason.to_owned()).or_default() += count;
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// The most frequent.
    pub fn first(&self) -> &str {
        self.0.iter().max_by_key(|(_, count)| **count).map_or("", |(reason, _)| reason)
    }
}

/// One thread's figures.
#[derive(Clone)]
pub struct Tally {
    /// From dialling to being in the namespace.
    pub handshake: Latency,
    /// From the intended send to the ack, of messages intended in the measured window.
    pub ack: Latency,
    /// From the intended send to each delivery, likewise.
    pub delivery: Latency,
    /// Connections that never became ready, by reason.
    pub failed: Reasons,
    /// Connections that broke after they were ready, by reason.
    pub dropped: Reasons,
    /// Refusals, by their text.
    pub refusals: Reasons,
    /// Packets that are neither messages nor acks, such as `error` events, by their text.
    pub others: Reasons,
    /// The plain counts.
    pub counts: Counts,
}

/// Plain counts, over the whole run unless said otherwise.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Messages sent.
    pub sent: u64,
    /// Messages due that the connection could not take any more.
    pub unsent: u64,
    /// Messages that left more than a millisecond after their time.
    pub late: u64,
    /// The latest, in ns.
    pub lag_ns_max: u64,
    /// Granted.
    pub acked: u64,
    /// Refused.
    pub refused: u64,
    /// First deliveries, correct ones.
    pub delivered: u64,
    /// Acks that arrived within the measured window.
    pub acked_in_window: u64,
    /// Deliveries that arrived within the measured window.
    pub delivered_in_window: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        self.sent += other.sent;
        self.unsent += other.unsent;
        self.late += other.late;
        self.lag_ns_max = self.lag_ns_max.max(other.lag_ns_max);
        self.acked += other.acked;
        self.refused += other.refused;
        self.delivered += other.delivered;
        self.acked_in_window += other.acked_in_window;
        self.delivered_in_window += other.delivered_in_window;
    }
}

impl Tally {
    /// All zero.
    pub fn new() -> Tally {
        let (none, latency) = (Reasons::default, Latency::new);
        Tally {
            handshake: latency(),
            ack: latency(),
            delivery: latency(),
            failed: none(),
            dropped: none(),
            refusals: none(),
            others: none(),
            counts: Counts::default(),
        }
    }

    /// A message leaves now that should have left at `at_ns`.
    pub fn sent(&mut self, at_ns: u64, now_ns: u64) {
        let lag = now_ns.saturating_sub(at_ns);
        self.counts.sent += 1;
        self.counts.late += u64::from(lag > LATE_NS);
        self.counts.lag_ns_max = self.counts.lag_ns_max.max(lag);
    }

    /// A message was granted.
    pub fn acked(&mut self, window: &Range<u64>, at_ns: u64, now_ns: u64) {
        self.counts.acked += 1;
        self.counts.acked_in_window += u64::from(window.contains(&now_ns));
        if window.contains(&at_ns) {
            self.ack.note(at_ns, now_ns);
        }
    }

    /// A message arrived that was owed.
    pub fn delivered(&mut self, window: &Range<u64>, at_ns: u64, now_ns: u64) {
        self.counts.delivered += 1;
        self.counts.delivered_in_window += u64::from(window.contains(&now_ns));
        if window.contains(&at_ns) {
            self.delivery.note(at_ns, now_ns);
        }
    }

    /// Adds another thread's figures.
    pub fn merge(&mut self, other: &Tally) {
        for (mine, theirs) in [
            (&mut self.handshake, &other.handshake),
            (&mut self.ack, &other.ack),
            (&mut self.delivery, &other.delivery),
        ] {
            #[expect(clippy::expect_used, reason = "all histograms are made with the same bounds")]
            mine.0.add(&theirs.0).expect("equal bounds");
        }
        for (mine, theirs) in [
            (&mut self.failed, &other.failed),
            (&mut self.dropped, &other.dropped),
            (&mut self.refusals, &other.refusals),
            (&mut self.others, &other.others),
        ] {
            theirs.0.iter().for_each(|(reason, count)| mine.note(reason, *count));
        }
        self.counts += other.counts;
    }
}
