//! The file: every key, with what it may hold. The contract's section 9 in code.

use std::path::PathBuf;
use std::time::Duration;

use toml_edit::Document;

use super::section::{Findings, Section};
use super::{
    Auth, AuthMode, BadConfig, Challenge, Config, Fsync, Limits, Mistake, Recovery, SocketIo, Storage, check,
};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);
/// Smallest bound on bytes that still lets a chat message through, in bytes.
const SMALLEST_BYTES: usize = 1 << 10;
/// Largest bound on bytes, in bytes.
const LARGEST_BYTES: usize = 1 << 30;

/// Settings read from a file, not yet checked against each other.
#[derive(Debug)]
pub(super) struct FromFile {
    pub(super) config: Config,
    /// All that is wrong, in the order of the file.
    pub(super) mistakes: Vec<Mistake>,
    pub(super) places: check::Places,
}

/// Reads and checks a file on its own, as if there were no flags and no environment.
pub fn check_file(file: &str, text: &str) -> Result<Config, BadConfig> {
    let FromFile { config, mut mistakes, places } = read(file, text);
    mistakes.extend(check::mistakes(&config, &places));
    if mistakes.is_empty() { Ok(config) } else { Err(BadConfig(mistakes)) }
}

/// Reads `text`; `file` is its name in mistakes.
pub(super) fn read(file: &str, text: &str) -> FromFile {
    let mut config = Config::default();
    let mut findings = Findings::new(file, text);
    match Document::parse(text) {
        Ok(document) => {
            Section::read(document.as_table(), String::new(), &mut findings, |s| top(s, &mut config));
        }
        Err(error) => {
            let message = error.message().lines().collect::<Vec<_>>().join("; ");
            findings.add(error.span(), "", message);
        }
    }
    let (mistakes, lines) = findings.finish();
    FromFile { config, mistakes, places: check::Places::new(file, lines) }
}

fn top(s: &mut Section<'_, '_>, config: &mut Config) {
    s.list(
        "listen",
        "an address and a port such as \"127.0.0.1:4000\"",
        |t| t.parse().ok(),
        &mut config.listen,
    );
    let mut data_dir = String::new();
    s.text("data_dir", &mut data_dir);
    if !data_dir.is_empty() {
        config.data_dir = PathBuf::from(data_dir);
    }
    s.number("workers", 0..=super::WORKERS_MAX, &mut config.workers);
    s.duration("drain_timeout", 100 * MS..=HOUR, &mut config.drain_timeout);
    s.duration("hang_timeout", 2 * SECOND..=HOUR, &mut config.hang_timeout);
    s.duration("ready_timeout", SECOND..=HOUR, &mut config.ready_timeout);
    let origin = "an origin such as \"https://chat.example.org\"";
    s.list("allowed_origins", origin, check::origin, &mut config.allowed_origins);
    let proxy = "an address or a network such as \"10.0.0.0/8\"";
    s.list("trusted_proxies", proxy, check::network, &mut config.trusted_proxies);
    s.list("admins", "a user name", check::not_empty, &mut config.admins);
    s.section("auth", |s| auth(s, &mut config.auth));
    s.section("storage", |s| storage(s, &mut config.storage));
    s.section("socketio", |s| socketio(s, &mut config.socketio));
    s.section("limits", |s| limits(s, &mut config.limits));
    s.section("challenge", |s| challenge(s, &mut config.challenge));
}

fn auth(s: &mut Section<'_, '_>, auth: &mut Auth) {
    s.choice("mode", &[("token", AuthMode::Token), ("open", AuthMode::Open)], &mut auth.mode);
    s.secret("jwt_secret", &mut auth.jwt_secret);
    s.duration("token_ttl", SECOND..=3650 * DAY, &mut auth.token_ttl);
    s.duration("ticket_ttl", SECOND..=HOUR, &mut auth.ticket_ttl);
    s.duration("expiry_warning", Duration::ZERO..=DAY, &mut auth.expiry_warning);
    s.flag("allow_open_on_public", &mut auth.allow_open_on_public);
    let argon2 = &mut auth.argon2;
    s.section("argon2", |s| {
        s.number("memory_kib", 8..=4 << 20, &mut argon2.memory_kib);
        s.number("iterations", 1..=1_000, &mut argon2.iterations);
        s.number("parallelism", 1..=255, &mut argon2.parallelism);
    });
}

fn storage(s: &mut Section<'_, '_>, storage: &mut Storage) {
    let words = [("always", Fsync::Always), ("interval", Fsync::Interval), ("never", Fsync::Never)];
    s.choice("fsync", &words, &mut storage.fsync);
    s.duration("flush_interval", MS..=MINUTE, &mut storage.flush_interval);
    s.number("batch_max_messages", 1..=1_000_000, &mut storage.batch_max_messages);
    s.number("messages_per_file", 1..=1_000_000_000, &mut storage.messages_per_file);
    s.number("dedup_window_messages", 1..=100_000_000, &mut storage.dedup_window_messages);
    s.number("reserve_bytes", 0..=1 << 40, &mut storage.reserve_bytes);
    s.number("scrub_bytes_per_second", 0..=1 << 40, &mut storage.scrub_bytes_per_second);
    s.duration("scrub_interval", SECOND..=365 * DAY, &mut storage.scrub_interval);
    s.number("compact_min_bytes", 1 << 10..=1 << 50, &mut storage.compact_min_bytes);
    s.number("compact_live_percent", 1..=99, &mut storage.compact_live_percent);
}

fn socketio(s: &mut Section<'_, '_>, socketio: &mut SocketIo) {
    s.duration("ping_interval", 100 * MS..=HOUR, &mut socketio.ping_interval);
    s.duration("ping_timeout", 100 * MS..=HOUR, &mut socketio.ping_timeout);
    s.number("max_payload", SMALLEST_BYTES..=LARGEST_BYTES, &mut socketio.max_payload);
    let words = [("auto", Recovery::Auto), ("always", Recovery::Always), ("explicit", Recovery::Explicit)];
    s.choice("recovery", &words, &mut socketio.recovery);
    s.number("recovery_messages", 1..=10_000_000, &mut socketio.recovery_messages);
}

fn limits(s: &mut Section<'_, '_>, limits: &mut Limits) {
    let rate = 0..=1_000_000_000;
    s.number("messages_per_second", rate.clone(), &mut limits.messages_per_second);
    s.number("typing_per_second", rate.clone(), &mut limits.typing_per_second);
    s.number("joins_per_second", rate.clone(), &mut limits.joins_per_second);
    s.number("leaves_per_second", rate.clone(), &mut limits.leaves_per_second);
    s.number("history_per_second", rate.clone(), &mut limits.history_per_second);
    s.number("changes_per_second", rate, &mut limits.changes_per_second);
    s.number("login_failures_per_user", 0..=1_000_000, &mut limits.login_failures_per_user);
    s.number("login_failures_per_address", 0..=1_000_000, &mut limits.login_failures_per_address);
    s.duration("login_failures_window", SECOND..=DAY, &mut limits.login_failures_window);
    s.number("content_chars", 1..=10_000_000, &mut limits.content_chars);
    s.number("rooms_per_user", 1..=1_000_000_000, &mut limits.rooms_per_user);
    s.number("connections_per_worker", 1..=10_000_000, &mut limits.connections_per_worker);
    s.number("connections_per_user", 1..=10_000_000, &mut limits.connections_per_user);
    s.number("connections_per_address", 0..=10_000_000, &mut limits.connections_per_address);
    let bytes = SMALLEST_BYTES..=LARGEST_BYTES;
    s.number("outgoing_bytes_per_connection", bytes.clone(), &mut limits.outgoing_bytes_per_connection);
    s.duration("handshake_timeout", 100 * MS..=10 * MINUTE, &mut limits.handshake_timeout);
    s.duration("keep_alive_timeout", 100 * MS..=HOUR, &mut limits.keep_alive_timeout);
    s.number("body_bytes", bytes, &mut limits.body_bytes);
    let per_worker = SMALLEST_BYTES..=64 * LARGEST_BYTES;
    s.number("unfinished_bytes_per_worker", per_worker.clone(), &mut limits.unfinished_bytes_per_worker);
    s.number("body_bytes_per_worker", per_worker, &mut limits.body_bytes_per_worker);
    s.duration("body_timeout", 100 * MS..=10 * MINUTE, &mut limits.body_timeout);
    s.number("body_bytes_per_second", 1..=LARGEST_BYTES, &mut limits.body_bytes_per_second);
}

fn challenge(s: &mut Section<'_, '_>, challenge: &mut Challenge) {
    s.flag("test_login", &mut challenge.test_login);
    s.duration("ticket_ttl", super::TICKET_TTL_MIN..=super::TICKET_TTL_MAX, &mut challenge.ticket_ttl);
    s.duration("ready_before", Duration::ZERO..=7 * DAY, &mut challenge.ready_before);
    s.duration("idle_timeout", SECOND..=DAY, &mut challenge.idle_timeout);
    s.duration("update_tick", 10 * MS..=MINUTE, &mut challenge.update_tick);
    s.number("updates_per_tick", 1..=100_000, &mut challenge.updates_per_tick);
    s.text("time_zone", &mut challenge.time_zone);
    s.text("server_id", &mut challenge.server_id);
    s.text("ws_url", &mut challenge.ws_url);
}
