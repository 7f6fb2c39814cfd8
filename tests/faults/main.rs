//! A real server on real small file systems, and faults that its kernel makes: a full disk, errors, a
//! loss of power, a clock that jumps. Clients post all the while, and a checker compares what they were
//! told with what is in the log.
//!
//! Needs root, loop devices, and the packages strace, xfsprogs, e2fsprogs and libfaketime; a test that
//! can't have what it needs fails and says so.
//!
//! | file | the story |
//! |---|---|
//! | [`volume`] | a small file system of our own |
//! | [`crew`] | clients that note what they are told, and the checker |
//! | [`full`] | a disk that is full, and is not any more |
//! | [`failing`] | system calls that fail |
//! | [`power`] | a machine that loses power |
//! | [`clock`] | a clock that jumps |

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it fails")]

#[path = "../common/mod.rs"]
mod common;

mod clock;
mod crew;
mod failing;
mod full;
mod power;
mod volume;
