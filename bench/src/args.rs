//! What can be typed after `minitalk bench`. Values are turned into their types here, so that
//! nothing behind this module meets a malformed one.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::mark;

/// Most bytes of content in one message; a frame must fit the shared read buffer with room to spare.
const CONTENT_BYTES_MAX: usize = 100_000;

/// Arguments of `minitalk bench`; other commands embed it.
#[derive(Args, Clone, Debug)]
pub struct BenchArgs {
    /// What is put on the server.
    #[command(subcommand)]
    pub scenario: Scenario,
}

/// The kinds of load.
#[derive(Subcommand, Clone, Debug)]
pub enum Scenario {
    /// Users connect at a rate and are held: connects/s, handshake times, memory per connection
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
}

/// What every kind of load needs to know.
#[derive(Args, Clone, Debug)]
pub struct Common {
    /// Server, as HOST:PORT or http://HOST:PORT
    #[arg(long, default_value = "127.0.0.1:4000", value_parser = target)]
    pub target: SocketAddr,
    /// Users, one connection each [default: 1000; ingest: 200]
    #[arg(long, value_parser = positive)]
    pub users: Option<u32>,
    /// How long is measured (connect: how long connections are held)
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub duration: Duration,
    /// Connections begun per second
    #[arg(long, default_value_t = 2000.0, value_parser = rate)]
    pub connect_rate: f64,
    /// Threads of the load tester
    #[arg(long, default_value_t = 1, value_parser = positive)]
    pub threads: u32,
    /// Write the full report as JSON; `-` is stdout (the summary then goes to stderr)
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Server processes whose CPU time and memory are reported, with their children
    #[arg(long, value_name = "P1,P2", value_delimiter = ',')]
    pub pid: Vec<u32>,
}

/// What every kind of load that sends needs to know.
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

impl BenchArgs {
    /// The part all kinds of load share.
    pub fn common(&self) -> &Common {
        match &self.scenario {
            Scenario::Connect { common }
            | Scenario::Fanout { common, .. }
            | Scenario::Ingest { common, .. } => common,
        }
    }

    /// Where the report goes as JSON.
    pub fn json(&self) -> Option<&Path> {
        self.common().json.as_deref()
    }
}

fn positive(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("expected a whole number from 1 to 4294967295".into()),
        Ok(number) => Ok(number),
    }
}

/// One a day to a million a second; beyond that the interval in nanoseconds loses its meaning.
fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if (1.0 / 86_400.0..=1e6).contains(&rate) => Ok(rate),
        _ => Err("expected a number per second above 0, up to 1000000".into()),
    }
}

fn content_size(text: &str) -> Result<usize, String> {
    let range = mark::BYTES..=CONTENT_BYTES_MAX;
    text.parse()
        .ok()
        .filter(|size| range.contains(size))
        .ok_or_else(|| format!("expected a number of bytes from {} to {}", range.start(), range.end()))
}

fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "expected a duration such as 500ms, 10s or 2m".to_owned();
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    let factor = match &text[digits.len()..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        _ => return Err(wrong()),
    };
    let limit_ms = 7 * 24 * 3_600_000;
    number
        .checked_mul(factor)
        .filter(|ms| *ms <= limit_ms)
        .map(Duration::from_millis)
        .ok_or_else(|| "longer than seven days".into())
}

fn target(text: &str) -> Result<SocketAddr, String> {
    if text.starts_with("https://") {
        return Err("TLS is not spoken here; give the plain HTTP port".into());
    }
    let host = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
    let mut addresses = host.to_socket_addrs().map_err(|why| format!("expected HOST:PORT ({why})"))?;
    addresses.next().ok_or_else(|| "the name has no address".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for text in ["", "10", "s", "1.5s", "-1s", "10 s", "10h", "99999999999999999999s", "1000000m"] {
            assert!(duration(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn targets_may_be_urls() {
        let address = "127.0.0.1:4000".parse().unwrap();
        for text in ["127.0.0.1:4000", "http://127.0.0.1:4000", "http://127.0.0.1:4000/"] {
            assert_eq!(target(text), Ok(address), "{text:?}");
        }
        for text in ["", "127.0.0.1", "https://127.0.0.1:4000", "http://127.0.0.1:4000/path"] {
            assert!(target(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn numbers_stay_in_range() {
        assert!(positive("0").is_err() && positive("-1").is_err() && positive("1").is_ok());
        assert!(rate("0").is_err() && rate("nan").is_err() && rate("0.5").is_ok());
        assert!(content_size("10").is_err() && content_size("100").is_ok());
    }
}
