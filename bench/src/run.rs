//! The stages of one measurement, and what the threads share while it lasts.
//!
//! Users and rooms are made over REST, then the threads connect; all start sending at one moment
//! given by the clock. When sending is over, what is owed is waited for as long as anything still
//! arrives; a fence then makes sure that nothing more is under way, and the parts are judged.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::thread::{self, ScopedJoinHandle};

use crate::args::BenchArgs;
use crate::clock::Clock;
use crate::direct::Director;
use crate::interrupt::Interrupt;
use crate::judge::judge;
use crate::live::{Audience, Step};
use crate::load::Load;
use crate::plan::Plan;
use crate::pool::Pool;
use crate::preflight;
use crate::procs::Watched;
use crate::report::Report;
use crate::rest::{self, Population};
use crate::searches::{self, Searches};
use crate::stage::{Shared, Stage};
use crate::stats::Tally;
use crate::sum::{Figures, Parts};
use crate::track::Track;
use crate::watch::Watch;

/// Why there is nothing to report.
#[derive(Debug)]
pub enum Failure {
    /// The arguments contradict each other, or ask more than this system grants.
    Usage(String),
    /// The server could not be prepared.
    Setup(String),
    /// The system failed this program.
    System(io::Error),
    /// Somebody wanted it to end before there was a load.
    Interrupted,
    /// The report could not be written.
    Output(io::Error),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Usage(why) | Failure::Setup(why) => f.write_str(why),
            Failure::Interrupted => f.write_str("ended before there was any load"),
            Failure::System(why) => write!(f, "the load tester cannot go on: {why}"),
            Failure::Output(why) => write!(f, "the report cannot be written: {why}"),
        }
    }
}

/// Makes one measurement and judges it; tells `audience` meanwhile how far it is. SIGINT or SIGTERM
/// during the load ends it early; what was sent is judged all the same.
pub fn measure(args: &BenchArgs, audience: &mut Audience) -> Result<Report, Failure> {
    let plan = Plan::new(&args.scenario).map_err(Failure::Usage)?;
    let pids = args.scenario.server().map(|server| server.pid.as_slice()).unwrap_or_default();
    let watched = Watched::new(pids).map_err(Failure::Usage)?;
    let preflight = preflight::look(&plan)?;
    let population = rest::populate(&plan, audience).map_err(Failure::Setup)?;
    let shared = Shared::default();
    let Outcome { figures, track, loads, searches } =
        carry_out(&plan, &shared, &watched, &population, audience)?;
    let mut tally = Tally::new();
    let mut ledgers = vec![];
    for mut load in loads {
        load.end();
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
    let correctness = judge(&plan, ledgers);
    let parts = Parts { correctness, tally, figures, setup: population.pace, track, searches, preflight };
    let mut report = Report::new(&plan, parts);
    report.thresholds = plan.fail_if.iter().map(|condition| condition.judge(&report)).collect();
    Ok(report)
}

/// What the threads of a run bring home.
struct Outcome<'a> {
    figures: Option<Figures>,
    track: Track,
    loads: Vec<Load<'a>>,
    searches: Searches,
}

/// Connects, loads, drains: everything between the users' being there and the verdict.
fn carry_out<'a>(
    plan: &'a Plan,
    shared: &'a Shared,
    watched: &Watched,
    population: &'a Population,
    audience: &mut Audience,
) -> Result<Outcome<'a>, Failure> {
    let interrupt = Interrupt::expect().map_err(Failure::System)?;
    let (clock, watch) = (Clock::start(), Watch::default());
    let (tokens, room_ids) = (population.tokens.as_slice(), population.room_ids.as_slice());
    let pools = (0..plan.threads)
        .map(|thread| Pool::new(plan, shared, clock, tokens, room_ids, thread))
        .collect::<io::Result<Vec<_>>>()
        .map_err(Failure::System)?;
    let lines = if plan.mix.search > 0.0 { 0..searches::LINES } else { 0..0 };
    thread::scope(|scope| {
        let threads: Vec<_> = pools.into_iter().map(|pool| scope.spawn(|| pool.run())).collect();
        let searchers: Vec<_> =
            lines.map(|line| scope.spawn(move || searches::run(plan, shared, clock, tokens, line))).collect();
        let watcher = scope.spawn(|| watch.run(plan.target, watched));
        let mut director = Director {
            plan,
            shared,
            clock,
            watched,
            watch: &watch,
            threads: &threads,
            track: Track::begin(clock, plan.threads),
            audience,
            step: (Step::Connect, clock.now_ns()),
            interrupt,
            ended_ns: None,
            phases: vec![],
            ahead: VecDeque::new(),
            disruptions: vec![],
        };
        let figures = director.conduct();
        let ended = figures.is_none() && director.ended_ns.is_some();
        let (track, phases) = (director.track, director.phases);
        shared.enter(Stage::End);
        watch.end();
        watcher.thread().unpark();
        let loads = threads.into_iter().map(join).collect::<Result<Vec<_>, _>>()?;
        if ended {
            return Err(Failure::Interrupted);
        }
        let mut found = Searches::new();
        searchers.into_iter().filter_map(|line| line.join().ok()).for_each(|line| found.merge(&line));
        let track = track.finish(&phases, shared, &watch);
        Ok(Outcome { figures, track, loads, searches: found })
    })
}

fn join<'a>(thread: ScopedJoinHandle<'_, io::Result<Load<'a>>>) -> Result<Load<'a>, Failure> {
    thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread panicked"))).map_err(Failure::System)
}
