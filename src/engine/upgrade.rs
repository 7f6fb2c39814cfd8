//! A session goes on from long polling to a WebSocket.
//!
//! The WebSocket comes as a row of its own, which may only probe: `2probe` is answered `3probe`, and
//! from then on requests of the session are let go at once (with what waits, or a NOOP), so that the
//! client can stop asking. Its `5` says that no request is under way: then the socket moves into the
//! session's row, and what waits there is sent over it. Nothing is in two places at any time, so
//! nothing is lost, doubled or reordered.
//!
//! A session that ends meanwhile leaves its last words to whoever comes first, a request that fetches or
//! the WebSocket's `5`: a client that has let its last request go is not told otherwise why it ended.

use std::time::Instant;

use mio::Token;

use super::host::PARSE_ERROR;
use super::sid::Sid;
use super::table::{Bring, Conn, Key, Phase, Transport};
use super::{Engine, Host, INTEREST, polling};
use crate::wire::engine::{HandshakeError, packet as types};
use crate::wire::frame::{self, Violation, close_code};

/// What becomes of a WebSocket that names a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may probe.
    Probe,
    /// The session has one: this one is closed after its handshake, as the reference server does.
    Refuse,
}

/// Looks whether a WebSocket may take over a session.
pub fn verdict<H: Host>(host: &mut H, sid: &Sid) -> Result<Verdict, HandshakeError> {
    let conn = polling::session(host, sid)?;
    Ok(match &conn.transport {
        Transport::Polling(polling) if polling.probe.is_none() && conn.phase == Phase::Open => Verdict::Probe,
        _ => Verdict::Refuse,
    })
}

/// Takes in a WebSocket that names a session. `None`: it was refused or the session is gone.
pub fn admit<H: Host>(host: &mut H, sid: &Sid, state: H::State, stream: mio::net::TcpStream) -> Option<Key> {
    let verdict = verdict(host, sid).ok()?;
    let now = Instant::now();
    let settings = &host.engine().settings;
    let (deadline, max_payload) = (now + settings.connect_timeout, settings.max_payload);
    let mut conn = Conn::new(Transport::WebSocket(stream), state, max_payload);
    conn.phase = Phase::Probe { session: sid.key, deadline };
    let key = host.engine().admit(conn)?;
    if verdict == Verdict::Refuse {
        host.close(key, close_code::NORMAL, "");
        return None;
    }
    if let Some(polling) = host.engine().table.get(sid.key).and_then(|conn| conn.transport.polling()) {
        polling.probe = Some(key);
    }
    Some(key)
}

/// Acts on a packet of a WebSocket that may only probe.
pub fn packet<H: Host>(host: &mut H, key: Key, text: &str) -> Result<(), Violation> {
    let Some(Phase::Probe { session, .. }) = host.engine().table.get(key).map(|conn| conn.phase) else {
        return Ok(());
    };
    match text.as_bytes() {
        [types::PING, b'p', b'r', b'o', b'b', b'e'] => {
            host.push_with(key, |out| frame::text(&[&[types::PONG], b"probe"], out));
            if let Some(polling) = host.engine().table.get(session).and_then(|conn| conn.transport.polling())
            {
                polling.probed = true;
            }
            polling::flush(host, session);
            host.engine().table.account(session);
            Ok(())
        }
        [types::UPGRADE] => take_over(host, key, session),
        _ => Err(PARSE_ERROR),
    }
}

/// Moves the socket into the session's row.
fn take_over<H: Host>(host: &mut H, key: Key, session: Key) -> Result<(), Violation> {
    let engine = host.engine();
    let ready = engine.table.get(session).and_then(|conn| {
        let polling = conn.transport.polling()?;
        matches!(polling.bring, Bring::None).then_some(polling)
    });
    // A client that still brings packets by a request has not stopped: their order would be lost.
    let polling = ready.ok_or(PARSE_ERROR)?;
    let farewell = std::mem::take(&mut polling.farewell);
    if let Some(fetch) = polling.fetch.take() {
        let _ = fetch.send(vec![types::NOOP]);
    }
    let Some(mut probe) = engine.table.remove(key.slot) else {
        return Ok(());
    };
    let token = Token(session.slot as usize);
    let moved = match probe.transport.socket() {
        Some(stream) => engine.poll.registry().reregister(stream, token, INTEREST).is_ok(),
        None => false,
    };
    if !moved {
        host.drop_conn(session);
        return Ok(());
    }
    if let Some(conn) = engine.table.get(session) {
        // What the probe has not been able to send (its `3probe`) goes before all else.
        conn.outbox.put_first(probe.outbox);
        if !farewell.is_empty() {
            conn.outbox.push(farewell);
        }
        conn.ended = probe.ended;
    }
    engine.table.change_transport(session, probe.transport);
    engine.counters.upgrades += 1;
    engine.mark(session);
    // The poll's word about the socket may have gone to the old row.
    engine.look_again(session);
    host.upgraded(session, probe.state);
    Ok(())
}

/// A WebSocket went away before it took over: the session stays with its requests.
pub fn given_up<S>(engine: &mut Engine<S>, session: Key, probe: Key) {
    if let Some(polling) = engine.table.get(session).and_then(|conn| conn.transport.polling())
        && polling.probe == Some(probe)
    {
        polling.probe = None;
        polling.probed = false;
    }
}
