//! From what the threads counted and the stages measured to the report, and from there to the
//! exit code.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::plan::{Pace, Plan};
use crate::procs::Usage;
use crate::report::{
    Action, Actions, Asked, Connections, Correctness, Disruption, Histograms, Messages, Phase, Preflight,
    Report, SCHEMA, Server,
};
use crate::rest;
use crate::searches::Searches;
use crate::series::Errors;
use crate::stats::{Counts, Disrupted, Tally};
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
    /// How long was measured in the end.
    pub measured: Duration,
    /// How far the load was when it was ended early, if it was.
    pub ended_early: Option<Duration>,
    /// The phases of the load.
    pub phases: Vec<Phase>,
    /// Storms and kills, without what became of them, and their times.
    pub disruptions: Vec<(Disruption, u64)>,
}

/// Everything a report is made from.
pub struct Parts {
    /// The verdict.
    pub correctness: Correctness,
    /// What the threads counted.
    pub tally: Tally,
    /// What the stages measured.
    pub figures: Figures,
    /// How users and rooms were made.
    pub setup: rest::Pace,
    /// The run second by second.
    pub track: Track,
    /// Searches.
    pub searches: Searches,
    /// What was found out before.
    pub preflight: Preflight,
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
    pub(crate) fn new(plan: &Plan, parts: Parts) -> Report {
        let Parts { correctness, tally, figures, setup, track, searches, preflight } = parts;
        let disruptions = disruptions(&figures, &tally);
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
            acks_per_s: per_s(counts.acked_in_window, figures.measured),
            deliveries_per_s: per_s(counts.delivered_in_window, figures.measured),
            ack_ms: tally.ack.percentiles(),
            delivery_ms: tally.delivery.percentiles(),
        });
        Report {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_unix_ms: track.started_unix_ms(),
            scenario: plan.scenario.clone(),
            target: plan.target.to_string(),
            ended_early_s: figures.ended_early.map(|after| after.as_secs_f64()),
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
                interrupted: tally.acts.interrupted,
                gaps: tally.acts.gaps,
                recovery_ms: tally.recovery.percentiles(),
                polling: plan.polling().into_iter().filter(|polls| *polls).count() as u64,
                slow_readers: plan.slow().into_iter().filter(|slow| *slow).count() as u64,
                slow_readers_closed: tally.acts.slow_closed,
            },
            messages,
            server: Server::of(&figures, &tally),
            generator_cpu_s: figures.after.1 - figures.before.1,
            totals: track.totals,
            actions: actions(&tally, &searches),
            disruptions,
            thresholds: vec![],
            preflight,
            phases: figures.phases,
            series: track.rows,
            histograms: Histograms {
                handshake: tally.handshake.encode(),
                ack: tally.ack.encode(),
                delivery: tally.delivery.encode(),
                recovery: tally.recovery.encode(),
                history: tally.acts.history.encode(),
                search: searches.latency.encode(),
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
        if self.connections.gaps > 0 {
            return Some(format!(
                "{} times a client was away for longer than the server can tell it again",
                self.connections.gaps
            ));
        }
        if let Some(after_s) = self.ended_early_s {
            let whole_s = self.plan.warmup_s + self.plan.duration_s;
            return Some(format!("ended early, after {after_s:.1} of {whole_s:.1} s"));
        }
        let messages = self.messages.as_ref().filter(|messages| messages.acked == 0)?;
        Some(match most(&messages.refusals) {
            Some((_, why)) => format!("the server accepted no message: {why}"),
            None => "no message was sent and accepted".to_owned(),
        })
    }

    /// 0: correct, and no threshold broken. 1: not so. 2: nothing wrong was seen, but it could not be
    /// judged in full.
    pub fn exit_code(&self) -> u8 {
        let broken = self.thresholds.iter().any(|judged| judged.broken == Some(true));
        let open = self.thresholds.iter().any(|judged| judged.broken.is_none())
            || self.disruptions.iter().any(|disruption| disruption.failed.is_some());
        if !self.correct || broken {
            1
        } else if open || self.unsound().is_some() {
            2
        } else {
            0
        }
    }
}

fn actions(tally: &Tally, searches: &Searches) -> Actions {
    let history = &tally.acts;
    let failed = [("refused", history.history_refused), ("not answered", history.history_unanswered)];
    let failed = failed.into_iter().filter(|(_, count)| *count > 0);
    Actions {
        typing_sent: tally.acts.typing_sent,
        typing_heard: tally.acts.typing_heard,
        history: Action {
            ms: tally.acts.history.percentiles(),
            failed: failed.map(|(why, count)| (why.to_owned(), count)).collect(),
        },
        search: Action { ms: searches.latency.percentiles(), failed: searches.failed.0.clone() },
        reconnects: tally.acts.reconnects,
    }
}

/// What became of the storms and kills.
fn disruptions(figures: &Figures, tally: &Tally) -> Vec<Disruption> {
    let became = |((disruption, at_ns), part): (&(Disruption, u64), &Disrupted)| Disruption {
        interrupted: part.interrupted,
        recovery_ms: part.recovery.percentiles(),
        all_back_ms: part.last_back_ns.saturating_sub(*at_ns) as f64 / 1e6,
        ack_ms_max: part.ack_ns_max as f64 / 1e6,
        ..disruption.clone()
    };
    figures.disruptions.iter().zip(&tally.disruptions).map(became).collect()
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
            Pace::Open => rate_per_s = Some(plan.rate),
            Pace::Closed { inflight: each } => inflight = Some(each),
        }
        Asked {
            users: plan.users,
            rooms: plan.rooms,
            threads: plan.threads,
            rate_per_s,
            inflight,
            shard: plan.shard,
            size_bytes: plan.content.bytes(),
            warmup_s: plan.warmup.as_secs_f64(),
            duration_s: plan.duration.as_secs_f64(),
        }
    }
}
