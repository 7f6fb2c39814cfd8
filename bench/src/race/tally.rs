//! What is counted and timed during a run, as a whole and second by second.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::lines::Step;
use crate::hdr::{Latency, Percentiles};
use crate::watch::Target;

/// Kinds of error told apart; texts beyond them are counted together.
const KINDS: usize = 100;

/// One second of a run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Row {
    /// 0, 1, 2, … since the run began.
    pub at_s: u64,
    /// `ramp`, `stay`, `quit` or `drain`.
    pub stage: String,
    /// Open at its end.
    pub connections: u64,
    /// Members that came in during it.
    pub connected: u64,
    /// Messages heard.
    pub heard: u64,
    /// Errors of all kinds.
    pub errors: u64,
    /// Faults noticed; what is lost is only known at the end.
    pub faults: u64,
    /// Logins that ended in it.
    pub login_ms: Percentiles,
    /// Tickets that came in it.
    pub enter_ms: Percentiles,
    /// Handshakes that ended in it.
    pub connect_ms: Percentiles,
    /// The three as HDR histograms, so that rows of several machines add up exactly.
    pub login_hdr: String,
    #[allow(missing_docs, reason = "the same of tickets")]
    pub enter_hdr: String,
    #[allow(missing_docs, reason = "the same of handshakes")]
    pub connect_hdr: String,
    /// What the server told last.
    pub target: Option<Target>,
    /// Cores the load tester used.
    pub tester_cores: f64,
}

/// How often what was done or heard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Members whose turn came.
    pub begun: u64,
    /// Got a token.
    pub logged_in: u64,
    /// Took part from then on.
    pub joined: u64,
    /// Took part already.
    pub joined_before: u64,
    /// Tickets.
    pub entered: u64,
    /// `CONNECTED`, the first time.
    pub connected: u64,
    /// Connections that broke though nobody had said so.
    pub dropped: u64,
    /// Connections that a kill broke.
    pub interrupted: u64,
    /// Members that came back with a fresh ticket after either.
    pub reentered: u64,
    /// Reached the end of the course.
    pub finished: u64,
    /// Gave up in the end.
    pub quit: u64,
    /// `PING`s.
    pub pings: u64,
    /// `PONG`s.
    pub pongs: u64,
    /// `RECORD`s.
    pub records: u64,
    /// `USER_ENTERED`s.
    pub heard_entered: u64,
    /// `USER_LEFT`s.
    pub heard_left: u64,
    /// `PARTICIPANT_UPDATE`s.
    pub heard_updates: u64,
    /// Calls and handshakes, whatever came of them.
    pub operations: u64,
}

/// Latencies of one kind.
pub struct Timed {
    /// Of the run.
    pub run: Latency,
    second: Latency,
}

impl Timed {
    fn new() -> Timed {
        Timed { run: Latency::of_run(), second: Latency::of_second() }
    }

    /// Notes one.
    pub fn note(&mut self, from_ns: u64, to_ns: u64) {
        self.run.note(from_ns, to_ns);
        self.second.note(from_ns, to_ns);
    }

    fn roll(&mut self) -> (Percentiles, String) {
        let second = std::mem::replace(&mut self.second, Latency::of_second());
        (second.percentiles(), second.encode())
    }
}

/// Everything counted and timed.
pub struct Tally {
    /// Counts.
    pub counts: Counts,
    /// Errors by kind.
    pub errors: BTreeMap<String, u64>,
    /// From the moment a login should have begun to its token.
    pub login: Timed,
    /// Of joining.
    pub join: Timed,
    /// Of getting a ticket.
    pub enter: Timed,
    /// From having the ticket to `CONNECTED`.
    pub connect: Timed,
    /// From `PING` to `PONG`.
    pub pong: Timed,
    /// From the moment a record was due to each update about it.
    pub update: Timed,
    /// Open now.
    pub connections: u64,
    /// Told by the rows so far: connected, heard, errors, faults.
    told: [u64; 4],
}

impl Tally {
    /// Nothing yet.
    pub fn new() -> Tally {
        Tally {
            counts: Counts::default(),
            errors: BTreeMap::new(),
            login: Timed::new(),
            join: Timed::new(),
            enter: Timed::new(),
            connect: Timed::new(),
            pong: Timed::new(),
            update: Timed::new(),
            connections: 0,
            told: [0; 4],
        }
    }

    /// Notes an error.
    pub fn error(&mut self, what: String) {
        let known = self.errors.len() < KINDS || self.errors.contains_key(&what);
        *self.errors.entry(if known { what } else { "of other kinds".to_owned() }).or_default() += 1;
    }

    /// Notes what a call came to.
    pub fn called(&mut self, step: &Step) {
        self.counts.operations += 1;
        match *step {
            Step::LoggedIn { from_ns, to_ns } => {
                self.counts.begun += 1;
                self.counts.logged_in += 1;
                self.login.note(from_ns, to_ns);
            }
            Step::Joined { from_ns, to_ns, before } => {
                *if before { &mut self.counts.joined_before } else { &mut self.counts.joined } += 1;
                self.join.note(from_ns, to_ns);
            }
            Step::Entered { from_ns, to_ns, .. } => {
                self.counts.entered += 1;
                self.enter.note(from_ns, to_ns);
            }
            Step::Failed { call, .. } => self.counts.begun += u64::from(call == "login"),
        }
    }

    /// Errors of all kinds.
    pub fn errors(&self) -> u64 {
        self.errors.values().sum()
    }

    /// The second that has ended.
    pub fn roll(&mut self, at_s: u64, stage: &str, faults: u64) -> Row {
        let counts = &self.counts;
        let heard = counts.pongs + counts.heard_entered + counts.heard_left + counts.heard_updates;
        let now = [counts.connected + counts.reentered, heard, self.errors(), faults];
        let before = std::mem::replace(&mut self.told, now);
        let [connected, heard, errors, faults] = std::array::from_fn(|one| now[one] - before[one]);
        let (login_ms, login_hdr) = self.login.roll();
        let (enter_ms, enter_hdr) = self.enter.roll();
        let (connect_ms, connect_hdr) = self.connect.roll();
        Row {
            at_s,
            stage: stage.to_owned(),
            connections: self.connections,
            connected,
            heard,
            errors,
            faults,
            login_ms,
            enter_ms,
            connect_ms,
            login_hdr,
            enter_hdr,
            connect_hdr,
            target: None,
            tester_cores: 0.0,
        }
    }
}
