//! The metrics page of a real server, judged by what clients did, by `promtool`, and by a real Prometheus.
//!
//! | file | the story |
//! |---|---|
//! | [`names`] | what is documented is there, and nothing else |
//! | [`sums`] | figures agree with what clients did |
//! | [`deaths`] | processes that are replaced, files that are full |
//! | [`prometheus`] | `promtool` finds no fault, Prometheus scrapes it |
//! | [`page`] | the page, read |
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

#[path = "../common/mod.rs"]
mod common;

mod deaths;
mod names;
mod page;
mod prometheus;
mod sums;
