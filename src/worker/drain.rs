//! The end of a worker's life: nobody new, everybody told to come back, everything answered.

use std::time::{Duration, Instant};

use super::core::App;
use super::http::{LAST_WORDS, Open};
use crate::engine::Host;
use crate::wire::frame::close_code;

/// Time between two steps.
const STEP: Duration = Duration::from_millis(10);

/// Connections closed in one step whatever the time left: a small crowd goes at once.
const AT_LEAST: usize = 10;

/// Share of the drain time over which a large crowd is spread.
const SPREAD: f64 = 0.5;

/// Waits until what clients asked is answered, closes them spread over the drain time, and returns
/// when nothing is left or the time is over.
pub async fn drain(app: &App, http: &Open) {
    let start = Instant::now();
    let timeout = app.config.drain_timeout;
    app.relay.leave();
    let per_step = {
        let mut core = app.core.lock();
        core.engine.start_draining(LAST_WORDS);
        let connections = core.engine.table.len();
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
    while start.elapsed() < timeout {
        if step(app, per_step) && http.count() == 0 {
            return;
        }
        app.wake.notify_one();
        tokio::time::sleep(STEP).await;
    }
    tracing::warn!("the drain time is over; leaving with clients connected");
}

/// Closes some of those who wait for no answer. True: nothing is left.
fn step(app: &App, most: usize) -> bool {
    let mut core = app.core.lock();
    let mut closed = 0;
    for key in core.engine.table.keys() {
        let waits = core.engine.table.get(key).is_some_and(|conn| conn.state.unanswered > 0);
        if !waits && closed < most && core.close(key, close_code::GOING_AWAY, "server shutting down") {
            closed += 1;
            core.counters.drained += 1;
        }
    }
    core.engine.table.is_empty() && core.uplink.unanswered() == 0
}
