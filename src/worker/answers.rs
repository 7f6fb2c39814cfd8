//! What the storage writer says, and whom it concerns.

use std::time::Instant;

use super::arena::{news, socket};
use super::core::Core;
use super::uplink::Asker;
use super::{commands, deliver, revoked, session};
use crate::chat::{Code, Refusal, UserId};
use crate::engine::Host;
use crate::index::IndexError;
use crate::link::codec;
use crate::link::frame::{FromWriter, Outcome};
use crate::wire::events;
use crate::wire::frame::close_code;

/// Reads of the link in one turn; what is left keeps the next turn from waiting.
const READS_PER_TURN: usize = 32;

/// Reads and acts on what the link has. Comes first in every turn, so that nothing a client says is
/// answered with less than what was published before it. True: there is more.
pub fn drain(core: &mut Core) -> bool {
    let mut more = true;
    for _ in 0..READS_PER_TURN {
        more = matches!(core.uplink.receive(), Ok(true));
        let bytes = core.uplink.received();
        let used = read_frames(core, &bytes);
        core.uplink.put_back(bytes, used);
        if !more {
            break;
        }
    }
    revoked::follow_sign(core, Instant::now());
    deliver::hand_out_due(core);
    news::hand_out_due(core, Instant::now());
    more
}

/// Acts on the whole frames in `bytes`; answers how many bytes they took.
fn read_frames(core: &mut Core, bytes: &[u8]) -> usize {
    let mut used = 0;
    loop {
        let read = codec::split(&bytes[used..]).and_then(|found| {
            let Some((body, len)) = found else {
                return Ok(None);
            };
            Ok(Some((codec::decode::<FromWriter<'_>>(body)?, len)))
        });
        match read {
            Ok(Some((frame, len))) => {
                act(core, frame);
                used += len;
            }
            Ok(None) => return used,
            Err(error) => {
                core.uplink.broken(&error);
                return bytes.len();
            }
        }
    }
}

fn act(core: &mut Core, frame: FromWriter<'_>) {
    match frame {
        FromWriter::Welcome { position } => {
            core.uplink.welcome(position);
            core.addresses.introduce(&mut core.hub);
            // While the link was down there may have been a sign.
            core.revocations.sign(Instant::now());
        }
        FromWriter::OtherVersion { version } => core.uplink.refuse(version, Instant::now()),
        FromWriter::Elsewhere { addresses, users } => core.addresses.hear(addresses, users),
        FromWriter::AtHome(news) => core.brake.hear_at_home(&news),
        FromWriter::Login(login) => core.brake.hear(&login),
        FromWriter::Messages { messages } => deliver::gather(core, &messages),
        FromWriter::Rooms { rev, events } => {
            deliver::hand_out(core);
            for event in &events {
                core.hub.apply(event);
            }
            core.uplink.position.rev = rev;
        }
        FromWriter::UsersDeleted { last_user } => {
            core.names.forget();
            deliver::hand_out(core);
            let gone = |number: Option<UserId>| number.is_some_and(|number| number <= last_user);
            let_go(core, close_code::POLICY, "user deleted", gone);
            socket::let_go(core, last_user);
        }
        FromWriter::Afresh { position } => {
            tracing::warn!("was away for too long; all clients are told to come back");
            core.names.forget();
            deliver::hand_out(core);
            let_go(core, close_code::GOING_AWAY, "connect again", |_| true);
            core.uplink.position = position;
        }
        FromWriter::Revoked => core.revocations.sign(Instant::now()),
        FromWriter::Arena(about) => news::hear(core, about),
        FromWriter::Typing { room_id, user, username } => commands::on_typing(core, room_id, user, username),
        FromWriter::Done { count, outcome } => {
            if let Some(asker) = core.uplink.take(count) {
                done(core, asker, outcome);
            }
        }
        FromWriter::Refused { count, refusal } => {
            if let Some(asker) = core.uplink.take(count) {
                refused(core, asker, refusal);
            }
        }
    }
}

/// Closes the connections of certain users; one that has not entered the chat has none.
fn let_go(core: &mut Core, code: u16, reason: &str, whose: impl Fn(Option<UserId>) -> bool) {
    for key in core.engine.table.keys() {
        if whose(core.hub.number(key.slot)) {
            core.close(key, code, reason);
        }
    }
}

fn done(core: &mut Core, asker: Asker, outcome: Outcome) {
    match asker {
        Asker::Message(key, ack) => {
            if let (Some(ack), Outcome::Posted { seq, id, timestamp_ms }) = (ack, outcome) {
                let mut frame = Vec::new();
                let time = core.plan.stamp(timestamp_ms);
                events::ack_stored(ack, id, seq, time, &mut frame);
                core.push(key, frame.into());
            }
            core.answered(key);
        }
        Asker::JoinRoom(key, ack, room_id) => {
            if let Err(refusal) = commands::on_joined(core, key, &room_id, ack) {
                commands::refuse_join(core, key, ack, &refusal);
            }
            core.engine.resume_reading(key);
        }
        Asker::Return(key, known) => session::admit(core, key, known),
        Asker::Ticket(key, data) => session::redeemed(core, key, &data, outcome),
        Asker::Enter(key) => socket::redeemed(core, key, Ok(outcome)),
        Asker::Leave(key, reason) => socket::left(core, key, reason),
        // The caller may have gone away meanwhile.
        Asker::Call(reply) => drop(reply.send(Ok(outcome))),
    }
}

fn refused(core: &mut Core, asker: Asker, refusal: Refusal) {
    match asker {
        Asker::Message(key, ack) => {
            core.counters.refused.note(refusal.code);
            commands::refuse(core, key, ack, &refusal);
            core.answered(key);
        }
        Asker::JoinRoom(key, ack, _) => {
            commands::refuse(core, key, ack, &refusal);
            core.engine.resume_reading(key);
        }
        // What was published before the refusal is here all the same.
        Asker::Return(key, known) => session::admit(core, key, known),
        Asker::Ticket(key, _) => session::turn_away(core, key),
        Asker::Enter(key) => socket::redeemed(core, key, Err(refusal)),
        Asker::Leave(key, reason) => socket::left(core, key, reason),
        Asker::Call(reply) => drop(reply.send(Err(refusal))),
    }
}

/// Nothing that waits will be answered. What was asked may have been done all the same, so only calls are told,
/// that they don't know; a message without an ack is repeated under its `clientId`.
pub fn abandon(core: &mut Core) {
    for asker in core.uplink.give_up() {
        if let Asker::Call(reply) = asker {
            let why = "The server is being replaced; it is not known whether this was done";
            drop(reply.send(Err(Refusal::new(Code::Unavailable, why))));
        }
    }
}

/// The index can't be read: said in the log with its cause, to the client without.
pub fn index_failed(error: &IndexError) -> Refusal {
    tracing::error!(%error, "cannot read the index");
    Refusal::new(Code::Unavailable, "The server cannot read its index, try again shortly")
}

/// A mistake of ours, said without details.
pub fn internal() -> Refusal {
    Refusal::new(Code::Internal, "Internal error")
}
