//! Every setting and every limit of the server, each with its unit and its default.
//!
//! Flags beat environment, environment beats the file, the file beats the defaults below.
//! The supervisor reads the configuration once; every other process is handed the result.

mod changes;
mod check;
mod duration;
mod load;
mod mistake;
mod network;
mod read;
mod section;
mod show;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use changes::{Next, next, of_other_version};
pub use load::{Environment, Flags, load, load_with_origins};
pub use mistake::{BadConfig, Mistake};
pub use network::Network;
pub use read::check_file;
pub use show::{Origins, show};

/// Bytes of records in one batch, at most, whatever their number: bounds a frame to the workers.
pub const BATCH_BYTES: usize = 4 << 20;
/// Bytes of one message's texts together, at most; keeps any line of the log below [`BATCH_BYTES`].
pub const MESSAGE_BYTES: usize = 512 << 10;
/// Messages a worker may have sent to the storage writer without an answer; more are `OVERLOADED`.
pub const UNANSWERED_PER_WORKER: usize = 65_536;
/// Bytes of such unanswered operations; more are `OVERLOADED`.
pub const UNANSWERED_BYTES_PER_WORKER: usize = 64 << 20;
/// Messages one connection may have unanswered before the worker stops reading from it.
pub const UNANSWERED_PER_CONNECTION: u16 = 1_024;
/// Bytes the storage writer holds for a worker that does not read, before it drops that worker's
/// connection; the worker comes back and is served the rest from the log.
pub const PUBLISH_QUEUE_BYTES: usize = 64 << 20;
/// Operations waiting in the storage writer for their batch; a full queue makes workers wait.
pub const INTAKE_QUEUE: usize = 8_192;
/// Messages a history call answers when it names no number.
pub const HISTORY_DEFAULT: usize = 100;
/// Reads of history and of lists under way in one worker; more wait.
pub const READS: usize = 64;
/// Such reads that wait for their turn in one worker; more are `OVERLOADED`. So many clients may come at
/// one moment and ask for history; a read is about a millisecond of one of two threads.
pub const READS_WAITING: usize = 16_384;
/// Searches under way in one worker; more are `OVERLOADED`.
pub const SEARCHES: usize = 16;
/// Threads that search in one worker, if there are as many cores.
pub const SEARCH_THREADS: usize = 4;
/// Characters of the text that is searched for.
pub const SEARCH_QUERY_CHARS: usize = 256;
/// Bytes of the log that one page of a search looks through, about; then it ends with what it has, and
/// the next page goes on from there.
pub const SEARCH_PAGE_BYTES: u64 = 1 << 30;
/// Replays for returning clients being read at a time in one worker; the others wait their turn.
pub const REPLAYS: usize = 4;
/// Latest changes of users and rooms that are remembered, so that a repetition is answered like the
/// first one.
pub const REMEMBERED_CHANGES: usize = 65_536;
/// Rooms with new messages that wait for the index in the storage writer; when there are more, it is told
/// from the log instead.
pub const HEADS: usize = 131_072;
/// Connections of workers that the storage writer serves.
pub const WRITER_PEERS: usize = 1_024;
/// Most messages one history call answers.
pub const HISTORY_LIMIT: usize = 1_000;
/// Most entries (users, rooms) one batch call carries.
pub const BATCH_ENTRIES: usize = 100_000;
/// Bytes of the body of a call for one account, which anybody may make; `body_bytes` is for batches.
pub const SINGLE_BODY_BYTES: usize = 2 << 20;
/// Passwords waiting to be hashed or checked in one worker; more are `OVERLOADED`.
pub const PASSWORD_QUEUE: usize = 1_024;
/// Most workers of one host; far more than cores are of no use.
pub const WORKERS_MAX: u16 = 1_024;
/// Most addresses one host listens on; each costs every worker a socket, and all of a worker's are
/// handed to it in one message.
pub const LISTEN_MAX: usize = 64;
/// Shortest life of a challenge ticket.
pub const TICKET_TTL_MIN: Duration = Duration::from_secs(1);
/// Longest life of a challenge ticket.
pub const TICKET_TTL_MAX: Duration = Duration::from_secs(24 * 3600);

/// All settings of one host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// Addresses to accept on. Port 0: any free port, printed when ready.
    pub listen: Vec<SocketAddr>,
    /// Where the logs, the index and the private sockets live.
    pub data_dir: PathBuf,
    /// Worker processes; the reader turns the file's 0 into the number of available cores.
    pub workers: u16,
    /// Longest time between a stop signal and the exit.
    pub drain_timeout: Duration,
    /// Longest time a process may leave the supervisor's question whether it is alive without an answer.
    pub hang_timeout: Duration,
    /// Longest time that a process which is to take over from another may need to get ready.
    pub ready_timeout: Duration,
    /// Origins, beside the same one and loopback, whose pages may connect.
    pub allowed_origins: Vec<String>,
    /// Addresses and networks whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<String>,
    /// User names that may call the admin calls.
    pub admins: Vec<String>,
    /// Who is who.
    pub auth: Auth,
    /// How records reach the disk.
    pub storage: Storage,
    /// The Socket.IO surface.
    pub socketio: SocketIo,
    /// What one client may cost.
    pub limits: Limits,
    /// Live challenges.
    pub challenge: Challenge,
}

/// `[auth]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Auth {
    /// Whether a name alone is believed.
    pub mode: AuthMode,
    /// HS256 secret; empty: generated once into `data_dir/secret`.
    pub jwt_secret: String,
    /// How long a token is good for.
    pub token_ttl: Duration,
    /// How long a one-time ticket is good for.
    pub ticket_ttl: Duration,
    /// How long before the end of its token a socket is warned; half of what is left, if that is less.
    /// 0: it is not.
    pub expiry_warning: Duration,
    /// Permits [`AuthMode::Open`] on addresses other hosts can reach.
    pub allow_open_on_public: bool,
    /// Cost of a password's hash.
    pub argon2: Argon2,
}

/// `auth.mode`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuthMode {
    /// Every user call needs a token.
    Token,
    /// `?username=NAME` names an existing user as well. For load tests.
    Open,
}

/// `[auth.argon2]`: parameters of Argon2id (RFC 9106).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Argon2 {
    /// Memory per hash in KiB, at least 8 per lane.
    pub memory_kib: u32,
    /// Passes.
    pub iterations: u32,
    /// Lanes.
    pub parallelism: u32,
}

/// `[storage]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Storage {
    /// What "written" means.
    pub fsync: Fsync,
    /// Longest wait of a record for its batch; with [`Fsync::Interval`] also the time between syncs.
    pub flush_interval: Duration,
    /// Records in one batch, at most.
    pub batch_max_messages: usize,
    /// Messages in one file; then the next begins.
    pub messages_per_file: u64,
    /// Latest messages whose `clientId` and operation are remembered, so that a repetition is
    /// answered with the first one.
    pub dedup_window_messages: usize,
    /// Bytes set aside for the time when the disk is full; 0: none. A small file system gives a
    /// sixteenth of itself at most.
    pub reserve_bytes: u64,
    /// Bytes per second at which the logs are read to find damage before somebody needs them; 0: they
    /// are not.
    pub scrub_bytes_per_second: u64,
    /// Time from the beginning of one such reading of everything to the beginning of the next.
    pub scrub_interval: Duration,
    /// Bytes that `users.jsonl` or `chatrooms.jsonl` must have to be compacted by itself.
    pub compact_min_bytes: u64,
    /// Percent of such a file that may still matter for it to be worth that.
    pub compact_live_percent: u8,
}

/// `storage.fsync`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fsync {
    /// Each batch is synced before it is acked.
    Always,
    /// Acked once written; synced every `flush_interval`.
    Interval,
    /// Acked once written; the kernel syncs when it likes.
    Never,
}

/// `[socketio]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SocketIo {
    /// Time between a pong and the next ping.
    pub ping_interval: Duration,
    /// Longest wait for a pong.
    pub ping_timeout: Duration,
    /// Bytes of one packet from a client, at most.
    pub max_payload: usize,
    /// Which clients get a resume offset with each event.
    pub recovery: Recovery,
    /// Messages replayed to one returning client, at most.
    pub recovery_messages: u64,
}

/// `socketio.recovery`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Recovery {
    /// Those that ask and those recognised with certainty.
    Auto,
    /// All.
    Always,
    /// Those that ask.
    Explicit,
}

/// `[limits]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Messages per second of one user, sustained and in a burst; 0: no limit. As the others here, for
    /// the whole host unless something else is said.
    pub messages_per_second: u32,
    /// `typing` per second of one user; 0: no limit.
    pub typing_per_second: u32,
    /// `join_room` per second of one user; 0: no limit.
    pub joins_per_second: u32,
    /// `leave_room` per second of one user; 0: no limit.
    pub leaves_per_second: u32,
    /// `get_messages` per second of one user; 0: no limit.
    pub history_per_second: u32,
    /// REST calls per second by which one user changes rooms; 0: no limit. Of a batch call each step of
    /// about a thousand rooms counts.
    pub changes_per_second: u32,
    /// Wrong passwords for one user from one address within `login_failures_window`; 0: no limit.
    pub login_failures_per_user: u32,
    /// Wrong passwords from one address (of IPv6: one /64 network) for anybody within
    /// `login_failures_window`; 0: no limit.
    pub login_failures_per_address: u32,
    /// How long it takes until all of them are forgiven.
    pub login_failures_window: Duration,
    /// Characters of one message.
    pub content_chars: usize,
    /// Rooms one user may be in.
    pub rooms_per_user: usize,
    /// Connections one worker holds.
    pub connections_per_worker: usize,
    /// Connections one user holds.
    pub connections_per_user: usize,
    /// Connections from one address (of IPv6: one /64 network); 0: no limit.
    pub connections_per_address: usize,
    /// Bytes waiting for one connection before it is closed as too slow.
    pub outgoing_bytes_per_connection: usize,
    /// Bytes of one worker's memory, about, that all its clients together may hold by frames, packets and
    /// payloads that have not arrived whole; above, who sends more is closed. At least four times
    /// `socketio.max_payload`.
    pub unfinished_bytes_per_worker: usize,
    /// Longest time for a request's head from its first byte, for the first request of a connection, and
    /// from there to a client that has entered the chat.
    pub handshake_timeout: Duration,
    /// Longest silence of an HTTP connection between two requests, or of one that does not take its
    /// answer. Above what proxies keep connections for, so that it is they who close.
    pub keep_alive_timeout: Duration,
    /// Bytes of one REST body.
    pub body_bytes: usize,
    /// Bytes of REST bodies in one worker's memory, each until its call is answered; more are
    /// `OVERLOADED`. At least `body_bytes`.
    pub body_bytes_per_worker: usize,
    /// How long a REST body may take, beside what its size takes at `body_bytes_per_second`.
    pub body_timeout: Duration,
    /// Slowest pace of a REST body that takes longer than `body_timeout`.
    pub body_bytes_per_second: usize,
}

/// `[challenge]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Challenge {
    /// Offers `test-login`, which gives tokens without a password.
    pub test_login: bool,
    /// How long a ticket is good for.
    pub ticket_ttl: Duration,
    /// How long before its start a challenge may be entered.
    pub ready_before: Duration,
    /// Silence after which a participant is out.
    pub idle_timeout: Duration,
    /// Time between two updates of a participant to the others.
    pub update_tick: Duration,
    /// Participants of one challenge whose update is told in one such time; the others wait their turn.
    pub updates_per_tick: usize,
    /// Zone of times written without one.
    pub time_zone: String,
    /// Name of this host in ticket URLs; empty: the host name.
    pub server_id: String,
    /// Base of ticket URLs; empty: made from the request's `Host`.
    pub ws_url: String,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 4000))],
            data_dir: PathBuf::from("data/storage"),
            workers: 0,
            drain_timeout: Duration::from_secs(30),
            hang_timeout: Duration::from_secs(15),
            ready_timeout: Duration::from_secs(60),
            allowed_origins: Vec::new(),
            trusted_proxies: Vec::new(),
            admins: Vec::new(),
            auth: Auth::default(),
            storage: Storage::default(),
            socketio: SocketIo::default(),
            limits: Limits::default(),
            challenge: Challenge::default(),
        }
    }
}

impl Default for Auth {
    fn default() -> Auth {
        Auth {
            mode: AuthMode::Token,
            jwt_secret: String::new(),
            token_ttl: Duration::from_secs(24 * 3600),
            ticket_ttl: Duration::from_secs(30),
            expiry_warning: Duration::from_secs(60),
            allow_open_on_public: false,
            argon2: Argon2 { memory_kib: 19_456, iterations: 2, parallelism: 1 },
        }
    }
}

impl Default for Storage {
    fn default() -> Storage {
        Storage {
            fsync: Fsync::Always,
            flush_interval: Duration::from_millis(50),
            batch_max_messages: 1_000,
            messages_per_file: 100_000,
            dedup_window_messages: 262_144,
            reserve_bytes: 4 << 20,
            scrub_bytes_per_second: 1 << 20,
            scrub_interval: Duration::from_secs(24 * 3600),
            compact_min_bytes: 64 << 20,
            compact_live_percent: 50,
        }
    }
}

impl Default for SocketIo {
    fn default() -> SocketIo {
        SocketIo {
            ping_interval: Duration::from_secs(25),
            ping_timeout: Duration::from_secs(20),
            max_payload: 1_000_000,
            recovery: Recovery::Auto,
            recovery_messages: 10_000,
        }
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            messages_per_second: 1_000,
            typing_per_second: 100,
            joins_per_second: 1_000,
            leaves_per_second: 1_000,
            history_per_second: 500,
            changes_per_second: 500,
            login_failures_per_user: 30,
            login_failures_per_address: 300,
            login_failures_window: Duration::from_secs(5 * 60),
            content_chars: 4_000,
            rooms_per_user: 100_000,
            connections_per_worker: 100_000,
            connections_per_user: 1_000,
            connections_per_address: 0,
            outgoing_bytes_per_connection: 1 << 20,
            unfinished_bytes_per_worker: 256 << 20,
            handshake_timeout: Duration::from_secs(10),
            keep_alive_timeout: Duration::from_secs(75),
            body_bytes: 100 << 20,
            body_bytes_per_worker: 256 << 20,
            body_timeout: Duration::from_secs(10),
            body_bytes_per_second: 64 << 10,
        }
    }
}

impl Default for Challenge {
    fn default() -> Challenge {
        Challenge {
            test_login: false,
            ticket_ttl: Duration::from_secs(30),
            ready_before: Duration::from_secs(5 * 60),
            idle_timeout: Duration::from_secs(60),
            update_tick: Duration::from_millis(200),
            updates_per_tick: 100,
            time_zone: "Asia/Seoul".to_owned(),
            server_id: String::new(),
            ws_url: String::new(),
        }
    }
}
