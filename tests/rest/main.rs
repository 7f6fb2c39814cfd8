//! Accounts, rooms and history over REST, and every way to get a call wrong.
//!
//! | file | the story |
//! |---|---|
//! | [`accounts`] | signing up and logging in, one by one and in batches |
//! | [`bodies`] | bodies that come too slowly, never, or too many at once |
//! | [`callers`] | tokens that are good and tokens that are not |
//! | [`cors`] | which pages may read the answers |
//! | [`members`] | members of challenges, and how load tests log them in |
//! | [`names`] | one name, however a client spells it |
//! | [`rooms`] | rooms: made, listed, entered and left |
//! | [`history`] | what was said, read again, also after a restart |
//! | [`tokens`] | tickets, logging out everywhere, other passwords |
//! | [`surface`] | paths and methods that are not there |
//! | [`operators`] | what operators and load balancers ask |
#![allow(clippy::expect_used, reason = "tests")]

#[path = "../common/mod.rs"]
mod common;

mod accounts;
mod bodies;
mod callers;
mod cors;
mod history;
mod members;
mod names;
mod operators;
mod rooms;
mod surface;
mod tokens;
