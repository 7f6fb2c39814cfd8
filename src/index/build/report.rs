//! Says how far a longer piece of work is.

use std::time::{Duration, Instant};

/// Says how far a longer piece of work is, about once a second.
pub(super) struct Report {
    what: &'static str,
    whole: u64,
    said: Instant,
}

/// Time between two lines about the progress.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

impl Report {
    /// `whole` is what there is to do, in any unit.
    pub(super) fn new(what: &'static str, whole: u64) -> Report {
        Report { what, whole, said: Instant::now() }
    }

    /// `part` of the whole is done, which makes so many records.
    pub(super) fn at(&mut self, part: u64, records: u64) {
        if self.said.elapsed() >= REPORT_INTERVAL {
            self.said = Instant::now();
            let percent = part.saturating_mul(100) / self.whole.max(1);
            tracing::info!(percent, records, "indexing {}", self.what);
        }
    }

    /// All is done.
    pub(super) fn end(self, records: u64) {
        tracing::info!(percent = 100, records, "indexed {}", self.what);
    }
}
