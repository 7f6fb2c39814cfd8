//! Connections that break and come back: broken on purpose by the mix, a storm or a kill, or by the
//! server's own doing while clients are asked to resume.
//!
//! A connection that comes back asks for everything after the last `seq` it was told, so nothing
//! that is owed to it is forgiven.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::clock::random;
use crate::pool::Pool;
use crate::socket::Phase;
use crate::stage::Stage;

/// First wait before dialling again after a failure, in ns; doubled with each further one.
const BACKOFF_NS: u64 = 50_000_000;

/// Longest such wait.
const BACKOFF_NS_MAX: u64 = 2_000_000_000;

/// Wait before looking whether a handshake may begin, while too many are under way.
const FULL_PAUSE_NS: u64 = 1_000_000;

/// A connection on its way back.
pub struct Away {
    /// When it broke.
    pub since_ns: u64,
    /// Whether a storm or a kill broke it.
    pub disrupted: bool,
    /// How often it was dialled since.
    attempts: u32,
}

/// One thread's connections on their way back.
#[derive(Default)]
pub struct Returns {
    /// When to dial which row, soonest first.
    due: BinaryHeap<Reverse<(u64, usize)>>,
    /// Storms and disruptions that this thread has noticed.
    storms: u64,
    disruptions: u64,
}

impl Pool<'_> {
    /// Notices storms and kills, and drops what a storm drops.
    pub(crate) fn weather(&mut self, now: u64) {
        let (disruptions, storms, at_ns) = self.shared.disruptions();
        if disruptions == self.returns.disruptions {
            return;
        }
        self.returns.disruptions = disruptions;
        self.load.tally.disrupted(disruptions, at_ns);
        if std::mem::replace(&mut self.returns.storms, storms) == storms {
            return;
        }
        let Some(storm) = self.plan.storm else { return };
        let struck = self.plan.struck(storm.reconnect, storms);
        let keys = self.rows.iter().filter(|(_, row)| struck[row.user as usize]).map(|(key, _)| key);
        for key in keys.collect::<Vec<_>>() {
            self.interrupt(key, true, now);
        }
    }

    /// Drops a connection that is ready, to be made again at once.
    pub(crate) fn interrupt(&mut self, key: usize, disrupted: bool, now: u64) {
        if self.rows[key].socket.phase != Phase::Ready {
            return;
        }
        self.load.forget(key);
        self.load.tally.interrupted();
        self.leave(key, disrupted, now);
    }

    /// Whether a connection that broke is to come back; if so, it is on its way.
    pub(crate) fn comes_back(&mut self, key: usize, why: &str) -> bool {
        let row = &self.rows[key];
        let (ready, slow) = (row.socket.phase == Phase::Ready, self.slow[row.user as usize]);
        if !self.plan.resumes() || slow || !(ready || row.away.is_some()) {
            return false;
        }
        let now = self.clock.now_ns();
        if !ready {
            self.park(key, now);
            return true;
        }
        let killed = self.plan.kill.is_some() && self.shared.stage() >= Stage::Load;
        if killed {
            self.load.tally.interrupted();
        } else {
            self.load.tally.dropped(why);
        }
        self.leave(key, killed, now);
        true
    }

    fn leave(&mut self, key: usize, disrupted: bool, now: u64) {
        self.rows[key].away = Some(Away { since_ns: now, disrupted, attempts: 0 });
        self.shared.dropped();
        self.park(key, now);
    }

    /// Ends what is left of a connection and plans the next attempt.
    fn park(&mut self, key: usize, now: u64) {
        let row = &mut self.rows[key];
        self.poll.registry().deregister(&mut row.socket.stream).ok(); // it may never have been registered
        row.socket.abandon();
        if let Some(polling) = &mut row.polling {
            self.poll.registry().deregister(&mut polling.post.stream).ok();
            polling.post.abandon();
        }
        let Some(away) = &mut row.away else { return };
        let backoff = BACKOFF_NS.checked_shl(away.attempts.saturating_sub(1)).unwrap_or(BACKOFF_NS_MAX);
        let spread = 500 + u64::from(random() % 1000); // thousandths
        let wait = if away.attempts == 0 { 0 } else { backoff.min(BACKOFF_NS_MAX) / 1000 * spread };
        away.attempts += 1;
        self.returns.due.push(Reverse((now + wait, key)));
    }

    /// Dials again whoever is due; tells when to look again.
    pub(crate) fn redial_due(&mut self, now: u64) -> u64 {
        while let Some(&Reverse((due, key))) = self.returns.due.peek() {
            if due > now {
                return due;
            }
            if !self.dialler.has_room() {
                return now + FULL_PAUSE_NS;
            }
            self.returns.due.pop();
            if self.redial(key, now).is_err() {
                self.park(key, now); // this system is short of something; it may not be later
            }
        }
        u64::MAX
    }

    fn redial(&mut self, key: usize, now: u64) -> std::io::Result<()> {
        let user = self.rows[key].user;
        let (socket, polling) = self.dial_for(key, user, false)?;
        self.dialler.began(key, user, now);
        let row = &mut self.rows[key];
        (row.socket, row.polling) = (socket, polling);
        Ok(())
    }
}
