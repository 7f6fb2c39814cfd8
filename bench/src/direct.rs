//! Leads the threads through the stages of a run and keeps track of it meanwhile.

use std::collections::VecDeque;
use std::io;
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use crate::clock::{Clock, SECOND_NS, ns};
use crate::disrupt::{self, What};
use crate::interrupt::Interrupt;
use crate::live::{Audience, Progress, Step};
use crate::load::Load;
use crate::plan::{Pace, Plan};
use crate::procs::{self, Usage, Watched};
use crate::report::{Disruption, Phase};
use crate::schedule::Stretch;
use crate::stage::{Shared, Stage};
use crate::sum::Figures;
use crate::track::{Scene, Track};
use crate::watch::Watch;

/// From the decision to start until the first message, so that every thread has heard of it.
const RUN_UP: Duration = Duration::from_millis(50);

/// How often the stages look at what the threads have done.
const LOOK: Duration = Duration::from_millis(5);

/// Longest wait for the pongs of the fence; a server that answers none was still given this long.
const FENCE: Duration = Duration::from_secs(2);

/// How long a kill is tried again: a process killed before needs a while to be back.
const KILL_PATIENCE_NS: u64 = 5 * SECOND_NS;

/// A thread of the run.
pub type Thread<'scope, 'load> = ScopedJoinHandle<'scope, io::Result<Load<'load>>>;

/// Leads the threads through the stages.
pub struct Director<'a, 'scope, 'load> {
    /// What is to be done.
    pub plan: &'a Plan,
    /// What the threads tell.
    pub shared: &'a Shared,
    /// The run's clock.
    pub clock: Clock,
    /// Processes of the server.
    pub watched: &'a Watched,
    /// What the server tells.
    pub watch: &'a Watch,
    /// Who does it.
    pub threads: &'a [Thread<'scope, 'load>],
    /// The rows.
    pub track: Track,
    /// Who is told.
    pub audience: &'a mut Audience<'a>,
    /// What is being done, and since when.
    pub step: (Step, u64),
    /// Who may want it to end early.
    pub interrupt: Interrupt,
    /// When that was wished for.
    pub ended_ns: Option<u64>,
    /// The phases, once the load has begun.
    pub phases: Vec<Phase>,
    /// Storms and kills to come.
    pub ahead: VecDeque<(u64, What)>,
    /// Those that were, and when.
    pub disruptions: Vec<(Disruption, u64)>,
}

impl Director<'_, '_, '_> {
    /// All stages but the last; `None` if there is nothing to measure or a thread gave up.
    pub fn conduct(&mut self) -> Option<Figures> {
        let idle = self.watched.usage();
        let dialled_ns = self.clock.now_ns();
        let users = u64::from(self.plan.users);
        self.until(|director| {
            let (connected, failed, _) = director.shared.connections();
            connected + failed >= users || director.ended_ns.is_some()
        })?;
        if self.ended_ns.is_some() {
            return None;
        }
        let (connected, failed, _) = self.shared.connections();
        let connecting_ns = self.shared.last_connected_ns().saturating_sub(dialled_ns);
        let holding = self.watched.usage();
        if failed > 0 && self.plan.pace != Pace::Silent {
            return None;
        }
        let start_ns = self.clock.now_ns() + ns(RUN_UP);
        self.phases = self.phases_from(start_ns);
        self.step = (Step::Load, start_ns);
        self.ahead =
            disrupt::all(self.plan).into_iter().map(|(at, what)| (start_ns + ns(at), what)).collect();
        self.shared.load_from(start_ns);
        let from_ns = start_ns + ns(self.plan.warmup);
        let before = self.sample_at(from_ns)?;
        let after = self.sample_at(from_ns + ns(self.plan.duration))?;
        let cut_ns = self.ended_ns;
        if let Some(cut_ns) = cut_ns {
            self.shared.cut(cut_ns);
            self.cut_phases(cut_ns);
        }
        let measured_ns = cut_ns.map(|cut_ns| cut_ns.saturating_sub(from_ns));
        self.step = (Step::Drain, self.clock.now_ns());
        self.drain()?;
        self.fence()?;
        Some(Figures {
            connected,
            connecting: Duration::from_nanos(connecting_ns),
            idle,
            holding,
            before,
            after,
            measured: measured_ns.map_or(self.plan.duration, Duration::from_nanos),
            ended_early: cut_ns.map(|cut_ns| Duration::from_nanos(cut_ns.saturating_sub(start_ns))),
            phases: self.phases.clone(),
            disruptions: std::mem::take(&mut self.disruptions),
        })
    }

    /// The phases of a load that begins at that moment.
    fn phases_from(&self, start_ns: u64) -> Vec<Phase> {
        let phase = |(stretch, from_ns, to_ns): (&Stretch, u64, u64)| Phase {
            name: stretch.name.clone(),
            from_s: self.track.at_s(start_ns + from_ns),
            to_s: self.track.at_s(start_ns + to_ns),
            measured: stretch.measured,
        };
        self.plan.schedule.stretches().map(phase).collect()
    }

    /// The load ends early: phases end there, and what was to come does not.
    fn cut_phases(&mut self, cut_ns: u64) {
        let cut_s = self.track.at_s(cut_ns);
        self.phases.retain(|phase| phase.from_s < cut_s);
        self.phases.iter_mut().for_each(|phase| phase.to_s = phase.to_s.min(cut_s));
        self.ahead.clear();
    }

    /// Sets off the storm or kill that is due, if one is.
    fn disrupt(&mut self, now_ns: u64) {
        let Some((due_ns, what)) = self.ahead.front().copied().filter(|(due, _)| *due <= now_ns) else {
            return;
        };
        let mut disruption =
            Disruption { what: what.name(), at_s: self.track.at_s(now_ns), ..Disruption::default() };
        if let What::Kill(victim, nth) = what {
            match disrupt::choose(self.watch.latest().as_ref(), victim, nth) {
                Ok(pid) => disruption.pid = Some(pid),
                Err(_) if now_ns < due_ns + KILL_PATIENCE_NS => return, // the last one may be starting again
                Err(why) => disruption.failed = Some(why),
            }
        }
        // The threads learn of it first: what breaks now, breaks because of it.
        self.shared.disrupt(now_ns, what == What::Storm);
        if let Some(pid) = disruption.pid {
            disruption.failed = disrupt::kill_now(pid).err();
        }
        self.ahead.pop_front();
        self.disruptions.push((disruption, now_ns));
    }

    /// CPU and memory at a moment: the server's, if it is watched, and our CPU seconds.
    fn sample_at(&mut self, at_ns: u64) -> Option<(Option<Usage>, f64)> {
        self.until(|director| director.ended_ns.is_some() || director.clock.now_ns() + ns(LOOK) >= at_ns)?;
        if self.ended_ns.is_none() {
            thread::sleep(Duration::from_nanos(at_ns.saturating_sub(self.clock.now_ns())));
        }
        Some((self.watched.usage(), procs::own_cpu_s()))
    }

    /// Waits until all that is owed has come, or nothing has come for a while.
    fn drain(&mut self) -> Option<()> {
        self.shared.enter(Stage::Drain);
        let mut arrived = self.shared.arrived();
        let mut since = Instant::now();
        self.until(|director| {
            let now = director.shared.arrived();
            if now != arrived {
                (arrived, since) = (now, Instant::now());
            }
            let (_, _, dropped) = director.shared.connections();
            // What is owed to a connection that broke comes only if that comes back.
            (dropped == 0 || director.plan.resumes()) && director.shared.settled(director.plan.threads)
                || since.elapsed() >= director.plan.drain
        })
    }

    fn fence(&mut self) -> Option<()> {
        self.shared.enter(Stage::Fence);
        let since = Instant::now();
        self.until(|director| {
            let (connected, _, dropped) = director.shared.connections();
            director.shared.pongs() + dropped >= connected || since.elapsed() >= FENCE
        })
    }

    /// Looks again and again until `done`; `None` if a thread has ended, which none should.
    fn until(&mut self, mut done: impl FnMut(&Self) -> bool) -> Option<()> {
        while !done(self) {
            if self.threads.iter().any(|thread| thread.is_finished()) {
                return None;
            }
            let now_ns = self.clock.now_ns();
            let can_end = matches!(self.step.0, Step::Connect | Step::Load);
            if self.interrupt.came() && can_end && self.ended_ns.is_none() {
                self.ended_ns = Some(now_ns);
            }
            self.disrupt(now_ns);
            let progress = self.progress(now_ns);
            let scene = Scene {
                step: self.step.0,
                progress,
                phases: &self.phases,
                shared: self.shared,
                watch: self.watch,
            };
            self.track.look(now_ns, &scene, self.audience);
            thread::sleep(LOOK);
        }
        Some(())
    }

    fn progress(&self, now_ns: u64) -> Progress {
        let elapsed_s = now_ns.saturating_sub(self.step.1) as f64 / SECOND_NS as f64;
        let (connected, failed, _) = self.shared.connections();
        let load_s = (self.plan.warmup + self.plan.duration).as_secs();
        let (done, total) = match self.step.0 {
            Step::Load => (now_ns.saturating_sub(self.step.1) / SECOND_NS, load_s),
            Step::Drain => self.shared.deliveries(),
            _ => (connected + failed, u64::from(self.plan.users)),
        };
        Progress { done: done.min(total), total, elapsed_s }
    }
}
