//! What becomes of what members hear.

use super::crowd::Crowd;
use super::faults::Kind;
use super::heard::Heard;
use super::memo::{About, Said};
use crate::frame::Opcode;
use crate::socket::{Phase, Step as Frame};

impl Crowd<'_> {
    /// Does what an event asks for; an error ends the connection.
    pub(super) fn attend(&mut self, member: usize, writable: bool, buffer: &mut [u8]) -> Result<(), String> {
        let Some(seat) = &mut self.members[member].seat else { return Ok(()) };
        if seat.socket.phase == Phase::Dialling {
            return seat.socket.upgrade_at(seat.admission.address, &seat.admission.path);
        }
        if writable {
            seat.socket.flush();
        }
        while let Some(seat) = &mut self.members[member].seat
            && let Some((filled, more)) = seat.socket.receive(buffer)?
        {
            let now = self.clock.now_ns();
            let used = self.digest(member, &buffer[..filled], now)?;
            if let Some(seat) = &mut self.members[member].seat {
                seat.socket.keep(&buffer[used..filled]);
            }
            if !more {
                break; // a short read has emptied the socket; the next byte makes a new event
            }
        }
        Ok(())
    }

    /// Acts on every whole frame in `bytes`; tells how many bytes those took.
    fn digest(&mut self, member: usize, bytes: &[u8], now: u64) -> Result<usize, String> {
        let mut at = 0;
        loop {
            let Some(seat) = &mut self.members[member].seat else { return Ok(bytes.len()) };
            at += match seat.socket.step(&bytes[at..])? {
                Frame::NotYet => return Ok(at),
                Frame::Skip(used) => used,
                Frame::Ping(used, payload) => {
                    seat.socket.write(self.framer.frame(Opcode::Pong, payload));
                    used
                }
                Frame::Pong(used) => {
                    seat.fenced = true;
                    used
                }
                Frame::Text(used, text) => {
                    match self.memo.read(&text) {
                        Ok(Said::Member(about)) => self.learn(member, about, now),
                        Ok(Said::Other(message)) => self.hear(member, &message, now),
                        Err(why) => self.tally.error(why),
                    }
                    used
                }
            };
        }
    }

    fn hear(&mut self, member: usize, message: &Heard, now: u64) {
        let one = &mut self.members[member];
        let (course, place) = (&mut self.courses[one.course], one.place);
        let Some(seat) = &mut one.seat else { return };
        let counts = &mut self.tally.counts;
        match (message.kind.as_ref(), seat.is_in) {
            ("ERROR", is_in) => {
                let code = message.error_code.clone().unwrap_or_default();
                if is_in {
                    self.tally.error(format!("ERROR {code}"));
                } else {
                    seat.refusal = Some(code);
                }
            }
            ("CONNECTED", false) => self.welcome(member, message, now),
            (kind, false) => self.tally.error(format!("{kind} before CONNECTED")),
            ("PONG", true) => match seat.pinged.pop_front() {
                Some(from_ns) => {
                    counts.pongs += 1;
                    self.tally.pong.note(from_ns, now);
                }
                None => course.note(Kind::Duplicated, place, "a PONG without PING"),
            },
            (kind, _) => self.tally.error(format!("{kind} that was not expected, or not whole")),
        }
    }

    /// Something about another member has come.
    fn learn(&mut self, member: usize, about: About, now: u64) {
        let one = &self.members[member];
        let (course, place) = (&mut self.courses[one.course], one.place);
        let Some(seat) = &one.seat else { return };
        if !seat.is_in {
            return self.tally.error(format!("{about:?} before CONNECTED"));
        }
        self.news_ns = now;
        let counts = &mut self.tally.counts;
        match about {
            About::Entered(user, distance) => {
                counts.heard_entered += 1;
                course.hears_entered(place, user, distance);
            }
            About::Left(user) => {
                counts.heard_left += 1;
                course.hears_left(place, user);
            }
            About::Update(user, distance, at_ms) => {
                counts.heard_updates += 1;
                let due_ms = course.hears_update(place, user, distance, at_ms.unwrap_or(i64::MIN));
                if let Some(due_ms) = due_ms {
                    let since_ms = i64::try_from(self.clock.unix_ms(now)).unwrap_or(i64::MAX) - due_ms;
                    let since_ns = u64::try_from(since_ms).unwrap_or(0) * 1_000_000;
                    self.tally.update.note(now.saturating_sub(since_ns), now);
                }
            }
        }
    }

    /// `CONNECTED` has come.
    fn welcome(&mut self, member: usize, message: &Heard, now: u64) {
        let one = &mut self.members[member];
        let Some(seat) = &mut one.seat else { return };
        seat.is_in = true;
        self.tally.connect.note(seat.from_ns, now);
        self.tally.connections += 1;
        one.tries = 0;
        let again = std::mem::replace(&mut one.was_in, true);
        let base_ms = i64::try_from(self.clock.unix_ms(now)).unwrap_or(i64::MAX);
        self.courses[one.course].connected(one.place, &message.participants, now, base_ms);
        self.pings.push_back((now + self.plan.ping_ns, member, seat.stay));
        if let Some(every_ns) = self.plan.record_ns {
            self.records.push_back((now + every_ns, member, seat.stay));
        }
        match again {
            true => self.is_back(member, now),
            false => self.tally.counts.connected += 1,
        }
        self.settle(member);
    }
}
