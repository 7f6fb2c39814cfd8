//! Starts, watches and replaces the processes of a host.

pub mod child;
mod lines;
mod message;
pub mod unix;
