//! Searches over REST while the load lasts: a few connections of their own, each search timed from
//! the moment it should have begun.

use std::thread;
use std::time::Duration;

use crate::clock::Clock;
use crate::greet::GREETINGS;
use crate::hdr::Latency;
use crate::http::Client;
use crate::plan::Plan;
use crate::stage::{Shared, Stage};
use crate::stats::Reasons;

/// Searches under way at once.
pub const LINES: u64 = 4;

/// Longest wait for one answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often a line looks whether its next search is due, or the load over.
const LOOK: Duration = Duration::from_millis(20);

/// What became of one line's searches.
pub struct Searches {
    /// From the moment it should have begun to its answer.
    pub latency: Latency,
    /// Those that were not answered with 200.
    pub failed: Reasons,
}

impl Searches {
    /// None yet.
    pub fn new() -> Searches {
        Searches { latency: Latency::of_run(), failed: Reasons::default() }
    }

    /// Adds another line's.
    pub fn merge(&mut self, other: &Searches) {
        self.latency.add(&other.latency);
        other.failed.0.iter().for_each(|(reason, count)| self.failed.note(reason, *count));
    }
}

/// Makes every `LINES`th search, beginning with number `line`, until the load is over.
pub fn run(plan: &Plan, shared: &Shared, clock: Clock, tokens: &[String], line: u64) -> Searches {
    let mut searches = Searches::new();
    let schedule = plan.schedule.scaled(plan.mix.search / 100.0);
    let mut client = Client::with_patience(plan.target, PATIENCE);
    let mut next = line;
    while let Some(due_ns) = schedule.due_ns(next) {
        while shared.stage() < Stage::Load || shared.start_ns() + due_ns > clock.now_ns() {
            if shared.stage() > Stage::Load {
                return searches;
            }
            let left = Duration::from_nanos((shared.start_ns() + due_ns).saturating_sub(clock.now_ns()));
            thread::sleep(if shared.stage() < Stage::Load { LOOK } else { left.min(LOOK) });
        }
        let path = path(next);
        let token = usize::try_from(next).ok().and_then(|nth| tokens.get(nth * 7919 % tokens.len().max(1)));
        match client.get(&path, token.map(String::as_str)) {
            Ok(answer) if answer.status == 200 => {
                searches.latency.note(shared.start_ns() + due_ns, clock.now_ns())
            }
            Ok(answer) => searches.failed.note(&format!("a search was answered with {}", answer.status), 1),
            Err(why) => searches.failed.note(&format!("a search was not answered: {why}"), 1),
        }
        next += LINES;
    }
    searches
}

/// Searches for the first word of a greeting.
fn path(nth: u64) -> String {
    let greeting = usize::try_from(nth).map_or(GREETINGS[0], |nth| GREETINGS[nth % GREETINGS.len()]);
    let word = greeting.split(' ').next().unwrap_or_default();
    let encoded: String = word.bytes().map(|byte| format!("%{byte:02X}")).collect();
    format!("/api/messages/search?q={encoded}&limit=20")
}
