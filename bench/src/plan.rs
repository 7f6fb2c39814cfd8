//! What one run is going to do, worked out before anything is touched: who sits in which room and
//! on which thread, who sends, and when.
//!
//! Every user is in one room. A room has a *home* thread; its senders live there, so that one
//! counter numbers its messages without sharing. Its listeners may be on any thread.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::thread;
use std::time::Duration;

use crate::args::{self, Preset, Scenario, Server};
use crate::clock::random;
use crate::fail_if::FailIf;
use crate::mark::{self, Content};
use crate::presets;
use crate::scenario::{Clients, Kill, Mix, PhaseKind, ScenarioFile, Storm};
use crate::schedule::{Schedule, Stretch};

const FANOUT_USERS: u32 = 1000;
const INGEST_USERS: u32 = 200;

/// Open-loop messages per second asked of one sender; half of what a server grants a user by default.
const SENDER_RATE: f64 = 500.0;

/// Connections from one source address; an address has some 28,000 ephemeral ports by default.
pub const CONNECTIONS_PER_SOURCE: u32 = 20_000;

/// When messages are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Never.
    Silent,
    /// By the plan's schedule, whatever the server does.
    Open,
    /// Each sender has so many messages waiting for their acks.
    Closed {
        /// Messages per sender.
        inflight: u32,
    },
}

/// One run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The name of the kind of load, of the preset, or in the scenario file.
    pub scenario: String,
    /// The server.
    pub target: SocketAddr,
    /// Connections.
    pub users: u32,
    /// 0 when nothing is sent.
    pub rooms: u32,
    /// Threads of this program.
    pub threads: u32,
    /// How messages are paced.
    pub pace: Pace,
    /// The load over time; in open pace, when messages are due.
    pub schedule: Schedule,
    /// Messages per second at a level of 100 percent.
    pub rate: f64,
    /// Senders in each room, slow readers included, who don't.
    pub senders: u32,
    /// Time under load before measuring.
    pub warmup: Duration,
    /// Time measured.
    pub duration: Duration,
    /// Longest silence waited for at the end.
    pub drain: Duration,
    /// What messages say.
    pub content: Content,
    /// From one dial to the next, over all threads.
    pub connect_interval_ns: u64,
    /// What is done beside sending.
    pub mix: Mix,
    /// Kinds of clients.
    pub clients: Clients,
    /// Users that drop their connections at once.
    pub storm: Option<Storm>,
    /// Processes that are killed.
    pub kill: Option<Kill>,
    /// Which of how many machines this is.
    pub shard: Option<(u32, u32)>,
    /// What fails the run.
    pub fail_if: Vec<FailIf>,
    /// Random number of this run.
    pub run: u32,
}

impl Plan {
    /// Works out the run, or says why it makes no sense.
    pub fn new(args: &Scenario) -> Result<Plan, String> {
        let plan = match args {
            Scenario::Merge(_) | Scenario::Challenge(_) | Scenario::Members(_) => {
                return Err("this is no load of messages".into());
            }
            Scenario::Connect { .. } | Scenario::Fanout { .. } | Scenario::Ingest { .. } => {
                Plan::of_kind(args)?
            }
            Scenario::Quick(preset) => Plan::of_file(presets::named("quick")?, preset)?,
            Scenario::Medium(preset) => Plan::of_file(presets::named("medium")?, preset)?,
            Scenario::Strong(preset) => Plan::of_file(presets::named("strong")?, preset)?,
            Scenario::Extreme(preset) => Plan::of_file(presets::named("extreme")?, preset)?,
            Scenario::Mega(preset) => Plan::of_file(presets::named("mega")?, preset)?,
            Scenario::Ultra(preset) => Plan::of_file(presets::named("ultra")?, preset)?,
            Scenario::Soak(preset) => Plan::of_file(presets::named("soak")?, preset)?,
            Scenario::Custom { preset, scenario: None } => Plan::of_file(presets::named("custom")?, preset)?,
            Scenario::Custom { preset, scenario: Some(path) } => Plan::of_file(presets::read(path)?, preset)?,
        };
        if plan.users < plan.rooms {
            return Err(format!("{} rooms need at least as many users", plan.rooms));
        }
        if plan.senders > u32::from(u16::MAX) {
            return Err("more than 65535 senders in one room".into());
        }
        Ok(plan)
    }

    /// `connect`, `fanout`, `ingest`.
    fn of_kind(args: &Scenario) -> Result<Plan, String> {
        let (Scenario::Connect { common }
        | Scenario::Fanout { common, .. }
        | Scenario::Ingest { common, .. }) = args
        else {
            return Err("not one of these kinds".into());
        };
        let mut plan = Plan {
            scenario: "connect".to_owned(),
            target: resolve(&common.server)?,
            users: common.users.unwrap_or(FANOUT_USERS),
            rooms: 0,
            threads: common.threads,
            pace: Pace::Silent,
            schedule: Schedule::default(),
            rate: 0.0,
            senders: 0,
            warmup: Duration::ZERO,
            duration: common.duration,
            drain: Duration::ZERO,
            content: Content::Padded(mark::BYTES),
            connect_interval_ns: interval_ns(common.connect_rate),
            mix: Mix::default(),
            clients: Clients::default(),
            storm: None,
            kill: None,
            shard: None,
            fail_if: common.output.fail_if.clone(),
            run: random(),
        };
        let messages = match args {
            Scenario::Fanout { messages, rooms, rate, .. } => {
                (plan.scenario, plan.rooms) = ("fanout".to_owned(), *rooms);
                (plan.pace, plan.rate) = (Pace::Open, *rate);
                let wanted = (rate / f64::from(plan.rooms) / SENDER_RATE).ceil();
                let largest_room = plan.users.div_ceil(plan.rooms);
                plan.senders =
                    (1..largest_room).find(|count| f64::from(*count) >= wanted).unwrap_or(largest_room);
                Some(messages)
            }
            Scenario::Ingest { messages, rooms, inflight, .. } => {
                plan.users = common.users.unwrap_or(INGEST_USERS);
                (plan.scenario, plan.rooms) = ("ingest".to_owned(), rooms.unwrap_or((plan.users / 2).max(1)));
                plan.pace = Pace::Closed { inflight: *inflight };
                plan.threads = plan.threads.min(plan.rooms); // all of a room send, so all live at its home
                plan.senders = plan.users.div_ceil(plan.rooms);
                Some(messages)
            }
            _ => None,
        };
        plan.threads = plan.threads.min(plan.users);
        if let Some(messages) = messages {
            (plan.warmup, plan.drain) = (messages.warmup, messages.drain);
            plan.content = Content::Padded(messages.size);
        }
        let stretch = |name: &str, duration, measured| {
            let (from, to) = (plan.rate, plan.rate);
            Stretch { name: name.to_owned(), duration, from, to, measured }
        };
        let both = [stretch("warm-up", plan.warmup, false), stretch("load", plan.duration, true)];
        plan.schedule = Schedule::new(both.into_iter().filter(|part| !part.duration.is_zero()).collect());
        Ok(plan)
    }

    /// A preset or a scenario file, changed by flags.
    fn of_file(mut file: ScenarioFile, flags: &Preset) -> Result<Plan, String> {
        presets::change(&mut file, flags)?;
        let mut fail_if = flags.output.fail_if.clone();
        for condition in &file.fail_if {
            fail_if.push(FailIf::parse(condition)?);
        }
        let stretches = stretches(&file);
        let warmup = stretches.iter().take_while(|part| !part.measured).map(|part| part.duration).sum();
        let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let threads = flags.threads.unwrap_or_else(|| u32::try_from(cores).unwrap_or(1));
        Ok(Plan {
            scenario: file.name.clone(),
            target: resolve(&flags.server)?,
            users: file.users,
            rooms: file.rooms,
            threads: threads.min(file.rooms), // all of a room may send, so all live at its home
            pace: Pace::Open,
            schedule: Schedule::new(stretches),
            rate: file.rate,
            senders: file.users.div_ceil(file.rooms),
            warmup,
            duration: file.duration().saturating_sub(warmup),
            drain: flags.drain,
            content: file.size.map_or(Content::Greetings, Content::Padded),
            connect_interval_ns: interval_ns(file.connect_rate),
            mix: file.mix,
            clients: file.clients,
            storm: file.storm,
            kill: file.kill,
            shard: flags.shard,
            fail_if,
            run: random(),
        })
    }

    /// Whether clients come back when their connection breaks, and go on where they were.
    pub fn resumes(&self) -> bool {
        self.mix.reconnect > 0.0 || self.storm.is_some() || self.kill.is_some()
    }

    /// A place for each user that spreads neighbours apart: shares are taken from its front.
    fn place(&self, user: u32) -> u32 {
        let users = u64::from(self.users);
        let step = (users * 618 / 1000..).find(|step| gcd(*step, users) == 1).unwrap_or(1);
        u32::try_from(u64::from(user) * step % users).unwrap_or(user)
    }

    fn share(&self, percent: f64) -> u32 {
        (0..=self.users)
            .rfind(|count| f64::from(*count) * 100.0 <= percent * f64::from(self.users))
            .unwrap_or(0)
    }

    /// Who never reads.
    pub fn slow(&self) -> Vec<bool> {
        let share = self.share(self.clients.slow_readers);
        (0..self.users).map(|user| share > 0 && self.place(user) < share).collect()
    }

    /// Who uses long polling.
    pub fn polling(&self) -> Vec<bool> {
        let (slow, share) = (self.share(self.clients.slow_readers), self.share(self.clients.polling));
        let polls = |user| share > 0 && (slow..slow + share).contains(&self.place(user));
        (0..self.users).map(polls).collect()
    }

    /// Whom the nth storm strikes.
    pub fn struck(&self, percent: f64, nth: u64) -> Vec<bool> {
        let share = self.share(percent);
        let turn = u32::try_from(nth % u64::from(self.users)).unwrap_or_default();
        let (slow, place) = (self.slow(), |user: u32| (self.place(user) + turn) % self.users);
        (0..self.users).zip(slow).map(|(user, slow)| !slow && share > 0 && place(user) < share).collect()
    }

    /// The room a user is in.
    pub fn room_of(&self, user: u32) -> u32 {
        user.checked_rem(self.rooms).unwrap_or_default()
    }

    /// The thread a user's connection lives on.
    pub fn thread_of(&self, user: u32) -> u32 {
        match user.checked_div(self.rooms) {
            None => user % self.threads,
            Some(_) if self.rooms >= self.threads => self.room_of(user) % self.threads,
            Some(member) => (self.room_of(user) + member) % self.threads,
        }
    }

    /// The thread that numbers a room's messages.
    pub fn home_of(&self, room: u32) -> u32 {
        room % self.threads
    }

    /// Which sender of its room a user is, if it is one.
    pub fn slot_of(&self, user: u32) -> Option<u16> {
        let member = user.checked_div(self.rooms)?;
        let slot = if self.rooms >= self.threads { member } else { member / self.threads };
        let at_home = self.thread_of(user) == self.home_of(self.room_of(user));
        u16::try_from(slot).ok().filter(|_| at_home && slot < self.senders)
    }

    /// A user's name, unique to this run.
    pub fn name_of(&self, user: u32) -> String {
        format!("b{:08x}u{user}", self.run)
    }

    /// The address a user connects from, when the usual one has given its share of ports. Shards on one
    /// machine share that one: each has addresses of its own.
    pub fn source_of(&self, user: u32) -> Option<IpAddr> {
        let SocketAddr::V4(target) = self.target else { return None };
        let before = self.shard.map_or(0, |(which, _)| which - 1);
        let source = before * self.users.div_ceil(CONNECTIONS_PER_SOURCE) + user / CONNECTIONS_PER_SOURCE;
        let spread = source > 0 && target.ip().is_loopback();
        spread.then(|| IpAddr::V4(Ipv4Addr::from_bits(Ipv4Addr::new(127, 1, 0, 1).to_bits() + (source << 8))))
    }
}

/// What a file's phases come to.
fn stretches(file: &ScenarioFile) -> Vec<Stretch> {
    let mut level = 0.0;
    let mut measuring = false;
    let stretch = |phase: &crate::scenario::PhaseFile| {
        let to = file.rate * phase.level / 100.0;
        let from = if phase.kind == PhaseKind::Ramp { level } else { to };
        if phase.kind != PhaseKind::Spike {
            level = to;
        }
        measuring |= phase.kind != PhaseKind::Ramp;
        let name = phase.name.clone().unwrap_or_else(|| phase.kind.name().to_owned());
        Stretch { name, duration: phase.duration, from, to, measured: measuring }
    };
    file.phases.iter().map(stretch).collect()
}

fn resolve(server: &Server) -> Result<SocketAddr, String> {
    args::target(&server.target).map_err(|why| format!("--target {}: {why}", server.target))
}

fn interval_ns(rate: f64) -> u64 {
    u64::try_from(Duration::from_secs_f64(1.0 / rate).as_nanos()).unwrap_or(u64::MAX)
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::typed;

    fn plan(line: &str) -> Result<Plan, String> {
        Plan::new(&typed(line).scenario)
    }

    /// Every room has its senders, each at home and in a place of its own.
    fn check(line: &str, senders: u32) {
        let plan = plan(line).unwrap();
        let mut slots = vec![vec![]; plan.rooms as usize];
        let mut members = vec![0; plan.rooms as usize];
        for user in 0..plan.users {
            let room = plan.room_of(user);
            members[room as usize] += 1;
            if let Some(slot) = plan.slot_of(user) {
                assert_eq!(plan.thread_of(user), plan.home_of(room), "{line}: user {user}");
                slots[room as usize].push(u32::from(slot));
            }
        }
        for (room, (slots, count)) in (0..).zip(slots.into_iter().zip(members)) {
            assert_eq!(slots, (0..senders.min(count)).collect::<Vec<_>>(), "{line}: room {room}");
        }
    }

    #[test]
    fn senders_live_at_their_rooms_home() {
        check("fanout --users 10", 1);
        check("fanout --users 100 --threads 3 --rate 2000", 4);
        check("fanout --users 100 --rooms 7 --threads 3 --rate 7000", 2);
        check("ingest --users 11 --threads 8", 3);
        check("ingest --users 20 --rooms 3 --threads 2", 7);
    }

    #[test]
    fn presets_have_the_numbers_of_their_menu() {
        for (name, users, rooms, seconds) in [
            ("quick", 30, 10, 30),
            ("medium", 100, 15, 60),
            ("strong", 500, 20, 120),
            ("extreme", 1000, 25, 180),
            ("mega", 5000, 30, 300),
            ("ultra", 10_000, 35, 600),
        ] {
            let plan = plan(name).unwrap();
            assert_eq!(
                (plan.users, plan.rooms, (plan.warmup + plan.duration).as_secs()),
                (users, rooms, seconds)
            );
            assert!(!plan.warmup.is_zero() && plan.scenario == name && !plan.resumes());
            check(name, users.div_ceil(rooms));
        }
        assert!(plan("soak").unwrap().resumes());
    }

    #[test]
    fn flags_change_a_preset_and_its_phases_keep_their_proportions() {
        let changed = plan("quick --duration 3s --rate 50 --users 5 --threads 1").unwrap();
        assert_eq!((changed.users, changed.rooms, changed.rate), (5, 5, 50.0));
        assert_eq!(
            (changed.warmup, changed.duration),
            (Duration::from_millis(300), Duration::from_millis(2700))
        );
        assert_eq!(changed.schedule.messages(), 8 + 135); // the ramp's area is 7.5
        let failure = plan("quick --users 5 --rooms 6").unwrap_err();
        assert_eq!(failure, "6 rooms need at least as many users");
    }

    #[test]
    fn shards_add_up() {
        let shards: Vec<Plan> = (1..=3).map(|i| plan(&format!("quick --shard {i}/3")).unwrap()).collect();
        assert_eq!(shards.iter().map(|shard| shard.users).sum::<u32>(), 30);
        assert_eq!(shards.iter().map(|shard| shard.rooms).collect::<Vec<_>>(), [3, 3, 4]);
        assert!(shards.iter().all(|shard| (shard.rate - 10.0).abs() < 1e-9));
        assert!(plan("quick --shard 1/11").unwrap_err().contains("at least one room"));
    }

    #[test]
    fn shares_of_users_are_exact() {
        for (users, percent, slow) in
            [(100, 10, 10), (1000, 5, 50), (30, 10, 3), (7, 50, 3), (9, 0, 0), (10, 100, 10)]
        {
            let plan = plan(&format!("custom --users {users} --rooms 3 --slow-readers {percent}")).unwrap();
            assert_eq!(plan.slow().iter().filter(|slow| **slow).count(), slow, "{percent} % of {users}");
        }
        let both = plan("custom --users 50 --rooms 3 --slow-readers 20 --polling 80").unwrap();
        assert!(both.slow().into_iter().zip(both.polling()).all(|(slow, polls)| slow != polls));
        assert!(plan("custom --slow-readers 50 --polling 51").unwrap_err().contains("100 percent"));
    }

    #[test]
    fn sources_spread_on_loopback_only() {
        let source = |line, user| plan(line).unwrap().source_of(user).map(|address| address.to_string());
        assert_eq!(source("connect", 19_999), None);
        assert_eq!(source("connect", 20_000).as_deref(), Some("127.1.1.1"));
        assert_eq!(source("connect", 6_000_000).as_deref(), Some("127.2.44.1"));
        assert_eq!(source("connect --target 192.0.2.1:80", 20_000), None);
        assert_eq!(source("ultra --shard 1/3", 0), None);
        assert_eq!(source("ultra --shard 3/3", 0).as_deref(), Some("127.1.2.1"));
    }
}
