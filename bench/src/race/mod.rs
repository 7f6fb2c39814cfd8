//! `minitalk bench challenge`: members of live challenges (contract §5), from login to the end, judged by what
//! each was told about each other. `minitalk bench members` makes the members.
//!
//! # Reading order
//!
//! | module | what it is |
//! |---|---|
//! | [`args`], [`roster`] | what was typed; members in a CSV file |
//! | `prepare` | what is looked at and made before the first member comes |
//! | `calls`, `lines` | a member's calls; all members' calls, each at its time |
//! | `heard`, `crowd`, `listen` | what a WebSocket says; all WebSockets, and what becomes of what they hear |
//! | `gait`, `cell`, `sight`, `faults` | how members move; who was told what about whom, and what was wrong with that |
//! | `stages`, `kills`, `tally` | how a run goes on; what is done to the server meanwhile; what is counted |
//! | `ranking` | whether everybody is ranked once in the end |
//! | [`report`], `merge`, `tell`, `page` | the outcome, of several machines too; as JSON, as text, as HTML |

pub mod args;
mod calls;
mod cell;
mod crowd;
mod faults;
mod gait;
mod heard;
mod kills;
mod lines;
mod listen;
mod memo;
mod merge;
mod page;
mod prepare;
mod ranking;
pub mod report;
pub mod roster;
mod sight;
mod stages;
mod tally;
mod tell;

use std::collections::BTreeMap;
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::Duration;

use mio::{Poll, Waker};

use self::args::{ChallengeArgs, MembersArgs};
use self::calls::Challenge;
use self::crowd::{CALLS, Crowd};
use self::faults::Faults;
use self::gait::Gait;
use self::kills::Kills;
use self::lines::{Agenda, Caller, LINES, Lines};
use self::prepare::{Prepared, prepare};
use self::report::{Asked, Parts, RaceReport};
use self::roster::Entry;
use self::sight::Course;
use self::stages::{Audience, Director, Plan};
use self::tell::Screen;
use crate::args::Output;
use crate::clock::{Clock, SECOND_NS};
use crate::http::Client;
use crate::interrupt::Interrupt;
use crate::merge::Named;
use crate::run::Failure;
use crate::tell::write_json;
use crate::watch::Watch;

/// How fast everybody runs, in minutes a kilometre: what many do.
const PACE: f64 = 6.0;

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
        Ok(report) => finish(report, &args.output),
        Err(failure) => fail(&failure),
    }
}

/// Makes one report of those of several machines and tells it; the exit code.
pub fn merged(reports: Vec<Named<RaceReport>>, output: &Output) -> u8 {
    merge::merge(reports).map_or_else(|why| fail(&why), |report| finish(report, output))
}

/// Judges the conditions and tells everything; the exit code.
fn finish(mut report: RaceReport, output: &Output) -> u8 {
    let conditions = args::conditions(output);
    report.thresholds = conditions.iter().map(|condition| condition.judge(&report)).collect();
    publish(&report, output).map_or_else(|why| fail(&Failure::Output(why)), |()| report.exit_code())
}

fn fail(why: &dyn std::fmt::Display) -> u8 {
    eprintln!("minitalk bench: {why}");
    crate::EXIT_FAILURE
}

fn publish(report: &RaceReport, output: &Output) -> std::io::Result<()> {
    match output.json_on_stdout() {
        true => eprint!("{report}"),
        false => print!("{report}"),
    }
    let page = output.html.as_deref().map_or(Ok(()), |path| page::write(report, path));
    let json = output.json.as_deref().map_or(Ok(()), |path| write_json(report, path));
    page.and(json)
}

fn race(args: &ChallengeArgs, screen: &mut Screen) -> Result<RaceReport, Failure> {
    let prepared = prepare(args, screen)?;
    let report = measure(args, &prepared, &mut |row, came, members| screen.show(row, came, members));
    screen.end();
    report
}

fn measure(
    args: &ChallengeArgs,
    prepared: &Prepared,
    audience: &mut Audience,
) -> Result<RaceReport, Failure> {
    let Prepared { plan, entries, challenges, watched, token } = prepared;
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
    let mut crowd =
        Crowd::new(plan, clock, &agenda, (courses, seats), poll, Kills::new(args.killing(), begun_ns));
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
    let mut faults = Faults::default();
    let ranked = look_up(plan, token, challenges, &mut crowd, &mut faults);
    crowd.close();
    std::mem::take(&mut crowd.courses).into_iter().for_each(|course| faults.add(course.judge()));
    let asked = Asked {
        users: plan.users,
        challenges: challenges.keys().copied().collect(),
        connect_rate_per_s: SECOND_NS as f64 / plan.interval_ns as f64,
        duration_s: args.duration.as_secs_f64(),
        ping_every_s: args.ping_every.as_secs_f64(),
        record_every_s: args.record_every.map(|every| every.as_secs_f64()),
        quit_percent: plan.quit,
        shard: args.shard,
    };
    let parts = Parts {
        target: plan.target.to_string(),
        started_unix_ms: clock.unix_ms(begun_ns),
        ended_ns: director.ended_ns,
        asked,
        faults,
        ranked,
        rows: director.rows,
        samples: director.samples,
    };
    Ok(RaceReport::new(parts, &crowd.tally, &crowd.kills))
}

/// Looks for all members in the rankings; how many, if the server has rankings.
fn look_up(
    plan: &Plan,
    token: &str,
    challenges: &BTreeMap<u64, Challenge>,
    crowd: &mut Crowd,
    faults: &mut Faults,
) -> Option<u64> {
    let mut client = Client::with_patience(plan.target, PATIENCE);
    let mut looked_up = None;
    for (course, challenge) in challenges.keys().enumerate() {
        let runners = crowd.runners(course);
        match ranking::judge(&mut client, token, *challenge, &runners) {
            Ok(Some(found)) => {
                *looked_up.get_or_insert(0) += runners.len() as u64;
                found.into_iter().for_each(|(user, kind, what)| faults.note(kind, user, user, what));
            }
            Ok(None) => {}
            Err(why) => crowd.tally.error(format!("ranking: {why}")),
        }
    }
    looked_up
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
