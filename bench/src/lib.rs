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
//! | [`args`], [`scenario`], [`presets`] | what was typed, and what is written in scenario files |
//! | `plan`, `schedule`, `clock` | what that means: who sits in which room and on which thread, and when they send |
//! | `preflight` | whether this machine can do it, and whether the server is ready |
//! | `run`, `direct`, `stage` | the stages of one measurement: users and rooms, connect, warm up, measure, drain, judge |
//! | `pool`, `dial`, `wait` | one thread's connections: a table, one epoll, one read buffer; whom to dial when |
//! | `talk`, `load`, `acts`, `greet` | what those connections say and when, and what becomes of what they hear |
//! | `returns`, `disrupt` | connections that break and come back; storms and kills |
//! | `ledger`, `seen`, `judge` | who was told what: lost, duplicated, out of order, foreign |
//! | `polling` | long polling in the place of a WebSocket |
//! | `socket`, `frame`, `packet`, `mark` | bytes of a connection, of a frame, of a packet, of a message's content |
//! | `rest`, `searches`, `http` | making users and rooms; searching |
//! | `stats`, [`hdr`] | what one thread counts and times |
//! | [`series`], `track`, [`live`], [`watch`], `procs` | the run second by second, the server's own figures, and what can be shown meanwhile |
//! | [`report`], `sum`, [`merge`], `shards`, [`fail_if`], `tell` | all figures together, and how they are told; the JSON form is described in `docs/load-test-report.md` |
//! | `menu`, `screen`, `interrupt` | choosing on a terminal, the run on it, and ending it early |
//! | `probe`, `duplex` | the connection test |
//! | [`race`] | members of live challenges: everything of `bench challenge` and `bench members` |
//! | [`page`], `charts`, `chart`, `escape` | the report as one HTML file: its text, which charts it has, how any chart is drawn |
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

mod acts;
pub mod args;
mod chart;
mod charts;
mod clock;
mod dial;
mod direct;
mod disrupt;
mod duplex;
mod escape;
pub mod fail_if;
mod frame;
mod greet;
pub mod hdr;
mod http;
mod interrupt;
mod judge;
mod ledger;
pub mod live;
mod load;
mod mark;
mod menu;
pub mod merge;
mod packet;
pub mod page;
mod plan;
mod polling;
mod pool;
mod preflight;
pub mod presets;
mod probe;
mod procs;
pub mod race;
pub mod report;
mod rest;
mod returns;
mod run;
pub mod scenario;
mod schedule;
mod screen;
mod searches;
mod seen;
pub mod series;
mod shards;
mod socket;
mod stage;
mod stats;
mod sum;
mod talk;
mod tell;
mod track;
mod wait;
pub mod watch;

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use rustix::termios::QueueSelector;

use args::Output;
pub use args::{BenchArgs, Scenario};
use menu::{Choice, Menu};
use merge::{Named, Written};
pub use report::Report;
pub use run::{Failure, measure};
use screen::Screen;

/// Exit code of a run that could not be made, or that lost connections under way.
pub(crate) const EXIT_FAILURE: u8 = 2;

/// Does what was asked for, tells its outcome, and gives the exit code: 0 correct and no threshold
/// broken, 1 not so, 2 could not be judged (bad usage, no server, broken connections).
pub fn run(args: BenchArgs) -> ExitCode {
    ExitCode::from(carry_out(&args))
}

/// Asks on the terminal what to do until somebody has had enough. Without a terminal nobody is asked:
/// `None`.
pub fn ask() -> Option<ExitCode> {
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        return None;
    }
    let mut menu = Menu::new(io::stdin().lock(), io::stdout());
    loop {
        // What was typed during a run was not meant for the menu. Where that fails it is read as an answer.
        rustix::termios::tcflush(io::stdin(), QueueSelector::IFlush).ok();
        match menu.choose() {
            Ok(Choice::Run(args, line)) => {
                if menu.tell(&format!("\n{line}\n")).is_ok() {
                    carry_out(&args);
                }
            }
            Ok(Choice::Exit) => return Some(ExitCode::SUCCESS),
            Err(why) => {
                eprintln!("minitalk bench: the terminal is gone: {why}");
                return Some(ExitCode::from(EXIT_FAILURE));
            }
        }
    }
}

fn carry_out(args: &BenchArgs) -> u8 {
    let output = args.scenario.output();
    // Not after an hour of load.
    if let Err(why) = tell::can_write(output) {
        eprintln!("minitalk bench: {}", Failure::Output(why));
        return EXIT_FAILURE;
    }
    match &args.scenario {
        Scenario::Challenge(args) => return race::run(args),
        Scenario::Members(args) => return race::make_members(args),
        _ => {}
    }
    if let Scenario::Connect { common } = &args.scenario {
        match probe::test(common) {
            Ok(true) if common.users.is_some() => {}
            Ok(true) => return 0,
            Ok(false) => return EXIT_FAILURE,
            Err(failure) => {
                eprintln!("minitalk bench: {failure}");
                return EXIT_FAILURE;
            }
        }
    }
    if let Scenario::Merge(merging) = &args.scenario {
        return match merge::read(&merging.reports).map_err(Failure::Usage) {
            Ok(Written::Races(reports)) => race::merged(reports, output),
            Ok(Written::Chats(reports)) => tell_outcome(merged(reports, output), output),
            Err(failure) => tell_outcome(Err(failure), output),
        };
    }
    let target = args.scenario.server().map_or_else(String::new, |server| format!(" on {}", server.target));
    let mut screen = Screen::new(format!("{}{target}", args.scenario.name()), output);
    tell_outcome(measure(args, &mut |now| screen.show(now)), output)
}

fn tell_outcome(outcome: Result<Report, Failure>, output: &Output) -> u8 {
    let outcome = outcome.and_then(|report| {
        let page = output.html.as_deref().map_or(Ok(()), |path| page::write(&report, path));
        let published = report.publish(output.json.as_deref());
        page.and(published).map(|()| report).map_err(Failure::Output)
    });
    match outcome {
        Ok(report) => {
            if let Some(why) = report.unsound() {
                eprintln!("minitalk bench: {why}");
            }
            report.exit_code()
        }
        Err(failure) => {
            eprintln!("minitalk bench: {failure}");
            EXIT_FAILURE
        }
    }
}

/// One report of several, with the conditions of the command line.
fn merged(reports: Vec<Named<Report>>, output: &Output) -> Result<Report, Failure> {
    let mut report = merge::merge(reports).map_err(Failure::Usage)?;
    report.thresholds = output.fail_if.iter().map(|condition| condition.judge(&report)).collect();
    Ok(report)
}
