//! Who is in what, and how far: what of challenges lives in memory, from the time they can be entered until
//! they are over.

use std::collections::{BTreeSet, HashMap};

use crate::challenge::{ChallengeId, EntryId, Reason, Status, Updates};
use crate::chat::UserId;
use crate::link::arena::{LiveChallenge, Move, News, Place, RUNNERS_PER_FRAME, Record, Runner, Standing};

/// Bytes of participants in one frame, about; one participant more may exceed it.
const FRAME_BYTES: usize = 256 << 10;

/// All challenges that can be entered.
#[derive(Default)]
pub struct Races {
    live: HashMap<ChallengeId, Race, foldhash::fast::RandomState>,
    /// When the status of each is another one, as Unix time in milliseconds.
    changes: BTreeSet<(i64, ChallengeId)>,
    /// Those with something to tell.
    moved: BTreeSet<ChallengeId>,
    /// Raised by every change of anybody's distance.
    reached: u64,
    /// Challenges that start up to then are here, as Unix time in milliseconds.
    pub opened_upto_ms: Option<i64>,
    /// When the next one is to be opened.
    pub opens_ms: Option<i64>,
}

/// One challenge.
pub struct Race {
    /// What it is.
    pub challenge: LiveChallenge,
    /// How far it is; never goes back, whatever the clock does.
    pub status: Status,
    runners: HashMap<UserId, Entrant, foldhash::fast::RandomState>,
    updates: Updates<Place>,
}

struct Entrant {
    runner: Runner,
    /// The worker's process that has the socket.
    instance: u64,
}

impl Races {
    /// A challenge can be entered.
    pub fn open(&mut self, challenge: LiveChallenge, status: Status) -> News {
        let id = challenge.challenge;
        let change = match status {
            Status::Recruiting | Status::Ready => challenge.schedule.start_ms,
            Status::Running | Status::Done => challenge.schedule.end_ms,
        };
        self.changes.insert((change, id));
        let news = live(vec![challenge.clone()], Vec::new());
        let (runners, updates) = (HashMap::default(), Updates::default());
        self.live.insert(id, Race { challenge, status, runners, updates });
        news
    }

    /// One of them.
    pub fn get(&self, challenge: ChallengeId) -> Option<&Race> {
        self.live.get(&challenge)
    }

    /// When the clock next changes anything.
    pub fn next_ms(&self) -> Option<i64> {
        let change = self.changes.first().map(|(when, _)| *when);
        [change, self.opens_ms].into_iter().flatten().min()
    }

    /// A challenge whose status is another one by now, with the new one.
    pub fn next_change(&mut self, now_ms: i64) -> Option<(ChallengeId, Status)> {
        let &(when, id) = self.changes.first().filter(|(when, _)| *when <= now_ms)?;
        self.changes.remove(&(when, id));
        let race = self.live.get_mut(&id)?;
        let schedule = race.challenge.schedule;
        race.status = if now_ms >= schedule.end_ms { Status::Done } else { Status::Running };
        if race.status == Status::Running {
            self.changes.insert((schedule.end_ms, id));
        }
        Some((id, race.status))
    }

    /// What was to be done at the end of a challenge could not be, and is to be tried again.
    pub fn end_again(&mut self, challenge: ChallengeId, now_ms: i64) {
        self.changes.insert((now_ms, challenge));
    }

    /// Notes how far a participant is; `true`: that is far enough.
    pub fn record(&mut self, record: &Record) -> bool {
        let Record { challenge, user, entry, distance, pace, timestamp_ms } = *record;
        let Some(race) = self.live.get_mut(&challenge) else {
            return false;
        };
        let Some(Entrant { runner, .. }) = race.runners.get_mut(&user) else {
            return false;
        };
        let known = &mut runner.at;
        let is_old = timestamp_ms < known.timestamp_ms;
        if runner.entry != entry || runner.standing != Standing::In || is_old || race.status == Status::Done {
            return false;
        }
        if known.distance != distance {
            self.reached += 1;
            known.reached = self.reached;
        }
        (known.distance, known.pace, known.timestamp_ms) = (distance, pace, timestamp_ms);
        race.updates.put(user, *known);
        self.moved.insert(challenge);
        distance >= race.challenge.distance.km()
    }

    /// Puts somebody where they were when the process before ended.
    pub fn restore(&mut self, challenge: ChallengeId, mut runner: Runner) {
        self.reached += 1;
        runner.at.reached = self.reached;
        if let Some(race) = self.live.get_mut(&challenge) {
            race.runners.insert(runner.user, Entrant { runner, instance: 0 });
        }
    }

    /// Somebody has come in.
    pub fn enter(
        &mut self,
        challenge: ChallengeId,
        mut runner: Runner,
        instance: u64,
        at_ms: i64,
    ) -> Option<News> {
        let race = self.live.get_mut(&challenge)?;
        let known = race.runners.get(&runner.user);
        let again = known.is_some_and(|known| known.runner.standing == Standing::In);
        match known {
            // How far they are now, not when their ticket was looked at.
            Some(known) => runner.at = known.runner.at,
            None => {
                self.reached += 1;
                runner.at.reached = self.reached;
            }
        }
        // Another socket has another clock.
        runner.at.timestamp_ms = 0;
        race.runners.insert(runner.user, Entrant { runner: runner.clone(), instance });
        Some(News::Entered { challenge, runner, again, at_ms })
    }

    /// Somebody is no longer in; what is known of how far they came is told before.
    pub fn leave(
        &mut self,
        (challenge, user, entry): (ChallengeId, UserId, EntryId),
        reason: Reason,
        rank: Option<u32>,
        at_ms: i64,
    ) -> Vec<News> {
        let mut news = Vec::new();
        let Some(race) = self.live.get_mut(&challenge) else {
            return news;
        };
        if let Some(at) = race.updates.remove(user) {
            news.push(News::Moved { challenge, moves: vec![Move { user, at }] });
        }
        news.push(News::Left { challenge, user, entry, reason, rank, at_ms });
        match (reason, race.runners.get_mut(&user)) {
            (Reason::Quit | Reason::Kicked | Reason::Expired, _) => drop(race.runners.remove(&user)),
            (Reason::Finish, Some(known)) => known.runner.standing = Standing::Finished(rank.unwrap_or(0)),
            (_, Some(known)) => known.runner.standing = Standing::Away,
            (_, None) => {}
        }
        news
    }

    /// A member is seen otherwise; tells nothing if nobody who is told of anything knows them.
    pub fn set_looks(
        &mut self,
        user: UserId,
        nickname: String,
        profile_image: Option<String>,
    ) -> Option<News> {
        let mut is_known = false;
        for known in self.live.values_mut().filter_map(|race| race.runners.get_mut(&user)) {
            known.runner.nickname.clone_from(&nickname);
            known.runner.profile_image.clone_from(&profile_image);
            is_known = true;
        }
        is_known.then_some(News::Looks { user, nickname, profile_image })
    }

    /// A challenge is over.
    pub fn close(&mut self, challenge: ChallengeId) {
        self.live.remove(&challenge);
        self.moved.remove(&challenge);
    }

    /// Whether there is anything to tell of how far anybody is.
    pub fn has_moves(&self) -> bool {
        !self.moved.is_empty()
    }

    /// How far participants are, of each challenge at most so many.
    pub fn take_moves(&mut self, limit: usize) -> Vec<News> {
        let mut news = Vec::new();
        for challenge in std::mem::take(&mut self.moved) {
            let Some(race) = self.live.get_mut(&challenge) else {
                continue;
            };
            let taken = race.updates.take(limit);
            if !race.updates.is_empty() {
                self.moved.insert(challenge);
            }
            if !taken.is_empty() {
                let moves = taken.into_iter().map(|(user, at)| Move { user, at }).collect();
                news.push(News::Moved { challenge, moves });
            }
        }
        news
    }

    /// Everything there is, for a worker that comes.
    pub fn snapshot(&self) -> Vec<News> {
        let races: Vec<&Race> = self.live.values().collect();
        let (challenges, runners) = (Vec::new(), Vec::new());
        let mut news = vec![News::Live { first: true, last: false, challenges, runners }];
        for some in races.chunks(RUNNERS_PER_FRAME) {
            let challenges = some.iter().map(|race| race.challenge.clone()).collect();
            news.push(live(challenges, Vec::new()));
        }
        let (mut some, mut bytes) = (Vec::new(), 0);
        for race in races {
            let id = race.challenge.challenge;
            for Entrant { runner, .. } in race.runners.values() {
                bytes += size_of::<Runner>() + runner.nickname.len();
                bytes += runner.profile_image.as_ref().map_or(0, String::len);
                some.push((id, runner.clone()));
                if some.len() == RUNNERS_PER_FRAME || bytes >= FRAME_BYTES {
                    news.push(live(Vec::new(), std::mem::take(&mut some)));
                    bytes = 0;
                }
            }
        }
        news.push(News::Live { first: false, last: true, challenges: Vec::new(), runners: some });
        news
    }

    /// Everybody who is in by a worker's process.
    pub fn all_of(&self, instance: u64) -> Vec<(ChallengeId, UserId, EntryId)> {
        let of_race = |(id, race): (&ChallengeId, &'_ Race)| {
            let id = *id;
            let runners = race.runners.values().filter(move |known| is_in_by(known, instance));
            runners.map(move |known| (id, known.runner.user, known.runner.entry)).collect::<Vec<_>>()
        };
        self.live.iter().flat_map(of_race).collect()
    }

    /// Whether anybody is in by a worker's process.
    pub fn has_any_of(&self, instance: u64) -> bool {
        self.live.values().any(|race| race.runners.values().any(|known| is_in_by(known, instance)))
    }

    /// How many challenges there are, and how many are in them.
    pub fn count(&self) -> usize {
        self.live.len()
    }
}

/// A piece of what there is.
fn live(challenges: Vec<LiveChallenge>, runners: Vec<(ChallengeId, Runner)>) -> News {
    News::Live { first: false, last: false, challenges, runners }
}

fn is_in_by(known: &Entrant, instance: u64) -> bool {
    known.instance == instance && known.runner.standing == Standing::In
}

impl Race {
    /// A participant who is in, has finished, or may come back.
    pub fn runner(&self, user: UserId) -> Option<&Runner> {
        self.runners.get(&user).map(|known| &known.runner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::challenge::{Amount, Distance, Schedule};

    const START: i64 = 1_000;
    const END: i64 = 2_000;

    fn races() -> Races {
        let mut races = Races::default();
        let schedule = Schedule { ready_ms: 0, start_ms: START, end_ms: END };
        let live = LiveChallenge { challenge: 1, broadcast: false, distance: Distance::M100, schedule };
        races.open(live, Status::Ready);
        races
    }

    fn runner(user: UserId, entry: EntryId) -> Runner {
        let (nickname, at) = (format!("runner {user}"), Place::default());
        Runner { user, entry, nickname, profile_image: None, at, standing: Standing::In }
    }

    fn record(user: UserId, entry: EntryId, metres: u32, timestamp_ms: i64) -> Record {
        let distance = Amount::try_from(f64::from(metres) / 1_000.0).unwrap();
        Record { challenge: 1, user, entry, distance, pace: Amount::ZERO, timestamp_ms }
    }

    #[test]
    fn only_what_is_new_of_who_is_in_counts() {
        let mut races = races();
        assert!(!races.record(&record(7, 1, 50, 1)) && !races.has_moves());
        races.enter(1, runner(7, 1), 100, 0);
        assert!(!races.record(&record(7, 2, 50, 1)) && !races.has_moves());
        assert!(!races.record(&record(7, 1, 50, 10)));
        assert!(!races.record(&record(7, 1, 60, 9)));
        let News::Moved { moves, .. } = &races.take_moves(9)[0] else { panic!() };
        assert_eq!((moves[0].at.timestamp_ms, races.has_moves()), (10, false));
        // Another socket, with another clock; how far they are stays.
        let Some(News::Entered { runner, again: true, .. }) = races.enter(1, runner(7, 2), 101, 0) else {
            panic!()
        };
        assert_eq!(runner.at.distance.get(), 0.05);
        assert!(!races.record(&record(7, 1, 100, 99)));
        assert!(races.record(&record(7, 2, 100, 3)));
        let told = races.leave((1, 7, 2), Reason::Finish, Some(1), 0);
        assert!(matches!(&told[..], [News::Moved { .. }, News::Left { rank: Some(1), .. }]));
        assert!(!races.record(&record(7, 2, 100, 4)));
        assert!(races.all_of(101).is_empty() && !races.has_any_of(101));
    }

    #[test]
    fn each_change_of_the_clock_comes_once_and_none_is_lost() {
        let mut races = races();
        assert_eq!((races.next_ms(), races.next_change(START - 1)), (Some(START), None));
        assert_eq!(races.next_change(START), Some((1, Status::Running)));
        assert_eq!((races.next_ms(), races.next_change(START)), (Some(END), None));
        assert_eq!(races.next_change(END + 5), Some((1, Status::Done)));
        assert_eq!((races.next_ms(), races.next_change(END + 5)), (None, None));
        races.end_again(1, END + 5);
        assert_eq!(races.next_change(END + 5), Some((1, Status::Done)));
        // Somebody slept through the start.
        let mut races = self::races();
        assert_eq!(races.next_change(END), Some((1, Status::Done)));
        races.close(1);
        assert_eq!((races.count(), races.next_change(END)), (0, None));
    }

    #[test]
    fn that_there_is_nothing_is_told_as_well() {
        let ends = |news: &News| match news {
            News::Live { first, last, .. } => (*first, *last),
            _ => panic!(),
        };
        assert_eq!(
            Races::default().snapshot().iter().map(ends).collect::<Vec<_>>(),
            [(true, false), (false, true)]
        );
        let opened = races().open(races().get(1).unwrap().challenge.clone(), Status::Ready);
        assert_eq!(ends(&opened), (false, false));
    }

    #[test]
    fn whoever_comes_is_told_everything_in_bounded_pieces() {
        let mut races = races();
        let picture = Some("x".repeat(FRAME_BYTES / 2));
        for user in 1..=2 * RUNNERS_PER_FRAME as u64 {
            races.enter(1, runner(user, user), 100, 0);
        }
        for user in 1..=5 {
            races.enter(1, Runner { profile_image: picture.clone(), ..runner(user, user + 10_000) }, 100, 0);
        }
        let news = races.snapshot();
        let mut seen = BTreeSet::new();
        for (at, piece) in news.iter().enumerate() {
            let News::Live { first, last, runners, .. } = piece else { panic!() };
            assert_eq!((*first, *last), (at == 0, at == news.len() - 1));
            let with_picture = runners.iter().filter(|(_, runner)| runner.profile_image.is_some());
            assert!(runners.len() <= RUNNERS_PER_FRAME && with_picture.count() <= 2);
            seen.extend(runners.iter().map(|(_, runner)| runner.user));
        }
        assert_eq!(seen.len(), 2 * RUNNERS_PER_FRAME);
        assert_eq!(races.all_of(100).len(), 2 * RUNNERS_PER_FRAME);
    }
}
