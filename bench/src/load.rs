//! What one thread's connections say, and what becomes of what they hear.
//!
//! Open pace: message k is due at start + k × interval and belongs to room k modulo rooms; each
//! thread sends those of the rooms it is home to. Closed pace: an ack sets off the next message of
//! its sender; a refusal does so a little later, so that a refusing server is not hammered.

use std::collections::VecDeque;
use std::ops::Range;

use slab::Slab;

use crate::clock::ns;
use crate::frame::Opcode;
use crate::ledger::Ledger;
use crate::mark::{Mark, Marker};
use crate::packet::{self, Ack, Delivery};
use crate::plan::{Pace, Plan};
use crate::pool::Row;
use crate::socket::Framer;
use crate::stage::Shared;
use crate::stats::Tally;

/// Wait after a refusal before the sender's next message in closed pace, in ns.
const REFUSED_PAUSE_NS: u64 = 20_000_000;

/// Bytes of a refusal or of an unexpected packet that are told.
const SAMPLE_BYTES: usize = 160;

/// A connection that sends: which sender of its room, and what it waits for (number, intended ns).
pub struct Sender {
    slot: u16,
    inflight: VecDeque<(u32, u64)>,
}

impl Sender {
    /// The sender in that place of its room.
    pub fn new(slot: u16) -> Sender {
        Sender { slot, inflight: VecDeque::new() }
    }

    /// The messages whose answers it waits for.
    pub fn waiting(&self) -> impl Iterator<Item = u32> {
        self.inflight.iter().map(|(number, _)| *number)
    }
}

/// One thread's talk.
pub struct Load<'a> {
    plan: &'a Plan,
    room_ids: &'a [String],
    shared: &'a Shared,
    thread: u32,
    marker: Marker,
    /// What was told to whom.
    pub ledger: Ledger,
    /// What was counted.
    pub tally: Tally,
    /// Table keys of each room's senders.
    senders: Vec<Vec<usize>>,
    /// First message sent, in ns; set when the load begins.
    start_ns: Option<u64>,
    /// What is measured; empty until the load begins.
    window: Range<u64>,
    /// Next message of the open schedule.
    next: u64,
    /// Senders to be set going again, and when.
    paused: VecDeque<(u64, usize)>,
    text: Vec<u8>,
}

impl<'a> Load<'a> {
    /// Silent until [`Load::begin`].
    pub fn new(
        plan: &'a Plan,
        room_ids: &'a [String],
        shared: &'a Shared,
        thread: u32,
        users: &[u32],
    ) -> Load<'a> {
        Load {
            plan,
            room_ids,
            shared,
            thread,
            marker: Marker::new(plan.run, plan.size),
            ledger: Ledger::new(plan, users),
            tally: Tally::new(),
            senders: vec![vec![]; plan.rooms as usize],
            start_ns: None,
            window: 0..0,
            next: 0,
            paused: VecDeque::new(),
            text: vec![],
        }
    }

    /// All are connected: the load starts at `start_ns`.
    pub fn begin(&mut self, rows: &Slab<Row>, start_ns: u64) {
        let from = start_ns + ns(self.plan.warmup);
        (self.start_ns, self.window) = (Some(start_ns), from..from + ns(self.plan.duration));
        for (key, row) in rows {
            let Some(sender) = &row.sender else { continue };
            let room = &mut self.senders[self.plan.room_of(row.user) as usize];
            room.push(key);
            if let Pace::Closed { inflight } = self.plan.pace {
                self.paused.extend((0..inflight).map(|_| (start_ns, key)));
            }
            debug_assert!(u32::from(sender.slot) < self.plan.senders);
        }
        self.skip_to_own();
    }

    /// When the next message is due; `None`: no more will be.
    pub fn next_due_ns(&self) -> Option<u64> {
        let due = match self.plan.pace {
            Pace::Silent => None,
            Pace::Open { interval_ns } => self.start_ns.map(|start| start + self.next * interval_ns),
            Pace::Closed { .. } => self.paused.front().map(|(due, _)| *due),
        };
        due.filter(|due| *due < self.window.end)
    }

    /// Sends all that is due.
    pub fn send_due(&mut self, rows: &mut Slab<Row>, framer: &mut Framer, now_ns: u64) {
        while let Some(due) = self.next_due_ns().filter(|due| *due <= now_ns) {
            let key = match self.plan.pace {
                Pace::Open { .. } => self.turn(),
                _ => self.paused.pop_front().map(|(_, key)| key),
            };
            let at = if let Pace::Open { .. } = self.plan.pace { due } else { now_ns };
            match key.and_then(|key| rows.get_mut(key)) {
                Some(row) => self.send(row, framer, at, now_ns),
                None => self.tally.unsent(),
            }
        }
    }

    /// Whose turn the next message of the open schedule is; passes on to the one after it.
    fn turn(&mut self) -> Option<usize> {
        let rooms = u64::from(self.plan.rooms);
        let (round, room) = (self.next / rooms, usize::try_from(self.next % rooms).ok()?);
        self.next += 1;
        self.skip_to_own();
        let senders = &self.senders[room];
        let place = round.checked_rem(senders.len() as u64)?;
        senders.get(usize::try_from(place).ok()?).copied()
    }

    fn skip_to_own(&mut self) {
        let rooms = u64::from(self.plan.rooms);
        let own =
            |next: u64| u32::try_from(next % rooms).is_ok_and(|room| self.plan.home_of(room) == self.thread);
        if let Some(skip) = (0..rooms).find(|skip| own(self.next + skip)) {
            self.next += skip;
        }
    }

    fn send(&mut self, row: &mut Row, framer: &mut Framer, at_ns: u64, now_ns: u64) {
        let Some(sender) = row.sender.as_mut().filter(|_| row.socket.takes_more()) else {
            self.tally.unsent();
            return;
        };
        let room = self.plan.room_of(row.user);
        let number = self.ledger.sent(room);
        self.text.clear();
        packet::begin_send(&mut self.text, number, &self.room_ids[room as usize]);
        self.marker.write(&mut self.text, Mark { room, slot: sender.slot, number, at_ns });
        packet::end_send(&mut self.text);
        sender.inflight.push_back((number, at_ns));
        self.tally.sent(at_ns, now_ns);
        row.socket.write(framer.frame(Opcode::Text, &self.text));
    }

    /// A message arrived at a connection.
    pub fn heard(&mut self, row: &Row, event: &Delivery, text: &[u8], now_ns: u64) {
        let mark = self.marker.read(text);
        let own_id = self.room_ids.get(self.plan.room_of(row.user) as usize);
        let own_room = own_id.is_some_and(|id| event.room_id == Some(id.as_bytes()));
        let owed = self.ledger.delivered(row.receiver, mark, event, own_room);
        if let Some(mark) = mark.filter(|_| owed) {
            self.tally.delivered(&self.window, mark.at_ns, now_ns);
        }
    }

    /// An ack arrived at a connection; `key` is its place in the table.
    pub fn answered(&mut self, row: &mut Row, key: usize, ack: &Ack, text: &[u8], now_ns: u64) {
        let inflight = row.sender.as_mut().map(|sender| &mut sender.inflight);
        let waiting = inflight.and_then(|waiting| {
            let place = waiting.iter().position(|(number, _)| *number == ack.id)?; // nearly always the first
            waiting.remove(place)
        });
        let Some((_, at_ns)) = waiting else {
            self.ledger.unasked(row.receiver, ack);
            return;
        };
        self.ledger.answered(row.receiver, ack);
        if ack.ok {
            let others = self.plan.members(self.plan.room_of(row.user));
            self.shared.expect(u64::from(others));
            self.tally.acked(&self.window, at_ns, now_ns);
        } else {
            let answer = text.iter().position(|byte| *byte == b'[').unwrap_or_default();
            self.tally.refused(&sample(&text[answer..]));
        }
        if let Pace::Closed { .. } = self.plan.pace {
            match ack.ok {
                true => self.paused.push_front((now_ns, key)),
                false => self.paused.push_back((now_ns + REFUSED_PAUSE_NS, key)),
            }
        }
    }

    /// Something arrived that nobody asked for.
    pub fn other(&mut self, text: &[u8]) {
        self.tally.other(&sample(text));
    }
}

fn sample(text: &[u8]) -> String {
    String::from_utf8_lossy(&text[..text.len().min(SAMPLE_BYTES)]).into_owned()
}
