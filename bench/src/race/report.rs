//! The outcome of a run as a tree of plain figures; `docs/load-test-report.md` describes its JSON.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::faults::Faults;
use super::kills::{Killed, Kills};
use super::stages::Sample;
use super::tally::{Counts, Row, Tally};
use crate::clock::SECOND_NS;
use crate::fail_if::{Count, Figures, Judged, Of};
use crate::hdr::Percentiles;

/// Version of the JSON form; raised when a field changes its meaning or goes, not when one is added.
const SCHEMA: u32 = 1;

/// Everything about one run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RaceReport {
    /// Version of this form.
    pub schema: u32,
    /// The load tester's own version.
    pub version: String,
    /// When the first member's turn came, in ms since 1970 in UTC.
    pub started_unix_ms: u64,
    /// `challenge`.
    pub scenario: String,
    /// The server's address.
    pub target: String,
    /// Seconds after which the run was ended on request, if it was.
    pub ended_early_s: Option<f64>,
    /// Whether no fault was found.
    pub correct: bool,
    /// The verdict in detail.
    pub correctness: Faults,
    /// What was asked for.
    pub plan: Asked,
    /// What was done and heard.
    pub counts: Counts,
    /// Errors by kind.
    pub errors: BTreeMap<String, u64>,
    /// What share of all calls and handshakes, 0 to 1; several errors of one count as such.
    pub error_rate: f64,
    /// Latencies.
    pub latencies: Latencies,
    /// Kills, in order.
    #[serde(default)]
    pub disruptions: Vec<Killed>,
    /// Members that were looked for in the ranking at the end; absent: the server has none.
    #[serde(default)]
    pub ranked: Option<u64>,
    /// The server's processes while all were there, if they were named.
    pub server: Option<Cost>,
    /// Our own CPU seconds while all were there.
    pub generator_cpu_s: f64,
    /// What the run was to be failed for.
    pub thresholds: Vec<Judged>,
    /// What may spoil the figures.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// The run second by second.
    pub series: Vec<Row>,
    /// The distributions: HDR histograms in µs, V2, deflated, in base64.
    pub histograms: Histograms,
}

/// The plan in numbers.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names of the options")]
pub struct Asked {
    pub users: usize,
    pub challenges: Vec<u64>,
    pub connect_rate_per_s: f64,
    pub duration_s: f64,
    pub ping_every_s: f64,
    pub record_every_s: Option<f64>,
    pub quit_percent: f64,
    pub shard: Option<(u32, u32)>,
}

/// All latencies.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Latencies {
    /// From the moment a login should have begun to its token.
    pub login_ms: Percentiles,
    /// Of joining.
    pub join_ms: Percentiles,
    /// Of getting a ticket.
    pub enter_ms: Percentiles,
    /// From having the ticket to `CONNECTED`.
    pub connect_ms: Percentiles,
    /// From `PING` to `PONG`.
    pub pong_ms: Percentiles,
    /// From the moment a record was due to each update about it.
    pub update_ms: Percentiles,
    /// From a break by a kill to `CONNECTED` by a fresh ticket.
    pub recovery_ms: Percentiles,
}

/// The same as histograms.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names of the latencies")]
pub struct Histograms {
    pub login: String,
    pub join: String,
    pub enter: String,
    pub connect: String,
    pub pong: String,
    pub update: String,
    pub recovery: String,
}

/// What the server took while all were there.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Cost {
    /// CPU seconds.
    pub cpu_s: f64,
    /// Of all cores of this machine, in percent.
    pub cpu_percent: f64,
    /// Memory before the first member.
    pub rss_bytes_idle: u64,
    /// When all were there.
    pub rss_bytes_connected: u64,
    /// When they had stayed.
    pub rss_bytes_end: u64,
}

/// What a report is made of beside what was counted.
pub struct Parts {
    /// The server's address.
    pub target: String,
    /// When it began.
    pub started_unix_ms: u64,
    /// When it was ended early, in ns of the run's clock.
    pub ended_ns: Option<u64>,
    /// The plan.
    pub asked: Asked,
    /// The verdict.
    pub faults: Faults,
    /// Members that were looked for in the ranking.
    pub ranked: Option<u64>,
    /// Second by second.
    pub rows: Vec<Row>,
    /// At the beginning, when all were there, and when they had stayed.
    pub samples: Vec<Sample>,
}

impl RaceReport {
    /// Everything together, its conditions not yet judged.
    pub fn new(parts: Parts, tally: &Tally, kills: &Kills) -> RaceReport {
        let Parts { target, started_unix_ms, ended_ns, asked, faults, ranked, rows, samples } = parts;
        let (first, last) = (samples.first().copied(), samples.last().copied().unwrap_or_default());
        let before = samples.get(1).copied().filter(|_| samples.len() > 2).or(first).unwrap_or_default();
        let into_s =
            |at_ns: u64| at_ns.saturating_sub(first.map_or(0, |one| one.at_ns)) as f64 / SECOND_NS as f64;
        let errors = tally.errors() + faults.unanswered;
        RaceReport {
            schema: SCHEMA,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_unix_ms,
            scenario: "challenge".to_owned(),
            target,
            ended_early_s: ended_ns.map(into_s),
            correct: faults.total() == 0,
            correctness: faults,
            plan: asked,
            counts: tally.counts,
            errors: tally.errors.clone(),
            error_rate: errors as f64 / tally.counts.operations.max(1) as f64,
            latencies: Latencies {
                login_ms: tally.login.run.percentiles(),
                join_ms: tally.join.run.percentiles(),
                enter_ms: tally.enter.run.percentiles(),
                connect_ms: tally.connect.run.percentiles(),
                pong_ms: tally.pong.run.percentiles(),
                update_ms: tally.update.run.percentiles(),
                recovery_ms: kills.recovery.percentiles(),
            },
            disruptions: kills.told(),
            ranked,
            server: cost(first.unwrap_or_default(), before, last),
            generator_cpu_s: last.own_cpu_s - before.own_cpu_s,
            thresholds: vec![],
            warnings: vec![],
            series: rows,
            histograms: Histograms {
                login: tally.login.run.encode(),
                join: tally.join.run.encode(),
                enter: tally.enter.run.encode(),
                connect: tally.connect.run.encode(),
                pong: tally.pong.run.encode(),
                update: tally.update.run.encode(),
                recovery: kills.recovery.encode(),
            },
        }
    }

    /// 1 when something is wrong or a condition broken, 2 when nobody came, a condition could not be
    /// judged, a kill could not be done or somebody ended it early, else 0.
    pub fn exit_code(&self) -> u8 {
        let broken = self.thresholds.iter().any(|judged| judged.broken == Some(true));
        let unjudged = self.thresholds.iter().any(|judged| judged.broken.is_none());
        let undone = self.disruptions.iter().any(|kill| kill.failed.is_some());
        let in_part = self.counts.connected == 0 || self.ended_early_s.is_some() || unjudged || undone;
        match (self.correct && !broken, in_part) {
            (false, _) => 1,
            (true, true) => 2,
            (true, false) => 0,
        }
    }
}

fn cost(first: Sample, before: Sample, after: Sample) -> Option<Cost> {
    let (idle, from, to) = (first.server?, before.server?, after.server?);
    let seconds = after.at_ns.saturating_sub(before.at_ns) as f64 / SECOND_NS as f64;
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as f64;
    let cpu_s = to.cpu_s - from.cpu_s;
    Some(Cost {
        cpu_s,
        cpu_percent: if seconds > 0.0 { cpu_s / seconds / cores * 100.0 } else { 0.0 },
        rss_bytes_idle: idle.rss_bytes,
        rss_bytes_connected: from.rss_bytes,
        rss_bytes_end: to.rss_bytes,
    })
}

impl Figures for RaceReport {
    fn latency(&self, of: Of) -> Option<Percentiles> {
        let found = match of {
            Of::Login => self.latencies.login_ms,
            Of::Join => self.latencies.join_ms,
            Of::Enter => self.latencies.enter_ms,
            Of::Connect => self.latencies.connect_ms,
            Of::Pong => self.latencies.pong_ms,
            Of::Update => self.latencies.update_ms,
            Of::Recovery => self.latencies.recovery_ms,
            Of::Delivery | Of::Ack | Of::History | Of::Search => return None,
        };
        Some(found).filter(|found| found.count > 0)
    }

    fn count(&self, count: Count) -> Option<f64> {
        let found = &self.correctness;
        let number = match count {
            Count::Lost => found.lost,
            Count::Duplicated => found.duplicated,
            Count::Reordered => found.out_of_order,
            Count::Foreign => found.foreign,
            Count::Unanswered => found.unanswered,
            Count::Errors => self.errors.values().sum::<u64>() + found.unanswered,
            Count::Failed => (self.plan.users as u64).saturating_sub(self.counts.connected),
            Count::Dropped => self.counts.dropped,
            _ => return None,
        };
        Some(number as f64)
    }

    fn percent(&self, count: Count) -> Option<f64> {
        (count == Count::Errors).then_some(self.error_rate * 100.0)
    }

    fn memory(&self) -> Option<f64> {
        let memory = |row: &Row| Some(row.target.as_ref()?.rss_bytes as f64);
        self.series.iter().filter_map(memory).reduce(f64::max)
    }
}
