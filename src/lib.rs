//! Minitalk: a realtime chat and live-event server for one bare-metal Linux host.
//!
//! # Map
//!
//! One binary plays every role; a supervisor starts them and replaces the dead.
//!
//! | module | what it is | reads from |
//! |---|---|---|
//! | [`config`] | every setting and limit, with its unit | nothing |
//! | [`chat`] | what is said and who may hear it; pure | nothing |
//! | [`challenge`] | live challenges: who may do what, who is before whom; pure | `chat` |
//! | [`wire`] | client bytes ⇄ packets ⇄ commands; no I/O | `chat` |
//! | [`link`] | what workers and the storage writer say to each other | `chat` |
//! | [`journal`] | the bytes in the data directory | `chat` |
//! | [`index`] | what is derived from the journal, in SQLite | `chat`, `journal` |
//! | [`engine`] | client connections: Engine.IO, Socket.IO, WebSocket; knows nothing of a chat | `wire` |
//! | [`writer`] | the one process that writes | all above but `wire` and `engine` |
//! | [`worker`] | one process per core: clients, REST, Socket.IO, fan-out | all above |
//! | [`cli`] | the commands an operator types | `config`, `journal`, `index` |
//! | [`observe`] | log lines of every process | `config` |
//! | [`metrics`] | what operators watch: histograms, the page for Prometheus | nothing |
//! | [`priority`] | threads whose work can wait | nothing |
//!
//! The supervisor (`supervisor/`) and the load tester (`bench/`) are crates of their own.
//!
//! # Reading order
//!
//! Follow one message: `engine::websocket` reads a frame, [`wire`] makes a command of it,
//! `worker::commands` asks [`chat::rules`], `worker::uplink` sends it over the [`link`],
//! `writer::intake` takes it in, `writer::commit` numbers, appends and syncs it,
//! `writer::publish` tells every worker, `worker::deliver` frames it once, `worker::hub` names the
//! sockets, [`engine`] writes to each.
//!
//! # Invariants
//!
//! 1. Only the storage writer opens log files for writing; a lock makes a second one impossible.
//! 2. Nothing is acked or fanned out before its batch is durable under the configured policy.
//! 3. The log is the only truth; the index can be deleted and is rebuilt.
//! 4. Every queue is bounded and says what happens when it is full; every bound is in [`config`].
//! 5. Any process can be killed at any instant and every guarantee still holds.
//!
//! Deliberately absent: a database server, a message broker, sticky sessions, a task per connection.

pub mod challenge;
pub mod chat;
pub mod cli;
pub mod config;
pub mod engine;
pub mod index;
pub mod journal;
pub mod link;
pub mod metrics;
pub mod observe;
pub mod priority;
pub mod wire;
pub mod worker;
pub mod writer;
