//! The outcome of a run as a tree of plain figures: what JSON holds and the summary is told from.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::fail_if::Judged;
use crate::hdr::Percentiles;
use crate::live::Totals;
use crate::rest;
use crate::series::Row;

/// Version of the JSON form; raised when a field changes its meaning or goes, not when one is added.
pub const SCHEMA: u32 = 1;

/// The verdict.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Correctness {
    /// Acked, but not delivered to a member connected throughout.
    pub lost: u64,
    /// Delivered a second time.
    pub duplicated: u64,
    /// Delivered after something that is later.
    pub out_of_order: u64,
    /// Delivered though never sent like that, or not to that room.
    pub foreign: u64,
    /// Sent, but in the end neither granted nor refused on a connection that is still there.
    pub unanswered: u64,
    /// `seq` if the server numbers its messages, else `content`: order is then judged per sender.
    pub judged_by: Cow<'static, str>,
    /// The first ten of each kind.
    pub examples: BTreeMap<String, Vec<Example>>,
}

/// One fault.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Example {
    /// Name of the user who met it.
    pub who: String,
    /// Index of the user's room.
    pub room: u32,
    /// The message's number in the room, as sent.
    pub message: Option<u32>,
    /// The server's number of it.
    pub seq: Option<u64>,
    /// What is wrong.
    pub what: Cow<'static, str>,
}

impl Correctness {
    /// Nothing lost, duplicated, out of order or foreign, and everything answered.
    pub fn holds(&self) -> bool {
        [self.lost, self.duplicated, self.out_of_order, self.foreign, self.unanswered] == [0; 5]
    }
}

/// Everything about one run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The load tester's own version.
    pub version: String,
    /// When the first connection was dialled, in ms since 1970 in UTC.
    pub started_unix_ms: u64,
    /// The name of the kind of load, of the preset or of the scenario file.
    pub scenario: String,
    /// The server's address.
    pub target: String,
    /// Seconds after which the load was ended on request, if it was.
    #[serde(default)]
    pub ended_early_s: Option<f64>,
    /// Whether no fault was found.
    pub correct: bool,
    /// The verdict in detail.
    pub correctness: Correctness,
    /// What was asked for.
    pub plan: Asked,
    /// Users and rooms made per second.
    pub setup: rest::Pace,
    /// About connections.
    pub connections: Connections,
    /// About messages; absent when none are sent.
    pub messages: Option<Messages>,
    /// The server's processes, if they were named.
    pub server: Option<Server>,
    /// Our own CPU seconds in the measured window.
    pub generator_cpu_s: f64,
    /// Everything counted, over the whole run.
    pub totals: Totals,
    /// What share of all messages due and connections dialled met an error or no answer; 0 to 1.
    pub error_rate: f64,
    /// What was done beside sending.
    #[serde(default)]
    pub actions: Actions,
    /// Storms and kills, in order.
    #[serde(default)]
    pub disruptions: Vec<Disruption>,
    /// What the run was to be failed for.
    #[serde(default)]
    pub thresholds: Vec<Judged>,
    /// About this machine.
    #[serde(default)]
    pub preflight: Preflight,
    /// What the load consisted of, in order.
    pub phases: Vec<Phase>,
    /// The run second by second.
    pub series: Vec<Row>,
    /// The distributions, to be added to those of other reports.
    pub histograms: Histograms,
}

/// What was done beside sending.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Actions {
    /// Typing events sent.
    pub typing_sent: u64,
    /// Typing events heard by others.
    pub typing_heard: u64,
    /// Pages of history asked for over the socket.
    pub history: Action,
    /// Searches over REST.
    pub search: Action,
    /// Connections dropped by their own client and made again.
    pub reconnects: u64,
}

/// One kind of question and its answers.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Action {
    /// From the moment it should have been asked to the answer.
    pub ms: Percentiles,
    /// Not answered, or refused, by reason.
    pub failed: BTreeMap<String, u64>,
}

/// A storm or a kill.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Disruption {
    /// `reconnect storm`, `worker killed` or `storage writer killed`.
    pub what: String,
    /// Seconds since `started_unix_ms`.
    pub at_s: f64,
    /// The process that was killed.
    pub pid: Option<u32>,
    /// Why it could not be done, if it could not.
    pub failed: Option<String>,
    /// Connections it broke.
    pub interrupted: u64,
    /// From the break to being in the namespace again.
    pub recovery_ms: Percentiles,
    /// From it to the last return.
    pub all_back_ms: f64,
    /// Longest wait for the ack of a message due after it and before the next.
    pub ack_ms_max: f64,
}

/// What was found out before the run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Preflight {
    /// Files this program may have open.
    pub file_limit: u64,
    /// Source ports of each address.
    pub ports: u64,
    /// Deliveries per second this machine can read and judge, as tried out.
    pub judges_per_s: f64,
    /// Deliveries per second the load comes to at its height.
    pub asked_per_s: f64,
    /// What may spoil the figures.
    pub warnings: Vec<String>,
}

/// One phase of the load; times in seconds since `started_unix_ms`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Phase {
    /// Its name, as in the series' `phase`.
    pub name: String,
    /// Begin.
    pub from_s: f64,
    /// End.
    pub to_s: f64,
    /// Whether the report's rates and latencies are of it.
    pub measured: bool,
}

/// HDR histograms in µs with three digits: V2, deflated, in base64; empty when nothing was noted.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Histograms {
    /// Of `connections.handshake_ms`.
    pub handshake: String,
    /// Of `messages.ack_ms`.
    pub ack: String,
    /// Of `messages.delivery_ms`.
    pub delivery: String,
    /// Of `connections.recovery_ms`.
    pub recovery: String,
    /// Of `actions.history.ms`.
    pub history: String,
    /// Of `actions.search.ms`.
    pub search: String,
}

/// The plan in numbers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names of the options")]
pub struct Asked {
    pub users: u32,
    pub rooms: u32,
    pub threads: u32,
    pub rate_per_s: Option<f64>,
    pub inflight: Option<u32>,
    #[serde(default)]
    pub shard: Option<(u32, u32)>,
    pub size_bytes: usize,
    pub warmup_s: f64,
    pub duration_s: f64,
}

/// Figures of connections.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Connections {
    /// Became ready.
    pub connected: u64,
    /// Did not, by reason.
    pub failed: BTreeMap<String, u64>,
    /// Broke afterwards, by reason.
    pub dropped: BTreeMap<String, u64>,
    /// Ready ones per second, from the first dial to the last of them.
    pub connects_per_s: f64,
    /// From dialling to being in the namespace, the first time.
    pub handshake_ms: Percentiles,
    /// Broken because the mix, a storm or a kill wanted it.
    #[serde(default)]
    pub interrupted: u64,
    /// Returns after which the server could not tell all that was missed.
    #[serde(default)]
    pub gaps: u64,
    /// From a break to being in the namespace again.
    #[serde(default)]
    pub recovery_ms: Percentiles,
    /// Users on HTTP long polling.
    #[serde(default)]
    pub polling: u64,
    /// Users that never read.
    #[serde(default)]
    pub slow_readers: u64,
    /// Those of them the server closed.
    #[serde(default)]
    pub slow_readers_closed: u64,
}

/// Figures of messages: counts over the whole run, rates and latencies over the measured window.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Messages {
    /// Sent.
    pub sent: u64,
    /// Due, but the connection took no more.
    pub unsent: u64,
    /// Left more than a millisecond after their time.
    pub late: u64,
    /// The latest.
    pub lag_ms_max: f64,
    /// Granted.
    pub acked: u64,
    /// Refused.
    pub refused: u64,
    /// The reasons.
    pub refusals: BTreeMap<String, u64>,
    /// Packets that are neither messages nor acks.
    pub other_packets: BTreeMap<String, u64>,
    /// First deliveries.
    pub delivered: u64,
    /// Acks per second.
    pub acks_per_s: f64,
    /// Deliveries per second.
    pub deliveries_per_s: f64,
    /// Intended send to ack.
    pub ack_ms: Percentiles,
    /// Intended send to each delivery.
    pub delivery_ms: Percentiles,
}

/// Figures of the server's processes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Server {
    /// Processes at the end of the window.
    pub processes: u64,
    /// CPU seconds in the measured window.
    pub cpu_s: f64,
    /// The same for each million deliveries; absent without deliveries.
    pub cpu_s_per_million_deliveries: Option<f64>,
    /// The same for each million acks; absent without acks.
    pub cpu_s_per_million_acks: Option<f64>,
    /// Before the first connection.
    pub rss_bytes_idle: u64,
    /// With all connected, before the load.
    pub rss_bytes_connected: u64,
    /// At the end of the window.
    pub rss_bytes_end: u64,
    /// What the connections added, for each; kernel memory not included.
    pub rss_bytes_per_connection: f64,
}
