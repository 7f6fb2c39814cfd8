//! The thread that decides everything about live challenges, in one order.
//!
//! It has a log and a database of its own, so that neither a hundred thousand signups hold up a race nor a
//! race them. Otherwise it works as the [`directory`](super::directory) does: it takes what waits, judges it
//! in one transaction, makes the records durable, commits, publishes, answers.
//!
//! | module | what it is |
//! |---|---|
//! | [`judge`] | says what may be, and makes records of it |
//! | [`step`] | what one transaction does, and what comes of it when it is done |
//! | [`races`] | who is in what, and how far: the live part, in memory |
//! | [`clock`] | what the time alone brings: challenges that open, start and end |
//! | [`links`] | which connection is which worker's, and which workers are gone for good |
//! | [`trouble`] | what it does while the disk refuses |
//!
//! How somebody stands is in the database and decided by it; how far they are is in memory and may be lost.
//! Whoever was in when the process before ended is `DISCONNECTED` from the start, and may come back.

mod clock;
mod judge;
mod links;
mod races;
mod step;
mod trouble;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, at, never, select_biased};
use parking_lot::Mutex;

use self::clock::Ending;
use self::links::Links;
use self::races::Races;
use self::step::{Leaving, Step};
use self::trouble::Trouble;
use super::batch::PeerId;
use super::commit;
use super::publish::{Event, Publisher};
use super::reserve::Reserve;
use super::status::Status;
use super::tickets::Tickets;
use crate::challenge::{ChallengeId, EntryId};
use crate::chat::OpId;
use crate::config::{Challenge, Fsync};
use crate::index::challenges::ChallengeStore;
use crate::index::{IndexError, Reader};
use crate::journal::append::Log;
use crate::link::arena::{Ask, News, Record};

/// What waits for the thread; more makes workers wait.
pub const TOLD: usize = 8_192;

/// Of that, what is taken together.
const STEP_TOLD: usize = 2_048;

/// Stays that the server itself ends in one step, and participants whose end is written in it.
const STEP_ENDS: usize = 1_000;

/// Longest rest while something is to come at a time of the system's clock, which may be set.
const LOOK_AT_CLOCK: Duration = Duration::from_secs(10);

/// What the thread is told.
pub enum Told {
    /// Somebody asks for something.
    Asked {
        /// The connection it came on.
        peer: PeerId,
        /// The operation.
        op: OpId,
        /// What for.
        ask: Ask,
    },
    /// A participant is so far.
    Record(Record),
    /// A worker has greeted.
    Attached {
        /// Its connection.
        peer: PeerId,
        /// Its number.
        worker: u16,
        /// Its process.
        instance: u64,
    },
    /// A connection has ended.
    Gone(PeerId),
}

/// The last numbers given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Of a record.
    pub rev: u64,
    /// Of a challenge.
    pub challenge: ChallengeId,
    /// Of a stay.
    pub entry: EntryId,
}

/// What the thread begins with.
pub struct Parts {
    /// The database.
    pub store: ChallengeStore,
    /// `challenges.jsonl`
    pub log: Log,
    /// Where that ends.
    pub ends: Ends,
    /// Users.
    pub users: Reader,
    /// All one-time tickets.
    pub tickets: Arc<Mutex<Tickets>>,
    /// Settings.
    pub settings: Challenge,
    /// The policy.
    pub fsync: Fsync,
    /// Where news go.
    pub publisher: Publisher,
    /// Space for the time when the disk is full.
    pub reserve: Arc<Reserve>,
    /// What operators see.
    pub status: Arc<Status>,
}

/// The thread's state.
pub struct Arena {
    parts: Parts,
    /// Records known to be durable.
    durable: u64,
    races: Races,
    links: Links,
    /// Stays that are to end and have not yet: the disk refused, or there are many.
    owed: trouble::Owed,
    endings: VecDeque<Ending>,
    trouble: Trouble,
    /// Told and not taken up yet.
    held: Option<Told>,
    /// When the latest of participants is told.
    tick_at: Option<Instant>,
}

impl Arena {
    /// Nobody is in.
    pub fn new(parts: Parts) -> Arena {
        Arena {
            durable: parts.ends.rev,
            parts,
            races: Races::default(),
            links: Links::default(),
            owed: trouble::Owed::default(),
            endings: VecDeque::new(),
            trouble: Trouble::default(),
            held: None,
            tick_at: None,
        }
    }

    /// Works until nobody is left who could tell anything.
    ///
    /// # Errors
    /// The database is damaged; a new process builds it anew.
    pub fn run(mut self, mut told: Receiver<Told>) -> Result<(), IndexError> {
        let mut open = true;
        // Before anybody is heard: who was in has to come in again.
        self.turn(None, &told)?;
        while open || self.held.is_some() {
            let first = match self.held.take() {
                Some(held) => Some(held),
                None => self.wait(&mut told, &mut open),
            };
            self.turn(first, &told)?;
        }
        Ok(())
    }

    /// Waits until something is told or due.
    fn wait(&self, told: &mut Receiver<Told>, open: &mut bool) -> Option<Told> {
        let due = match self.next_due() {
            Some(when) => at(when),
            None => never(),
        };
        select_biased! {
            recv(told) -> first => first.inspect_err(|_| *open = false).ok(),
            recv(due) -> _ => None,
        }
    }

    fn next_due(&self) -> Option<Instant> {
        let now = Instant::now();
        let working = self.trouble.probe_at.is_none();
        let ours = (working && (!self.owed.is_empty() || !self.endings.is_empty())).then_some(now);
        let clock = self.races.next_ms().filter(|_| working).map(|when| {
            let ms = u64::try_from(when.saturating_sub(commit::now_ms())).unwrap_or(0);
            now + Duration::from_millis(ms).min(LOOK_AT_CLOCK)
        });
        [self.trouble.probe_at, self.tick_at, self.links.next_due(), ours, clock].into_iter().flatten().min()
    }

    /// Takes up what waits and what is due.
    fn turn(&mut self, first: Option<Told>, told: &Receiver<Told>) -> Result<(), IndexError> {
        let now = Instant::now();
        if self.trouble.probe_at.is_some_and(|when| when <= now) {
            self.probe()?;
        }
        for instance in self.links.departed(now) {
            self.owe_all_of(instance);
        }
        let group = self.gather(first, told);
        self.follow_clock()?;
        self.step(group)?;
        if self.tick_at.is_some_and(|when| when <= Instant::now()) {
            self.tell_moves();
        }
        if self.tick_at.is_none() && self.races.has_moves() {
            self.tick_at = Some(Instant::now() + self.parts.settings.update_tick);
        }
        Ok(())
    }

    /// What waits, up to where a worker comes or goes.
    fn gather(&mut self, first: Option<Told>, told: &Receiver<Told>) -> VecDeque<Told> {
        let mut group = VecDeque::new();
        let mut next = first;
        let mut asked = 0;
        while let Some(told_now) = next {
            match told_now {
                // What was told before it is news to it as well, or was before it came.
                Told::Attached { .. } | Told::Gone(_) if !group.is_empty() => {
                    self.held = Some(told_now);
                    break;
                }
                Told::Attached { peer, worker, instance } => {
                    for gone in self.links.attached(peer, worker, instance) {
                        self.owe_all_of(gone);
                    }
                    self.parts.publisher.send(Event::Tell(peer, step::encode(self.races.snapshot())));
                }
                Told::Gone(peer) => {
                    let races = &self.races;
                    let gone = self.links.gone(peer, Instant::now(), |instance| races.has_any_of(instance));
                    if let Some(gone) = gone {
                        self.owe_all_of(gone);
                    }
                }
                other => {
                    asked += u64::from(matches!(other, Told::Asked { .. }));
                    group.push_back(other);
                }
            }
            next = if group.len() < STEP_TOLD { told.try_recv().ok() } else { None };
        }
        self.parts.status.queue.fetch_sub(asked, Ordering::Relaxed);
        group
    }

    /// A worker's process is gone, and with it everybody's sockets.
    fn owe_all_of(&mut self, instance: u64) {
        for (challenge, user, entry) in self.races.all_of(instance) {
            self.owed.push(Leaving::disconnected(challenge, user, entry));
        }
    }

    /// One transaction.
    fn step(&mut self, mut group: VecDeque<Told>) -> Result<(), IndexError> {
        if let Some(refusal) = self.closed() {
            self.turn_away(group, &refusal);
            return Ok(());
        }
        if group.is_empty() && self.owed.is_empty() && self.endings.is_empty() {
            return Ok(());
        }
        let before = self.parts.log.end();
        let mut step = Step::new(self.parts.ends, commit::now_ms());
        match self.work(&mut step, &mut group) {
            Ok(()) => {
                self.keep(step);
                if self.trouble.probe_at.is_some() {
                    self.probe()?;
                }
                Ok(())
            }
            Err(failure) => self.give_up(failure, before, step, group),
        }
    }

    /// Tells how far participants are, of each challenge some.
    fn tell_moves(&mut self) {
        self.tick_at = None;
        let news = self.races.take_moves(self.parts.settings.updates_per_tick);
        self.publish(news);
    }

    fn publish(&self, news: Vec<News>) {
        if !news.is_empty() {
            self.parts.publisher.send(Event::Arena(step::encode(news), Vec::new()));
        }
    }
}
