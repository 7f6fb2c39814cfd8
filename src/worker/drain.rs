//! The end of a worker's life: nobody new, everybody told to come back, everything answered. If a successor
//! has taken over, there is no hurry: clients are sent to it one by one. Unless the storage writer does not
//! understand this worker any more ([`version`](crate::link::version)): then all are, at once.

use std::time::{Duration, Instant};

use super::answers;
use super::core::{App, Core, Standing};
use super::http::{LAST_WORDS, Open};
use crate::engine::Host;
use crate::wire::frame::close_code;

/// Time between two steps.
const STEP: Duration = Duration::from_millis(10);

/// Connections closed in one step whatever the time left: a small crowd goes at once.
const AT_LEAST: usize = 10;

/// Share of the drain time over which a large crowd is spread.
const SPREAD: f64 = 0.5;

/// Share of the drain time over which clients are told to go to a successor.
const SPREAD_TO_SUCCESSOR: f64 = 0.8;

/// A successor is at work: sends the clients to it one by one, evenly over most of the time `until` the end.
/// Returns when nobody is left, when those are to be ended who have said nothing all the time, or when there is
/// a hurry.
pub async fn leave(app: &App, http: &Open, until: Instant) {
    app.relay.leave();
    let end = Instant::now() + until.duration_since(Instant::now()).mul_f64(SPREAD_TO_SUCCESSOR);
    let mut due = 0.0;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let is_foreign = app.core.lock().uplink.is_foreign();
        if left.is_zero() || is_foreign || is_empty(app) && http.count() == 0 {
            return;
        }
        // As many in this step as there will be steps for the others: a constant rate, also if clients
        // go by themselves, or come over a connection that was accepted before.
        due += f64::from(u32::try_from(connected(app)).unwrap_or(u32::MAX))
            * (STEP.as_secs_f64() / left.as_secs_f64()).min(1.0);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a small positive number"
        )]
        let whole = due as usize;
        if whole > 0 {
            close(app, whole, "a successor has taken over");
            due -= due.floor();
            app.wake.notify_one();
        }
        tokio::time::sleep(STEP).await;
    }
}

/// Waits until what clients asked is answered, closes them spread over the time that is left, and returns
/// when nothing is left or the time is over.
pub async fn drain(app: &App, http: &Open, until: Instant) {
    let timeout = until.saturating_duration_since(Instant::now());
    app.relay.leave();
    let per_step = {
        app.core.lock().engine.start_draining(LAST_WORDS);
        let connections = connected(app);
        let steps = (timeout.as_secs_f64() * SPREAD / STEP.as_secs_f64()).max(1.0);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a count of connections, rounded up"
        )]
        let spread = (connections as f64 / steps).ceil() as usize;
        spread.max(AT_LEAST)
    };
    while Instant::now() < until {
        let is_foreign = app.core.lock().uplink.is_foreign();
        if is_foreign {
            let_all_go(&mut app.core.lock());
        } else {
            close(app, per_step, "server shutting down");
        }
        if is_empty(app) && http.count() == 0 {
            return;
        }
        app.wake.notify_one();
        tokio::time::sleep(STEP).await;
    }
    tracing::warn!("the drain time is over; leaving with clients connected");
}

/// Connections, and those who only watch: they count among requests that are answered.
fn connected(app: &App) -> usize {
    let core = app.core.lock();
    core.engine.table.len() + core.arena.watchers.count()
}

/// Nobody is connected, and nothing waits for an answer.
fn is_empty(app: &App) -> bool {
    let core = app.core.lock();
    core.engine.table.is_empty() && core.uplink.unanswered() == 0
}

/// No answer will come: everybody goes, also those who wait for one.
fn let_all_go(core: &mut Core) {
    answers::abandon(core);
    for key in core.engine.table.keys() {
        if let Some(code) = core.engine.table.get(key).map(|conn| parting(&conn.state.standing)) {
            core.counters.drained += u64::from(core.close(key, code, "connect again"));
        }
    }
    core.arena.watchers.let_go(usize::MAX);
}

/// Participants of challenges are told that the service restarts, as their clients expect; the stock clients of the
/// chat come back after 1001.
fn parting(standing: &Standing) -> u16 {
    match standing {
        Standing::Racing(_) => close_code::SERVICE_RESTART,
        _ => close_code::GOING_AWAY,
    }
}

/// Closes some of those who wait for no answer, then ends some streams.
fn close(app: &App, most: usize, why: &str) {
    let mut core = app.core.lock();
    let mut closed = 0;
    for key in core.engine.table.keys() {
        let Some(conn) = core.engine.table.get(key).filter(|conn| conn.state.unanswered == 0) else {
            continue;
        };
        let code = parting(&conn.state.standing);
        if closed < most && core.close(key, code, why) {
            closed += 1;
            core.counters.drained += 1;
        }
    }
    core.arena.watchers.let_go(most - closed);
}
