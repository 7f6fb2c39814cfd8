//! From what the threads counted and the stages measured to the report, and from there to the
//! exit code.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::plan::{Pace, Plan};
use crate::procs::Usage;
use crate::report::{Asked, Connections, Correctness, Histograms, Messages, Phase, Report, SCHEMA, Server};
use crate::rest;
use crate::series::Errors;
use crate::stats::{Counts, Tally};
use crate::track::Track;

/// What the stages measured beside the threads' own figures.
pub struct Figures {
    /// Connections that became ready.
    pub connected: u64,
    /// From the first dial to the last of them.
    pub connecting: Duration,
    /// The server before the first dial.
    pub idle: Option<Usage>,
    /// The server with all connected, before the load.
    pub holding: Option<Usage>,
    /// The server and our CPU seconds at the start of the measured window.
    pub before: (Option<Usage>, f64),
    /// The same at its end.
    pub after: (Option<Usage>, f64),
    /// The phases of the load.
    pub phases: Vec<Phase>,
}

impl Server {
    fn of(figures: &Figures, tally: &Tally) -> Option<Server> {
        let (idle, holding) = (figures.idle?, figures.holding?);
        let (before, after) = (figures.before.0?, figures.after.0?);
        let cpu_s = (after.cpu_s - before.cpu_s).max(0.0);
        let per_million = |count: u64| (count > 0).then(|| cpu_s / count as f64 * 1e6);
        let grown = holding.rss_bytes as f64 - idle.rss_bytes as f64;
        Some(Server {
            processes: after.processes,
            cpu_s,
            cpu_s_per_million_deliveries: per_million(tally.counts().delivered_in_window),
            cpu_s_per_million_acks: per_million(tally.counts().acked_in_window),
            rss_bytes_idle: idle.rss_bytes,
            rss_bytes_connected: holding.rss_bytes,
            rss_bytes_end: after.rss_bytes,
            rss_bytes_per_connection: grown / figures.connected.max(1) as f64,
        })
    }
}

impl Report {
    /// Puts the figures of a run together.
    pub(crate) fn new(
        plan: &Plan,
        correctness: Correctness,
        tally: &Tally,
        figures: Figures,
        setup: rest::Pace,
        track: Track,
    ) -> Report {
        let per_s = |count: u64, time: Duration| count as f64 / time.as_secs_f64().max(1e-9);
        let counts = tally.counts();
        let messages = (plan.pace != Pace::Silent).then(|| Messages {
            sent: counts.sent,
            unsent: counts.errors.unsent,
            late: counts.late,
            lag_ms_max: counts.lag_ns_max as f64 / 1e6,
            acked: counts.acked,
            refused: counts.errors.refused,
            refusals: tally.refusals.0.clone(),
            other_packets: tally.others.0.clone(),
            delivered: counts.delivered,
            acks_per_s: per_s(counts.acked_in_window, plan.duration),
            deliveries_per_s: per_s(counts.delivered_in_window, plan.duration),
            ack_ms: tally.ack.percentiles(),
            delivery_ms: tally.delivery.percentiles(),
        });
        Report {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_unix_ms: track.started_unix_ms(),
            scenario: plan.scenario.clone(),
            target: plan.target.to_string(),
            correct: correctness.holds(),
            error_rate: error_rate(&track.totals.errors, correctness.unanswered, &counts),
            correctness,
            plan: Asked::of(plan),
            setup,
            connections: Connections {
                connected: figures.connected,
                failed: tally.failed.0.clone(),
                dropped: tally.dropped.0.clone(),
                connects_per_s: per_s(figures.connected, figures.connecting),
                handshake_ms: tally.handshake.percentiles(),
            },
            messages,
            server: Server::of(&figures, tally),
            generator_cpu_s: figures.after.1 - figures.before.1,
            totals: track.totals,
            phases: figures.phases,
            series: track.rows,
            histograms: Histograms {
                handshake: tally.handshake.encode(),
                ack: tally.ack.encode(),
                delivery: tally.delivery.encode(),
            },
        }
    }

    /// Why the verdict rests on less than was asked for, if it does.
    pub fn unsound(&self) -> Option<String> {
        let most = |reasons: &BTreeMap<String, u64>| {
            let (why, _) = reasons.iter().max_by_key(|(_, count)| **count)?;
            Some((reasons.values().sum::<u64>(), why.clone()))
        };
        if let Some((count, why)) = most(&self.connections.failed) {
            return Some(format!("{count} of {} connections could not be made: {why}", self.plan.users));
        }
        if let Some((count, why)) = most(&self.connections.dropped) {
            return Some(format!("{count} of {} connections broke during the run: {why}", self.plan.users));
        }
        let messages = self.messages.as_ref().filter(|messages| messages.acked == 0)?;
        Some(match most(&messages.refusals) {
            Some((_, why)) => format!("the server accepted no message: {why}"),
            None => "no message was sent and accepted".to_owned(),
        })
    }

    /// 0: correct. 1: not correct. 2: nothing wrong was seen, but it could not be judged in full.
    pub fn exit_code(&self) -> u8 {
        match (self.correct, self.unsound()) {
            (false, _) => 1,
            (true, Some(_)) => 2,
            (true, None) => 0,
        }
    }
}

/// Errors and silences for each thing that was tried.
fn error_rate(errors: &Errors, unanswered: u64, counts: &Counts) -> f64 {
    let tried = counts.sent + errors.unsent + counts.connected + errors.failed;
    (errors.total() + unanswered) as f64 / tried.max(1) as f64
}

impl Asked {
    fn of(plan: &Plan) -> Asked {
        let (mut rate_per_s, mut inflight) = (None, None);
        match plan.pace {
            Pace::Silent => {}
            Pace::Open { interval_ns } => rate_per_s = Some(1e9 / interval_ns as f64),
            Pace::Closed { inflight: each } => inflight = Some(each),
        }
        Asked {
            users: plan.users,
            rooms: plan.rooms,
            threads: plan.threads,
            rate_per_s,
            inflight,
            size_bytes: plan.size,
            warmup_s: plan.warmup.as_secs_f64(),
            duration_s: plan.duration.as_secs_f64(),
        }
    }
}
