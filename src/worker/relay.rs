//! A request about a session that another worker has.
//!
//! Any worker may receive any request; the session's id says whose it is. The request goes to the
//! owner over its Unix socket, one connection a request: a head (what is wanted, of which session,
//! bytes of the body), the body, and the answer the same way back. Who goes away closes the
//! connection, and the other side sees that. A WebSocket that is to take over a session is handed to
//! the owner as a descriptor, with the bytes read behind its handshake: from then on it is a row
//! there like any other.
//!
//! An owner answers for itself or not at all, so a request is relayed once at most.

pub mod owner;
mod packed;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, watch};

use super::address::Held;
use super::core::Core;
use crate::engine::door::Door;
use crate::engine::http::{Answer, Wanted};
use crate::engine::sid::Sid;
use crate::wire::engine::HandshakeError;
use packed::Wish;

/// Longest wait for an owner to take a connection; one that is alive does so at once.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Pause before an owner whose backlog is full is tried again.
const CONNECT_PAUSE: Duration = Duration::from_millis(5);

/// What an owner may take beyond the heartbeat, which ends every wait for packets.
const ANSWER_SLACK: Duration = Duration::from_secs(10);

/// File name of a worker's socket in the run directory.
fn socket_name(worker: u16) -> String {
    format!("worker-{worker}.sock")
}

/// The way to the other workers; clones share it.
#[derive(Clone)]
pub struct Relay(Arc<Shared>);

struct Shared {
    /// Sockets are named through it, because the kernel takes only short paths.
    run_dir: File,
    /// Bounds the requests under way.
    under_way: Semaphore,
    answer_timeout: Duration,
    /// Requests that were passed on.
    forwarded: AtomicU64,
    /// This worker is leaving: it holds no request any longer than it must.
    leaving: watch::Sender<bool>,
}

impl Relay {
    /// A relay for up to `requests` at a time; an answer comes within the heartbeat's time.
    ///
    /// # Errors
    /// The run directory cannot be opened.
    pub fn new(run_dir: &Path, requests: usize, heartbeat: Duration) -> io::Result<Relay> {
        let flags = nix::fcntl::OFlag::O_DIRECTORY | nix::fcntl::OFlag::O_PATH;
        let run_dir = OpenOptions::new().read(true).custom_flags(flags.bits()).open(run_dir)?;
        Ok(Relay(Arc::new(Shared {
            run_dir,
            under_way: Semaphore::new(requests.min(Semaphore::MAX_PERMITS)),
            answer_timeout: heartbeat + ANSWER_SLACK,
            forwarded: AtomicU64::new(0),
            leaving: watch::Sender::new(false),
        })))
    }

    /// Has the session's owner answer a request.
    pub async fn forward(&self, door: &Door<Core>, wanted: Wanted, request: Request) -> Response {
        let Ok(_permit) = self.0.under_way.try_acquire() else {
            return axum::http::StatusCode::SERVICE_UNAVAILABLE.into_response();
        };
        self.0.forwarded.fetch_add(1, Ordering::Relaxed);
        match wanted {
            Wanted::Fetch(sid, mark) => {
                let mark = Bytes::copy_from_slice(&mark.to_le_bytes());
                self.ask(&sid, Wish::Fetch, mark).await.into_response()
            }
            Wanted::Bring(sid) => {
                // The owner is told as well of a body that never came whole: the session is over.
                let (wish, body, unread) = match door.body(request.into_body()).await {
                    Ok(body) => (Wish::Bring, body, None),
                    Err(answer) => (Wish::BringTooMuch, Bytes::new(), Some(answer)),
                };
                let answer = self.ask(&sid, wish, body).await;
                unread.unwrap_or(answer).into_response()
            }
            Wanted::Upgrade(sid) => self.upgrade(door, &sid, request).await,
            Wanted::Session | Wanted::WebSocketSession => {
                Answer::Refused(HandshakeError::BadRequest).into_response()
            }
        }
    }

    /// Requests passed on since the start of the process.
    pub fn forwarded(&self) -> u64 {
        self.0.forwarded.load(Ordering::Relaxed)
    }

    /// Has the requests that wait for packets answered now.
    pub fn leave(&self) {
        self.0.leaving.send_replace(true);
    }

    async fn ask(&self, sid: &Sid, wish: Wish, body: Bytes) -> Answer {
        let asked = async {
            let mut owner = self.connect(sid.owner).await?;
            packed::write_wish(&mut owner, wish, sid, &body).await?;
            let (mut from_owner, mut to_owner) = owner.split();
            let let_go = async {
                let mut leaving = self.0.leaving.subscribe();
                // The sender lives as long as this relay.
                if leaving.wait_for(|leaving| *leaving).await.is_ok() && wish == Wish::Fetch {
                    let _ = to_owner.write_u8(packed::LET_GO).await;
                }
                std::future::pending().await
            };
            tokio::select! {
                answer = packed::read_answer(&mut from_owner) => answer,
                () = let_go => Err(io::ErrorKind::Interrupted.into()),
            }
        };
        answered(tokio::time::timeout(self.0.answer_timeout, asked).await)
    }

    async fn upgrade(&self, door: &Door<Core>, sid: &Sid, request: Request) -> Response {
        let place = request.extensions().get::<Arc<Held>>().cloned();
        let address = place.as_ref().map(|place| place.address().to_string()).unwrap_or_default();
        let asked = async {
            let mut owner = self.connect(sid.owner).await?;
            packed::write_wish(&mut owner, Wish::Upgrade, sid, address.as_bytes()).await?;
            let answer = packed::read_answer(&mut owner).await?;
            Ok((owner, answer))
        };
        match tokio::time::timeout(self.0.answer_timeout, asked).await {
            Ok(Ok((owner, Answer::Switch))) => door.switch(request, move |client, read| {
                tokio::spawn(async move {
                    if let Err(error) = packed::send_socket(&owner, client, &read).await {
                        tracing::debug!(%error, "the owner of a session went away during its upgrade");
                    }
                    // The owner counts it from here on.
                    drop(place);
                });
            }),
            Ok(Ok((_, answer))) => answer.into_response(),
            Ok(Err(error)) => answered(Ok(Err(error))).into_response(),
            Err(elapsed) => answered(Err(elapsed)).into_response(),
        }
    }

    async fn connect(&self, worker: u16) -> io::Result<UnixStream> {
        let path = format!("/proc/self/fd/{}/{}", self.0.run_dir.as_raw_fd(), socket_name(worker));
        let connecting = async {
            loop {
                match UnixStream::connect(&path).await {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        tokio::time::sleep(CONNECT_PAUSE).await;
                    }
                    connected => return connected,
                }
            }
        };
        let stream = tokio::time::timeout(CONNECT_TIMEOUT, connecting).await??;
        own_peer(&stream)?;
        Ok(stream)
    }
}

/// The other end must be a process of the same user.
fn own_peer(stream: &UnixStream) -> io::Result<()> {
    if stream.peer_cred()?.uid() == rustix::process::geteuid().as_raw() {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::PermissionDenied, "the peer is another user"))
    }
}

/// An owner that is gone took the session with it; the client opens another.
fn answered(asked: Result<io::Result<Answer>, tokio::time::error::Elapsed>) -> Answer {
    match asked {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => {
            tracing::debug!(%error, "cannot reach the owner of a session");
            Answer::Refused(HandshakeError::UnknownSession)
        }
        Err(_) => Answer::Refused(HandshakeError::UnknownSession),
    }
}
