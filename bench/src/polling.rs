//! HTTP long polling in the place of a WebSocket: one connection always has a GET open, another
//! carries POSTs, one at a time. Packets travel in bodies, separated by U+001E (Engine.IO 4).

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};

use mio::event::Event;

use crate::http::{self, Answer};
use crate::packet;
use crate::pool::Pool;
use crate::socket::{Phase, Socket};

/// Between the packets of one body.
const SEPARATOR: u8 = 0x1e;

/// Most bytes of packets kept for a server that takes no POST; past it nothing more is said.
const UNSENT_BYTES_MAX: usize = 1024 * 1024;

/// Most bytes in the body of one POST, far below what servers allow.
const POST_BYTES_MAX: usize = 100_000;

/// What a client on long polling has beside its first connection, the one with the GETs.
pub struct Polling {
    /// The connection with the POSTs.
    pub post: Socket,
    target: SocketAddr,
    token: String,
    sid: Option<String>,
    /// Packets that wait for a POST, and their bytes.
    waiting: Vec<Vec<u8>>,
    waiting_bytes: usize,
    /// Whether a POST has not been answered.
    posting: bool,
}

impl Polling {
    /// Begins to connect for POSTs.
    pub fn dial(target: SocketAddr, source: Option<IpAddr>, token: &str) -> io::Result<Polling> {
        let post = Socket::dial(target, source, false)?;
        let (sid, waiting, waiting_bytes, posting) = (None, vec![], 0, false);
        Ok(Polling { post, target, token: token.to_owned(), sid, waiting, waiting_bytes, posting })
    }

    /// Opens the session, once `get` is connected; then asks for the next packets after each answer.
    pub fn ask(&self, get: &mut Socket) {
        let sid = self.sid.as_ref().map(|sid| format!("&sid={sid}")).unwrap_or_default();
        let (token, target) = (&self.token, self.target);
        let request = format!(
            "GET /socket.io/?EIO=4&transport=polling&token={token}{sid} HTTP/1.1\r\nHost: {target}\r\n\r\n"
        );
        get.write(request.as_bytes());
    }

    /// Says a packet as soon as a POST may go out.
    pub fn say(&mut self, text: &[u8]) {
        self.waiting_bytes += text.len();
        self.waiting.push(text.to_vec());
        self.flush();
    }

    /// Whether one more packet may be given to it.
    pub fn takes_more(&self) -> bool {
        self.waiting_bytes < UNSENT_BYTES_MAX
    }

    /// Posts what waits, if the last POST is answered and the session is open.
    pub fn flush(&mut self) {
        let Some(sid) = self.sid.as_ref().filter(|_| !self.posting && self.post.phase == Phase::Ready) else {
            return;
        };
        let mut body: Vec<u8> = vec![];
        let mut taken = 0;
        for packet in &self.waiting {
            if taken > 0 && body.len() + packet.len() > POST_BYTES_MAX {
                break;
            }
            if taken > 0 {
                body.push(SEPARATOR);
            }
            body.extend_from_slice(packet);
            taken += 1;
        }
        if taken == 0 {
            return;
        }
        self.waiting_bytes -= self.waiting.drain(..taken).map(|packet| packet.len()).sum::<usize>();
        let head = format!(
            "POST /socket.io/?EIO=4&transport=polling&token={}&sid={sid} HTTP/1.1\r\nHost: {}\r\n\
             Content-Type: text/plain;charset=UTF-8\r\nContent-Length: {}\r\n\r\n",
            self.token,
            self.target,
            body.len()
        );
        self.posting = true;
        self.post.write(&[head.as_bytes(), &body].concat());
    }

    /// A POST was answered.
    pub fn posted(&mut self, answer: &Answer) -> Result<(), String> {
        if answer.status != 200 {
            return Err(format!("a poll's POST was answered with {}", answer.status));
        }
        self.posting = false;
        self.flush();
        Ok(())
    }

    /// The packets of a GET's answer; the first one opens the session.
    pub fn packets(&mut self, answer: Answer) -> Result<Vec<Vec<u8>>, String> {
        if answer.status != 200 {
            return Err(format!("a poll's GET was answered with {}", answer.status));
        }
        let packets: Vec<Vec<u8>> =
            answer.body.split(|byte| *byte == SEPARATOR).map(<[u8]>::to_vec).collect();
        if self.sid.is_none() {
            let sid = packets.first().and_then(|first| packet::sid(first));
            self.sid = Some(sid.ok_or("the server opened a session without a sid")?);
        }
        Ok(packets)
    }
}

impl Pool<'_> {
    /// Something happened to the connection with the GETs.
    pub(crate) fn attend_gets(&mut self, key: usize, event: &Event, buffer: &mut [u8]) -> Result<(), String> {
        let row = &mut self.rows[key];
        let Some(polling) = row.polling.as_ref() else { return Ok(()) };
        match row.socket.phase {
            Phase::Away => return Ok(()), // an event of the connection it had before
            Phase::Dialling if row.socket.is_connected()? => {
                row.socket.phase = Phase::Joining;
                polling.ask(&mut row.socket);
                return Ok(());
            }
            Phase::Dialling => return Ok(()),
            _ => {}
        }
        for answer in answers(&mut row.socket, event, buffer)? {
            let row = &mut self.rows[key];
            let Some(polling) = row.polling.as_mut() else { return Ok(()) };
            let packets = polling.packets(answer)?;
            polling.ask(&mut row.socket); // before the packets are acted on: one GET is always open
            let now = self.clock.now_ns();
            packets.iter().try_for_each(|packet| self.hear(key, packet, now))?;
        }
        Ok(())
    }

    /// Something happened to the connection with the POSTs.
    pub(crate) fn attend_posts(
        &mut self,
        key: usize,
        event: &Event,
        buffer: &mut [u8],
    ) -> Result<(), String> {
        let Some(polling) = self.rows[key].polling.as_mut() else { return Ok(()) };
        match polling.post.phase {
            Phase::Away => return Ok(()),
            Phase::Dialling if polling.post.is_connected()? => {
                polling.post.phase = Phase::Ready;
                polling.flush();
                return Ok(());
            }
            Phase::Dialling => return Ok(()),
            _ => {}
        }
        answers(&mut polling.post, event, buffer)?.iter().try_for_each(|answer| polling.posted(answer))
    }
}

/// Whole answers that have arrived on a connection.
fn answers(socket: &mut Socket, event: &Event, buffer: &mut [u8]) -> Result<Vec<Answer>, String> {
    let mut answers = vec![];
    if event.is_writable() {
        socket.flush();
    }
    if !event.is_readable() && !event.is_read_closed() && !event.is_error() {
        return Ok(answers);
    }
    while let Some((filled, more)) = socket.receive(buffer)? {
        let mut at = 0;
        while let Some((whole, used)) = answer(&buffer[at..filled])? {
            at += used;
            answers.push(whole);
        }
        socket.keep(&buffer[at..filled]);
        if !more && !event.is_read_closed() {
            break; // a short read has emptied the socket; the next byte makes a new event
        }
    }
    Ok(answers)
}

/// The whole answer `bytes` begin with and how many of them it takes; `None`: it has not all arrived.
fn answer(bytes: &[u8]) -> Result<Option<(Answer, usize)>, String> {
    let mut rest = bytes;
    match http::read_answer(&mut rest) {
        Ok((answer, true)) => Ok(Some((answer, bytes.len() - rest.len()))),
        Ok((answer, false)) => Err(format!("a poll was answered with {} and closed", answer.status)),
        Err(why) if why.kind() == ErrorKind::UnexpectedEof => Ok(None),
        Err(why) => Err(why.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_taken_once_it_is_whole() {
        let bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n2\x1e2\x1e3HTTP/1.1";
        for cut in 0..bytes.len() - 8 {
            assert!(answer(&bytes[..cut]).unwrap().is_none(), "cut at {cut}");
        }
        let (whole, used) = answer(bytes).unwrap().unwrap();
        assert_eq!((whole.body.as_slice(), used), (&b"2\x1e2\x1e3"[..], bytes.len() - 8));
        assert!(answer(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").is_err());
        assert!(answer(b"SSH-2.0-x\r\n").is_err());
    }
}
