//! What makes sense only together, and the texts that are more than texts.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::{AuthMode, Config, LISTEN_MAX, Mistake, Network};

/// Where each setting of a file stands.
#[derive(Debug, Default)]
pub(super) struct Places {
    file: String,
    lines: BTreeMap<String, usize>,
}

impl Places {
    pub(super) fn new(file: &str, lines: BTreeMap<String, usize>) -> Places {
        Places { file: file.to_owned(), lines }
    }

    /// `FILE:LINE` of each setting that the file has.
    pub(super) fn origins(&self) -> BTreeMap<String, String> {
        self.lines.iter().map(|(key, line)| (key.clone(), format!("{}:{line}", self.file))).collect()
    }

    /// `FILE:LINE`; empty for a setting that is not from the file.
    fn of(&self, key: &str) -> String {
        self.lines.get(key).map(|line| format!("{}:{line}", self.file)).unwrap_or_default()
    }
}

/// All that is wrong with settings that are each fine alone.
pub(super) fn mistakes(config: &Config, places: &Places) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    let mut add = |key: &str, text: String| {
        mistakes.push(Mistake { place: places.of(key), key: key.to_owned(), text });
    };
    if config.listen.is_empty() || config.listen.len() > LISTEN_MAX {
        add("listen", format!("expected 1 to {LISTEN_MAX} addresses, found {}", config.listen.len()));
    }
    if let Some(twice) = first_repeated(&config.listen) {
        add("listen", format!("{twice} is there twice"));
    }
    if config.data_dir.as_os_str().is_empty() || config.data_dir.to_str().is_none() {
        add("data_dir", "expected a path in UTF-8".to_owned());
    }
    let public = config.listen.iter().find(|address| !address.ip().to_canonical().is_loopback());
    if let (AuthMode::Open, false, Some(public)) =
        (config.auth.mode, config.auth.allow_open_on_public, public)
    {
        let text = format!("\"open\" lets anybody be anybody, and other hosts can reach {public}; ");
        add("auth.mode", text + "listen on loopback only, or set auth.allow_open_on_public = true");
    }
    let limits = &config.limits;
    if limits.body_bytes_per_worker < limits.body_bytes {
        let text = format!("expected at least limits.body_bytes, which is {}", limits.body_bytes);
        add("limits.body_bytes_per_worker", text);
    }
    let least = config.socketio.max_payload.saturating_mul(4);
    if limits.unfinished_bytes_per_worker < least {
        let text = format!("expected at least four times socketio.max_payload, so {least}");
        add("limits.unfinished_bytes_per_worker", text);
    }
    let challenge = &config.challenge;
    if jiff::tz::TimeZone::get(&challenge.time_zone).is_err() {
        let text = format!(
            "expected the name of a time zone such as \"Asia/Seoul\", found \"{}\"",
            challenge.time_zone
        );
        add("challenge.time_zone", text);
    }
    if !is_segment(&challenge.server_id) {
        add("challenge.server_id", "expected letters, digits, '-', '_' and '.' only".to_owned());
    }
    if !is_ws_base(&challenge.ws_url) {
        add("challenge.ws_url", "expected an address such as \"wss://run.example.org\"".to_owned());
    }
    let argon2 = config.auth.argon2;
    if argon2.memory_kib < argon2.parallelism.saturating_mul(8) {
        let least = argon2.parallelism.saturating_mul(8);
        add("auth.argon2.memory_kib", format!("expected 8 per lane, so at least {least}"));
    }
    mistakes
}

/// `*`, or scheme, host and port with nothing after it, as browsers send it.
pub(super) fn origin(text: &str) -> Option<String> {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let is_origin = host.is_some_and(|host| !host.is_empty() && !host.contains(['/', '?', '#', '@', ' ']));
    (is_origin || text == "*").then(|| text.to_owned())
}

/// An address, alone or with the length of its network's prefix.
pub(super) fn network(text: &str) -> Option<String> {
    Network::parse(text).map(|_| text.to_owned())
}

pub(super) fn not_empty(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// May be a part of a path as it is; empty: something else stands in its place.
fn is_segment(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

/// Scheme, host and perhaps a path, onto which another path is put; empty: made from the request.
fn is_ws_base(text: &str) -> bool {
    let rest = text.strip_prefix("wss://").or_else(|| text.strip_prefix("ws://"));
    text.is_empty() || rest.is_some_and(|rest| !rest.is_empty() && !rest.contains(['?', '#', ' ', '"']))
}

/// Port 0 may be there often: each is another free port.
fn first_repeated(addresses: &[SocketAddr]) -> Option<SocketAddr> {
    let is_repeated = |(index, address): &(usize, &SocketAddr)| {
        address.port() != 0 && addresses[..*index].contains(address)
    };
    addresses.iter().enumerate().find(is_repeated).map(|(_, address)| *address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_recognised() {
        for good in ["*", "http://localhost:3000", "https://chat.example.org", "http://[::1]:80"] {
            assert!(origin(good).is_some(), "{good}");
        }
        for bad in ["", "chat.example.org", "https://", "https://a/b", "ftp://a", "https://a "] {
            assert!(origin(bad).is_none(), "{bad}");
        }
    }
}
