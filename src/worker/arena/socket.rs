//! `/ws`: the WebSocket of a participant, from its ticket to its end.
//!
//! The handshake succeeds whatever the ticket: clients expect to be told by an `ERROR` over the WebSocket
//! (contract §5). Which of all sockets that show one ticket is let in is the storage writer's to say; until it
//! has, nothing is read from the client.

use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};

use super::super::address::Held;
use super::super::api::answer::ApiError;
use super::super::core::{App, Client, Core, Standing};
use super::super::uplink::Asker;
use super::super::{ids, origin, revoked};
use super::mirror::Rest;
use super::{NEAREST, PIECE, PIECE_BEHIND_BYTES, PIECES_PER_TURN, Seat};
use crate::challenge::{Amount, ChallengeId, EntryId, Reason};
use crate::chat::{Code, Refusal, UserId};
use crate::engine::table::{Key, Pause};
use crate::engine::{Host, Raw, http};
use crate::link::arena::{Ask, Asked, Record, Runner};
use crate::link::frame::{Outcome, ToWriter};
use crate::wire::challenge::{self, Command, ErrorCode, MESSAGE_BYTES, Position, Told, UNREADABLE};
use crate::wire::frame::{Violation, close_code};

/// What a client is told that needs another ticket.
pub const ENTER_AGAIN: &str = "enter again";

/// What is kept with a participant's connection.
#[derive(Debug)]
pub struct Racer {
    ticket: Shown,
    /// Once it is in.
    stay: Option<Stay>,
    /// It has been told to go, or goes, for a reason that the writer is told.
    leaves: bool,
    /// When the client was last heard, or came.
    heard: Instant,
    /// What the writer has not been told yet.
    latest: Option<Position>,
    /// What the client has not been told yet.
    rest: Option<Rest>,
}

/// The ticket a request brought.
#[derive(Clone, Copy, Debug)]
enum Shown {
    Nothing,
    Unreadable,
    Ticket(u128),
}

/// Where a socket is in.
#[derive(Clone, Copy, Debug)]
struct Stay {
    challenge: ChallengeId,
    user: UserId,
    entry: EntryId,
}

/// Answers a handshake.
pub async fn open(State(app): State<App>, request: Request) -> Response {
    let headers = request.headers();
    if !origin::allowed(headers, &app.config.allowed_origins) {
        let refusal = Refusal::new(Code::OriginNotAllowed, "This origin is not in allowed_origins");
        return ApiError::from(refusal).into_response();
    }
    let ticket = match http::params(&request).get("ticket").map(|text| ids::read_ticket(text)) {
        None => Shown::Nothing,
        Some(None) => Shown::Unreadable,
        Some(Some(ticket)) => Shown::Ticket(ticket),
    };
    let racer = Racer { ticket, stay: None, leaves: false, heard: Instant::now(), latest: None, rest: None };
    let place = request.extensions().get::<Arc<Held>>().cloned();
    let client = Client { standing: Standing::Racing(Box::new(racer)), place, ..Client::default() };
    app.door.open_plain(request, client, MESSAGE_BYTES)
}

fn racer(core: &mut Core, key: Key) -> Option<&mut Racer> {
    match &mut core.engine.table.get(key)?.state.standing {
        Standing::Racing(racer) => Some(racer),
        _ => None,
    }
}

/// A socket is there: its ticket is to be redeemed.
pub fn opened(core: &mut Core, key: Key) {
    let Some(ticket) = racer(core, key).map(|racer| racer.ticket) else {
        return;
    };
    match ticket {
        Shown::Nothing => turn_away(core, key, ErrorCode::Unauthorized, "A ticket is required"),
        Shown::Unreadable => refuse_ticket(core, key),
        Shown::Ticket(ticket) => {
            if let Some(conn) = core.engine.table.get(key) {
                conn.pause = Pause::Answering;
            }
            core.engine.attend_after(key, Some(core.config.limits.handshake_timeout));
            let ask = |count| ToWriter::Arena { count, ask: Ask::Redeem { ticket } };
            if core.uplink.submit(Asker::Enter(key), ask).is_err() {
                core.close(key, close_code::TRY_AGAIN_LATER, "overloaded");
            }
        }
    }
}

fn refuse_ticket(core: &mut Core, key: Key) {
    core.arena.counters.tickets_refused += 1;
    turn_away(core, key, ErrorCode::InvalidTicket, "The ticket is not valid, or not any more");
}

fn turn_away(core: &mut Core, key: Key, code: ErrorCode, text: &'static str) {
    complain(core, key, code, text);
    core.close(key, close_code::POLICY, text);
}

fn complain(core: &mut Core, key: Key, error_code: ErrorCode, error_message: &str) {
    say(core, key, &Told::Error { error_code, error_message, timestamp: unix_ms() });
}

fn say(core: &mut Core, key: Key, told: &Told<'_>) {
    core.push_with(key, |out| challenge::write(told, out));
}

/// Unix time in milliseconds.
pub fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// What the writer says of a ticket.
pub fn redeemed(core: &mut Core, key: Key, answer: Result<Outcome, Refusal>) {
    match answer {
        Ok(Outcome::Arena(Asked::Entered { challenge, user, entry, generation })) => {
            seat(core, key, Stay { challenge, user, entry }, generation);
        }
        Err(refusal) if refusal.code != Code::InvalidTicket => {
            tracing::warn!(%refusal, "a ticket could not be redeemed");
            core.close(key, close_code::TRY_AGAIN_LATER, "try again");
        }
        _ => refuse_ticket(core, key),
    }
}

/// Lets a socket in whose ticket was good.
fn seat(core: &mut Core, key: Key, stay: Stay, generation: u32) {
    let Stay { challenge, user, entry } = stay;
    if core.engine.table.get(key).is_none_or(|conn| conn.is_closing()) {
        return leave_as(core, None, stay, Reason::Disconnected);
    }
    // While the ticket was redeemed the tokens may have ended. Who is seated later is found when they do.
    match revoked::now(core, user) {
        Ok(known) if known.generation == generation => {}
        Ok(_) => {
            leave_as(core, None, stay, Reason::Disconnected);
            return log_out(core, key);
        }
        Err(error) => {
            leave_as(core, None, stay, Reason::Disconnected);
            return core.index_failed(key, &error);
        }
    }
    let Some(course) = core.arena.courses.get_mut(&challenge) else {
        core.close(key, close_code::NORMAL, "the challenge is over");
        return;
    };
    if !course.mirror.holds(user, entry) {
        core.close(key, close_code::NORMAL, "entered again");
        return;
    }
    let mut frames = Vec::new();
    let (nearest, rest) = course.mirror.greeting(user, NEAREST);
    if let Some(me) = course.mirror.runner(user) {
        let participants: Vec<_> = nearest.into_iter().map(shown).collect();
        let (me, timestamp) = (&shown(me), unix_ms());
        let told = Told::Connected {
            challenge_id: challenge,
            user_id: user,
            me,
            participants: &participants,
            timestamp,
        };
        challenge::write(&told, &mut frames);
    }
    course.seats.insert(user, Seat { key, entry, from: course.batch.len() });
    core.arena.counters.seated += 1;
    if rest.is_some() {
        core.arena.telling.push_back(key);
    }
    if let Some(racer) = racer(core, key) {
        let took = racer.heard.elapsed();
        (racer.stay, racer.rest, racer.heard) = (Some(stay), rest, Instant::now());
        core.arena.counters.enter.note_time(took);
    }
    core.push(key, frames.into());
    core.engine.attend_after(key, Some(core.config.challenge.idle_timeout));
    core.engine.resume_reading(key);
}

/// A participant as others see it.
pub fn shown(runner: &Runner) -> challenge::Runner<'_> {
    challenge::Runner {
        user_id: runner.user,
        nickname: runner.nickname.as_str().into(),
        profile_image: runner.profile_image.as_deref().map(Into::into),
        distance: runner.at.distance.get(),
        pace: runner.at.pace.get(),
    }
}

/// Acts on a client's message. `Ok(false)`: this connection is none of a challenge.
pub fn heard(core: &mut Core, key: Key, message: &Raw<'_>) -> Result<bool, Violation> {
    let Some(racer) = racer(core, key) else {
        return Ok(false);
    };
    let command = match message {
        Raw::Text(text) => challenge::parse(text),
        Raw::Binary(_) => Err(UNREADABLE),
    };
    match command {
        Ok(Command::Ping) => {
            racer.heard = Instant::now();
            say(core, key, &Told::Pong { timestamp: unix_ms() });
        }
        Ok(Command::Record(position)) => {
            racer.heard = Instant::now();
            if racer.latest.replace(position).is_none() {
                core.arena.records.push(key);
            }
        }
        Ok(Command::Quit) => leave(core, key, Reason::Quit),
        Ok(Command::Kicked) => leave(core, key, Reason::Kicked),
        Err(mistake) => complain(core, key, mistake.code, mistake.text),
    }
    Ok(true)
}

/// The close code, and the reason that goes with it, of a stay's end.
pub fn farewell(reason: Reason) -> (u16, &'static str) {
    match reason {
        Reason::Kicked => (close_code::POLICY, reason.as_str()),
        // By the storage writer, which starts anew: the socket is still there, and its place is not.
        Reason::Disconnected => (close_code::TRY_AGAIN_LATER, ENTER_AGAIN),
        _ => (close_code::NORMAL, reason.as_str()),
    }
}

/// A socket's stay ends by its client's word or silence. The socket is closed when the writer has noted it.
fn leave(core: &mut Core, key: Key, reason: Reason) {
    tell_record(core, key);
    let Some(racer) = racer(core, key) else {
        return;
    };
    let Some(stay) = racer.stay.filter(|_| !std::mem::replace(&mut racer.leaves, true)) else {
        return;
    };
    if let Some(conn) = core.engine.table.get(key) {
        conn.pause = Pause::Answering;
    }
    leave_as(core, Some(key), stay, reason);
}

fn leave_as(core: &mut Core, key: Option<Key>, Stay { challenge, user, entry }: Stay, reason: Reason) {
    let ask = Ask::Leave { challenge, user, entry, reason };
    let asker = Asker::Leave(key, reason);
    if core.uplink.submit(asker, |count| ToWriter::Arena { count, ask }).is_err() {
        tracing::warn!(challenge, user, "too much is unanswered to note that a participant left");
        if let Some(key) = key {
            core.close(key, close_code::TRY_AGAIN_LATER, "overloaded");
        }
    }
}

/// The writer has noted that a stay is over.
pub fn left(core: &mut Core, key: Option<Key>, reason: Reason) {
    if let Some(key) = key {
        let (code, text) = farewell(reason);
        core.close(key, code, text);
    }
}

/// A participant's client has sent what no client may: it is put out, and may come back.
pub fn broke(core: &mut Core, key: Key) {
    tell_record(core, key);
    let Some(racer) = racer(core, key) else {
        return;
    };
    if let Some(stay) = racer.stay
        && !std::mem::replace(&mut racer.leaves, true)
    {
        leave_as(core, None, stay, Reason::Error);
    }
}

/// A participant's connection is on its way out, or gone.
pub fn gone(core: &mut Core, key: Key) {
    let Some(racer) = racer(core, key) else {
        return;
    };
    let Some(stay) = racer.stay.take() else {
        return;
    };
    let leaves = std::mem::replace(&mut racer.leaves, true);
    let Stay { challenge, user, .. } = stay;
    let is_own = |seat: &Seat| seat.key == key;
    let arena = &mut core.arena;
    arena.counters.seated = arena.counters.seated.saturating_sub(1);
    if let Some(course) = arena.courses.get_mut(&challenge)
        && course.seats.get(&user).is_some_and(is_own)
    {
        course.seats.remove(&user);
    }
    if arena.adrift.get(&(challenge, user)).is_some_and(is_own) {
        arena.adrift.remove(&(challenge, user));
    }
    if !leaves {
        tell_taken(core, key, stay);
        leave_as(core, None, stay, Reason::Disconnected);
    }
}

/// A socket is closed because its stay is over already; the writer need not be told.
pub fn end(core: &mut Core, key: Key, code: u16, reason: &str) {
    if let Some(racer) = racer(core, key) {
        racer.leaves = true;
    }
    core.close(key, code, reason);
}

/// Users up to this number are no more: nor is their place in a challenge.
pub fn let_go(core: &mut Core, last_user: UserId) {
    for key in core.engine.table.keys() {
        if racer(core, key).and_then(|racer| racer.stay).is_some_and(|stay| stay.user <= last_user) {
            core.close(key, close_code::POLICY, "user deleted");
        }
    }
}

/// All tokens of a user have ended, and with them what they let in.
pub fn log_out_all(core: &mut Core, user: UserId) {
    for key in core.arena.sockets_of(user) {
        log_out(core, key);
    }
}

fn log_out(core: &mut Core, key: Key) {
    core.counters.logged_out += 1;
    turn_away(core, key, ErrorCode::Unauthorized, "You have been logged out");
}

/// The time a client may be silent is over, or that in which it has to be let in.
pub fn attend(core: &mut Core, key: Key) {
    let idle = core.config.challenge.idle_timeout;
    let Some(racer) = racer(core, key) else {
        return;
    };
    if racer.leaves {
        return;
    }
    if racer.stay.is_none() {
        core.close(key, close_code::TRY_AGAIN_LATER, "try again");
        return;
    }
    let left = idle.saturating_sub(racer.heard.elapsed());
    if left.is_zero() {
        leave(core, key, Reason::Timeout);
    } else {
        core.engine.attend_after(key, Some(left));
    }
}

/// Tells the writer where participants are: the latest of each, at a pace.
pub fn tell_records(core: &mut Core, now: Instant) {
    let is_due = core.arena.records_at.is_none_or(|at| at <= now);
    if core.arena.records.is_empty() || !is_due || !core.uplink.takes_news() {
        return;
    }
    for key in std::mem::take(&mut core.arena.records) {
        tell_record(core, key);
    }
    core.arena.records_at = Some(now + core.config.challenge.update_tick / 2);
}

fn tell_record(core: &mut Core, key: Key) {
    if let Some(stay) = racer(core, key).and_then(|racer| racer.stay) {
        tell_taken(core, key, stay);
    }
}

fn tell_taken(core: &mut Core, key: Key, Stay { challenge, user, entry }: Stay) {
    let Some(position) = racer(core, key).and_then(|racer| racer.latest.take()) else {
        return;
    };
    // What was read is a number that can be run.
    if let (Ok(distance), Ok(pace)) = (Amount::try_from(position.distance), Amount::try_from(position.pace)) {
        let timestamp_ms = position.timestamp.unwrap_or_else(unix_ms);
        core.uplink.tell(&ToWriter::Record(Record { challenge, user, entry, distance, pace, timestamp_ms }));
    }
}

/// Goes on telling newcomers of the others, as fast as they take it. True: there is more to do at once.
pub fn go_on_telling(core: &mut Core) -> bool {
    let mut sent = 0;
    for _ in 0..core.arena.telling.len() {
        if sent == PIECES_PER_TURN {
            return true;
        }
        let Some(key) = core.arena.telling.pop_front() else {
            break;
        };
        let Some(conn) = core.engine.table.get(key).filter(|conn| !conn.is_closing()) else {
            continue;
        };
        if conn.outbox_bytes() > PIECE_BEHIND_BYTES {
            core.arena.telling.push_back(key);
            continue;
        }
        sent += 1;
        tell_piece(core, key);
    }
    sent > 0 && !core.arena.telling.is_empty()
}

fn tell_piece(core: &mut Core, key: Key) {
    let Some(racer) = racer(core, key) else {
        return;
    };
    let (Some(stay), Some(rest)) = (racer.stay, racer.rest.take()) else {
        return;
    };
    let Some(course) = core.arena.courses.get(&stay.challenge) else {
        return;
    };
    let (piece, rest) = course.mirror.next(rest, PIECE);
    let (mut frames, timestamp) = (Vec::new(), unix_ms());
    for row in piece {
        frames.extend_from_slice(row.entered(timestamp));
    }
    if rest.is_some() {
        core.arena.telling.push_back(key);
    }
    if let Some(racer) = self::racer(core, key) {
        racer.rest = rest;
    }
    core.push(key, frames.into());
}

/// What others are told of somebody who has come.
pub fn entered(runner: &Runner, timestamp: i64) -> Told<'_> {
    Told::UserEntered {
        user_id: runner.user,
        nickname: &runner.nickname,
        profile_image: runner.profile_image.as_deref(),
        distance: runner.at.distance.get(),
        pace: runner.at.pace.get(),
        timestamp,
    }
}
