//! One client connection: dialling, the WebSocket handshake, frames in and out.
//!
//! Bytes are kept here only while a frame is incomplete or the kernel would not take more; reading
//! happens in the pool's shared buffer.

use std::borrow::Cow;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr};

use mio::net::TcpStream;
use socket2::{Domain, Protocol, Type};

use crate::frame::{self, Decoded, Opcode};

/// The sample nonce of RFC 6455 and its answer: checks the server's arithmetic without SHA-1 here.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &[u8] = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// Largest payload of a frame or of a message in fragments, in bytes.
pub const PAYLOAD_BYTES_MAX: usize = 256 * 1024;

/// Most bytes kept for a server that does not read; past it nothing more is sent there.
const UNSENT_BYTES_MAX: usize = 1024 * 1024;

/// Receive buffer asked for a reader that never reads; the kernel may give it a little more.
const SLOW_BUFFER_BYTES: usize = 4096;

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// It is broken and will be made anew.
    Away,
    /// TCP is connecting.
    Dialling,
    /// The upgrade request is out.
    Upgrading,
    /// It is a WebSocket; Engine.IO or Socket.IO are not open yet.
    Joining,
    /// It hears and may speak.
    Ready,
}

/// One connection.
pub struct Socket {
    /// For the pool to register.
    pub stream: TcpStream,
    /// How far it has come; the pool moves it to `Ready`.
    pub phase: Phase,
    unread: Vec<u8>,
    unsent: Vec<u8>,
    fragments: Vec<u8>,
}

/// The next thing in the bytes at hand, with how many of them it took.
pub enum Step<'b> {
    /// A whole text message.
    Text(usize, Cow<'b, [u8]>),
    /// A ping to answer with this payload.
    Ping(usize, &'b [u8]),
    /// An answer to our ping.
    Pong(usize),
    /// Nothing to act on.
    Skip(usize),
    /// The rest has not arrived.
    NotYet,
}

impl Socket {
    /// Begins to connect, from `source` if one is given; `slow` gives it the smallest buffer there is
    /// for what it will not read.
    pub fn dial(target: SocketAddr, source: Option<IpAddr>, slow: bool) -> io::Result<Socket> {
        let socket = socket2::Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        if slow {
            socket.set_recv_buffer_size(SLOW_BUFFER_BYTES)?;
        }
        if let Some(address) = source {
            socket.bind(&SocketAddr::new(address, 0).into())?;
        }
        match socket.connect(&target.into()) {
            Err(why) if why.raw_os_error() != Some(nix::errno::Errno::EINPROGRESS as i32) => return Err(why),
            _ => {}
        }
        let stream = TcpStream::from_std(socket.into());
        let (unread, unsent, fragments) = (vec![], vec![], vec![]);
        Ok(Socket { stream, phase: Phase::Dialling, unread, unsent, fragments })
    }

    /// Whether TCP is connected by now, or why it never will be.
    pub fn is_connected(&self) -> Result<bool, String> {
        match self.stream.take_error().map_err(|why| why.to_string())? {
            Some(why) => Err(why.to_string()),
            None => Ok(self.stream.peer_addr().is_ok()),
        }
    }

    /// Called when the socket became writable while dialling: asks for the upgrade to Socket.IO once
    /// connected.
    pub fn upgrade(&mut self, target: SocketAddr, token: &str) -> Result<(), String> {
        self.upgrade_at(target, &format!("/socket.io/?EIO=4&transport=websocket&token={token}"))
    }

    /// The same for any path, with its query.
    pub fn upgrade_at(&mut self, target: SocketAddr, path: &str) -> Result<(), String> {
        if !self.is_connected()? {
            return Ok(()); // a later event tells
        }
        self.phase = Phase::Upgrading;
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {target}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
        );
        self.write(request.as_bytes());
        Ok(())
    }

    /// Reads once into `buffer`, behind what was kept of the last read. Gives how many bytes are
    /// there now and whether the kernel may have more; `None`: nothing to read for now.
    pub fn receive(&mut self, buffer: &mut [u8]) -> Result<Option<(usize, bool)>, String> {
        let kept = self.unread.len();
        let (head, room) =
            buffer.split_at_mut_checked(kept).ok_or_else(|| "a frame larger than the buffer".to_owned())?;
        let space = room.len();
        loop {
            match self.stream.read(room) {
                Ok(0) => return Err("the server closed the connection".into()),
                Ok(count) => {
                    head.copy_from_slice(&self.unread);
                    self.unread.clear();
                    return Ok(Some((kept + count, count == space)));
                }
                Err(why) if why.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(why) if why.kind() == ErrorKind::Interrupted => {}
                Err(why) => return Err(why.to_string()),
            }
        }
    }

    /// Keeps the start of a frame until the rest arrives.
    pub fn keep(&mut self, rest: &[u8]) {
        if rest.is_empty() {
            self.unread = Vec::new(); // back to nothing, so that 10,000 idle connections stay small
        } else {
            self.unread.extend_from_slice(rest);
        }
    }

    /// The next thing in `bytes`.
    pub fn step<'b>(&mut self, bytes: &'b [u8]) -> Result<Step<'b>, String> {
        if self.phase == Phase::Upgrading {
            return self.answered(bytes);
        }
        let (opcode, last, payload) = match frame::decode(bytes, PAYLOAD_BYTES_MAX) {
            Decoded::Frame { opcode, last, payload } => (opcode, last, payload),
            Decoded::NotYet => return Ok(Step::NotYet),
            Decoded::Wrong(what) => return Err(format!("the server sent {what}")),
        };
        let (end, payload) = (payload.end, &bytes[payload]);
        match opcode {
            Opcode::Text if last => Ok(Step::Text(end, Cow::Borrowed(payload))),
            Opcode::Text | Opcode::Continuation => self.fragment(end, payload, last),
            Opcode::Ping => Ok(Step::Ping(end, payload)),
            Opcode::Pong => Ok(Step::Pong(end)),
            Opcode::Binary => Ok(Step::Skip(end)),
            Opcode::Close => Err(format!("the server closed the connection{}", close_reason(payload))),
        }
    }

    fn fragment<'b>(&mut self, end: usize, payload: &[u8], last: bool) -> Result<Step<'b>, String> {
        if self.fragments.len() + payload.len() > PAYLOAD_BYTES_MAX {
            return Err("the server sent a message larger than any it was asked for".into());
        }
        self.fragments.extend_from_slice(payload);
        if !last {
            return Ok(Step::Skip(end));
        }
        Ok(Step::Text(end, Cow::Owned(std::mem::take(&mut self.fragments))))
    }

    fn answered<'b>(&mut self, bytes: &'b [u8]) -> Result<Step<'b>, String> {
        let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else { return Ok(Step::NotYet) };
        let head = &bytes[..end];
        if !head.starts_with(b"HTTP/1.1 101") {
            let line = String::from_utf8_lossy(head.split(|byte| *byte == b'\r').next().unwrap_or_default());
            return Err(format!("the upgrade was answered with {line}"));
        }
        if memchr::memmem::find(head, ACCEPT).is_none() {
            return Err("the upgrade was answered with a wrong Sec-WebSocket-Accept".into());
        }
        self.phase = Phase::Joining;
        Ok(Step::Skip(end + 4))
    }

    /// Ends the connection at once; nothing more is written or read.
    pub fn abandon(&mut self) {
        self.stream.shutdown(std::net::Shutdown::Both).ok(); // it may be broken already
        (self.phase, self.unread, self.unsent, self.fragments) = (Phase::Away, vec![], vec![], vec![]);
    }

    /// Whether one more message may be given to this connection.
    pub fn takes_more(&self) -> bool {
        self.unsent.len() < UNSENT_BYTES_MAX
    }

    /// Writes what the kernel takes and keeps the rest. Errors are not told here: the reading side
    /// meets the same one and ends the connection.
    pub fn write(&mut self, bytes: &[u8]) {
        if self.phase == Phase::Away {
            return;
        }
        let mut sent = 0;
        while self.unsent.is_empty() && sent < bytes.len() {
            match self.stream.write(&bytes[sent..]) {
                Ok(count) => sent += count,
                Err(why) if why.kind() == ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        self.unsent.extend_from_slice(&bytes[sent..]);
    }

    /// Called when the socket became writable: goes on with what was kept.
    pub fn flush(&mut self) {
        if !self.unsent.is_empty() {
            let kept = std::mem::take(&mut self.unsent);
            self.write(&kept);
        }
    }
}

/// Makes masked frames; the key changes with every frame.
pub struct Framer {
    state: u64,
    frame: Vec<u8>,
}

impl Framer {
    /// `seed` sets off the sequence of keys.
    pub fn new(seed: u64) -> Framer {
        Framer { state: seed | 1, frame: vec![] }
    }

    /// The bytes of one frame, until the next is made.
    pub fn frame(&mut self, opcode: Opcode, payload: &[u8]) -> &[u8] {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        let [a, b, c, d, ..] = self.state.to_be_bytes();
        self.frame.clear();
        frame::encode(&mut self.frame, opcode, payload, [a, b, c, d]);
        &self.frame
    }
}

fn close_reason(payload: &[u8]) -> String {
    match payload {
        [a, b, text @ ..] => format!(": {} {}", u16::from_be_bytes([*a, *b]), String::from_utf8_lossy(text)),
        _ => String::new(),
    }
}
