//! The way into an engine for the tasks that speak HTTP: requests become rows, or wait for them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::Request;
use axum::http::header;
use axum::http::{StatusCode, Version};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::sync::{Notify, oneshot};
use tungstenite::handshake::derive_accept_key;

use super::http::{self, Answer, Mark, Wanted, is_websocket_handshake};
use super::patience::Watched;
use super::sid::{self, Sid};
use super::table::{Conn, Key, Transport};
use super::upgrade::{self, Verdict};
use super::{Host, polling, unfinished, websocket};
use crate::wire::engine::{self, HandshakeError};
use crate::wire::frame;

/// The way into an engine for the tasks that speak HTTP.
pub struct Door<H> {
    /// The host and its engine.
    pub host: Arc<Mutex<H>>,
    /// Wakes the host's loop.
    pub wake: Arc<Notify>,
    /// Longest time for the body of a request.
    pub body_timeout: Duration,
    /// Bytes of such a body, at most.
    pub max_payload: usize,
}

impl<H> Clone for Door<H> {
    fn clone(&self) -> Door<H> {
        Door { host: self.host.clone(), wake: self.wake.clone(), ..*self }
    }
}

/// Calls `end` when it is dropped before `done`.
struct Unless<F: FnMut()>(bool, F);

impl<F: FnMut()> Drop for Unless<F> {
    fn drop(&mut self) {
        if !self.0 {
            (self.1)();
        }
    }
}

impl<H: Host> Door<H> {
    /// Opens a session over long polling.
    pub async fn open(&self, state: H::State) -> Response {
        let sid = {
            let mut host = self.host.lock();
            if !host.engine().has_room() {
                return full(&mut *host);
            }
            let max_payload = host.engine().settings.max_payload;
            let conn = Conn::new(Transport::Polling(Box::default()), state, max_payload);
            open_session(&mut *host, conn)
        };
        match sid {
            Some(sid) => self.fetch(&sid, 0).await.into_response(),
            None => full(&mut *self.host.lock()),
        }
    }

    /// Waits for packets of a session.
    pub async fn fetch(&self, sid: &Sid, mark: Mark) -> Answer {
        let (request, answer) = oneshot::channel();
        let waits = polling::fetch(&mut *self.host.lock(), sid, mark, request);
        self.wake.notify_one();
        let key = match waits {
            Ok(key) => key,
            Err(error) => return Answer::Refused(error),
        };
        let mut left = Unless(false, || polling::abandoned(&mut *self.host.lock(), key));
        let answer = answer.await;
        left.0 = true;
        answer.map_or(Answer::Refused(HandshakeError::UnknownSession), Answer::Payload)
    }

    /// Answers the request that waits for packets of a session, although there are none.
    pub fn let_go(&self, sid: &Sid) {
        let mut host = self.host.lock();
        if let Ok(key) = polling::find(&mut *host, sid) {
            polling::let_go(&mut *host, key);
        }
    }

    /// Acts on the packets in a request's body.
    pub async fn bring(&self, sid: &Sid, body: Body) -> Answer {
        let begun = polling::begin(&mut *self.host.lock(), sid);
        self.wake.notify_one();
        let key = match begun {
            Ok(key) => key,
            Err(error) => return Answer::Refused(error),
        };
        let mut left = Unless(false, || polling::abandoned(&mut *self.host.lock(), key));
        let payload = self.body(body).await;
        left.0 = true;
        drop(left);
        self.act(key, payload).await
    }

    /// Reads a body.
    ///
    /// # Errors
    /// It is larger than a payload may be, comes too slowly, or there is no memory for it.
    pub async fn body(&self, body: Body) -> Result<Bytes, Answer> {
        let read = tokio::time::timeout(self.body_timeout, self.pieces(body)).await;
        read.unwrap_or(Err(Answer::TooSlow))
    }

    async fn pieces(&self, mut body: Body) -> Result<Bytes, Answer> {
        let mut whole = Vec::new();
        let mut memory = unfinished::Body::new(&self.host);
        while let Some(frame) = body.frame().await {
            // The client is gone, and nobody reads this.
            let frame = frame.map_err(|_| Answer::TooLarge)?;
            let Ok(data) = frame.into_data() else {
                continue;
            };
            if whole.len() + data.len() > self.max_payload {
                return Err(Answer::TooLarge);
            }
            whole.extend_from_slice(&data);
            memory.is_now(whole.capacity())?;
        }
        Ok(whole.into())
    }

    /// Acts on packets that have been read already.
    pub async fn brought(&self, sid: &Sid, payload: Result<Bytes, Answer>) -> Answer {
        let begun = polling::begin(&mut *self.host.lock(), sid);
        self.wake.notify_one();
        match begun {
            Ok(key) => self.act(key, payload).await,
            Err(error) => Answer::Refused(error),
        }
    }

    async fn act(&self, key: Key, payload: Result<Bytes, Answer>) -> Answer {
        let payload = match payload {
            Ok(payload) => payload,
            Err(answer) => {
                polling::untaken(&mut *self.host.lock(), key, &answer);
                self.wake.notify_one();
                return answer;
            }
        };
        let (done, acted) = oneshot::channel();
        polling::bring(&mut *self.host.lock(), key, payload, done);
        self.wake.notify_one();
        match acted.await {
            Ok(()) => Answer::Taken,
            Err(_) => Answer::Refused(HandshakeError::BadRequest),
        }
    }

    /// Whether a WebSocket may be switched to for a session.
    pub fn may_upgrade(&self, sid: &Sid) -> Answer {
        match upgrade::verdict(&mut *self.host.lock(), sid) {
            Ok(Verdict::Probe | Verdict::Refuse) => Answer::Switch,
            Err(error) => Answer::Refused(error),
        }
    }

    /// Takes in a socket that has had its WebSocket handshake, with what was read behind that.
    pub fn take_in(&self, entry: Entry<H::State>, stream: TcpStream, read: Vec<u8>) {
        let stream = match stream.into_std() {
            Ok(stream) => mio::net::TcpStream::from_std(stream),
            Err(error) => return tracing::debug!(%error, "a client left during its handshake"),
        };
        let mut host = self.host.lock();
        let host = &mut *host;
        let key = match entry {
            Entry::Session(state) => {
                let max_payload = host.engine().settings.max_payload;
                let conn = Conn::new(Transport::WebSocket(stream), state, max_payload);
                open_session(host, conn).map(|sid| sid.key)
            }
            Entry::Upgrade(sid, state) => upgrade::admit(host, &sid, state, stream),
            Entry::Plain(state, max_message) => {
                let conn = Conn::new(Transport::WebSocket(stream), state, max_message);
                host.engine().admit(conn).inspect(|key| {
                    host.engine().counters.accepted += 1;
                    host.opened(*key);
                })
            }
        };
        if let Some(key) = key {
            let mut read = read;
            websocket::take_in(host, key, &mut read);
            let mut buffer = [0; websocket::FIRST_READ_BYTES];
            websocket::readable(host, key, &mut buffer, websocket::FIRST_READ_BYTES);
        }
        self.wake.notify_one();
    }

    /// Answers a WebSocket handshake; the socket is handed to `then`, with what was read behind it.
    pub fn switch(
        &self,
        mut request: Request,
        then: impl FnOnce(TcpStream, Vec<u8>) + Send + 'static,
    ) -> Response {
        if request.version() < Version::HTTP_11 {
            return (StatusCode::BAD_REQUEST, "a WebSocket handshake needs HTTP/1.1").into_response();
        }
        if request.headers().get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
            return (StatusCode::UPGRADE_REQUIRED, [(header::SEC_WEBSOCKET_VERSION, "13")]).into_response();
        }
        let key = request.headers().get(header::SEC_WEBSOCKET_KEY).map(|key| key.as_bytes().to_vec());
        let accept = derive_accept_key(&key.unwrap_or_default());
        let protocol = http::subprotocol(request.headers());
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let upgraded = match upgrade.await {
                Ok(upgraded) => upgraded,
                Err(error) => return tracing::debug!(%error, "a client left during its handshake"),
            };
            match upgraded.downcast::<TokioIo<Watched>>() {
                Ok(parts) => then(parts.io.into_inner().into_inner(), parts.read_buf.to_vec()),
                Err(_) => tracing::error!("the HTTP library gave back another stream than it was given"),
            }
        });
        let headers = [
            (header::CONNECTION, "Upgrade".to_owned()),
            (header::UPGRADE, "websocket".to_owned()),
            (header::SEC_WEBSOCKET_ACCEPT, accept),
        ];
        let mut response = (StatusCode::SWITCHING_PROTOCOLS, headers).into_response();
        if let Some(protocol) = protocol {
            response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
        }
        response
    }

    /// Answers a handshake for a session over a WebSocket.
    pub fn open_websocket(&self, request: Request, state: H::State) -> Response {
        self.enter(request, Entry::Session(state))
    }

    /// Answers a handshake for a plain WebSocket with messages up to `max_message` bytes.
    pub fn open_plain(&self, request: Request, state: H::State, max_message: usize) -> Response {
        if !is_websocket_handshake(request.method(), request.headers()) {
            return (StatusCode::BAD_REQUEST, "a WebSocket handshake is wanted here").into_response();
        }
        self.enter(request, Entry::Plain(state, max_message))
    }

    fn enter(&self, request: Request, entry: Entry<H::State>) -> Response {
        let mut host = self.host.lock();
        if !host.engine().has_room() {
            return full(&mut *host);
        }
        drop(host);
        let door = self.clone();
        self.switch(request, move |stream, read| door.take_in(entry, stream, read))
    }

    /// Answers a request that is about this engine, whatever it wants; `state` is for a new row.
    pub async fn serve(
        &self,
        wanted: Wanted,
        request: Request,
        state: impl FnOnce(&Request) -> H::State,
    ) -> Response {
        match wanted {
            Wanted::Session => self.open(state(&request)).await,
            Wanted::WebSocketSession => {
                let state = state(&request);
                self.open_websocket(request, state)
            }
            Wanted::Fetch(sid, mark) => self.fetch(&sid, mark).await.into_response(),
            Wanted::Bring(sid) => self.bring(&sid, request.into_body()).await.into_response(),
            Wanted::Upgrade(sid) => match self.may_upgrade(&sid) {
                Answer::Switch => {
                    let door = self.clone();
                    let entry = Entry::Upgrade(sid, state(&request));
                    self.switch(request, move |stream, read| door.take_in(entry, stream, read))
                }
                answer => answer.into_response(),
            },
        }
    }
}

/// What a socket is to become.
pub enum Entry<S> {
    /// An Engine.IO session.
    Session(S),
    /// The other transport of a session, and what is kept with it until it takes over.
    Upgrade(Sid, S),
    /// A plain WebSocket with messages up to so many bytes.
    Plain(S, usize),
}

fn full<H: Host>(host: &mut H) -> Response {
    host.engine().counters.full += 1;
    (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")], "too many connections").into_response()
}

/// Admits a session and says OPEN.
fn open_session<H: Host>(host: &mut H, mut conn: Conn<H::State>) -> Option<Sid> {
    let now = Instant::now();
    let engine = host.engine();
    let secret = sid::secret();
    conn.secret = secret;
    conn.heartbeat = Some(now + engine.settings.ping_interval);
    conn.connect_by = H::must_connect(&conn.state).then_some(now + engine.settings.connect_timeout);
    let upgrade = matches!(conn.transport, Transport::Polling(_));
    let key = engine.admit(conn)?;
    engine.counters.accepted += 1;
    let sid = Sid { owner: engine.settings.owner, key, secret };
    let open = engine::open(&engine::Open {
        sid: &sid.to_string(),
        upgrade,
        ping_interval: engine.settings.ping_interval,
        ping_timeout: engine.settings.ping_timeout,
        max_payload: engine.settings.max_payload,
    });
    host.push_with(key, |out| frame::text(&[open.as_bytes()], out));
    Some(sid)
}
