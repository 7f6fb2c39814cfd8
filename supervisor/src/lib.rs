//! Starts, watches and replaces the processes of one host, and ends them in order.
//!
//! # Map
//!
//! | module | what it is |
//! |---|---|
//! | [`host`] | the one loop, which waits for everything at once |
//! | [`crew`], [`slot`] | the phases of a host's life: who is replaced, drained, killed when |
//! | [`staffing`](crew::staffing) | who is started where, and with what |
//! | [`account`](crew::account) | what the host says about itself |
//! | [`change`](crew::change) | how all children are replaced while the host serves |
//! | [`handover`], [`inherited`] | how another executable takes over in this process: going and coming |
//! | [`restart`] | whether and when a dead child is started again; pure |
//! | [`pulse`] | whether a living child still does its work; pure |
//! | [`spawn`] | a child process, from its start to its end |
//! | [`lifeline`], [`message`], [`lines`] | what supervisor and child say to each other |
//! | [`child`] | the child's side of it: what every role calls first |
//! | [`listeners`] | the listening sockets, which outlive every worker |
//! | [`lock`] | one host per data directory |
//! | [`control`], [`status`], [`rates`] | what the host answers about itself |
//! | [`signals`], [`notify`], [`unix`] | the system's side: signals, systemd, long socket paths |
//!
//! # Order of a start
//!
//! Each step can fail with nothing to take back but what the system takes back itself: open the
//! [`Listeners`], take the [`Lock`], then [`run`], which makes the private sockets, starts the storage
//! child, then the workers, and says "ready" last.
//!
//! Deliberately absent: threads, an async runtime, client data, and any knowledge of what the
//! children do. A child can be started from here at any time, also the thousandth.

pub mod child;
mod control;
mod crew;
mod error;
mod handover;
mod host;
mod inherited;
mod lifeline;
mod lines;
mod listeners;
mod lock;
mod message;
mod notify;
mod pulse;
mod rates;
mod restart;
mod signals;
mod slot;
mod spawn;
mod status;
pub mod unix;
mod usage;

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use control::{ask_status, ask_to_upgrade};
pub use error::StartError;
pub use handover::{Executable, TAKE_OVER, TRY, say_understood, tried};
pub use host::Outcome;
pub use inherited::{Inherited, Next};
pub use listeners::Listeners;
pub use lock::Lock;
pub use notify::Notify;
pub use spawn::Program;

/// Begins every line for the operator, and is what the processes are called.
pub const NAME: &str = "minitalk";
/// Directory, within the data directory, of the private sockets.
pub const RUN_DIR: &str = "run";
/// The storage child's socket in [`RUN_DIR`].
pub const STORAGE_SOCKET: &str = "storage.sock";
/// The supervisor's own socket in [`RUN_DIR`], where it answers about the host.
pub const CONTROL_SOCKET: &str = "control.sock";

/// Everything a host is started with.
#[derive(Debug)]
pub struct Plan {
    /// The open listening sockets, made for `workers`.
    pub listeners: Listeners,
    /// The locked data directory.
    pub lock: Lock,
    /// Worker processes.
    pub workers: u16,
    /// What a reload may change.
    pub settings: Settings,
    /// What each child is started with.
    pub program: Program,
    /// What takes this process's place at an upgrade.
    pub executable: Executable,
    /// What systemd wants to be told.
    pub notify: Notify,
}

/// The part of a [`Plan`] that can be read anew while the host serves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Longest time from a stop signal to the end, or from a successor to the end of a process; whoever
    /// is not gone by then is killed.
    pub drain_timeout: Duration,
    /// Longest time a child may leave the question whether it is alive without an answer; then it is
    /// killed and replaced.
    pub hang_timeout: Duration,
    /// Longest time that a process which is to take over may need to get ready; then the change is
    /// taken back.
    pub ready_timeout: Duration,
    /// Handed to each child as they are, at most 128 KiB of JSON.
    pub for_children: Value,
}

/// What a reload has found.
#[derive(Debug)]
pub struct Reloaded {
    /// The settings from now on.
    pub settings: Settings,
    /// The storage child is to be replaced as well: something it uses is different.
    pub storage: bool,
    /// Lines for the operator: what is different.
    pub notes: Vec<String>,
}

/// Reads the settings anew, given those in use. An error is one
/// line for the operator; then nothing changes.
pub type Reload<'a> = &'a mut dyn FnMut(&Settings) -> Result<Reloaded, String>;

/// Runs a host until it is stopped or cannot go on. All its processes are gone when this returns.
///
/// `reload` is called on SIGHUP. On SIGUSR2 the process may go on as another executable, which calls
/// [`Inherited::take_up`]. Errors only come before the first child is started. Call on the main thread of a process that has
/// no other: signals are blocked for the whole process, and children die with the calling thread.
pub fn run(plan: Plan, reload: Reload<'_>) -> Result<Outcome, StartError> {
    host::run(plan, reload)
}

/// `data_dir/run`
fn run_dir(lock: &Lock) -> PathBuf {
    lock.data_dir().join(RUN_DIR)
}
