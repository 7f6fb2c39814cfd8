//! `minitalk bench`: puts a load on any server that speaks the Minitalk contract over WebSocket,
//! judges whether it was correct, and only then says how fast it was.
//!
//! The judge must not believe the judged, so nothing here is shared with the server: this crate
//! has its own HTTP client, WebSocket frames and Socket.IO packets, and depends on none of ours.
//!
//! # Reading order
//!
//! | module | what it is |
//! |---|---|
//! | [`args`] | what was typed |
//! | `plan`, `clock` | what that means: who sits in which room and on which thread, and at what pace they send |
//! | `run`, `direct`, `stage` | the stages of one measurement: users and rooms, connect, warm up, measure, drain, judge |
//! | `pool`, `dial`, `wait` | one thread's connections: a table, one epoll, one read buffer; whom to dial when |
//! | `load` | what those connections say, and what becomes of what they hear |
//! | `ledger`, `seen`, `judge` | who was told what: lost, duplicated, out of order, foreign |
//! | `socket`, `frame`, `packet`, `mark` | bytes of a connection, of a frame, of a packet, of a message's content |
//! | `rest`, `http` | making users and rooms |
//! | `stats`, [`hdr`] | what one thread counts and times |
//! | [`series`], `track`, [`live`], [`watch`], `procs` | the run second by second, the server's own figures, and what can be shown meanwhile |
//! | [`report`], `sum`, `tell` | all figures together, and how they are told; the JSON form is described in `docs/load-test-report.md` |
//!
//! # What is measured how
//!
//! - A message carries its own number and the time it *should* have left inside its content, so
//!   a delivery explains itself, changed content is noticed, and a stall of the server (or of this
//!   program) shows as latency instead of as fewer samples.
//! - A delivery is never parsed as JSON: three substring searches and one comparison.
//! - The ledger costs nine bytes a message and thread, and one bit for each delivery that is still
//!   owed; it is exact, however late a duplicate comes.
//! - At the end every connection is asked for a WebSocket pong, which can only arrive after
//!   everything the server had already sent to it.

pub mod args;
mod clock;
mod dial;
mod direct;
mod frame;
pub mod hdr;
mod http;
mod judge;
mod ledger;
pub mod live;
mod load;
mod mark;
mod packet;
mod plan;
mod pool;
mod procs;
pub mod report;
mod rest;
mod run;
mod seen;
pub mod series;
mod socket;
mod stage;
mod stats;
mod sum;
mod tell;
mod track;
mod wait;
pub mod watch;

use std::process::ExitCode;

pub use args::{BenchArgs, Scenario};
pub use report::Report;
pub use run::{Failure, measure};

/// Exit code of a run that could not be made, or that lost connections under way.
const EXIT_FAILURE: u8 = 2;

/// Runs one measurement, tells its outcome, and gives the exit code: 0 correct, 1 not correct,
/// 2 could not be judged (bad usage, no server, broken connections).
pub fn run(args: BenchArgs) -> ExitCode {
    let outcome = measure(&args, &mut |_| ())
        .and_then(|report| report.publish(args.json()).map(|()| report).map_err(Failure::Output));
    match outcome {
        Ok(report) => {
            if let Some(why) = report.unsound() {
                eprintln!("minitalk bench: {why}");
            }
            ExitCode::from(report.exit_code())
        }
        Err(failure) => {
            eprintln!("minitalk bench: {failure}");
            ExitCode::from(EXIT_FAILURE)
        }
    }
}
