//! Who is in a live challenge and how far, as the storage writer has told it. Pure.
//!
//! The order in which newcomers are told of the others is that in which those came in: a number that grows on
//! the whole host, so that how far somebody has been told is one number, whoever comes and goes meanwhile.

use std::cell::OnceCell;
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

use super::socket;
use crate::challenge::{EntryId, Ranking, Reason};
use crate::chat::UserId;
use crate::link::arena::{LiveChallenge, Move, Runner, Standing};
use crate::wire::challenge;

/// A live challenge.
pub struct Mirror {
    /// Its times and the like.
    pub facts: LiveChallenge,
    runners: HashMap<UserId, Row, foldhash::fast::RandomState>,
    ranking: Ranking,
    /// Those who are in, by when they came.
    present: BTreeMap<EntryId, UserId>,
}

/// A participant, in or not.
pub struct Row {
    runner: Runner,
    /// Key in `present`; a newer socket in the place of an older one does not change it.
    came: EntryId,
    /// What newcomers are told, until it has come further: a crowd that comes is told the same of everybody.
    entered: OnceCell<Box<[u8]>>,
}

impl Row {
    /// The frame that tells a newcomer of it; made at `now_ms` if it is not there yet.
    pub fn entered(&self, now_ms: i64) -> &[u8] {
        self.entered.get_or_init(|| {
            let mut frame = Vec::new();
            challenge::write(&socket::entered(&self.runner, now_ms), &mut frame);
            frame.into()
        })
    }
}

/// What a newcomer has not been told yet: who is in since before it came, but for some.
#[derive(Debug, PartialEq, Eq)]
pub struct Rest {
    after: EntryId,
    upto: EntryId,
    /// Ascending.
    told: Vec<UserId>,
}

impl Mirror {
    /// A challenge that nobody is in.
    pub fn new(facts: LiveChallenge) -> Mirror {
        Mirror { facts, runners: HashMap::default(), ranking: Ranking::default(), present: BTreeMap::new() }
    }

    /// Somebody is there, or comes, or is known to have been; `again`: they were there already.
    pub fn put(&mut self, runner: Runner, again: bool) {
        let user = runner.user;
        let before = self.runners.get(&user).map(|row| row.came);
        let came = before.filter(|_| again).unwrap_or(runner.entry);
        if let Some(before) = before {
            self.present.remove(&before);
        }
        match runner.standing {
            Standing::In => {
                self.present.insert(came, user);
                self.ranking.advance(user, runner.at.distance, runner.at.reached);
            }
            Standing::Finished(rank) => self.ranking.finish(user, rank),
            Standing::Away => self.ranking.remove(user),
        }
        self.runners.insert(user, Row { runner, came, entered: OnceCell::new() });
    }

    /// Somebody is no longer in. False: that stay was over already.
    pub fn leave(&mut self, user: UserId, entry: EntryId, reason: Reason, rank: Option<u32>) -> bool {
        let Some(row) = self.runners.get_mut(&user) else {
            return false;
        };
        if row.runner.entry != entry || row.runner.standing != Standing::In {
            return false;
        }
        self.present.remove(&row.came);
        row.entered.take();
        match (reason, rank) {
            (Reason::Finish, Some(rank)) => {
                row.runner.standing = Standing::Finished(rank);
                self.ranking.finish(user, rank);
            }
            (Reason::Timeout | Reason::Disconnected | Reason::Error, _) => {
                row.runner.standing = Standing::Away;
                self.ranking.remove(user);
            }
            _ => {
                self.runners.remove(&user);
                self.ranking.remove(user);
            }
        }
        true
    }

    /// Somebody has come further. False: they are not in.
    pub fn advance(&mut self, step: &Move) -> bool {
        match self.runners.get_mut(&step.user) {
            Some(row) if row.runner.standing == Standing::In => {
                row.runner.at = step.at;
                row.entered.take();
                self.ranking.advance(step.user, step.at.distance, step.at.reached);
                true
            }
            _ => false,
        }
    }

    /// A participant is seen otherwise, by those who are told from now on.
    pub fn set_looks(&mut self, user: UserId, nickname: &str, profile_image: Option<&str>) {
        if let Some(row) = self.runners.get_mut(&user) {
            nickname.clone_into(&mut row.runner.nickname);
            row.runner.profile_image = profile_image.map(str::to_owned);
        }
    }

    /// A participant, in or not.
    pub fn runner(&self, user: UserId) -> Option<&Runner> {
        self.runners.get(&user).map(|row| &row.runner)
    }

    /// Whether that stay has not ended: its participant is in, or has finished.
    pub fn holds(&self, user: UserId, entry: EntryId) -> bool {
        self.runner(user).is_some_and(|runner| runner.entry == entry && runner.standing != Standing::Away)
    }

    /// Of the others that are in, up to `limit` of the nearest in rank, and what is left to tell.
    pub fn greeting(&self, user: UserId, limit: usize) -> (Vec<&Runner>, Option<Rest>) {
        let nearest = self.ranking.nearest(user, limit).into_iter();
        let is_in = |runner: &&Runner| runner.standing == Standing::In;
        let first: Vec<&Runner> = nearest.filter_map(|other| self.runner(other)).filter(is_in).collect();
        let others = self.present.len() - usize::from(self.runner(user).as_ref().is_some_and(is_in));
        let rest = self.present.last_key_value().filter(|_| first.len() < others).map(|(upto, _)| {
            let mut told: Vec<UserId> = first.iter().map(|runner| runner.user).chain([user]).collect();
            told.sort_unstable();
            Rest { after: 0, upto: *upto, told }
        });
        (first, rest)
    }

    /// The next of those that are left to tell, up to `limit`, or a few less; `None` as well in the end.
    pub fn next(&self, rest: Rest, limit: usize) -> (Vec<&Row>, Option<Rest>) {
        let Rest { mut after, upto, told } = rest;
        let range = (Bound::Excluded(after), Bound::Included(upto));
        let mut rows = Vec::with_capacity(limit);
        let mut looked_at = 0;
        for (came, user) in self.present.range(range).take(limit) {
            (after, looked_at) = (*came, looked_at + 1);
            if told.binary_search(user).is_err() {
                rows.extend(self.runners.get(user));
            }
        }
        (rows, (looked_at == limit && after < upto).then_some(Rest { after, upto, told }))
    }

    /// Everybody who is ranked, the first one first, with their ranks from 1.
    pub fn ranked(&self) -> impl Iterator<Item = (u32, &Runner)> {
        (1..).zip(self.ranking.iter()).filter_map(|(rank, user)| Some((rank, self.runner(user)?)))
    }

    /// How many are ranked.
    pub fn ranked_count(&self) -> usize {
        self.ranking.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::challenge::{Amount, Distance, Schedule};
    use crate::link::arena::Place;

    fn mirror() -> Mirror {
        let schedule = Schedule { ready_ms: 0, start_ms: 1, end_ms: 2 };
        Mirror::new(LiveChallenge { challenge: 1, broadcast: true, distance: Distance::One, schedule })
    }

    fn runner(user: UserId, entry: EntryId, standing: Standing) -> Runner {
        let nickname = format!("n{user}");
        Runner { user, entry, nickname, profile_image: None, at: Place::default(), standing }
    }

    fn place(km: f64, reached: u64) -> Place {
        let distance = Amount::try_from(km).unwrap();
        Place { distance, pace: Amount::ZERO, timestamp_ms: 0, reached }
    }

    fn users(runners: &[&Runner]) -> Vec<UserId> {
        runners.iter().map(|runner| runner.user).collect()
    }

    #[test]
    fn ten_thousand_are_told_in_bounded_pieces_each_once() {
        let mut mirror = mirror();
        for user in 1..=10_000 {
            mirror.put(runner(user, user, Standing::In), false);
        }
        let (first, mut rest) = mirror.greeting(5_000, 100);
        assert_eq!(first.len(), 100);
        assert!(first.iter().all(|other| other.user.abs_diff(5_000) <= 50 && other.user != 5_000));
        let mut told: Vec<UserId> = users(&first);
        while let Some(left) = rest.take() {
            let (piece, next) = mirror.next(left, 100);
            assert!(piece.len() <= 100);
            told.extend(piece.iter().map(|row| row.runner.user));
            rest = next;
        }
        told.sort_unstable();
        assert_eq!(told, (1..=10_000).filter(|user| *user != 5_000).collect::<Vec<_>>());
    }

    #[test]
    fn a_small_crowd_is_told_at_once_and_one_who_is_alone_of_nobody() {
        let mut mirror = mirror();
        mirror.put(runner(1, 1, Standing::In), false);
        assert_eq!(mirror.greeting(1, 100), (vec![], None));
        mirror.put(runner(2, 2, Standing::In), false);
        mirror.put(runner(3, 3, Standing::Finished(1)), false);
        mirror.put(runner(4, 4, Standing::Away), false);
        let (first, rest) = mirror.greeting(1, 100);
        assert_eq!((users(&first), rest), (vec![2], None));
        let ranks: Vec<_> = mirror.ranked().map(|(rank, runner)| (rank, runner.user)).collect();
        assert_eq!(ranks, [(1, 3), (2, 1), (3, 2)]);
    }

    #[test]
    fn newcomers_are_told_of_the_latest_position() {
        let mut mirror = mirror();
        mirror.put(runner(1, 1, Standing::In), false);
        let told = |mirror: &Mirror, now_ms| {
            let rest = Rest { after: 0, upto: 1, told: vec![] };
            let (rows, _) = mirror.next(rest, 10);
            String::from_utf8_lossy(rows[0].entered(now_ms)).into_owned()
        };
        let first = told(&mirror, 5);
        assert!(first.contains(r#""distance":0.0"#) && first.contains(r#""timestamp":5"#), "{first}");
        assert_eq!(told(&mirror, 6), first, "made once");
        assert!(mirror.advance(&Move { user: 1, at: place(0.5, 1) }));
        let second = told(&mirror, 7);
        assert!(second.contains(r#""distance":0.5"#) && second.contains(r#""timestamp":7"#), "{second}");
        mirror.put(Runner { nickname: "new".into(), ..runner(1, 2, Standing::In) }, true);
        assert!(told(&mirror, 8).contains(r#""nickname":"new""#));
    }

    #[test]
    fn only_the_latest_stay_can_end_and_a_finisher_keeps_the_rank() {
        let mut mirror = mirror();
        mirror.put(runner(1, 1, Standing::In), false);
        mirror.put(runner(1, 5, Standing::In), true);
        mirror.put(runner(2, 2, Standing::In), false);
        assert!(!mirror.leave(1, 1, Reason::Disconnected, None), "the older socket's end");
        assert!(mirror.advance(&Move { user: 1, at: place(1.0, 1) }));
        assert!(mirror.leave(1, 5, Reason::Finish, Some(1)));
        assert!(!mirror.advance(&Move { user: 1, at: place(0.5, 2) }));
        assert!(mirror.advance(&Move { user: 2, at: place(0.9, 3) }));
        assert!(mirror.holds(1, 5) && mirror.holds(2, 2) && !mirror.holds(2, 1));
        assert_eq!(mirror.ranked().map(|(_, runner)| runner.user).collect::<Vec<_>>(), [1, 2]);
        assert!(mirror.leave(2, 2, Reason::Quit, None));
        assert_eq!((mirror.ranked_count(), mirror.runner(2)), (1, None));
    }

    proptest! {
        /// A newcomer knows in the end exactly those who are in: by what it is told, and by the news from then on.
        #[test]
        fn whoever_comes_and_goes_meanwhile_is_known_in_the_end(
            steps in prop::collection::vec((1..12u64, 0..4u8), 1..80), at in 0..80usize, limit in 1..4usize,
        ) {
            let mut mirror = mirror();
            let (mut entry, me) = (100, 99);
            let mut known: Option<std::collections::BTreeSet<UserId>> = None;
            let mut rest = None;
            for (step, (user, what)) in steps.into_iter().enumerate() {
                let before = mirror.runner(user).map(|runner| (runner.entry, runner.standing));
                let is_in = before.filter(|(_, standing)| *standing == Standing::In);
                match (what, is_in) {
                    (0, Some((stay, _))) => {
                        mirror.leave(user, stay, Reason::Disconnected, None);
                        known.as_mut().map(|known| known.remove(&user));
                    }
                    _ => {
                        entry += 1;
                        mirror.put(runner(user, entry, Standing::In), is_in.is_some());
                        if is_in.is_none() && let Some(known) = &mut known {
                            known.insert(user);
                        }
                    }
                }
                if step == at {
                    entry += 1;
                    mirror.put(runner(me, entry, Standing::In), false);
                    let (first, left) = mirror.greeting(me, limit);
                    known = Some(first.iter().map(|runner| runner.user).collect());
                    rest = left;
                } else if let Some(left) = rest.take() {
                    let (piece, next) = mirror.next(left, limit);
                    known.as_mut().unwrap().extend(piece.iter().map(|row| row.runner.user));
                    rest = next;
                }
            }
            while let Some(left) = rest.take() {
                let (piece, next) = mirror.next(left, limit);
                known.as_mut().unwrap().extend(piece.iter().map(|row| row.runner.user));
                rest = next;
            }
            if let Some(known) = known {
                let present: std::collections::BTreeSet<UserId> =
                    mirror.present.values().copied().filter(|user| *user != me).collect();
                prop_assert_eq!(known, present);
            }
        }
    }
}
