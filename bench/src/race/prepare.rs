//! What is looked at, and made, before the first member comes: the members, the machine, the server, the
//! challenges.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::args::ChallengeArgs;
use super::calls::{self, Challenge};
use super::lines::LINES;
use super::roster::{Entry, Roster};
use super::stages::Plan;
use super::tell::Screen;
use super::{PACE, PATIENCE};
use crate::args::target;
use crate::clock::{SECOND_NS, ns};
use crate::disrupt;
use crate::http::Client;
use crate::page::parts::date;
use crate::preflight;
use crate::presets;
use crate::procs::Watched;
use crate::run::Failure;
use crate::watch;

/// Until a challenge that is made starts, beside the ramp.
const BEFORE_START: Duration = Duration::from_secs(60);

/// From one look at a challenge that is not `READY` to the next, and the longest wait for it.
const LOOK: Duration = Duration::from_secs(1);
const READY_WAIT: Duration = Duration::from_secs(15 * 60);

/// Everything a run needs, once the server has been asked.
pub(super) struct Prepared {
    pub plan: Plan,
    pub entries: Vec<Entry>,
    pub challenges: BTreeMap<u64, Challenge>,
    pub watched: Watched,
    /// Somebody's.
    pub token: String,
}

/// Looks at the members, the machine, the server and the challenges.
pub(super) fn prepare(args: &ChallengeArgs, screen: &mut Screen) -> Result<Prepared, Failure> {
    let mut roster = Roster::read(&args.csv).map_err(Failure::Usage)?;
    let users = args.users.map_or(roster.entries.len(), |users| users as usize);
    if users > roster.entries.len() {
        let (there, path) = (roster.entries.len(), args.csv.display());
        return Err(Failure::Usage(format!("{path} has {there} members, not {users}")));
    }
    if args.shard.is_some() && args.create.is_some() {
        return Err(Failure::Usage(
            "--create on each machine would make as many challenges: make one, and write its id into the file all \
             take their share of, with `minitalk bench members N --challenge ID --csv FILE`"
                .to_owned(),
        ));
    }
    if let Some(code) = args.create.as_deref().filter(|code| calls::course_km(code).is_none()) {
        let codes = calls::course_codes();
        return Err(Failure::Usage(format!("there is no distance {code}; there are {codes}")));
    }
    let target = target(&args.server.target).map_err(Failure::Usage)?;
    let watched = Watched::new(&args.server.pid).map_err(Failure::Usage)?;
    preflight::raise_file_limit((users + LINES) as u64)?;
    preflight::is_ready(target).map_err(Failure::Setup)?;
    if let Some(victim) = args.kill {
        disrupt::can_kill(target, watch::ask(target).as_ref(), victim).map_err(Failure::Usage)?;
    }
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
    let share = args.shard.map_or(0..users, |shard| presets::share(users, shard));
    let first_line = share.start + 2;
    let entries = roster.entries[share].to_vec();
    if entries.is_empty() {
        return Err(Failure::Usage(format!("{users} members are too few for so many machines")));
    }
    let mut challenges = BTreeMap::new();
    for (place, entry) in entries.iter().enumerate() {
        let id = entry.challenge.ok_or_else(|| {
            let (line, path) = (place + first_line, args.csv.display());
            Failure::Usage(format!("{path}: line {line}: challengeId is empty; --create makes a challenge"))
        })?;
        if let std::collections::btree_map::Entry::Vacant(vacant) = challenges.entry(id) {
            vacant.insert(once_ready(&mut client, &token, id, screen)?);
        }
    }
    let machines = args.shard.map_or(1.0, |(_, of)| f64::from(of));
    let interval_ns = ns(Duration::from_secs_f64(machines / args.connect_rate));
    let plan = Plan {
        target,
        users: entries.len(),
        interval_ns,
        stay_ns: ns(args.duration),
        ping_ns: ns(args.ping_every),
        record_ns: args.record_every.map(ns),
        pace: PACE,
        quit: args.quitting(),
        drain_ns: ns(args.drain),
    };
    Ok(Prepared { plan, entries, challenges, watched, token })
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
