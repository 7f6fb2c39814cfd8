//! `minitalk bench challenge`: members of live challenges (contract §5), from login to the end, judged by what
//! each was told about each other. `minitalk bench members` makes the members.
//!
//! # Reading order
//!
//! | module | what it is |
//! |---|---|
//! | [`args`], [`roster`] | what was typed; members in a CSV file |
//! | `calls`, `lines` | a member's calls; all members' calls, each at its time |
//! | `heard`, `crowd`, `listen` | what a WebSocket says; all WebSockets, and what becomes of what they hear |
//! | `gait`, `cell`, `sight`, `faults` | how members move; who was told what about whom, and what was wrong with that |
//! | `stages`, `tally` | how a run goes on; what is counted |
//! | [`report`], `tell`, `page` | the outcome, as JSON, as text, as HTML |

pub mod args;
mod calls;
mod cell;
mod crowd;
mod faults;
mod gait;
mod heard;
mod lines;
mod listen;
mod memo;
mod page;
pub mod report;
pub mod roster;
mod sight;
mod stages;
mod tally;
mod tell;

use std::collections::BTreeMap;
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mio::{Poll, Waker};

use self::args::{ChallengeArgs, MembersArgs};
use self::calls::Challenge;
use self::crowd::{CALLS, Crowd};
use self::faults::Faults;
use self::gait::Gait;
use self::lines::{Agenda, Caller, LINES, Lines};
use self::report::{Asked, Parts, RaceReport};
use self::roster::{Entry, Roster};
use self::sight::Course;
use self::stages::{Audience, Director, Plan};
use self::tell::Screen;
use crate::args::target;
use crate::clock::{Clock, SECOND_NS, ns};
use crate::http::Client;
use crate::interrupt::Interrupt;
use crate::page::parts::date;
use crate::preflight;
use crate::procs::Watched;
use crate::run::Failure;
use crate::tell::write_json;
use crate::watch::Watch;

/// How fast everybody runs, in minutes a kilometre: what many do.
const PACE: f64 = 6.0;

/// Until a challenge that is made starts, beside the ramp.
const BEFORE_START: Duration = Duration::from_secs(60);

/// From one look at a challenge that is not `READY` to the next, and the longest wait for it.
const LOOK: Duration = Duration::from_secs(1);
const READY_WAIT: Duration = Duration::from_secs(15 * 60);

/// What became of calls and was not looked at yet; more makes the lines wait.
const NEWS: usize = 1024;

/// Longest wait for an answer before there is any load.
const PATIENCE: Duration = Duration::from_secs(30);

/// Memory of the judge beyond which a run is refused, in bytes: six for each pair of members.
const PAIRS_BYTES_MAX: u64 = 4 << 30;

/// Makes members; the exit code.
pub fn make_members(args: &MembersArgs) -> u8 {
    match roster::make(args) {
        Ok(()) => 0,
        Err(why) => fail(&why),
    }
}

/// Makes a run and tells its outcome; the exit code.
pub fn run(args: &ChallengeArgs) -> u8 {
    let mut screen = Screen::new(&args.output);
    match race(args, &mut screen) {
        Ok(report) => publish(&report, args).map_or_else(|why| fail(&why), |()| report.exit_code()),
        Err(failure) => fail(&failure),
    }
}

fn fail(why: &dyn std::fmt::Display) -> u8 {
    eprintln!("minitalk bench: {why}");
    crate::EXIT_FAILURE
}

fn publish(report: &RaceReport, args: &ChallengeArgs) -> std::io::Result<()> {
    match args.output.json_on_stdout() {
        true => eprint!("{report}"),
        false => print!("{report}"),
    }
    let page = args.output.html.as_deref().map_or(Ok(()), |path| page::write(report, path));
    let json = args.output.json.as_deref().map_or(Ok(()), |path| write_json(report, path));
    page.and(json)
}

fn race(args: &ChallengeArgs, screen: &mut Screen) -> Result<RaceReport, Failure> {
    let prepared = prepare(args, screen)?;
    let report = measure(args, &prepared, &mut |row, came, members| screen.show(row, came, members));
    screen.end();
    report
}

/// Everything a run needs, once the server has been asked.
struct Prepared {
    plan: Plan,
    entries: Vec<Entry>,
    challenges: BTreeMap<u64, Challenge>,
    watched: Watched,
}

/// Looks at the members, the machine, the server and the challenges.
fn prepare(args: &ChallengeArgs, screen: &mut Screen) -> Result<Prepared, Failure> {
    let mut roster = Roster::read(&args.csv).map_err(Failure::Usage)?;
    let users = args.users.map_or(roster.entries.len(), |users| users as usize);
    if users > roster.entries.len() {
        let (there, path) = (roster.entries.len(), args.csv.display());
        return Err(Failure::Usage(format!("{path} has {there} members, not {users}")));
    }
    if let Some(code) = args.create.as_deref().filter(|code| calls::course_km(code).is_none()) {
        let codes = calls::course_codes();
        return Err(Failure::Usage(format!("there is no distance {code}; there are {codes}")));
    }
    let target = target(&args.server.target).map_err(Failure::Usage)?;
    let watched = Watched::new(&args.server.pid).map_err(Failure::Usage)?;
    preflight::raise_file_limit((users + LINES) as u64)?;
    preflight::is_ready(target).map_err(Failure::Setup)?;
    let mut client = Client::with_patience(target, PATIENCE);
    let token = first_login(&mut client, roster.entries[0].member)?;
    if let Some(distance) = &args.create {
        let ramp = Duration::from_secs_f64(users as f64 / args.connect_rate);
        let start_in = args.start_in.unwrap_or(ramp + BEFORE_START);
        let start_at = utc(unix_now() + start_in);
        let made = calls::create(&mut client, &token, distance, roster.entries.len(), &start_at);
        let made = made.map_err(|why| Failure::Setup(format!("no challenge could be made: {why}")))?;
        screen.say(&format!("challenge {} starts at {start_at}", made.id));
        roster.assign(made.id).map_err(Failure::Output)?;
    }
    let entries = roster.entries[..users].to_vec();
    let mut challenges = BTreeMap::new();
    for (place, entry) in entries.iter().enumerate() {
        let id = entry.challenge.ok_or_else(|| {
            let (line, path) = (place + 2, args.csv.display());
            Failure::Usage(format!("{path}: line {line}: challengeId is empty; --create makes a challenge"))
        })?;
        if let std::collections::btree_map::Entry::Vacant(vacant) = challenges.entry(id) {
            vacant.insert(once_ready(&mut client, &token, id, screen)?);
        }
    }
    let interval_ns = ns(Duration::from_secs_f64(1.0 / args.connect_rate));
    let plan = Plan {
        target,
        users,
        interval_ns,
        stay_ns: ns(args.duration),
        ping_ns: ns(args.ping_every),
        record_ns: args.record_every.map(ns),
        pace: PACE,
        quit: args.quitting(),
        drain_ns: ns(args.drain),
    };
    Ok(Prepared { plan, entries, challenges, watched })
}

fn first_login(client: &mut Client, member: u64) -> Result<String, Failure> {
    calls::login(client, member).map_err(|why| {
        Failure::Setup(format!(
            "member {member} can't log in ({why}): is challenge.test_login on, and were the members imported?"
        ))
    })
}

/// A challenge, once members may enter it.
fn once_ready(client: &mut Client, token: &str, id: u64, screen: &mut Screen) -> Result<Challenge, Failure> {
    let since = Instant::now();
    let mut told = false;
    loop {
        let found = calls::show(client, token, id)
            .map_err(|why| Failure::Setup(format!("challenge {id} can't be looked at: {why}")))?;
        match found.status.as_str() {
            "READY" | "RUNNING" => return Ok(found),
            "DONE" => {
                return Err(Failure::Setup(format!("challenge {id} is DONE: --create makes a new one")));
            }
            _ if since.elapsed() > READY_WAIT => {
                return Err(Failure::Setup(format!("challenge {id} is not READY after 15 minutes")));
            }
            status => {
                if !std::mem::replace(&mut told, true) {
                    screen.say(&format!("challenge {id} is {status}; waiting until it is READY"));
                }
                thread::sleep(LOOK);
            }
        }
    }
}

fn measure(
    args: &ChallengeArgs,
    prepared: &Prepared,
    audience: &mut Audience,
) -> Result<RaceReport, Failure> {
    let Prepared { plan, entries, challenges, watched } = prepared;
    let (courses, seats, callers) = courses(args, entries, challenges)?;
    let poll = Poll::new().map_err(Failure::System)?;
    let waker = Waker::new(poll.registry(), CALLS).map_err(Failure::System)?;
    let interrupt = Interrupt::expect().map_err(Failure::System)?;
    let (clock, watch) = (Clock::start(), Watch::default());
    let begun_ns = clock.now_ns();
    let agenda = Agenda::ramp(plan.users, begun_ns, plan.interval_ns);
    let password = args.password.as_deref();
    let lines = Lines { target: plan.target, clock, callers: &callers, password, agenda: &agenda };
    let (news, calls) = mpsc::sync_channel(NEWS);
    let mut crowd = Crowd::new(plan, clock, &agenda, (courses, seats), poll);
    let mut director = Director::new(plan, (watched, &watch), interrupt, audience, begun_ns);
    let outcome = thread::scope(|scope| {
        for _ in 0..LINES.min(plan.users) {
            let (lines, waker, news) = (&lines, &waker, news.clone());
            scope.spawn(move || lines.run(&news, waker));
        }
        let watcher = scope.spawn(|| watch.run(plan.target, watched));
        let outcome = crowd.run(calls, |crowd, now| director.turn(crowd, now));
        agenda.end();
        watch.end();
        watcher.thread().unpark();
        outcome
    });
    outcome.map_err(Failure::System)?;
    crowd.close();
    let mut faults = Faults::default();
    std::mem::take(&mut crowd.courses).into_iter().for_each(|course| faults.add(course.judge()));
    let asked = Asked {
        users: plan.users,
        challenges: challenges.keys().copied().collect(),
        connect_rate_per_s: args.connect_rate,
        duration_s: args.duration.as_secs_f64(),
        ping_every_s: args.ping_every.as_secs_f64(),
        record_every_s: args.record_every.map(|every| every.as_secs_f64()),
        quit_percent: plan.quit,
    };
    let parts = Parts {
        target: plan.target.to_string(),
        started_unix_ms: clock.unix_ms(begun_ns),
        ended_ns: director.ended_ns,
        asked,
        faults,
        rows: director.rows,
        samples: director.samples,
    };
    let mut report = RaceReport::new(parts, &crowd.tally);
    report.thresholds = args.conditions().iter().map(|condition| condition.judge(&report)).collect();
    Ok(report)
}

/// A judge for each challenge, and where each member sits.
type Courses = (Vec<Course>, Vec<(usize, usize)>, Vec<Caller>);

fn courses(
    args: &ChallengeArgs,
    entries: &[Entry],
    challenges: &BTreeMap<u64, Challenge>,
) -> Result<Courses, Failure> {
    let every = args.record_every.unwrap_or(Duration::from_secs(1));
    let every_ms = i64::try_from(every.as_millis()).unwrap_or(i64::MAX);
    let step_km = every.as_secs_f64() / 60.0 / PACE;
    let mut users: Vec<Vec<u64>> = vec![vec![]; challenges.len()];
    let places: BTreeMap<u64, usize> =
        challenges.keys().enumerate().map(|(place, id)| (*id, place)).collect();
    let mut seats = vec![];
    let mut callers = vec![];
    for Entry { member, challenge } in entries {
        let challenge = challenge.unwrap_or_default();
        let course = places[&challenge];
        seats.push((course, users[course].len()));
        users[course].push(*member);
        callers.push(Caller { member: *member, challenge, token: Mutex::new(None) });
    }
    let bytes: u64 = users.iter().map(|users| 6 * (users.len() as u64).pow(2)).sum();
    if bytes > PAIRS_BYTES_MAX {
        let (needs, most) = (bytes >> 20, PAIRS_BYTES_MAX >> 20);
        return Err(Failure::Usage(format!(
            "judging every pair of these members takes {needs} MiB, at most {most} are given: take fewer --users"
        )));
    }
    let course = |(users, challenge): (&Vec<u64>, &Challenge)| {
        Course::new(users, Gait { every_ms, step_km, course_km: challenge.course_km })
    };
    Ok((users.iter().zip(challenges.values()).map(course).collect(), seats, callers))
}

fn unix_now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// A moment as REST takes it, to the second above.
fn utc(moment: Duration) -> String {
    let second = moment.as_nanos().div_ceil(u128::from(SECOND_NS));
    let ms = u64::try_from(second).unwrap_or(u64::MAX).saturating_mul(1000);
    format!("{}Z", date(ms).replace(' ', "T"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_spelled_for_rest() {
        assert_eq!(utc(Duration::from_millis(1_767_225_599_001)), "2026-01-01T00:00:00Z");
        assert_eq!(utc(Duration::from_secs(1_767_225_600)), "2026-01-01T00:00:00Z");
    }
}
