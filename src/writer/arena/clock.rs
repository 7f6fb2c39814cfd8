//! What the time alone brings: challenges that can be entered, start, and end.

use std::cmp::Reverse;

use super::step::{self, Effect, Step};
use super::{Arena, STEP_ENDS, commit};
use crate::challenge::{ChallengeId, Event, Participation, Schedule, Status};
use crate::index::IndexError;
use crate::index::challenges::{ChallengeState, ParticipantState};
use crate::journal::record::ChallengeChange;
use crate::link::arena::{LiveChallenge, News, Standing};
use crate::writer::arena::step::Leaving;
use crate::writer::judge::Failure;

/// A challenge whose end is being written.
pub struct Ending {
    state: ChallengeState,
    /// How everybody stands at the end, and their final place: those who are ranked first.
    finals: Vec<(ParticipantState, Participation, Option<u32>)>,
    /// So many of them are written.
    pub done: usize,
}

impl Arena {
    /// The times of a challenge.
    pub(super) fn schedule(&self, state: &ChallengeState) -> Schedule {
        let ready_ms = self.opens_at(state.start_ms);
        Schedule { ready_ms, start_ms: state.start_ms, end_ms: state.end_ms }
    }

    /// When a challenge that starts at a time can be entered.
    pub(super) fn opens_at(&self, start_ms: i64) -> i64 {
        start_ms.saturating_sub(self.ready_before_ms())
    }

    fn ready_before_ms(&self) -> i64 {
        i64::try_from(self.parts.settings.ready_before.as_millis()).unwrap_or(i64::MAX)
    }

    /// Does what the clock says, and tells.
    ///
    /// # Errors
    /// The database is damaged. If it can only not be read, the same is tried again a little later.
    pub(super) fn follow_clock(&mut self) -> Result<(), IndexError> {
        if self.trouble.probe_at.is_some() {
            return Ok(());
        }
        let mut news = Vec::new();
        let done = self.try_follow(commit::now_ms(), &mut news);
        self.publish(news);
        match done {
            Ok(()) => Ok(()),
            Err(failure) => {
                self.note_trouble(&failure);
                failure.damage()
            }
        }
    }

    fn try_follow(&mut self, now_ms: i64, news: &mut Vec<News>) -> Result<(), Failure> {
        let upto = now_ms.saturating_add(self.ready_before_ms());
        let is_due = self.races.opens_ms.is_some_and(|when| when <= now_ms);
        let opened = self.races.opened_upto_ms;
        if opened.is_none() || is_due {
            let after = opened.unwrap_or(i64::MIN);
            for state in self.parts.store.starting(after, upto)? {
                news.push(self.open(&state, now_ms));
                if opened.is_none() {
                    self.restore(&state)?;
                }
            }
            let upto = upto.max(after);
            self.races.opened_upto_ms = Some(upto);
            self.races.opens_ms = self.parts.store.next_start(upto)?.map(|start| self.opens_at(start));
        }
        while let Some((challenge, status)) = self.races.next_change(now_ms) {
            if status == Status::Done {
                match self.ending(challenge) {
                    Ok(ending) => self.endings.extend(ending),
                    Err(failure) => {
                        self.races.end_again(challenge, now_ms);
                        return Err(failure);
                    }
                }
            } else {
                news.push(News::Phase { challenge, status, at_ms: now_ms });
            }
        }
        Ok(())
    }

    /// A challenge can be entered.
    pub(super) fn open(&mut self, state: &ChallengeState, now_ms: i64) -> News {
        let schedule = self.schedule(state);
        let challenge = LiveChallenge {
            challenge: state.id,
            broadcast: state.broadcast,
            distance: state.distance,
            schedule,
        };
        // The end is still to be carried out.
        let status = schedule.at(now_ms).clamp(Status::Ready, Status::Running);
        self.races.open(challenge, status)
    }

    /// Puts those in who were in when the process before ended, as far as they can come back.
    fn restore(&mut self, state: &ChallengeState) -> Result<(), Failure> {
        for known in self.parts.store.participants(state.id)? {
            let standing = match known.status {
                Participation::Completed => Standing::Finished(known.rank.unwrap_or(0)),
                Participation::Running => Standing::In,
                Participation::Timeout | Participation::Disconnected | Participation::Error => Standing::Away,
                _ => continue,
            };
            if known.status == Participation::Running {
                self.parts.status.challenges.restored();
                self.owed.push(Leaving::disconnected(state.id, known.user, known.entry));
            }
            if let Some(runner) = self.runner(state.id, &known, standing) {
                self.races.restore(state.id, runner);
            }
        }
        Ok(())
    }

    /// How everybody stands at the end.
    fn ending(&self, challenge: ChallengeId) -> Result<Option<Ending>, Failure> {
        let Some(state) = self.parts.store.challenge(challenge)? else {
            return Ok(None);
        };
        let race = self.races.get(challenge);
        let place = |known: &ParticipantState| {
            let live = race.and_then(|race| race.runner(known.user)).map(|runner| runner.at);
            let at = live.map_or((known.distance, 0), |at| (at.distance, at.reached));
            (Reverse(at.0), at.1, known.id)
        };
        let everybody = self.parts.store.participants(challenge)?;
        let (mut ranked, rest): (Vec<_>, Vec<_>) = everybody.into_iter().partition(|known| {
            known.status.is_ranked_at_the_end() && known.rank.is_none() && known.entry > 0
        });
        ranked.sort_by_cached_key(place);
        let mut rank = state.ranked;
        let mut finals = Vec::new();
        for (known, is_ranked) in
            ranked.into_iter().map(|known| (known, true)).chain(rest.into_iter().map(|known| (known, false)))
        {
            let Some(next) = Participation::after(Some(known.status), Event::End, Status::Done) else {
                continue;
            };
            rank += u32::from(is_ranked);
            if is_ranked || next != known.status {
                finals.push((known, next, is_ranked.then_some(rank)));
            }
        }
        Ok(Some(Ending { state, finals, done: 0 }))
    }

    /// Writes some of the end of a challenge.
    pub(super) fn end_some(&self, step: &mut Step) -> Result<(), Failure> {
        let Some(ending) = self.endings.front() else {
            return Ok(());
        };
        let id = ending.state.id;
        for (known, next, rank) in ending.finals.iter().skip(ending.done).take(STEP_ENDS) {
            self.note_status(step, &ending.state, known, *next, *rank)?;
            step.ended += 1;
            if let Some(reason) = step::at_the_end(known.status) {
                step.effects.push(Effect::Left { stay: (id, known.user, known.entry), reason, rank: *rank });
            }
        }
        if ending.done + step.ended == ending.finals.len() {
            self.record(step, id, None, ChallengeChange::Ended)?;
            step.effects.push(Effect::Over(id));
        }
        Ok(())
    }
}
