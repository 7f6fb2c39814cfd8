//! What can be typed after `minitalk bench challenge` and `minitalk bench members`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::args::{Output, Server, duration, every, percent, positive, rate, shard};
use crate::fail_if::FailIf;
use crate::presets::KILL_EVERY;
use crate::scenario::{Kill, Victim};

/// What an operator expects, unless conditions are given.
const EXPECTED: [&str; 4] = ["login.p99>=100ms", "enter.p99>=200ms", "connect.p99>=1s", "errors>=0.1%"];

/// `bench challenge`
#[derive(Args, Clone, Debug)]
pub struct ChallengeArgs {
    /// The server.
    #[command(flatten)]
    pub server: Server,
    /// Members: a CSV file with the columns memberId and challengeId
    #[arg(long, value_name = "FILE")]
    pub csv: PathBuf,
    /// The first so many of them [default: all]
    #[arg(long, value_parser = positive)]
    pub users: Option<u32>,
    /// Make a challenge of that distance first, for all of them, and write its id into the file
    #[arg(long, value_name = "DISTANCE", num_args = 0..=1, default_missing_value = "HALF")]
    pub create: Option<String>,
    /// With --create: until it starts, which everybody must have entered before [default: the ramp and 60 s]
    #[arg(long, requires = "create", value_parser = duration)]
    pub start_in: Option<Duration>,
    /// Password of a private challenge
    #[arg(long)]
    pub password: Option<String>,
    /// Members begun per second, such as 100 or 100/s
    #[arg(long, visible_alias = "ramp", default_value = "100", value_parser = per_second)]
    pub connect_rate: f64,
    /// How long everybody stays once all have come
    #[arg(long, default_value = "20m", value_parser = duration)]
    pub duration: Duration,
    /// From one PING of a member to the next
    #[arg(long, default_value = "30s", value_parser = interval)]
    pub ping_every: Duration,
    /// From one RECORD of a member to the next [default: they send none]
    #[arg(long, value_parser = interval)]
    pub record_every: Option<Duration>,
    /// Percent of the members that QUIT in the end [default: 5 with --create, else none]
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    pub quit: Option<f64>,
    /// Take the share of machine I of N: its part of the members and of the ramp
    #[arg(long, value_name = "I/N", value_parser = shard)]
    pub shard: Option<(u32, u32)>,
    /// Kill this process of the server with SIGKILL, every 10 s or --every, while all are there; the server must be
    /// on this machine
    #[arg(long, value_name = "PROCESS")]
    pub kill: Option<Victim>,
    /// From one kill to the next
    #[arg(long, value_name = "TIME", requires = "kill", value_parser = every)]
    pub every: Option<Duration>,
    /// Longest silence waited for in the end while something is still owed
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub drain: Duration,
    /// What becomes of the report. Conditions replace the operator's.
    #[command(flatten)]
    pub output: Output,
}

/// `bench members`
#[derive(Args, Clone, Debug)]
pub struct MembersArgs {
    /// How many
    #[arg(value_name = "N", value_parser = positive)]
    pub count: u32,
    /// The file to write
    #[arg(long, value_name = "FILE")]
    pub csv: PathBuf,
    /// Number of the first; higher than any the data directory has already
    #[arg(long, default_value_t = 1, value_parser = positive)]
    pub first: u32,
    /// Challenge they all take part in [default: left empty, for `bench challenge --create` to fill in]
    #[arg(long, value_name = "ID")]
    pub challenge: Option<u64>,
}

impl ChallengeArgs {
    /// What is killed how often.
    pub fn killing(&self) -> Option<Kill> {
        self.kill.map(|process| Kill { process, every: self.every.unwrap_or(KILL_EVERY) })
    }

    /// Percent of the members that give up in the end. Whoever did can't come again, so it is nobody
    /// where a challenge is to be used again.
    pub fn quitting(&self) -> f64 {
        self.quit.unwrap_or(if self.create.is_some() { 5.0 } else { 0.0 })
    }
}

/// What a run is failed for.
pub fn conditions(output: &Output) -> Vec<FailIf> {
    match output.fail_if.is_empty() {
        false => output.fail_if.clone(),
        true => EXPECTED.iter().filter_map(|text| FailIf::parse(text).ok()).collect(),
    }
}

/// `100` or `100/s`.
fn per_second(text: &str) -> Result<f64, String> {
    rate(text.strip_suffix("/s").unwrap_or(text))
}

/// A duration in which something can happen once.
fn interval(text: &str) -> Result<Duration, String> {
    let every = duration(text)?;
    if every < Duration::from_millis(10) { Err("expected at least 10ms".to_owned()) } else { Ok(every) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_operator_expects_can_be_judged() {
        for text in EXPECTED {
            assert!(FailIf::parse(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn ramps_may_be_typed_with_their_unit() {
        assert_eq!((per_second("100/s"), per_second("0.5")), (Ok(100.0), Ok(0.5)));
        assert!(per_second("100/m").is_err() && per_second("0").is_err());
        assert!(interval("9ms").is_err() && interval("30s").is_ok());
    }
}
