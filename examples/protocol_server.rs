//! The protocol engine without the chat: what test suites for the protocols are run against.
//!
//! ```sh
//! cargo run --release --example protocol_server -- --listen 127.0.0.1:3000 \
//!   --ping-interval-ms 300 --ping-timeout-ms 200 --max-payload 1000000 --connect-timeout-ms 1000
//! ```
//!
//! | path | speaks |
//! |---|---|
//! | `/socket.io/` | Socket.IO, namespaces `/` and `/custom`: on connect emits `auth` with the CONNECT payload; `message` comes back as `message-back`; `message-with-ack` is acknowledged with its arguments; `emit-with-ack` is emitted back asking for an acknowledgement, whose arguments come as `ack-back` |
//! | `/engine.io/` | Engine.IO: every message is sent back |
//! | `/echo` | a plain WebSocket: every message is sent back, up to 16 MiB |

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use clap::Parser;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use minitalk::engine::door::Door;
use minitalk::engine::http::{self, Answer};
use minitalk::engine::patience::{Patience, Watch, Watched};
use minitalk::engine::table::{Key, Pause};
use minitalk::engine::{Engine, Host, Message, PARSE_ERROR, Raw, Settings, socketio, turn};
use minitalk::wire::engine::packet::MESSAGE;
use minitalk::wire::frame::{self, Violation};
use minitalk::wire::socketio::{Arguments, write};
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// Bytes of one message over a plain WebSocket, at most.
const ECHO_BYTES: usize = 16 << 20;

/// Bytes that may wait for a client before it is closed.
const OUTGOING_BYTES: usize = 64 << 20;

/// Bytes that all clients together may have begun to send.
const UNFINISHED_BYTES: usize = 1 << 30;

/// Bytes that may wait for a client before it is not read from any more.
const PAUSE_BYTES: usize = 256 << 10;

/// Time between the answer to a CONNECT packet and `auth`. Test suites wait for one packet at a time, and a
/// client that is given two at once shows the second to nobody; the reference server sends them apart.
const APART: Duration = Duration::from_millis(10);

/// The namespaces, by their number.
const NAMESPACES: [&str; 2] = ["/", "/custom"];

#[derive(Parser)]
struct Flags {
    /// Address to accept on; port 0: any free one, printed when ready
    #[arg(long, default_value = "127.0.0.1:3000")]
    listen: SocketAddr,
    /// Time between a pong and the next ping
    #[arg(long, default_value_t = 300)]
    ping_interval_ms: u64,
    /// Longest wait for a pong
    #[arg(long, default_value_t = 200)]
    ping_timeout_ms: u64,
    /// Bytes of one payload or Engine.IO message from a client, at most
    #[arg(long, default_value_t = 1_000_000)]
    max_payload: usize,
    /// Longest time until a client has entered a namespace
    #[arg(long, default_value_t = 1_000)]
    connect_timeout_ms: u64,
}

/// What a connection speaks, by the path it came on.
#[derive(Clone, Copy, Default)]
enum Speaks {
    #[default]
    SocketIo,
    EngineIo,
    WebSocket,
}

struct Echo {
    engine: Engine<Speaks>,
    /// Itself and its loop, for what is done later.
    door: Weak<Mutex<Echo>>,
    wake: Arc<Notify>,
    /// The number of the last acknowledgement asked for, and the namespaces of those that are due.
    asked: u64,
    due: HashMap<(u32, u64), u8>,
}

impl Echo {
    /// A client that does not take what it sent is not read from.
    fn pause_if_behind(&mut self, key: Key) {
        if let Some(conn) = self.engine.table.get(key)
            && conn.outbox_bytes() > PAUSE_BYTES
        {
            conn.pause = Pause::Sending;
        }
    }
}

fn name(namespace: u8) -> &'static str {
    NAMESPACES[usize::from(namespace)]
}

impl Host for Echo {
    type State = Speaks;

    fn engine(&mut self) -> &mut Engine<Speaks> {
        &mut self.engine
    }

    fn gone(&mut self, key: Key) {
        self.due.retain(|(slot, _), _| *slot != key.slot);
    }

    fn must_connect(state: &Speaks) -> bool {
        matches!(state, Speaks::SocketIo)
    }

    fn namespace(&self, name: &str) -> Option<u8> {
        NAMESPACES.iter().position(|known| *known == name).and_then(|at| u8::try_from(at).ok())
    }

    fn connect(&mut self, key: Key, namespace: u8, auth: &str) -> Result<(), Violation> {
        let auth = if auth.is_empty() { "{}" } else { auth };
        serde_json::from_str::<serde::de::IgnoredAny>(auth).map_err(|_| PARSE_ERROR)?;
        socketio::enter(self, key, namespace, name(namespace));
        let event = format!("[\"auth\",{auth}]");
        // What the client says meanwhile is answered behind that.
        if let Some(conn) = self.engine.table.get(key) {
            conn.pause = Pause::Answering;
        }
        let (host, wake) = (self.door.clone(), self.wake.clone());
        tokio::spawn(async move {
            tokio::time::sleep(APART).await;
            if let Some(host) = host.upgrade() {
                let mut host = host.lock();
                host.push_with(key, |out| write::event(name(namespace), None, &event, &[], out));
                host.engine.resume_reading(key);
            }
            wake.notify_one();
        });
        Ok(())
    }

    fn event(&mut self, key: Key, message: &Message<'_>) -> Result<(), Violation> {
        let (event, arguments) = Arguments::event(message.data).ok_or(PARSE_ERROR)?;
        let (namespace, attachments) = (name(message.namespace), message.attachments);
        match (&*event, message.id) {
            ("message", _) => {
                let array = arguments.text(&["\"message-back\""]);
                self.push_with(key, |out| write::event(namespace, None, &array, attachments, out));
            }
            ("message-with-ack", Some(id)) => {
                let array = arguments.text(&[]);
                self.push_with(key, |out| write::ack(namespace, id, &array, attachments, out));
            }
            ("emit-with-ack", _) => {
                self.asked += 1;
                let asked = self.asked;
                self.due.insert((key.slot, asked), message.namespace);
                let array = arguments.text(&["\"emit-with-ack\""]);
                self.push_with(key, |out| write::event(namespace, Some(asked), &array, attachments, out));
            }
            _ => {}
        }
        self.pause_if_behind(key);
        Ok(())
    }

    fn acknowledged(&mut self, key: Key, message: &Message<'_>) -> Result<(), Violation> {
        let arguments = Arguments::parse(message.data).ok_or(PARSE_ERROR)?;
        let due = message.id.and_then(|id| self.due.remove(&(key.slot, id)));
        if let Some(namespace) = due {
            let array = arguments.text(&["\"ack-back\""]);
            let attachments = message.attachments;
            self.push_with(key, |out| write::event(name(namespace), None, &array, attachments, out));
        }
        Ok(())
    }

    fn left(&mut self, _: Key, _: u8) {}

    fn raw(&mut self, key: Key, message: &Raw<'_>) -> Result<bool, Violation> {
        let Some(speaks) = self.engine.table.get(key).map(|conn| conn.state) else {
            return Ok(true);
        };
        match (speaks, message) {
            (Speaks::SocketIo, _) => return Ok(false),
            (Speaks::EngineIo, Raw::Text(text)) => {
                self.push_with(key, |out| frame::text(&[&[MESSAGE], text.as_bytes()], out));
            }
            (Speaks::WebSocket, Raw::Text(text)) => {
                self.push_with(key, |out| frame::text(&[text.as_bytes()], out));
            }
            (_, Raw::Binary(bytes)) => self.push_with(key, |out| frame::binary(&[bytes], out)),
        }
        self.pause_if_behind(key);
        Ok(true)
    }
}

/// Everybody may come.
async fn engine_io(door: Door<Echo>, speaks: Speaks, request: Request) -> Response {
    let origin = request.headers().get("origin").cloned();
    let mut response = match http::preflight(request.method(), request.headers()) {
        Some(response) => response,
        None => {
            let params = http::params(&request);
            match http::wanted(&params, request.method(), request.headers(), true) {
                Ok(wanted) => door.serve(wanted, request, |_| speaks).await,
                Err(error) => Answer::Refused(error).into_response(),
            }
        }
    };
    http::cors(origin.as_ref(), &mut response);
    response
}

fn router(door: Door<Echo>) -> Router {
    let socket_io = |State(door): State<Door<Echo>>, request: Request| async move {
        engine_io(door, Speaks::SocketIo, request).await
    };
    let engine_io = |State(door): State<Door<Echo>>, request: Request| async move {
        engine_io(door, Speaks::EngineIo, request).await
    };
    let echo = |State(door): State<Door<Echo>>, request: Request| async move {
        door.open_plain(request, Speaks::WebSocket, ECHO_BYTES)
    };
    Router::new()
        .route("/socket.io/", any(socket_io))
        .route("/engine.io/", any(engine_io))
        .route("/echo", any(echo))
        .with_state(door)
}

async fn serve(stream: TcpStream, router: Router, timeout: Duration) {
    let _ = stream.set_nodelay(true);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(timeout);
    let service = TowerToHyperService::new(router);
    let watch = Watch::new(Patience { head: timeout, silence: timeout });
    let io = TokioIo::new(Watched::new(stream, watch));
    // What a client breaks is its own.
    let _ = http.serve_connection(io, service).with_upgrades().await;
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let flags = Flags::parse();
    let connect_timeout = Duration::from_millis(flags.connect_timeout_ms);
    let engine = Engine::new(Settings {
        owner: 0,
        ping_interval: Duration::from_millis(flags.ping_interval_ms),
        ping_timeout: Duration::from_millis(flags.ping_timeout_ms),
        connect_timeout,
        max_payload: flags.max_payload,
        outgoing_bytes: OUTGOING_BYTES,
        unfinished_bytes: UNFINISHED_BYTES,
        connections: usize::MAX,
    })?;
    let wake = Arc::new(Notify::new());
    let host = Arc::new_cyclic(|door| {
        let (door, wake) = (door.clone(), wake.clone());
        Mutex::new(Echo { engine, door, wake, asked: 0, due: HashMap::new() })
    });
    let door = Door { host, wake, body_timeout: Duration::from_secs(10), max_payload: flags.max_payload };
    let listener = TcpListener::bind(flags.listen).await?;
    println!("listening on {}", listener.local_addr()?);
    let turns = tokio::spawn(turn::run(door.host.clone(), door.wake.clone()));
    let router = router(door);
    let accepting = async {
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::spawn(serve(stream, router.clone(), connect_timeout.max(Duration::from_secs(10))));
        }
    };
    tokio::select! {
        ended = accepting => ended,
        ended = turns => Ok(ended??),
    }
}
