//! What a run looks like over time: makes the rows second by second and tells the audience.

use crate::clock::{Clock, SECOND_NS};
use crate::live::{Audience, Progress, Snapshot, Step, Totals};
use crate::procs;
use crate::report::Phase;
use crate::series::{Generator, Row};
use crate::stage::Shared;
use crate::watch::Watch;

/// How long after its end a second is made a row of: threads hand over what they counted once their
/// loop comes round, a few times that long at most.
const GRACE_NS: u64 = 100_000_000;

/// The rows so far.
pub struct Track {
    clock: Clock,
    threads: u32,
    started_ns: u64,
    first_unix_s: u64,
    next_unix_s: u64,
    cpu_s: f64,
    /// From the first second on, none left out.
    pub rows: Vec<Row>,
    /// All of them together.
    pub totals: Totals,
}

impl Track {
    /// The run begins to dial now.
    pub fn begin(clock: Clock, threads: u32) -> Track {
        let started_ns = clock.now_ns();
        let second = clock.unix_s(started_ns);
        Track {
            clock,
            threads,
            started_ns,
            first_unix_s: second,
            next_unix_s: second,
            cpu_s: procs::own_cpu_s(),
            rows: vec![],
            totals: Totals::default(),
        }
    }

    /// When dialling began, in ms since 1970.
    pub fn started_unix_ms(&self) -> u64 {
        self.clock.unix_ms(self.started_ns)
    }

    /// Seconds from the start of the run to a moment.
    pub fn at_s(&self, at_ns: u64) -> f64 {
        at_ns.saturating_sub(self.started_ns) as f64 / SECOND_NS as f64
    }

    /// Makes rows of the seconds that have ended and tells of them.
    pub fn look(&mut self, now_ns: u64, scene: &Scene, audience: &mut Audience) {
        while self.next_unix_s < self.clock.unix_s(now_ns.saturating_sub(GRACE_NS)) {
            self.close(scene);
            let (row, totals) = (self.rows.last(), &self.totals);
            audience(&Snapshot { step: scene.step, progress: scene.progress, row, totals });
        }
    }

    /// Makes rows of all that is left; the threads have ended.
    pub fn finish(mut self, phases: &[Phase], shared: &Shared, watch: &Watch) -> Track {
        let (step, progress) = (Step::Drain, Progress::default());
        let scene = Scene { step, progress, phases, shared, watch };
        while shared.last_pending().is_some() {
            self.close(&scene);
        }
        self
    }

    fn close(&mut self, scene: &Scene) {
        let slice = scene.shared.taken(self.next_unix_s);
        let cpu_s = procs::own_cpu_s();
        let used = cpu_s - std::mem::replace(&mut self.cpu_s, cpu_s);
        let (connected, _, dropped) = scene.shared.connections();
        let middle_ns = self.clock.second_ns(self.next_unix_s) + SECOND_NS / 2;
        let row = Row {
            at_s: self.next_unix_s - self.first_unix_s,
            unix_s: self.next_unix_s,
            phase: self.phase(scene, middle_ns),
            connections: connected.saturating_sub(dropped),
            target: scene.watch.latest(),
            generator: Generator::new(used, slice.counts.lag_ns_max as f64 / 1e6, f64::from(self.threads)),
            ..Row::of(&slice)
        };
        self.totals.add(&row);
        self.rows.push(row);
        self.next_unix_s += 1;
    }

    fn phase(&self, scene: &Scene, at_ns: u64) -> String {
        let at_s = self.at_s(at_ns);
        match scene.phases.iter().rfind(|phase| phase.from_s <= at_s) {
            None => Step::Connect.name().to_owned(),
            Some(phase) if at_s < phase.to_s => phase.name.clone(),
            Some(_) => Step::Drain.name().to_owned(),
        }
    }
}

/// What the rows are made from.
pub struct Scene<'a> {
    /// What is being done.
    pub step: Step,
    /// How far it is.
    pub progress: Progress,
    /// The phases of the load, once it has begun.
    pub phases: &'a [Phase],
    /// What the threads tell.
    pub shared: &'a Shared,
    /// What is known of the server.
    pub watch: &'a Watch,
}
