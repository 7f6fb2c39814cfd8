//! The stages of one measurement, and what the threads share while it lasts.
//!
//! Users and rooms are made over REST, then the threads connect; all start sending at one moment
//! given by the clock. When sending is over, what is owed is waited for as long as anything still
//! arrives; a fence then makes sure that nothing more is under way, and the parts are judged.

use std::fmt;
use std::io;
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::args::BenchArgs;
use crate::clock::{Clock, ns};
use crate::judge::judge;
use crate::load::Load;
use crate::plan::{Pace, Plan};
use crate::pool::Pool;
use crate::procs::{self, Usage, Watched};
use crate::report::Report;
use crate::rest;
use crate::stage::{Shared, Stage};
use crate::stats::Tally;
use crate::sum::Figures;

/// From the decision to start until the first message, so that every thread has heard of it.
const RUN_UP: Duration = Duration::from_millis(50);

/// How often the stages look at what the threads have done.
const LOOK: Duration = Duration::from_millis(5);

/// Longest wait for the pongs of the fence; a server that answers none was still given this long.
const FENCE: Duration = Duration::from_secs(2);

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

/// Makes one measurement and judges it.
pub fn measure(args: &BenchArgs) -> Result<Report, Failure> {
    let plan = Plan::new(args).map_err(Failure::Usage)?;
    raise_file_limit(&plan)?;
    let watched = Watched::new(&args.common().pid).map_err(Failure::Usage)?;
    let population = rest::populate(&plan).map_err(Failure::Setup)?;
    let (clock, shared) = (Clock::start(), Shared::default());
    let pools = (0..plan.threads)
        .map(|thread| Pool::new(&plan, &shared, clock, &population.tokens, &population.room_ids, thread))
        .collect::<io::Result<Vec<_>>>()
        .map_err(Failure::System)?;
    let (figures, loads) = thread::scope(|scope| {
        let threads: Vec<_> = pools.into_iter().map(|pool| scope.spawn(|| pool.run())).collect();
        let director = Director { plan: &plan, shared: &shared, clock, watched: &watched, threads: &threads };
        let figures = director.conduct();
        shared.enter(Stage::End);
        (figures, threads.into_iter().map(join).collect::<Result<Vec<_>, _>>())
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
    Ok(Report::new(&plan, judge(&plan, ledgers), &tally, &figures, population.pace))
}

fn join<'a>(thread: ScopedJoinHandle<'_, io::Result<Load<'a>>>) -> Result<Load<'a>, Failure> {
    thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread panicked"))).map_err(Failure::System)
}

/// Leads the threads through the stages.
struct Director<'a, 'scope, 'load> {
    plan: &'a Plan,
    shared: &'a Shared,
    clock: Clock,
    watched: &'a Watched,
    threads: &'a [ScopedJoinHandle<'scope, io::Result<Load<'load>>>],
}

impl Director<'_, '_, '_> {
    /// All stages but the last; `None` if there is nothing to measure or a thread gave up.
    fn conduct(&self) -> Option<Figures> {
        let idle = self.watched.usage();
        let dialled_ns = self.clock.now_ns();
        let users = u64::from(self.plan.users);
        self.until(|| {
            let (connected, failed, _) = self.shared.connections();
            connected + failed >= users
        })?;
        let (connected, failed, _) = self.shared.connections();
        let connecting_ns = self.shared.last_connected_ns().saturating_sub(dialled_ns);
        let holding = self.watched.usage();
        if failed > 0 && self.plan.pace != Pace::Silent {
            return None;
        }
        let start_ns = self.clock.now_ns() + ns(RUN_UP);
        self.shared.load_from(start_ns);
        let from_ns = start_ns + ns(self.plan.warmup);
        let before = self.sample_at(from_ns)?;
        let after = self.sample_at(from_ns + ns(self.plan.duration))?;
        self.drain()?;
        self.fence()?;
        Some(Figures {
            connected,
            connecting: Duration::from_nanos(connecting_ns),
            idle,
            holding,
            before,
            after,
        })
    }

    /// CPU and memory at a moment: the server's, if it is watched, and our CPU seconds.
    fn sample_at(&self, at_ns: u64) -> Option<(Option<Usage>, f64)> {
        self.until(|| self.clock.now_ns() + ns(LOOK) >= at_ns)?;
        thread::sleep(Duration::from_nanos(at_ns.saturating_sub(self.clock.now_ns())));
        Some((self.watched.usage(), procs::own_cpu_s()))
    }

    /// Waits until all that is owed has come, or nothing has come for a while.
    fn drain(&self) -> Option<()> {
        self.shared.enter(Stage::Drain);
        let mut arrived = self.shared.arrived();
        let mut since = Instant::now();
        self.until(|| {
            let now = self.shared.arrived();
            if now != arrived {
                (arrived, since) = (now, Instant::now());
            }
            let (_, _, dropped) = self.shared.connections();
            dropped == 0 && self.shared.settled(self.plan.threads) || since.elapsed() >= self.plan.drain
        })
    }

    fn fence(&self) -> Option<()> {
        self.shared.enter(Stage::Fence);
        let since = Instant::now();
        self.until(|| {
            let (connected, _, dropped) = self.shared.connections();
            self.shared.pongs() + dropped >= connected || since.elapsed() >= FENCE
        })
    }

    /// Looks again and again until `done`; `None` if a thread has ended, which none should.
    fn until(&self, mut done: impl FnMut() -> bool) -> Option<()> {
        while !done() {
            if self.threads.iter().any(|thread| thread.is_finished()) {
                return None;
            }
            thread::sleep(LOOK);
        }
        Some(())
    }
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
