//! All sources put together: flags beat environment, environment beats the file, the file beats defaults.

use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use super::{BadConfig, Config, Mistake, Origins, TICKET_TTL_MAX, TICKET_TTL_MIN, WORKERS_MAX, check, read};

/// The environment: the value of a variable, if it is set.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// What was typed on the command line; absent things come from elsewhere.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// `--config`
    pub config: Option<PathBuf>,
    /// `--listen`, as often as it was given.
    pub listen: Vec<SocketAddr>,
    /// `--data-dir`
    pub data_dir: Option<PathBuf>,
    /// `--workers`; 0: one per available core.
    pub workers: Option<u16>,
}

/// The settings to run with, or everything that is wrong with them.
pub fn load(flags: &Flags, environment: Environment<'_>) -> Result<Config, BadConfig> {
    load_with_origins(flags, environment).map(|(config, _)| config)
}

/// The same, and where each setting came from that is not the default.
pub fn load_with_origins(
    flags: &Flags,
    environment: Environment<'_>,
) -> Result<(Config, Origins), BadConfig> {
    let variables = Variables { environment };
    let mut mistakes = Vec::new();
    let file = flags.config.clone().or_else(|| variables.path("MINITALK_CONFIG"));
    let (mut config, places) = match file {
        None => (Config::default(), check::Places::default()),
        Some(file) => {
            let name = file.display().to_string();
            let text = fs::read_to_string(&file).map_err(|error| {
                let text = format!("cannot be read: {error}");
                BadConfig(vec![Mistake { place: name.clone(), key: String::new(), text }])
            })?;
            let from_file = read::read(&name, &text);
            mistakes = from_file.mistakes;
            (from_file.config, from_file.places)
        }
    };
    let mut origins = places.origins();
    variables.apply(&mut config, &mut mistakes, &mut origins);
    apply_flags(flags, &mut config, &mut origins);
    mistakes.extend(check::mistakes(&config, &places));
    if !mistakes.is_empty() {
        return Err(BadConfig(mistakes));
    }
    if config.workers == 0 {
        config.workers = available_cores();
        let origin = origins.entry("workers".to_owned()).or_insert_with(|| "default".to_owned());
        *origin += ": one for each core available";
    }
    Ok((config, origins))
}

fn apply_flags(flags: &Flags, config: &mut Config, origins: &mut Origins) {
    let mut came = |key: &str, from: &str| drop(origins.insert(key.to_owned(), from.to_owned()));
    if !flags.listen.is_empty() {
        config.listen.clone_from(&flags.listen);
        came("listen", "--listen");
    }
    if let Some(data_dir) = &flags.data_dir {
        config.data_dir.clone_from(data_dir);
        came("data_dir", "--data-dir");
    }
    if let Some(workers) = flags.workers {
        config.workers = workers;
        came("workers", "--workers");
    }
}

/// Cores this process may run on, as its affinity and its cgroup say.
fn available_cores() -> u16 {
    let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    u16::try_from(cores).unwrap_or(WORKERS_MAX).min(WORKERS_MAX)
}

/// Which variable sets which setting.
const VARIABLES: [(&str, &str); 5] = [
    ("MINITALK_LISTEN", "listen"),
    ("MINITALK_DATA_DIR", "data_dir"),
    ("MINITALK_WORKERS", "workers"),
    ("JWT_SECRET", "auth.jwt_secret"),
    ("WEBSOCKET_TICKET_TTL", "challenge.ticket_ttl"),
];

struct Variables<'a> {
    environment: Environment<'a>,
}

impl Variables<'_> {
    fn apply(&self, config: &mut Config, mistakes: &mut Vec<Mistake>, origins: &mut Origins) {
        for (name, key) in VARIABLES {
            if self.get(name).is_some() {
                origins.insert(key.to_owned(), name.to_owned());
            }
        }
        let addresses = |text: &str| text.split(',').map(|one| one.trim().parse().ok()).collect();
        let expected = "addresses such as 127.0.0.1:4000, separated by commas";
        self.value("MINITALK_LISTEN", expected, addresses, &mut config.listen, mistakes);
        if let Some(data_dir) = self.path("MINITALK_DATA_DIR") {
            config.data_dir = data_dir;
        }
        let workers = |text: &str| text.parse().ok().filter(|workers| *workers <= WORKERS_MAX);
        let expected = format!("a whole number from 0 to {WORKERS_MAX}");
        self.value("MINITALK_WORKERS", &expected, workers, &mut config.workers, mistakes);
        let secret = |text: &str| Some(text.to_owned());
        self.value("JWT_SECRET", "a text", secret, &mut config.auth.jwt_secret, mistakes);
        let ttl = |text: &str| {
            let ttl = Duration::from_secs(text.parse().ok()?);
            (TICKET_TTL_MIN..=TICKET_TTL_MAX).contains(&ttl).then_some(ttl)
        };
        let expected = format!("seconds from {} to {}", TICKET_TTL_MIN.as_secs(), TICKET_TTL_MAX.as_secs());
        self.value("WEBSOCKET_TICKET_TTL", &expected, ttl, &mut config.challenge.ticket_ttl, mistakes);
    }

    /// Sets `into` from the variable. A mistake does not repeat the value: it may be a secret.
    fn value<T>(
        &self,
        name: &str,
        expected: &str,
        parse: impl FnOnce(&str) -> Option<T>,
        into: &mut T,
        mistakes: &mut Vec<Mistake>,
    ) {
        let Some(text) = self.get(name) else { return };
        match text.to_str().and_then(parse) {
            Some(value) => *into = value,
            None => {
                let text = format!("expected {expected}");
                mistakes.push(Mistake { place: name.to_owned(), key: String::new(), text });
            }
        }
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        self.get(name).map(PathBuf::from)
    }

    /// A variable set to nothing is as good as none: unit files and shells make such.
    fn get(&self, name: &str) -> Option<OsString> {
        (self.environment)(name).filter(|value| !value.is_empty())
    }
}
