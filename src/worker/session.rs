//! One client's conversation: entering the chat, and its events in order.

use std::time::Instant;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::core::{Core, Presented, Standing};
use super::token::{Known, Pass, unix_now};
use super::uplink::Asker;
use super::{commands, entry, expiry, recovery, revoked};
use crate::engine::table::{Key, Pause};
use crate::engine::{Host, Message, PARSE_ERROR, socketio};
use crate::index::{IndexError, Revocation};
use crate::link::frame::{Outcome, Purpose, ToWriter};
use crate::wire::events::Event;
use crate::wire::frame::{Violation, close_code};
use crate::wire::object::{self, Object};
use crate::wire::recovery::Owner;
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
        conn.state.standing = Standing::default();
    }
    expiry::begin(core, key, Pass::without_token(0));
}

/// What a CONNECT packet presents, as it stands there.
#[derive(Deserialize)]
struct ConnectData<'a> {
    #[serde(borrow)]
    token: Option<&'a RawValue>,
    #[serde(borrow)]
    ticket: Option<&'a RawValue>,
}

/// A client wants to enter the chat.
pub fn connect(core: &mut Core, key: Key, data: &str) -> Result<(), Violation> {
    let data = if data.is_empty() { "{}" } else { data };
    // Read twice, since to flatten one into the other would keep all of it in between.
    let Object(asked) = serde_json::from_str::<Object<recovery::Asked<'_>>>(data).map_err(|_| PARSE_ERROR)?;
    let Object(said) = serde_json::from_str::<Object<ConnectData<'_>>>(data).map_err(|_| PARSE_ERROR)?;
    let Some(conn) = core.engine.table.get(key) else {
        return Ok(());
    };
    let Standing::Coming(hello) = &mut conn.state.standing else {
        return Ok(());
    };
    let presented = match (said.token.map(object::text), said.ticket.map(object::text)) {
        (None, None) => hello.presented.clone(),
        (Some(Some(token)), _) => core.tokens.present(&token),
        (None, Some(Some(ticket))) => Presented::ticket(&ticket),
        _ => Presented::Refused,
    };
    match presented {
        Presented::User(known) => connect_as(core, key, known, &asked),
        Presented::Ticket(ticket) => redeem(core, key, ticket, data),
        Presented::Nothing | Presented::Refused => not_believed(core, key),
        Presented::Unread => {
            core.close(key, close_code::TRY_AGAIN_LATER, "cannot read the index");
        }
    }
    Ok(())
}

/// A client shows a ticket. Which of all that show the same one is let in is the storage writer's to say.
fn redeem(core: &mut Core, key: Key, id: u128, data: &str) {
    // A ticket is good once: it is not used up as long as its user could not be looked up.
    if let Err(error) = revoked::follow(core) {
        return core.index_failed(key, &error);
    }
    if let Some(conn) = core.engine.table.get(key) {
        conn.pause = Pause::Answering;
    }
    let asker = Asker::Ticket(key, data.into());
    let frame = |count| ToWriter::RedeemTicket { count, purpose: Purpose::Chat, id };
    if core.uplink.submit(asker, frame).is_err() {
        // Stock clients come again after this, and not after a refusal.
        core.close(key, close_code::TRY_AGAIN_LATER, "overloaded");
    }
}

/// A client's ticket was good: it goes on like one with the token that the ticket was made with.
pub fn redeemed(core: &mut Core, key: Key, data: &str, outcome: Outcome) {
    let (Outcome::Ticket { user, payload }, Ok(Object(asked))) = (outcome, serde_json::from_str(data)) else {
        return turn_away(core, key);
    };
    if core.engine.table.get(key).is_none_or(|conn| conn.is_closing()) {
        return;
    }
    match (Pass::unpack(&payload), core.user_name(user)) {
        (Some(pass), Ok(Some(name))) => {
            core.engine.resume_reading(key);
            connect_as(core, key, Known { number: user, name: (*name).to_owned(), pass }, &asked);
        }
        (_, Err(error)) => core.index_failed(key, &error),
        _ => turn_away(core, key),
    }
}

/// Refuses a client of whom nobody knows who it is.
pub fn not_believed(core: &mut Core, key: Key) {
    core.counters.not_believed += 1;
    refuse(core, key, NOT_BELIEVED);
}

/// What such a client is told, as by the older back end.
pub const NOT_BELIEVED: &str = "Authentication error";

/// Refuses a client that was made to wait.
pub fn turn_away(core: &mut Core, key: Key) {
    not_believed(core, key);
    core.engine.resume_reading(key);
}

/// Goes on with a client of whom it is known who it is.
fn connect_as(core: &mut Core, key: Key, known: Known, asked: &recovery::Asked<'_>) {
    let generation = match revoked::is_good(core, known.number, &known.pass) {
        Ok(Some(Revocation { generation, .. })) => generation,
        Ok(None) => return not_believed(core, key),
        Err(error) => return core.index_failed(key, &error),
    };
    let mode = core.config.socketio.recovery;
    let Some(conn) = core.engine.table.get(key) else {
        return;
    };
    let user = Owner { user: known.number, generation };
    let Standing::Coming(hello) = &mut conn.state.standing else {
        return;
    };
    match recovery::wish(&core.seals, mode, conn.state.javascript, user, asked) {
        Ok(wish) => hello.wish = wish,
        Err(message) => return refuse(core, key, message),
    }
    let ahead = hello.wish.is_ahead_of(core.uplink.position.seq);
    recovery::replace_earlier(core, key);
    if !ahead {
        return admit(core, key, known);
    }
    // What it has heard elsewhere must have come here as well before it is seated, or it would hear it
    // again.
    if let Some(conn) = core.engine.table.get(key) {
        conn.pause = Pause::Answering;
    }
    if core.uplink.submit(Asker::Return(key, known), |count| ToWriter::Sync { count }).is_err() {
        // Stock clients come again after this, and not after a refusal.
        core.close(key, close_code::TRY_AGAIN_LATER, "overloaded");
    }
}

/// Lets a client in whose CONNECT packet was read.
pub fn admit(core: &mut Core, key: Key, known: Known) {
    if !core.engine.table.get(key).is_some_and(|conn| !conn.has_entered() && !conn.is_closing()) {
        return;
    }
    let Known { number, name, pass } = known;
    // Since its CONNECT packet was read it may have had to wait.
    let good = match revoked::is_good(core, number, &pass) {
        Ok(good) => good.is_some() && pass.expires > unix_now(),
        Err(error) => return core.index_failed(key, &error),
    };
    if !good {
        return turn_away(core, key);
    }
    let elsewhere =
        usize::try_from(core.addresses.of_user_elsewhere(number).connections).unwrap_or(usize::MAX);
    if core.hub.sockets_of(number).saturating_add(elsewhere) >= core.config.limits.connections_per_user {
        core.counters.user_full += 1;
        refuse(core, key, "Too many connections");
        core.engine.resume_reading(key);
    } else {
        entry::begin(core, key, number, name);
        expiry::begin(core, key, pass);
    }
}

/// Whom a token shows, if it is good at this moment.
///
/// # Errors
/// The index can't be read.
pub fn believed(core: &mut Core, token: &str) -> Result<Option<Known>, IndexError> {
    let Some(known) = core.tokens.check(token).map(Known::from) else {
        return Ok(None);
    };
    Ok(revoked::is_good(core, known.number, &known.pass)?.map(|_| known))
}

/// Tells a client that it is not let in; it may try again.
pub fn refuse(core: &mut Core, key: Key, message: &str) {
    socketio::refuse(core, key, "/", message);
}
