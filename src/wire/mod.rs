//! Client bytes to packets to commands, and answers back to bytes. No I/O, no clock.
//!
//! In the order bytes travel: [`frame`] (RFC 6455), [`engine`] (Engine.IO 4), [`socketio`]
//! (Socket.IO 5), [`events`] (the chat's own events). [`recovery`] is what a client comes back with,
//! [`object`] reads JSON objects, [`placeholders`] looks for attachments that are not there.

pub mod engine;
pub mod events;
pub mod frame;
pub mod object;
pub mod placeholders;
pub mod recovery;
pub mod socketio;
