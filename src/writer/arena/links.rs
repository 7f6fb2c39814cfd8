//! Which connection is which worker's, and which workers are gone for good.
//!
//! A worker that lost its connection comes back with the same process number, and everybody it has is still
//! in. One that died is followed by another process of the same number, at once or a little later.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::writer::batch::PeerId;

/// How long a worker may be without a connection before everybody it had counts as gone.
pub const GRACE: Duration = Duration::from_secs(5);

/// The connections.
#[derive(Default)]
pub struct Links {
    open: HashMap<PeerId, Worker>,
    /// Workers without a connection, and when they count as gone.
    lost: Vec<(Worker, Instant)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Worker {
    number: u16,
    instance: u64,
}

impl Links {
    /// A worker is here; answers the processes that are certain not to come back, since it has taken
    /// their place.
    pub fn attached(&mut self, peer: PeerId, number: u16, instance: u64) -> Vec<u64> {
        let worker = Worker { number, instance };
        self.open.insert(peer, worker);
        let mut gone = Vec::new();
        self.lost.retain(|(lost, _)| {
            if lost.number == number && lost.instance != instance {
                gone.push(lost.instance);
            }
            lost.number != number
        });
        gone
    }

    /// A connection has ended; answers the process it was of, if that is certain not to come back.
    /// `matters`: whether anybody is in by it.
    pub fn gone(&mut self, peer: PeerId, now: Instant, matters: impl Fn(u64) -> bool) -> Option<u64> {
        let worker = self.open.remove(&peer)?;
        let mut others = self.open.iter();
        if self.open.values().any(|other| *other == worker) || !matters(worker.instance) {
            return None;
        }
        if others.any(|(id, other)| other.number == worker.number && *id > peer) {
            return Some(worker.instance);
        }
        self.lost.push((worker, now + GRACE));
        None
    }

    /// When the next one counts as gone.
    pub fn next_due(&self) -> Option<Instant> {
        self.lost.iter().map(|(_, when)| *when).min()
    }

    /// Processes that have not come back in time.
    pub fn departed(&mut self, now: Instant) -> Vec<u64> {
        let mut gone = Vec::new();
        self.lost.retain(|(worker, when)| {
            if *when <= now {
                gone.push(worker.instance);
            }
            *when > now
        });
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOBODY: [u64; 0] = [];

    #[test]
    fn a_worker_that_comes_back_was_not_gone_and_one_that_is_replaced_was() {
        let (mut links, now) = (Links::default(), Instant::now());
        assert_eq!(links.attached(1, 0, 100), NOBODY);
        assert_eq!(links.attached(2, 1, 200), NOBODY);
        assert_eq!(links.gone(1, now, |_| true), None);
        assert_eq!(links.attached(3, 0, 100), NOBODY);
        assert_eq!(links.next_due(), None);
        // Replaced, the end of its connection heard before the new one.
        assert_eq!(links.gone(3, now, |_| true), None);
        assert_eq!(links.attached(4, 0, 101), [100]);
        // And after it.
        assert_eq!(links.attached(5, 1, 201), NOBODY);
        assert_eq!(links.gone(2, now, |_| true), Some(200));
        // The new connection of the same process is heard of first.
        assert_eq!(links.attached(6, 1, 201), NOBODY);
        assert_eq!(links.gone(5, now, |_| true), None);
        assert_eq!(links.next_due(), None);
        // Nobody comes.
        assert_eq!(links.gone(6, now, |_| true), None);
        assert_eq!(links.departed(now + GRACE - Duration::from_millis(1)), NOBODY);
        assert_eq!(links.departed(now + GRACE), [201]);
        // Nobody was in by it.
        assert_eq!(links.gone(4, now, |_| false), None);
        assert_eq!((links.next_due(), links.departed(now + GRACE)), (None, vec![]));
    }
}
