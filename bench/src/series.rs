//! The run second by second: one row for each second of the wall clock, so that the rows of several
//! machines can be laid over each other.
//!
//! Each thread counts into a [`Slice`] and hands it over when its second has ended; the rows are
//! made a little later. What comes after that is counted in the next row: nothing is left out.

use std::collections::BTreeMap;
use std::ops::AddAssign;

use serde::{Deserialize, Serialize};

use crate::hdr::{Latency, Percentiles};
use crate::stats::Counts;
use crate::watch::Target;

/// What one thread counted in one second.
#[derive(Clone)]
pub(crate) struct Slice {
    /// Plain counts.
    pub counts: Counts,
    /// Intended send to ack, of acks that came in this second.
    pub ack: Latency,
    /// Intended send to delivery, likewise.
    pub delivery: Latency,
}

impl Slice {
    /// Nothing counted.
    pub fn new() -> Slice {
        Slice { counts: Counts::default(), ack: Latency::of_second(), delivery: Latency::of_second() }
    }
}

impl AddAssign for Slice {
    fn add_assign(&mut self, other: Slice) {
        self.counts += other.counts;
        self.ack.add(&other.ack);
        self.delivery.add(&other.delivery);
    }
}

/// One second of a run; in the report's `series`, and on the screen while it runs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Row {
    /// Whole seconds since the second in which the first connection was dialled.
    pub at_s: u64,
    /// The second of the wall clock, since 1970 in UTC.
    pub unix_s: u64,
    /// `connect`, the name of a phase of the load, or `drain`.
    pub phase: String,
    /// Open at the end of the second.
    pub connections: u64,
    /// Became ready in it; after a break, again.
    pub connected: u64,
    /// Messages sent.
    pub sent: u64,
    /// Messages granted.
    pub acked: u64,
    /// First deliveries.
    pub delivered: u64,
    /// Messages that left more than a millisecond after their time.
    pub late: u64,
    /// Duplicated, out of order or foreign deliveries; what is lost is only known at the end.
    pub faults: u64,
    /// What went wrong otherwise.
    pub errors: Errors,
    /// Intended send to ack, of acks that came in this second.
    pub ack_ms: Percentiles,
    /// Intended send to delivery, likewise.
    pub delivery_ms: Percentiles,
    /// `ack_ms` as a histogram to add up; µs, two digits.
    pub ack_hdr: String,
    /// `delivery_ms` likewise.
    pub delivery_hdr: String,
    /// The server at the end of the second, where it tells or was named by `--pid`.
    pub target: Option<Target>,
    /// The load tester itself.
    pub generator: Generator,
}

/// Errors of one second or of a run, by kind. A fault of order or number is none of these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Errors {
    /// Messages the server did not grant.
    pub refused: u64,
    /// Messages due whose connection could not take them.
    pub unsent: u64,
    /// Connections that were never made.
    pub failed: u64,
    /// Connections that broke although nobody meant them to.
    pub dropped: u64,
    /// Packets that are no answer to anything, such as `error` events.
    pub other: u64,
}

impl Errors {
    /// All kinds.
    pub fn total(&self) -> u64 {
        let Errors { refused, unsent, failed, dropped, other } = self;
        refused + unsent + failed + dropped + other
    }
}

impl AddAssign for Errors {
    fn add_assign(&mut self, other: Errors) {
        self.refused += other.refused;
        self.unsent += other.unsent;
        self.failed += other.failed;
        self.dropped += other.dropped;
        self.other += other.other;
    }
}

/// How the load tester itself did.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Generator {
    /// CPU time used for each second; 1 is one core.
    pub cpu_share: f64,
    /// The latest message left so much after its time.
    pub lag_ms: f64,
    /// Whether it, and not the server, may have set the pace.
    pub bottleneck: bool,
}

/// A thread busy for more than this share of a second has none to spare.
const BUSY_SHARE: f64 = 0.95;

/// Sends later than this are not the grain of a timer.
const LAG_MS: f64 = 100.0;

impl Generator {
    /// Figures of a second; `threads` is how many cores it could use.
    pub fn new(cpu_share: f64, lag_ms: f64, threads: f64) -> Generator {
        Generator { cpu_share, lag_ms, bottleneck: cpu_share > threads * BUSY_SHARE || lag_ms > LAG_MS }
    }
}

/// What threads have handed over and no row has been made of yet.
#[derive(Default)]
pub(crate) struct Pending(BTreeMap<u64, Slice>);

impl Pending {
    /// Adds a thread's slice of a second.
    pub fn add(&mut self, unix_s: u64, slice: Slice) {
        match self.0.get_mut(&unix_s) {
            Some(known) => *known += slice,
            None => {
                self.0.insert(unix_s, slice);
            }
        }
    }

    /// Takes all slices of seconds up to and with `unix_s`, as one.
    pub fn take(&mut self, unix_s: u64) -> Slice {
        let later = self.0.split_off(&unix_s.saturating_add(1));
        let mut whole = Slice::new();
        std::mem::replace(&mut self.0, later).into_values().for_each(|slice| whole += slice);
        whole
    }

    /// The last second of which there is anything.
    pub fn last(&self) -> Option<u64> {
        self.0.keys().next_back().copied()
    }
}

impl Row {
    /// A row of what was counted; place, connections, target and generator are the caller's.
    pub(crate) fn of(slice: &Slice) -> Row {
        let counts = slice.counts;
        Row {
            connected: counts.connected,
            sent: counts.sent,
            acked: counts.acked,
            delivered: counts.delivered,
            late: counts.late,
            faults: counts.faults,
            errors: counts.errors,
            ack_ms: slice.ack.percentiles(),
            delivery_ms: slice.delivery.percentiles(),
            ack_hdr: slice.ack.encode(),
            delivery_hdr: slice.delivery.encode(),
            ..Row::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(sent: u64) -> Slice {
        let mut slice = Slice::new();
        slice.counts.sent = sent;
        slice.ack.note(0, sent * 1_000_000);
        slice
    }

    #[test]
    fn what_comes_late_is_in_the_next_row() {
        let mut pending = Pending::default();
        pending.add(10, slice(1));
        pending.add(10, slice(2));
        pending.add(11, slice(4));
        assert_eq!(Row::of(&pending.take(10)).sent, 3);
        pending.add(10, slice(8));
        let row = Row::of(&pending.take(11));
        assert_eq!((row.sent, row.ack_ms.count), (12, 2));
        assert_eq!((pending.last(), Row::of(&pending.take(12)).sent), (None, 0));
    }
}
