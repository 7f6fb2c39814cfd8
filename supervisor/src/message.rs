//! What a supervisor and its child say to each other over the lifeline: one JSON object per line.
//!
//! The lifeline is a Unix stream socket, the child's standard input. The first line is the start
//! message, with open file descriptors attached to its first byte. End of stream means that the
//! other process is gone.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Bytes of the start message; it must fit into a fresh socket's buffer (208 KiB by default), so
/// that the supervisor never waits for a child that does not read.
pub(crate) const START_BYTES: usize = 128 << 10;
/// Bytes of one report.
pub(crate) const REPORT_BYTES: usize = 1 << 20;
/// Bytes of one command.
pub(crate) const COMMAND_BYTES: usize = 4 << 10;
/// File descriptors one start message carries: the kernel's SCM_MAX_FD.
pub(crate) const START_FDS: usize = 253;

/// The first line: who the child is and what it works with.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Start {
    pub(crate) role: String,
    pub(crate) id: u16,
    /// Which of the living processes of its role it is: two have the same `id` while one takes over from
    /// the other, and none the same seat. Modulo the number of its role's places it is the `id`.
    pub(crate) seat: u16,
    /// A child whose parent is another process was orphaned before it could ask to die with it.
    pub(crate) supervisor_pid: u32,
    pub(crate) settings: Value,
    /// Names of the attached descriptors, in their order.
    pub(crate) fds: Vec<String>,
}

/// A line from a child.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum FromChild {
    /// It serves; said once. Always `true`.
    Ready(bool),
    /// Its figures, for whoever asks for the status.
    Report(Value),
    /// It does its work; the answer to [`ASK`]. Always `true`.
    Alive(bool),
}

/// A line to a child.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ToChild {
    pub(crate) command: String,
}

/// [`ToChild::command`]: finish what was begun, then exit with 0.
pub(crate) const DRAIN: &str = "drain";
/// [`ToChild::command`]: a successor is there; take nothing new, let clients go little by little, then
/// exit with 0.
pub(crate) const LEAVE: &str = "leave";
/// [`ToChild::command`]: say [`FromChild::Alive`].
pub(crate) const ASK: &str = "ask";

/// A message as its line, newline included.
pub(crate) fn line(message: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_are_the_documented_ones() {
        assert_eq!(line(&FromChild::Alive(true)).unwrap(), b"{\"alive\":true}\n");
        assert_eq!(line(&FromChild::Ready(true)).unwrap(), b"{\"ready\":true}\n");
        let report = FromChild::Report(serde_json::json!({"connections": 3}));
        assert_eq!(line(&report).unwrap(), b"{\"report\":{\"connections\":3}}\n");
        assert_eq!(line(&ToChild { command: DRAIN.to_owned() }).unwrap(), b"{\"command\":\"drain\"}\n");
    }
}
