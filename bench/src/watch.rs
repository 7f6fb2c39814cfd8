//! The server, looked at once a second while it is under load: by `/api/stats`, where it offers
//! that, and by `/proc` for the processes named with `--pid`.
//!
//! A thread of its own asks, so that a slow answer delays nothing; until the next answer the last
//! one stands.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::http::Client;
use crate::procs::{Usage, Watched};

/// From one look to the next.
const EVERY: Duration = Duration::from_secs(1);

/// Longest wait for an answer; a server under load may take its time.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the server says of itself, and what the system says of it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Target {
    /// Resident memory of all its processes: by `/api/stats`, else by `--pid`.
    pub rss_bytes: u64,
    /// CPU seconds so far of the processes named by `--pid` and their children.
    pub cpu_s: Option<f64>,
    /// Records waiting for the storage writer.
    pub queue_storage: Option<u64>,
    /// Messages the workers wait for the writer to answer.
    pub queue_unanswered: Option<u64>,
    /// Its processes.
    pub processes: Vec<Process>,
}

/// One of the server's processes, in `/api/stats`' words.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the names of the contract")]
pub struct Process {
    pub role: String,
    pub id: u64,
    pub pid: u32,
    pub restarts: u64,
    pub rss_bytes: u64,
    pub connections: u64,
}

/// The latest look.
#[derive(Default)]
pub struct Watch {
    latest: Mutex<Option<Target>>,
    over: AtomicBool,
}

impl Watch {
    /// Looks once a second until [`Watch::end`].
    pub fn run(&self, target: SocketAddr, watched: &Watched) {
        let mut client = Client::with_patience(target, PATIENCE);
        let mut offers = true;
        while !self.over.load(SeqCst) {
            let begun = Instant::now();
            let mut seen = None;
            if offers {
                match stats(&mut client) {
                    Stats::Page(page) => seen = Some(page),
                    Stats::NotOffered => offers = false,
                    Stats::NoAnswer => {}
                }
            }
            if let Some(usage) = watched.usage() {
                seen = Some(with_usage(seen.unwrap_or_default(), &usage));
            }
            if let (Some(seen), Ok(mut latest)) = (seen, self.latest.lock()) {
                *latest = Some(seen);
            }
            thread::park_timeout(EVERY.saturating_sub(begun.elapsed()));
        }
    }

    /// The thread in [`Watch::run`] returns when it is unparked, at the latest after its next look.
    pub fn end(&self) {
        self.over.store(true, SeqCst);
    }

    /// What was seen last.
    pub fn latest(&self) -> Option<Target> {
        self.latest.lock().ok()?.clone()
    }
}

/// What a server says of itself right now, if it offers that.
pub(crate) fn ask(target: SocketAddr) -> Option<Target> {
    match stats(&mut Client::with_patience(target, PATIENCE)) {
        Stats::Page(page) => Some(page),
        Stats::NotOffered | Stats::NoAnswer => None,
    }
}

enum Stats {
    Page(Target),
    NotOffered,
    NoAnswer,
}

fn stats(client: &mut Client) -> Stats {
    match client.get("/api/stats", None) {
        Ok(answer) if answer.status == 200 => match serde_json::from_slice(&answer.body) {
            Ok(page) => Stats::Page(read(&page)),
            Err(_) => Stats::NotOffered,
        },
        Ok(answer) if (400..500).contains(&answer.status) => Stats::NotOffered,
        _ => Stats::NoAnswer, // it may be starting, or too busy
    }
}

fn read(page: &Value) -> Target {
    let processes: Vec<Process> = page["processes"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|process| Process::deserialize(process).ok())
        .collect();
    Target {
        rss_bytes: processes.iter().map(|process| process.rss_bytes).sum(),
        cpu_s: None,
        queue_storage: page["queues"]["storage"].as_u64(),
        queue_unanswered: page["queues"]["unanswered"].as_u64(),
        processes,
    }
}

fn with_usage(mut seen: Target, usage: &Usage) -> Target {
    if seen.rss_bytes == 0 {
        seen.rss_bytes = usage.rss_bytes;
    }
    seen.cpu_s = Some(usage.cpu_s);
    seen
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_page_is_read_as_far_as_it_goes() {
        let page = json!({
            "processes": [
                {"role": "storage", "id": 0, "pid": 7, "uptime_s": 3, "restarts": 1, "rss_bytes": 100, "connections": 0},
                {"role": "worker", "id": 1, "pid": 8, "rss_bytes": 50, "connections": 12, "report": {}},
            ],
            "queues": {"storage": 5, "unanswered": 6},
        });
        let target = read(&page);
        assert_eq!(
            (target.rss_bytes, target.queue_storage, target.queue_unanswered),
            (150, Some(5), Some(6))
        );
        let worker =
            Process { role: "worker".into(), id: 1, pid: 8, rss_bytes: 50, connections: 12, restarts: 0 };
        assert_eq!(target.processes[1], worker);
        let bare = read(&json!({"uptime": 5}));
        assert_eq!((bare.rss_bytes, bare.queue_storage, bare.processes.len()), (0, None, 0));
    }
}
