//! The vocabulary of the tests: a real server in a fresh directory, and plain clients for it.
//!
//! Nothing here knows the server's inside: it is started by its command line, watched through
//! `minitalk status --json` and stopped by signals. Waiting is always for a condition.
#![allow(dead_code, unused_imports, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

pub mod layout;
pub mod node;
pub mod rest;
pub mod server;
pub mod socket;

use std::path::Path;
use std::time::{Duration, Instant};

pub use server::{Options, Server};

/// Ends a test that has already failed; no test passes or fails by it otherwise.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Waits for a condition and answers its value.
pub fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(start.elapsed() < DEADLINE, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The whole lines of a log that may be written to meanwhile: what has no line end yet is left out.
pub fn whole_lines(path: &Path) -> Vec<String> {
    let text = std::fs::read(path).unwrap();
    let end = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    std::str::from_utf8(&text[..end]).unwrap().lines().map(str::to_owned).collect()
}

/// Everything below a directory with size, mode and time of change, for "nothing was touched".
pub fn listing(dir: &Path) -> Vec<String> {
    use std::os::unix::fs::MetadataExt;
    let mut lines = Vec::new();
    let mut waiting = vec![dir.to_path_buf()];
    while let Some(path) = waiting.pop() {
        let Ok(data) = path.symlink_metadata() else {
            lines.push(format!("{} is not there", path.display()));
            continue;
        };
        let changed = (data.ctime(), data.ctime_nsec());
        lines.push(format!("{} {} {:o} {changed:?}", path.display(), data.len(), data.mode()));
        if data.is_dir() {
            waiting.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    lines.sort();
    lines
}
