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

use std::collections::HashMap;

use super::cell::{Cell, Known, RECORDS_MAX};
use super::faults::{Faults, Kind};
use super::gait::Gait;
use super::heard::Other;

/// Members whose order of news is tried as the measure of the others'.
const MEASURES: usize = 3;

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
}

/// All members of one challenge.
pub struct Course {
    gait: Gait,
    members: Vec<Member>,
    places: HashMap<u64, usize>,
    /// What each of them knows of each other, row by row.
    cells: Vec<Cell>,
    /// The news that each of them has heard, in order: twice the place of whom it is about, and 1 more for
    /// having left.
    news: Vec<Vec<u32>>,
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
        };
        Course {
            gait,
            members: users.iter().map(member).collect(),
            places: users.iter().enumerate().map(|(place, user)| (*user, place)).collect(),
            cells: vec![Cell::default(); users.len() * users.len()],
            news: vec![vec![]; users.len()],
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
        self.news[me].clear();
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

    /// The number of a member.
    pub fn user(&self, me: usize) -> u64 {
        self.members[me].user
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
            self.hears_news(me, other, 0);
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
            _ if steady => self.hears_news(me, other, 1),
            _ => {}
        }
    }

    /// `me` hears how far somebody is. Gives the time that record was due, when it is right and new.
    pub fn hears_update(&mut self, me: usize, user: u64, distance: f64, timestamp_ms: i64) -> Option<i64> {
        let (other, about) = self.other(me, user)?;
        let (mine, gait) = (self.members[me], self.gait);
        let since_ms = timestamp_ms.checked_sub(about.base_ms);
        let number = since_ms.and_then(|since_ms| gait.number_of(distance, since_ms, about.sent));
        let (who, cell) = (mine.user, self.cell(me, other));
        let (latest, known, by_update) = (cell.record(), cell.known(), cell.by_update());
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
        for (me, other) in self.disordered() {
            let what = "coming or going told in another order than to others";
            faults.note(Kind::OutOfOrder, self.members[me].user, self.members[other].user, what);
        }
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

    fn hears_news(&mut self, me: usize, other: usize, left: u32) {
        self.news[me].extend(u32::try_from(2 * other).ok().map(|news| news + left));
    }

    /// News that members heard in another order than one of those who came first, to whom all that is news
    /// to others was news as well. It is the one that most agree with: the odd one is not the measure.
    fn disordered(&self) -> Vec<(usize, usize)> {
        let since = |me: usize| match self.members[me] {
            Member { standing: Standing::In { since_ns }, lapses: 0, .. } => Some((since_ns, me)),
            _ => None,
        };
        let mut measures: Vec<(u64, usize)> = (0..self.members.len()).filter_map(since).collect();
        measures.sort_unstable();
        let found = measures.iter().take(MEASURES).map(|(_, measure)| self.disordered_by(*measure));
        found.min_by_key(Vec::len).unwrap_or_default()
    }

    fn disordered_by(&self, measure: usize) -> Vec<(usize, usize)> {
        let mut places = vec![0; 2 * self.members.len()];
        for (place, news) in (1..).zip(&self.news[measure]) {
            places[*news as usize] = place;
        }
        let mut found = vec![];
        for (me, heard) in self.news.iter().enumerate().filter(|(me, _)| self.members[*me].lapses == 0) {
            let mut latest = 0;
            for news in heard.iter().map(|news| *news as usize).filter(|news| places[*news] > 0) {
                if places[news] < latest {
                    found.push((me, news / 2));
                }
                latest = latest.max(places[news]);
            }
        }
        found
    }
}

#[cfg(test)]
#[path = "sight_tests.rs"]
mod tests;
