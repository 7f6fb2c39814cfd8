//! All members' WebSockets on one thread: a table, one epoll, one read buffer, and queues of what is due.
//!
//! One thread, so that what is heard has one order and the judge ([`Course`]) needs no lock. Everything that
//! is due again and again is due at equal intervals, so each kind of it is a plain queue.

use std::collections::VecDeque;
use std::io;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use mio::{Events, Interest, Poll, Token};

use super::calls::Admission;
use super::faults::Kind;
use super::kills::{Break, Kills};
use super::lines::{Agenda, News, Step};
use super::memo::Memo;
use super::ranking::Runner;
use super::sight::Course;
use super::stages::{Plan, Stage};
use super::tally::Tally;
use crate::clock::{Clock, random};
use crate::frame::Opcode;
use crate::socket::{Framer, PAYLOAD_BYTES_MAX, Socket};
use crate::wait::wait;

/// The token of what wakes the thread when a call has ended.
pub const CALLS: Token = Token(usize::MAX);

/// Longest time from the ticket to `CONNECTED`.
const HANDSHAKE_NS: u64 = 30_000_000_000;

/// Pause before a member whose connection broke asks for a ticket, and between two tries.
const RETURN_NS: u64 = 500_000_000;

/// Tries of one return; a server that is starting again takes a while.
const RETURN_TRIES: u32 = 60;

/// Longest wait for events.
const LOOK_NS: u64 = 20_000_000;

const EVENTS: usize = 1024;

/// Room for the largest frame and as much again of what follows it.
const READ_BUFFER_BYTES: usize = 2 * PAYLOAD_BYTES_MAX;

/// What servers say when they close as they were asked to.
const CLOSED_NORMALLY: &str = "the server closed the connection: 1000";

/// A member's connection.
pub(super) struct Seat {
    pub(super) socket: Socket,
    pub(super) admission: Admission,
    /// Which of the member's connections it is.
    pub(super) stay: u32,
    /// When the ticket was there.
    pub(super) from_ns: u64,
    /// `CONNECTED` has come.
    pub(super) is_in: bool,
    /// `ERROR` that came instead.
    pub(super) refusal: Option<String>,
    /// PINGs without an answer yet.
    pub(super) pinged: VecDeque<u64>,
    /// What was said before the end has been answered.
    pub(super) fenced: bool,
}

/// A member.
#[derive(Default)]
pub(super) struct Member {
    pub(super) seat: Option<Box<Seat>>,
    /// Its challenge, and its place there.
    pub(super) course: usize,
    pub(super) place: usize,
    /// Connections so far.
    stays: u32,
    /// What came of its first try is known.
    settled: bool,
    /// It was in.
    pub(super) was_in: bool,
    /// It gave up or reached the end: the server may close.
    through: bool,
    /// It gave up: the server has to close.
    gave_up: bool,
    /// Tries of the return that is under way.
    pub(super) tries: u32,
    /// A kill broke its connection, and it is not back.
    away: Option<Break>,
}

/// Everybody.
pub struct Crowd<'a> {
    pub(super) plan: &'a Plan,
    pub(super) clock: Clock,
    pub(super) agenda: &'a Agenda,
    pub(super) courses: Vec<Course>,
    pub(super) tally: Tally,
    pub(super) stage: Stage,
    /// What is done to the server meanwhile.
    pub(super) kills: Kills,
    /// When something that is owed came last.
    pub(super) news_ns: u64,
    /// Members whose first try has come to something.
    pub(super) settled: usize,
    pub(super) members: Vec<Member>,
    poll: Poll,
    pub(super) framer: Framer,
    pub(super) memo: Memo,
    /// Due when, whose, and of which of its connections.
    pub(super) pings: VecDeque<(u64, usize, u32)>,
    pub(super) records: VecDeque<(u64, usize, u32)>,
    opening: VecDeque<(u64, usize, u32)>,
}

impl<'a> Crowd<'a> {
    /// Members are given by their challenge and place there; `poll` knows of [`CALLS`] already.
    pub fn new(
        plan: &'a Plan,
        clock: Clock,
        agenda: &'a Agenda,
        (courses, seats): (Vec<Course>, Vec<(usize, usize)>),
        poll: Poll,
        kills: Kills,
    ) -> Crowd<'a> {
        let member = |(course, place)| Member { course, place, ..Member::default() };
        Crowd {
            plan,
            clock,
            agenda,
            courses,
            tally: Tally::new(),
            stage: Stage::Ramp,
            kills,
            news_ns: 0,
            settled: 0,
            members: seats.into_iter().map(member).collect(),
            poll,
            framer: Framer::new(u64::from(random())),
            memo: Memo::default(),
            pings: VecDeque::new(),
            records: VecDeque::new(),
            opening: VecDeque::new(),
        }
    }

    /// Serves everybody until `turn`, which is asked again and again, says that it is enough.
    /// `calls`, what became of them, ends with it, so that no line waits for an ear.
    pub fn run(
        &mut self,
        calls: Receiver<News>,
        mut turn: impl FnMut(&mut Self, u64) -> bool,
    ) -> io::Result<()> {
        let mut events = Events::with_capacity(EVENTS);
        let mut buffer = vec![0; READ_BUFFER_BYTES];
        loop {
            while let Ok((member, step)) = calls.try_recv() {
                self.called(member, step);
            }
            let now = self.clock.now_ns();
            if !turn(self, now) {
                return Ok(());
            }
            let due = self.act(now).min(now + LOOK_NS);
            let left = due.saturating_sub(self.clock.now_ns());
            wait(&mut self.poll, &mut events, Duration::from_nanos(left))?;
            for event in events.iter().filter(|event| event.token() != CALLS) {
                let member = event.token().0;
                if let Err(why) = self.attend(member, event.is_writable(), &mut buffer) {
                    self.lose(member, &why);
                }
            }
        }
    }

    /// Members that are in.
    pub fn present(&self) -> impl Iterator<Item = usize> {
        let is_in = |(member, one): (usize, &Member)| {
            one.seat.as_ref().filter(|seat| seat.is_in && !one.through).map(|_| member)
        };
        self.members.iter().enumerate().filter_map(is_in)
    }

    /// Whether anybody is still to be told something, or to be let go after giving up.
    pub fn owes(&self) -> bool {
        self.members.iter().any(|one| one.gave_up && one.seat.is_some())
            || self.courses.iter().any(Course::owes)
    }

    /// Whether somebody whose connection a kill broke may still come back.
    pub fn awaits(&self) -> bool {
        self.members.iter().any(|one| one.away.is_some() && one.tries <= RETURN_TRIES)
    }

    /// No more kills, and nobody is awaited.
    pub fn end_kills(&mut self) {
        self.kills.end();
        self.members.iter_mut().for_each(|one| one.away = None);
    }

    /// Members of a challenge that have to be in its ranking.
    pub fn runners(&self, course: usize) -> Vec<Runner> {
        let ranked = |one: &&Member| one.course == course && one.was_in && !one.gave_up;
        let runner = |one: &Member| Runner {
            user: self.courses[course].user(one.place),
            is_in: one.seat.as_ref().is_some_and(|seat| seat.is_in) && !one.through,
        };
        self.members.iter().filter(ranked).map(runner).collect()
    }

    /// A member gives up.
    pub fn quit(&mut self, member: usize) {
        let now = self.clock.now_ns();
        if self.say(member, r#"{"type":"QUIT"}"#) {
            let one = &mut self.members[member];
            (one.through, one.gave_up) = (true, true);
            self.courses[one.course].quits(one.place, now);
            self.tally.counts.quit += 1;
        }
    }

    /// Asks everybody for a WebSocket pong, which comes after all that was said before.
    pub fn fence(&mut self) {
        for one in &mut self.members {
            if let Some(seat) = one.seat.as_mut().filter(|seat| seat.is_in) {
                seat.socket.write(self.framer.frame(Opcode::Ping, b""));
            }
        }
    }

    /// Whether everybody has answered that, or is gone.
    pub fn is_fenced(&self) -> bool {
        let answered = |seat: &Seat| seat.fenced || !seat.is_in;
        self.members.iter().all(|one| one.seat.as_ref().is_none_or(|seat| answered(seat)))
    }

    /// Ends all connections and notes what nobody answered, and who never came back after a kill.
    pub fn close(&mut self) {
        for one in &mut self.members {
            if one.away.is_some() {
                self.courses[one.course].note(Kind::Lost, one.place, "did not come back after a kill");
            }
            if let Some(mut seat) = one.seat.take() {
                let course = &mut self.courses[one.course];
                let unanswered = if one.through { 0 } else { seat.pinged.len() };
                (0..unanswered).for_each(|_| course.note(Kind::Unanswered, one.place, "a PING without PONG"));
                seat.socket.abandon();
            }
        }
    }

    /// A call of a member has ended.
    fn called(&mut self, member: usize, step: Step) {
        self.tally.called(&step);
        let is_back = self.members[member].was_in;
        match step {
            Step::LoggedIn { .. } | Step::Joined { .. } => {}
            Step::Entered { to_ns, admission, .. } => {
                if let Err(why) = self.dial(member, admission, to_ns) {
                    self.tally.error(format!("connect: {why}"));
                    self.settle(member);
                }
            }
            Step::Failed { .. } if is_back && self.comes_again(member) => {}
            Step::Failed { call, why } => {
                self.tally.error(format!("{call}: {why}"));
                self.settle(member);
            }
        }
    }

    /// What came of a member's first try is known.
    pub(super) fn settle(&mut self, member: usize) {
        if !std::mem::replace(&mut self.members[member].settled, true) {
            self.settled += 1;
        }
    }

    /// Whether a member that was in tries once more.
    fn comes_again(&mut self, member: usize) -> bool {
        let one = &mut self.members[member];
        one.tries += 1;
        let again = one.tries <= RETURN_TRIES && self.stage <= Stage::Stay;
        if again {
            self.agenda.again(member, self.clock.now_ns() + RETURN_NS);
        }
        again
    }

    fn dial(&mut self, member: usize, admission: Admission, from_ns: u64) -> io::Result<()> {
        self.tally.counts.operations += 1;
        let mut socket = Socket::dial(admission.address, self.plan.source_of(member), false)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut socket.stream, Token(member), interest)?;
        let one = &mut self.members[member];
        one.stays += 1;
        self.courses[one.course].dials(one.place, self.clock.now_ns());
        self.opening.push_back((from_ns + HANDSHAKE_NS, member, one.stays));
        one.seat = Some(Box::new(Seat {
            socket,
            admission,
            stay: one.stays,
            from_ns,
            is_in: false,
            refusal: None,
            pinged: VecDeque::new(),
            fenced: false,
        }));
        Ok(())
    }

    /// Says what is due, and gives up handshakes that take too long; tells when to look again.
    fn act(&mut self, now: u64) -> u64 {
        while let Some((_, member, stay)) = due(&mut self.opening, now) {
            if self.seat(member, stay).is_some_and(|seat| !seat.is_in) {
                self.lose(member, "no CONNECTED within 30 s");
            }
        }
        while self.stage < Stage::Fence
            && let Some((at, member, stay)) = due(&mut self.pings, now)
        {
            if self.members[member].gave_up {
                continue; // nobody listens to it any more
            }
            let Some(seat) = self.seat(member, stay) else { continue };
            seat.pinged.push_back(now);
            self.say(member, r#"{"type":"PING"}"#);
            self.tally.counts.pings += 1;
            self.pings.push_back((at + self.plan.ping_ns, member, stay));
        }
        while self.stage <= Stage::Stay
            && let Some((at, member, stay)) = due(&mut self.records, now)
        {
            if self.seat(member, stay).is_some() && self.record(member, now) {
                let every_ns = self.plan.record_ns.unwrap_or(u64::MAX);
                self.records.push_back((at.saturating_add(every_ns), member, stay));
            }
        }
        let first = |queue: &VecDeque<(u64, usize, u32)>| queue.front().map_or(u64::MAX, |(at, ..)| *at);
        let records = if self.stage <= Stage::Stay { first(&self.records) } else { u64::MAX };
        let pings = if self.stage < Stage::Fence { first(&self.pings) } else { u64::MAX };
        first(&self.opening).min(pings).min(records)
    }

    /// A member says how far it is; whether it will again.
    fn record(&mut self, member: usize, now: u64) -> bool {
        let one = &mut self.members[member];
        let Some((distance, at_ms, last)) = self.courses[one.course].next_record(one.place, now) else {
            return false;
        };
        one.through |= last;
        self.tally.counts.finished += u64::from(last);
        self.tally.counts.records += 1;
        let pace = self.plan.pace;
        let text = format!(r#"{{"type":"RECORD","distance":{distance},"pace":{pace},"timestamp":{at_ms}}}"#);
        self.say(member, &text) && !last
    }

    fn seat(&mut self, member: usize, stay: u32) -> Option<&mut Seat> {
        self.members[member].seat.as_deref_mut().filter(|seat| seat.stay == stay)
    }

    /// Says something, if the member is in.
    fn say(&mut self, member: usize, text: &str) -> bool {
        match self.members[member].seat.as_mut().filter(|seat| seat.is_in) {
            Some(seat) => {
                seat.socket.write(self.framer.frame(Opcode::Text, text.as_bytes()));
                true
            }
            None => false,
        }
    }

    /// A connection is no more.
    fn lose(&mut self, member: usize, why: &str) {
        let one = &mut self.members[member];
        let Some(mut seat) = one.seat.take() else { return };
        seat.socket.abandon();
        if !seat.is_in {
            let why = seat.refusal.as_deref().unwrap_or(why);
            let error = format!("connect: {why}");
            if !(one.was_in && self.comes_again(member)) {
                self.tally.error(error);
            }
            return self.settle(member);
        }
        self.tally.connections -= 1;
        if one.through && why.starts_with(CLOSED_NORMALLY) {
            return;
        }
        self.courses[one.course].breaks(one.place);
        let by = self.kills.broke(self.clock.now_ns());
        match by {
            Some(_) => self.tally.counts.interrupted += 1,
            None => {
                self.tally.counts.dropped += 1;
                self.tally.error(format!("connection lost: {why}"));
            }
        }
        if !one.through {
            one.away = by;
            self.comes_again(member);
        }
    }

    /// A member that was in is so again.
    pub(super) fn is_back(&mut self, member: usize, now: u64) {
        self.tally.counts.reentered += 1;
        if let Some(by) = self.members[member].away.take() {
            self.kills.back(by, now);
        }
    }
}

/// The first of a queue, if it is due.
fn due(queue: &mut VecDeque<(u64, usize, u32)>, now: u64) -> Option<(u64, usize, u32)> {
    queue.front().filter(|(at, ..)| *at <= now)?;
    queue.pop_front()
}
