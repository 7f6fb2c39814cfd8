//! Socket.IO sessions: namespaces, and packets whose attachments come behind them.
//!
//! What breaks the protocol ends the connection, as in the reference implementation: a packet that
//! is none, one for a namespace the client is not in, text where an attachment is due, an attachment
//! nobody announced.

use std::time::Instant;

use bytes::Bytes;

use super::Host;
use super::host::{Message, PARSE_ERROR};
use super::table::{Key, Partial};
use crate::wire::frame::{self, Violation, violation};
use crate::wire::socketio::{self, Kind, Packet, write};

/// A packet with its attachments may be this many times `max_payload`, so that a large text may come
/// with a large attachment, and may take so many times as long as one message. That may take no longer
/// than a ping and its pong, which has to wait for it; between attachments there is room for pongs.
const PACKET_PAYLOADS: u8 = 2;

/// Acts on the text of a packet.
pub fn text<H: Host>(host: &mut H, key: Key, text: &str) -> Result<(), Violation> {
    let packet = socketio::decode(text).map_err(|_| PARSE_ERROR)?;
    let settings = &host.engine().settings;
    let message_time = settings.ping_interval + settings.ping_timeout;
    let Some(conn) = host.engine().table.get(key) else {
        return Ok(());
    };
    if conn.partial.is_some() {
        return Err(PARSE_ERROR);
    }
    if packet.attachments > 0 {
        let due = Instant::now() + u32::from(PACKET_PAYLOADS) * message_time;
        let attachments = usize::from(packet.attachments);
        if !socketio::attachments_fit(packet.data, attachments) {
            return Err(PARSE_ERROR);
        }
        let partial = Partial { text: text.into(), attachments, arrived: Vec::new(), bytes: text.len(), due };
        conn.partial = Some(Box::new(partial));
        return Ok(());
    }
    act(host, key, &packet, &[])
}

/// Takes an attachment; acts on the packet with the last one.
pub fn binary<H: Host>(host: &mut H, key: Key, bytes: &[u8]) -> Result<(), Violation> {
    let most = usize::from(PACKET_PAYLOADS) * host.engine().settings.max_payload;
    let Some(conn) = host.engine().table.get(key) else {
        return Ok(());
    };
    let Some(partial) = &mut conn.partial else {
        return Err(PARSE_ERROR);
    };
    partial.bytes += bytes.len();
    if partial.bytes > most {
        return Err(frame::TOO_BIG);
    }
    partial.arrived.push(Bytes::copy_from_slice(bytes));
    if partial.arrived.len() == partial.attachments
        && let Some(whole) = conn.partial.take()
    {
        let packet = socketio::decode(&whole.text).map_err(|_| PARSE_ERROR)?;
        return act(host, key, &packet, &whole.arrived);
    }
    Ok(())
}

fn act<H: Host>(host: &mut H, key: Key, packet: &Packet<'_>, attachments: &[Bytes]) -> Result<(), Violation> {
    let namespace = host.namespace(packet.namespace);
    let Some(conn) = host.engine().table.get(key) else {
        return Ok(());
    };
    let joined = namespace.filter(|namespace| conn.joined & bit(*namespace) != 0);
    match (packet.kind, namespace, joined) {
        (Kind::Connect, None, _) => {
            refuse(host, key, packet.namespace, "Invalid namespace");
            Ok(())
        }
        (Kind::Connect, Some(namespace), None) => host.connect(key, namespace, packet.data),
        (Kind::Connect, _, Some(_)) => Err(violation("connected already")),
        (_, _, None) => Err(violation("not connected to this namespace")),
        (Kind::Disconnect, _, Some(namespace)) => {
            leave(host, key, namespace);
            Ok(())
        }
        (Kind::Event, _, Some(namespace)) => {
            host.event(key, &Message { namespace, id: packet.id, data: packet.data, attachments })
        }
        (Kind::Ack, _, Some(namespace)) => {
            host.acknowledged(key, &Message { namespace, id: packet.id, data: packet.data, attachments })
        }
    }
}

fn bit(namespace: u8) -> u16 {
    1_u16.checked_shl(u32::from(namespace)).unwrap_or(0)
}

/// Lets a client into a namespace and tells it so; answers its id there.
pub fn enter<H: Host>(host: &mut H, key: Key, namespace: u8, name: &str) -> String {
    let id = super::sid::anonymous();
    join(host, key, namespace);
    host.push_with(key, |out| write::connect(name, &id, None, out));
    id
}

/// Lets a client into a namespace; the host tells it.
pub fn join<H: Host>(host: &mut H, key: Key, namespace: u8) {
    if let Some(conn) = host.engine().table.get(key) {
        conn.joined |= bit(namespace);
        conn.connect_by = None;
    }
}

/// Tells a client that it may not enter a namespace; `message` must need no escapes in JSON.
pub fn refuse<H: Host>(host: &mut H, key: Key, name: &str, message: &str) {
    host.push_with(key, |out| write::connect_error(name, message, out));
}

/// The client leaves a namespace and keeps the connection: it may enter again, in time.
fn leave<H: Host>(host: &mut H, key: Key, namespace: u8) {
    let connect_timeout = host.engine().settings.connect_timeout;
    if let Some(conn) = host.engine().table.get(key) {
        conn.joined &= !bit(namespace);
        if conn.joined == 0 {
            conn.connect_by = Some(Instant::now() + connect_timeout);
        }
    }
    host.engine().schedule(key);
    host.left(key, namespace);
}
