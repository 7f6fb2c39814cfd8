//! The stages of a run, and what its threads tell each other: a few counters, added to once per
//! loop turn and never per delivery, and once a second what was counted in it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::SeqCst};

use crate::series::{Pending, Slice};

/// What the threads are to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Dial.
    Connect,
    /// Send, from the start time on.
    Load,
    /// Send what is still due; hear the rest.
    Drain,
    /// Ask for pongs.
    Fence,
    /// Close and return.
    End,
}

/// What threads tell each other.
#[derive(Default)]
pub struct Shared {
    stage: AtomicU8,
    start_ns: AtomicU64,
    connected: AtomicU64,
    last_connected_ns: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
    sent: AtomicU64,
    answered: AtomicU64,
    expected: AtomicU64,
    delivered: AtomicU64,
    silent: AtomicU64,
    fenced: AtomicU64,
    disruptions: AtomicU64,
    disrupted_ns: AtomicU64,
    storms: AtomicU64,
    cut_ns: AtomicU64,
    pending: Mutex<Pending>,
}

impl Shared {
    /// The stage now.
    pub fn stage(&self) -> Stage {
        match self.stage.load(SeqCst) {
            0 => Stage::Connect,
            1 => Stage::Load,
            2 => Stage::Drain,
            3 => Stage::Fence,
            _ => Stage::End,
        }
    }

    /// Goes on to a stage.
    pub fn enter(&self, stage: Stage) {
        self.stage.store(stage as u8, SeqCst);
    }

    /// When the first message is due; known from `Stage::Load` on.
    pub fn start_ns(&self) -> u64 {
        self.start_ns.load(SeqCst)
    }

    /// One more connection is ready.
    pub fn connected(&self, now_ns: u64) {
        self.connected.fetch_add(1, SeqCst);
        self.last_connected_ns.fetch_max(now_ns, SeqCst);
    }

    /// One more could not be made.
    pub fn failed(&self) {
        self.failed.fetch_add(1, SeqCst);
    }

    /// One more broke.
    pub fn dropped(&self) {
        self.dropped.fetch_add(1, SeqCst);
    }

    /// A storm or a kill: from now on what breaks, breaks because of it.
    pub fn disrupt(&self, now_ns: u64, storm: bool) {
        self.disrupted_ns.store(now_ns, SeqCst);
        self.disruptions.fetch_add(1, SeqCst);
        self.storms.fetch_add(u64::from(storm), SeqCst);
    }

    /// How many disruptions and how many of them storms there were, and when the last was.
    pub fn disruptions(&self) -> (u64, u64, u64) {
        (self.disruptions.load(SeqCst), self.storms.load(SeqCst), self.disrupted_ns.load(SeqCst))
    }

    /// What a thread counted in a second that has ended.
    pub fn hand_over(&self, unix_s: u64, slice: Slice) {
        if let Ok(mut pending) = self.pending.lock() {
            pending.add(unix_s, slice);
        }
    }

    /// Takes all that was handed over of seconds up to and with that one.
    pub fn taken(&self, unix_s: u64) -> Slice {
        self.pending.lock().map_or_else(|_| Slice::new(), |mut pending| pending.take(unix_s))
    }

    /// The last second of which anything was handed over and not taken.
    pub fn last_pending(&self) -> Option<u64> {
        self.pending.lock().ok()?.last()
    }

    /// So many more deliveries are owed.
    pub fn expect(&self, deliveries: u64) {
        self.expected.fetch_add(deliveries, SeqCst);
    }

    /// So many more were sent, answered and delivered.
    pub fn progress(&self, sent: u64, answered: u64, delivered: u64) {
        self.sent.fetch_add(sent, SeqCst);
        self.answered.fetch_add(answered, SeqCst);
        self.delivered.fetch_add(delivered, SeqCst);
    }

    /// One more thread has published its last send.
    pub fn silent(&self) {
        self.silent.fetch_add(1, SeqCst);
    }

    /// One more pong came.
    pub fn fenced(&self) {
        self.fenced.fetch_add(1, SeqCst);
    }

    /// The load starts at `start_ns`.
    pub fn load_from(&self, start_ns: u64) {
        self.start_ns.store(start_ns, SeqCst);
        self.enter(Stage::Load);
    }

    /// Nothing that is due from `cut_ns` on is sent any more.
    pub fn cut(&self, cut_ns: u64) {
        self.cut_ns.store(cut_ns, SeqCst);
        self.enter(Stage::Drain);
    }

    /// When the load was ended early; known from `Stage::Drain` on.
    pub fn cut_ns(&self) -> Option<u64> {
        Some(self.cut_ns.load(SeqCst)).filter(|cut| *cut > 0)
    }

    /// Connections made, failed and broken so far.
    pub fn connections(&self) -> (u64, u64, u64) {
        (self.connected.load(SeqCst), self.failed.load(SeqCst), self.dropped.load(SeqCst))
    }

    /// When the latest connection became ready.
    pub fn last_connected_ns(&self) -> u64 {
        self.last_connected_ns.load(SeqCst)
    }

    /// Answers and deliveries so far: while they grow, something is still arriving.
    pub fn arrived(&self) -> (u64, u64) {
        (self.answered.load(SeqCst), self.delivered.load(SeqCst))
    }

    /// Whether all threads have sent all, and all that is owed for it has come.
    pub fn settled(&self, threads: u32) -> bool {
        self.silent.load(SeqCst) == u64::from(threads)
            && self.answered.load(SeqCst) == self.sent.load(SeqCst)
            && self.delivered.load(SeqCst) >= self.expected.load(SeqCst)
    }

    /// Deliveries that have come, of those owed.
    pub fn deliveries(&self) -> (u64, u64) {
        (self.delivered.load(SeqCst), self.expected.load(SeqCst))
    }

    /// Pongs so far.
    pub fn pongs(&self) -> u64 {
        self.fenced.load(SeqCst)
    }
}
