//! Whole sessions: the same packets mean the same, over a WebSocket in one piece, over one in the
//! smallest pieces, and over long polling.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use arbitrary::{Arbitrary, Unstructured};
use bytes::Bytes;
use minitalk::engine::door::{Door, Entry};
use minitalk::engine::http::Answer;
use minitalk::engine::sid::Sid;
use minitalk::engine::table::{Key, Pause};
use minitalk::engine::turn::Turn;
use minitalk::engine::{Engine, Host, Message, Settings, socketio};
use minitalk::wire::engine::SEPARATOR;
use minitalk::wire::frame::Violation;
use minitalk::wire::{engine, frame};
use parking_lot::Mutex;

/// Bytes of one message.
const MAX_PAYLOAD: usize = 600;

/// Bytes of a conversation, at most: it must fit into the socket's own buffer.
const STREAM_BYTES: usize = 16 << 10;

/// Pieces that a stream is cut into, at most.
const PIECES: usize = 24;

#[derive(Arbitrary, Debug)]
struct Conversation<'a> {
    packets: Vec<Said<'a>>,
    mask: [u8; 4],
    /// Bytes of a frame and of a piece of the stream.
    pieces: (u8, u8),
    /// A ping between the frames of a message.
    ping: bool,
}

#[derive(Arbitrary, Debug)]
enum Said<'a> {
    Connect,
    ConnectElsewhere,
    Leave,
    Event(&'a str),
    /// An event behind which the server takes a rest.
    Long,
    /// An event with attachments to follow.
    Announce(u8, u8),
    Attachment(&'a [u8]),
    Acknowledge(u16),
    Pong,
    Noop,
    Close,
    Any(&'a str),
}

/// Has the conversation that the bytes describe; takes them as the bytes of a WebSocket, too.
pub fn run(data: &[u8]) {
    if let Some((first, stream)) = data.split_first() {
        let stream = &stream[..stream.len().min(STREAM_BYTES)];
        let piece = (stream.len() / PIECES).max(usize::from(*first)) + 1;
        assert_eq!(over_websocket(stream, piece), over_websocket(stream, usize::MAX), "a stream in pieces");
    }
    let Ok(said) = Conversation::arbitrary(&mut Unstructured::new(data)) else {
        return;
    };
    let packets: Vec<Packet> = said.packets.iter().filter_map(packet).collect();
    let (mut whole, mut frames, mut payload) = (Vec::new(), Vec::new(), Vec::new());
    for (opcode, bytes) in &packets {
        client_frame(0x80 | opcode, bytes, said.mask, &mut whole);
        in_frames((*opcode, bytes), usize::from(said.pieces.0) + 1, &said, &mut frames);
        let (mut one, mut packet) = (Vec::new(), Vec::new());
        match *opcode {
            TEXT => frame::text(&[bytes], &mut one),
            _ => frame::binary(&[bytes], &mut one),
        }
        let mut most = usize::MAX;
        engine::append_frames(&one, &mut most, &mut packet);
        payload.extend_from_slice(if payload.is_empty() { &[] } else { &[SEPARATOR] });
        payload.extend_from_slice(&packet);
    }
    if packets.is_empty() || frames.len() > STREAM_BYTES {
        return;
    }
    let expected = over_websocket(&whole, usize::MAX);
    let piece = (frames.len() / PIECES).max(usize::from(said.pieces.1)) + 1;
    assert_eq!(over_websocket(&frames, piece), expected, "in frames and pieces");
    assert_eq!(over_polling(payload), expected, "over long polling");
}

/// Opcode of its first frame, and its bytes.
type Packet = (u8, Vec<u8>);

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const PING: u8 = 9;

/// What the two transports can both carry.
fn packet(said: &Said<'_>) -> Option<Packet> {
    let text = match said {
        Said::Connect => "40".to_owned(),
        Said::ConnectElsewhere => "40/a,{\"x\":1}".to_owned(),
        Said::Leave => "41".to_owned(),
        Said::Event(text) => format!("42{}", serde_json::json!(["event", text])),
        Said::Long => "42[\"long\"]".to_owned(),
        Said::Announce(count, number) => {
            format!("45{count}-7[\"event\",{{\"_placeholder\":true,\"num\":{number}}}]")
        }
        Said::Acknowledge(number) => format!("43{number}[]"),
        Said::Pong => "3".to_owned(),
        Said::Noop => "6".to_owned(),
        Said::Close => "1".to_owned(),
        Said::Any(text) => (*text).to_owned(),
        Said::Attachment(bytes) => return (bytes.len() <= MAX_PAYLOAD).then(|| (BINARY, bytes.to_vec())),
    };
    let fits =
        !text.is_empty() && text.len() <= MAX_PAYLOAD && !text.starts_with('b') && !text.contains('\x1e');
    fits.then(|| (TEXT, text.into_bytes()))
}

fn client_frame(first: u8, payload: &[u8], mask: [u8; 4], out: &mut Vec<u8>) {
    out.push(first);
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(len), _) if len < 126 => out.push(0x80 | len),
        (_, Ok(len)) => {
            out.push(0x80 | 126);
            out.extend_from_slice(&len.to_be_bytes());
        }
        _ => unreachable!("no packet is so long"),
    }
    out.extend_from_slice(&mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
}

fn in_frames((opcode, bytes): (u8, &[u8]), piece: usize, said: &Conversation<'_>, out: &mut Vec<u8>) {
    let count = bytes.len().div_ceil(piece).max(1);
    for at in 0..count {
        let end = bytes.len().min((at + 1) * piece);
        let opcode = if at == 0 { opcode } else { CONTINUATION };
        let last = if at + 1 == count { 0x80 } else { 0 };
        client_frame(last | opcode, &bytes[at * piece..end], said.mask, out);
        if said.ping {
            client_frame(0x80 | PING, b"?", said.mask, out);
        }
    }
}

/// What a session came to: what the host was told, how often the protocol was broken, and whether the
/// session goes on.
type Outcome = (Vec<String>, u64, bool);

/// Writes down what it is told.
struct Recorder {
    engine: Engine<()>,
    told: Vec<String>,
}

impl Host for Recorder {
    type State = ();

    fn engine(&mut self) -> &mut Engine<()> {
        &mut self.engine
    }
    fn gone(&mut self, _: Key) {}
    fn namespace(&self, name: &str) -> Option<u8> {
        ["/", "/a"].iter().position(|known| *known == name).and_then(|at| u8::try_from(at).ok())
    }
    fn connect(&mut self, key: Key, namespace: u8, auth: &str) -> Result<(), Violation> {
        self.told.push(format!("connect {namespace} {auth}"));
        socketio::enter(self, key, namespace, ["/", "/a"][usize::from(namespace)]);
        Ok(())
    }
    fn event(&mut self, key: Key, message: &Message<'_>) -> Result<(), Violation> {
        self.told.push(format!("event {message:?}"));
        if message.data.starts_with("[\"long\"")
            && let Some(conn) = self.engine.table.get(key)
        {
            conn.pause = Pause::Backlog;
        }
        Ok(())
    }
    fn acknowledged(&mut self, _: Key, message: &Message<'_>) -> Result<(), Violation> {
        self.told.push(format!("acknowledged {message:?}"));
        Ok(())
    }
    fn left(&mut self, _: Key, namespace: u8) {
        self.told.push(format!("left {namespace}"));
    }
}

fn door() -> Door<Recorder> {
    let day = Duration::from_secs(86_400);
    let settings = Settings {
        owner: 0,
        ping_interval: day,
        ping_timeout: day,
        connect_timeout: day,
        max_payload: MAX_PAYLOAD,
        outgoing_bytes: 16 << 20,
        unfinished_bytes: usize::MAX,
        connections: 2,
    };
    let engine = Engine::new(settings).expect("an engine");
    Door {
        host: Arc::new(Mutex::new(Recorder { engine, told: Vec::new() })),
        wake: Arc::default(),
        body_timeout: day,
        max_payload: MAX_PAYLOAD,
    }
}

/// Turns the loop until there is nothing more to do.
fn settle(door: &Door<Recorder>, turn: &mut Turn) {
    let mut host = door.host.lock();
    loop {
        turn.poll(&mut *host).expect("the kernel answers");
        turn.read(&mut *host, Instant::now());
        let more = Turn::flush(&mut *host);
        let keys = host.engine.table.keys();
        let paused = |key: &Key| host.engine.table.get(*key).is_some_and(|conn| conn.pause == Pause::Backlog);
        match keys.into_iter().find(paused) {
            Some(key) => host.engine.resume_reading(key),
            None if more => {}
            None => return,
        }
    }
}

fn outcome(door: &Door<Recorder>) -> Outcome {
    let mut host = door.host.lock();
    let keys = host.engine.table.keys();
    let lives = keys.into_iter().any(|key| host.engine.table.get(key).is_some_and(|conn| !conn.is_closing()));
    (std::mem::take(&mut host.told), host.engine.counters.violations, lives)
}

fn over_websocket(stream: &[u8], piece: usize) -> Outcome {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime =
            tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a runtime");
    }
    let (door, mut turn) = (door(), Turn::default());
    let (mut client, server) = UnixStream::pair().expect("a pair of sockets");
    server.set_nonblocking(true).expect("a socket can");
    let server = std::net::TcpStream::from(OwnedFd::from(server));
    RUNTIME.with(|runtime| {
        let _context = runtime.enter();
        let server = tokio::net::TcpStream::from_std(server).expect("the runtime takes it");
        // The first piece has come with the handshake.
        let first = stream.chunks(piece).next().unwrap_or_default();
        door.take_in(Entry::Session(()), server, first.to_vec());
    });
    settle(&door, &mut turn);
    for piece in stream.chunks(piece).skip(1) {
        // The server may have closed the connection.
        let _ = client.write_all(piece);
        settle(&door, &mut turn);
    }
    outcome(&door)
}

fn over_polling(payload: Vec<u8>) -> Outcome {
    let (door, mut turn) = (door(), Turn::default());
    let mut context = Context::from_waker(Waker::noop());
    {
        let opened = pin!(door.open(()));
        assert!(opened.poll(&mut context).is_ready(), "OPEN waits for nothing");
    }
    let sid = {
        let mut host = door.host.lock();
        let key = host.engine.table.keys()[0];
        let secret = host.engine.table.get(key).map(|conn| conn.secret).unwrap_or_default();
        Sid { owner: 0, key, secret }
    };
    let mut brought = pin!(door.brought(&sid, Ok(Bytes::from(payload))));
    for _ in 0..2 {
        if let Poll::Ready(answer) = brought.as_mut().poll(&mut context) {
            assert!(matches!(answer, Answer::Taken | Answer::Refused(_)), "{answer:?}");
            settle(&door, &mut turn);
            return outcome(&door);
        }
        settle(&door, &mut turn);
    }
    panic!("a request is answered when everything in it is done");
}
