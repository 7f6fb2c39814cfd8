//! What operators watch of a worker, beside what the [engine](crate::engine::Counters) counts.

use crate::chat::Code;
use crate::metrics::histogram::{Histogram, WAITING};

/// Counted since the start of the process.
pub struct Counters {
    /// Messages sent to the storage writer.
    pub messages_in: u64,
    /// Messages written to sockets.
    pub deliveries: u64,
    /// Messages not taken in or not stored.
    pub refused: Refused,
    /// From taking a message in on whichever worker to having handed it to the last socket here.
    pub delivery: Histogram,
    /// Connections closed because their token had come to its end.
    pub tokens_expired: u64,
    /// Connections closed because their user was logged out everywhere.
    pub logged_out: u64,
    /// Connections closed because the worker leaves.
    pub drained: u64,
    /// Clients not let in because nobody knows who they are.
    pub not_believed: u64,
    /// Clients not let in because their user has as many connections as allowed.
    pub user_full: u64,
    /// Requests and connections refused because of their address.
    pub address_full: u64,
    /// Requests refused because of the page they come from.
    pub origins_refused: u64,
    /// Clients that came back and were told all that they had missed.
    pub recovered: u64,
    /// Clients that came back and had to begin anew.
    pub gaps: u64,
    /// Messages that they had missed.
    pub replayed: u64,
}

/// Messages refused, by whose fault.
#[derive(Default)]
pub struct Refused {
    /// Too much is unanswered.
    pub overloaded: u64,
    /// The user sends too fast.
    pub rate_limited: u64,
    /// The disk refuses.
    pub storage: u64,
    /// The message or its sender is not fit.
    pub other: u64,
}

impl Default for Counters {
    fn default() -> Counters {
        Counters {
            messages_in: 0,
            deliveries: 0,
            refused: Refused::default(),
            delivery: Histogram::new(&WAITING),
            tokens_expired: 0,
            logged_out: 0,
            drained: 0,
            not_believed: 0,
            user_full: 0,
            address_full: 0,
            origins_refused: 0,
            recovered: 0,
            gaps: 0,
            replayed: 0,
        }
    }
}

impl Refused {
    /// One more that was refused so.
    pub fn note(&mut self, code: Code) {
        let counter = match code {
            Code::Overloaded => &mut self.overloaded,
            Code::RateLimited => &mut self.rate_limited,
            Code::StorageFailed | Code::StorageFull => &mut self.storage,
            _ => &mut self.other,
        };
        *counter += 1;
    }
}
