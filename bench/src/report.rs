//! The outcome of a run as a tree of plain figures: what JSON holds and the summary is told from.

use serde::Serialize;
use std::collections::BTreeMap;

use crate::rest;

/// The verdict.
#[derive(Clone, Debug, Default, Serialize)]
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
    pub judged_by: &'static str,
    /// The first ten of each kind.
    pub examples: BTreeMap<&'static str, Vec<Example>>,
}

/// One fault.
#[derive(Clone, Debug, Serialize)]
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
    pub what: &'static str,
}

impl Correctness {
    /// Nothing lost, duplicated, out of order or foreign, and everything answered.
    pub fn holds(&self) -> bool {
        [self.lost, self.duplicated, self.out_of_order, self.foreign, self.unanswered] == [0; 5]
    }
}

/// Everything about one run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// `connect`, `fanout` or `ingest`.
    pub scenario: &'static str,
    /// The server's address.
    pub target: String,
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
}

/// The plan in numbers.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "the names of the options")]
pub struct Asked {
    pub users: u32,
    pub rooms: u32,
    pub threads: u32,
    pub rate_per_s: Option<f64>,
    pub inflight: Option<u32>,
    pub size_bytes: usize,
    pub warmup_s: f64,
    pub duration_s: f64,
}

/// Figures of connections.
#[derive(Clone, Debug, Serialize)]
pub struct Connections {
    /// Became ready.
    pub connected: u64,
    /// Did not, by reason.
    pub failed: BTreeMap<String, u64>,
    /// Broke afterwards, by reason.
    pub dropped: BTreeMap<String, u64>,
    /// Ready ones per second, from the first dial to the last of them.
    pub connects_per_s: f64,
    /// From dialling to being in the namespace.
    pub handshake_ms: Percentiles,
}

/// Figures of messages: counts over the whole run, rates and latencies over the measured window.
#[derive(Clone, Debug, Serialize)]
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
#[derive(Clone, Debug, Serialize)]
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

/// A distribution in milliseconds.
#[derive(Clone, Debug, Default, Serialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Percentiles {
    pub count: u64,
    pub mean: f64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p99_9: f64,
    pub p99_99: f64,
    pub max: f64,
}
