//! Accepts connections and speaks HTTP until they ask for something else.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::config::Config;

/// Pause after the kernel refuses to accept (mostly: too many open files).
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// HTTP connections that are not (yet) in the table.
#[derive(Clone, Default)]
pub struct Open(Arc<AtomicUsize>);

impl Open {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// Accepts until `stop` turns true, then gives the socket back to the kernel.
pub async fn accept(
    listener: TcpListener,
    router: Router,
    config: Arc<Config>,
    open: Open,
    mut stop: watch::Receiver<bool>,
) {
    let service = TowerToHyperService::new(router);
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(config.limits.handshake_timeout);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopping(&mut stop) => return,
        };
        match accepted {
            Ok((stream, _)) if open.count() < config.limits.connections_per_worker => {
                serve(stream, &http, service.clone(), open.clone(), stop.clone());
            }
            // Dropping the stream closes it: the client sees that it is not wanted now.
            Ok(_) => tracing::warn!("closed a new connection: too many are open"),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn serve(
    stream: TcpStream,
    http: &http1::Builder,
    service: TowerToHyperService<Router>,
    open: Open,
    mut stop: watch::Receiver<bool>,
) {
    // Without it a small answer may wait for the client's delayed acknowledgement.
    if let Err(error) = stream.set_nodelay(true) {
        return tracing::debug!(%error, "a client left before its first request");
    }
    open.0.fetch_add(1, Ordering::Relaxed);
    let connection = http.serve_connection(TokioIo::new(stream), service).with_upgrades();
    tokio::spawn(async move {
        let mut connection = std::pin::pin!(connection);
        let stopped = tokio::select! {
            served = connection.as_mut() => Some(served),
            () = stopping(&mut stop) => None,
        };
        let served = match stopped {
            Some(served) => served,
            None => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = served {
            tracing::debug!(%error, "an HTTP connection ended with an error");
        }
        open.0.fetch_sub(1, Ordering::Relaxed);
    });
}

/// Returns when the worker is told to stop, or when nobody could tell it any more.
async fn stopping(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}
