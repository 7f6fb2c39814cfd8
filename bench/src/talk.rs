//! What one thread's connections hear, do beside sending, and how they end.

use crate::acts::Act;
use crate::frame::Opcode;
use crate::load::{FENCE_ACK, Sender};
use crate::packet::{self, Packet};
use crate::pool::Pool;
use crate::socket::Phase;

impl Pool<'_> {
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

    /// Does what is due beside sending.
    pub(crate) fn act_due(&mut self, now: u64) {
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

    pub(crate) fn lose(&mut self, key: usize, why: &str) {
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
    pub(crate) fn fence(&mut self, buffer: &mut [u8]) {
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

    /// The fence is behind this connection.
    pub(crate) fn pong(&mut self, key: usize) {
        if !std::mem::replace(&mut self.rows[key].fenced, true) {
            self.shared.fenced();
        }
    }

    pub(crate) fn close(&mut self) {
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
}
