//! Scenario files: a load described in TOML. The presets are such files inside the program.
//!
//! A mistake is told with its line: a key that is not known, a value of the wrong kind or out of
//! range. `docs/load-scenarios.md` describes every key.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de::Error};

use crate::args;

/// A load, as written down. Flags override single values.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScenarioFile {
    /// Its name in reports.
    pub name: String,
    /// One line for a menu.
    #[serde(default)]
    pub about: String,
    /// Users, one connection each.
    #[serde(deserialize_with = "positive")]
    pub users: u32,
    /// Rooms the users are spread over evenly.
    #[serde(deserialize_with = "positive")]
    pub rooms: u32,
    /// Messages per second of all users together; what levels are percent of.
    #[serde(deserialize_with = "rate")]
    pub rate: f64,
    /// Connections begun per second.
    #[serde(default = "default_connect_rate", deserialize_with = "rate")]
    pub connect_rate: f64,
    /// Bytes of content, padded; without it messages are greetings.
    #[serde(default, deserialize_with = "size")]
    pub size: Option<usize>,
    /// The load over time.
    #[serde(rename = "phase")]
    pub phases: Vec<PhaseFile>,
    /// What is done beside sending.
    #[serde(default)]
    pub mix: Mix,
    /// What kinds of clients there are.
    #[serde(default)]
    pub clients: Clients,
    /// Users that drop their connections at once and come back.
    pub storm: Option<Storm>,
    /// Processes of the server that are killed.
    pub kill: Option<Kill>,
    /// Conditions that fail the run, as `--fail-if` takes them.
    #[serde(default)]
    pub fail_if: Vec<String>,
}

/// One phase.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PhaseFile {
    /// Its name in reports; its kind, if none is given.
    pub name: Option<String>,
    /// What happens in it.
    pub kind: PhaseKind,
    /// How long.
    #[serde(deserialize_with = "duration")]
    pub duration: Duration,
    /// Percent of the rate.
    #[serde(default = "default_level", deserialize_with = "level")]
    pub level: f64,
}

/// What a phase does with the pace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PhaseKind {
    /// From the level before it (0 at first) evenly to its own. At the begin it is not measured.
    Ramp,
    /// Its own level.
    Steady,
    /// Its own level at once; afterwards the level before it is what a ramp starts from.
    Spike,
    /// Its own level for long: memory is expected to stay where it is.
    Soak,
}

impl PhaseKind {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            PhaseKind::Ramp => "ramp",
            PhaseKind::Steady => "steady",
            PhaseKind::Spike => "spike",
            PhaseKind::Soak => "soak",
        }
    }
}

/// What is done beside sending, for each hundred messages sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Mix {
    /// `typing` events.
    #[serde(deserialize_with = "share")]
    pub typing: f64,
    /// Pages of history, over the socket.
    #[serde(deserialize_with = "share")]
    pub history: f64,
    /// Searches, over REST.
    #[serde(deserialize_with = "share")]
    pub search: f64,
    /// Connections dropped by their client, which comes back and asks for what it missed.
    #[serde(deserialize_with = "share")]
    pub reconnect: f64,
}

/// Kinds of clients, in percent of the users.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Clients {
    /// HTTP long polling instead of WebSocket.
    #[serde(deserialize_with = "percent")]
    pub polling: f64,
    /// Connected, but never reading.
    #[serde(deserialize_with = "percent")]
    pub slow_readers: f64,
}

/// Many come back at once.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Storm {
    /// Percent of the users.
    #[serde(deserialize_with = "percent")]
    pub reconnect: f64,
    /// From one to the next; once, in the middle of the load, without it.
    #[serde(default, deserialize_with = "some_every")]
    pub every: Option<Duration>,
}

/// A process of the server is killed again and again.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kill {
    /// Which.
    pub process: Victim,
    /// From one to the next.
    #[serde(deserialize_with = "every")]
    pub every: Duration,
}

/// Which process is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Victim {
    /// One of the workers, in turn.
    Worker,
    /// The storage writer.
    Writer,
}

impl Victim {
    /// Its `role` in `/api/stats`.
    pub fn role(self) -> &'static str {
        match self {
            Victim::Worker => "worker",
            Victim::Writer => "storage",
        }
    }
}

impl ScenarioFile {
    /// Reads a scenario, or says what is wrong with it and where.
    pub fn parse(text: &str) -> Result<ScenarioFile, String> {
        let file: ScenarioFile = toml_edit::de::from_str(text).map_err(|why| where_and_what(text, &why))?;
        if file.phases.is_empty() {
            return Err("a scenario needs at least one [[phase]]".into());
        }
        if file.duration().is_zero() {
            return Err("its phases last no time at all".into());
        }
        if file.rooms > file.users {
            return Err(format!("{} rooms need at least as many users", file.rooms));
        }
        if file.clients.polling + file.clients.slow_readers > 100.0 {
            return Err("[clients]: more than 100 percent together".into());
        }
        Ok(file)
    }

    /// How long the load lasts.
    pub fn duration(&self) -> Duration {
        self.phases.iter().map(|phase| phase.duration).sum()
    }
}

/// The message with its line in front, on one line.
fn where_and_what(text: &str, why: &toml_edit::de::Error) -> String {
    let what = why.message().replace('\n', ", ");
    match why.span() {
        Some(span) => {
            let line = text.get(..span.start).unwrap_or(text).matches('\n').count() + 1;
            format!("line {line}: {what}")
        }
        None => what,
    }
}

fn default_connect_rate() -> f64 {
    args::CONNECT_RATE
}

fn default_level() -> f64 {
    100.0
}

fn positive<'de, D: Deserializer<'de>>(from: D) -> Result<u32, D::Error> {
    Option::from(u32::deserialize(from)?)
        .filter(|n| *n > 0)
        .ok_or_else(|| D::Error::custom("must be at least 1"))
}

fn in_range<'de, D: Deserializer<'de>>(from: D, lowest: f64, highest: f64) -> Result<f64, D::Error> {
    let number = f64::deserialize(from)?;
    if (lowest..=highest).contains(&number) {
        return Ok(number);
    }
    Err(D::Error::custom(format!("must be from {lowest} to {highest}")))
}

fn rate<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    in_range(from, args::RATE_MIN, args::RATE_MAX)
}

fn level<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    in_range(from, 0.0, 10_000.0)
}

fn share<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    in_range(from, 0.0, 10_000.0)
}

fn percent<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    in_range(from, 0.0, 100.0)
}

fn size<'de, D: Deserializer<'de>>(from: D) -> Result<Option<usize>, D::Error> {
    let bytes = usize::deserialize(from)?;
    args::content_size(&bytes.to_string()).map(Some).map_err(D::Error::custom)
}

fn duration<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    args::duration(&String::deserialize(from)?).map_err(D::Error::custom)
}

fn every<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    args::every(&String::deserialize(from)?).map_err(D::Error::custom)
}

fn some_every<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    every(from).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "name = \"mine\"\nusers = 10\nrooms = 2\nrate = 5\n\n[[phase]]\nkind = \"ramp\"\nduration = \"2s\"\n\n\
        [[phase]]\nname = \"noon\"\nkind = \"spike\"\nduration = \"1m\"\nlevel = 300\n\n[mix]\ntyping = 20\n\n\
        [clients]\nslow_readers = 5\n\n[kill]\nprocess = \"writer\"\nevery = \"10s\"\n";

    #[test]
    fn a_file_says_what_it_means() {
        let file = ScenarioFile::parse(GOOD).unwrap();
        assert_eq!((file.users, file.rooms, file.rate, file.phases[1].level), (10, 2, 5.0, 300.0));
        assert_eq!((file.phases[0].kind, file.phases[0].level), (PhaseKind::Ramp, 100.0));
        assert_eq!((file.duration(), file.mix.typing), (Duration::from_secs(62), 20.0));
        assert_eq!(file.kill, Some(Kill { process: Victim::Writer, every: Duration::from_secs(10) }));
    }

    #[test]
    fn mistakes_are_told_with_their_line() {
        for (good, bad, told) in [
            ("users = 10", "user = 10", "line 2: unknown field `user`, expected one of `name`"),
            ("users = 10", "users = 0", "line 2: must be at least 1"),
            ("rate = 5", "rate = \"5\"", "line 4: invalid type: string"),
            ("kind = \"ramp\"", "kind = \"ramps\"", "line 7: unknown variant `ramps`"),
            ("duration = \"2s\"", "duration = \"2\"", "line 8: expected a duration such as 500ms"),
            ("level = 300", "level = -1", "line 14: must be from 0 to 10000"),
            ("typing = 20", "typing = 20\ntypin = 1", "line 18: unknown field `typin`"),
            ("slow_readers = 5", "slow_readers = 101", "line 20: must be from 0 to 100"),
            (
                "process = \"writer\"",
                "process = \"init\"",
                "line 23: unknown variant `init`, expected `worker` or `writer`",
            ),
            ("every = \"10s\"", "every = \"0s\"", "line 24: expected at least 100ms"),
            ("rooms = 2", "rooms = 11", "11 rooms need at least as many users"),
            ("rooms = 2", "rooms = ", "line 3: "),
        ] {
            let failure = ScenarioFile::parse(&GOOD.replace(good, bad)).unwrap_err();
            assert!(failure.starts_with(told) && failure.lines().count() == 1, "{bad}: {failure}");
        }
    }
}
