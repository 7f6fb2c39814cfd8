//! The storage writer: the one process that writes.
//!
//! | module | thread | what it does |
//! |---|---|---|
//! | [`start`] | | recovers the logs, brings the index into step |
//! | [`remember`] | | reads back what repetitions are recognised by |
//! | [`intake`] | one | accepts workers |
//! | [`reader`] | one for each worker | reads, hands over |
//! | [`commit`] | one | numbers, appends and syncs messages |
//! | [`sequence`] | | the pure part of that: order and repetitions |
//! | [`withheld`] | | what it does while the disk refuses |
//! | [`directory`] | one | users, rooms, the index |
//! | [`transaction`] | | one step of it: changes that become fact together |
//! | [`undone`] | | what it does while the disk refuses |
//! | [`arena`] | one | live challenges |
//! | [`reserve`] | | space for the time when the disk is full |
//! | [`indexer`] | one | finds out where messages stand in full files |
//! | [`deleting`] | | the same thread: deletions of everything |
//! | [`compaction`] | one, at times | writes a shorter log beside a long one |
//! | [`successor`] | | the directory thread: puts it in the long one's place |
//! | [`judge`] | | says what may be |
//! | [`changes`] | | makes records of what may be |
//! | [`tickets`] | | who was first with a one-time ticket |
//! | [`publish`] | one | tells all workers, in one order |
//! | [`census`] | | who is on which worker |
//! | [`peer`] | | one of them: what waits for it |
//! | [`catchup`] | one for each returning worker | reads what it has missed |
//! | [`scrub`] | one | reads all logs slowly to find damage |
//! | [`status`] | | what operators see |
//! | [`files`] | | what they see of log files |
//!
//! Three threads commit, because they never touch the same file: a slow change of many users does not
//! hold up a message, nor either of them a live challenge. What one thread hands to another goes through a bounded queue, or through a
//! table that newer entries overwrite ([`heads`]).
//!
//! All threads end in the order of the table when the first is told to: each works off what it has
//! been handed. If one ends otherwise, the process ends, and the next one recovers.

mod arena;
mod batch;
mod catchup;
mod census;
mod changes;
mod commit;
mod compaction;
mod deleting;
mod directory;
mod error;
mod files;
mod heads;
mod indexer;
mod intake;
mod judge;
mod outbox;
mod peer;
mod publish;
mod reader;
mod remember;
mod repeats;
mod reserve;
mod scrub;
pub mod sequence;
mod slots;
mod start;
mod status;
mod successor;
mod tickets;
mod transaction;
mod undone;
mod withheld;

use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, select};
use minitalk_supervisor::child::{Child, Command, Lifeline};
use parking_lot::{FairMutex, Mutex};

pub use self::census::Limits as Connections;
pub use self::error::WriterError;

use self::arena::Arena;
use self::commit::Committer;
use self::compaction::Compactor;
use self::directory::Directory;
use self::indexer::Indexer;
use self::publish::{Event, Publisher, Publishing};
use self::reader::Outlets;
use self::reserve::Reserve;
use self::scrub::Scrub;
use self::status::{Line, Status};
use self::tickets::Tickets;
use crate::chat::Paces;
use crate::config::{self, Config, Storage};
use crate::index::{IndexError, Reader, bulk, challenges};
use crate::journal::disk::{Disk, RealDisk};
use crate::link::frame::Position;

/// Longest time between two reports, and until the supervisor's question is answered.
const REPORT_INTERVAL: Duration = Duration::from_millis(300);

/// Shortest time between two reports.
const REPORT_PAUSE: Duration = Duration::from_millis(100);

/// What a writer needs to know.
#[derive(Clone)]
pub struct WriterConfig {
    /// Where the logs and the index live. Nobody else writes there: the caller holds the lock.
    pub data_dir: PathBuf,
    /// How records reach the disk.
    pub storage: Storage,
    /// Rooms one user may be in.
    pub rooms_per_user: usize,
    /// Messages one user may send in a second, on whichever workers; 0: no limit.
    pub messages_per_second: u32,
    /// Changes of rooms one user may make in a second; 0: no limit.
    pub changes_per_second: u32,
    /// Connections of which no worker lets in more.
    pub connections: Connections,
    /// Live challenges.
    pub challenge: config::Challenge,
    /// The disk itself; tests play a bad one.
    pub disk: Arc<dyn Disk>,
}

/// A writer at work.
pub struct Running {
    status: Arc<Status>,
    /// Ends the intake when dropped.
    stop: UnixStream,
    /// Ends the reading for damage when dropped.
    scrubbing: Sender<()>,
    publisher: Publisher,
    threads: Vec<(&'static str, JoinHandle<()>)>,
    ended: Receiver<Ended>,
}

/// A thread that ended, and why, if it knows.
type Ended = (&'static str, Option<IndexError>);

/// Recovers the data directory and begins to serve workers.
///
/// # Errors
/// The data directory is damaged or can't be used, or the system gives no threads.
pub fn start(config: WriterConfig, listener: UnixListener) -> Result<Running, WriterError> {
    let WriterConfig {
        data_dir,
        storage,
        rooms_per_user,
        messages_per_second,
        changes_per_second,
        connections,
        challenge,
        disk,
    } = config;
    let reserve = Arc::new(Reserve::new(disk.clone(), &data_dir, storage.reserve_bytes));
    let recovered = start::recover(&data_dir, &disk, &storage, &reserve)?;
    let position = Position { seq: recovered.sequence.next() - 1, rev: recovered.ends.rooms };
    let deletions = recovered.deletions;
    let tickets: Arc<Mutex<Tickets>> = Arc::default();
    let status = Arc::new(Status::new(&data_dir, position, recovered.files, &deletions, tickets.clone()));
    recovered.damage.iter().for_each(|problem| status.note_damage(problem));
    let (publishing, publisher, used) =
        Publishing::new(data_dir.clone(), position, connections, status.clone())?;
    let mut segments = recovered.segments;
    segments.note_times(status.syncs.clone());
    let (heads, taken, woken) = heads::table();
    let (commit, ops) = bounded(intake::HAND_OVERS);
    let (directory, asked) = bounded(intake::CHANGES);
    let (tell_sealed, sealed) = bounded(1);
    let (tell_found, found) = bounded(indexer::FOUND);
    let (tell_damaged, damaged) = bounded(indexer::DAMAGED);
    let indexer =
        Indexer { data_dir: data_dir.clone(), sealed, damaged, found: tell_found, status: status.clone() };
    let fsync = storage.fsync;
    let (scrubbing, ends) = bounded(0);
    let scrub = Scrub::new(&data_dir, &storage, status.clone(), ends, tell_damaged);
    let compactor = Compactor::new(data_dir.clone(), disk.clone(), &storage, status.clone());
    let committer = Committer {
        segments,
        sequence: recovered.sequence,
        paces: Paces::new(messages_per_second),
        storage,
        publisher: publisher.clone(),
        used,
        heads,
        sealed: tell_sealed.clone(),
        reserve: reserve.clone(),
        status: status.clone(),
    };
    let (arena, told) = bounded(arena::TOLD);
    let judge = Arena::new(arena::Parts {
        store: recovered.challenges.store,
        log: recovered.challenges.log,
        ends: recovered.challenges.ends,
        users: Reader::open(&data_dir)?,
        tickets: tickets.clone(),
        settings: challenge,
        fsync,
        publisher: publisher.clone(),
        reserve: reserve.clone(),
        status: status.clone(),
    });
    let keeper = Directory {
        data_dir: data_dir.clone(),
        store: recovered.store,
        heads_behind: recovered.heads_behind,
        users: recovered.users,
        rooms: recovered.rooms,
        durable: recovered.ends,
        ends: recovered.ends,
        repeats: recovered.repeats,
        rooms_per_user: rooms_per_user as u64,
        paces: Paces::new(changes_per_second),
        tickets: tickets.clone(),
        fsync,
        heads: taken,
        found,
        sealed: tell_sealed,
        publisher: publisher.clone(),
        reserve,
        status: status.clone(),
        admin: recovered.admin,
        admin_rev: recovered.admin_rev,
        deletions,
        disk,
        unsynced_name: false,
        gone: recovered.gone,
        compactor,
    };
    let (stop, stopped) = UnixStream::pair()?;
    let commit = Arc::new(FairMutex::new(commit));
    let outlets =
        Outlets { commit, directory, arena, publisher: publisher.clone(), tickets, status: status.clone() };
    let challenges_dir = data_dir.clone();
    let mut works = vec![
        ("intake", sure(move || intake::run(&listener, &stopped, &outlets))),
        ("commit", sure(move || committer.run(&ops))),
        ("directory", Box::new(move || keeper.run(asked, woken).inspect_err(|_| discard(&data_dir)))),
        ("arena", Box::new(move || judge.run(told).inspect_err(|_| discard_challenges(&challenges_dir)))),
        ("publish", sure(move || publishing.run())),
        ("indexer", sure(move || indexer.run())),
    ];
    works.extend(scrub.map(|scrub| ("scrub", sure(move || scrub.run()))));
    let (threads, ended) = spawn_all(&status, works)?;
    Ok(Running { status, stop, scrubbing, publisher, threads, ended })
}

/// The directory thread has found the index damaged: without it the next start builds it anew.
fn discard(data_dir: &Path) {
    if let Err(error) = bulk::discard(data_dir) {
        tracing::error!(%error, "cannot remove the damaged index");
    }
}

/// The same of the arena thread and its database.
fn discard_challenges(data_dir: &Path) {
    if let Err(error) = challenges::build::discard(data_dir) {
        tracing::error!(%error, "cannot remove the damaged index of challenges");
    }
}

type Work = Box<dyn FnOnce() -> Result<(), IndexError> + Send>;

/// Work that has no way to fail.
fn sure(work: impl FnOnce() + Send + 'static) -> Work {
    Box::new(move || {
        work();
        Ok(())
    })
}

type Threads = (Vec<(&'static str, JoinHandle<()>)>, Receiver<Ended>);

fn spawn_all(status: &Arc<Status>, works: Vec<(&'static str, Work)>) -> io::Result<Threads> {
    let (tell, ended) = bounded(works.len());
    let mut threads = Vec::new();
    for (name, work) in works {
        let ending = Ending { name, error: None, tell: tell.clone(), status: status.clone() };
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || ending.of(work))?;
        threads.push((name, thread));
    }
    Ok((threads, ended))
}

/// Says that a thread has ended, also if it panicked.
struct Ending {
    name: &'static str,
    error: Option<IndexError>,
    tell: Sender<Ended>,
    status: Arc<Status>,
}

impl Ending {
    fn of(mut self, work: Work) {
        self.error = work().err();
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        let _ = self.tell.try_send((self.name, self.error.take()));
        self.status.wake();
    }
}

impl Running {
    /// What operators are told.
    pub fn report(&self) -> serde_json::Value {
        self.status.report()
    }

    /// Why the writer can't go on, if one of its threads has ended.
    pub fn failure(&self) -> Option<WriterError> {
        self.ended.try_recv().ok().map(|ended| self.why(Some(ended)))
    }

    fn why(&self, ended: Option<Ended>) -> WriterError {
        let (name, error) = ended.unwrap_or(("writing", None));
        error.map_or(WriterError::Thread(name), WriterError::Index)
    }

    /// Works off everything that workers have sent, makes it durable, tells them, and ends.
    ///
    /// # Errors
    /// A thread had ended before, or the index can't be written.
    pub fn drain(self) -> Result<(), WriterError> {
        let Running { stop, scrubbing, publisher, threads, ended, .. } = self;
        drop((stop, scrubbing));
        for (name, thread) in threads {
            if name == "publish" {
                publisher.send(Event::Stop);
            }
            if thread.join().is_err() {
                return Err(WriterError::Thread(name));
            }
            if let Some((_, Some(error))) = ended.try_iter().find(|(_, error)| error.is_some()) {
                return Err(error.into());
            }
        }
        Ok(())
    }
}

/// Plays the role until the supervisor says drain.
///
/// # Errors
/// The writer can't start or can't go on; [`WriterError::exit_code`] says whether another would.
pub fn run(config: &Config, mut child: Child) -> Result<(), WriterError> {
    let listener = match child.take_fds("storage").pop() {
        Some(fd) => UnixListener::from(fd),
        None => return Err(WriterError::Start("the supervisor gave no socket to listen on".to_owned())),
    };
    // Held, not used: as long as it is open nobody else writes to the data directory.
    let _lock = child.take_fds("lock");
    let lifeline = child.into_lifeline();
    let config = WriterConfig {
        data_dir: config.data_dir.clone(),
        storage: config.storage.clone(),
        rooms_per_user: config.limits.rooms_per_user,
        messages_per_second: config.limits.messages_per_second,
        changes_per_second: config.limits.changes_per_second,
        connections: Connections {
            per_address: config.limits.connections_per_address,
            per_user: config.limits.connections_per_user,
        },
        challenge: config.challenge.clone(),
        disk: Arc::new(RealDisk),
    };
    let running = start(config, listener)?;
    // First, so that the host is not ready before it is known how the disk is; nobody may be there to hear it.
    let _ = lifeline.report(&running.report());
    lifeline.ready()?;
    watch(&running, lifeline)?;
    running.drain()
}

/// Reports until it is time to drain.
fn watch(running: &Running, lifeline: Lifeline) -> Result<(), WriterError> {
    let (tell, told) = bounded(1);
    let status = running.status.clone();
    let hears = lifeline.clone();
    thread::Builder::new().name("lifeline".to_owned()).spawn(move || {
        // Told to drain, or the supervisor is gone: there is nobody left to write for.
        let (Ok(Some(Command::Drain | Command::Leave) | None) | Err(_)) = hears.next_command();
        let _ = tell.send(());
        status.wake();
    })?;
    let (mut version, mut line) = (0, Line::starting());
    while told.try_recv().is_err() {
        if let Some(failure) = running.failure() {
            return Err(failure);
        }
        let _ = lifeline.prove_alive(); // if it is gone, the lifeline's thread is the one to know
        // Not taken: the supervisor is slow, and the next one says more.
        let _ = lifeline.report(&running.report());
        line.go_on(&running.status);
        select! {
            recv(told) -> _ => break,
            recv(running.ended) -> ended => return Err(running.why(ended.ok())),
            default(REPORT_PAUSE) => {}
        }
        version = running.status.wait(version, REPORT_INTERVAL - REPORT_PAUSE);
    }
    Ok(())
}
