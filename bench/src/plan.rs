//! What one run is going to do, worked out before anything is touched: who sits in which room and
//! on which thread, who sends, and when.
//!
//! Every user is in one room. A room has a *home* thread; its senders live there, so that one
//! counter numbers its messages without sharing. Its listeners may be on any thread.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::args::{BenchArgs, Scenario};
use crate::clock::random;
use crate::mark;

const FANOUT_USERS: u32 = 1000;
const INGEST_USERS: u32 = 200;

/// Open-loop messages per second asked of one sender; half of what a server grants a user by default.
const SENDER_RATE: f64 = 500.0;

/// Connections from one source address; an address has some 28,000 ephemeral ports by default.
const CONNECTIONS_PER_SOURCE: u32 = 20_000;

/// When messages are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Never.
    Silent,
    /// On schedule, whatever the server does: one message each so many nanoseconds.
    Open {
        /// From one message to the next, over all rooms.
        interval_ns: u64,
    },
    /// Each sender has so many messages waiting for their acks.
    Closed {
        /// Messages per sender.
        inflight: u32,
    },
}

/// One run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// `connect`, `fanout` or `ingest`.
    pub scenario: String,
    /// The server.
    pub target: SocketAddr,
    /// Connections.
    pub users: u32,
    /// 0 when nothing is sent.
    pub rooms: u32,
    /// Threads of this program.
    pub threads: u32,
    /// When messages are sent.
    pub pace: Pace,
    /// Senders in each room.
    pub senders: u32,
    /// Time under load before measuring.
    pub warmup: Duration,
    /// Time measured.
    pub duration: Duration,
    /// Longest silence waited for at the end.
    pub drain: Duration,
    /// Bytes of content.
    pub size: usize,
    /// From one dial to the next, over all threads.
    pub connect_interval_ns: u64,
    /// Random number of this run.
    pub run: u32,
}

impl Plan {
    /// Works out the run, or says why it makes no sense.
    pub fn new(args: &BenchArgs) -> Result<Plan, String> {
        let common = args.common();
        let interval =
            |rate: f64| u64::try_from(Duration::from_secs_f64(1.0 / rate).as_nanos()).unwrap_or(u64::MAX);
        let mut plan = Plan {
            scenario: "connect".to_owned(),
            target: common.target,
            users: common.users.unwrap_or(FANOUT_USERS),
            rooms: 0,
            threads: common.threads,
            pace: Pace::Silent,
            senders: 0,
            warmup: Duration::ZERO,
            duration: common.duration,
            drain: Duration::ZERO,
            size: mark::BYTES,
            connect_interval_ns: interval(common.connect_rate),
            run: random(),
        };
        let messages = match &args.scenario {
            Scenario::Connect { .. } => None,
            Scenario::Fanout { messages, rooms, rate, .. } => {
                (plan.scenario, plan.rooms) = ("fanout".to_owned(), *rooms);
                plan.pace = Pace::Open { interval_ns: interval(*rate) };
                Some(messages)
            }
            Scenario::Ingest { messages, rooms, inflight, .. } => {
                plan.users = common.users.unwrap_or(INGEST_USERS);
                (plan.scenario, plan.rooms) = ("ingest".to_owned(), rooms.unwrap_or((plan.users / 2).max(1)));
                plan.pace = Pace::Closed { inflight: *inflight };
                plan.threads = plan.threads.min(plan.rooms); // all of a room send, so all live at its home
                Some(messages)
            }
        };
        plan.threads = plan.threads.min(plan.users);
        if plan.users < plan.rooms {
            return Err(format!("{} rooms need at least as many users", plan.rooms));
        }
        if let Some(messages) = messages {
            (plan.warmup, plan.drain, plan.size) = (messages.warmup, messages.drain, messages.size);
            plan.senders = plan.senders_per_room(args)?;
        }
        Ok(plan)
    }

    fn senders_per_room(&self, args: &BenchArgs) -> Result<u32, String> {
        let largest_room = self.users.div_ceil(self.rooms);
        if let Scenario::Fanout { rate, .. } = args.scenario {
            let wanted = (rate / f64::from(self.rooms) / SENDER_RATE).ceil();
            return Ok((1..largest_room).find(|count| f64::from(*count) >= wanted).unwrap_or(largest_room));
        }
        if largest_room > u32::from(u16::MAX) {
            return Err("more than 65535 senders in one room".into());
        }
        Ok(largest_room)
    }

    /// The room a user is in.
    pub fn room_of(&self, user: u32) -> u32 {
        user.checked_rem(self.rooms).unwrap_or_default()
    }

    /// How many users are in a room.
    pub fn members(&self, room: u32) -> u32 {
        self.users / self.rooms + u32::from(room < self.users % self.rooms)
    }

    /// The thread a user's connection lives on.
    pub fn thread_of(&self, user: u32) -> u32 {
        match user.checked_div(self.rooms) {
            None => user % self.threads,
            Some(_) if self.rooms >= self.threads => self.room_of(user) % self.threads,
            Some(member) => (self.room_of(user) + member) % self.threads,
        }
    }

    /// The thread that numbers a room's messages.
    pub fn home_of(&self, room: u32) -> u32 {
        room % self.threads
    }

    /// Which sender of its room a user is, if it is one.
    pub fn slot_of(&self, user: u32) -> Option<u16> {
        let member = user.checked_div(self.rooms)?;
        let slot = if self.rooms >= self.threads { member } else { member / self.threads };
        let at_home = self.thread_of(user) == self.home_of(self.room_of(user));
        u16::try_from(slot).ok().filter(|_| at_home && slot < self.senders)
    }

    /// A user's name, unique to this run.
    pub fn name_of(&self, user: u32) -> String {
        format!("b{:08x}u{user}", self.run)
    }

    /// The address a user connects from, when the usual one has given its share of ports.
    pub fn source_of(&self, user: u32) -> Option<IpAddr> {
        let SocketAddr::V4(target) = self.target else { return None };
        let source = user / CONNECTIONS_PER_SOURCE;
        let spread = source > 0 && target.ip().is_loopback();
        spread.then(|| IpAddr::V4(Ipv4Addr::from_bits(Ipv4Addr::new(127, 1, 0, 1).to_bits() + (source << 8))))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        bench: BenchArgs,
    }

    fn plan(line: &str) -> Result<Plan, String> {
        Plan::new(&Line::parse_from(format!("bench {line}").split(' ')).bench)
    }

    /// Every room has its senders, each at home and in a place of its own.
    fn check(line: &str, senders: u32) {
        let plan = plan(line).unwrap();
        let mut slots = vec![vec![]; plan.rooms as usize];
        let mut members = vec![0; plan.rooms as usize];
        for user in 0..plan.users {
            let room = plan.room_of(user);
            members[room as usize] += 1;
            if let Some(slot) = plan.slot_of(user) {
                assert_eq!(plan.thread_of(user), plan.home_of(room), "{line}: user {user}");
                slots[room as usize].push(u32::from(slot));
            }
        }
        for (room, (slots, count)) in (0..).zip(slots.into_iter().zip(members)) {
            assert_eq!(plan.members(room), count, "{line}: room {room}");
            assert_eq!(slots, (0..senders.min(count)).collect::<Vec<_>>(), "{line}: room {room}");
        }
    }

    #[test]
    fn senders_live_at_their_rooms_home() {
        check("fanout --users 10", 1);
        check("fanout --users 100 --threads 3 --rate 2000", 4);
        check("fanout --users 100 --rooms 7 --threads 3 --rate 7000", 2);
        check("ingest --users 11 --threads 8", 3);
        check("ingest --users 20 --rooms 3 --threads 2", 7);
    }

    #[test]
    fn sources_spread_on_loopback_only() {
        let source = |line, user| plan(line).unwrap().source_of(user).map(|address| address.to_string());
        assert_eq!(source("connect", 19_999), None);
        assert_eq!(source("connect", 20_000).as_deref(), Some("127.1.1.1"));
        assert_eq!(source("connect", 6_000_000).as_deref(), Some("127.2.44.1"));
        assert_eq!(source("connect --target 192.0.2.1:80", 20_000), None);
    }
}
