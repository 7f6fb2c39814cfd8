//! Who of a challenge was told what about whom, and whether that was right. No sockets, no clock: times
//! are passed in.
//!
//! For each pair of members there is one small cell: whether the one has been told that the other is in or
//! has left, and the latest position it was told. A position says by itself which record of its sender it
//! is ([`Gait`]), so that going back, telling twice and inventing are told apart without keeping positions.
//!
//! # What can be told, and what cannot
//!
//! - Newcomers are told of those who came before them in any order and over some time, so an update may come
//!   before its `USER_ENTERED`, and so may a `USER_LEFT` of somebody who came before. Whoever dials after a
//!   socket was `CONNECTED` is news to it: such a `USER_ENTERED`, and every `USER_LEFT`, have one order in
//!   the challenge, in which all sockets must hear them.
//! - Of members whose connection broke only what they hear is judged, and that they are there in the end.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::heard::Other;

/// Bits of a cell that hold the number of the latest record.
const RECORD_BITS: u16 = 13;
const RECORD_MASK: u16 = (1 << RECORD_BITS) - 1;

/// Set when that record was told by an update, and not with `USER_ENTERED`.
const BY_UPDATE: u16 = 1 << RECORD_BITS;

/// Records one member may send.
pub const RECORDS_MAX: u16 = RECORD_MASK;

/// Faults of each kind that are told in full.
const EXAMPLES: usize = 10;

/// How far a position may be from what was sent, in km: servers may keep rounded ones.
const NEAR_KM: f64 = 1e-6;

/// How everybody runs: a member's record `n` is `n` steps of time and of way from where it began.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gait {
    /// From one record to the next.
    pub every_ms: i64,
    /// Way between them.
    pub step_km: f64,
    /// Length of the course: the record that reaches it is the last.
    pub course_km: f64,
}

impl Gait {
    /// Where record `number` is.
    pub fn distance(&self, number: u16) -> f64 {
        (self.step_km * f64::from(number)).min(self.course_km)
    }

    /// Whether record `number` reaches the end of the course.
    pub fn finishes(&self, number: u16) -> bool {
        self.step_km * f64::from(number) >= self.course_km
    }

    /// The first number up to `sent` whose record is at `distance`.
    fn number_at(&self, distance: f64, sent: u16) -> Option<u16> {
        let (mut low, mut high) = (0, sent);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.distance(middle) + NEAR_KM < distance {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        ((self.distance(low) - distance).abs() <= NEAR_KM).then_some(low)
    }
}

/// The verdict.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Faults {
    /// Owed to somebody who was there throughout, and never told.
    pub lost: u64,
    /// Told a second time.
    pub duplicated: u64,
    /// Told after something later: positions that go back, news of somebody who has left, two members'
    /// coming or going in another order than others were told.
    pub out_of_order: u64,
    /// Told though it never was so.
    pub foreign: u64,
    /// PINGs without a PONG on a connection that is still there.
    pub unanswered: u64,
    /// The first ten of each kind.
    pub examples: BTreeMap<String, Vec<Sighting>>,
}

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sighting {
    /// Number of the user who met it.
    pub who: u64,
    /// Number of the user it is about.
    pub about: u64,
    /// What is wrong.
    pub what: String,
}

/// The kinds of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// [`Faults::lost`].
    Lost,
    /// [`Faults::duplicated`].
    Duplicated,
    /// [`Faults::out_of_order`].
    OutOfOrder,
    /// [`Faults::foreign`].
    Foreign,
    /// [`Faults::unanswered`].
    Unanswered,
}

impl Faults {
    /// Notes one.
    pub fn note(&mut self, kind: Kind, who: u64, about: u64, what: impl Into<String>) {
        let (count, name) = match kind {
            Kind::Lost => (&mut self.lost, "lost"),
            Kind::Duplicated => (&mut self.duplicated, "duplicated"),
            Kind::OutOfOrder => (&mut self.out_of_order, "out_of_order"),
            Kind::Foreign => (&mut self.foreign, "foreign"),
            Kind::Unanswered => (&mut self.unanswered, "unanswered"),
        };
        *count += 1;
        let examples = self.examples.entry(name.to_owned()).or_default();
        if examples.len() < EXAMPLES {
            examples.push(Sighting { who, about, what: what.into() });
        }
    }

    /// Adds those of another challenge.
    pub fn add(&mut self, other: Faults) {
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.out_of_order += other.out_of_order;
        self.foreign += other.foreign;
        self.unanswered += other.unanswered;
        for (kind, examples) in other.examples {
            let all = self.examples.entry(kind).or_default();
            all.extend(examples);
            all.truncate(EXAMPLES);
        }
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.lost + self.duplicated + self.out_of_order + self.foreign + self.unanswered
    }
}

/// What somebody knows of another.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Known {
    Never = 0,
    There = 1,
    Left = 2,
}

#[derive(Clone, Copy, Default)]
struct Cell(u16);

impl Cell {
    fn known(self) -> Known {
        match self.0 >> (RECORD_BITS + 1) {
            0 => Known::Never,
            1 => Known::There,
            _ => Known::Left,
        }
    }

    fn now(&mut self, known: Known) {
        self.0 = self.0 & (BY_UPDATE | RECORD_MASK) | (known as u16) << (RECORD_BITS + 1);
    }

    fn record(self) -> u16 {
        self.0 & RECORD_MASK
    }

    fn told(&mut self, record: u16, by_update: bool) {
        let how = if by_update { BY_UPDATE } else { 0 };
        self.0 = self.0 & !(BY_UPDATE | RECORD_MASK) | how | record;
    }
}

/// How a member stands, as its own socket knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Was never in.
    Outside,
    /// Is in since then.
    In { since_ns: u64 },
    /// Has given up or reached the end since then, after having come in.
    Through { since_ns: u64 },
    /// Lost its connection.
    Away,
}

#[derive(Clone, Copy)]
struct Member {
    user: u64,
    dialled_ns: u64,
    standing: Standing,
    /// Connections it has lost.
    lapses: u32,
    /// Unix time of its record 0.
    base_ms: i64,
    /// Its latest record.
    sent: u16,
    /// Place of the latest news it heard in the order of the challenge.
    heard: u32,
    /// Places of its own coming and going in that order; 0: nobody has heard of it yet.
    came: u32,
    went: u32,
}

/// All members of one challenge.
pub struct Course {
    gait: Gait,
    members: Vec<Member>,
    places: HashMap<u64, usize>,
    /// What each of them knows of each other, row by row.
    cells: Vec<Cell>,
    /// News in the order of the challenge, so far.
    news: u32,
    faults: Faults,
}

impl Course {
    /// Of those users; they are known by their places from now on.
    pub fn new(users: &[u64], gait: Gait) -> Course {
        let member = |user: &u64| Member {
            user: *user,
            dialled_ns: u64::MAX,
            standing: Standing::Outside,
            lapses: 0,
            base_ms: 0,
            sent: 0,
            heard: 0,
            came: 0,
            went: 0,
        };
        Course {
            gait,
            members: users.iter().map(member).collect(),
            places: users.iter().enumerate().map(|(place, user)| (*user, place)).collect(),
            cells: vec![Cell::default(); users.len() * users.len()],
            news: 0,
            faults: Faults::default(),
        }
    }

    /// A member's socket shows its ticket.
    pub fn dials(&mut self, me: usize, now_ns: u64) {
        self.members[me].dialled_ns = now_ns;
    }

    /// A member is in. Its records count from `base_ms` unless it had been in before.
    pub fn connected(&mut self, me: usize, others: &[Other], now_ns: u64, base_ms: i64) {
        let member = &mut self.members[me];
        if member.lapses == 0 {
            member.base_ms = base_ms;
        }
        member.standing = Standing::In { since_ns: now_ns };
        let row = me * self.members.len()..(me + 1) * self.members.len();
        self.cells[row].fill(Cell::default());
        for other in others {
            self.hears_entered(me, other.user_id, other.distance);
        }
    }

    /// A member sends its next record: its number, distance and time; whether it is the last. `None`: it
    /// has sent all it may.
    pub fn next_record(&mut self, me: usize, now_ns: u64) -> Option<(f64, i64, bool)> {
        let member = &mut self.members[me];
        let number = Some(member.sent + 1).filter(|number| *number <= RECORDS_MAX)?;
        member.sent = number;
        let last = self.gait.finishes(number);
        if last {
            member.standing = Standing::Through { since_ns: now_ns };
        }
        let at_ms = member.base_ms + i64::from(number) * self.gait.every_ms;
        Some((self.gait.distance(number), at_ms, last))
    }

    /// A member gives up.
    pub fn quits(&mut self, me: usize, now_ns: u64) {
        self.members[me].standing = Standing::Through { since_ns: now_ns };
    }

    /// A member's connection broke.
    pub fn breaks(&mut self, me: usize) {
        let member = &mut self.members[me];
        member.lapses += 1;
        if !matches!(member.standing, Standing::Through { .. }) {
            member.standing = Standing::Away;
        }
    }

    /// Notes a fault that somebody else found.
    pub fn note(&mut self, kind: Kind, me: usize, what: &str) {
        let user = self.members[me].user;
        self.faults.note(kind, user, user, what);
    }

    /// Faults so far.
    pub fn faults(&self) -> u64 {
        self.faults.total()
    }

    /// `me` hears that somebody is in. Users of no member are none of ours.
    pub fn hears_entered(&mut self, me: usize, user: u64, distance: f64) {
        let Some((other, about)) = self.other(me, user) else { return };
        let (mine, number) = (self.members[me], self.gait.number_at(distance, about.sent));
        let steady = about.lapses == 0 && mine.lapses == 0;
        let cell = self.cell(me, other);
        let known = cell.known();
        if let Some(number) = number.filter(|number| *number >= cell.record()) {
            cell.told(number, false);
        }
        let latest = cell.record();
        cell.now(Known::There);
        let (who, fault) = (mine.user, &mut self.faults);
        match known {
            Known::There => fault.note(Kind::Duplicated, who, user, "USER_ENTERED a second time"),
            Known::Left if steady => fault.note(Kind::OutOfOrder, who, user, "USER_ENTERED after USER_LEFT"),
            Known::Left | Known::Never => {}
        }
        match number {
            _ if about.dialled_ns == u64::MAX => {
                fault.note(Kind::Foreign, who, user, "USER_ENTERED of somebody who has shown no ticket");
            }
            None => fault.note(Kind::Foreign, who, user, "a distance that was never sent"),
            Some(number) if number < latest && steady => {
                fault.note(Kind::OutOfOrder, who, user, "USER_ENTERED with a position before the latest");
            }
            Some(_) => {}
        }
        let is_news = matches!(mine.standing, Standing::In { since_ns } if about.dialled_ns > since_ns);
        if is_news && steady && known == Known::Never {
            self.in_order(me, other, |about| &mut about.came);
        }
    }

    /// `me` hears that somebody is in no longer.
    pub fn hears_left(&mut self, me: usize, user: u64) {
        let Some((other, about)) = self.other(me, user) else { return };
        let (mine, cell) = (self.members[me], self.cell(me, other));
        let known = cell.known();
        cell.now(Known::Left);
        let steady = about.lapses == 0 && mine.lapses == 0;
        let came_later = matches!(mine.standing, Standing::In { since_ns } if about.dialled_ns > since_ns);
        match known {
            Known::Left => {
                self.faults.note(Kind::Duplicated, mine.user, user, "USER_LEFT a second time");
            }
            Known::Never if came_later && steady => {
                self.faults.note(Kind::Foreign, mine.user, user, "USER_LEFT without USER_ENTERED");
            }
            _ if steady => self.in_order(me, other, |about| &mut about.went),
            _ => {}
        }
    }

    /// `me` hears how far somebody is. Gives the time that record was due, when it is right and new.
    pub fn hears_update(&mut self, me: usize, user: u64, distance: f64, timestamp_ms: i64) -> Option<i64> {
        let (other, about) = self.other(me, user)?;
        let (mine, gait) = (self.members[me], self.gait);
        let steps = timestamp_ms.checked_sub(about.base_ms).filter(|since| since % gait.every_ms == 0);
        let number = steps.and_then(|since| u16::try_from(since / gait.every_ms).ok());
        let number = number
            .filter(|number| (1..=about.sent).contains(number))
            .filter(|number| (gait.distance(*number) - distance).abs() <= NEAR_KM);
        let (who, cell) = (mine.user, self.cell(me, other));
        let (latest, known, by_update) = (cell.record(), cell.known(), cell.0 & BY_UPDATE != 0);
        let (kind, what) = match number {
            None => (Kind::Foreign, "PARTICIPANT_UPDATE of a position that was never sent"),
            Some(number) if number < latest => {
                (Kind::OutOfOrder, "PARTICIPANT_UPDATE of a position before the latest")
            }
            Some(number) if number == latest && by_update => {
                (Kind::Duplicated, "PARTICIPANT_UPDATE a second time")
            }
            Some(_) if known == Known::Left && about.lapses == 0 && mine.lapses == 0 => {
                (Kind::OutOfOrder, "PARTICIPANT_UPDATE after USER_LEFT")
            }
            Some(number) => {
                cell.told(number, true);
                return Some(timestamp_ms);
            }
        };
        self.faults.note(kind, who, user, what);
        None
    }

    /// Whether something is still to be told to somebody who is in.
    pub fn owes(&self) -> bool {
        (0..self.members.len()).any(|me| self.owed(me).next().is_some())
    }

    /// Notes what was never told, and gives everything that was wrong.
    pub fn judge(mut self) -> Faults {
        let mut faults = std::mem::take(&mut self.faults);
        for me in 0..self.members.len() {
            for (other, kind, what) in self.owed(me) {
                faults.note(kind, self.members[me].user, self.members[other].user, what);
            }
        }
        faults
    }

    /// What `me`, if it is in, should know of others and does not.
    fn owed(&self, me: usize) -> impl Iterator<Item = (usize, Kind, &'static str)> {
        let row = &self.cells[me * self.members.len()..(me + 1) * self.members.len()];
        let mine = self.members[me];
        let since = match mine.standing {
            Standing::In { since_ns } => Some(since_ns),
            _ => None,
        };
        row.iter().enumerate().filter(move |(other, _)| *other != me).filter_map(move |(other, cell)| {
            let (since_ns, about) = (since?, &self.members[other]);
            let owed = match (about.standing, cell.known()) {
                (Standing::In { .. }, Known::Never) => (Kind::Lost, "no USER_ENTERED"),
                (Standing::In { .. }, Known::Left) if about.lapses > 0 => {
                    (Kind::Lost, "no USER_ENTERED after the return")
                }
                (Standing::In { .. }, Known::Left) => (Kind::Foreign, "USER_LEFT of somebody who is in"),
                (Standing::In { .. }, Known::There) if cell.record() < about.sent && about.lapses == 0 => {
                    (Kind::Lost, "no PARTICIPANT_UPDATE of the latest position")
                }
                (Standing::Through { .. }, Known::There) => (Kind::Lost, "no USER_LEFT"),
                (Standing::Through { since_ns: went_ns }, Known::Never) if went_ns > since_ns => {
                    (Kind::Lost, "neither USER_ENTERED nor USER_LEFT")
                }
                _ => return None,
            };
            Some((other, owed.0, owed.1))
        })
    }

    /// Another member of that number.
    fn other(&self, me: usize, user: u64) -> Option<(usize, Member)> {
        let other = *self.places.get(&user)?;
        (other != me).then(|| (other, self.members[other]))
    }

    fn cell(&mut self, me: usize, other: usize) -> &mut Cell {
        &mut self.cells[me * self.members.len() + other]
    }

    /// Whether `me` hears news in the same order as all others.
    fn in_order(&mut self, me: usize, other: usize, place: impl Fn(&mut Member) -> &mut u32) {
        let place = place(&mut self.members[other]);
        if *place == 0 {
            self.news += 1;
            *place = self.news;
        }
        let place = *place;
        let (who, about) = (self.members[me].user, self.members[other].user);
        let heard = &mut self.members[me].heard;
        if place < *heard {
            let what = "coming or going told in another order than to others";
            self.faults.note(Kind::OutOfOrder, who, about, what);
        }
        *heard = place.max(*heard);
    }
}

#[cfg(test)]
#[path = "sight_tests.rs"]
mod tests;
