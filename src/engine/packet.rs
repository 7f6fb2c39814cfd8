//! Engine.IO packets and the heartbeat.

use std::time::Instant;

use super::host::{PARSE_ERROR, Raw};
use super::table::{Bring, Key, Pause, Phase, Transport};
use super::{Host, socketio};
use crate::wire::engine::{decode_binary, packet as engine};
use crate::wire::frame::{self, Violation, close_code, violation};

/// Acts on a packet that came as text.
pub fn text<H: Host>(host: &mut H, key: Key, text: &str) -> Result<(), Violation> {
    match text.as_bytes().first() {
        Some(&engine::MESSAGE) => {
            let text = &text[1..];
            if host.raw(key, &Raw::Text(text))? { Ok(()) } else { socketio::text(host, key, text) }
        }
        Some(&engine::PONG) => {
            let next = Instant::now() + host.engine().settings.ping_interval;
            if let Some(conn) = host.engine().table.get(key).filter(|conn| conn.ping_sent) {
                conn.ping_sent = false;
                conn.heartbeat = Some(next);
                host.engine().schedule(key);
            }
            Ok(())
        }
        Some(&engine::CLOSE) => {
            closed_by_client(host, key);
            Ok(())
        }
        Some(&engine::NOOP) => Ok(()),
        // Bytes, over a WebSocket too if the client was told to (`forceBase64`).
        Some(&engine::BINARY) => {
            let bytes = decode_binary(&text.as_bytes()[1..]).map_err(|_| PARSE_ERROR)?;
            binary(host, key, &bytes)
        }
        Some(&engine::PING) => Err(violation("in this protocol the server pings")),
        _ => Err(PARSE_ERROR),
    }
}

/// Acts on a binary message.
pub fn binary<H: Host>(host: &mut H, key: Key, bytes: &[u8]) -> Result<(), Violation> {
    if host.raw(key, &Raw::Binary(bytes))? { Ok(()) } else { socketio::binary(host, key, bytes) }
}

/// The client is done. Its waiting request is let go with a NOOP, as the reference server does.
fn closed_by_client<H: Host>(host: &mut H, key: Key) {
    let Some(conn) = host.engine().table.get(key) else {
        return;
    };
    let Transport::Polling(polling) = &mut conn.transport else {
        host.close(key, close_code::NORMAL, "");
        return;
    };
    if let Bring::Acting(answer) = std::mem::take(&mut polling.bring) {
        let _ = answer.send(());
    }
    if let Some(fetch) = polling.fetch.take() {
        let _ = fetch.send(vec![engine::NOOP]);
    }
    host.drop_conn(key);
}

/// What the wheel asks of a connection whose time has come.
pub fn on_wheel<H: Host>(host: &mut H, key: Key, now: Instant) {
    match host.engine().table.get(key) {
        Some(conn) if conn.wake_at.is_none_or(|at| at <= now) => conn.wake_at = None,
        // Gone, or put into the wheel again for another time.
        _ => return,
    }
    on_deadline(host, key, now);
}

/// Does what is due. Requests ask for it as well, so that none is answered by a session whose time
/// is over and which the wheel has not come to yet.
pub fn on_deadline<H: Host>(host: &mut H, key: Key, now: Instant) {
    let (timeout, start) = (host.engine().settings.ping_timeout, host.engine().started);
    let Some(conn) = host.engine().table.get(key) else {
        return;
    };
    match conn.phase {
        Phase::Closing { deadline } if deadline <= now => return host.drop_conn(key),
        Phase::Probe { deadline, .. } if deadline <= now => {
            host.close(key, close_code::POLICY, "upgrade timeout");
            return;
        }
        // Handed out for an earlier deadline; without this it would never be looked at again.
        Phase::Closing { .. } | Phase::Probe { .. } => return host.engine().schedule(key),
        Phase::Open => {}
    }
    if conn.attend_at(start).is_some_and(|at| at <= now) {
        conn.attend_by = 0;
        host.attend(key);
    }
    let Some(conn) = host.engine().table.get(key).filter(|conn| !conn.is_closing()) else {
        return;
    };
    if conn.connect_by.is_some_and(|deadline| deadline <= now) {
        host.close(key, close_code::POLICY, "handshake timeout");
        return;
    }
    let overdue = conn.partial.as_ref().is_some_and(|partial| partial.due <= now);
    if overdue && conn.pause == Pause::No {
        host.close(key, close_code::POLICY, "attachments overdue");
        return;
    }
    if let Some(due) = conn.heartbeat.filter(|due| *due <= now) {
        if conn.ping_sent && !conn.silence_counts() {
            conn.heartbeat = Some(now + timeout);
            return host.engine().schedule(key);
        }
        if conn.ping_sent {
            host.engine().counters.ping_timeouts += 1;
            host.close(key, close_code::NORMAL, "ping timeout");
            return;
        }
        conn.ping_sent = true;
        // The client counts from when it was due; a loop that was late itself gives it time.
        conn.heartbeat = Some((due + timeout).max(now + timeout / 2));
        host.push_with(key, |out| frame::text(&[&[engine::PING]], out));
    }
    host.engine().schedule(key);
}
