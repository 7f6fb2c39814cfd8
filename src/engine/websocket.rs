//! From a readable socket to messages.
//!
//! All connections share one read buffer. A connection keeps bytes of its own only while a message is
//! incomplete or reading is paused, and of a message that comes in pieces every piece is unmasked and
//! checked when it comes: text that is not UTF-8 ends the connection at the byte that shows it.

use std::io::{ErrorKind, Read};
use std::ops::RangeInclusive;

use super::Host;
use super::host::Raw;
use super::table::{Conn, Fragments, Key, Pause, Phase, Rest, Transport};
use super::{packet, polling, unfinished, upgrade};
use crate::wire::frame::{self, Header, Kind, Violation, close_code, violation};

/// Bytes asked of a socket at a time, at most.
pub const READ_BYTES: usize = 64 << 10;

/// Bytes asked of a socket right after its handshake, when there is rarely more than one packet.
pub const FIRST_READ_BYTES: usize = 4 << 10;

/// Bytes read in one turn, about, by all connections that have something together: what they cost is how
/// long everybody else waits.
pub const TURN_BYTES: usize = 1 << 20;

/// Least share of that of one connection, and largest.
const SHARE_BYTES: RangeInclusive<usize> = 8 << 10..=4 * READ_BYTES;

/// Text that is not UTF-8.
const NOT_TEXT: Violation = Violation { code: close_code::INVALID_TEXT, reason: "text is not UTF-8" };

/// What each of so many connections may read in one turn. The rest waits for the next, so that those who
/// send without pause cannot hold up the others.
pub fn share(connections: usize) -> usize {
    (TURN_BYTES / connections.max(1)).clamp(*SHARE_BYTES.start(), *SHARE_BYTES.end())
}

/// Reads what the socket has, up to its share, and acts on every whole message in it. Answers the bytes
/// acted on, about.
pub fn readable<H: Host>(host: &mut H, key: Key, buffer: &mut [u8], share: usize) -> usize {
    let acted = act(host, key, buffer, share);
    unfinished::look_at(host, key);
    acted
}

fn act<H: Host>(host: &mut H, key: Key, buffer: &mut [u8], share: usize) -> usize {
    host.resumed(key);
    let Some(conn) = host.engine().table.get(key) else {
        return 0;
    };
    let waiting = conn.unread.len();
    if matches!(conn.transport, Transport::Polling(_)) {
        polling::go_on(host, key);
        return waiting;
    }
    let mut left = share;
    if go_on(host, key) {
        read(host, key, buffer, &mut left);
    }
    waiting + share - left
}

fn read<H: Host>(host: &mut H, key: Key, buffer: &mut [u8], left: &mut usize) {
    while *left > 0 {
        let Some(conn) = host.engine().table.get(key).filter(|conn| conn.pause == Pause::No) else {
            return;
        };
        let ended = conn.ended;
        let Transport::WebSocket(stream) = &mut conn.transport else {
            return;
        };
        let asked = (*left).min(buffer.len());
        match stream.read(&mut buffer[..asked]) {
            Ok(0) => return host.drop_conn(key),
            Ok(len) => {
                *left -= len;
                take_in(host, key, &mut buffer[..len]);
                if len < asked && !ended {
                    // The socket is empty; the poll tells when it is not.
                    return;
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return host.drop_conn(key),
        }
    }
    host.engine().look_again(key);
}

/// First what an earlier pause left. False: paused still or again, or gone.
fn go_on<H: Host>(host: &mut H, key: Key) -> bool {
    let Some(conn) = host.engine().table.get(key).filter(|conn| conn.pause == Pause::No) else {
        return false;
    };
    if !conn.unread.is_empty() {
        let mut bytes = std::mem::take(&mut conn.unread);
        let (owner, used) = frames(host, key, &mut bytes);
        keep(host, owner, bytes, used);
    }
    host.engine().table.get(key).is_some_and(|conn| conn.pause == Pause::No)
}

/// Acts on newly read bytes, behind those kept from before.
pub fn take_in<H: Host>(host: &mut H, key: Key, bytes: &mut [u8]) {
    let Some(conn) = host.engine().table.get(key) else {
        return;
    };
    if conn.unread.is_empty() {
        let (owner, used) = frames(host, key, bytes);
        if let Some(conn) = host.engine().table.get(owner).filter(|conn| !conn.is_closing()) {
            conn.unread.extend_from_slice(&bytes[used..]);
        }
    } else {
        conn.unread.extend_from_slice(bytes);
        let mut bytes = std::mem::take(&mut conn.unread);
        let (owner, used) = frames(host, key, &mut bytes);
        keep(host, owner, bytes, used);
    }
}

fn keep<H: Host>(host: &mut H, key: Key, bytes: Vec<u8>, used: usize) {
    if let Some(conn) = host.engine().table.get(key).filter(|conn| !conn.is_closing())
        && used < bytes.len()
    {
        // The rest alone: a connection does not keep a buffer for what it has been read of.
        conn.unread = if used == 0 { bytes } else { bytes[used..].to_vec() };
    }
}

/// Acts on the frames at the start of `bytes`; answers how many bytes were used, and whose the rest
/// is: after an upgrade it is the session's.
fn frames<H: Host>(host: &mut H, mut key: Key, bytes: &mut [u8]) -> (Key, usize) {
    let mut used = 0;
    while used < bytes.len() {
        let Some(conn) = host.engine().table.get(key) else {
            return (key, used);
        };
        if conn.pause != Pause::No || conn.is_closing() {
            return (key, used);
        }
        let session = match conn.phase {
            Phase::Probe { session, .. } => Some(session),
            _ => None,
        };
        match step(host, key, &mut bytes[used..]) {
            Ok(0) => return (key, used),
            Ok(more) => used += more,
            Err(broken) => {
                host.fail(key, broken);
                return (key, bytes.len());
            }
        }
        if let Some(session) = session
            && host.engine().table.get(key).is_none()
        {
            key = session;
        }
    }
    (key, used)
}

/// Acts on what is at the start of `bytes`, a piece of a message or a whole frame; answers how many
/// bytes that was. 0: more are needed.
fn step<H: Host>(host: &mut H, key: Key, bytes: &mut [u8]) -> Result<usize, Violation> {
    let Some(conn) = host.engine().table.get(key) else {
        return Ok(0);
    };
    if conn.fragments.as_ref().is_some_and(|fragments| fragments.frame.is_some()) {
        return piece(host, key, bytes);
    }
    let Some(header) = frame::header(bytes, conn.max_message as usize)? else {
        return Ok(0);
    };
    let whole = header.size + header.len;
    match header.kind {
        Kind::Ping | Kind::Pong | Kind::Close => {
            let Some(payload) = bytes.get_mut(header.size..whole) else {
                return Ok(0);
            };
            frame::unmask(payload, header.mask);
            control(host, key, header.kind, payload)?;
            Ok(whole)
        }
        Kind::Text | Kind::Binary | Kind::Continuation => {
            expected(conn, &header)?;
            if conn.fragments.is_none()
                && header.last
                && let Some(payload) = bytes.get_mut(header.size..whole)
            {
                frame::unmask(payload, header.mask);
                message(host, key, header.kind == Kind::Text, payload)?;
                return Ok(whole);
            }
            let fragments = conn.fragments.get_or_insert_with(|| {
                let text = header.kind == Kind::Text;
                Box::new(Fragments { text, bytes: Vec::new(), checked: 0, frame: None })
            });
            fragments.frame = Some(Rest { len: header.len, mask: header.mask, last: header.last });
            Ok(header.size + piece(host, key, &mut bytes[header.size..])?)
        }
    }
}

/// Whether a frame of a message may come now, and fits.
fn expected<S>(conn: &Conn<S>, header: &Header) -> Result<(), Violation> {
    match (header.kind, &conn.fragments) {
        (Kind::Continuation, None) => Err(violation("a continuation of nothing")),
        (Kind::Continuation, Some(begun)) if begun.bytes.len() + header.len > conn.max_message as usize => {
            Err(frame::TOO_BIG)
        }
        (Kind::Continuation, Some(_)) | (_, None) => Ok(()),
        (_, Some(_)) => Err(violation("a message began inside another")),
    }
}

/// Takes what is here of a frame that has not arrived whole; answers how many bytes that was.
fn piece<H: Host>(host: &mut H, key: Key, bytes: &mut [u8]) -> Result<usize, Violation> {
    let Some(conn) = host.engine().table.get(key) else {
        return Ok(bytes.len());
    };
    let Some((fragments, rest)) = conn.fragments.as_mut().and_then(|fragments| {
        let rest = fragments.frame.take()?;
        Some((fragments, rest))
    }) else {
        return Ok(0);
    };
    let len = rest.len.min(bytes.len());
    let piece = &mut bytes[..len];
    frame::unmask(piece, rest.mask);
    fragments.bytes.extend_from_slice(piece);
    check_text(fragments)?;
    if len < rest.len {
        let mut mask = rest.mask;
        mask.rotate_left(len % 4);
        fragments.frame = Some(Rest { len: rest.len - len, mask, last: rest.last });
    } else if rest.last
        && let Some(whole) = conn.fragments.take()
    {
        message(host, key, whole.text, &whole.bytes)?;
    }
    Ok(len)
}

/// Checks the text that has come since the last check; a character may still be cut.
fn check_text(fragments: &mut Fragments) -> Result<(), Violation> {
    if !fragments.text {
        return Ok(());
    }
    match std::str::from_utf8(&fragments.bytes[fragments.checked..]) {
        Ok(text) => fragments.checked += text.len(),
        Err(error) if error.error_len().is_none() => fragments.checked += error.valid_up_to(),
        Err(_) => return Err(NOT_TEXT),
    }
    Ok(())
}

fn control<H: Host>(host: &mut H, key: Key, kind: Kind, payload: &[u8]) -> Result<(), Violation> {
    match kind {
        Kind::Ping => host.push_with(key, |out| frame::pong(payload, out)),
        Kind::Close => {
            let code = frame::close_reply(payload)?;
            host.close(key, code, "");
        }
        _ => {}
    }
    Ok(())
}

fn message<H: Host>(host: &mut H, key: Key, text: bool, payload: &[u8]) -> Result<(), Violation> {
    let Some(conn) = host.engine().table.get(key) else {
        return Ok(());
    };
    let (session, probe) = (conn.is_session(), matches!(conn.phase, Phase::Probe { .. }));
    let raw = if text {
        Raw::Text(std::str::from_utf8(payload).map_err(|_| NOT_TEXT)?)
    } else {
        Raw::Binary(payload)
    };
    match raw {
        Raw::Text(text) if probe => upgrade::packet(host, key, text),
        Raw::Binary(_) if probe => Err(super::host::PARSE_ERROR),
        Raw::Text(text) if session => packet::text(host, key, text),
        Raw::Binary(bytes) if session => packet::binary(host, key, bytes),
        raw => host.raw(key, &raw).map(drop),
    }
}
