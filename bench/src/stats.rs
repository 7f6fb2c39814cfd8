//! What one thread counts and times, and how threads' figures become one.

use std::collections::BTreeMap;
use std::ops::{AddAssign, Range};

use crate::hdr::Latency;
use crate::series::{Errors, Slice};

/// Different reasons for broken connections that are kept.
const REASONS_MAX: usize = 10;

/// A message this late is counted as late; at or below it the timer's own grain is seen.
const LATE_NS: u64 = 1_000_000;

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
    /// From a break to being in the namespace again.
    pub recovery: Latency,
    /// What became of each storm or kill.
    pub disruptions: Vec<Disrupted>,
    /// Beside sending.
    pub acts: Acts,
    /// When the last disruption was.
    disrupted_ns: u64,
    /// The plain counts of the seconds handed over.
    counts: Counts,
    /// The second that is not over.
    now: Slice,
}

/// What became of a storm or a kill, on one thread.
#[derive(Clone)]
pub struct Disrupted {
    /// When it was.
    at_ns: u64,
    /// Connections it broke.
    pub interrupted: u64,
    /// From the break to being in the namespace again, of those that came back.
    pub recovery: Latency,
    /// When the last of them was back.
    pub last_back_ns: u64,
    /// Longest wait for the ack of a message due after it and before the next.
    pub ack_ns_max: u64,
}

impl Disrupted {
    fn new(at_ns: u64) -> Disrupted {
        Disrupted { at_ns, interrupted: 0, recovery: Latency::of_second(), last_back_ns: 0, ack_ns_max: 0 }
    }
}

/// What was done beside sending.
#[derive(Clone)]
pub struct Acts {
    /// Typing events sent.
    pub typing_sent: u64,
    /// Typing events heard.
    pub typing_heard: u64,
    /// From the moment a page of history should have been asked for to its answer.
    pub history: Latency,
    /// Pages of history that were refused.
    pub history_refused: u64,
    /// Pages of history that never came, on connections that are still there.
    pub history_unanswered: u64,
    /// Connections dropped by their own client, in the mix.
    pub reconnects: u64,
    /// Connections broken because the mix, a storm or a kill wanted it.
    pub interrupted: u64,
    /// Returns after which the server could not tell all that was missed.
    pub gaps: u64,
    /// Slow readers that the server closed.
    pub slow_closed: u64,
}

impl Acts {
    fn new() -> Acts {
        Acts {
            typing_sent: 0,
            typing_heard: 0,
            history: Latency::of_run(),
            history_refused: 0,
            history_unanswered: 0,
            reconnects: 0,
            interrupted: 0,
            gaps: 0,
            slow_closed: 0,
        }
    }

    fn merge(&mut self, other: &Acts) {
        self.typing_sent += other.typing_sent;
        self.typing_heard += other.typing_heard;
        self.history.add(&other.history);
        self.history_refused += other.history_refused;
        self.history_unanswered += other.history_unanswered;
        self.reconnects += other.reconnects;
        self.interrupted += other.interrupted;
        self.gaps += other.gaps;
        self.slow_closed += other.slow_closed;
    }
}

/// Plain counts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Connections that became ready.
    pub connected: u64,
    /// Messages sent.
    pub sent: u64,
    /// Messages that left more than a millisecond after their time.
    pub late: u64,
    /// The latest, in ns.
    pub lag_ns_max: u64,
    /// Granted.
    pub acked: u64,
    /// First deliveries, correct ones.
    pub delivered: u64,
    /// Acks that arrived within the measured window.
    pub acked_in_window: u64,
    /// Deliveries that arrived within the measured window.
    pub delivered_in_window: u64,
    /// Faults seen on the way: duplicated, out of order, foreign.
    pub faults: u64,
    /// What went wrong otherwise.
    pub errors: Errors,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        self.connected += other.connected;
        self.sent += other.sent;
        self.late += other.late;
        self.lag_ns_max = self.lag_ns_max.max(other.lag_ns_max);
        self.acked += other.acked;
        self.delivered += other.delivered;
        self.acked_in_window += other.acked_in_window;
        self.delivered_in_window += other.delivered_in_window;
        self.faults += other.faults;
        self.errors += other.errors;
    }
}

impl Tally {
    /// All zero.
    pub fn new() -> Tally {
        let (none, latency) = (Reasons::default, Latency::of_run);
        Tally {
            handshake: latency(),
            ack: latency(),
            delivery: latency(),
            failed: none(),
            dropped: none(),
            refusals: none(),
            others: none(),
            recovery: latency(),
            disruptions: vec![],
            acts: Acts::new(),
            disrupted_ns: u64::MAX,
            counts: Counts::default(),
            now: Slice::new(),
        }
    }

    /// The plain counts until now.
    pub fn counts(&self) -> Counts {
        let mut counts = self.counts;
        counts += self.now.counts;
        counts
    }

    /// Ends a second: gives what was counted in it. `faults` is how many the ledger has noticed so far.
    pub fn roll(&mut self, faults: u64) -> Slice {
        self.now.counts.faults = faults.saturating_sub(self.counts.faults);
        self.counts += self.now.counts;
        std::mem::replace(&mut self.now, Slice::new())
    }

    /// A connection dialled at `dialled_ns` is ready.
    pub fn ready(&mut self, dialled_ns: u64, now_ns: u64) {
        self.handshake.note(dialled_ns, now_ns);
        self.now.counts.connected += 1;
    }

    /// A connection could not be made.
    pub fn failed(&mut self, why: &str) {
        self.failed.note(why, 1);
        self.now.counts.errors.failed += 1;
    }

    /// A connection broke.
    pub fn dropped(&mut self, why: &str) {
        self.dropped.note(why, 1);
        self.now.counts.errors.dropped += 1;
    }

    /// The storm or kill of that number (from 1) happened at `at_ns`.
    pub fn disrupted(&mut self, number: u64, at_ns: u64) {
        while (self.disruptions.len() as u64) < number {
            self.disruptions.push(Disrupted::new(at_ns));
        }
        self.disrupted_ns = at_ns;
    }

    /// A connection was broken on purpose.
    pub fn interrupted(&mut self) {
        self.acts.interrupted += 1;
    }

    /// A connection is back that a storm or a kill broke (`disrupted`), or something else.
    pub fn back(&mut self, disrupted: bool, since_ns: u64, now_ns: u64) {
        self.now.counts.connected += 1;
        self.recovery.note(since_ns, now_ns);
        if let Some(by) = self.disruption_of(since_ns).filter(|_| disrupted) {
            by.interrupted += 1;
            by.recovery.note(since_ns, now_ns);
            by.last_back_ns = by.last_back_ns.max(now_ns);
        }
    }

    /// A connection that a storm or a kill broke never came back.
    pub fn stayed_away(&mut self, since_ns: u64) {
        if let Some(by) = self.disruption_of(since_ns) {
            by.interrupted += 1;
        }
    }

    /// The storm or kill that broke a connection at that moment: the last before it.
    fn disruption_of(&mut self, since_ns: u64) -> Option<&mut Disrupted> {
        self.disruptions.iter_mut().rfind(|disrupted| disrupted.at_ns <= since_ns)
    }

    /// A message leaves now that should have left at `at_ns`.
    pub fn sent(&mut self, at_ns: u64, now_ns: u64) {
        let lag = now_ns.saturating_sub(at_ns);
        let counts = &mut self.now.counts;
        counts.sent += 1;
        counts.late += u64::from(lag > LATE_NS);
        counts.lag_ns_max = counts.lag_ns_max.max(lag);
    }

    /// A message was due that its connection could not take.
    pub fn unsent(&mut self) {
        self.now.counts.errors.unsent += 1;
    }

    /// A message was granted.
    pub fn acked(&mut self, window: &Range<u64>, at_ns: u64, now_ns: u64) {
        self.now.counts.acked += 1;
        self.now.counts.acked_in_window += u64::from(window.contains(&now_ns));
        self.now.ack.note(at_ns, now_ns);
        if at_ns > self.disrupted_ns
            && let Some(last) = self.disruptions.last_mut()
        {
            last.ack_ns_max = last.ack_ns_max.max(now_ns.saturating_sub(at_ns));
        }
        if window.contains(&at_ns) {
            self.ack.note(at_ns, now_ns);
        }
    }

    /// A message was not granted.
    pub fn refused(&mut self, answer: &str) {
        self.refusals.note(answer, 1);
        self.now.counts.errors.refused += 1;
    }

    /// A packet came that is neither message nor ack.
    pub fn other(&mut self, text: &str) {
        self.others.note(text, 1);
        self.now.counts.errors.other += 1;
    }

    /// A message arrived that was owed.
    pub fn delivered(&mut self, window: &Range<u64>, at_ns: u64, now_ns: u64) {
        self.now.counts.delivered += 1;
        self.now.counts.delivered_in_window += u64::from(window.contains(&now_ns));
        self.now.delivery.note(at_ns, now_ns);
        if window.contains(&at_ns) {
            self.delivery.note(at_ns, now_ns);
        }
    }

    /// Adds another thread's figures, its last second included.
    pub fn merge(&mut self, other: &Tally) {
        for (mine, theirs) in [
            (&mut self.handshake, &other.handshake),
            (&mut self.ack, &other.ack),
            (&mut self.delivery, &other.delivery),
            (&mut self.recovery, &other.recovery),
        ] {
            mine.add(theirs);
        }
        for (mine, theirs) in [
            (&mut self.failed, &other.failed),
            (&mut self.dropped, &other.dropped),
            (&mut self.refusals, &other.refusals),
            (&mut self.others, &other.others),
        ] {
            theirs.0.iter().for_each(|(reason, count)| mine.note(reason, *count));
        }
        self.disrupted(other.disruptions.len() as u64, u64::MAX); // as many, so that they can be added
        for (mine, theirs) in self.disruptions.iter_mut().zip(&other.disruptions) {
            mine.interrupted += theirs.interrupted;
            mine.recovery.add(&theirs.recovery);
            mine.last_back_ns = mine.last_back_ns.max(theirs.last_back_ns);
            mine.ack_ns_max = mine.ack_ns_max.max(theirs.ack_ns_max);
        }
        self.acts.merge(&other.acts);
        self.counts += other.counts();
    }
}
