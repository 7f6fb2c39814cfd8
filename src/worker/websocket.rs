//! From a readable socket to Engine.IO packets.
//!
//! All connections share one read buffer; a connection keeps bytes of its own only while a frame is
//! incomplete or reading is paused.

use std::io::{ErrorKind, Read};

use super::core::Core;
use super::session;
use super::table::{Fragments, Key, Pause, State};
use crate::wire::frame::{self, Frame, Kind, Violation, close_code, violation};

/// Bytes asked of a socket at a time.
pub const READ_BYTES: usize = 64 << 10;

/// Bytes asked of a socket right after its handshake, when there is rarely more than one packet.
pub const FIRST_READ_BYTES: usize = 4 << 10;

/// Reads of one connection in one turn; the rest waits for the next, so that one client that sends
/// without pause cannot hold up the others.
const READS_PER_TURN: usize = 4;

/// Reads what the socket has and acts on every whole frame in it.
pub fn readable(core: &mut Core, key: Key, buffer: &mut [u8]) {
    if !go_on(core, key) {
        return;
    }
    for _ in 0..READS_PER_TURN {
        let Some(conn) = core.table.get(key) else {
            return;
        };
        if conn.pause != Pause::No {
            return;
        }
        let ended = conn.ended;
        match conn.stream.read(buffer) {
            Ok(0) => return core.drop_conn(key),
            Ok(len) => {
                take_in(core, key, &mut buffer[..len]);
                if len < buffer.len() {
                    return;
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return core.drop_conn(key),
        }
    }
    core.resume.push(key);
}

/// First what an earlier pause left. False: paused still or again, or gone.
fn go_on(core: &mut Core, key: Key) -> bool {
    session::run_deferred(core, key);
    let Some(conn) = core.table.get(key) else {
        return false;
    };
    if conn.pause != Pause::No {
        return false;
    }
    if !conn.unread.is_empty() {
        let mut bytes = std::mem::take(&mut conn.unread);
        let used = frames(core, key, &mut bytes);
        keep(core, key, bytes, used);
    }
    core.table.get(key).is_some_and(|conn| conn.pause == Pause::No)
}

/// Acts on newly read bytes, behind those kept from before.
fn take_in(core: &mut Core, key: Key, bytes: &mut [u8]) {
    let Some(conn) = core.table.get(key) else {
        return;
    };
    if conn.unread.is_empty() {
        let used = frames(core, key, bytes);
        if let Some(conn) = core.table.get(key)
            && !matches!(conn.state, State::Closing { .. })
        {
            conn.unread.extend_from_slice(&bytes[used..]);
        }
    } else {
        conn.unread.extend_from_slice(bytes);
        let mut bytes = std::mem::take(&mut conn.unread);
        let used = frames(core, key, &mut bytes);
        keep(core, key, bytes, used);
    }
}

fn keep(core: &mut Core, key: Key, bytes: Vec<u8>, used: usize) {
    if let Some(conn) = core.table.get(key)
        && !matches!(conn.state, State::Closing { .. })
        && used < bytes.len()
    {
        // The rest alone: a connection does not keep a buffer for what it has been read of.
        conn.unread = if used == 0 { bytes } else { bytes[used..].to_vec() };
    }
}

/// Acts on the whole frames at the start of `bytes`; answers how many bytes they took.
fn frames(core: &mut Core, key: Key, bytes: &mut [u8]) -> usize {
    let max_payload = core.config.socketio.max_payload;
    let mut used = 0;
    while used < bytes.len() {
        let reading = |conn: &mut super::table::Conn| {
            conn.pause == Pause::No && !matches!(conn.state, State::Closing { .. })
        };
        if !core.table.get(key).is_some_and(reading) {
            return used;
        }
        match frame::read(&mut bytes[used..], max_payload) {
            Ok(Some(found)) => {
                let payload = &bytes[used..][found.payload.clone()];
                if let Err(broken) = act(core, key, &found, payload) {
                    fail(core, key, broken);
                }
                used += found.payload.end;
            }
            Ok(None) => return used,
            Err(broken) => {
                fail(core, key, broken);
                return bytes.len();
            }
        }
    }
    used
}

/// Ends a connection whose client broke the protocol.
pub fn fail(core: &mut Core, key: Key, broken: Violation) {
    core.counters.violations += 1;
    tracing::debug!(slot = key.slot, reason = broken.reason, "closed a connection that broke the protocol");
    core.close(key, broken.code, broken.reason);
}

fn act(core: &mut Core, key: Key, found: &Frame, payload: &[u8]) -> Result<(), Violation> {
    match found.kind {
        Kind::Ping => {
            core.push_with(key, |out| frame::pong(payload, out));
            Ok(())
        }
        Kind::Pong => Ok(()),
        Kind::Close => {
            let code = frame::close_reply(payload)?;
            core.close(key, code, "");
            Ok(())
        }
        Kind::Text | Kind::Binary | Kind::Continuation => data(core, key, found, payload),
    }
}

/// Puts the frames of a message together.
fn data(core: &mut Core, key: Key, found: &Frame, payload: &[u8]) -> Result<(), Violation> {
    let max_payload = core.config.socketio.max_payload;
    let Some(conn) = core.table.get(key) else {
        return Ok(());
    };
    let first = found.kind != Kind::Continuation;
    match (first, conn.fragments.take()) {
        (true, Some(_)) => Err(violation("a message began inside another")),
        (false, None) => Err(violation("a continuation of nothing")),
        (true, None) if found.last => message(core, key, found.kind == Kind::Text, payload),
        (true, None) => {
            let fragments = Fragments { text: found.kind == Kind::Text, bytes: payload.to_vec() };
            conn.fragments = Some(Box::new(fragments));
            Ok(())
        }
        (false, Some(mut fragments)) => {
            if fragments.bytes.len() + payload.len() > max_payload {
                return Err(frame::TOO_BIG);
            }
            fragments.bytes.extend_from_slice(payload);
            if found.last {
                return message(core, key, fragments.text, &fragments.bytes);
            }
            conn.fragments = Some(fragments);
            Ok(())
        }
    }
}

fn message(core: &mut Core, key: Key, text: bool, payload: &[u8]) -> Result<(), Violation> {
    if !text {
        return session::binary(core, key);
    }
    match std::str::from_utf8(payload) {
        Ok(text) => session::packet(core, key, text),
        Err(_) => Err(Violation { code: close_code::INVALID_TEXT, reason: "text is not UTF-8" }),
    }
}
