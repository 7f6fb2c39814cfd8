//! From durable messages to bytes in sockets.
//!
//! Messages are gathered first: each is framed once, and the frames of a room stand next to each
//! other. Then every seated socket is given its room's frames in one write, straight from this
//! loop. Only a socket that sits in several of the gathered rooms needs its frames merged by `seq`.
//!
//! After a hand-out to a large crowd the next one waits as long as that one took: a worker that
//! spends its time on writing puts more into each write, and both it and its clients keep up.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::core::Core;
use super::hub::RoomIdx;
use super::uplink::Asker;
use crate::engine::Host;
use crate::engine::table::Slot;
use crate::journal::stamp::Stamp;
use crate::link::frame::Message;
use crate::wire::events;

/// Bytes of frames gathered before they are handed out within a turn: far below what a connection
/// may have waiting, so that a burst alone makes nobody a slow consumer.
const GATHER_BYTES: usize = 128 << 10;

/// A hand-out that took less than this is followed by the next one at once.
const CROWD: Duration = Duration::from_millis(1);

/// Longest wait between two hand-outs.
const LONGEST_REST: Duration = Duration::from_millis(8);

/// Gathered messages by room.
#[derive(Default)]
pub struct Plan {
    rooms: Vec<Batch>,
    /// For each room of the hub, 1 + its place in `rooms`; 0: nothing is gathered for it.
    places: Vec<u32>,
    bytes: usize,
    /// When the next hand-out may begin.
    rest_until: Option<Instant>,
    /// For each slot, what this hand-out found so far.
    marks: Vec<u32>,
    stamp: Stamp,
}

/// One room's frames.
struct Batch {
    room: RoomIdx,
    frames: Vec<u8>,
    /// `seq` and end of each frame.
    ends: Vec<(u64, usize)>,
}

const MANY: u32 = u32::MAX;

/// Gathers durable messages and acks the senders that are here.
pub fn gather(core: &mut Core, messages: &[Message<'_>]) {
    for message in messages {
        if message.seq <= core.uplink.position.seq {
            continue;
        }
        core.uplink.position.seq = message.seq;
        if let Some(Asker::Message(key, ack)) = core.uplink.take_own(message.origin) {
            if let Some(ack) = ack {
                let mut frame = Vec::with_capacity(128);
                let time = core.plan.stamp(message.timestamp_ms);
                events::ack_stored(ack, message.origin, message.seq, time, &mut frame);
                core.push(key, frame.into());
            }
            core.answered(key);
        }
        if let Some(room) = core.hub.room(message.room_id)
            && !core.hub.seats(room).is_empty()
        {
            core.plan.add(room, message);
        }
        if core.plan.bytes > GATHER_BYTES {
            hand_out(core);
        }
    }
}

impl Plan {
    /// The spelling of a Unix time in milliseconds.
    pub fn stamp(&mut self, unix_ms: i64) -> &str {
        self.stamp.text(unix_ms)
    }

    /// When [`hand_out_due`] wants to be called, if something is gathered.
    pub fn due(&self) -> Option<Instant> {
        if self.rooms.is_empty() { None } else { self.rest_until }
    }

    fn add(&mut self, room: RoomIdx, message: &Message<'_>) {
        let at = room as usize;
        if self.places.len() <= at {
            self.places.resize(at + 1, 0);
        }
        if self.places[at] == 0 {
            self.rooms.push(Batch { room, frames: Vec::new(), ends: Vec::new() });
            self.places[at] = u32::try_from(self.rooms.len()).unwrap_or(MANY);
        }
        let batch = &mut self.rooms[self.places[at] as usize - 1];
        let before = batch.frames.len();
        events::message(message.fields, &mut batch.frames);
        batch.ends.push((message.seq, batch.frames.len()));
        self.bytes += batch.frames.len() - before;
    }
}

/// Hands out what was gathered unless the last hand-out says to rest.
pub fn hand_out_due(core: &mut Core) {
    if core.plan.rest_until.is_none_or(|until| until <= Instant::now()) {
        hand_out(core);
    }
}

/// Gives every seated socket what was gathered for it. Has to come before seats or rooms are added:
/// what was gathered was not said to newcomers, and knows rooms by their place in the hub.
pub fn hand_out(core: &mut Core) {
    if core.plan.rooms.is_empty() {
        return;
    }
    let start = Instant::now();
    core.plan.bytes = 0;
    let batches = std::mem::take(&mut core.plan.rooms);
    for batch in &batches {
        core.plan.places[batch.room as usize] = 0;
    }
    let ready: Vec<Ready> = batches.into_iter().map(Ready::from).collect();
    match &ready[..] {
        [only] => {
            for slot in slots(core, only.room) {
                send(core, slot, &only.frames, only.ends.len());
            }
        }
        _ => {
            let mut marks = std::mem::take(&mut core.plan.marks);
            hand_out_many(core, &ready, &mut marks);
            core.plan.marks = marks;
        }
    }
    let took = start.elapsed();
    core.plan.rest_until = (took >= CROWD).then(|| Instant::now() + took.min(LONGEST_REST));
}

/// One room's frames, shared by its sockets.
struct Ready {
    room: RoomIdx,
    frames: Bytes,
    ends: Vec<(u64, usize)>,
}

impl From<Batch> for Ready {
    fn from(batch: Batch) -> Ready {
        Ready { room: batch.room, frames: batch.frames.into(), ends: batch.ends }
    }
}

fn slots(core: &Core, room: RoomIdx) -> Vec<Slot> {
    core.hub.seats(room).iter().map(|seat| seat.slot).collect()
}

/// Finds the sockets that sit in several of the rooms; all others get their one room's frames.
fn hand_out_many(core: &mut Core, ready: &[Ready], marks: &mut Vec<u32>) {
    let mut seen: Vec<Slot> = Vec::new();
    let mut several: Vec<(Slot, usize)> = Vec::new();
    for (place, batch) in ready.iter().enumerate() {
        for seat in core.hub.seats(batch.room) {
            let at = seat.slot as usize;
            if marks.len() <= at {
                marks.resize(at + 1, 0);
            }
            match marks[at] {
                0 => {
                    marks[at] = u32::try_from(place + 1).unwrap_or(MANY);
                    seen.push(seat.slot);
                }
                MANY => several.push((seat.slot, place)),
                first => {
                    several.push((seat.slot, first as usize - 1));
                    several.push((seat.slot, place));
                    marks[at] = MANY;
                }
            }
        }
    }
    for slot in seen {
        let mark = std::mem::take(&mut marks[slot as usize]);
        if mark != MANY {
            let batch = &ready[mark as usize - 1];
            send(core, slot, &batch.frames, batch.ends.len());
        }
    }
    several.sort_unstable();
    for of_slot in several.chunk_by(|a, b| a.0 == b.0) {
        let batches: Vec<&Ready> = of_slot.iter().map(|(_, place)| &ready[*place]).collect();
        let (frames, count) = merge(&batches);
        send(core, of_slot[0].0, &frames, count);
    }
}

/// The frames of several rooms in `seq` order.
fn merge(batches: &[&Ready]) -> (Bytes, usize) {
    let mut frames: Vec<(u64, &[u8])> = Vec::new();
    for batch in batches {
        let mut start = 0;
        for (seq, end) in &batch.ends {
            frames.push((*seq, &batch.frames[start..*end]));
            start = *end;
        }
    }
    frames.sort_unstable_by_key(|(seq, _)| *seq);
    let merged: Vec<u8> = frames.iter().flat_map(|(_, bytes)| bytes.iter().copied()).collect();
    (merged.into(), frames.len())
}

/// Sends a hand-out to a client, unless it is only on its way into the chat.
fn send(core: &mut Core, slot: Slot, frames: &Bytes, count: usize) {
    if core.engine.table.at(slot).is_some_and(|conn| conn.has_entered()) {
        core.counters.deliveries += count as u64;
        core.send(slot, frames);
    }
}
