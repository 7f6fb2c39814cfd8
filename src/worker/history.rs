//! Reads of the log for clients: on other threads, bounded, answered in the client's order.

use super::core::App;
use super::session::HistoryRead;
use super::{commands, reader};
use crate::chat::Refusal;
use crate::engine::Host;
use crate::journal::read::Window;
use crate::wire::events;

/// Reads a room's messages off the loop.
///
/// # Errors
/// As [`reader::run`].
pub async fn read(app: &App, room_id: String, window: Window, limit: usize) -> Result<Vec<String>, Refusal> {
    let history = app.history.clone();
    reader::run(app, "the log", move || history.read(&room_id, window, limit)).await
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
        core.engine.resume_when_sent(asked.key);
        drop(core);
        app.wake.notify_one();
    });
}
