//! One WebSocket at a time, waited for: the load's own socket without a pool around it.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Instant;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::clock::random;
use crate::frame::Opcode;
use crate::socket::{Framer, PAYLOAD_BYTES_MAX, Phase, Socket, Step};

/// Room for a frame of the largest payload and its head.
const BUFFER_BYTES: usize = PAYLOAD_BYTES_MAX + 64;

/// A WebSocket whose packets are read one by one.
pub struct Duplex {
    socket: Socket,
    framer: Framer,
    buffer: Vec<u8>,
    /// What of the buffer is read and not taken.
    unread: std::ops::Range<usize>,
}

impl Duplex {
    /// Connects, upgrades and waits for the packet that opens the session.
    pub fn open(target: SocketAddr, token: &str, deadline: Instant) -> Result<Duplex, String> {
        let socket = Socket::dial(target, None, false).map_err(|why| why.to_string())?;
        let framer = Framer::new(u64::from(random()));
        let mut duplex = Duplex { socket, framer, buffer: vec![0; BUFFER_BYTES], unread: 0..0 };
        while duplex.socket.phase == Phase::Dialling {
            duplex.wait(PollFlags::POLLOUT, deadline)?;
            duplex.socket.upgrade(target, token)?;
        }
        let open = duplex.hear(deadline)?;
        if open.starts_with('0') { Ok(duplex) } else { Err(format!("the session began with {open}")) }
    }

    /// Sends a packet.
    pub fn say(&mut self, text: &str) {
        self.socket.write(self.framer.frame(Opcode::Text, text.as_bytes()));
    }

    /// The next packet that is no ping; pings are answered.
    pub fn hear(&mut self, deadline: Instant) -> Result<String, String> {
        loop {
            match self.socket.step(&self.buffer[self.unread.clone()])? {
                Step::Text(taken, text) => {
                    let text = String::from_utf8_lossy(&text).into_owned();
                    self.unread.start += taken;
                    match text.strip_prefix('2') {
                        Some(payload) => self.say(&format!("3{payload}")),
                        None => return Ok(text),
                    }
                }
                Step::Ping(taken, payload) => {
                    self.socket.write(self.framer.frame(Opcode::Pong, payload));
                    self.unread.start += taken;
                }
                Step::Pong(taken) | Step::Skip(taken) => self.unread.start += taken,
                Step::NotYet => self.read(deadline)?,
            }
        }
    }

    /// Reads more behind what is there.
    fn read(&mut self, deadline: Instant) -> Result<(), String> {
        self.socket.keep(&self.buffer[self.unread.clone()]);
        self.unread = 0..0;
        loop {
            self.wait(PollFlags::POLLIN, deadline)?;
            if let Some((there, _)) = self.socket.receive(&mut self.buffer)? {
                self.unread = 0..there;
                return Ok(());
            }
        }
    }

    fn wait(&self, what: PollFlags, deadline: Instant) -> Result<(), String> {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(self.socket.stream.as_fd(), what)], timeout) {
            Ok(0) => Err("no answer in time".to_owned()),
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(why) => Err(why.to_string()),
        }
    }
}
