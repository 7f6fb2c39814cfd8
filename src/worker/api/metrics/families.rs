//! What stands on the metrics page, in its order: the one list of names.
//!
//! Times are in seconds, sizes in bytes; what only grows ends in `_total` and begins at 0 with each process.
//! Labels have few values, never one for each user, room or address. What is to be on the page besides is
//! reported by its process and named here, in a section of its own.

use crate::metrics::page::Kind::{self, Counter, Gauge, Histogram as Buckets};

/// One metric.
pub struct Family {
    /// Its name.
    pub name: &'static str,
    /// What kind of figure it is.
    pub kind: Kind,
    /// One sentence for whoever looks at it.
    pub help: &'static str,
    /// Who has it.
    pub of: Of,
    /// Where it is found.
    pub figure: Figure,
}

/// Who has a figure.
#[derive(Clone, Copy)]
pub enum Of {
    /// The host as a whole.
    Host,
    /// Each process, as the supervisor sees it.
    Process,
    /// Each worker, by its report.
    Worker,
    /// The storage writer, by its report.
    Storage,
}

/// Where a figure is found: paths are JSON pointers (RFC 6901).
#[derive(Clone, Copy)]
pub enum Figure {
    /// At that path.
    One(&'static str),
    /// One for each value of a label, each at its path.
    By(&'static str, &'static [(&'static str, &'static str)]),
    /// 1 where that text stands at that path, else 0.
    Is(&'static str, &'static str),
    /// In each item of the list at that path, named by a label, in that field.
    Each(&'static str, &'static str, &'static str),
    /// A histogram at that path.
    Histogram(&'static str),
}

use Figure::{By, Each, Histogram, Is, One};
use Of::{Host, Process, Storage, Worker};

const fn family(name: &'static str, kind: Kind, of: Of, figure: Figure, help: &'static str) -> Family {
    Family { name, kind, help, of, figure }
}

/// All metrics.
#[rustfmt::skip]
pub const FAMILIES: &[Family] = &[
    // The host.
    family("minitalk_build_info", Gauge, Host, By("version", &[(env!("CARGO_PKG_VERSION"), "/here")]),
        "Always 1; the label says which version this is."),
    family("minitalk_ready", Gauge, Host, One("/ready"), "1 while /ready answers 200."),
    family("minitalk_start_time_seconds", Gauge, Host, One("/start_time_s"),
        "When the supervisor started, Unix time."),
    family("minitalk_workers", Gauge, Host, One("/workers"), "Workers there are to be."),
    family("minitalk_scrape_errors", Gauge, Host, One("/missing"),
        "Processes whose figures are missing on this page."),

    // Processes.
    family("minitalk_process_up", Gauge, Process, One("/ready"),
        "1 while the process is ready and answers the supervisor."),
    family("minitalk_process_start_time_seconds", Gauge, Process, One("/usage/start_time_s"),
        "When the process started, Unix time."),
    family("minitalk_process_restarts_total", Counter, Process, One("/restarts"),
        "How often the process was started again after it had ended by itself."),
    family("minitalk_process_hangs_total", Counter, Process, One("/hangs"),
        "How often the process was started again because it did not answer within hang_timeout."),
    family("minitalk_process_cpu_seconds_total", Counter, Process, One("/usage/cpu_seconds"),
        "User and system time of the process."),
    family("minitalk_process_resident_memory_bytes", Gauge, Process, One("/rss_bytes"),
        "Resident memory of the process."),
    family("minitalk_process_open_fds", Gauge, Process, One("/usage/open_fds"),
        "Open descriptors of the process."),
    family("minitalk_process_max_fds", Gauge, Process, One("/usage/max_fds"),
        "How many descriptors the process may have open."),

    // Connections.
    family("minitalk_connections", Gauge, Worker, By("transport", &[
        ("websocket", "/websocket_connections"),
        ("polling", "/polling_connections"),
    ]), "Clients connected."),
    family("minitalk_http_connections", Gauge, Worker, One("/http_connections"),
        "Connections that speak plain HTTP."),
    family("minitalk_connections_limit", Gauge, Worker, One("/connections_limit"),
        "How many clients may be connected (limits.connections_per_worker)."),
    family("minitalk_connections_accepted_total", Counter, Worker, One("/accepted_total"), "Clients let in."),
    family("minitalk_transport_upgrades_total", Counter, Worker, One("/upgrades_total"),
        "Sessions of long polling that went on as a WebSocket."),
    family("minitalk_connections_closed_total", Counter, Worker, By("reason", &[
        ("slow_consumer", "/slow_consumers_total"),
        ("ping_timeout", "/ping_timeouts_total"),
        ("protocol_violation", "/violations_total"),
        ("token_expired", "/tokens_expired_total"),
        ("logged_out", "/logged_out_total"),
        ("drain", "/drained_total"),
    ]), "Connections closed by the server."),
    family("minitalk_connections_refused_total", Counter, Worker, By("reason", &[
        ("authentication", "/refused_authentication_total"),
        ("address_limit", "/refused_address_total"),
        ("user_limit", "/refused_user_total"),
        ("worker_limit", "/refused_full_total"),
        ("origin", "/refused_origin_total"),
    ]), "Connections and requests not let in."),
    family("minitalk_sessions_recovered_total", Counter, Worker, By("result", &[
        ("recovered", "/recovered_total"),
        ("gap", "/gaps_total"),
    ]), "Clients that came back, and whether all they had missed could be told."),
    family("minitalk_messages_replayed_total", Counter, Worker, One("/replayed_total"),
        "Messages sent to returning clients because they had missed them."),
    family("minitalk_requests_relayed_total", Counter, Worker, One("/relayed_total"),
        "Requests of long polling for a session on another worker."),
    family("minitalk_logins_failed_total", Counter, Worker, One("/logins_failed_total"), "Wrong passwords."),
    family("minitalk_logins_braked_total", Counter, Worker, One("/logins_braked_total"),
        "Logins refused because of earlier ones."),

    // Messages.
    family("minitalk_messages_received_total", Counter, Worker, One("/messages_in_total"),
        "Messages sent by clients and passed to the storage writer."),
    family("minitalk_messages_delivered_total", Counter, Worker, One("/deliveries_total"),
        "Messages times sockets they were written to."),
    family("minitalk_messages_refused_total", Counter, Worker, By("reason", &[
        ("overloaded", "/overloaded_total"),
        ("rate_limited", "/rate_limited_total"),
        ("storage", "/storage_refused_total"),
        ("other", "/otherwise_refused_total"),
    ]), "Messages that were not stored."),
    family("minitalk_delivery_seconds", Buckets, Worker, Histogram("/delivery"),
        "From taking a message in, on any worker, to having handed it to the last socket on this one."),
    family("minitalk_unanswered_operations", Gauge, Worker, One("/unanswered"),
        "Operations sent to the storage writer and not answered."),
    family("minitalk_outgoing_bytes", Gauge, Worker, One("/outgoing_bytes"),
        "Bytes waiting in outboxes for slow readers."),
    family("minitalk_link_up", Gauge, Worker, Is("/link", "up"), "1 while connected to the storage writer."),
    family("minitalk_searches", Gauge, Worker, One("/searches"), "Searches under way."),
    family("minitalk_searches_total", Counter, Worker, One("/searches_total"), "Searches begun."),
    family("minitalk_searches_given_up_total", Counter, Worker, One("/searches_given_up_total"),
        "Searches whose caller had gone."),
    family("minitalk_cache_entries", Gauge, Worker, Each("/caches", "cache", "entries"),
        "Entries in the cache."),
    family("minitalk_cache_hits_total", Counter, Worker, Each("/caches", "cache", "hits"),
        "Looked up in the cache and there."),
    family("minitalk_cache_misses_total", Counter, Worker, Each("/caches", "cache", "misses"),
        "Looked up in the cache and not there."),

    // Live challenges.
    family("minitalk_challenge_connections", Gauge, Worker, One("/challenge_connections"),
        "Sockets that are in a challenge."),
    family("minitalk_challenge_enter_seconds", Buckets, Worker, Histogram("/challenge_enter"),
        "From the handshake of a socket with a ticket until it was in its challenge."),
    family("minitalk_challenges", Gauge, Storage, One("/challenges/live"), "Challenges that can be entered."),
    family("minitalk_challenge_participants", Gauge, Storage, One("/challenges/active"),
        "Participants who are in a challenge."),
    family("minitalk_challenge_entries_total", Counter, Storage, One("/challenges/entered_total"),
        "How often somebody entered."),
    family("minitalk_challenge_departures_total", Counter, Storage, By("reason", &[
        ("finish", "/challenges/finished_total"),
        ("timeout", "/challenges/timeouts_total"),
        ("disconnected", "/challenges/disconnected_total"),
    ]), "How often somebody was in no more."),
    family("minitalk_challenge_tickets_total", Counter, Storage, By("state", &[
        ("issued", "/challenges/tickets_issued_total"),
        ("used", "/challenges/tickets_used_total"),
        ("expired", "/challenges/tickets_expired_total"),
    ]), "Tickets for challenges, by what became of them."),

    // Storage.
    family("minitalk_storage_seq", Gauge, Storage, One("/position/seq"), "Number of the newest message."),
    family("minitalk_storage_messages_total", Counter, Storage, One("/messages_total"), "Messages stored."),
    family("minitalk_storage_batches_total", Counter, Storage, One("/batches_total"),
        "Batches of messages written."),
    family("minitalk_storage_batch_messages", Buckets, Storage, Histogram("/batches"), "Messages in a batch."),
    family("minitalk_storage_changes_total", Counter, Storage, One("/changes_total"),
        "Changes of users and rooms."),
    family("minitalk_storage_fsync_seconds", Buckets, Storage, Histogram("/syncs"),
        "How long a sync of the messages took."),
    family("minitalk_storage_queue_operations", Gauge, Storage, One("/queue"),
        "Operations taken in and not yet decided."),
    family("minitalk_storage_writable", Gauge, Storage, Is("/disk", "ok"), "1 while the disk takes records."),
    family("minitalk_storage_disk_free_bytes", Gauge, Storage, One("/disk_free_bytes"),
        "Free bytes of the data directory's file system."),
    family("minitalk_storage_disk_bytes", Gauge, Storage, One("/disk_bytes"),
        "Size of the data directory's file system."),
    family("minitalk_storage_log_bytes", Gauge, Storage, By("log", &[
        ("messages", "/logs/messages/bytes"),
        ("users", "/logs/users/bytes"),
        ("chatrooms", "/logs/chatrooms/bytes"),
        ("challenges", "/logs/challenges/bytes"),
    ]), "Bytes of the log's files."),
    family("minitalk_storage_log_records", Gauge, Storage, By("log", &[
        ("messages", "/logs/messages/records"),
        ("users", "/logs/users/records"),
        ("chatrooms", "/logs/chatrooms/records"),
        ("challenges", "/logs/challenges/records"),
    ]), "Records in the log's files."),
    family("minitalk_storage_damaged_files", Gauge, Storage, One("/damaged_files"),
        "Files in which damage was found."),
    family("minitalk_storage_index_lag_files", Gauge, Storage, One("/index_lag_files"),
        "Full files of messages that are not in the index yet."),
    family("minitalk_storage_peers", Gauge, Storage, One("/peers"), "Workers connected to the storage writer."),
];
