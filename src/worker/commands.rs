//! The chat's commands, each checked and carried out for one socket.

use serde_json::{Value, json};

use super::answers::index_failed;
use super::core::{Core, Standing};
use super::hub::Doing;
use super::session::HistoryRead;
use super::uplink::Asker;
use super::{deliver, expiry};
use crate::chat::{Code, Refusal, UserId, rules};
use crate::config;
use crate::engine::Host;
use crate::engine::table::{Key, Pause};
use crate::journal::read::Window;
use crate::link::clock;
use crate::link::frame::ToWriter;
use crate::wire::events::{self, Command, Event, GetMessages, SendMessage};

/// Whether an event must see the effect of the same socket's earlier ones.
pub fn waits_for_earlier(event: &Event<'_>) -> bool {
    matches!(&*event.name, "get_messages" | "join_room")
}

/// Carries out one event; whatever is wrong with it is told to its client only.
pub fn run(core: &mut Core, key: Key, event: &Event<'_>, ack: Option<u64>) {
    let done = event.command().and_then(|command| match command {
        Command::SendMessage(send) => send_message(core, key, &send, ack),
        Command::JoinRoom(room) => join_room(core, key, &room, ack),
        Command::LeaveRoom(room) => leave_room(core, key, &room, ack),
        Command::GetMessages(get) => get_messages(core, key, &get, ack),
        Command::Typing(room) => typing(core, key, &room, ack),
        // Costs about as much as joining.
        Command::AuthRefresh(token) => {
            take_turn(core, key, Doing::Join).and_then(|()| expiry::refresh(core, key, &token, ack))
        }
    });
    if let Err(refusal) = done {
        match &*event.name {
            "send_message" => core.counters.refused.note(refusal.code),
            "join_room" => return refuse_join(core, key, ack, &refusal),
            _ => {}
        }
        refuse(core, key, ack, &refusal);
    }
}

/// Tells a client about a refusal: by the ack if it asked for one, else by an `error` event.
pub fn refuse(core: &mut Core, key: Key, ack: Option<u64>, refusal: &Refusal) {
    core.push_with(key, |out| match ack {
        Some(ack) => events::ack_refused(ack, refusal, out),
        None => events::error(refusal, out),
    });
}

/// Tells a client that it does not get into a room. As [`tell_about_room`] tells of success by an event
/// and an ack, so is a client told that is not a member, whether it listens to one or the other.
pub fn refuse_join(core: &mut Core, key: Key, ack: Option<u64>, refusal: &Refusal) {
    if ack.is_some() && refusal.code == Code::NotAMember {
        refuse(core, key, None, refusal);
    }
    refuse(core, key, ack, refusal);
}

/// Checks membership by the hub and, before a refusal, by the index, where a change shows before
/// its caller is told that it is done.
fn check_member(core: &mut Core, key: Key, room_id: &str) -> Result<(), Refusal> {
    if core.hub.is_member(key.slot, room_id) {
        return Ok(());
    }
    let user = core.hub.number(key.slot).ok_or_else(Refusal::not_a_member)?;
    let known = room_id.len() <= rules::ROOM_ID_BYTES
        && core.index.is_member(room_id, user).map_err(|error| index_failed(&error))?;
    if !known {
        return Err(Refusal::not_a_member());
    }
    deliver::hand_out(core);
    core.hub.learn(key.slot, room_id);
    Ok(())
}

fn send_message(core: &mut Core, key: Key, send: &SendMessage<'_>, ack: Option<u64>) -> Result<(), Refusal> {
    rules::content(&send.content, core.config.limits.content_chars)?;
    take_turn(core, key, Doing::Message)?;
    check_member(core, key, &send.room_id)?;
    let Some((user, sender)) = core.hub.user(key.slot) else {
        return Err(Refusal::not_a_member());
    };
    core.uplink.submit(Asker::Message(key, ack), |count| ToWriter::Post {
        count,
        sent_us: clock::now_us(),
        user,
        sender,
        room_id: &send.room_id,
        content: &send.content,
        client_id: send.client_id.as_deref(),
    })?;
    core.counters.messages_in += 1;
    if let Some(conn) = core.engine.table.get(key) {
        conn.state.unanswered += 1;
        if conn.state.unanswered >= config::UNANSWERED_PER_CONNECTION {
            conn.pause = Pause::Backlog;
        }
    }
    Ok(())
}

/// The user's share of something per second. Of messages the storage writer counts what comes by all
/// workers; of the rest each worker has an equal part that the user is connected to.
fn take_turn(core: &mut Core, key: Key, doing: Doing) -> Result<(), Refusal> {
    let now_us = core.now_us();
    let limits = &core.config.limits;
    let per_second = match doing {
        Doing::Message => limits.messages_per_second,
        Doing::Typing => limits.typing_per_second,
        Doing::Join => limits.joins_per_second,
        Doing::Leave => limits.leaves_per_second,
        Doing::History => limits.history_per_second,
    };
    let per_second = match core.hub.number(key.slot) {
        Some(user) if doing != Doing::Message && per_second > 0 => {
            per_second.div_ceil(1 + u32::from(core.addresses.of_user_elsewhere(user).workers))
        }
        _ => per_second,
    };
    let allowed = core.hub.pace(key.slot, doing).is_none_or(|pace| pace.take(now_us, per_second));
    match doing {
        _ if allowed => Ok(()),
        Doing::Message => Err(Refusal::too_many_messages()),
        _ => Err(Refusal::too_many_requests()),
    }
}

/// The seat is taken when the storage writer has answered: what was published before the request is
/// history by then, what comes behind it is heard, and nothing is between.
fn join_room(core: &mut Core, key: Key, room_id: &str, ack: Option<u64>) -> Result<(), Refusal> {
    take_turn(core, key, Doing::Join)?;
    check_member(core, key, room_id)?;
    let asker = Asker::JoinRoom(key, ack, room_id.to_owned());
    core.uplink.submit(asker, |count| ToWriter::Sync { count })?;
    if let Some(conn) = core.engine.table.get(key) {
        conn.pause = Pause::Answering;
    }
    Ok(())
}

/// The index is in step with what was published before [`join_room`].
pub fn on_joined(core: &mut Core, key: Key, room_id: &str, ack: Option<u64>) -> Result<(), Refusal> {
    if core.engine.table.get(key).is_none() {
        return Ok(());
    }
    let last_seq = core.index.last_seq(room_id).map_err(|error| index_failed(&error))?;
    deliver::hand_out(core);
    if !core.hub.unmute(key.slot, room_id) {
        return Err(Refusal::not_a_member());
    }
    let acked = json!({"ok": true, "roomId": room_id, "lastSeq": last_seq});
    tell_about_room(core, key, "joined_room", room_id, ack, &acked);
    Ok(())
}

fn leave_room(core: &mut Core, key: Key, room_id: &str, ack: Option<u64>) -> Result<(), Refusal> {
    take_turn(core, key, Doing::Leave)?;
    check_member(core, key, room_id)?;
    deliver::hand_out(core);
    core.hub.mute(key.slot, room_id);
    let acked = json!({"ok": true, "roomId": room_id});
    tell_about_room(core, key, "left_room", room_id, ack, &acked);
    Ok(())
}

/// Answers `join_room` and `leave_room`: the event first, then the ack if one was asked for.
fn tell_about_room(core: &mut Core, key: Key, event: &str, room_id: &str, ack: Option<u64>, acked: &Value) {
    core.push_with(key, |out| {
        events::event(event, &json!({"roomId": room_id}), out);
        if let Some(ack) = ack {
            events::ack_with(ack, acked, out);
        }
    });
}

fn get_messages(core: &mut Core, key: Key, get: &GetMessages<'_>, ack: Option<u64>) -> Result<(), Refusal> {
    take_turn(core, key, Doing::History)?;
    check_member(core, key, &get.room_id)?;
    let limit = history_limit(get.limit)?;
    let Some(ack) = ack else {
        return Ok(());
    };
    let window = Window { before: before(core, get.before), after: get.after, since_ms: None };
    core.history.push(HistoryRead { key, ack, room_id: get.room_id.to_string(), window, limit });
    if let Some(conn) = core.engine.table.get(key) {
        conn.pause = Pause::Answering;
    }
    Ok(())
}

/// How many messages a history call asks for.
pub fn history_limit(asked: Option<u64>) -> Result<usize, Refusal> {
    let limit = asked.map_or(Some(config::HISTORY_DEFAULT), |limit| usize::try_from(limit).ok());
    limit.filter(|limit| (1..=config::HISTORY_LIMIT).contains(limit)).ok_or_else(|| {
        let message = format!("limit must be 1 to {}", config::HISTORY_LIMIT);
        Refusal::new(Code::InvalidRequest, message)
    })
}

/// History ends where publishing does: what is behind that is in the file, perhaps, and not yet
/// durable.
pub fn before(core: &Core, asked: Option<u64>) -> Option<u64> {
    let published = core.uplink.position.seq + 1;
    Some(asked.map_or(published, |before| before.min(published)))
}

fn typing(core: &mut Core, key: Key, room_id: &str, ack: Option<u64>) -> Result<(), Refusal> {
    take_turn(core, key, Doing::Typing)?;
    check_member(core, key, room_id)?;
    if let Some((user, username)) = core.hub.user(key.slot) {
        core.uplink.tell(&ToWriter::Typing { room_id, user, username });
    }
    if let Some(ack) = ack {
        core.push_with(key, |out| events::ack_with(ack, &json!({"ok": true}), out));
    }
    Ok(())
}

/// Somebody is typing: all sockets of the room are told but those of the one who types.
pub fn on_typing(core: &mut Core, room_id: &str, user: UserId, username: &str) {
    let Some(room) = core.hub.room(room_id) else {
        return;
    };
    let argument = json!({"roomId": room_id, "username": username});
    let mut frame = Vec::new();
    events::event("typing", &argument, &mut frame);
    let frame = bytes::Bytes::from(frame);
    let slots: Vec<_> = core.hub.seats(room).iter().map(|seat| seat.slot).collect();
    for slot in slots {
        if core.hub.number(slot) != Some(user)
            && let Some(key) = core.engine.table.key(slot)
            && core
                .engine
                .table
                .get(key)
                .is_some_and(|conn| matches!(conn.state.standing, Standing::Live { .. }))
        {
            core.push_volatile(key, frame.clone());
        }
    }
}
