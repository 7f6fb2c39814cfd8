//! The configuration from an operator's side: files, variables and flags in, settings or mistakes out.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;

use super::*;

/// The file of the contract: every setting with its default.
const DOCUMENTED: &str = r#"
listen = ["127.0.0.1:4000"]
data_dir = "data/storage"
workers = 0                      # 0: one per available core
drain_timeout = "30s"
allowed_origins = []             # empty: same origin and loopback
trusted_proxies = []
admins = []

[auth]
mode = "token"                   # or "open"
jwt_secret = ""                  # empty: generated once into data_dir
token_ttl = "24h"
allow_open_on_public = false
[auth.argon2]
memory_kib = 19456
iterations = 2
parallelism = 1

[storage]
fsync = "always"                 # or "interval", "never"
flush_interval = "50ms"          # longest wait of a record for its batch
batch_max_messages = 1000        # largest batch; the older back end used 100
messages_per_file = 100000

[socketio]
ping_interval = "25s"
ping_timeout = "20s"
max_payload = 1000000            # bytes
recovery = "auto"                # or "always", "explicit"
recovery_messages = 10000        # most messages replayed to one returning client

[limits]
messages_per_second = 1000       # per user; 0: no limit
content_chars = 4000
rooms_per_user = 100000
connections_per_worker = 100000
connections_per_user = 1000
connections_per_address = 0      # 0: no limit
outgoing_bytes_per_connection = 1048576
handshake_timeout = "10s"
body_bytes = 104857600           # batch calls carry up to 100,000 entries

[challenge]
test_login = false
ticket_ttl = "30s"
ready_before = "5m"
idle_timeout = "60s"
update_tick = "200ms"
time_zone = "Asia/Seoul"
server_id = ""                   # empty: host name
ws_url = ""                      # empty: made from the request's Host
"#;

/// The mistakes in a file, one line each.
fn mistakes(text: &str) -> Vec<String> {
    match check_file("m.toml", text) {
        Ok(config) => panic!("no mistake found, but {config:?}"),
        Err(BadConfig(mistakes)) => mistakes.iter().map(ToString::to_string).collect(),
    }
}

/// Loads with variables and flags on top of a file.
fn load_with(
    file: &str,
    variables: &[(&str, &str)],
    change: impl FnOnce(&mut Flags),
) -> Result<Config, BadConfig> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("minitalk.toml");
    fs::write(&path, file).unwrap();
    let variables: HashMap<String, OsString> =
        variables.iter().map(|(name, value)| ((*name).to_owned(), OsString::from(value))).collect();
    let mut flags = Flags { config: Some(path), ..Flags::default() };
    change(&mut flags);
    load(&flags, &|name| variables.get(name).cloned())
}

#[test]
fn the_documented_file_is_the_default() {
    assert_eq!(check_file("m.toml", DOCUMENTED), Ok(Config::default()));
    assert_eq!(check_file("m.toml", ""), Ok(Config::default()));
}

#[test]
fn workers_are_the_available_cores_unless_said() {
    let config = load(&Flags::default(), &|_| None).unwrap();
    assert!(config.workers >= 1);
    assert_eq!(Config { workers: 0, ..config }, Config::default());
}

#[test]
fn every_mistake_is_named_with_its_line() {
    let text =
        "workers = -1\ndrain_timeout = 30\n\n[storage]\nfsync = \"sometimes\"\nbatch_max_messages = 0\n";
    assert_eq!(
        mistakes(text),
        [
            "m.toml:1: workers: expected a whole number from 0 to 1024, found -1",
            "m.toml:2: drain_timeout: expected a duration from \"100ms\" to \"1h\", found 30",
            "m.toml:5: storage.fsync: expected \"always\" or \"interval\" or \"never\", found \"sometimes\"",
            "m.toml:6: storage.batch_max_messages: expected a whole number from 1 to 1000000, found 0",
        ]
    );
}

#[test]
fn unknown_keys_are_mistakes_with_a_guess_at_what_was_meant() {
    assert_eq!(
        mistakes("wrokers = 1\n[limit]\ncontent_chars = 1\n[auth]\nsecret_key_file = \"x\"\n"),
        [
            "m.toml:1: wrokers: unknown; did you mean workers?",
            "m.toml:2: limit: unknown; did you mean limits?",
            "m.toml:5: auth.secret_key_file: unknown; there are: mode, jwt_secret, token_ttl, ticket_ttl, \
             expiry_warning, allow_open_on_public, argon2",
        ]
    );
}

#[test]
fn what_is_no_toml_is_one_mistake_with_its_line() {
    let found = mistakes("workers = 1\nlisten = [\"127.0.0.1:4000\"\ndata_dir = \"x\"\n");
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("m.toml:2: ") || found[0].starts_with("m.toml:3: "), "{found:?}");
    assert_eq!(found[0].lines().count(), 1, "{found:?}");
}

#[test]
fn values_out_of_range_are_mistakes() {
    for (line, key) in [
        ("listen = []", "listen"),
        ("listen = [\"localhost:4000\"]", "listen"),
        ("listen = [\"127.0.0.1:4000\", \"127.0.0.1:4000\"]", "listen"),
        ("listen = \"127.0.0.1:4000\"", "listen"),
        ("data_dir = 7", "data_dir"),
        ("drain_timeout = \"0s\"", "drain_timeout"),
        ("allowed_origins = [\"chat.example.org\"]", "allowed_origins"),
        ("trusted_proxies = [\"10.0.0.0/33\"]", "trusted_proxies"),
        ("admins = [\"\"]", "admins"),
        ("auth = 1", "auth"),
        ("auth.token_ttl = \"0s\"", "auth.token_ttl"),
        ("auth.ticket_ttl = \"0s\"", "auth.ticket_ttl"),
        ("auth.expiry_warning = \"2d\"", "auth.expiry_warning"),
        ("auth.argon2.memory_kib = 7", "auth.argon2.memory_kib"),
        ("auth.argon2.iterations = 0", "auth.argon2.iterations"),
        ("auth.argon2 = { memory_kib = 16, parallelism = 3 }", "auth.argon2.memory_kib"),
        ("storage.flush_interval = \"0ms\"", "storage.flush_interval"),
        ("storage.messages_per_file = 0", "storage.messages_per_file"),
        ("socketio.ping_interval = \"0s\"", "socketio.ping_interval"),
        ("socketio.max_payload = 1023", "socketio.max_payload"),
        ("socketio.max_payload = 1e6", "socketio.max_payload"),
        ("limits.content_chars = 0", "limits.content_chars"),
        ("limits.body_bytes = \"1 MB\"", "limits.body_bytes"),
        ("limits.unfinished_bytes_per_worker = 3999999", "limits.unfinished_bytes_per_worker"),
        ("challenge.update_tick = \"0ms\"", "challenge.update_tick"),
        ("challenge.test_login = \"yes\"", "challenge.test_login"),
    ] {
        let found = mistakes(line);
        assert_eq!(found.len(), 1, "{line}: {found:?}");
        assert!(found[0].starts_with(&format!("m.toml:1: {key}: ")), "{line}: {found:?}");
    }
}

#[test]
fn zero_is_no_limit_only_where_said() {
    let config = check_file("m.toml", "limits.messages_per_second = 0\nlimits.connections_per_address = 0\n");
    assert_eq!(config.unwrap().limits.messages_per_second, 0);
}

#[test]
fn a_mistake_never_repeats_a_secret() {
    let found = mistakes("auth.jwt_secret = 123456789\n");
    assert_eq!(found, ["m.toml:1: auth.jwt_secret: expected a text in quotes, found: integer"]);
}

#[test]
fn open_mode_needs_loopback_or_a_word_that_it_is_meant() {
    let open = "auth.mode = \"open\"\n";
    let public = "listen = [\"127.0.0.1:1\", \"0.0.0.0:2\"]\n";
    assert!(check_file("m.toml", open).is_ok());
    assert!(check_file("m.toml", &format!("{open}listen = [\"[::1]:4000\", \"127.9.9.9:1\"]\n")).is_ok());
    assert!(check_file("m.toml", &format!("{open}{public}auth.allow_open_on_public = true\n")).is_ok());
    let found = mistakes(&format!("{public}{open}"));
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("m.toml:2: auth.mode: ") && found[0].contains("0.0.0.0:2"), "{found:?}");
}

#[test]
fn a_flag_may_make_open_mode_public_and_is_refused_too() {
    let open = "auth.mode = \"open\"\n";
    load_with(open, &[], |_| {}).unwrap();
    let error = load_with(open, &[], |flags| flags.listen = vec!["0.0.0.0:0".parse().unwrap()]);
    assert!(error.unwrap_err().to_string().contains("allow_open_on_public"));
}

#[test]
fn flags_beat_environment_and_environment_beats_the_file() {
    let file = "workers = 1\nlisten = [\"127.0.0.1:1\"]\ndata_dir = \"from_file\"\nauth.jwt_secret = \"f\"\n";
    let config = load_with(file, &[], |_| {}).unwrap();
    assert_eq!((config.workers, config.listen[0].port()), (1, 1));
    assert_eq!((config.data_dir, config.auth.jwt_secret), (PathBuf::from("from_file"), "f".to_owned()));

    let variables = [
        ("MINITALK_WORKERS", "2"),
        ("MINITALK_LISTEN", "127.0.0.1:2, [::1]:2"),
        ("MINITALK_DATA_DIR", "from_environment"),
        ("JWT_SECRET", "e"),
        ("WEBSOCKET_TICKET_TTL", "7"),
    ];
    let config = load_with(file, &variables, |_| {}).unwrap();
    assert_eq!((config.workers, config.listen.len(), config.listen[1].port()), (2, 2, 2));
    assert_eq!(
        (config.data_dir, config.auth.jwt_secret),
        (PathBuf::from("from_environment"), "e".to_owned())
    );
    assert_eq!(config.challenge.ticket_ttl, Duration::from_secs(7));

    let config = load_with(file, &variables, |flags| {
        flags.workers = Some(3);
        flags.listen = vec!["127.0.0.1:3".parse().unwrap()];
        flags.data_dir = Some(PathBuf::from("from_flag"));
    })
    .unwrap();
    assert_eq!((config.workers, config.listen[0].port()), (3, 3));
    assert_eq!(config.data_dir, PathBuf::from("from_flag"));
}

#[test]
fn the_file_may_be_named_by_the_environment() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.toml");
    fs::write(&path, "workers = 9\n").unwrap();
    let environment = |name: &str| (name == "MINITALK_CONFIG").then(|| path.clone().into_os_string());
    assert_eq!(load(&Flags::default(), &environment).unwrap().workers, 9);
}

#[test]
fn bad_variables_are_mistakes_and_empty_ones_are_none() {
    let names = ["MINITALK_WORKERS", "MINITALK_LISTEN", "WEBSOCKET_TICKET_TTL"];
    for name in names {
        let error = load_with("", &[(name, "many")], |_| {}).unwrap_err();
        assert!(error.to_string().starts_with(&format!("{name}: expected ")), "{error}");
    }
    let empty = names.map(|name| (name, ""));
    assert_eq!(load_with("workers = 1\n", &empty, |_| {}).unwrap().listen, Config::default().listen);
}

#[test]
fn a_file_that_is_not_there_is_one_line() {
    let flags = Flags { config: Some(PathBuf::from("/nonexistent/m.toml")), ..Flags::default() };
    let error = load(&flags, &|_| None).unwrap_err().to_string();
    assert!(error.starts_with("/nonexistent/m.toml: cannot be read: "), "{error}");
}

#[test]
fn settings_survive_the_way_to_a_child() {
    let config = check_file("m.toml", DOCUMENTED).unwrap();
    let text = serde_json::to_string(&config).unwrap();
    assert_eq!(serde_json::from_str::<Config>(&text).unwrap(), config);
}

/// The example that operators begin with.
const EXAMPLE: &str = include_str!("../../systemd/minitalk.toml");

/// Each setting there is, as `section.key`.
fn every_setting(settings: &serde_json::Value, prefix: &str, into: &mut Vec<String>) {
    for (key, value) in settings.as_object().into_iter().flatten() {
        let key = format!("{prefix}{key}");
        if value.is_object() && value.get("secs").is_none() {
            every_setting(value, &format!("{key}."), into);
        } else {
            into.push(key);
        }
    }
}

#[test]
fn the_example_has_every_setting_with_its_default() {
    assert_eq!(check_file("minitalk.toml", EXAMPLE), Ok(Config::default()));
    let mut settings = Vec::new();
    every_setting(&serde_json::to_value(Config::default()).unwrap(), "", &mut settings);
    assert!(settings.len() > 60, "{settings:?}");
    let (_, origins) = shown(EXAMPLE, &[], |flags| flags.workers = Some(1));
    let missing: Vec<_> = settings.iter().filter(|key| !origins.contains_key(*key)).collect();
    assert_eq!(missing, Vec::<&String>::new());
}

/// What `--print-config` shows, and the origins by setting.
fn shown(file: &str, variables: &[(&str, &str)], change: impl FnOnce(&mut Flags)) -> (String, Origins) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.toml");
    fs::write(&path, file).unwrap();
    let variables: HashMap<String, OsString> =
        variables.iter().map(|(name, value)| ((*name).to_owned(), OsString::from(value))).collect();
    let mut flags = Flags { config: Some(path.clone()), ..Flags::default() };
    change(&mut flags);
    let (config, origins) = load_with_origins(&flags, &|name| variables.get(name).cloned()).unwrap();
    let page = show(&config, &origins).replace(&path.display().to_string(), "m.toml");
    (page, origins)
}

#[test]
fn what_is_in_effect_is_shown_with_where_it_came_from() {
    let file = "drain_timeout = \"1500ms\"\nworkers = 3\n[auth]\njwt_secret = \"tell nobody\"\n[storage]\nfsync = \"never\"\n";
    let variables = [("MINITALK_WORKERS", "2"), ("WEBSOCKET_TICKET_TTL", "7"), ("JWT_SECRET", "nor this")];
    let (page, _) = shown(file, &variables, |flags| flags.data_dir = Some(PathBuf::from("a \"b\"")));
    let has = |value: &str, origin: &str| {
        let is_it =
            |line: &str| line.split_once(" # ").is_some_and(|(v, o)| v.trim_end() == value && o == origin);
        assert!(page.lines().any(is_it), "{value} from {origin} is not in\n{page}");
    };
    has("drain_timeout = \"1500ms\"", "m.toml:1");
    has("workers = 2", "MINITALK_WORKERS");
    has("data_dir = 'a \"b\"'", "--data-dir");
    has("jwt_secret = \"(hidden)\"", "JWT_SECRET");
    has("fsync = \"never\"", "m.toml:6");
    has("ticket_ttl = \"7s\"", "WEBSOCKET_TICKET_TTL");
    has("mode = \"token\"", "default");
    assert!(!page.contains("nor this") && !page.contains("tell nobody"), "{page}");
    // It is a file again: the same settings but for the secret.
    let again = check_file("m.toml", &page).unwrap();
    assert_eq!((again.storage.fsync, again.workers), (Fsync::Never, 2));
    assert_eq!(again.limits, Config::default().limits);
}

#[test]
fn workers_for_each_core_say_so() {
    let (page, _) = shown("workers = 0\n", &[], |_| {});
    assert!(page.contains("# m.toml:1: one for each core available\n"), "{page}");
    assert!(shown("", &[], |_| {}).0.contains("# default: one for each core available\n"));
}

#[test]
fn challenge_settings_are_looked_into() {
    let text = "[challenge]\ntime_zone = \"Korea\"\nserver_id = \"a/b\"\nws_url = \"http://a\"\n";
    assert_eq!(
        mistakes(text),
        [
            "m.toml:2: challenge.time_zone: expected the name of a time zone such as \"Asia/Seoul\", found \"Korea\"",
            "m.toml:3: challenge.server_id: expected letters, digits, '-', '_' and '.' only",
            "m.toml:4: challenge.ws_url: expected an address such as \"wss://run.example.org\"",
        ]
    );
    let good =
        "[challenge]\ntime_zone = \"Europe/Berlin\"\nserver_id = \"run-1\"\nws_url = \"wss://a.example/x\"\n";
    assert!(check_file("m.toml", good).is_ok());
}
