//! What this worker tells the supervisor about itself.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use minitalk_supervisor::child::Lifeline;
use serde_json::{Value, json};

use super::core::{App, Core};
use super::http::Open;
use super::search::Searches;
use super::uplink::State;

/// Time between two looks at whether there is something to tell.
const LOOK: Duration = Duration::from_millis(100);

/// A report goes out at least this often, so that silence means trouble.
const AT_LEAST: Duration = Duration::from_secs(1);

/// Reports for as long as the worker lives.
pub async fn run(app: App, http: Open, lifeline: Lifeline) {
    let mut last = Value::Null;
    let mut sent_at = Instant::now();
    let mut second = Second::starting();
    loop {
        let now = Instant::now();
        // On the runtime's one thread: a loop that hangs keeps this from being said.
        let _ = lifeline.prove_alive();
        let report = second.report(&app.core.lock(), &app.searches, &http, now);
        if report != last || now.duration_since(sent_at) >= AT_LEAST {
            // A supervisor that does not read misses a report, not the worker's time.
            let _ = lifeline.report(&report);
            (last, sent_at) = (report, now);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Rates over the last whole second.
struct Second {
    started: Instant,
    messages_in: u64,
    deliveries: u64,
    messages_in_per_s: u64,
    deliveries_per_s: u64,
}

impl Second {
    fn starting() -> Second {
        Second {
            started: Instant::now(),
            messages_in: 0,
            deliveries: 0,
            messages_in_per_s: 0,
            deliveries_per_s: 0,
        }
    }

    fn report(&mut self, core: &Core, searches: &Searches, http: &Open, now: Instant) -> Value {
        let counters = &core.counters;
        let ms = u64::try_from(now.duration_since(self.started).as_millis()).unwrap_or(u64::MAX);
        if ms >= 1_000 {
            self.messages_in_per_s = (counters.messages_in - self.messages_in) * 1_000 / ms;
            self.deliveries_per_s = (counters.deliveries - self.deliveries) * 1_000 / ms;
            (self.messages_in, self.deliveries, self.started) =
                (counters.messages_in, counters.deliveries, now);
        }
        json!({
            "connections": core.engine.table.len(),
            "http_connections": http.count(),
            "upgrades_total": core.engine.counters.upgrades,
            "accepted_total": core.engine.counters.accepted,
            "messages_in_total": counters.messages_in,
            "messages_in_per_s": self.messages_in_per_s,
            "deliveries_total": counters.deliveries,
            "deliveries_per_s": self.deliveries_per_s,
            "slow_consumers_total": core.engine.counters.slow_consumers,
            "ping_timeouts_total": core.engine.counters.ping_timeouts,
            "unfinished_bytes": core.engine.table.unfinished(),
            "violations_total": core.engine.counters.violations,
            "overloaded_total": counters.overloaded,
            "tokens_expired_total": counters.tokens_expired,
            "logged_out_total": counters.logged_out,
            "challenge_connections": core.arena.counters.seated,
            "tickets_issued_total": core.arena.counters.tickets_issued,
            "tickets_used_total": core.arena.counters.tickets_used,
            "tickets_refused_total": core.arena.counters.tickets_refused,
            "challenge_timeouts_total": core.arena.counters.timeouts,
            "challenge_enter_us_total": core.arena.counters.enter_us,
            "challenge_enter_us_max": core.arena.counters.enter_us_max,
            "searches": searches.under_way(),
            "searches_total": searches.counts().begun.load(Ordering::Relaxed),
            "searches_given_up_total": searches.counts().given_up.load(Ordering::Relaxed),
            "unanswered": core.uplink.unanswered(),
            "caches": [core.names.report()],
            "link": if core.uplink.state() == State::Up { "up" } else { "down" },
        })
    }
}
