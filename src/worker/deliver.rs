//! From durable messages to bytes in sockets.
//!
//! Messages are gathered first: each is framed once, and the frames of a room stand next to each
//! other. Then every seated socket is given its room's frames in one write, straight from this
//! loop. Only a socket that sits in several of the gathered rooms needs its frames merged by `seq`.
//!
//! Clients that can come back by an offset get it as one more argument of each event. Those frames are
//! made from the plain ones, once, when the first seat wants them.
//!
//! After a hand-out to a large crowd the next one waits as long as that one took: a worker that
//! spends its time on writing puts more into each write, and both it and its clients keep up.

use std::cell::OnceCell;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::core::{Core, Standing};
use super::hub::RoomIdx;
use super::recovery;
use super::uplink::Asker;
use crate::engine::Host;
use crate::engine::table::{Key, Slot};
use crate::journal::stamp::Stamp;
use crate::link::clock;
use crate::link::frame::Message;
use crate::wire::events;
use crate::wire::recovery::Seals;

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
    /// When each was taken in, by [`clock::now_us`], as far as that is known.
    taken_us: Vec<u64>,
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
    frames: Frames<Vec<u8>>,
}

/// Frames of messages, one behind the other.
struct Frames<B> {
    bytes: B,
    /// `seq` and end of each frame.
    ends: Vec<(u64, usize)>,
}

impl<B: std::ops::Deref<Target = [u8]>> Frames<B> {
    /// Each with its `seq`.
    fn each(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let mut start = 0;
        self.ends.iter().map(move |&(seq, end)| (seq, &self.bytes[std::mem::replace(&mut start, end)..end]))
    }
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
            self.rooms.push(Batch { room, frames: Frames { bytes: Vec::new(), ends: Vec::new() } });
            self.places[at] = u32::try_from(self.rooms.len()).unwrap_or(MANY);
        }
        let Frames { bytes, ends } = &mut self.rooms[self.places[at] as usize - 1].frames;
        let before = bytes.len();
        events::message(message.fields, bytes);
        ends.push((message.seq, bytes.len()));
        self.bytes += bytes.len() - before;
        if message.sent_us > 0 {
            self.taken_us.push(message.sent_us);
        }
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
                send(core, slot, &[only]);
            }
        }
        _ => {
            let mut marks = std::mem::take(&mut core.plan.marks);
            hand_out_many(core, &ready, &mut marks);
            core.plan.marks = marks;
        }
    }
    let now_us = clock::now_us();
    for taken_us in core.plan.taken_us.drain(..) {
        core.counters.delivery.note(now_us.saturating_sub(taken_us));
    }
    let took = start.elapsed();
    core.plan.rest_until = (took >= CROWD).then(|| Instant::now() + took.min(LONGEST_REST));
}

/// One room's frames, shared by its sockets.
struct Ready {
    room: RoomIdx,
    plain: Frames<Bytes>,
    marked: OnceCell<Frames<Bytes>>,
}

impl From<Batch> for Ready {
    fn from(batch: Batch) -> Ready {
        let Frames { bytes, ends } = batch.frames;
        Ready { room: batch.room, plain: Frames { bytes: bytes.into(), ends }, marked: OnceCell::new() }
    }
}

impl Ready {
    fn frames(&self, marked: bool, seals: &Seals) -> &Frames<Bytes> {
        if marked { self.marked.get_or_init(|| mark(&self.plain, seals)) } else { &self.plain }
    }
}

/// The same frames, each with its offset.
fn mark(plain: &Frames<Bytes>, seals: &Seals) -> Frames<Bytes> {
    let mut bytes = Vec::with_capacity(plain.bytes.len() + plain.ends.len() * OFFSET_BYTES);
    let mut ends = Vec::with_capacity(plain.ends.len());
    let mut offset = Vec::new();
    for (seq, frame) in plain.each() {
        offset.clear();
        seals.offset(seq, &mut offset);
        events::with_argument(frame, &offset, &mut bytes);
        ends.push((seq, bytes.len()));
    }
    Frames { bytes: bytes.into(), ends }
}

/// Bytes that an offset adds to a frame, about.
const OFFSET_BYTES: usize = 32;

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
            send(core, slot, &[&ready[mark as usize - 1]]);
        }
    }
    several.sort_unstable();
    let mut batches = Vec::new();
    for of_slot in several.chunk_by(|a, b| a.0 == b.0) {
        batches.clear();
        batches.extend(of_slot.iter().map(|(_, place)| &ready[*place]));
        send(core, of_slot[0].0, &batches);
    }
}

/// The frames of several rooms in `seq` order.
fn merge(batches: &[&Ready], marked: bool, seals: &Seals) -> Bytes {
    let mut frames: Vec<(u64, &[u8])> =
        batches.iter().flat_map(|batch| batch.frames(marked, seals).each()).collect();
    frames.sort_unstable_by_key(|(seq, _)| *seq);
    let merged: Vec<u8> = frames.iter().flat_map(|(_, bytes)| bytes.iter().copied()).collect();
    merged.into()
}

/// Gives one client the frames of its rooms. One that is only on its way into the chat gets none; one
/// that is being told what it missed gets them behind that.
fn send(core: &mut Core, slot: Slot, batches: &[&Ready]) {
    let Core { engine, seals, .. } = core;
    let Some(conn) = engine.table.at(slot) else {
        return;
    };
    let live = match &conn.state.standing {
        Standing::Live { .. } => true,
        Standing::Replaying(_) => false,
        Standing::Coming(_) | Standing::Racing(_) => return,
    };
    let key = Key { slot, generation: conn.generation };
    let offsets = conn.state.offsets;
    let merged;
    let frames = match batches {
        [only] => &only.frames(offsets, seals).bytes,
        _ => {
            merged = merge(batches, offsets, seals);
            &merged
        }
    };
    core.counters.deliveries += batches.iter().map(|batch| batch.plain.ends.len() as u64).sum::<u64>();
    if live {
        core.send(slot, frames);
    } else {
        recovery::hold(core, key, frames.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frame;

    #[test]
    fn marked_frames_carry_the_offsets_of_the_same_messages() {
        let seals = Seals::new("secret");
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        for seq in [3, 70, 71] {
            events::message(&format!("\"seq\":{seq}"), &mut bytes);
            ends.push((seq, bytes.len()));
        }
        let plain = Frames { bytes: Bytes::from(bytes), ends };
        let marked = mark(&plain, &seals);
        let read = marked.each().map(|(seq, marked)| {
            let (_, payload) = frame::written(marked).next().unwrap();
            let text = std::str::from_utf8(&payload[2..]).unwrap();
            let json: serde_json::Value = serde_json::from_str(text).unwrap();
            assert_eq!((json[0].as_str(), json[1]["seq"].as_u64()), (Some("message"), Some(seq)));
            seals.read_offset(json[2].as_str().unwrap()).unwrap()
        });
        assert_eq!(read.collect::<Vec<_>>(), [3, 70, 71]);
    }
}
