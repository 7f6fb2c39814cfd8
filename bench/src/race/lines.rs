//! The members' calls, each at its time, over a bounded number of HTTP connections.
//!
//! The model is open: a member's login counts from the moment it should have begun, so a server that
//! cannot follow the ramp shows as latency, not as a slower ramp.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc::SyncSender;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mio::Waker;

use super::calls::{self, Admission};
use crate::clock::Clock;
use crate::http::Client;

/// Calls under way at once.
pub const LINES: usize = 64;

/// Longest silence of the server before a call has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// Longest wait of an idle line before it looks whether all is over.
const LOOK: Duration = Duration::from_millis(200);

/// What happened to a member's calls.
#[derive(Debug)]
pub enum Step {
    /// It has a token; how long that took in ns.
    LoggedIn { from_ns: u64, to_ns: u64 },
    /// It takes part; whether it did before.
    Joined { from_ns: u64, to_ns: u64, before: bool },
    /// It has a ticket.
    Entered { from_ns: u64, to_ns: u64, admission: Admission },
    /// A call failed: which, and why.
    Failed { call: &'static str, why: String },
}

/// Something about a member, by its place in the list.
pub type News = (usize, Step);

/// What members do when. Entries are moment, member, and whether it was in already.
pub struct Agenda {
    due: Mutex<BTreeSet<(u64, usize, bool)>>,
    more: Condvar,
    /// Held by the one line that waits for the next moment.
    turn: Mutex<()>,
    over: AtomicBool,
}

/// A member as far as its calls go.
pub struct Caller {
    /// The user's number.
    pub member: u64,
    /// The challenge's.
    pub challenge: u64,
    /// Once it is logged in.
    pub token: Mutex<Option<String>>,
}

/// What all lines share.
pub struct Lines<'a> {
    /// The server.
    pub target: SocketAddr,
    /// The run's clock.
    pub clock: Clock,
    /// Everybody.
    pub callers: &'a [Caller],
    /// Of a private challenge.
    pub password: Option<&'a str>,
    /// Who does what when.
    pub agenda: &'a Agenda,
}

impl Agenda {
    /// All members come, one each `interval_ns` from `begin_ns` on.
    pub fn ramp(members: usize, begin_ns: u64, interval_ns: u64) -> Agenda {
        let at = |member: usize| begin_ns + (member as u64).saturating_mul(interval_ns);
        let due = (0..members).map(|member| (at(member), member, false)).collect();
        let (more, turn) = (Condvar::new(), Mutex::new(()));
        Agenda { due: Mutex::new(due), more, turn, over: AtomicBool::new(false) }
    }

    /// A member that lost its connection comes back at a moment.
    pub fn again(&self, member: usize, at_ns: u64) {
        held(&self.due).insert((at_ns, member, true));
        self.more.notify_all();
    }

    /// Nobody comes any more.
    pub fn end(&self) {
        self.over.store(true, SeqCst);
        self.more.notify_all();
    }

    /// The next one, at its moment; `None`: it is over.
    fn next(&self, clock: Clock) -> Option<(u64, usize, bool)> {
        let _turn = held(&self.turn);
        let mut due = held(&self.due);
        while !self.over.load(SeqCst) {
            let now_ns = clock.now_ns();
            let left = match due.first() {
                Some((at_ns, ..)) if *at_ns <= now_ns => return due.pop_first(),
                Some((at_ns, ..)) => Duration::from_nanos(at_ns - now_ns).min(LOOK),
                None => LOOK,
            };
            due = self.more.wait_timeout(due, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        None
    }
}

impl Lines<'_> {
    /// One line: makes calls until all is over, and tells what became of them.
    pub fn run(&self, news: &SyncSender<News>, waker: &Waker) {
        let mut client = Client::with_patience(self.target, PATIENCE);
        let mut known = None;
        while let Some((due_ns, member, again)) = self.agenda.next(self.clock) {
            let mut tell = |step| {
                // Nobody listens once the run is over.
                if news.send((member, step)).is_ok() {
                    waker.wake().ok();
                }
            };
            let called = self.call(&mut client, &mut known, member, due_ns, again, &mut tell);
            if let Err((call, why)) = called {
                tell(Step::Failed { call, why });
            }
        }
    }

    fn call(
        &self,
        client: &mut Client,
        known: &mut Option<(String, SocketAddr)>,
        member: usize,
        due_ns: u64,
        again: bool,
        tell: &mut impl FnMut(Step),
    ) -> Result<(), (&'static str, String)> {
        let Caller { member: number, challenge, token } = &self.callers[member];
        let now = || self.clock.now_ns();
        let kept = held(token).clone().filter(|_| again);
        let token = match kept {
            Some(token) => token,
            None => {
                let fresh = calls::login(client, *number).map_err(|why| ("login", why))?;
                tell(Step::LoggedIn { from_ns: due_ns, to_ns: now() });
                *held(token) = Some(fresh.clone());
                let from_ns = now();
                let joined = calls::join(client, *challenge, &fresh, self.password);
                let before = !joined.map_err(|why| ("join", why))?;
                tell(Step::Joined { from_ns, to_ns: now(), before });
                fresh
            }
        };
        let from_ns = now();
        let admission = calls::enter(client, *challenge, &token, known).map_err(|why| ("enter", why))?;
        tell(Step::Entered { from_ns, to_ns: now(), admission });
        Ok(())
    }
}

/// Nothing is half done under these locks, so one that a panic left behind is as good as any.
fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_come_at_their_time_and_some_again() {
        let clock = Clock::start();
        let agenda = Agenda::ramp(2, 0, 1);
        assert_eq!((agenda.next(clock), agenda.next(clock)), (Some((0, 0, false)), Some((1, 1, false))));
        let at = clock.now_ns() + 20_000_000;
        agenda.again(0, at);
        assert_eq!(agenda.next(clock), Some((at, 0, true)));
        assert!(clock.now_ns() >= at);
        agenda.end();
        assert_eq!(agenda.next(clock), None);
    }
}
