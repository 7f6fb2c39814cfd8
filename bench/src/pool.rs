//! One thread's connections: a table, one epoll, one read buffer. No task, timer or buffer belongs
//! to a connection, so ten thousand idle ones cost little and a delivery costs little more than
//! its `recv`.

use std::io;
use std::time::Duration;

use mio::event::Event;
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

use crate::acts::Acts;
use crate::clock::{Clock, random};
use crate::dial::Dialler;
use crate::frame::Opcode;
use crate::load::{Load, Sender};
use crate::packet::Reader;
use crate::plan::Plan;
use crate::polling::Polling;
use crate::returns::{Away, Returns};
use crate::socket::{Framer, PAYLOAD_BYTES_MAX, Phase, Socket, Step};
use crate::stage::{Shared, Stage};
use crate::wait::wait;

/// Longest wait before looking whether the stage has changed, in ns.
const LOOK_UP_NS: u64 = 20_000_000;

/// Room for the largest frame and as much again of what follows it.
const READ_BUFFER_BYTES: usize = 2 * PAYLOAD_BYTES_MAX;

const EVENTS: usize = 1024;

/// Set in the token of a connection that carries a poll's POSTs.
const POSTS: usize = 1 << 62;

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
    /// The other half of a client on long polling; `socket` then carries its GETs.
    pub(crate) polling: Option<Box<Polling>>,
    /// Set while it is broken and to come back.
    pub away: Option<Away>,
    /// Whether it reads what it is told; slow readers don't, until the end.
    pub(crate) slow: bool,
    pub(crate) dialled_ns: u64,
    pub(crate) fenced: bool,
}

impl Row {
    /// Says one packet.
    pub fn say(&mut self, framer: &mut Framer, text: &[u8]) {
        match &mut self.polling {
            Some(polling) => polling.say(text),
            None => self.socket.write(framer.frame(Opcode::Text, text)),
        }
    }

    /// Whether one more message may be given to this connection.
    pub fn takes_more(&self) -> bool {
        self.polling.as_ref().map_or_else(|| self.socket.takes_more(), |polling| polling.takes_more())
    }
}

/// One thread's work.
pub struct Pool<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) shared: &'a Shared,
    pub(crate) clock: Clock,
    pub(crate) tokens: &'a [String],
    pub(crate) dialler: Dialler,
    pub(crate) rows: Slab<Row>,
    pub(crate) poll: Poll,
    pub(crate) reader: Reader,
    pub(crate) framer: Framer,
    pub(crate) load: Load<'a>,
    /// What the load had counted when it was last published.
    told: (u64, u64, u64),
    /// Whether it has said that nothing more will be sent.
    silent: bool,
    /// The second of the wall clock that is counted now.
    second: u64,
    pub(crate) slow: Vec<bool>,
    pub(crate) polls: Vec<bool>,
    pub(crate) acts: Acts,
    pub(crate) returns: Returns,
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
            slow: plan.slow(),
            polls: plan.polling(),
            acts: Acts::new(plan, thread),
            returns: Returns::default(),
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
                self.acts.begin(self.shared.start_ns());
            }
            if stage < Stage::Drain
                && next_stage >= Stage::Drain
                && let Some(cut_ns) = self.shared.cut_ns()
            {
                self.load.cut(cut_ns);
                self.acts.cut(cut_ns);
            }
            if stage < Stage::Fence && next_stage >= Stage::Fence {
                self.fence(&mut buffer);
            }
            stage = next_stage;
            if stage == Stage::End {
                self.close();
                self.hand_over();
                return Ok(self.load);
            }
            self.turn_second(now);
            let mut due = now + LOOK_UP_NS;
            if stage == Stage::Connect || self.plan.resumes() {
                due = due.min(self.dial_due(now));
            }
            self.weather(now);
            self.act_due(now);
            due = due.min(self.acts.next_due_ns().unwrap_or(due));
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
        let opening = |key, user| {
            let under_way = |row: &Row| (Phase::Dialling..Phase::Ready).contains(&row.socket.phase);
            rows.get(key).is_some_and(|row| row.user == user && under_way(row))
        };
        let overdue = self.dialler.overdue(now, opening);
        overdue.into_iter().for_each(|key| self.lose(key, "the handshake took longer than 30 s"));
        while let Some((receiver, user)) = self.dialler.next(now) {
            if let Err(why) = self.dial(receiver, user, now) {
                self.load.tally.failed(&why.to_string());
                self.load.ledger.gone(receiver, std::iter::empty());
                self.shared.failed();
            }
        }
        self.dialler.next_due_ns(now).min(self.redial_due(now))
    }

    fn dial(&mut self, receiver: usize, user: u32, now: u64) -> io::Result<()> {
        let slow = self.slow[user as usize];
        let key = self.rows.vacant_key();
        let (socket, polling) = self.dial_for(key, user, slow)?;
        self.dialler.began(key, user, now);
        let sender = self.plan.slot_of(user).filter(|_| !slow).map(Sender::new);
        let (away, fenced) = (None, false);
        self.rows.insert(Row {
            socket,
            user,
            receiver,
            sender,
            polling,
            away,
            slow,
            dialled_ns: now,
            fenced,
        });
        Ok(())
    }

    /// The connections of one client, known to epoll under its key.
    pub(crate) fn dial_for(
        &mut self,
        key: usize,
        user: u32,
        slow: bool,
    ) -> io::Result<(Socket, Option<Box<Polling>>)> {
        let (target, source) = (self.plan.target, self.plan.source_of(user));
        let interest = Interest::READABLE | Interest::WRITABLE;
        let mut socket = Socket::dial(target, source, slow)?;
        self.poll.registry().register(&mut socket.stream, Token(key), interest)?;
        if !self.polls[user as usize] {
            return Ok((socket, None));
        }
        let mut polling = Polling::dial(target, source, &self.tokens[user as usize])?;
        self.poll.registry().register(&mut polling.post.stream, Token(key | POSTS), interest)?;
        Ok((socket, Some(Box::new(polling))))
    }

    fn serve(&mut self, event: &Event, buffer: &mut [u8]) {
        let key = event.token().0 & !POSTS;
        let Some(row) = self.rows.get(key) else { return };
        let attended = match (row.polling.is_some(), event.token().0 & POSTS != 0) {
            (false, _) => self.attend(key, event, buffer),
            (true, false) => self.attend_gets(key, event, buffer),
            (true, true) => self.attend_posts(key, event, buffer),
        };
        if let Err(why) = attended {
            self.lose(key, &why);
        }
    }

    fn attend(&mut self, key: usize, event: &Event, buffer: &mut [u8]) -> Result<(), String> {
        let row = &mut self.rows[key];
        if row.socket.phase == Phase::Away {
            return Ok(()); // an event of the connection it had before
        }
        if row.socket.phase == Phase::Dialling {
            return row.socket.upgrade(self.plan.target, &self.tokens[row.user as usize]);
        }
        if event.is_writable() {
            row.socket.flush();
        }
        if !event.is_readable() && !event.is_read_closed() && !event.is_error() {
            return Ok(());
        }
        if row.slow && row.socket.phase == Phase::Ready {
            return Ok(());
        }
        self.read(key, buffer, event.is_read_closed())
    }

    /// Reads until there is nothing more for now; `closed`: the end is near and must be met.
    pub(crate) fn read(&mut self, key: usize, buffer: &mut [u8], closed: bool) -> Result<(), String> {
        while let Some((filled, more)) = self.rows[key].socket.receive(buffer)? {
            let now = self.clock.now_ns();
            let used = self.digest(key, &buffer[..filled], now)?;
            self.rows[key].socket.keep(&buffer[used..filled]);
            if !more && !closed {
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
                    self.pong(key);
                    used
                }
                Step::Text(used, text) => {
                    // What a slow reader finds at the end is too late to be judged.
                    if !self.slow[row.user as usize] || row.socket.phase < Phase::Ready {
                        self.hear(key, &text, now)?;
                    }
                    used
                }
            };
        }
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
        let idle = || self.load.next_due_ns().is_none() && !self.load.looking_back();
        if stage >= Stage::Drain && !self.silent && idle() {
            self.silent = true;
            self.shared.silent();
        }
    }
}
