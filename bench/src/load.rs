//! What one thread's connections say, and what becomes of what they hear.
//!
//! Open pace: message k is due when the plan's schedule says and belongs to room k modulo rooms; each
//! thread sends those of the rooms it is home to. What is due while its sender is away waits for it; a
//! sender that comes back says again all that was not answered, under the same `clientId`. Closed pace: an ack sets off the next message of
//! its sender; a refusal does so a little later, so that a refusing server is not hammered.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;

use slab::Slab;

use crate::clock::ns;
use crate::ledger::Ledger;
use crate::mark::{Mark, Marker};
use crate::packet::{self, Ack, Delivery};
use crate::plan::{Pace, Plan};
use crate::pool::Row;
use crate::socket::{Framer, Phase};
use crate::stage::Shared;
use crate::stats::Tally;

/// Wait after a refusal before the sender's next message in closed pace, in ns.
const REFUSED_PAUSE_NS: u64 = 20_000_000;

/// Messages of one sender that wait for their answers, its absence included; beyond them it sends none.
const WAITING_MAX: usize = 10_000;

/// The ack a poll is asked for at the end, as a WebSocket is asked for a pong.
pub const FENCE_ACK: u32 = u32::MAX;

/// Acks of this number and above answer something else than a message.
const OTHER_ACKS: u32 = 1 << 31;

/// Messages in a page of history.
const PAGE: u32 = 50;

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
    /// Members of each room that read.
    readers: Vec<u32>,
    /// Pages of history under way: who asked, and when it should have.
    pages: HashMap<u32, (usize, u64)>,
    /// Pages asked for so far.
    asked: u32,
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
            marker: Marker::new(plan.run, plan.content),
            ledger: Ledger::new(plan, users),
            tally: Tally::new(),
            senders: vec![vec![]; plan.rooms as usize],
            start_ns: None,
            window: 0..0,
            next: 0,
            paused: VecDeque::new(),
            text: vec![],
            readers: readers(plan),
            pages: HashMap::new(),
            asked: 0,
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

    /// The load ends early: nothing due from `cut_ns` on is sent or measured.
    pub fn cut(&mut self, cut_ns: u64) {
        self.window.end = self.window.end.min(cut_ns);
    }

    /// When the next message is due; `None`: no more will be.
    pub fn next_due_ns(&self) -> Option<u64> {
        let due = match self.plan.pace {
            Pace::Silent => None,
            Pace::Open => self.start_ns.and_then(|start| Some(start + self.plan.schedule.due_ns(self.next)?)),
            Pace::Closed { .. } => self.paused.front().map(|(due, _)| *due),
        };
        due.filter(|due| *due < self.window.end)
    }

    /// Sends all that is due.
    pub fn send_due(&mut self, rows: &mut Slab<Row>, framer: &mut Framer, now_ns: u64) {
        while let Some(due) = self.next_due_ns().filter(|due| *due <= now_ns) {
            let key = match self.plan.pace {
                Pace::Open => self.turn(),
                _ => self.paused.pop_front().map(|(_, key)| key),
            };
            let at = if let Pace::Open = self.plan.pace { due } else { now_ns };
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
        let takes_more = row.takes_more();
        let Some(sender) =
            row.sender.as_mut().filter(|sender| takes_more && sender.inflight.len() < WAITING_MAX)
        else {
            self.tally.unsent();
            return;
        };
        let number = self.ledger.sent(self.plan.room_of(row.user));
        sender.inflight.push_back((number, at_ns));
        self.tally.sent(at_ns, now_ns);
        self.say(row, framer, number, at_ns);
    }

    /// Writes a message, unless its sender is away; then it is said when that is back.
    fn say(&mut self, row: &mut Row, framer: &mut Framer, number: u32, at_ns: u64) {
        let Some(sender) = row.sender.as_ref().filter(|_| row.socket.phase == Phase::Ready) else { return };
        let room = self.plan.room_of(row.user);
        self.text.clear();
        packet::begin_send(&mut self.text, number, &self.room_ids[room as usize]);
        self.marker.write(&mut self.text, Mark { room, slot: sender.slot, number, at_ns });
        let client_id = self.plan.resumes().then(|| format!("{:08x}-{room}-{number}", self.plan.run));
        packet::end_send(&mut self.text, client_id.as_deref());
        row.say(framer, &self.text);
    }

    /// A connection is back: says again what was not answered.
    pub fn resend(&mut self, row: &mut Row, framer: &mut Framer) {
        let waiting: Vec<(u32, u64)> =
            row.sender.iter().flat_map(|sender| sender.inflight.iter().copied()).collect();
        for (number, at_ns) in waiting {
            self.say(row, framer, number, at_ns);
        }
    }

    /// Tells the others that somebody is typing.
    pub fn type_on(&mut self, row: &mut Row, framer: &mut Framer) {
        let room = self.plan.room_of(row.user) as usize;
        row.say(framer, packet::typing(&self.room_ids[room]).as_bytes());
        self.tally.acts.typing_sent += 1;
    }

    /// Asks for a page of history, which should have been done at `at_ns`.
    pub fn look_back(&mut self, row: &mut Row, key: usize, framer: &mut Framer, at_ns: u64) {
        let room = self.plan.room_of(row.user) as usize;
        let id = OTHER_ACKS + self.asked % (OTHER_ACKS - 1);
        self.asked = self.asked.wrapping_add(1);
        self.pages.insert(id, (key, at_ns));
        let text = packet::history(id, &self.room_ids[room], PAGE);
        row.say(framer, text.as_bytes());
    }

    /// The question a poll answers last, behind everything it was sent before.
    pub fn last_question(&self, user: u32) -> String {
        let room = self.plan.room_of(user) as usize;
        packet::history(FENCE_ACK, self.room_ids.get(room).map_or("", String::as_str), 1)
    }

    /// A connection broke: no page it asked for will come.
    pub fn forget(&mut self, key: usize) {
        self.pages.retain(|_, (of, _)| *of != key);
    }

    /// All is over: pages of history that are still under way will not come.
    pub fn end(&mut self) {
        self.tally.acts.history_unanswered += self.pages.len() as u64;
        self.pages.clear();
    }

    /// Whether pages of history are still under way.
    pub fn looking_back(&self) -> bool {
        !self.pages.is_empty()
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
        if let Some((_, at_ns)) = self.pages.remove(&ack.id) {
            match ack.ok {
                true => self.tally.acts.history.note(at_ns, now_ns),
                false => self.tally.acts.history_refused += 1,
            }
            return;
        }
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
            let readers = self.readers[self.plan.room_of(row.user) as usize];
            self.shared.expect(u64::from(readers));
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

/// Members of each room that read.
fn readers(plan: &Plan) -> Vec<u32> {
    let mut readers = vec![0; plan.rooms as usize];
    for (user, _) in (0..plan.users).zip(plan.slow()).filter(|(_, slow)| !slow) {
        if let Some(room) = readers.get_mut(plan.room_of(user) as usize) {
            *room += 1;
        }
    }
    readers
}

fn sample(text: &[u8]) -> String {
    String::from_utf8_lossy(&text[..text.len().min(SAMPLE_BYTES)]).into_owned()
}
