//! The stages of one measurement, and what the threads share while it lasts.
//!
//! Users and rooms are made over REST, then the threads connect; all start sending at one moment
//! given by the clock. When sending is over, what is owed is waited for as long as anything still
//! arrives; a fence then makes sure that nothing more is under way, and the parts are judged.

use std::fmt;
use std::io;
use std::thread::{self, ScopedJoinHandle};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::args::BenchArgs;
use crate::clock::Clock;
use crate::direct::Director;
use crate::judge::judge;
use crate::live::{Audience, Step};
use crate::load::Load;
use crate::plan::Plan;
use crate::pool::Pool;
use crate::procs::Watched;
use crate::report::Report;
use crate::rest;
use crate::stage::{Shared, Stage};
use crate::stats::Tally;
use crate::track::Track;
use crate::watch::Watch;

/// File descriptors of this program that are not connections, at most.
const SPARE_FILES: u64 = 64;

/// Why there is nothing to report.
#[derive(Debug)]
pub enum Failure {
    /// The arguments contradict each other, or ask more than this system grants.
    Usage(String),
    /// The server could not be prepared.
    Setup(String),
    /// The system failed this program.
    System(io::Error),
    /// The report could not be written.
    Output(io::Error),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Usage(why) | Failure::Setup(why) => f.write_str(why),
            Failure::System(why) => write!(f, "the load tester cannot go on: {why}"),
            Failure::Output(why) => write!(f, "the report cannot be written: {why}"),
        }
    }
}

/// Makes one measurement and judges it; tells `audience` meanwhile how far it is.
pub fn measure(args: &BenchArgs, audience: &mut Audience) -> Result<Report, Failure> {
    let plan = Plan::new(args).map_err(Failure::Usage)?;
    raise_file_limit(&plan)?;
    let watched = Watched::new(&args.common().pid).map_err(Failure::Usage)?;
    let population = rest::populate(&plan, audience).map_err(Failure::Setup)?;
    let (clock, shared, watch) = (Clock::start(), Shared::default(), Watch::default());
    let pools = (0..plan.threads)
        .map(|thread| Pool::new(&plan, &shared, clock, &population.tokens, &population.room_ids, thread))
        .collect::<io::Result<Vec<_>>>()
        .map_err(Failure::System)?;
    let (figures, track, loads) = thread::scope(|scope| {
        let threads: Vec<_> = pools.into_iter().map(|pool| scope.spawn(|| pool.run())).collect();
        let watcher = scope.spawn(|| watch.run(plan.target, &watched));
        let track = Track::begin(clock, plan.threads);
        let mut director = Director {
            plan: &plan,
            shared: &shared,
            clock,
            watched: &watched,
            watch: &watch,
            threads: &threads,
            track,
            audience,
            step: (Step::Connect, clock.now_ns()),
            phases: vec![],
        };
        let figures = director.conduct();
        let track = director.track;
        shared.enter(Stage::End);
        watch.end();
        watcher.thread().unpark();
        (figures, track, threads.into_iter().map(join).collect::<Result<Vec<_>, _>>())
    });
    let mut tally = Tally::new();
    let mut ledgers = vec![];
    for load in loads? {
        tally.merge(&load.tally);
        ledgers.push(load.ledger);
    }
    if plan.rooms > 0 && tally.failed.total() > 0 {
        let (failed, why) = (tally.failed.total(), tally.failed.first());
        return Err(Failure::Setup(format!(
            "{failed} of {} connections could not be made: {why}",
            plan.users
        )));
    }
    let figures = figures.ok_or_else(|| Failure::System(io::Error::other("a thread ended early")))?;
    let track = track.finish(&figures.phases, &shared, &watch);
    Ok(Report::new(&plan, judge(&plan, ledgers), &tally, figures, population.pace, track))
}

fn join<'a>(thread: ScopedJoinHandle<'_, io::Result<Load<'a>>>) -> Result<Load<'a>, Failure> {
    thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread panicked"))).map_err(Failure::System)
}

/// Raises the soft limit of open files as far as this run needs.
fn raise_file_limit(plan: &Plan) -> Result<(), Failure> {
    let need = u64::from(plan.users) + SPARE_FILES;
    let system = |why: nix::Error| Failure::System(why.into());
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(system)?;
    if need > hard {
        let users = plan.users;
        return Err(Failure::Usage(format!(
            "{users} connections need {need} open files, the limit here is {hard}"
        )));
    }
    if need > soft {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map_err(system)?;
    }
    Ok(())
}
