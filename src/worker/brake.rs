//! Slows down those who guess passwords, and nobody else.
//!
//! Only wrong passwords count, for two buckets: that of the name *and* the address they come from, and
//! that of the address for whatever names. Nothing is counted for a name alone: whoever hammers at
//! somebody's name, from however many addresses, must not be able to keep its owner out. Whoever comes
//! with a token of the same user is a source of its own at each address: a thief of a token guesses no more than
//! others, and at no cost for the owner elsewhere. And where somebody has logged in before, the misses of
//! others from the same address do not count.
//!
//! Whether there is such a user makes no difference: names are counted as they are given.
//!
//! A password is judged by the thread that hashes, one at a time, so any number of right ones at once
//! is fine, and no more wrong ones get through at once than there are workers.
//!
//! Memory is fixed. In a full table the one who has the least to be forgiven makes room, so an attacker
//! who wants to be forgotten has to collect more misses than that would win. Workers tell each other;
//! a worker that starts knows of no misses, and asks two others where users have logged in. For that all
//! workers hash alike, with a key that is derived from the server's secret.

mod buckets;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hmac::{Hmac, Mac};
use parking_lot::Mutex;
use sha2::Sha256;
use tokio::sync::Notify;

use self::buckets::{Buckets, Table};
use super::uplink::Uplink;
use crate::config::Config;
use crate::link::clock;
use crate::link::frame::{AtHome, Login, ToWriter};

/// News that wait to be told, at most; further ones stay here.
const NEWS: usize = 4_096;

/// Pairs told in one frame, of 20 bytes at most.
const PAIRS_PER_FRAME: usize = 4_096;

/// Workers that answer one that starts: one of them may be starting, too.
const ANSWERING: u16 = 2;

/// Where an attempt comes from.
#[derive(Clone, Copy, Debug)]
pub struct Source {
    /// As it is counted.
    pub address: IpAddr,
    /// From somebody with a token of that user.
    pub with_token: bool,
}

/// Somebody's attempt to log in.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// The name that was given.
    pub name: String,
    /// From where.
    pub source: Source,
}

/// Who has missed how often.
pub struct Brake {
    worker: u16,
    workers: u16,
    /// Secret: nobody can look for names that share an entry with somebody's.
    key: Hmac<Sha256>,
    state: Mutex<State>,
    wake: Arc<Notify>,
}

struct State {
    per_user: Buckets,
    per_address: Buckets,
    /// Pairs of name and address from which somebody has logged in, by when.
    known: Table,
    news: VecDeque<(Attempt, bool)>,
    /// Where users have logged in is to be asked.
    ask: bool,
    /// It is to be told.
    answer: bool,
    counts: Counts,
}

/// What operators watch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Wrong passwords.
    pub failed: u64,
    /// Attempts not taken.
    pub braked: u64,
}

impl Brake {
    /// Nobody has missed. `wake` is told when there is something to [`Brake::tell`].
    pub fn new(config: &Config, worker: u16, wake: Arc<Notify>) -> Brake {
        let limits = &config.limits;
        let window = limits.login_failures_window;
        let state = State {
            per_user: Buckets::new(limits.login_failures_per_user, window),
            per_address: Buckets::new(limits.login_failures_per_address, window),
            known: Table::new(),
            news: VecDeque::new(),
            ask: true,
            answer: false,
            counts: Counts::default(),
        };
        let key = keyed(&config.auth.jwt_secret);
        Brake { worker, workers: config.workers, key, state: Mutex::new(state), wake }
    }

    /// Whether an attempt is taken.
    ///
    /// # Errors
    /// It is not before that time has passed.
    pub fn check(&self, attempt: &Attempt) -> Result<(), Duration> {
        self.check_at(attempt, clock::now_us()).map_err(Duration::from_micros)
    }

    fn check_at(&self, Attempt { name, source }: &Attempt, now_us: u64) -> Result<(), u64> {
        let mut state = self.state.lock();
        let pair = self.pair(name, *source);
        let mut wait = state.per_user.wait(pair, now_us);
        if !source.with_token && state.known.get(pair).is_none() {
            wait = wait.max(state.per_address.wait(self.hash(&[ADDRESS], source.address), now_us));
        }
        state.counts.braked += u64::from(wait > 0);
        if wait == 0 { Ok(()) } else { Err(wait) }
    }

    /// What operators watch.
    pub fn counts(&self) -> Counts {
        self.state.lock().counts
    }

    /// The password was right, or not.
    pub fn judged(&self, attempt: &Attempt, right: bool) {
        let worth_telling = self.note(&attempt.name, attempt.source, right, clock::now_us());
        let mut state = self.state.lock();
        state.counts.failed += u64::from(!right);
        if worth_telling && state.news.len() < NEWS {
            state.news.push_back((attempt.clone(), right));
            drop(state);
            self.wake.notify_one();
        }
    }

    /// False: that was known.
    fn note(&self, name: &str, source: Source, right: bool, now_us: u64) -> bool {
        let mut state = self.state.lock();
        let pair = self.pair(name, source);
        if right {
            let is_new = state.known.get(pair).is_none();
            state.known.put(pair, now_us.max(1));
            return is_new;
        }
        state.per_user.miss(pair, now_us);
        if !source.with_token && state.known.get(pair).is_none() {
            state.per_address.miss(self.hash(&[ADDRESS], source.address), now_us);
        }
        true
    }

    /// Tells the other workers what they do not know.
    pub fn tell(&self, uplink: &mut Uplink) {
        if !uplink.is_up() {
            self.state.lock().news.clear();
            return;
        }
        let (news, ask, pairs) = {
            let mut state = self.state.lock();
            let answer = std::mem::take(&mut state.answer);
            let pairs: Vec<_> = if answer { state.known.entries().collect() } else { Vec::new() };
            (std::mem::take(&mut state.news), std::mem::take(&mut state.ask), pairs)
        };
        let worker = self.worker;
        if ask {
            uplink.tell(&ToWriter::AtHome(AtHome { worker, ask, pairs: Vec::new() }));
        }
        for pairs in pairs.chunks(PAIRS_PER_FRAME) {
            uplink.tell(&ToWriter::AtHome(AtHome { worker, ask: false, pairs: pairs.to_vec() }));
        }
        for (Attempt { name, source }, right) in &news {
            uplink.tell(&ToWriter::Login(Login {
                worker,
                name,
                address: source.address,
                with_token: source.with_token,
                right: *right,
            }));
        }
    }

    /// Another worker's news.
    pub fn hear(&self, login: &Login<'_>) {
        if login.worker != self.worker {
            let source = Source { address: login.address, with_token: login.with_token };
            self.note(login.name, source, login.right, clock::now_us());
        }
    }

    /// What another worker asks, or tells one that starts.
    pub fn hear_at_home(&self, news: &AtHome) {
        if news.worker == self.worker {
            return;
        }
        let mut state = self.state.lock();
        let workers = self.workers.max(1);
        let behind = (self.worker % workers + workers - news.worker % workers) % workers;
        state.answer |= news.ask && behind <= ANSWERING;
        for (pair, at_us) in &news.pairs {
            let known = state.known.get(*pair).unwrap_or(0);
            state.known.put((*pair).max(1), known.max(*at_us));
        }
    }

    fn pair(&self, name: &str, source: Source) -> u64 {
        let kind = if source.with_token { NAME_WITH_TOKEN } else { NAME };
        self.hash(&[&[kind], name.as_bytes()].concat(), source.address)
    }

    /// Never 0, which stands for nothing.
    fn hash(&self, what: &[u8], address: IpAddr) -> u64 {
        let mut mac = self.key.clone();
        match address {
            IpAddr::V4(address) => mac.update(&address.to_ipv6_mapped().octets()),
            IpAddr::V6(address) => mac.update(&address.octets()),
        }
        mac.update(what);
        let digest: [u8; 32] = mac.finalize().into_bytes().into();
        digest.first_chunk().map_or(1, |head| u64::from_le_bytes(*head).max(1))
    }
}

/// What is hashed with an address: nothing else, a name, a name and that a token came along.
const ADDRESS: u8 = 0;
const NAME: u8 = 1;
const NAME_WITH_TOKEN: u8 = 2;

#[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
fn keyed(secret: &str) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("a key");
    mac.update(b"minitalk brake");
    let derived = mac.finalize().into_bytes();
    Hmac::new_from_slice(&derived).expect("a key")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Limits;

    const SECOND: u64 = 1_000_000;

    /// Three misses a user and ten an address in thirty seconds.
    fn brake(worker: u16) -> Brake {
        let limits = Limits {
            login_failures_per_user: 3,
            login_failures_per_address: 10,
            login_failures_window: Duration::from_secs(30),
            ..Limits::default()
        };
        Brake::new(&Config { limits, ..Config::default() }, worker, Arc::default())
    }

    fn source(address: &str) -> Source {
        Source { address: address.parse().unwrap(), with_token: false }
    }

    fn from(name: &str, address: &str) -> Attempt {
        Attempt { name: name.to_owned(), source: source(address) }
    }

    fn miss(brake: &Brake, attempt: &Attempt, now_us: u64) -> Result<(), u64> {
        brake.check_at(attempt, now_us)?;
        brake.note(&attempt.name, attempt.source, false, now_us);
        Ok(())
    }

    #[test]
    fn misses_are_refused_from_their_address_and_forgiven_one_by_one() {
        let brake = brake(0);
        let attacker = from("alice", "1.1.1.1");
        for _ in 0..3 {
            assert_eq!(miss(&brake, &attacker, 5), Ok(()));
        }
        assert_eq!(miss(&brake, &attacker, 5), Err(10 * SECOND));
        assert_eq!(miss(&brake, &attacker, 5 + 4 * SECOND), Err(6 * SECOND));
        assert_eq!(miss(&brake, &attacker, 5 + 10 * SECOND), Ok(()));
        assert_eq!(miss(&brake, &attacker, 5 + 10 * SECOND), Err(10 * SECOND));
        assert_eq!(brake.check_at(&from("alice", "1.1.1.2"), 5), Ok(()), "alice, elsewhere");
        assert_eq!(brake.check_at(&from("bob", "1.1.1.1"), 5), Ok(()), "another there");
        let with_token = |address| Attempt {
            name: "alice".into(),
            source: Source { with_token: true, ..source(address) },
        };
        while miss(&brake, &with_token("1.1.1.1"), 5).is_ok() {}
        assert_eq!(brake.check_at(&with_token("1.1.1.2"), 5), Ok(()), "a thief's misses are not the owner's");
    }

    #[test]
    fn an_address_has_a_bucket_too_and_those_known_there_are_spared() {
        let brake = brake(0);
        brake.note("carol", source("1.1.1.1"), true, 5);
        for name in 0..10 {
            assert_eq!(miss(&brake, &from(&name.to_string(), "1.1.1.1"), 5), Ok(()), "{name}");
        }
        assert_eq!(miss(&brake, &from("somebody", "1.1.1.1"), 5), Err(3 * SECOND));
        assert_eq!(brake.check_at(&from("carol", "1.1.1.1"), 5), Ok(()));
        assert_eq!(brake.check_at(&from("carol", "2.2.2.2"), 5), Ok(()));
        for _ in 0..3 {
            assert_eq!(miss(&brake, &from("carol", "1.1.1.1"), 5), Ok(()));
        }
        assert!(
            miss(&brake, &from("carol", "1.1.1.1"), 5).is_err(),
            "guesses at her name count all the same"
        );
    }

    #[test]
    fn right_passwords_are_never_too_many() {
        let brake = brake(0);
        for name in 0..100_000 {
            let attempt = from(&name.to_string(), "1.1.1.1");
            assert_eq!(brake.check_at(&attempt, 5), Ok(()));
            brake.note(&attempt.name, attempt.source, true, 5);
        }
    }

    #[test]
    fn what_another_worker_tells_counts_and_ones_own_not_twice() {
        let brake = brake(1);
        let attacker = from("alice", "1.1.1.1");
        let news = |worker| Login {
            worker,
            name: "alice",
            address: attacker.source.address,
            with_token: false,
            right: false,
        };
        (0..10).for_each(|_| brake.hear(&news(1)));
        assert_eq!(brake.check(&attacker), Ok(()));
        (0..10).for_each(|_| brake.hear(&news(0)));
        let wait = brake.check(&attacker).expect_err("braked");
        assert!(wait <= Duration::from_secs(10), "as if it had missed no more often than it may: {wait:?}");
    }

    /// Somebody with as many addresses as he likes.
    #[test]
    fn a_full_table_keeps_those_who_missed_most() {
        let brake = brake(0);
        let attacker = from("alice", "9.9.9.9");
        while miss(&brake, &attacker, 5).is_ok() {}
        for n in 0..200_000_u32 {
            let other = from("alice", &IpAddr::from(n.to_be_bytes()).to_string());
            brake.note(&other.name, other.source, false, 5);
        }
        assert!(miss(&brake, &attacker, 5).is_err());
        assert_eq!(brake.check_at(&from("alice", "250.1.1.1"), 5), Ok(()), "alice comes from somewhere");
    }

    #[test]
    fn no_limit_is_no_limit() {
        let limits =
            Limits { login_failures_per_user: 0, login_failures_per_address: 0, ..Limits::default() };
        let brake = Brake::new(&Config { limits, ..Config::default() }, 0, Arc::default());
        assert!((0..10_000).all(|_| miss(&brake, &from("alice", "1.1.1.1"), 5).is_ok()));
    }
}
