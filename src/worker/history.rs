//! Reads of the log for clients: on other threads, bounded, answered in the client's order.

use super::answers::internal;
use super::commands;
use super::core::App;
use super::session::HistoryRead;
use crate::chat::Refusal;
use crate::journal::read::{Window, history};
use crate::wire::events;

/// Reads a room's messages off the loop.
///
/// # Errors
/// `OVERLOADED` when too many reads are under way; `INTERNAL` when the log can't be read.
pub async fn read(app: &App, room_id: String, window: Window, limit: usize) -> Result<Vec<String>, Refusal> {
    let Ok(permit) = app.reads.clone().try_acquire_owned() else {
        return Err(Refusal::overloaded());
    };
    let data_dir = app.config.data_dir.clone();
    let read = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        history(&data_dir, &room_id, window, limit)
    });
    match read.await {
        Ok(Ok(messages)) => Ok(messages),
        Ok(Err(error)) => {
            tracing::error!(%error, "cannot read the log");
            Err(internal())
        }
        Err(error) => {
            tracing::error!(%error, "a read of the log ended early");
            Err(internal())
        }
    }
}

/// Answers a socket's `get_messages`, then goes on with what the socket said behind it.
pub fn start(app: &App, asked: HistoryRead) {
    let app = app.clone();
    tokio::spawn(async move {
        let answer = read(&app, asked.room_id, asked.window, asked.limit).await;
        let mut core = app.core.lock();
        match answer {
            Ok(messages) => {
                core.push_with(asked.key, |out| events::ack_messages(asked.ack, &messages, out));
            }
            Err(refusal) => commands::refuse(&mut core, asked.key, Some(asked.ack), &refusal),
        }
        core.resume_when_sent(asked.key);
        drop(core);
        app.wake.notify_one();
    });
}
