//! One client's conversation: entering the chat, and its events in order.

use std::time::Instant;

use serde::Deserialize;

use super::core::{Core, Presented};
use super::{commands, entry};
use crate::engine::table::{Key, Pause};
use crate::engine::{Message, PARSE_ERROR, socketio};
use crate::wire::events::Event;
use crate::wire::frame::Violation;
use crate::wire::object::Object;
use crate::wire::socketio as packets;

/// A read of history that a client waits for.
pub struct HistoryRead {
    /// The client.
    pub key: Key,
    /// The ack it asked for.
    pub ack: u64,
    /// The room.
    pub room_id: String,
    /// Which messages.
    pub window: crate::journal::read::Window,
    /// How many at most.
    pub limit: usize,
}

/// The engine's number of `/`, the only namespace there is.
pub const CHAT: u8 = 0;

/// Acts on an event.
pub fn event(core: &mut Core, key: Key, message: &Message<'_>) -> Result<(), Violation> {
    let event = Event::parse(message.data).ok_or(PARSE_ERROR)?;
    if let Some(conn) = core.engine.table.get(key)
        && commands::waits_for_earlier(&event)
        && conn.state.unanswered > 0
    {
        let id = message.id.map(|id| id.to_string()).unwrap_or_default();
        conn.pause = Pause::Deferred(format!("2{id}{}", message.data).into());
        return Ok(());
    }
    commands::run(core, key, &event, message.id);
    Ok(())
}

/// Runs an event that waited for the answers to earlier ones, once they are all here.
pub fn run_deferred(core: &mut Core, key: Key) {
    let pong_by = Instant::now() + core.config.socketio.ping_timeout;
    let Some(conn) = core.engine.table.get(key) else {
        return;
    };
    if conn.state.unanswered > 0 || !matches!(conn.pause, Pause::Deferred(_)) {
        return;
    }
    if let Pause::Deferred(text) = conn.read_on(pong_by)
        && let Ok(packet) = packets::decode(&text)
        && let Some(event) = Event::parse(packet.data)
    {
        commands::run(core, key, &event, packet.id);
    }
}

/// The client leaves the chat and keeps the connection. What its request presented is used up.
pub fn leave(core: &mut Core, key: Key) {
    core.hub.disconnect(key.slot);
    if let Some(conn) = core.engine.table.get(key) {
        *conn.state.presented = Presented::Nothing;
    }
}

#[derive(Deserialize)]
struct ConnectData {
    #[serde(default)]
    token: Option<serde_json::Value>,
}

/// A client wants to enter the chat.
pub fn connect(core: &mut Core, key: Key, data: &str) -> Result<(), Violation> {
    let data = if data.is_empty() { "{}" } else { data };
    let Object(data) = serde_json::from_str::<Object<ConnectData>>(data).map_err(|_| PARSE_ERROR)?;
    let Some(conn) = core.engine.table.get(key) else {
        return Ok(());
    };
    let presented = match data.token {
        None => (*conn.state.presented).clone(),
        Some(serde_json::Value::String(token)) => core.tokens.present(&token),
        Some(_) => Presented::Refused,
    };
    match presented {
        Presented::User(number, _)
            if core.hub.sockets_of(number) >= core.config.limits.connections_per_user =>
        {
            refuse(core, key, "Too many connections");
        }
        Presented::User(number, name) => entry::begin(core, key, number, name),
        Presented::Nothing | Presented::Refused => refuse(core, key, "Authentication error"),
    }
    Ok(())
}

/// Lets a client in whose seats are taken.
pub fn enter(core: &mut Core, key: Key) {
    socketio::enter(core, key, CHAT, "/");
}

/// Tells a client that it is not let in; it may try again.
pub fn refuse(core: &mut Core, key: Key, message: &str) {
    socketio::refuse(core, key, "/", message);
}
