//! Client bytes to packets to commands, and answers back to bytes. No I/O, no clock.
//!
//! In the order bytes travel: [`frame`] (RFC 6455), [`engine`] (Engine.IO 4), [`socketio`]
//! (Socket.IO 5), [`events`] (the chat's own events). [`challenge`] is what is said over the WebSocket of a
//! live challenge, [`local_time`] how its REST calls spell times. [`recovery`] is what a client comes back
//! with, [`object`] reads JSON objects, [`placeholders`] looks for attachments that are not there.

pub mod challenge;
pub mod engine;
pub mod events;
pub mod frame;
pub mod local_time;
pub mod object;
pub mod placeholders;
pub mod recovery;
pub mod socketio;
