//! Who is before whom: those who have finished, in the order in which they did, then everybody else by
//! distance; of two who are equally far, who got there first.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};

use super::Amount;
use crate::chat::UserId;

/// The order of a challenge's runners.
#[derive(Clone, Debug, Default)]
pub struct Ranking {
    places: BTreeSet<Place>,
    of: HashMap<UserId, Place, foldhash::fast::RandomState>,
}

/// Where somebody stands; the lower the better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Finished { rank: u32, user: UserId },
    Racing { distance: Reverse<Amount>, reached: u64, user: UserId },
}

impl Place {
    fn user(self) -> UserId {
        match self {
            Place::Finished { user, .. } | Place::Racing { user, .. } => user,
        }
    }
}

impl Ranking {
    /// Somebody is so far; `reached` grows with every change of anybody's distance. One who has finished
    /// keeps their place.
    pub fn advance(&mut self, user: UserId, distance: Amount, reached: u64) {
        if !matches!(self.of.get(&user), Some(Place::Finished { .. })) {
            self.put(user, Place::Racing { distance: Reverse(distance), reached, user });
        }
    }

    /// Somebody has finished, and is of that rank from now on.
    pub fn finish(&mut self, user: UserId, rank: u32) {
        self.put(user, Place::Finished { rank, user });
    }

    /// Somebody is not ranked any more; one who has finished is.
    pub fn remove(&mut self, user: UserId) {
        if let Some(place @ Place::Racing { .. }) = self.of.get(&user).copied() {
            self.of.remove(&user);
            self.places.remove(&place);
        }
    }

    fn put(&mut self, user: UserId, place: Place) {
        if let Some(before) = self.of.insert(user, place) {
            self.places.remove(&before);
        }
        self.places.insert(place);
    }

    /// How many are ranked.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Nobody is ranked.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Everybody, the first one first.
    pub fn iter(&self) -> impl Iterator<Item = UserId> + '_ {
        self.places.iter().map(|place| place.user())
    }

    /// Those nearest to somebody in rank, without them, the nearest first and those ahead before those
    /// behind; the first ones of all, if the user is not ranked.
    pub fn nearest(&self, user: UserId, limit: usize) -> Vec<UserId> {
        let Some(own) = self.of.get(&user) else {
            return self.iter().take(limit).collect();
        };
        let mut ahead = self.places.range(..own).rev().map(|place| place.user());
        let mut behind = self.places.range(own..).skip(1).map(|place| place.user());
        let mut nearest = Vec::with_capacity(limit.min(self.len()));
        while nearest.len() < limit {
            let pair = [ahead.next(), behind.next()];
            if pair == [None, None] {
                break;
            }
            nearest.extend(pair.into_iter().flatten());
        }
        nearest.truncate(limit);
        nearest
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn km(number: f64) -> Amount {
        Amount::try_from(number).unwrap()
    }

    #[test]
    fn of_two_equally_far_the_first_one_there_is_before_and_who_finished_stays() {
        let mut ranking = Ranking::default();
        ranking.advance(1, km(1.0), 1);
        ranking.advance(2, km(2.0), 2);
        ranking.advance(3, km(2.0), 3);
        assert_eq!(ranking.iter().collect::<Vec<_>>(), [2, 3, 1]);
        ranking.finish(3, 1);
        ranking.advance(2, km(9.0), 4);
        ranking.advance(3, km(0.0), 5);
        ranking.remove(3);
        assert_eq!(ranking.iter().collect::<Vec<_>>(), [3, 2, 1]);
        assert_eq!(ranking.nearest(2, 9), [3, 1]);
        assert_eq!(ranking.nearest(2, 1), [3]);
        assert_eq!(ranking.nearest(7, 2), [3, 2]);
        ranking.remove(2);
        assert_eq!((ranking.iter().collect::<Vec<_>>(), ranking.len()), (vec![3, 1], 2));
    }

    proptest! {
        #[test]
        fn it_is_what_sorting_makes(steps in prop::collection::vec((0..8u64, 0..5u8, 0..10u8), 0..60)) {
            let mut ranking = Ranking::default();
            let mut plain: Vec<(UserId, Option<u32>, Amount, u64)> = Vec::new();
            let mut finished = 0;
            for (reached, (user, metres, what)) in (0..).zip(steps) {
                let at = plain.iter().position(|row| row.0 == user);
                match (what, at) {
                    (0, Some(at)) if plain[at].1.is_none() => {
                        finished += 1;
                        plain[at].1 = Some(finished);
                        ranking.finish(user, finished);
                    }
                    (1, _) => {
                        plain.retain(|row| row.0 != user || row.1.is_some());
                        ranking.remove(user);
                    }
                    _ => {
                        let distance = km(f64::from(metres));
                        ranking.advance(user, distance, reached);
                        match at {
                            Some(at) => (plain[at].2, plain[at].3) = (distance, reached),
                            None => plain.push((user, None, distance, reached)),
                        }
                    }
                }
            }
            plain.sort_by_key(|&(_, rank, distance, reached)| match rank {
                Some(rank) => (rank, Reverse(Amount::ZERO), 0),
                None => (u32::MAX, Reverse(distance), reached),
            });
            let order: Vec<UserId> = plain.iter().map(|row| row.0).collect();
            prop_assert_eq!(ranking.iter().collect::<Vec<_>>(), &order[..]);
            for (at, user) in order.iter().enumerate() {
                let nearest = ranking.nearest(*user, order.len());
                prop_assert_eq!(nearest.len(), order.len() - 1);
                let steps = nearest.iter().map(|other| order.iter().position(|one| one == other).unwrap().abs_diff(at));
                prop_assert!(steps.collect::<Vec<_>>().is_sorted());
            }
        }
    }
}
