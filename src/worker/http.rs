//! Accepts connections and speaks HTTP until they ask for something else.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::{CONNECTION, HeaderValue};
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::address::{Peer, Visitor};
use super::core::App;
use crate::engine::patience::{Patience, Watch, Watched};

/// Pause after the kernel refuses to accept (mostly: too many open files).
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// How long a client is waited for once the worker ends: for the rest of its request, or until it has
/// taken the rest of its answer.
pub const LAST_WORDS: Duration = Duration::from_secs(1);

/// Connections that are only told that their address has too many; more are closed without a word.
const REFUSALS: usize = 64;

/// Something that is counted while it is there.
#[derive(Clone, Default)]
pub struct Open(Arc<AtomicUsize>);

/// One of them; gone when dropped, however its task ends.
struct Counted(Arc<AtomicUsize>);

impl Open {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    fn one_more(&self) -> Counted {
        self.0.fetch_add(1, Ordering::Relaxed);
        Counted(self.0.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What ends a worker's life turns true here.
#[derive(Clone)]
pub struct Ends {
    /// A successor accepts. Who is connected may still ask, and is to connect anew for the next request.
    pub leave: watch::Receiver<bool>,
    /// Nothing new is taken in any more.
    pub stop: watch::Receiver<bool>,
}

/// Accepts until the end, then gives the socket back to the kernel. `open` counts the
/// connections that are not (yet) in the table.
pub async fn accept(listener: TcpListener, router: Router, app: App, open: Open, mut ends: Ends) {
    let router = TowerToHyperService::new(router);
    let limits = &app.config.limits;
    let mut http = http1::Builder::new();
    // The library's own would run between two requests as well.
    http.header_read_timeout(None);
    let patience = Patience { head: limits.handshake_timeout, silence: limits.keep_alive_timeout };
    let refused = Open::default();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopping(&mut ends.leave) => return,
            () = stopping(&mut ends.stop) => return,
        };
        match accepted {
            Ok((stream, peer)) if open.count() < limits.connections_per_worker => {
                let visitor = app.addresses.arrive(peer.ip());
                let mut http = http.clone();
                let counted = match visitor {
                    Visitor::Refused if refused.count() >= REFUSALS => {
                        app.core.lock().counters.address_full += 1;
                        continue;
                    }
                    Visitor::Refused => {
                        http.keep_alive(false);
                        [Some(open.one_more()), Some(refused.one_more())]
                    }
                    _ => [Some(open.one_more()), None],
                };
                let client = Client { stream, peer: Peer(peer.ip()), visitor, watch: Watch::new(patience) };
                tokio::spawn(serve(client, http, router.clone(), counted, ends.clone()));
            }
            // Dropping the stream closes it: the client sees that it is not wanted now.
            Ok(_) => {
                app.core.lock().engine.counters.full += 1;
                tracing::warn!("closed a new connection: too many are open");
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// A connection that has been accepted.
struct Client {
    stream: TcpStream,
    peer: Peer,
    visitor: Visitor,
    watch: Watch,
}

async fn serve(
    Client { stream, peer, visitor, watch }: Client,
    http: http1::Builder,
    router: TowerToHyperService<Router>,
    _counted: [Option<Counted>; 2],
    Ends { leave, mut stop }: Ends,
) {
    // Without it a small answer may wait for the client's delayed acknowledgement.
    if let Err(error) = stream.set_nodelay(true) {
        return tracing::debug!(%error, "a client left before its first request");
    }
    let answering = Open::default();
    let service = service_fn(|mut request: Request<Incoming>| {
        request.extensions_mut().insert(visitor.clone());
        request.extensions_mut().insert(peer);
        let (answering, watch, leave) = (answering.one_more(), watch.clone(), leave.clone());
        watch.begun();
        let answer = router.call(request);
        async move {
            let mut answer = answer.await;
            if let Ok(answer) = &mut answer
                && *leave.borrow()
                && answer.status() != StatusCode::SWITCHING_PROTOCOLS
            {
                answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            watch.answered();
            drop(answering);
            answer
        }
    });
    let io = TokioIo::new(Watched::new(stream, watch.clone()));
    let mut connection = std::pin::pin!(http.serve_connection(io, service).with_upgrades());
    let served = tokio::select! {
        served = watch.serve(connection.as_mut()) => match served {
            Some(served) => served,
            None => return tracing::debug!("closed an HTTP connection that said nothing for too long"),
        },
        () = stopping(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            finish(connection, &answering).await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "an HTTP connection ended with an error");
    }
}

/// Lets a connection come to its end, as long as the server is what it waits for. A client that is
/// slow to say or to take something gets [`LAST_WORDS`].
async fn finish<C: Future<Output = hyper::Result<()>>>(
    mut connection: Pin<&mut C>,
    answering: &Open,
) -> hyper::Result<()> {
    const STEP: Duration = Duration::from_millis(50);
    let mut waited = Duration::ZERO;
    while waited < LAST_WORDS {
        match tokio::time::timeout(STEP, connection.as_mut()).await {
            Ok(served) => return served,
            Err(_) if answering.count() > 0 => waited = Duration::ZERO,
            Err(_) => waited += STEP,
        }
    }
    Ok(())
}

/// Returns when the worker is told to stop, or when nobody could tell it any more.
pub async fn stopping(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}
