//! The worker's loop: wait, take in what there is, act, and send everything at the end.

use std::time::Instant;

use super::arena::socket;
use super::core::{App, Core, LINK};
use super::{answers, entry, history, recovery};
use crate::engine::turn::{self, Turn};

/// Runs for as long as the worker lives.
///
/// # Errors
/// The runtime or the kernel refuses the poll.
pub async fn run(app: App) -> std::io::Result<()> {
    let ready = turn::nested(&app.core.lock().engine.poll)?;
    let mut turn = Turn::default();
    loop {
        let wake_at = {
            let core = app.core.lock();
            let moments = [
                Some(core.engine.next_at()),
                core.uplink.retry_at(),
                core.plan.due(),
                core.revocations.due(),
                core.arena.next_at(),
            ];
            moments.into_iter().flatten().min().unwrap_or_else(Instant::now)
        };
        tokio::select! {
            guard = ready.readable() => guard?.clear_ready(),
            () = app.wake.notified() => {}
            () = tokio::time::sleep_until(wake_at.into()) => {}
        }
        loop {
            let (more, reads, replays) = {
                let mut core = app.core.lock();
                let more = take(&mut turn, &mut core)?;
                entry::go_on(&app, &mut core);
                (more, std::mem::take(&mut core.history), std::mem::take(&mut core.replays))
            };
            for key in replays {
                recovery::start(&app, key);
            }
            for read in reads {
                history::start(&app, read);
            }
            if !more {
                break;
            }
            // HTTP tasks get their share of a busy worker.
            tokio::task::yield_now().await;
        }
    }
}

/// One turn. True: there is more to do at once.
fn take(turn: &mut Turn, core: &mut Core) -> std::io::Result<bool> {
    let full = turn.poll(core)?;
    let now = Instant::now();
    if core.uplink.retry_at().is_some_and(|at| at <= now) {
        let Core { uplink, engine, .. } = core;
        uplink.connect(now, engine.poll.registry(), LINK);
    }
    let behind = answers::drain(core);
    turn.read(core, now);
    socket::tell_records(core, now);
    let telling = socket::go_on_telling(core);
    core.addresses.tell(&mut core.hub, &mut core.uplink);
    core.brake.tell(&mut core.uplink);
    core.uplink.flush();
    Ok(Turn::flush(core) || full || behind || telling)
}
