//! Memory that clients hold by what they have begun to send: the beginning of a frame or message, packets
//! whose attachments are not all here, payloads that are on their way or wait to be acted on.
//!
//! One client's share is bounded by the size of a message and the heartbeat. That alone lets as many
//! clients as there may be hold a message each, so all of it is counted as well. When three quarters of
//! [`unfinished_bytes`](super::Settings::unfinished_bytes) are taken, whoever sends more and holds more
//! than a little ([`LITTLE`]) is closed; the last quarter is for those whose usual message came in two
//! pieces. Nobody is closed for what somebody else sends.

use std::sync::Arc;

use parking_lot::Mutex;

use super::http::Answer;
use super::table::Key;
use super::{Engine, Host};
use crate::wire::frame::{Violation, close_code};

/// Bytes that a client may hold while others hold too much: a long chat message with its packet and
/// frame.
const LITTLE: usize = 32 << 10;

/// What a client is told that is closed for it.
pub const REASON: &str = "too much is being sent, try again";

/// Counts what a client has begun to send, and closes it if that is what is too much. Stock clients come
/// again after that.
pub fn look_at<H: Host>(host: &mut H, key: Key) {
    if let Some(own) = host.engine().table.count_unfinished(key)
        && !has_room(host.engine(), own)
    {
        refuse(host, key);
    }
}

/// Closes a client that would hold too much.
pub fn refuse<H: Host>(host: &mut H, key: Key) {
    host.fail(key, Violation { code: close_code::TRY_AGAIN_LATER, reason: REASON });
}

/// Whether one who holds `own` of what is held may do so.
fn has_room<S>(engine: &Engine<S>, own: usize) -> bool {
    let most = engine.settings.unfinished_bytes;
    let share = if own > LITTLE { most / 4 * 3 } else { most };
    engine.table.unfinished() + engine.bodies <= share
}

/// A body that is being read; given back when it is dropped.
pub struct Body<'a, H: Host> {
    host: &'a Arc<Mutex<H>>,
    bytes: usize,
}

impl<H: Host> Body<'_, H> {
    /// One of which nothing is here.
    pub fn new(host: &Arc<Mutex<H>>) -> Body<'_, H> {
        Body { host, bytes: 0 }
    }

    /// Its memory has become so large.
    ///
    /// # Errors
    /// That is too much.
    pub fn is_now(&mut self, bytes: usize) -> Result<(), Answer> {
        let mut host = self.host.lock();
        let engine = host.engine();
        engine.bodies = engine.bodies - self.bytes + bytes;
        self.bytes = bytes;
        if has_room(engine, bytes) { Ok(()) } else { Err(Answer::Overloaded) }
    }
}

impl<H: Host> Drop for Body<'_, H> {
    fn drop(&mut self) {
        self.host.lock().engine().bodies -= self.bytes;
    }
}
