//! What can be typed after `minitalk bench`. Values are turned into their types here, so that
//! nothing behind this module meets a malformed one.

use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::fail_if::FailIf;
use crate::mark;
use crate::race::args::{ChallengeArgs, MembersArgs};
use crate::scenario::Victim;

/// Most bytes of content in one message; a frame must fit the shared read buffer with room to spare.
const CONTENT_BYTES_MAX: usize = 100_000;

/// Lowest rate: one a day.
pub const RATE_MIN: f64 = 1.0 / 86_400.0;

/// Highest rate; beyond it the interval in nanoseconds loses its meaning.
pub const RATE_MAX: f64 = 1e6;

/// Connections begun per second where nothing else is said.
pub const CONNECT_RATE: f64 = 2000.0;

/// Shortest time from one storm or kill to the next.
const EVERY_MIN: Duration = Duration::from_millis(100);

/// The server where none is named.
pub const TARGET: &str = "127.0.0.1:4000";

/// Of what makes no report.
static NO_OUTPUT: Output = Output { json: None, html: None, fail_if: Vec::new() };

/// Longest wait for one address of several.
const PATIENCE_AMONG_ADDRESSES: Duration = Duration::from_secs(2);

/// Arguments of `minitalk bench`; other commands embed it.
#[derive(Args, Clone, Debug)]
pub struct BenchArgs {
    /// What is put on the server.
    #[command(subcommand)]
    pub scenario: Scenario,
}

/// The kinds of load, and what is done with their reports.
#[derive(Subcommand, Clone, Debug)]
pub enum Scenario {
    /// 30 users in 10 rooms for 30 s
    Quick(Preset),
    /// 100 users in 15 rooms for 60 s
    Medium(Preset),
    /// 500 users in 20 rooms for 120 s
    Strong(Preset),
    /// 1,000 users in 25 rooms for 180 s
    Extreme(Preset),
    /// 5,000 users in 30 rooms for 300 s
    Mega(Preset),
    /// 10,000 users in 35 rooms for 600 s
    Ultra(Preset),
    /// Your own numbers, or your own scenario file
    Custom {
        /// What presets share.
        #[command(flatten)]
        preset: Preset,
        /// A load described in TOML (docs/load-scenarios.md)
        #[arg(long, value_name = "FILE")]
        scenario: Option<PathBuf>,
    },
    /// A moderate load for an hour, watching memory
    Soak(Preset),
    /// Say in one screen what of a server works, and what to do about what does not; with --users, then
    /// connect that many at a rate and hold them: connects/s, handshake times, memory per connection
    Connect {
        /// What all kinds share.
        #[command(flatten)]
        common: Common,
    },
    /// Few send, everybody in the room hears: latency from the intended send to each delivery
    Fanout {
        /// What all kinds share.
        #[command(flatten)]
        common: Common,
        /// What kinds that send share.
        #[command(flatten)]
        messages: Messages,
        /// Rooms the users are spread over evenly
        #[arg(long, default_value_t = 1, value_parser = positive)]
        rooms: u32,
        /// Messages per second of all senders together, sent on schedule whatever the server does
        #[arg(long, default_value_t = 20.0, value_parser = rate)]
        rate: f64,
    },
    /// Everybody sends, few hear: how many messages per second become durable
    Ingest {
        /// What all kinds share.
        #[command(flatten)]
        common: Common,
        /// What kinds that send share.
        #[command(flatten)]
        messages: Messages,
        /// Rooms the users are spread over evenly [default: one for every two users]
        #[arg(long, value_parser = positive)]
        rooms: Option<u32>,
        /// Messages each user has waiting for their acks
        #[arg(long, default_value_t = 4, value_parser = positive)]
        inflight: u32,
    },
    /// Make one report of those of several machines
    Merge(MergeArgs),
    /// Members of a live challenge, from login to the end: what each was told of each other, and how fast
    Challenge(ChallengeArgs),
    /// Write a CSV file of members, for `minitalk import` and `minitalk bench challenge`
    Members(MembersArgs),
}

/// The server.
#[derive(Args, Clone, Debug)]
pub struct Server {
    /// Server, as HOST:PORT, http://HOST:PORT or http://HOST
    #[arg(long, default_value = TARGET)]
    pub target: String,
    /// Server processes whose CPU time and memory are reported, with their children
    #[arg(long, value_name = "P1,P2", value_delimiter = ',')]
    pub pid: Vec<u32>,
}

/// What becomes of the report.
#[derive(Args, Clone, Debug, Default)]
pub struct Output {
    /// Write the full report as JSON; `-` is stdout (the summary then goes to stderr)
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write the report as one HTML file with charts
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Exit with 1 when this holds, such as 'p99>200ms', 'lost>0' or 'errors>0.1%'; may be given again
    #[arg(long, value_name = "CONDITION", value_parser = FailIf::parse)]
    pub fail_if: Vec<FailIf>,
}

impl Output {
    /// Whether standard output is kept for JSON.
    pub fn json_on_stdout(&self) -> bool {
        self.json.as_deref() == Some(Path::new("-"))
    }
}

/// What every kind of load needs to know that is not a preset.
#[derive(Args, Clone, Debug)]
pub struct Common {
    /// The server.
    #[command(flatten)]
    pub server: Server,
    /// Users, one connection each [default: 1000; ingest: 200; connect: none]
    #[arg(long, value_parser = positive)]
    pub users: Option<u32>,
    /// How long is measured (connect: how long connections are held)
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub duration: Duration,
    /// Connections begun per second
    #[arg(long, default_value_t = CONNECT_RATE, value_parser = rate)]
    pub connect_rate: f64,
    /// Threads of the load tester
    #[arg(long, default_value_t = 1, value_parser = positive)]
    pub threads: u32,
    /// What becomes of the report.
    #[command(flatten)]
    pub output: Output,
}

/// What can be changed of a preset.
#[derive(Args, Clone, Debug)]
pub struct Preset {
    /// The server.
    #[command(flatten)]
    pub server: Server,
    /// Users, one connection each
    #[arg(long, value_parser = positive)]
    pub users: Option<u32>,
    /// Rooms the users are spread over evenly
    #[arg(long, value_parser = positive)]
    pub rooms: Option<u32>,
    /// How long the load lasts, warm-up included; its phases keep their proportions
    #[arg(long, value_parser = duration)]
    pub duration: Option<Duration>,
    /// Messages per second of all users together, sent on schedule whatever the server does
    #[arg(long, value_parser = rate)]
    pub rate: Option<f64>,
    /// Connections begun per second
    #[arg(long, value_parser = rate)]
    pub connect_rate: Option<f64>,
    /// Bytes of content per message [default: greetings of various lengths]
    #[arg(long, value_parser = content_size)]
    pub size: Option<usize>,
    /// Threads of the load tester [default: one per core]
    #[arg(long, value_parser = positive)]
    pub threads: Option<u32>,
    /// Longest silence waited for once sending has ended and something is still owed
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub drain: Duration,
    /// Percent of the users that use HTTP long polling instead of WebSocket
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    pub polling: Option<f64>,
    /// Percent of the users that are connected but never read
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    pub slow_readers: Option<f64>,
    /// Percent of the users that drop their connections at once and come back; in the middle of the load, or --every
    #[arg(long, value_name = "PERCENT", num_args = 0..=1, default_missing_value = "100", value_parser = percent)]
    pub reconnect_storm: Option<f64>,
    /// Kill this process of the server with SIGKILL, every 10 s or --every; the server must be on this machine
    #[arg(long, value_name = "PROCESS")]
    pub kill: Option<Victim>,
    /// From one storm or kill to the next
    #[arg(long, value_name = "TIME", value_parser = every)]
    pub every: Option<Duration>,
    /// Take the share of machine I of N: its part of users, rooms and rate
    #[arg(long, value_name = "I/N", value_parser = shard)]
    pub shard: Option<(u32, u32)>,
    /// What becomes of the report.
    #[command(flatten)]
    pub output: Output,
}

/// What every kind of load that sends and is no preset needs to know.
#[derive(Args, Clone, Debug)]
pub struct Messages {
    /// Time under load before measuring; judged for correctness all the same
    #[arg(long, default_value = "2s", value_parser = duration)]
    pub warmup: Duration,
    /// Longest silence waited for once sending has ended and something is still owed
    #[arg(long, default_value = "5s", value_parser = duration)]
    pub drain: Duration,
    /// Bytes of content per message
    #[arg(long, default_value_t = 100, value_parser = content_size)]
    pub size: usize,
}

/// `bench merge`
#[derive(Args, Clone, Debug)]
pub struct MergeArgs {
    /// Reports written with --json
    #[arg(required = true, value_name = "REPORT")]
    pub reports: Vec<PathBuf>,
    /// What becomes of the report.
    #[command(flatten)]
    pub output: Output,
}

impl Scenario {
    /// The server, where one is loaded.
    pub fn server(&self) -> Option<&Server> {
        match self {
            Scenario::Connect { common }
            | Scenario::Fanout { common, .. }
            | Scenario::Ingest { common, .. } => Some(&common.server),
            Scenario::Merge(_) | Scenario::Members(_) => None,
            Scenario::Challenge(args) => Some(&args.server),
            Scenario::Custom { preset, .. } => Some(&preset.server),
            Scenario::Quick(preset)
            | Scenario::Medium(preset)
            | Scenario::Strong(preset)
            | Scenario::Extreme(preset)
            | Scenario::Mega(preset)
            | Scenario::Ultra(preset)
            | Scenario::Soak(preset) => Some(&preset.server),
        }
    }

    /// What becomes of the report.
    pub fn output(&self) -> &Output {
        match self {
            Scenario::Connect { common }
            | Scenario::Fanout { common, .. }
            | Scenario::Ingest { common, .. } => &common.output,
            Scenario::Merge(args) => &args.output,
            Scenario::Challenge(args) => &args.output,
            Scenario::Members(_) => &NO_OUTPUT,
            Scenario::Custom { preset, .. } => &preset.output,
            Scenario::Quick(preset)
            | Scenario::Medium(preset)
            | Scenario::Strong(preset)
            | Scenario::Extreme(preset)
            | Scenario::Mega(preset)
            | Scenario::Ultra(preset)
            | Scenario::Soak(preset) => &preset.output,
        }
    }

    /// What is typed for it.
    pub fn name(&self) -> &'static str {
        match self {
            Scenario::Quick(_) => "quick",
            Scenario::Medium(_) => "medium",
            Scenario::Strong(_) => "strong",
            Scenario::Extreme(_) => "extreme",
            Scenario::Mega(_) => "mega",
            Scenario::Ultra(_) => "ultra",
            Scenario::Custom { .. } => "custom",
            Scenario::Soak(_) => "soak",
            Scenario::Connect { .. } => "connect",
            Scenario::Fanout { .. } => "fanout",
            Scenario::Ingest { .. } => "ingest",
            Scenario::Merge(_) => "merge",
            Scenario::Challenge(_) => "challenge",
            Scenario::Members(_) => "members",
        }
    }
}

/// A whole number that is not 0.
pub(crate) fn positive(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("expected a whole number from 1 to 4294967295".into()),
        Ok(number) => Ok(number),
    }
}

/// 0 to 100, with or without the sign.
pub(crate) fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).parse::<f64>();
    number.ok().filter(|percent| (0.0..=100.0).contains(percent)).ok_or_else(|| "expected 0 to 100".into())
}

/// Which of how many machines.
pub(crate) fn shard(text: &str) -> Result<(u32, u32), String> {
    let (which, of) = text.split_once('/').ok_or("expected I/N, such as 2/6")?;
    let (which, of) = (positive(which)?, positive(of)?);
    if which > of { Err(format!("there is no machine {which} of {of}")) } else { Ok((which, of)) }
}

/// How often a second.
pub(crate) fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if (RATE_MIN..=RATE_MAX).contains(&rate) => Ok(rate),
        _ => Err("expected a number per second above 0, up to 1000000".into()),
    }
}

/// Bytes of a message's content.
pub fn content_size(text: &str) -> Result<usize, String> {
    let range = mark::BYTES..=CONTENT_BYTES_MAX;
    text.parse()
        .ok()
        .filter(|size| range.contains(size))
        .ok_or_else(|| format!("expected a number of bytes from {} to {}", range.start(), range.end()))
}

/// `500ms`, `10s`, `2m` or `1h`, up to seven days.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "expected a duration such as 500ms, 10s or 2m".to_owned();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    let factor = match &text[digits.len()..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(wrong()),
    };
    let limit_ms = 7 * 24 * 3_600_000;
    number
        .checked_mul(factor)
        .filter(|ms| *ms <= limit_ms)
        .map(Duration::from_millis)
        .ok_or_else(|| "longer than seven days".into())
}

/// From one storm or kill to the next.
pub fn every(text: &str) -> Result<Duration, String> {
    let every = duration(text)?;
    if every < EVERY_MIN { Err("expected at least 100ms".to_owned()) } else { Ok(every) }
}

/// The addresses of a target, which may be a URL; never none.
pub fn addresses(text: &str) -> Result<Vec<SocketAddr>, String> {
    if text.starts_with("https://") {
        return Err("TLS is not spoken here; give the plain HTTP port".into());
    }
    let mut host = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/').to_owned();
    let has_port = host.rsplit(']').next().is_some_and(|end| end.contains(':'));
    if text.starts_with("http://") && !has_port {
        host += ":80";
    }
    let found = host.to_socket_addrs().map_err(|why| format!("{why}; expected HOST:PORT"))?;
    let mut all: Vec<SocketAddr> = vec![];
    for address in found {
        if !all.contains(&address) {
            all.push(address);
        }
    }
    if all.is_empty() { Err("the name has no address".into()) } else { Ok(all) }
}

/// The address of a target. Of several it is the first at which somebody listens: `localhost` often has
/// one of IPv6 too.
pub fn target(text: &str) -> Result<SocketAddr, String> {
    Ok(listening(&addresses(text)?))
}

/// The first of some addresses at which somebody listens; the first of all where nobody does, or where
/// there is no choice.
pub fn listening(addresses: &[SocketAddr]) -> SocketAddr {
    let answers =
        |address: &&SocketAddr| TcpStream::connect_timeout(address, PATIENCE_AMONG_ADDRESSES).is_ok();
    match addresses {
        [only] => *only,
        several => *several.iter().find(answers).unwrap_or(&several[0]),
    }
}

/// What a line means that is typed behind `minitalk bench`.
#[cfg(test)]
pub fn typed(line: &str) -> BenchArgs {
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        bench: BenchArgs,
    }
    Line::parse_from(["bench"].into_iter().chain(line.split(' '))).bench
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for text in ["", "10", "s", "1.5s", "-1s", "10 s", "10d", "99999999999999999999s", "1000000m"] {
            assert!(duration(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn targets_may_be_urls() {
        let address = "127.0.0.1:4000".parse().unwrap();
        for text in ["127.0.0.1:4000", "http://127.0.0.1:4000", "http://127.0.0.1:4000/"] {
            assert_eq!(target(text), Ok(address), "{text:?}");
        }
        assert_eq!(target("http://127.0.0.1"), Ok("127.0.0.1:80".parse().unwrap()));
        assert_eq!(target("http://[::1]/"), Ok("[::1]:80".parse().unwrap()));
        for text in ["", "127.0.0.1", "https://127.0.0.1:4000", "http://127.0.0.1:4000/path"] {
            assert!(target(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn numbers_stay_in_range() {
        assert!(positive("0").is_err() && positive("-1").is_err() && positive("1").is_ok());
        assert!(rate("0").is_err() && rate("nan").is_err() && rate("0.5").is_ok());
        assert_eq!((percent("5%"), percent("0.5")), (Ok(5.0), Ok(0.5)));
        assert!(percent("101").is_err() && percent("-1").is_err() && percent("many").is_err());
        assert_eq!(shard("2/6"), Ok((2, 6)));
        assert!(["0/2", "3/2", "1", "1/", "/2", "a/b"].iter().all(|text| shard(text).is_err()));
        assert!(content_size("10").is_err() && content_size("100").is_ok());
    }
}
