//! One-time tickets: kept in memory only, handed out to whoever redeems first.
//!
//! They live here because exactly one process may decide who was first, whatever number of sockets on
//! whatever workers come with the same ticket. They are not logged: a writer that starts anew knows none,
//! and who held one asks for another. Nothing here knows what a ticket is good for.
//!
//! A worker that lost its connection asks again under the same number, so the latest redeemed tickets are
//! remembered with the operation that redeemed them: the same operation gets the same answer.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::chat::{Code, OpId, Refusal, UserId};
use crate::link::frame::{Outcome, Purpose, TICKET_PAYLOAD_BYTES, Ticket};

/// Tickets of the whole host at a time; about 200 bytes each.
const TICKETS: usize = 65_536;

/// Tickets of one user at a time, so that nobody uses up those of all.
const TICKETS_PER_USER: u32 = 256;

/// Redeemed tickets that are remembered for repetitions: far more than a worker that comes back repeats.
const REDEEMED: usize = 4_096;

/// All tickets there are.
#[derive(Default)]
pub struct Tickets {
    good: HashMap<u128, Kept, foldhash::fast::RandomState>,
    /// By the time they turn bad.
    ends: BTreeSet<(Instant, u128)>,
    users: HashMap<UserId, u32, foldhash::fast::RandomState>,
    redeemed: HashMap<OpId, Outcome, foldhash::fast::RandomState>,
    /// In the order in which they were redeemed.
    redeemed_by: VecDeque<OpId>,
}

struct Kept {
    end: Instant,
    purpose: Purpose,
    user: UserId,
    payload: Vec<u8>,
}

impl Tickets {
    /// Keeps a ticket from now on. One that is there already is a repetition and stays as it is.
    ///
    /// # Errors
    /// There are too many.
    pub fn issue(&mut self, ticket: Ticket, now: Instant) -> Result<Outcome, Refusal> {
        self.forget_old(now);
        let Ticket { id, purpose, user, payload, ttl_ms } = ticket;
        if self.good.contains_key(&id) {
            return Ok(Outcome::Ok);
        }
        if payload.len() > TICKET_PAYLOAD_BYTES {
            return Err(Refusal::new(Code::Internal, "Internal error"));
        }
        if self.users.get(&user).is_some_and(|tickets| *tickets >= TICKETS_PER_USER) {
            let text = format!("There are {TICKETS_PER_USER} unused tickets already, use them first");
            return Err(Refusal::new(Code::RateLimited, text));
        }
        if self.good.len() >= TICKETS {
            return Err(Refusal::overloaded());
        }
        let end = now + Duration::from_millis(ttl_ms);
        self.good.insert(id, Kept { end, purpose, user, payload });
        self.ends.insert((end, id));
        *self.users.entry(user).or_default() += 1;
        Ok(Outcome::Ok)
    }

    /// Uses a ticket up.
    ///
    /// # Errors
    /// It was used before, is too old, is for something else, or never was.
    pub fn redeem(&mut self, op: OpId, purpose: Purpose, id: u128, now: Instant) -> Result<Outcome, Refusal> {
        self.forget_old(now);
        if let Some(outcome) = self.redeemed.get(&op) {
            return Ok(outcome.clone());
        }
        let fits = self.good.get(&id).is_some_and(|kept| kept.purpose == purpose);
        let Some(Kept { user, payload, .. }) = fits.then(|| self.take(id)).flatten() else {
            return Err(Refusal::new(Code::Unauthorized, "The ticket is not good (any more)"));
        };
        let outcome = Outcome::Ticket { user, payload };
        if self.redeemed.len() == REDEEMED
            && let Some(oldest) = self.redeemed_by.pop_front()
        {
            self.redeemed.remove(&oldest);
        }
        self.redeemed_by.push_back(op);
        self.redeemed.insert(op, outcome.clone());
        Ok(outcome)
    }

    fn forget_old(&mut self, now: Instant) {
        while let Some((end, id)) = self.ends.first().copied()
            && end <= now
        {
            self.take(id);
        }
    }

    fn take(&mut self, id: u128) -> Option<Kept> {
        let kept = self.good.remove(&id)?;
        self.ends.remove(&(kept.end, id));
        if let Some(tickets) = self.users.get_mut(&kept.user) {
            *tickets -= 1;
            if *tickets == 0 {
                self.users.remove(&kept.user);
            }
        }
        Some(kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(30);

    fn ticket(id: u128, user: UserId) -> Ticket {
        Ticket { id, purpose: Purpose::Chat, user, payload: vec![1, 2], ttl_ms: 30_000 }
    }

    fn op(count: u64) -> OpId {
        OpId { instance: 1, count }
    }

    fn good(user: UserId) -> Result<Outcome, Code> {
        Ok(Outcome::Ticket { user, payload: vec![1, 2] })
    }

    fn redeem(tickets: &mut Tickets, by: u64, id: u128, now: Instant) -> Result<Outcome, Code> {
        tickets.redeem(op(by), Purpose::Chat, id, now).map_err(|refusal| refusal.code)
    }

    #[test]
    fn the_first_one_gets_it_and_a_repetition_of_the_same_operation_gets_it_again() {
        let (mut tickets, now) = (Tickets::default(), Instant::now());
        tickets.issue(ticket(7, 3), now).unwrap();
        tickets.issue(ticket(7, 3), now).unwrap();
        assert_eq!(redeem(&mut tickets, 1, 8, now), Err(Code::Unauthorized));
        assert_eq!(redeem(&mut tickets, 2, 7, now), good(3));
        assert_eq!(redeem(&mut tickets, 3, 7, now), Err(Code::Unauthorized));
        assert_eq!(redeem(&mut tickets, 2, 7, now), good(3));
        assert!(tickets.good.is_empty() && tickets.ends.is_empty() && tickets.users.is_empty());
    }

    #[test]
    fn it_opens_one_door_and_only_in_time() {
        let (mut tickets, now) = (Tickets::default(), Instant::now());
        tickets.issue(ticket(1, 3), now).unwrap();
        tickets.issue(ticket(2, 3), now).unwrap();
        let elsewhere = tickets.redeem(op(1), Purpose::Challenge, 1, now);
        assert_eq!(elsewhere.map_err(|refusal| refusal.code), Err(Code::Unauthorized));
        assert_eq!(redeem(&mut tickets, 2, 1, now + TTL - Duration::from_millis(1)), good(3));
        assert_eq!(redeem(&mut tickets, 3, 2, now + TTL), Err(Code::Unauthorized));
        assert!(tickets.good.is_empty() && tickets.ends.is_empty() && tickets.users.is_empty());
    }

    #[test]
    fn memory_is_bounded_by_all_and_by_each() {
        let (mut tickets, now) = (Tickets::default(), Instant::now());
        let mut ids = 0_u128..;
        let mut issue = |tickets: &mut Tickets, user, now| {
            tickets.issue(ticket(ids.next().unwrap(), user), now).map_err(|refusal| refusal.code)
        };
        for _ in 0..TICKETS_PER_USER {
            assert_eq!(issue(&mut tickets, 1, now), Ok(Outcome::Ok));
        }
        assert_eq!(issue(&mut tickets, 1, now), Err(Code::RateLimited));
        for user in (2..).take(TICKETS - TICKETS_PER_USER as usize) {
            assert_eq!(issue(&mut tickets, user, now), Ok(Outcome::Ok));
        }
        assert_eq!(issue(&mut tickets, 9_999_999, now), Err(Code::Overloaded));
        assert_eq!(issue(&mut tickets, 1, now + TTL), Ok(Outcome::Ok));
        assert_eq!((tickets.good.len(), tickets.users.len()), (1, 1));
        for id in 1_000_000..1_000_000 + 2 * REDEEMED as u128 {
            let by = u64::try_from(id).unwrap();
            tickets.issue(ticket(id, 1), now).unwrap();
            assert_eq!(redeem(&mut tickets, by, id, now), good(1));
        }
        assert_eq!((tickets.redeemed.len(), tickets.redeemed_by.len()), (REDEEMED, REDEEMED));
    }
}
