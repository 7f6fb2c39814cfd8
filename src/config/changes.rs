//! What a new configuration changes while the server runs.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{Config, show};

/// Settings that sockets, files and processes are made by, once.
const FIXED: [&str; 3] = ["listen", "data_dir", "workers"];

/// Settings that the storage writer works by, and what they begin with.
const WRITERS: [&str; 6] = [
    "storage.",
    "limits.rooms_per_user",
    "limits.messages_per_second",
    "limits.changes_per_second",
    "limits.connections_per_address",
    "limits.connections_per_user",
];

/// A running server's next configuration.
#[derive(Debug, PartialEq)]
pub struct Next {
    /// The new one, with the old one's fixed settings.
    pub config: Config,
    /// A line for each setting that is different.
    pub notes: Vec<String>,
    /// The storage writer works by one of them.
    pub concerns_storage: bool,
}

/// What follows `running`, if `read` is what the sources say now.
pub fn next(running: &Config, mut read: Config) -> Next {
    if is_same_listen(running, &read) {
        read.listen.clone_from(&running.listen);
    }
    let (before, after) = (settings(running), settings(&read));
    let changed = || after.iter().filter(|(key, value)| before.get(*key) != Some(*value));
    let note = |(key, value): (&String, &String)| {
        let old = before.get(key).map_or("-", String::as_str);
        let fixed = if FIXED.contains(&key.as_str()) { "; needs a restart, kept as it was" } else { "" };
        format!("{key}: {old} -> {value}{fixed}")
    };
    let mut notes: Vec<String> = changed().map(note).collect();
    if running.auth.jwt_secret != read.auth.jwt_secret {
        notes.push("auth.jwt_secret: changed; tokens signed with the old one end".to_owned());
    }
    let concerns_storage = changed().any(|(key, _)| WRITERS.iter().any(|prefix| key.starts_with(prefix)));
    read.listen.clone_from(&running.listen);
    read.data_dir.clone_from(&running.data_dir);
    read.workers = running.workers;
    Next { config: read, notes, concerns_storage }
}

/// The settings of a running server, which may be of another version: what that does not know is as by
/// default, what only that knows is left out.
///
/// # Errors
/// They can't be understood even so.
pub fn of_other_version(settings: &Value) -> serde_json::Result<Config> {
    let mut merged = serde_json::to_value(Config::default())?;
    merge(&mut merged, settings);
    serde_json::from_value(merged)
}

fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from.clone(),
    }
}

/// Port 0 asked for any port, and has one.
fn is_same_listen(running: &Config, read: &Config) -> bool {
    let same = |(has, asked): (&std::net::SocketAddr, &std::net::SocketAddr)| {
        has.ip() == asked.ip() && (has.port() == asked.port() || asked.port() == 0)
    };
    running.listen.len() == read.listen.len() && running.listen.iter().zip(&read.listen).all(same)
}

/// Each setting as the file has it, secrets masked.
fn settings(config: &Config) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    if let Ok(Value::Object(settings)) = serde_json::to_value(config) {
        gather(&settings, "", &mut all);
    }
    all
}

fn gather(settings: &Map<String, Value>, prefix: &str, all: &mut BTreeMap<String, String>) {
    for (short, value) in settings {
        let key = format!("{prefix}{short}");
        match (show::text(&key, value), value) {
            (Some(text), _) => drop(all.insert(key, text)),
            (None, Value::Object(inner)) => gather(inner, &format!("{key}."), all),
            (None, _) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn running() -> Config {
        let mut config = Config { listen: vec!["127.0.0.1:4123".parse().unwrap()], ..Config::default() };
        config.workers = 2;
        config.auth.jwt_secret = "one".to_owned();
        config
    }

    #[test]
    fn what_was_not_touched_is_no_change() {
        let mut read = running();
        read.listen = vec!["127.0.0.1:0".parse().unwrap()];
        let next = next(&running(), read);
        assert_eq!((next.config, next.notes, next.concerns_storage), (running(), Vec::new(), false));
    }

    #[test]
    fn changes_are_named_and_what_is_fixed_stays() {
        let mut read = running();
        read.workers = 3;
        read.limits.content_chars = 10;
        read.drain_timeout = Duration::from_secs(7);
        read.auth.jwt_secret = "two".to_owned();
        let next = next(&running(), read);
        assert_eq!(next.config.workers, 2);
        assert_eq!(next.config.limits.content_chars, 10);
        assert_eq!(
            next.notes,
            [
                "drain_timeout: \"30s\" -> \"7s\"",
                "limits.content_chars: 4000 -> 10",
                "workers: 2 -> 3; needs a restart, kept as it was",
                "auth.jwt_secret: changed; tokens signed with the old one end",
            ]
        );
        assert!(!next.concerns_storage);
    }

    #[test]
    fn settings_of_another_version_are_understood() {
        let mut settings = serde_json::to_value(running()).unwrap();
        settings["limits"].as_object_mut().unwrap().remove("content_chars");
        settings["auth"]["unheard_of"] = 1.into();
        settings["unheard_of"] = serde_json::json!({"a": 1});
        assert_eq!(of_other_version(&settings).unwrap(), running());
        settings["workers"] = "many".into();
        of_other_version(&settings).unwrap_err();
    }

    #[test]
    fn what_the_writer_works_by_concerns_it() {
        let mut read = running();
        read.storage.batch_max_messages = 7;
        assert!(next(&running(), read).concerns_storage);
        let mut read = running();
        read.limits.messages_per_second += 1;
        assert!(next(&running(), read).concerns_storage);
    }
}
