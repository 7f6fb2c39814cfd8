//! What the storage writer publishes about live challenges, and how it reaches the sockets here.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::super::core::Core;
use super::mirror::Mirror;
use super::socket::{self, farewell};
use super::{Course, REST_PER_SOCKET, Seat};
use crate::challenge::{ChallengeId, Reason, Status};
use crate::chat::UserId;
use crate::engine::Host;
use crate::engine::table::Key;
use crate::link::arena::{Move, News, Runner};
use crate::wire::challenge::{Spectacle, Told};
use crate::wire::frame::close_code;

/// Of those whose time is over at once this many are named to the others: all of them go.
const EXPIRED_NAMED: usize = 100;

/// Acts on what was published.
pub fn hear(core: &mut Core, news: News) {
    match news {
        News::Live { first, last, challenges, runners } => {
            if first {
                begin_anew(core);
            }
            for facts in challenges {
                let challenge = facts.challenge;
                let is_watched = core.arena.watchers.has(challenge);
                let course = || Course { is_watched, ..Course::new(Mirror::new(facts)) };
                core.arena.courses.entry(challenge).or_insert_with(course);
            }
            for (challenge, runner) in runners {
                know(core, challenge, runner);
            }
            if last {
                settle(core);
            }
        }
        News::Phase { challenge, status, at_ms } => {
            if status == Status::Running {
                on_course(core, challenge, |course| course.watch(&Spectacle::Start { timestamp: at_ms }));
            }
        }
        News::Entered { challenge, runner, again, at_ms } => {
            if let Some(Some(older)) = on_course(core, challenge, |course| course.enter(runner, again, at_ms))
            {
                socket::end(core, older, close_code::NORMAL, "entered again");
            }
        }
        News::Left { challenge, user, entry, reason, rank, at_ms } => {
            on_course(core, challenge, |course| {
                if course.mirror.leave(user, entry, reason, rank) {
                    course.leave(user, entry, reason, rank, at_ms);
                }
            });
        }
        News::Moved { challenge, moves } => {
            on_course(core, challenge, |course| moves.iter().for_each(|step| course.advance(step)));
        }
        News::Looks { user, nickname, profile_image } => {
            for course in core.arena.courses.values_mut() {
                course.mirror.set_looks(user, &nickname, profile_image.as_deref());
            }
        }
        News::Over { challenge, at_ms } => over(core, challenge, at_ms),
    }
}

/// Does something with a challenge, if it is there, and sees to it that its sockets hear of it.
fn on_course<T>(core: &mut Core, challenge: ChallengeId, act: impl FnOnce(&mut Course) -> T) -> Option<T> {
    let course = core.arena.courses.get_mut(&challenge)?;
    let done = act(course);
    if !std::mem::replace(&mut course.is_dirty, true) {
        core.arena.dirty.push(challenge);
    }
    Some(done)
}

/// The link is new: whatever was known is told again. Until then nobody knows which sockets are still in.
fn begin_anew(core: &mut Core) {
    for challenge in std::mem::take(&mut core.arena.dirty) {
        hand_out(core, challenge);
    }
    let arena = &mut core.arena;
    for (challenge, course) in arena.courses.drain() {
        arena.adrift.extend(course.seats.into_iter().map(|(user, seat)| ((challenge, user), seat)));
    }
}

/// Somebody who is told of anew.
fn know(core: &mut Core, challenge: ChallengeId, runner: Runner) {
    let Some(course) = core.arena.courses.get_mut(&challenge) else {
        return;
    };
    let (user, entry) = (runner.user, runner.entry);
    course.mirror.put(runner, false);
    if course.mirror.holds(user, entry)
        && let Some(seat) = core.arena.adrift.remove(&(challenge, user))
    {
        if seat.entry == entry {
            course.seats.insert(user, Seat { from: 0, ..seat });
        } else {
            core.arena.adrift.insert((challenge, user), seat);
        }
    }
}

/// Everything was told: lets go of sockets that are in no more.
fn settle(core: &mut Core) {
    for (_, seat) in std::mem::take(&mut core.arena.adrift) {
        socket::end(core, seat.key, close_code::TRY_AGAIN_LATER, socket::ENTER_AGAIN);
    }
}

fn over(core: &mut Core, challenge: ChallengeId, at_ms: i64) {
    on_course(core, challenge, |course| course.watch(&Spectacle::End { timestamp: at_ms }));
    hand_out(core, challenge);
    let (code, reason) = farewell(Reason::Expired);
    if let Some(course) = core.arena.courses.remove(&challenge) {
        for seat in course.seats.into_values() {
            socket::end(core, seat.key, code, reason);
        }
    }
    core.arena.dirty.retain(|dirty| *dirty != challenge);
    core.arena.watchers.end(challenge);
}

impl Course {
    /// Somebody has come; answers their older socket here, which has to go.
    fn enter(&mut self, runner: Runner, again: bool, at_ms: i64) -> Option<Key> {
        let (user, entry) = (runner.user, runner.entry);
        let older = self.seats.get(&user).filter(|seat| seat.entry < entry).map(|seat| seat.key);
        if older.is_some() {
            self.seats.remove(&user);
        }
        self.mirror.put(runner, again);
        if !again && let Some(runner) = self.mirror.runner(user) {
            self.batch.add(user, false, &socket::entered(runner, at_ms));
        }
        older
    }

    fn leave(&mut self, user: UserId, entry: u64, reason: Reason, rank: Option<u32>, at_ms: i64) {
        let seat = self.seats.get(&user).filter(|seat| seat.entry == entry);
        if reason != Reason::Expired || self.expired < EXPIRED_NAMED {
            self.expired += usize::from(reason == Reason::Expired);
            let told = Told::UserLeft { user_id: user, reason, timestamp: at_ms };
            self.batch.add(user, seat.is_some(), &told);
        }
        if let Some(seat) = seat
            && reason != Reason::Finish
        {
            let (code, text) = farewell(reason);
            self.leaving.push((seat.key, code, text));
        }
        match rank {
            Some(rank) => self.watch(&Spectacle::Finish { user_id: user, rank, timestamp: at_ms }),
            None => self.watch(&Spectacle::Leave { user_id: user, reason, timestamp: at_ms }),
        }
    }

    fn advance(&mut self, step: &Move) {
        if !self.mirror.advance(step) {
            return;
        }
        let (user_id, distance, pace) = (step.user, step.at.distance.get(), step.at.pace.get());
        let timestamp = step.at.timestamp_ms;
        let told = Told::ParticipantUpdate { user_id, distance, pace, timestamp };
        self.batch.add(user_id, self.seats.contains_key(&user_id), &told);
        self.watch(&Spectacle::Running { user_id, distance, pace, timestamp });
    }

    pub(super) fn watch(&mut self, event: &Spectacle) {
        if self.is_watched {
            event.write(&mut self.watched);
        }
    }
}

/// Hands out what has waited for long enough.
pub fn hand_out_due(core: &mut Core, now: Instant) {
    let mut waiting = Vec::new();
    for challenge in std::mem::take(&mut core.arena.dirty) {
        let rests_until = core.arena.courses.get(&challenge).and_then(|course| course.rests_until);
        if rests_until.is_some_and(|until| until > now) {
            waiting.push(challenge);
        } else {
            hand_out(core, challenge);
        }
    }
    core.arena.dirty.append(&mut waiting);
}

/// Writes what waits for a challenge's sockets to each, then closes those that have left.
fn hand_out(core: &mut Core, challenge: ChallengeId) {
    let most = core.config.challenge.update_tick;
    let Some(course) = core.arena.courses.get_mut(&challenge) else {
        return;
    };
    (course.is_dirty, course.expired) = (false, 0);
    let watched = Bytes::from(std::mem::take(&mut course.watched));
    let leaving = std::mem::take(&mut course.leaving);
    let has_frames = course.batch.len() > 0;
    let out = course.batch.take();
    let mut seats = Vec::new();
    if has_frames {
        for (user, seat) in &mut course.seats {
            seats.push((*user, seat.key, std::mem::take(&mut seat.from)));
        }
        let rest = REST_PER_SOCKET * u32::try_from(seats.len()).unwrap_or(u32::MAX);
        course.rests_until =
            Some(Instant::now() + rest.min(most)).filter(|_| rest > Duration::from_millis(1));
    }
    for (user, key, from) in seats {
        let frames = out.of(user, from);
        // It may have gone while others were written to.
        if !frames.is_empty() && core.engine.table.get(key).is_some() {
            core.counters.deliveries += 1;
            core.send(key.slot, &frames);
        }
    }
    for (key, code, reason) in leaving {
        socket::end(core, key, code, reason);
    }
    if !watched.is_empty() {
        let is_watched = core.arena.watchers.tell(challenge, &watched);
        if let Some(course) = core.arena.courses.get_mut(&challenge) {
            course.is_watched = is_watched;
        }
    }
}
