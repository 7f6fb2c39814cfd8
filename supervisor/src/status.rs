//! The host as one JSON object: for `status`, and for the workers that answer `/ready` and the like.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use nix::unistd::{SysconfVar, sysconf};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::usage::Usage;

/// What a storage child's report says under `disk` while all is well.
const DISK_OK: &str = "ok";

/// The report of a process that has made none: an empty object.
pub(crate) static NO_REPORT: LazyLock<Value> = LazyLock::new(|| Value::Object(Map::new()));

#[derive(Debug, Serialize)]
pub(crate) struct Status<'a> {
    pub(crate) ready: bool,
    /// Empty when ready.
    pub(crate) reason: String,
    pub(crate) listen: &'a [SocketAddr],
    pub(crate) data_dir: &'a Path,
    /// The last change, or the one that goes on.
    pub(crate) change: &'a LastChange,
    pub(crate) processes: Vec<ProcessStatus<'a>>,
}

/// A change of the host: a reload or an upgrade.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct LastChange {
    /// How many changes there have been; 0: none.
    pub(crate) number: u32,
    /// `reload`, `upgrade`; empty: none.
    pub(crate) kind: String,
    /// `running`, `done` or `failed`.
    pub(crate) state: String,
    /// Why it failed.
    pub(crate) reason: String,
}

/// One row: a process, or the place of one that is being replaced (`pid` 0).
#[derive(Debug, Serialize)]
pub(crate) struct ProcessStatus<'a> {
    pub(crate) role: &'static str,
    pub(crate) id: u16,
    pub(crate) pid: u32,
    pub(crate) uptime_s: f64,
    pub(crate) restarts: u32,
    pub(crate) hangs: u32,
    pub(crate) rss_bytes: u64,
    /// None: it is not there.
    pub(crate) usage: Option<Usage>,
    pub(crate) connections: u64,
    pub(crate) ready: bool,
    /// Which change of the host it was started by; 0: the start.
    pub(crate) generation: u32,
    /// It has a successor and lets its clients go.
    pub(crate) leaving: bool,
    pub(crate) report: &'a Value,
    pub(crate) rates: Map<String, Value>,
}

/// `connections` of a report; 0 where it has none.
pub(crate) fn connections(report: &Value) -> u64 {
    report["connections"].as_u64().unwrap_or(0)
}

/// What a storage report says is wrong with the disk, if anything.
pub(crate) fn disk_fault(report: &Value) -> Option<&str> {
    match report["disk"].as_str() {
        Some(DISK_OK) => None,
        Some(fault) => Some(fault),
        None => Some("not reported yet"),
    }
}

/// Seconds to the tenth.
pub(crate) fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 10.0).round() / 10.0
}

/// Resident memory of a process in bytes; 0 when it is gone.
pub(crate) fn rss_bytes(pid: u32) -> u64 {
    let pages = fs::read_to_string(format!("/proc/{pid}/statm"))
        .ok()
        .and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok())
        .unwrap_or(0);
    pages * page_bytes()
}

fn page_bytes() -> u64 {
    let size = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
    size.and_then(|size| u64::try_from(size).ok()).unwrap_or(4096)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn this_process_has_memory_and_a_gone_one_has_none() {
        assert!(rss_bytes(std::process::id()) > 100_000);
        assert_eq!(rss_bytes(u32::MAX), 0);
    }

    #[test]
    fn reports_are_read_where_they_say_something() {
        assert_eq!(connections(&json!({"connections": 7})), 7);
        assert_eq!(connections(&json!({"connections": "many"})), 0);
        assert_eq!(connections(&json!({})), 0);
        assert_eq!(disk_fault(&json!({"disk": "ok"})), None);
        assert_eq!(disk_fault(&json!({"disk": "No space left"})), Some("No space left"));
        assert_eq!(disk_fault(&json!({})), Some("not reported yet"));
    }
}
