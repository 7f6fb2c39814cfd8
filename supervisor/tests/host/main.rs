//! The supervisor with real processes, as an operator and a fault meet it.
//!
//! | file | a new test about |
//! |---|---|
//! | `start.rs` | what comes up, in which order, and what stops a start |
//! | `restart.rs` | children that die |
//! | `reload.rs` | how all are replaced while the host serves |
//! | `stop.rs` | signals and the end |
//! | `upgrade.rs` | the supervisor becomes another executable |
//! | `watchdog.rs` | children that hang, and what systemd hears |
//! | `control.rs` | the control socket |
//!
//! `harness.rs` starts the host of `examples/host.rs`.

#![allow(clippy::unwrap_used, clippy::panic)] // a test's helpers fail the test

mod control;
mod harness;
mod reload;
mod restart;
mod start;
mod stop;
mod upgrade;
mod watchdog;
