//! Tokens that end before their time: the index says whose, and every door asks it.
//!
//! A revocation is in the index before anybody is told that it is done, so whoever asks the index at each
//! call and each CONNECT ([`now`]) never lets an ended token in, however far this worker is behind
//! otherwise. For sockets that are in already, the storage writer gives a sign, and what is new is read
//! from the index ([`follow`]); the same is done when the link comes back, so a lost sign costs time only.
//!
//! No socket's row says which token it came with. Before somebody is let in everything older is followed,
//! so whoever is in the hub when a revocation is read came before it.

use super::answers::index_failed;
use super::core::Core;
use super::token::Pass;
use super::{deliver, expiry};
use crate::chat::{Code, Refusal, UserId};
use crate::index::{IndexError, Revocation};

/// Users read at a time.
const PAGE: usize = 256;

/// Which of a user's tokens have ended, by now; sockets that came with one are closed.
///
/// # Errors
/// The index can't be read.
pub fn now(core: &mut Core, user: UserId) -> Result<Revocation, IndexError> {
    loop {
        let found = core.index.revocation(user)?;
        if found.rev <= core.revoked_upto {
            return Ok(found);
        }
        follow(core)?;
    }
}

/// Whether a pass is good by now; one that can't be looked up is not.
pub fn is_good(core: &mut Core, user: UserId, pass: &Pass) -> Option<Revocation> {
    match now(core, user) {
        Ok(revocation) => pass.survives(&revocation).then_some(revocation),
        Err(error) => {
            index_failed(&error);
            None
        }
    }
}

/// Does what a sign from the storage writer was for; if the index can't be read, the next turn tries again.
pub fn follow_sign(core: &mut Core) {
    if core.revoked_sign {
        core.revoked_sign = false;
        if let Err(error) = follow(core) {
            index_failed(&error);
            core.revoked_sign = true;
        }
    }
}

/// Closes the sockets of all whose tokens have ended since this was last done.
fn follow(core: &mut Core) -> Result<(), IndexError> {
    loop {
        let revoked = core.index.revoked_after(core.revoked_upto, PAGE)?;
        if !revoked.is_empty() {
            deliver::hand_out(core);
        }
        for (user, rev) in &revoked {
            core.revoked_upto = *rev;
            for slot in core.hub.slots_of(*user).to_vec() {
                if let Some(key) = core.engine.table.key(slot) {
                    core.counters.logged_out += 1;
                    let refusal = Refusal::new(Code::LoggedOut, "You have been logged out");
                    expiry::end(core, key, &refusal, "logged out");
                }
            }
        }
        if revoked.len() < PAGE {
            return Ok(());
        }
    }
}
