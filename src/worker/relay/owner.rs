//! The owner's side: requests that other workers received for sessions of this one.

use std::io;
use std::net::IpAddr;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::sync::Semaphore;

use super::packed::{self, Wish};
use super::{own_peer, socket_name};
use crate::engine::door::{Door, Entry};
use crate::engine::http::{Answer, Mark};
use crate::engine::sid::Sid;
use crate::wire::engine::HandshakeError;
use crate::worker::core::{App, Client, Core};

/// Pause after the kernel refuses to accept (mostly: too many open files).
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// Opens this worker's socket, for its own user only. One that a dead predecessor left is replaced.
///
/// # Errors
/// The run directory does not take it.
pub fn bind(run_dir: &Path, worker: u16) -> io::Result<UnixListener> {
    let listener = minitalk_supervisor::unix::bind(run_dir, &socket_name(worker))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Answers other workers for as long as this one lives, up to `requests` at a time.
pub async fn serve(listener: tokio::net::UnixListener, app: App, requests: usize) {
    let under_way = Arc::new(Semaphore::new(requests.min(Semaphore::MAX_PERMITS)));
    loop {
        // Past the bound others wait in the backlog, and give up when that takes too long.
        let Ok(permit) = under_way.clone().acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept another worker's request");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let app = app.clone();
        tokio::spawn(async move {
            if let Err(error) = answer(stream, &app).await {
                tracing::debug!(%error, "another worker's request ended early");
            }
            drop(permit);
        });
    }
}

async fn answer(mut stream: UnixStream, app: &App) -> io::Result<()> {
    own_peer(&stream)?;
    let door = &app.door;
    let wish = packed::read_wish(&mut stream, door.max_payload);
    let (wish, sid, body) = tokio::time::timeout(door.body_timeout, wish).await??;
    // Of a socket that is handed over, the address it is counted for comes along.
    let address = std::str::from_utf8(&body).ok().and_then(|text| text.parse::<IpAddr>().ok());
    let found = if sid.owner == app.worker {
        let mut work = std::pin::pin!(act(door, wish, &sid, body));
        loop {
            tokio::select! {
                answer = &mut work => break answer,
                // The client is gone, or the worker that had it. What is dropped ends the session.
                said = stream.read_u8() => match said? {
                    packed::LET_GO => door.let_go(&sid),
                    _ => return Err(io::ErrorKind::InvalidData.into()),
                },
            }
        }
    } else {
        Answer::Refused(HandshakeError::UnknownSession)
    };
    packed::write_answer(&mut stream, &found).await?;
    if found == Answer::Switch {
        let socket = packed::receive_socket(&mut stream);
        let (client, read) = tokio::time::timeout(door.body_timeout, socket).await??;
        let place = address.map(|address| app.addresses.take_over(address));
        door.take_in(Entry::Upgrade(sid, Client { place, ..Client::default() }), client, read);
    }
    Ok(())
}

async fn act(door: &Door<Core>, wish: Wish, sid: &Sid, body: bytes::Bytes) -> Answer {
    match wish {
        Wish::Fetch => door.fetch(sid, body.as_ref().try_into().map_or(0, Mark::from_le_bytes)).await,
        Wish::Bring => door.brought(sid, Ok(body)).await,
        Wish::BringTooMuch => door.brought(sid, Err(Answer::TooLarge)).await,
        Wish::Upgrade => door.may_upgrade(sid),
    }
}
