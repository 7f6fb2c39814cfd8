//! A worker: one process per core, its clients, and nothing else.
//!
//! Reading order: [`turn`] is the loop. [`http`] accepts, [`api`] answers REST, [`upgrade`] hands
//! Socket.IO's requests to the [engine](crate::engine), or by the [`relay`] to the worker that has the
//! session. Of what clients say [`session`] and [`commands`] are told, [`entry`] lets them into the
//! chat, [`recovery`] tells those who come back what they missed, [`uplink`] talks to the storage writer, [`answers`] hears it, [`deliver`] frames what it
//! published, the [`hub`] names the sockets. When a token ends, [`expiry`] ends its socket's stay;
//! when all of a user's do before their time, [`revoked`] does. Live challenges are the [`arena`]'s.
//!
//! A worker writes no file and assigns no `seq`.

pub mod address;
mod answers;
mod api;
mod arena;
mod brake;
mod client;
mod commands;
pub mod core;
mod cors;
mod counters;
mod deliver;
mod drain;
mod entry;
mod expiry;
mod hasher;
mod history;
mod http;
mod hub;
mod ids;
mod names;
mod origin;
mod password;
mod reader;
pub mod recovery;
mod relay;
mod report;
mod revoked;
mod search;
mod session;
pub mod token;
mod turn;
mod upgrade;
mod uplink;

use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use minitalk_supervisor::RUN_DIR;
use minitalk_supervisor::child::{Child, Command, Lifeline};
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore, mpsc, watch};

use self::core::{App, Core};
use self::counters::Counters;
use self::relay::Relay;
use self::revoked::Revocations;
use crate::chat::Paces;
use crate::config::{self, Config};
use crate::engine::door::Door;
use crate::engine::{Engine, Settings};
use crate::index::Reader;
use crate::index::challenges::ChallengeReader;
use crate::index::history::History;
use crate::wire::local_time::Zone;
use crate::wire::recovery::Seals;

/// Why a worker could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The kernel refused something.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The index can't be opened.
    #[error("cannot open the index: {0}")]
    Index(#[from] crate::index::IndexError),
}

/// Plays the role until the supervisor says drain.
///
/// # Errors
/// Something that every worker needs is refused; the supervisor decides what follows.
pub fn run(config: Config, mut child: Child) -> Result<(), WorkerError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_keep_alive(BLOCKING_KEEP_ALIVE)
        .build()?;
    let listeners = child.take_fds("listen");
    let app = build(Arc::new(config), child.seat())?;
    let lifeline = child.into_lifeline();
    runtime.block_on(serve(app, listeners, lifeline))
}

/// Threads for reads of the log and the index.
const BLOCKING_THREADS: usize = 2;

/// An idle one ends after this long and gives its memory back.
const BLOCKING_KEEP_ALIVE: std::time::Duration = std::time::Duration::from_secs(1);

fn build(config: Arc<Config>, worker: u16) -> Result<App, WorkerError> {
    let now = Instant::now();
    let run_dir = config.data_dir.join(RUN_DIR);
    let tokens = Arc::new(token::Tokens::new(&config.auth.jwt_secret, config.auth.token_ttl));
    let wake = Arc::new(Notify::new());
    let addresses = Arc::new(address::Addresses::new(&config, wake.clone()));
    let brake = Arc::new(brake::Brake::new(&config, worker, wake.clone()));
    let index = Reader::open(&config.data_dir)?;
    let core = Core {
        config: config.clone(),
        tokens: tokens.clone(),
        addresses: addresses.clone(),
        brake: brake.clone(),
        changes: Paces::new(config.limits.changes_per_second),
        seals: Seals::new(&config.auth.jwt_secret),
        engine: Engine::new(Settings {
            owner: worker,
            ping_interval: config.socketio.ping_interval,
            ping_timeout: config.socketio.ping_timeout,
            connect_timeout: config.limits.handshake_timeout,
            max_payload: config.socketio.max_payload,
            outgoing_bytes: config.limits.outgoing_bytes_per_connection,
            unfinished_bytes: config.limits.unfinished_bytes_per_worker,
            connections: config.limits.connections_per_worker,
        })?,
        hub: hub::Hub::default(),
        uplink: uplink::Uplink::new(run_dir.clone(), worker, ids::instance(), now),
        revocations: Revocations::followed_to(index.last_revocation()?),
        index,
        challenges: ChallengeReader::open(&config.data_dir)?,
        names: names::Names::default(),
        entries: entry::Entries::default(),
        history: Vec::new(),
        replays: Vec::new(),
        arena: arena::Arena::default(),
        plan: deliver::Plan::default(),
        counters: Counters::default(),
        started: now,
    };
    let core = Arc::new(Mutex::new(core));
    let heartbeat = config.socketio.ping_interval + config.socketio.ping_timeout;
    Ok(App {
        door: Door {
            host: core.clone(),
            wake: wake.clone(),
            body_timeout: config.limits.handshake_timeout,
            max_payload: config.socketio.max_payload,
        },
        relay: Relay::new(&run_dir, config.limits.connections_per_worker, heartbeat)?,
        worker,
        core,
        server_id: server_id(&config)?.into(),
        zone: Arc::new(zone(&config)?),
        tokens,
        addresses,
        brake,
        wake,
        doorman: entry::Doorman::start(Reader::open(&config.data_dir)?)?,
        reads: Arc::default(),
        replays: Arc::new(Semaphore::new(config::REPLAYS)),
        reader: Arc::new(Mutex::new(Reader::open(&config.data_dir)?)),
        history: Arc::new(History::open(&config.data_dir)?),
        searches: search::Searches::start(&config.data_dir)?,
        config,
    })
}

/// The zone was looked up when the configuration was read; its data may have gone since.
fn zone(config: &Config) -> io::Result<Zone> {
    let name = &config.challenge.time_zone;
    Zone::named(name).ok_or_else(|| io::Error::other(format!("there is no time zone {name} any more")))
}

fn server_id(config: &Config) -> io::Result<String> {
    let configured = &config.challenge.server_id;
    if !configured.is_empty() {
        return Ok(configured.clone());
    }
    let host = nix::unistd::gethostname()?;
    // What cannot stand in a path as it is stands for nothing else.
    let letter = |letter: char| if letter.is_ascii_alphanumeric() || letter == '.' { letter } else { '-' };
    Ok(host.to_string_lossy().chars().map(letter).collect())
}

async fn serve(app: App, listeners: Vec<OwnedFd>, lifeline: Lifeline) -> Result<(), WorkerError> {
    let passwords = password::Passwords::start(app.config.auth.argon2, app.brake.clone())?;
    let (stop, stopped) = watch::channel(false);
    let (leave, left) = watch::channel(false);
    let router = api::router(api::Rest::new(app.clone(), passwords, stopped.clone()));
    let open = http::Open::default();
    let turns = tokio::spawn(turn::run(app.clone()));
    welcomed(&app).await;
    let requests = app.config.limits.connections_per_worker;
    let socket = relay::owner::bind(&app.config.data_dir.join(RUN_DIR), app.worker)?;
    let socket = tokio::net::UnixListener::from_std(socket)?;
    tokio::spawn(relay::owner::serve(socket, app.clone(), requests));
    for listener in listeners {
        let listener = TcpListener::from(listener);
        listener.set_nonblocking(true)?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let ends = http::Ends { leave: left.clone(), stop: stopped.clone() };
        let accept = http::accept(listener, router.clone(), app.clone(), open.clone(), ends);
        tokio::spawn(accept);
    }
    tokio::spawn(report::run(app.clone(), open.clone(), lifeline.clone()));
    lifeline.ready()?;
    let mut commands = hear(lifeline);
    tokio::select! {
        ended = turns => match ended {
            Ok(result) => result?,
            Err(error) => return Err(io::Error::other(error).into()),
        },
        end = commands.recv() => {
            let until = Instant::now() + app.config.drain_timeout;
            if end == Some(Command::Leave) {
                let _ = leave.send(true);
                tokio::select! {
                    () = drain::leave(&app, &open, until) => {}
                    _ = commands.recv() => {} // there is a hurry now
                }
            }
            let _ = stop.send(true);
            drain::drain(&app, &open, until).await;
        }
    }
    Ok(())
}

/// Until the storage writer has said where the published orders stand, nothing can be promised.
async fn welcomed(app: &App) {
    while !app.core.lock().uplink.welcomed {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
}

/// The supervisor's words. If the supervisor itself is gone, so is the worker.
fn hear(lifeline: Lifeline) -> mpsc::Receiver<Command> {
    let (tell, told) = mpsc::channel(COMMANDS);
    std::thread::spawn(move || {
        loop {
            match lifeline.next_command() {
                // Full: it has been told already.
                Ok(Some(command)) => drop(tell.try_send(command)),
                Ok(None) | Err(_) => std::process::exit(1),
            }
        }
    });
    told
}

/// To leave, and to make haste.
const COMMANDS: usize = 2;
