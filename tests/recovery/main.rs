//! What has been confirmed is there again, whatever happened to the process, the disk or the bytes;
//! and nothing is there that nobody asked for.
//!
//! A real writer on a directory of its own, without a supervisor, spoken to over its socket as a
//! worker does. [`host`] is the vocabulary, [`bad_disk`] plays a disk that fails or loses power.
//!
//! | file | the story |
//! |---|---|
//! | [`looks`] | nicknames and pictures that change |
//! | [`order`] | one order, no gaps, no repetitions, across restarts and files |
//! | [`people`] | users and rooms: what is refused, what a retry is answered |
//! | [`revoked`] | tokens that were ended, and tickets that were not kept |
//! | [`challenges`] | live challenges: who may do what, who was first, what a restart leaves of it |
//! | [`race_sweep`] | the log of challenges cut, changed, forgotten and refused, everywhere |
//! | [`sweep`] | every call to the disk fails once |
//! | [`torn`] | a log that ends anywhere |
//! | [`damage`] | a log that was changed |
//! | [`failing`] | writes and syncs that fail |
//! | [`withheld`] | a disk that refuses and does not let itself be mended: what nobody may be told yet |
//! | [`power`] | a machine that loses power |
//! | [`derived`] | an index that is gone, cut, or garbage |
//! | [`missed`] | a worker that comes back |

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it fails")]

mod bad_disk;
mod challenges;
mod compaction;
mod damage;
mod deleting;
mod derived;
mod failing;
mod host;
mod looks;
mod missed;
mod order;
mod people;
mod power;
mod race_sweep;
mod revoked;
mod sweep;
mod torn;
mod withheld;
mod witness;
