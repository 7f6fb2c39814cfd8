//! Clients that come back: told what they missed, out of the log, before anything new.
//!
//! Nothing is kept for those who are away. What a client brings with its CONNECT packet, a pid and an
//! offset (or `since`), says from where it is to be told; [`wish`] reads that. When it is seated,
//! [`enter`] answers it at once if nothing was said meanwhile. Otherwise it is *replaying*: what is
//! published from now on is held for it, what was published before is read from the log on another
//! thread, in pieces, the next when it has taken the last. Then it gets what was held, and is live. So
//! it hears the answer to CONNECT, what it missed, what is new: in `seq` order, each once.
//!
//! Messages that are damaged or gone are named by a `gap` where they belong, and do not end the session.
//! Who missed more than `socketio.recovery_messages`, or was away for longer than the index remembers,
//! is told of the `gap` and begins anew.

mod wish;

use bytes::Bytes;

use super::core::{App, Core, Standing};
use super::{ids, session};
use crate::chat::UserId;
use crate::engine::table::{Key, Pause};
use crate::engine::{Host, sid, socketio};
use crate::index::ReadError;
use crate::index::missed::{Absence, Log, Missed, Piece};
use crate::wire::events;
use crate::wire::frame::close_code;
use crate::wire::recovery::{Owner, Seals, Session};
use crate::wire::socketio::write;

pub use wish::{Asked, Wish, wish};

/// A client that is being told what it missed.
pub struct Replay {
    /// Whose it is.
    owner: Owner,
    /// The session it goes on with; `None`: it comes with `since` alone.
    session: Option<Session>,
    /// What is still to be told.
    absence: Absence,
    /// What that is, once it is known.
    missed: Option<Missed>,
    /// Its CONNECT is answered.
    answered: bool,
    /// What was published meanwhile.
    held: Vec<Bytes>,
    held_bytes: usize,
}

impl Replay {
    /// The client has been told that it is let in.
    pub fn is_answered(&self) -> bool {
        self.answered
    }
}

/// Ends the connection that a client on its way in had before, if it is on this worker and still
/// there: it is dead, or its client would not be here.
pub fn replace_earlier(core: &mut Core, key: Key) {
    let session = match core.engine.table.get(key).map(|conn| &conn.state.standing) {
        Some(Standing::Coming(hello)) => hello.wish.session,
        _ => None,
    };
    let Some(session) = session else {
        return;
    };
    for slot in core.hub.slots_of(session.owner.user).to_vec() {
        let Some(key) = core.engine.table.key(slot) else {
            continue;
        };
        let nonce = match core.engine.table.get(key).map(|conn| &conn.state.standing) {
            Some(Standing::Live { nonce }) => Some(*nonce),
            Some(Standing::Replaying(replay)) => replay.session.map(|session| session.nonce),
            _ => None,
        };
        if nonce == Some(session.nonce) {
            core.close(key, close_code::NORMAL, "the session goes on over another connection");
        }
    }
}

/// Lets a seated client in. What was published up to now is its past, what comes is live.
pub fn enter(core: &mut Core, key: Key, user: UserId) {
    let position = core.uplink.position;
    socketio::join(core, key, session::CHAT);
    let Some(conn) = core.engine.table.get(key) else {
        return;
    };
    let Standing::Coming(hello) = &mut conn.state.standing else {
        return;
    };
    let Wish { owner, session, from, offsets } = std::mem::take(&mut hello.wish);
    conn.state.offsets = offsets;
    match from {
        Some(from) if from < position.seq => {
            let absence = Absence { user, after: from, upto: position.seq, rev: position.rev };
            let replay = Replay {
                owner,
                session,
                absence,
                missed: None,
                answered: false,
                held: Vec::new(),
                held_bytes: 0,
            };
            conn.state.standing = Standing::Replaying(Box::new(replay));
            core.replays.push(key);
        }
        // The log ends before what the client has heard: it is not the one that it heard.
        Some(from) if from > position.seq => {
            core.counters.gaps += 1;
            connected(core, key, owner, None, None);
        }
        from => {
            core.counters.recovered += u64::from(from.is_some());
            connected(core, key, owner, session, None);
        }
    }
}

/// Answers CONNECT; the client goes on with a session or begins one, and is live.
fn connected(core: &mut Core, key: Key, owner: Owner, session: Option<Session>, gap: Option<Absence>) {
    let start = gap.map_or(core.uplink.position.seq, |gap| gap.upto);
    core.counters.gaps += u64::from(gap.is_some());
    let Some(conn) = core.engine.table.get(key) else {
        return;
    };
    let begun = || Session { owner, start, nonce: ids::session_nonce() };
    let session = conn.state.offsets.then(|| session.unwrap_or_else(begun));
    let mut frames = Vec::new();
    answer(&core.seals, session.as_ref(), &mut frames);
    if let Some(gap) = gap {
        self::gap(gap.after + 1, gap.upto, &mut frames);
    }
    live(core, key, session, frames);
}

/// Appends the answer to CONNECT.
fn answer(seals: &Seals, session: Option<&Session>, out: &mut Vec<u8>) {
    let id = session.map_or_else(sid::anonymous, |session| seals.id(session));
    let pid = session.map(|session| seals.pid(session));
    write::connect("/", &id, pid.as_deref(), out);
}

/// Sends `frames` and what was held for the client, and makes it live.
fn live(core: &mut Core, key: Key, session: Option<Session>, frames: Vec<u8>) {
    let Some(conn) = core.engine.table.get(key) else {
        return;
    };
    let live = Standing::Live { nonce: session.map_or(0, |session| session.nonce) };
    let held = match std::mem::replace(&mut conn.state.standing, live) {
        Standing::Replaying(replay) => replay.held,
        _ => Vec::new(),
    };
    core.push(key, frames.into());
    for frames in held {
        core.push(key, frames);
    }
    // Entering may be long work: one client gets to do it once in a turn.
    core.engine.resume_when_sent(key);
}

/// Keeps what is published while the client is being told what it missed. Past the bound it is closed;
/// it may come back, and has got further.
pub fn hold(core: &mut Core, key: Key, frames: Bytes) {
    let most = core.config.limits.outgoing_bytes_per_connection;
    let Some(Standing::Replaying(replay)) = core.engine.table.get(key).map(|conn| &mut conn.state.standing)
    else {
        return;
    };
    replay.held_bytes += frames.len() + HELD_BYTES;
    if replay.held_bytes <= most {
        replay.held.push(frames);
        return;
    }
    core.engine.counters.slow_consumers += 1;
    core.close(key, close_code::TRY_AGAIN_LATER, "slow consumer");
}

/// Bytes of memory that held frames take beside their own.
const HELD_BYTES: usize = 96;

/// If the client is being told what it missed and has taken a piece: the next one.
pub fn go_on(core: &mut Core, key: Key) {
    if let Some(conn) = core.engine.table.get(key)
        && conn.pause == Pause::No
        && !conn.is_closing()
        && matches!(conn.state.standing, Standing::Replaying(_))
    {
        conn.pause = Pause::Answering;
        core.replays.push(key);
    }
}

/// Reads the next piece of what a client missed, and sends it.
pub fn start(app: &App, key: Key) {
    let app = app.clone();
    tokio::spawn(async move {
        let Ok(_permit) = app.replays.acquire().await else {
            return;
        };
        let Some((absence, missed)) = question(&mut app.core.lock(), key) else {
            return;
        };
        let most = app.config.socketio.recovery_messages;
        let (data_dir, history) = (app.config.data_dir.clone(), app.history.clone());
        let read = tokio::task::spawn_blocking(move || {
            let log = Log { data_dir: &data_dir, history: &history };
            match missed {
                Some(missed) => Ok(Some((missed.read(log, &absence)?, missed))),
                None => Missed::find(log, &absence, most),
            }
        });
        let found = match read.await {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(error)) => Err(ReadError::to_string(&error)),
            Err(error) => Err(error.to_string()),
        };
        take_in(&mut app.core.lock(), key, found);
        app.wake.notify_one();
    });
}

fn question(core: &mut Core, key: Key) -> Option<(Absence, Option<Missed>)> {
    match &mut core.engine.table.get(key)?.state.standing {
        Standing::Replaying(replay) => Some((replay.absence, replay.missed.take())),
        _ => None,
    }
}

/// What was read: `None`, if it was too much or is no longer known.
type Found = Option<(Piece, Missed)>;

fn take_in(core: &mut Core, key: Key, found: Result<Found, String>) {
    let Core { engine, seals, .. } = core;
    let Some(conn) = engine.table.get(key).filter(|conn| !conn.is_closing()) else {
        return;
    };
    let offsets = conn.state.offsets;
    let Standing::Replaying(replay) = &mut conn.state.standing else {
        return;
    };
    let (owner, absence, session) = (replay.owner, replay.absence, replay.session);
    let (piece, missed) = match found {
        Ok(Some(found)) => found,
        Ok(None) => return connected(core, key, owner, None, Some(absence)),
        Err(error) => {
            tracing::error!(error, "cannot read what a client has missed");
            if replay.answered {
                core.close(key, close_code::TRY_AGAIN_LATER, "cannot read the log");
                return;
            }
            return connected(core, key, owner, None, Some(absence));
        }
    };
    let mut frames = Vec::new();
    let session = match session {
        None if offsets => {
            // `since` alone: a new session that begins with this replay.
            Some(*replay.session.insert(Session { owner, start: absence.after, nonce: ids::session_nonce() }))
        }
        session => session,
    };
    if !std::mem::replace(&mut replay.answered, true) {
        answer(seals, session.as_ref(), &mut frames);
    }
    let count = piece.messages.len() as u64;
    write_missed(seals, offsets, &piece, &mut frames);
    if piece.upto < absence.upto {
        replay.absence.after = piece.upto;
        replay.missed = Some(missed);
        core.push(key, frames.into());
        core.engine.resume_when_sent(key);
    } else {
        core.counters.recovered += 1;
        live(core, key, session, frames);
    }
    core.counters.deliveries += count;
    core.counters.replayed += count;
}

/// Appends the frames of what was missed, in order.
fn write_missed(seals: &Seals, offsets: bool, piece: &Piece, out: &mut Vec<u8>) {
    let (mut plain, mut offset) = (Vec::new(), Vec::new());
    let mut put = |seq: u64, write: &dyn Fn(&mut Vec<u8>)| {
        if !offsets {
            return write(out);
        }
        plain.clear();
        offset.clear();
        write(&mut plain);
        seals.offset(seq, &mut offset);
        events::with_argument(&plain, &offset, out);
    };
    let mut holes = piece.holes.iter().peekable();
    for (seq, fields) in &piece.messages {
        while let Some(&(from, to)) = holes.next_if(|(from, _)| from < seq) {
            put(to, &|out| gap(from, to, out));
        }
        put(*seq, &|out| events::message(fields, out));
    }
    for &(from, to) in holes {
        put(to, &|out| gap(from, to, out));
    }
}

/// Appends the event that tells of messages that will not come.
fn gap(from: u64, to: u64, out: &mut Vec<u8>) {
    events::event("gap", &serde_json::json!({"from": from, "to": to}), out);
}
