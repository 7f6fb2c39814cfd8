//! One thread's connections: a table, one epoll, one read buffer. No task, timer or buffer belongs
//! to a connection, so ten thousand idle ones cost little and a delivery costs little more than
//! its `recv`.

use std::io;
use std::time::Duration;

use mio::event::Event;
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

use crate::clock::{Clock, random};
use crate::dial::Dialler;
use crate::frame::Opcode;
use crate::load::{Load, Sender};
use crate::packet::{Packet, Reader};
use crate::plan::Plan;

use crate::socket::{Framer, PAYLOAD_BYTES_MAX, Phase, Socket, Step};
use crate::stage::{Shared, Stage};
use crate::wait::wait;

/// Longest wait before looking whether the stage has changed, in ns.
const LOOK_UP_NS: u64 = 20_000_000;

/// Room for the largest frame and as much again of what follows it.
const READ_BUFFER_BYTES: usize = 2 * PAYLOAD_BYTES_MAX;

const EVENTS: usize = 1024;

/// One connection in the table.
pub struct Row {
    /// The connection.
    pub socket: Socket,
    /// Number of the user in the plan.
    pub user: u32,
    /// Its place in this thread's ledger.
    pub receiver: usize,
    /// What it needs to send, if it sends.
    pub sender: Option<Sender>,
    dialled_ns: u64,
    fenced: bool,
}

/// One thread's work.
pub struct Pool<'a> {
    plan: &'a Plan,
    shared: &'a Shared,
    clock: Clock,
    tokens: &'a [String],
    dialler: Dialler,
    rows: Slab<Row>,
    poll: Poll,
    reader: Reader,
    framer: Framer,
    load: Load<'a>,
    /// What the load had counted when it was last published.
    told: (u64, u64, u64),
    /// Whether it has said that nothing more will be sent.
    silent: bool,
    /// The second of the wall clock that is counted now.
    second: u64,
}

impl<'a> Pool<'a> {
    /// The connections of one thread, none dialled yet.
    pub fn new(
        plan: &'a Plan,
        shared: &'a Shared,
        clock: Clock,
        tokens: &'a [String],
        room_ids: &'a [String],
        thread: u32,
    ) -> io::Result<Pool<'a>> {
        let users: Vec<u32> = (0..plan.users).filter(|user| plan.thread_of(*user) == thread).collect();
        Ok(Pool {
            plan,
            shared,
            clock,
            tokens,
            load: Load::new(plan, room_ids, shared, thread, &users),
            rows: Slab::with_capacity(users.len()),
            dialler: Dialler::new(plan, users, clock.now_ns()),
            poll: Poll::new()?,
            reader: Reader::new(),
            framer: Framer::new(u64::from(random())),
            told: (0, 0, 0),
            silent: false,
            second: clock.unix_s(clock.now_ns()),
        })
    }

    /// Serves the connections until the last stage; gives what was heard and counted.
    pub fn run(mut self) -> io::Result<Load<'a>> {
        let mut events = Events::with_capacity(EVENTS);
        let mut buffer = vec![0; READ_BUFFER_BYTES];
        let mut stage = Stage::Connect;
        loop {
            let now = self.clock.now_ns();
            let next_stage = self.shared.stage();
            if stage < Stage::Load && next_stage >= Stage::Load {
                self.load.begin(&self.rows, self.shared.start_ns());
            }
            if stage < Stage::Fence && next_stage >= Stage::Fence {
                self.fence();
            }
            stage = next_stage;
            if stage == Stage::End {
                self.close();
                self.hand_over();
                return Ok(self.load);
            }
            self.turn_second(now);
            let mut due = now + LOOK_UP_NS;
            if stage == Stage::Connect {
                due = due.min(self.dial_due(now));
            }
            self.load.send_due(&mut self.rows, &mut self.framer, now);
            due = due.min(self.load.next_due_ns().unwrap_or(due));
            self.publish(stage);
            let left = due.saturating_sub(self.clock.now_ns());
            wait(&mut self.poll, &mut events, Duration::from_nanos(left))?;
            for event in &events {
                self.serve(event, &mut buffer);
                let now = self.clock.now_ns();
                self.turn_second(now);
                if self.load.next_due_ns().is_some_and(|due| due <= now) {
                    self.load.send_due(&mut self.rows, &mut self.framer, now);
                }
            }
        }
    }

    /// Dials whoever is due and gives up on handshakes that take too long; tells when to look again.
    fn dial_due(&mut self, now: u64) -> u64 {
        let rows = &self.rows;
        let opening =
            |key, user| rows.get(key).is_some_and(|row| row.user == user && row.socket.phase < Phase::Ready);
        let overdue = self.dialler.overdue(now, opening);
        overdue.into_iter().for_each(|key| self.lose(key, "the handshake took longer than 30 s"));
        while let Some((receiver, user)) = self.dialler.next(now) {
            if let Err(why) = self.dial(receiver, user, now) {
                self.load.tally.failed(&why.to_string());
                self.load.ledger.gone(receiver, std::iter::empty());
                self.shared.failed();
            }
        }
        self.dialler.next_due_ns(now)
    }

    fn dial(&mut self, receiver: usize, user: u32, now: u64) -> io::Result<()> {
        let mut socket = Socket::dial(self.plan.target, self.plan.source_of(user))?;
        let entry = self.rows.vacant_entry();
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut socket.stream, Token(entry.key()), interest)?;
        self.dialler.began(entry.key(), user, now);
        let sender = self.plan.slot_of(user).map(Sender::new);
        entry.insert(Row { socket, user, receiver, sender, dialled_ns: now, fenced: false });
        Ok(())
    }

    fn serve(&mut self, event: &Event, buffer: &mut [u8]) {
        let key = event.token().0;
        if self.rows.contains(key)
            && let Err(why) = self.attend(key, event, buffer)
        {
            self.lose(key, &why);
        }
    }

    fn attend(&mut self, key: usize, event: &Event, buffer: &mut [u8]) -> Result<(), String> {
        let row = &mut self.rows[key];
        if row.socket.phase == Phase::Dialling {
            return row.socket.upgrade(self.plan.target, &self.tokens[row.user as usize]);
        }
        if event.is_writable() {
            row.socket.flush();
        }
        if !event.is_readable() && !event.is_read_closed() && !event.is_error() {
            return Ok(());
        }
        while let Some((filled, more)) = self.rows[key].socket.receive(buffer)? {
            let now = self.clock.now_ns();
            let used = self.digest(key, &buffer[..filled], now)?;
            self.rows[key].socket.keep(&buffer[used..filled]);
            if !more && !event.is_read_closed() {
                break; // a short read has emptied the socket; the next byte makes a new event
            }
        }
        Ok(())
    }

    /// Acts on every whole frame in `bytes`; tells how many bytes those took.
    fn digest(&mut self, key: usize, bytes: &[u8], now: u64) -> Result<usize, String> {
        let mut at = 0;
        loop {
            let row = &mut self.rows[key];
            at += match row.socket.step(&bytes[at..])? {
                Step::NotYet => return Ok(at),
                Step::Skip(used) => used,
                Step::Ping(used, payload) => {
                    row.socket.write(self.framer.frame(Opcode::Pong, payload));
                    used
                }
                Step::Pong(used) => {
                    if !std::mem::replace(&mut row.fenced, true) {
                        self.shared.fenced();
                    }
                    used
                }
                Step::Text(used, text) => {
                    self.hear(key, &text, now)?;
                    used
                }
            };
        }
    }

    fn hear(&mut self, key: usize, text: &[u8], now: u64) -> Result<(), String> {
        let row = &mut self.rows[key];
        match self.reader.read(text) {
            Packet::Message(delivery) => self.load.heard(row, &delivery, text, now),
            Packet::Ack(ack) => self.load.answered(row, key, &ack, text, now),
            Packet::Ping(payload) => {
                let answer = [b"3", payload].concat();
                row.socket.write(self.framer.frame(Opcode::Text, &answer));
            }
            Packet::Open => row.socket.write(self.framer.frame(Opcode::Text, b"40")),
            Packet::Connected => {
                row.socket.phase = Phase::Ready;
                self.load.tally.ready(row.dialled_ns, now);
                self.shared.connected(now);
            }
            Packet::ConnectError(reason) => {
                return Err(format!("the server refused: {}", String::from_utf8_lossy(reason)));
            }
            Packet::Bye => return Err("the server ended the session".into()),
            Packet::Other => self.load.other(text),
        }
        Ok(())
    }

    fn lose(&mut self, key: usize, why: &str) {
        let row = self.rows.remove(key);
        let waiting = row.sender.iter().flat_map(Sender::waiting);
        self.load.ledger.gone(row.receiver, waiting);
        if row.socket.phase == Phase::Ready {
            self.load.tally.dropped(why);
            self.shared.dropped();
        } else {
            self.load.tally.failed(why);
            self.shared.failed();
        }
    }

    /// Asks every connection for a pong: what the server had sent before comes before it.
    fn fence(&mut self) {
        for (_, row) in &mut self.rows {
            row.socket.write(self.framer.frame(Opcode::Ping, b"fence"));
        }
    }

    fn close(&mut self) {
        for (_, row) in &mut self.rows {
            row.socket.write(self.framer.frame(Opcode::Close, &1000_u16.to_be_bytes()));
        }
        self.rows.clear();
    }

    /// Hands over what was counted when its second has ended.
    fn turn_second(&mut self, now: u64) {
        let second = self.clock.unix_s(now);
        if second != self.second {
            self.hand_over();
            self.second = second;
        }
    }

    fn hand_over(&mut self) {
        let faults = self.load.ledger.faults.counts.iter().sum();
        self.shared.hand_over(self.second, self.load.tally.roll(faults));
    }

    fn publish(&mut self, stage: Stage) {
        let counts = self.load.tally.counts();
        let now = (counts.sent, counts.acked + counts.errors.refused, counts.delivered);
        let told = std::mem::replace(&mut self.told, now);
        self.shared.progress(now.0 - told.0, now.1 - told.1, now.2 - told.2);
        if stage >= Stage::Drain && !self.silent && self.load.next_due_ns().is_none() {
            self.silent = true;
            self.shared.silent();
        }
    }
}
