//! Tokens that end before their time: the index says whose, and every door asks it.
//!
//! A revocation is in the index before anybody is told that it is done, so whoever asks the index at each
//! call and each CONNECT ([`now`]) never lets an ended token in, however far this worker is behind
//! otherwise. For sockets that are in already, the storage writer gives a sign, and what is new is read
//! from the index ([`follow`]); the same is done when the link comes back, so a lost sign costs time only.
//!
//! No socket's row says which token it came with. Before somebody is let in everything older is followed,
//! so whoever is in the hub, or in a challenge, when a revocation is read came before it.
//!
//! While the index can't be read nobody is let in, and nobody is told that their token is bad: clients are
//! told to come again, and a sign is followed when reading works again.

use std::time::{Duration, Instant};

use super::answers::index_failed;
use super::arena::socket;
use super::core::Core;
use super::token::Pass;
use super::{deliver, expiry};
use crate::chat::{Code, Refusal, UserId};
use crate::index::{IndexError, Revocation};

/// Users read at a time.
const PAGE: usize = 256;

/// Pause before an index that could not be read is tried again for a sign.
const RETRY: Duration = Duration::from_millis(250);

/// How far a worker has followed the ends of tokens.
#[derive(Debug)]
pub struct Revocations {
    /// The latest record that was acted on; there was no socket before it.
    upto: u64,
    /// When to look for more of them; `None`: there is no reason to.
    due: Option<Instant>,
}

impl Revocations {
    /// Everything up to that record is done, and nothing more is known.
    pub fn followed_to(upto: u64) -> Revocations {
        Revocations { upto, due: None }
    }

    /// There may be more.
    pub fn sign(&mut self, now: Instant) {
        self.due = Some(now);
    }

    /// When [`follow_sign`] has something to do.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }
}

/// Which of a user's tokens have ended, by now; sockets that came with one are closed.
///
/// # Errors
/// The index can't be read.
pub fn now(core: &mut Core, user: UserId) -> Result<Revocation, IndexError> {
    loop {
        let found = core.index.revocation(user)?;
        if found.rev <= core.revocations.upto {
            return Ok(found);
        }
        follow(core)?;
    }
}

/// Which of a user's tokens have ended, if the pass is good all the same; `None`: it is not.
///
/// # Errors
/// The index can't be read.
pub fn is_good(core: &mut Core, user: UserId, pass: &Pass) -> Result<Option<Revocation>, IndexError> {
    let revocation = now(core, user)?;
    Ok(pass.survives(&revocation).then_some(revocation))
}

/// Does what a sign from the storage writer was for; if the index can't be read, tries again later.
pub fn follow_sign(core: &mut Core, now: Instant) {
    if core.revocations.due.is_some_and(|due| due <= now) {
        core.revocations.due = None;
        if let Err(error) = follow(core) {
            index_failed(&error);
            core.revocations.due = Some(now + RETRY);
        }
    }
}

/// Closes the sockets of all whose tokens have ended since this was last done.
///
/// # Errors
/// The index can't be read.
pub fn follow(core: &mut Core) -> Result<(), IndexError> {
    loop {
        let revoked = core.index.revoked_after(core.revocations.upto, PAGE)?;
        if !revoked.is_empty() {
            deliver::hand_out(core);
        }
        for (user, rev) in &revoked {
            core.revocations.upto = *rev;
            for slot in core.hub.slots_of(*user).to_vec() {
                if let Some(key) = core.engine.table.key(slot) {
                    core.counters.logged_out += 1;
                    let refusal = Refusal::new(Code::LoggedOut, "You have been logged out");
                    expiry::end(core, key, &refusal, "logged out");
                }
            }
            socket::log_out_all(core, *user);
        }
        if revoked.len() < PAGE {
            return Ok(());
        }
    }
}
