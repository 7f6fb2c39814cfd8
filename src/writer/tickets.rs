//! One-time tickets: kept in memory only, handed out to whoever redeems first.
//!
//! They live here because exactly one process may decide who was first, whatever number of sockets on
//! whatever workers come with the same ticket. They are not logged: a writer that starts anew knows none,
//! and who held one asks for another. Nothing here knows what a ticket is good for.
//!
//! Nobody is refused one for want of room: a user's oldest ticket makes room for that user's next, and when there
//! are too many in all, the oldest of whoever has most. How fast a user is given tickets is limited.
//!
//! A worker that lost its connection asks again under the same number, so the latest redeemed tickets are
//! remembered with the operation that redeemed them: the same operation gets the same answer.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::chat::{Code, OpId, Paces, Refusal, UserId};
use crate::link::clock;
use crate::link::frame::{Outcome, Purpose, TICKET_PAYLOAD_BYTES, Ticket};

/// Tickets of the whole host at a time; about 200 bytes each.
const TICKETS: usize = 65_536;

/// Tickets of one user at a time.
const TICKETS_PER_USER: usize = 16;

/// Tickets that one user is given at once, and each second.
const TICKETS_PER_SECOND: u32 = 64;

/// Redeemed tickets that are remembered for repetitions: far more than a worker that comes back repeats.
const REDEEMED: usize = 4_096;

/// All tickets there are.
pub struct Tickets {
    good: HashMap<u128, Kept, foldhash::fast::RandomState>,
    /// By the time they turn bad.
    ends: BTreeSet<(Instant, u128)>,
    /// Each user's, in the order in which they were issued.
    users: HashMap<UserId, VecDeque<u128>, foldhash::fast::RandomState>,
    /// Users by how many tickets they have.
    holders: BTreeMap<usize, BTreeSet<UserId>>,
    paces: Paces,
    redeemed: HashMap<OpId, Outcome, foldhash::fast::RandomState>,
    /// In the order in which they were redeemed.
    redeemed_by: VecDeque<OpId>,
    counts: [Counts; 2],
}

/// What became of tickets for one purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Given out.
    pub issued: u64,
    /// Redeemed.
    pub used: u64,
    /// Too old before anybody redeemed them.
    pub expired: u64,
}

struct Kept {
    end: Instant,
    purpose: Purpose,
    user: UserId,
    payload: Vec<u8>,
}

impl Default for Tickets {
    fn default() -> Tickets {
        Tickets {
            good: HashMap::default(),
            ends: BTreeSet::new(),
            users: HashMap::default(),
            holders: BTreeMap::new(),
            paces: Paces::new(TICKETS_PER_SECOND),
            redeemed: HashMap::default(),
            redeemed_by: VecDeque::new(),
            counts: [Counts::default(); 2],
        }
    }
}

impl Tickets {
    /// Keeps a ticket from now on. One that is there already is a repetition and stays as it is.
    ///
    /// # Errors
    /// The user asks for too many too fast.
    pub fn issue(&mut self, ticket: Ticket, now: Instant) -> Result<Outcome, Refusal> {
        self.forget_old(now);
        let Ticket { id, purpose, user, payload, ttl_ms } = ticket;
        if self.good.contains_key(&id) {
            return Ok(Outcome::Ok);
        }
        if payload.len() > TICKET_PAYLOAD_BYTES {
            return Err(Refusal::new(Code::Internal, "Internal error"));
        }
        if !self.paces.take(user, clock::now_us()) {
            return Err(Refusal::too_many_requests());
        }
        if self.users.get(&user).is_some_and(|tickets| tickets.len() >= TICKETS_PER_USER) {
            self.drop_oldest(user);
        }
        if self.good.len() >= TICKETS
            && let Some(most) = self.holders.last_key_value().and_then(|(_, users)| users.first().copied())
        {
            self.drop_oldest(most);
        }
        let end = now + Duration::from_millis(ttl_ms);
        self.counts[purpose as usize].issued += 1;
        self.good.insert(id, Kept { end, purpose, user, payload });
        self.ends.insert((end, id));
        let tickets = self.users.entry(user).or_default();
        tickets.push_back(id);
        let has = tickets.len();
        self.move_holder(user, has - 1, has);
        Ok(Outcome::Ok)
    }

    /// Forgets a user's tickets: those who could be meant by them have been logged out.
    pub fn forget(&mut self, user: UserId) {
        for id in self.users.get(&user).cloned().unwrap_or_default() {
            self.take(id);
        }
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
        self.counts[purpose as usize].used += 1;
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
            if let Some(kept) = self.take(id) {
                self.counts[kept.purpose as usize].expired += 1;
            }
        }
    }

    /// What became of the tickets for a purpose, since the start of the process.
    pub fn counts(&mut self, purpose: Purpose, now: Instant) -> Counts {
        self.forget_old(now);
        self.counts[purpose as usize]
    }

    fn take(&mut self, id: u128) -> Option<Kept> {
        let kept = self.good.remove(&id)?;
        self.ends.remove(&(kept.end, id));
        if let Some(tickets) = self.users.get_mut(&kept.user) {
            let had = tickets.len();
            tickets.retain(|ticket| *ticket != id);
            let has = tickets.len();
            if has == 0 {
                self.users.remove(&kept.user);
            }
            self.move_holder(kept.user, had, has);
        }
        Some(kept)
    }

    fn drop_oldest(&mut self, user: UserId) {
        if let Some(id) = self.users.get(&user).and_then(|tickets| tickets.front().copied()) {
            self.take(id);
        }
    }

    fn move_holder(&mut self, user: UserId, had: usize, has: usize) {
        if let Some(users) = self.holders.get_mut(&had) {
            users.remove(&user);
            if users.is_empty() {
                self.holders.remove(&had);
            }
        }
        if has > 0 {
            self.holders.entry(has).or_default().insert(user);
        }
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
        assert_eq!(tickets.counts(Purpose::Chat, now), Counts { issued: 2, used: 1, expired: 1 });
        assert_eq!(tickets.counts(Purpose::Challenge, now), Counts::default());
        assert!(tickets.good.is_empty() && tickets.ends.is_empty() && tickets.users.is_empty());
    }

    #[test]
    fn ones_own_oldest_makes_room() {
        let (mut tickets, now) = (Tickets::default(), Instant::now());
        let most = TICKETS_PER_USER as u128;
        (0..=most).for_each(|id| drop(tickets.issue(ticket(id, 1), now).unwrap()));
        tickets.issue(ticket(100, 2), now).unwrap();
        assert_eq!(redeem(&mut tickets, 1, 0, now), Err(Code::Unauthorized));
        assert_eq!(redeem(&mut tickets, 2, 1, now), good(1));
        assert_eq!(redeem(&mut tickets, 3, most, now), good(1));
        tickets.forget(1);
        assert_eq!(redeem(&mut tickets, 4, 2, now), Err(Code::Unauthorized));
        assert_eq!(redeem(&mut tickets, 5, 100, now), good(2));
        assert!(tickets.good.is_empty() && tickets.users.is_empty() && tickets.holders.is_empty());
    }

    #[test]
    fn who_has_most_makes_room_for_the_others() {
        let (mut tickets, now) = (Tickets::default(), Instant::now());
        (0..2).for_each(|id| drop(tickets.issue(ticket(id, 1), now).unwrap()));
        let others = 2..TICKETS as u128;
        others.for_each(|id| drop(tickets.issue(ticket(id, u64::try_from(id).unwrap()), now).unwrap()));
        tickets.issue(ticket(1_000_000, 1_000_000), now).unwrap();
        assert_eq!(tickets.good.len(), TICKETS);
        assert_eq!(redeem(&mut tickets, 1, 0, now), Err(Code::Unauthorized));
        assert_eq!(redeem(&mut tickets, 2, 1, now), good(1));
        assert_eq!(redeem(&mut tickets, 3, 2, now), good(2));
        assert_eq!(redeem(&mut tickets, 4, 1_000_000, now), good(1_000_000));
        tickets.issue(ticket(1_000_001, 1), now + TTL).unwrap();
        assert_eq!((tickets.good.len(), tickets.users.len(), tickets.holders.len()), (1, 1, 1));
    }

    #[test]
    fn one_user_is_given_so_many_at_once() {
        let (mut tickets, now) = (Tickets::default(), Instant::now());
        let code = |result: Result<Outcome, Refusal>| result.map_err(|refusal| refusal.code);
        let refused = (0..).find(|id| code(tickets.issue(ticket(*id, 1), now)) == Err(Code::RateLimited));
        assert!(refused.is_some_and(|at| at >= u128::from(TICKETS_PER_SECOND)));
        assert_eq!(code(tickets.issue(ticket(1_000_000, 2), now)), Ok(Outcome::Ok));
    }

    #[test]
    fn redeemed_ones_are_remembered_for_a_while() {
        let (mut tickets, now) = (Tickets::default(), Instant::now());
        for id in 0..2 * REDEEMED as u128 {
            let by = u64::try_from(id).unwrap();
            tickets.issue(ticket(id, by), now).unwrap();
            assert_eq!(redeem(&mut tickets, by, id, now), good(by));
        }
        assert_eq!((tickets.redeemed.len(), tickets.redeemed_by.len()), (REDEEMED, REDEEMED));
    }
}
