//! One client's conversation: Engine.IO packets, entering the chat, and its events in order.

use std::time::Instant;

use serde::Deserialize;

use super::core::Core;
use super::table::{Key, Pause, Presented, State};
use super::{commands, entry, ids};
use crate::wire::engine::packet as engine;
use crate::wire::events::Event;
use crate::wire::frame::{self, Violation, close_code, violation};
use crate::wire::object::Object;
use crate::wire::socketio::{self, Kind, Packet};

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

/// The bytes are no packet a client may send here.
const PARSE_ERROR: Violation = violation("parse error");

/// Acts on one Engine.IO packet.
pub fn packet(core: &mut Core, key: Key, text: &str) -> Result<(), Violation> {
    let Some(conn) = core.table.get(key) else {
        return Ok(());
    };
    if conn.attachments > 0 {
        return Err(PARSE_ERROR);
    }
    match text.as_bytes().first() {
        Some(&engine::MESSAGE) => message(core, key, &text[1..]),
        Some(&engine::PONG) => {
            conn.ping_sent = false;
            conn.heartbeat = Instant::now() + core.config.socketio.ping_interval;
            core.schedule(key);
            Ok(())
        }
        Some(&engine::CLOSE) => {
            core.close(key, close_code::NORMAL, "");
            Ok(())
        }
        Some(&engine::NOOP) => Ok(()),
        Some(&engine::PING) => Err(violation("in this protocol the server pings")),
        _ => Err(PARSE_ERROR),
    }
}

/// Acts on a binary message: an attachment of the last packet, which the chat has no use for.
pub fn binary(core: &mut Core, key: Key) -> Result<(), Violation> {
    match core.table.get(key) {
        Some(conn) if conn.attachments > 0 => {
            conn.attachments -= 1;
            Ok(())
        }
        Some(_) => Err(PARSE_ERROR),
        None => Ok(()),
    }
}

fn message(core: &mut Core, key: Key, text: &str) -> Result<(), Violation> {
    let packet = socketio::decode(text).map_err(|_| PARSE_ERROR)?;
    let Some(conn) = core.table.get(key) else {
        return Ok(());
    };
    let connected = matches!(conn.state, State::Connected);
    match packet.kind {
        Kind::Connect if packet.namespace != "/" => {
            let text = format!("44{},{{\"message\":\"Invalid namespace\"}}", packet.namespace);
            core.push_with(key, |out| frame::text(&[text.as_bytes()], out));
            Ok(())
        }
        Kind::Connect if connected => Err(violation("connected already")),
        Kind::Connect => connect(core, key, packet.data),
        // Only `/` can be entered, so anything else in another namespace is about nothing.
        _ if packet.namespace != "/" || !connected => Err(violation("not connected to this namespace")),
        Kind::Disconnect => {
            leave(core, key);
            Ok(())
        }
        Kind::Event => event(core, key, &packet),
        // The chat asks no client for an acknowledgement.
        Kind::Ack => Ok(()),
    }
}

fn event(core: &mut Core, key: Key, packet: &Packet<'_>) -> Result<(), Violation> {
    let event = Event::parse(packet.data).ok_or(PARSE_ERROR)?;
    if let Some(conn) = core.table.get(key) {
        conn.attachments = packet.attachments;
        if commands::waits_for_earlier(&event) && conn.unanswered > 0 {
            let id = packet.id.map(|id| id.to_string()).unwrap_or_default();
            conn.pause = Pause::Deferred(format!("2{id}{}", packet.data).into());
            return Ok(());
        }
    }
    commands::run(core, key, &event, packet.id);
    Ok(())
}

/// Runs an event that waited for the answers to earlier ones, once they are all here.
pub fn run_deferred(core: &mut Core, key: Key) {
    let Some(conn) = core.table.get(key) else {
        return;
    };
    if conn.unanswered > 0 || !matches!(conn.pause, Pause::Deferred(_)) {
        return;
    }
    let pong_by = Instant::now() + core.config.socketio.ping_timeout;
    if let Pause::Deferred(text) = conn.read_on(pong_by)
        && let Ok(packet) = socketio::decode(&text)
        && let Some(event) = Event::parse(packet.data)
    {
        commands::run(core, key, &event, packet.id);
    }
}

/// The client leaves the chat and keeps the connection: it may enter again, in time.
fn leave(core: &mut Core, key: Key) {
    core.hub.disconnect(key.slot);
    let deadline = Instant::now() + core.config.limits.handshake_timeout;
    if let Some(conn) = core.table.get(key) {
        conn.state = State::Open { presented: Box::new(Presented::Nothing), deadline };
    }
    core.schedule(key);
}

#[derive(Deserialize)]
struct ConnectData {
    #[serde(default)]
    token: Option<serde_json::Value>,
}

fn connect(core: &mut Core, key: Key, data: &str) -> Result<(), Violation> {
    let data = if data.is_empty() { "{}" } else { data };
    let Object(data) = serde_json::from_str::<Object<ConnectData>>(data).map_err(|_| PARSE_ERROR)?;
    let Some(conn) = core.table.get(key) else {
        return Ok(());
    };
    let State::Open { presented, .. } = &conn.state else {
        return Ok(());
    };
    let presented = match data.token {
        None => (**presented).clone(),
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
    if let Some(conn) = core.table.get(key) {
        conn.state = State::Connected;
    }
    let text = format!("40{{\"sid\":\"{}\"}}", ids::session_id());
    core.push_with(key, |out| frame::text(&[text.as_bytes()], out));
}

/// Tells a client that it is not let in; it may try again.
pub fn refuse(core: &mut Core, key: Key, message: &str) {
    let text = format!("44{{\"message\":\"{message}\"}}");
    core.push_with(key, |out| frame::text(&[text.as_bytes()], out));
}

/// What the deadline of a connection in the wheel asks for now.
pub fn on_deadline(core: &mut Core, key: Key, now: Instant) {
    let ping_timeout = core.config.socketio.ping_timeout;
    let Some(conn) = core.table.get(key).filter(|conn| conn.wake_at.is_none_or(|at| at <= now)) else {
        // Gone, or put into the wheel again for another time.
        return;
    };
    conn.wake_at = None;
    match &conn.state {
        State::Closing { deadline } if *deadline <= now => return core.drop_conn(key),
        // Handed out for an earlier deadline; without this it would never be dropped.
        State::Closing { .. } => return core.schedule(key),
        State::Open { deadline, .. } if *deadline <= now => {
            core.close(key, close_code::POLICY, "handshake timeout");
            return;
        }
        _ => {}
    }
    if conn.heartbeat <= now {
        if conn.ping_sent && !conn.silence_counts() {
            conn.heartbeat = now + ping_timeout;
            return core.schedule(key);
        }
        if conn.ping_sent {
            core.counters.ping_timeouts += 1;
            core.close(key, close_code::NORMAL, "ping timeout");
            return;
        }
        conn.ping_sent = true;
        conn.heartbeat = now + ping_timeout;
        core.push_with(key, |out| frame::text(&[&[engine::PING]], out));
    }
    core.schedule(key);
}
