//! Sessions over HTTP long polling: requests that fetch packets, requests that bring them.
//!
//! A session is a row like any other. What it is sent waits in the row's outbox until a request
//! fetches it; what it says is acted on packet by packet, and the request that brought it is answered
//! behind the last one. While the session is paused the next such request waits, so that a client
//! which outruns the server feels it; the one before is answered, because a client may send them in
//! turn with those that fetch.

use std::time::Instant;

use bytes::{Buf, Bytes};
use tokio::sync::oneshot;

use super::host::PARSE_ERROR;
use super::http::{Answer, Mark, UNIQUE};
use super::sid::Sid;
use super::table::{Bring, Conn, Key, Pause, Phase, Polling, Transport};
use super::{Host, packet, unfinished, websocket};
use crate::wire::engine::{self, HandshakeError, Packet};
use crate::wire::frame::{self, Violation, violation};

/// Bytes that may wait for a request to fetch them while more is read from the client, which may
/// well bring something before it fetches.
const UNFETCHED_BYTES: usize = 64 << 10;

/// Packets of one payload acted on in one turn; the rest waits for the next, so that a payload of half a
/// million packets cannot hold up the other connections.
const PACKETS_PER_TURN: usize = 1_024;

/// The session of an id, if it still goes over long polling.
pub fn find<H: Host>(host: &mut H, sid: &Sid) -> Result<Key, HandshakeError> {
    let probe = session(host, sid)?.transport.polling().and_then(|polling| polling.probe);
    if let Some(probe) = probe {
        // What the WebSocket has already said comes first: it may have taken over.
        let mut buffer = [0; websocket::FIRST_READ_BYTES];
        websocket::readable(host, probe, &mut buffer, websocket::FIRST_READ_BYTES);
    }
    packet::on_deadline(host, sid.key, Instant::now());
    match session(host, sid)?.transport {
        Transport::Polling(_) => Ok(sid.key),
        Transport::WebSocket(_) => Err(HandshakeError::BadRequest),
    }
}

/// The session of an id, whatever its transport.
pub fn session<'a, H: Host>(host: &'a mut H, sid: &Sid) -> Result<&'a mut Conn<H::State>, HandshakeError> {
    let known = |conn: &&mut Conn<H::State>| conn.is_session() && conn.secret == sid.secret;
    host.engine().table.get(sid.key).filter(known).ok_or(HandshakeError::UnknownSession)
}

fn requests<H: Host>(host: &mut H, key: Key) -> Option<&mut Polling> {
    host.engine().table.get(key)?.transport.polling()
}

/// Has a request wait for something to fetch.
///
/// One that was answered and comes again did not get that answer: a proxy, or the client's HTTP library,
/// repeats it over another connection after the first broke. The packets are gone, so the session is
/// over; going on without them would be a silent loss.
pub fn fetch<H: Host>(
    host: &mut H,
    sid: &Sid,
    mark: Mark,
    request: oneshot::Sender<Vec<u8>>,
) -> Result<Key, HandshakeError> {
    let key = find(host, sid)?;
    let conn = host.engine().table.get(key).ok_or(HandshakeError::UnknownSession)?;
    let unique = mark & UNIQUE != 0 || H::marks_requests(&conn.state);
    let polling = conn.transport.polling().ok_or(HandshakeError::UnknownSession)?;
    if polling.fetch.is_some() {
        host.fail(key, violation("two requests fetch packets"));
        return Err(HandshakeError::BadRequest);
    }
    if mark != 0 && polling.answered == mark && unique {
        host.fail(key, violation("the answer to a request was lost"));
        return Err(HandshakeError::BadRequest);
    }
    polling.fetch = Some(request);
    polling.mark = mark;
    flush(host, key);
    host.engine().table.account(key);
    Ok(key)
}

/// Gives a waiting request what there is.
pub fn flush<H: Host>(host: &mut H, key: Key) {
    let Some(conn) = host.engine().table.get(key) else {
        return;
    };
    let Transport::Polling(polling) = &mut conn.transport else {
        return;
    };
    if conn.pause == Pause::Sending && conn.outbox.held() <= UNFETCHED_BYTES {
        host.engine().resume_reading(key);
        return flush(host, key);
    }
    if polling.fetch.is_none() || conn.outbox.is_empty() && !polling.probed {
        return;
    }
    let mut payload = conn.outbox.take_payload(H::packets_per_payload(&conn.state));
    if payload.is_empty() {
        payload.push(engine::packet::NOOP);
    }
    if let Some(request) = polling.fetch.take() {
        polling.answered = polling.mark;
        // Who is not there any more has said so: see `abandoned`.
        let _ = request.send(payload);
    }
    if conn.is_closing() {
        if conn.outbox.is_empty() {
            host.drop_conn(key);
        }
    } else if conn.pause == Pause::Sending && conn.outbox.held() <= UNFETCHED_BYTES {
        host.engine().resume_reading(key);
    }
}

/// Answers a waiting request although there is nothing: the worker that received it goes away.
pub fn let_go<H: Host>(host: &mut H, key: Key) {
    if let Some(fetch) = requests(host, key).and_then(|polling| polling.fetch.take()) {
        let _ = fetch.send(vec![engine::packet::NOOP]);
    }
}

/// A request went away without its answer, and perhaps packets with it: nothing less than the whole
/// session ends.
pub fn abandoned<H: Host>(host: &mut H, key: Key) {
    if requests(host, key).is_some() {
        host.drop_conn(key);
    }
}

/// Announces a request that brings packets.
pub fn begin<H: Host>(host: &mut H, sid: &Sid) -> Result<Key, HandshakeError> {
    let key = find(host, sid)?;
    let open = host.engine().table.get(key).is_some_and(|conn| conn.phase == Phase::Open);
    // One that is over and whose last words are still to be fetched does nothing with packets. To refuse
    // them would be all that its client hears.
    let polling = requests(host, key).filter(|polling| open || polling.fetch.is_none());
    let polling = polling.ok_or(HandshakeError::UnknownSession)?;
    if !matches!(polling.bring, Bring::None) {
        host.fail(key, violation("two requests bring packets"));
        return Err(HandshakeError::BadRequest);
    }
    polling.bring = Bring::Reading;
    Ok(key)
}

/// Acts on the payload of the announced request; `done` is told behind the last packet.
pub fn bring<H: Host>(host: &mut H, key: Key, payload: Bytes, done: oneshot::Sender<()>) {
    if payload.is_empty() {
        return host.fail(key, PARSE_ERROR);
    }
    let over = host.engine().table.get(key).is_some_and(|conn| conn.is_closing());
    if let Some(polling) = requests(host, key) {
        if over {
            polling.bring = Bring::None;
            let _ = done.send(());
            return;
        }
        polling.bring = Bring::Acting(done);
        polling.payload_bytes = payload.len();
        polling.payload = payload;
    }
    go_on(host, key);
    unfinished::look_at(host, key);
}

/// What the announced request brought could not be taken in.
pub fn untaken<H: Host>(host: &mut H, key: Key, why: &Answer) {
    match why {
        Answer::Overloaded => unfinished::refuse(host, key),
        _ => host.fail(key, frame::TOO_BIG),
    }
}

/// Acts on what is left of a payload, as far as the session may go.
pub fn go_on<H: Host>(host: &mut H, key: Key) {
    let Some(polling) = requests(host, key) else {
        return;
    };
    let mut payload = std::mem::take(&mut polling.payload);
    let mut acted = 0;
    while !payload.is_empty() {
        let Some(conn) = host.engine().table.get(key).filter(|conn| conn.phase == Phase::Open) else {
            return;
        };
        let paused = conn.pause != Pause::No;
        if paused || acted == PACKETS_PER_TURN {
            if let Some(polling) = conn.transport.polling() {
                polling.payload = payload;
            }
            if !paused {
                host.engine().look_again(key);
            }
            return;
        }
        match act(host, key, &payload) {
            Ok(used) => payload.advance(used),
            Err(broken) => return host.fail(key, broken),
        }
        acted += 1;
    }
    if let Some(polling) = requests(host, key)
        && matches!(polling.bring, Bring::Acting(_))
        && let Bring::Acting(done) = std::mem::take(&mut polling.bring)
    {
        let _ = done.send(());
    }
}

fn act<H: Host>(host: &mut H, key: Key, payload: &[u8]) -> Result<usize, Violation> {
    let (first, used) = engine::first_packet(payload).map_err(|_| PARSE_ERROR)?;
    match first {
        Packet::Text(text) => packet::text(host, key, text)?,
        Packet::Binary(bytes) => packet::binary(host, key, &bytes)?,
    }
    Ok(used)
}

#[cfg(test)]
mod tests;
