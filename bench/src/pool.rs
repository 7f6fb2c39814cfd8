//! One thread's connections: a table, one epoll, one read buffer. No task, timer or buffer belongs
//! to a connection, so ten thousand idle ones cost little and a delivery costs little more than
//! its `recv`.

use std::io;
use std::time::Duration;

use mio::event::Event;
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

use crate::acts::{Act, Acts};
use crate::clock::{Clock, random};
use crate::dial::Dialler;
use crate::frame::Opcode;
use crate::load::{FENCE_ACK, Load, Sender};
use crate::packet::{self, Packet, Reader};
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
    slow: bool,
    dialled_ns: u64,
    fenced: bool,
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
    tokens: &'a [String],
    pub(crate) dialler: Dialler,
    pub(crate) rows: Slab<Row>,
    pub(crate) poll: Poll,
    reader: Reader,
    framer: Framer,
    pub(crate) load: Load<'a>,
    /// What the load had counted when it was last published.
    told: (u64, u64, u64),
    /// Whether it has said that nothing more will be sent.
    silent: bool,
    /// The second of the wall clock that is counted now.
    second: u64,
    pub(crate) slow: Vec<bool>,
    pub(crate) polls: Vec<bool>,
    acts: Acts,
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
    fn read(&mut self, key: usize, buffer: &mut [u8], closed: bool) -> Result<(), String> {
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

    pub(crate) fn hear(&mut self, key: usize, text: &[u8], now: u64) -> Result<(), String> {
        let packet = self.reader.read(text);
        if packet == Packet::Connected {
            self.weather(now); // it may be back from something this thread has not noticed yet
        }
        let row = &mut self.rows[key];
        match packet {
            Packet::Message(delivery) => self.load.heard(row, &delivery, text, now),
            Packet::Ack(ack) if ack.id == FENCE_ACK => self.pong(key),
            Packet::Ack(ack) => self.load.answered(row, key, &ack, text, now),
            Packet::Ping(payload) => {
                let answer = [b"3", payload].concat();
                row.say(&mut self.framer, &answer);
            }
            Packet::Open => {
                let since = row.away.as_ref().map(|_| self.load.ledger.last_seq(row.receiver));
                let packet = packet::connect(since);
                row.say(&mut self.framer, packet.as_bytes());
            }
            Packet::Connected => {
                row.socket.phase = Phase::Ready;
                match row.away.take() {
                    None => self.load.tally.ready(row.dialled_ns, now),
                    Some(away) => {
                        self.load.tally.back(away.disrupted, away.since_ns, now);
                        self.load.resend(row, &mut self.framer);
                    }
                }
                self.shared.connected(now);
            }
            Packet::Typing => self.load.tally.acts.typing_heard += 1,
            Packet::Gap => {
                self.load.tally.acts.gaps += 1;
                self.load.ledger.gone(row.receiver, std::iter::empty());
            }
            Packet::ConnectError(reason) => {
                return Err(format!("the server refused: {}", String::from_utf8_lossy(reason)));
            }
            Packet::Bye => return Err("the server ended the session".into()),
            Packet::Other => self.load.other(text),
        }
        Ok(())
    }

    /// The fence is behind this connection.
    fn pong(&mut self, key: usize) {
        if !std::mem::replace(&mut self.rows[key].fenced, true) {
            self.shared.fenced();
        }
    }

    fn lose(&mut self, key: usize, why: &str) {
        self.load.forget(key);
        if self.comes_back(key, why) {
            return;
        }
        let row = self.rows.remove(key);
        let waiting = row.sender.iter().flat_map(Sender::waiting);
        self.load.ledger.gone(row.receiver, waiting);
        let ready = row.socket.phase == Phase::Ready;
        if ready && self.slow[row.user as usize] {
            self.load.tally.acts.slow_closed += 1; // it was asked for
            self.shared.dropped();
        } else if ready {
            self.load.tally.dropped(why);
            self.shared.dropped();
        } else {
            self.load.tally.failed(why);
            self.shared.failed();
        }
    }

    /// Asks every connection for a pong: what the server had sent before comes before it. Slow readers
    /// now read on, to learn whether the server has closed them.
    fn fence(&mut self, buffer: &mut [u8]) {
        let mut woken = vec![];
        for (key, row) in &mut self.rows {
            match &mut row.polling {
                Some(polling) => polling.say(self.load.last_question(row.user).as_bytes()),
                None => row.socket.write(self.framer.frame(Opcode::Ping, b"fence")),
            }
            if std::mem::take(&mut row.slow) && row.socket.phase == Phase::Ready {
                woken.push(key);
            }
        }
        for key in woken {
            if let Err(why) = self.read(key, buffer, false) {
                self.lose(key, &why);
            }
        }
    }

    fn close(&mut self) {
        for (_, row) in &mut self.rows {
            if let Some(away) = &row.away {
                if away.disrupted {
                    self.load.tally.stayed_away(away.since_ns);
                }
                let waiting = row.sender.iter().flat_map(Sender::waiting);
                self.load.ledger.gone(row.receiver, waiting);
                self.load.tally.dropped("it did not come back before the end");
            }
            if row.polling.is_none() {
                row.socket.write(self.framer.frame(Opcode::Close, &1000_u16.to_be_bytes()));
            }
        }
        self.rows.clear();
    }

    /// Does what is due beside sending.
    fn act_due(&mut self, now: u64) {
        while let Some((act, nth, due)) = self.acts.take_due(now) {
            let Some(key) = self.pick(nth) else { continue };
            let row = &mut self.rows[key];
            match act {
                Act::Typing => self.load.type_on(row, &mut self.framer),
                Act::History => self.load.look_back(row, key, &mut self.framer, due),
                Act::Reconnect => {
                    self.load.tally.acts.reconnects += 1;
                    self.interrupt(key, false, now);
                }
            }
        }
    }

    /// A connection that is ready and reads, another one each time.
    fn pick(&self, nth: u64) -> Option<usize> {
        let keys = self.rows.capacity().max(1);
        let first = usize::try_from(nth.wrapping_mul(0x9e37_79b9) % keys as u64).ok()?;
        let fit = |key: &usize| {
            self.rows.get(*key).is_some_and(|row| row.socket.phase == Phase::Ready && !row.slow)
        };
        (first..keys).chain(0..first).find(fit)
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
