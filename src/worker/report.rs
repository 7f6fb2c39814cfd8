//! What this worker tells the supervisor about itself.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use minitalk_supervisor::child::Lifeline;
use serde_json::{Value, json};

use super::core::{App, Core};
use super::http::Open;

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
        let report = second.report(&app, &http, now);
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

    fn report(&mut self, app: &App, http: &Open, now: Instant) -> Value {
        let core = app.core.lock();
        self.go_on(&core, now);
        let mut report = self.chat(&core);
        let (engine, logins, searches) = (&core.engine, app.brake.counts(), app.searches.counts());
        let more = json!({
            "connections": engine.table.len(),
            "polling_connections": engine.table.polling(),
            "websocket_connections": engine.table.len() - engine.table.polling(),
            "http_connections": http.count(),
            "connections_limit": engine.settings.connections,
            "unfinished_bytes": engine.table.unfinished(),
            "outgoing_bytes": engine.table.waiting(),
            "accepted_total": engine.counters.accepted,
            "upgrades_total": engine.counters.upgrades,
            "slow_consumers_total": engine.counters.slow_consumers,
            "ping_timeouts_total": engine.counters.ping_timeouts,
            "violations_total": engine.counters.violations,
            "refused_full_total": engine.counters.full,
            "logins_failed_total": logins.failed,
            "logins_braked_total": logins.braked,
            "relayed_total": app.relay.forwarded(),
            "searches": app.searches.under_way(),
            "searches_total": searches.begun.load(Ordering::Relaxed),
            "searches_given_up_total": searches.given_up.load(Ordering::Relaxed),
        });
        if let (Value::Object(report), Value::Object(more)) = (&mut report, more) {
            report.extend(more);
        }
        report
    }

    /// What the chat's own part of the worker has counted.
    fn chat(&self, core: &Core) -> Value {
        let counters = &core.counters;
        json!({
            "messages_in_total": counters.messages_in,
            "messages_in_per_s": self.messages_in_per_s,
            "deliveries_total": counters.deliveries,
            "deliveries_per_s": self.deliveries_per_s,
            "delivery": counters.delivery.report(),
            "overloaded_total": counters.refused.overloaded,
            "rate_limited_total": counters.refused.rate_limited,
            "storage_refused_total": counters.refused.storage,
            "otherwise_refused_total": counters.refused.other,
            "tokens_expired_total": counters.tokens_expired,
            "logged_out_total": counters.logged_out,
            "drained_total": counters.drained,
            "refused_authentication_total": counters.not_believed,
            "refused_user_total": counters.user_full,
            "refused_address_total": counters.address_full,
            "refused_origin_total": counters.origins_refused,
            "recovered_total": counters.recovered,
            "gaps_total": counters.gaps,
            "replayed_total": counters.replayed,
            "challenge_connections": core.arena.counters.seated,
            "tickets_refused_total": core.arena.counters.tickets_refused,
            "challenge_enter": core.arena.counters.enter.report(),
            "unanswered": core.uplink.unanswered(),
            "caches": [core.names.report()],
            "link": if core.uplink.is_up() { "up" } else { "down" },
        })
    }

    /// Once in a second: the rates, and a line for whoever follows the log.
    fn go_on(&mut self, core: &Core, now: Instant) {
        let counters = &core.counters;
        let ms = u64::try_from(now.duration_since(self.started).as_millis()).unwrap_or(u64::MAX);
        if ms < 1_000 {
            return;
        }
        self.messages_in_per_s = (counters.messages_in - self.messages_in) * 1_000 / ms;
        self.deliveries_per_s = (counters.deliveries - self.deliveries) * 1_000 / ms;
        (self.messages_in, self.deliveries, self.started) = (counters.messages_in, counters.deliveries, now);
        tracing::debug!(
            processed = self.messages_in,
            queued = core.uplink.unanswered(),
            rate = self.messages_in_per_s,
            "stats"
        );
    }
}
