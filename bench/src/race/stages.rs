//! The stages of a run: everybody comes, stays, some give up, and what is owed is waited for.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::crowd::Crowd;
use super::tally::Row;
use crate::clock::SECOND_NS;
use crate::interrupt::Interrupt;
use crate::plan::CONNECTIONS_PER_SOURCE;
use crate::procs::{self, Usage, Watched};
use crate::watch::Watch;

/// From one look to the next whether something is still owed: a look at every pair of members.
const OWED_NS: u64 = 500_000_000;

/// How much longer everybody stays, at most, for those to come back whose connections a kill broke.
const AWAITED_NS: u64 = 30 * SECOND_NS;

/// Longest wait for the answers after which nothing more is under way.
const FENCE_NS: u64 = 10 * SECOND_NS;

/// Where a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Members come.
    Ramp,
    /// All that could have come.
    Stay,
    /// Some give up.
    Quit,
    /// What is owed comes.
    Drain,
    /// Nothing is to be under way any more.
    Fence,
}

impl Stage {
    /// In rows and on the screen.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Ramp => "ramp",
            Stage::Stay => "stay",
            Stage::Quit => "quit",
            Stage::Drain | Stage::Fence => "drain",
        }
    }
}

/// What is to be done, in ns where a time.
pub struct Plan {
    /// The server.
    pub target: SocketAddr,
    /// Members.
    pub users: usize,
    /// From one that begins, or gives up, to the next.
    pub interval_ns: u64,
    /// How long all stay.
    pub stay_ns: u64,
    /// Between PINGs.
    pub ping_ns: u64,
    /// Between RECORDs.
    pub record_ns: Option<u64>,
    /// In minutes a kilometre.
    pub pace: f64,
    /// Percent of the members that give up in the end.
    pub quit: f64,
    /// Longest silence while something is owed.
    pub drain_ns: u64,
}

impl Plan {
    /// The address a member connects from when the usual one has given its share of ports.
    pub fn source_of(&self, member: usize) -> Option<IpAddr> {
        let SocketAddr::V4(target) = self.target else { return None };
        let source = u32::try_from(member).unwrap_or(u32::MAX) / CONNECTIONS_PER_SOURCE;
        let spread = source > 0 && target.ip().is_loopback();
        spread.then(|| IpAddr::V4(Ipv4Addr::from_bits(Ipv4Addr::new(127, 1, 0, 1).to_bits() + (source << 8))))
    }
}

/// The server's CPU time and memory, and ours, at a moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    /// When.
    pub at_ns: u64,
    /// The server's, if it is watched.
    pub server: Option<Usage>,
    /// CPU seconds of the load tester.
    pub own_cpu_s: f64,
}

/// Who is told of each second: its row, members that came, and members in all.
pub type Audience<'a> = dyn FnMut(&Row, usize, usize) + 'a;

/// Takes a run through its stages.
pub struct Director<'a, 'b> {
    plan: &'a Plan,
    watched: &'a Watched,
    watch: &'a Watch,
    interrupt: Interrupt,
    audience: &'a mut Audience<'b>,
    begun_ns: u64,
    /// When the stage began, or will end.
    since_ns: u64,
    /// Who gives up, the next one last.
    quitters: Vec<usize>,
    owed_ns: u64,
    second: u64,
    own_cpu_s: f64,
    /// The run second by second.
    pub rows: Vec<Row>,
    /// At the beginning, when all were there, and when they had stayed.
    pub samples: Vec<Sample>,
    /// When somebody wanted it to end early.
    pub ended_ns: Option<u64>,
}

impl<'a, 'b> Director<'a, 'b> {
    /// Begins at `now_ns`.
    pub fn new(
        plan: &'a Plan,
        (watched, watch): (&'a Watched, &'a Watch),
        interrupt: Interrupt,
        audience: &'a mut Audience<'b>,
        now_ns: u64,
    ) -> Director<'a, 'b> {
        let sample = Sample { at_ns: now_ns, server: watched.usage(), own_cpu_s: procs::own_cpu_s() };
        Director {
            plan,
            watched,
            watch,
            interrupt,
            audience,
            begun_ns: now_ns,
            since_ns: now_ns,
            quitters: vec![],
            owed_ns: 0,
            second: 0,
            own_cpu_s: sample.own_cpu_s,
            rows: vec![],
            samples: vec![sample],
            ended_ns: None,
        }
    }

    /// Does what is due; `false`: the run is over.
    pub fn turn(&mut self, crowd: &mut Crowd, now: u64) -> bool {
        let second = now.saturating_sub(self.begun_ns) / SECOND_NS;
        if second > self.second {
            self.end_second(crowd);
            self.second = second;
        }
        if crowd.stage <= Stage::Stay && self.interrupt.came() {
            self.ended_ns = Some(now);
            crowd.end_kills();
            self.sample(now);
            self.part(crowd, now);
        }
        match crowd.stage {
            Stage::Ramp if crowd.settled == self.plan.users => {
                crowd.stage = Stage::Stay;
                self.since_ns = now;
                crowd.kills.begin(now, self.plan.stay_ns);
                self.sample(now);
            }
            Stage::Stay => {
                let until = self.since_ns.saturating_add(self.plan.stay_ns);
                if now < until {
                    crowd.kills.turn(now, || self.watch.latest());
                } else if has_stayed(crowd, until, now) {
                    self.sample(now);
                    self.part(crowd, now);
                }
            }
            Stage::Quit => {
                while self.since_ns <= now
                    && let Some(member) = self.quitters.pop()
                {
                    crowd.quit(member);
                    self.since_ns += self.plan.interval_ns;
                }
                if self.quitters.is_empty() {
                    crowd.stage = Stage::Drain;
                    crowd.news_ns = now;
                }
            }
            Stage::Drain if now >= self.owed_ns => {
                self.owed_ns = now + OWED_NS;
                if !crowd.owes() || now >= crowd.news_ns + self.plan.drain_ns {
                    crowd.stage = Stage::Fence;
                    self.since_ns = now;
                    crowd.fence();
                }
            }
            Stage::Fence if crowd.is_fenced() || now >= self.since_ns + FENCE_NS => {
                self.end_second(crowd);
                return false;
            }
            _ => {}
        }
        true
    }

    /// Those of the members that give up are chosen, evenly among those that are in.
    fn part(&mut self, crowd: &mut Crowd, now: u64) {
        crowd.agenda.end();
        let share = self.plan.quit / 100.0;
        let upto = |place: usize| (place as f64 * share).floor();
        let chosen = crowd.present().enumerate().filter(|(place, _)| upto(place + 1) > upto(*place));
        self.quitters = chosen.map(|(_, member)| member).collect();
        self.since_ns = now;
        crowd.stage = Stage::Quit;
    }

    fn sample(&mut self, at_ns: u64) {
        let (server, own_cpu_s) = (self.watched.usage(), procs::own_cpu_s());
        self.samples.push(Sample { at_ns, server, own_cpu_s });
    }

    fn end_second(&mut self, crowd: &mut Crowd) {
        let faults = crowd.courses.iter().map(super::sight::Course::faults).sum();
        let mut row = crowd.tally.roll(self.second, crowd.stage.name(), faults);
        let own_cpu_s = procs::own_cpu_s();
        row.tester_cores = own_cpu_s - std::mem::replace(&mut self.own_cpu_s, own_cpu_s);
        row.target = self.watch.latest();
        (self.audience)(&row, crowd.settled, self.plan.users);
        self.rows.push(row);
    }
}

/// Whether all have stayed long enough, once they have stayed as long as was asked for: what the last kill
/// breaks has broken, and is back.
fn has_stayed(crowd: &Crowd, until: u64, now: u64) -> bool {
    now >= until.saturating_add(AWAITED_NS) || (crowd.kills.settled(now) && !crowd.awaits())
}
