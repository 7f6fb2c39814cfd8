//! What one transaction does, and what comes of it when it is done.

use std::sync::atomic::Ordering;

use bytes::Bytes;

use super::{Arena, Ends};
use crate::challenge::{ChallengeId, EntryId, Participation, Reason};
use crate::chat::{OpId, Refusal, UserId};
use crate::config::Fsync;
use crate::index::challenges::ChallengeState;
use crate::index::store::{LogName, Progress};
use crate::journal::CHALLENGES;
use crate::journal::record::{self, ChallengeChange, ChallengeRecord};
use crate::link::arena::{Asked, News, Runner};
use crate::link::codec;
use crate::link::frame::{FromWriter, Outcome};
use crate::writer::batch::{Answer, PeerId};
use crate::writer::judge::Failure;
use crate::writer::publish::Event;

/// What one transaction does.
pub struct Step {
    /// Unix time in milliseconds.
    pub now_ms: i64,
    /// The last numbers given.
    pub ends: Ends,
    /// The new lines of the log.
    pub lines: Vec<u8>,
    /// There is a transaction.
    pub begun: bool,
    /// Whose operations are judged in it, but for stays that end.
    pub asked: Vec<(PeerId, OpId)>,
    /// Stays that end in it.
    pub leaving: Vec<Leaving>,
    /// What came of operations.
    pub answers: Vec<Answer>,
    /// Participants whose end is written, of the first challenge that ends.
    pub ended: usize,
    /// What changes in memory when it is done.
    pub effects: Vec<Effect>,
}

/// A stay that is to end.
#[derive(Clone, Debug)]
pub struct Leaving {
    /// In what.
    pub challenge: ChallengeId,
    /// Who.
    pub user: UserId,
    /// The stay.
    pub entry: EntryId,
    /// Why.
    pub reason: Reason,
    /// Who waits to hear of it.
    pub told: Vec<(PeerId, u64)>,
}

impl Leaving {
    /// The connection was lost.
    pub fn disconnected(challenge: ChallengeId, user: UserId, entry: EntryId) -> Leaving {
        Leaving { challenge, user, entry, reason: Reason::Disconnected, told: Vec::new() }
    }
}

/// What changes in memory.
pub enum Effect {
    /// There is a challenge more.
    Created(ChallengeState),
    /// Somebody has come in.
    Entered {
        /// Where.
        challenge: ChallengeId,
        /// Who.
        runner: Runner,
        /// By which worker's process.
        instance: u64,
    },
    /// Somebody is no longer in.
    Left {
        /// The stay.
        stay: (ChallengeId, UserId, EntryId),
        /// Why.
        reason: Reason,
        /// The rank of who has finished.
        rank: Option<u32>,
    },
    /// A member is seen otherwise: number, nickname and picture.
    Looks(UserId, String, Option<String>),
    /// A challenge is over.
    Over(ChallengeId),
}

impl Step {
    /// Nothing yet.
    pub fn new(ends: Ends, now_ms: i64) -> Step {
        Step {
            now_ms,
            ends,
            lines: Vec::new(),
            begun: false,
            asked: Vec::new(),
            leaving: Vec::new(),
            answers: Vec::new(),
            ended: 0,
            effects: Vec::new(),
        }
    }

    /// Answers an operation when the step is done.
    pub fn answer(&mut self, peer: PeerId, count: u64, result: Result<Asked, Refusal>) {
        self.answers.push(Answer { peer, count, result: result.map(Outcome::Arena) });
    }
}

impl Arena {
    /// Begins a transaction, if there is none.
    pub(super) fn begin(&self, step: &mut Step) -> Result<(), Failure> {
        if !step.begun {
            self.parts.store.begin()?;
            step.begun = true;
        }
        Ok(())
    }

    /// Makes a record and applies it.
    pub(super) fn record(
        &self,
        step: &mut Step,
        challenge_id: ChallengeId,
        op: Option<OpId>,
        change: ChallengeChange,
    ) -> Result<(), Failure> {
        self.begin(step)?;
        let rev = step.ends.rev + 1;
        let record = ChallengeRecord { rev, change, challenge_id, op, at: step.now_ms, synced: self.durable };
        self.parts.store.apply(&record)?;
        record::encode(&record, &mut step.lines);
        step.ends.rev = rev;
        Ok(())
    }

    /// Makes the step durable, then visible to readers.
    pub(super) fn make_durable(&mut self, step: &Step) -> Result<(), Failure> {
        let parts = &mut self.parts;
        let Some(line) = record::last_line(&step.lines) else {
            return Ok(parts.store.rollback()?);
        };
        let bytes = parts.log.end() + step.lines.len() as u64;
        let progress = Progress { last: step.ends.rev, bytes, sum: record::sum(line) };
        parts.store.set_progress(LogName::Challenges, progress)?;
        parts.log.append(&step.lines, parts.fsync != Fsync::Never)?;
        Ok(parts.store.commit()?)
    }

    /// The step has become fact.
    pub(super) fn keep(&mut self, step: Step) {
        let Step { now_ms, ends, answers, effects, ended, lines, .. } = step;
        if !lines.is_empty() {
            self.parts.ends = ends;
            if self.parts.fsync != Fsync::Never {
                self.durable = ends.rev;
            }
            let bytes = self.parts.log.end();
            self.parts.status.set_file(CHALLENGES, ends.rev, bytes);
        }
        if let Some(ending) = self.endings.front_mut() {
            ending.done += ended;
        }
        let mut news = Vec::new();
        for effect in effects {
            self.apply(effect, now_ms, &mut news);
        }
        if !news.is_empty() || !answers.is_empty() {
            self.parts.publisher.send(Event::Arena(encode(news), answers));
        }
        let challenges = &self.parts.status.challenges;
        challenges.live.store(self.races.count() as u64, Ordering::Relaxed);
    }

    pub(super) fn apply(&mut self, effect: Effect, now_ms: i64, news: &mut Vec<News>) {
        let counters = &self.parts.status.challenges;
        match effect {
            Effect::Created(state) => {
                let is_open = self.races.opened_upto_ms.is_some_and(|upto| state.start_ms <= upto);
                if is_open {
                    news.push(self.open(&state, now_ms));
                } else {
                    let opens = self.opens_at(state.start_ms);
                    self.races.opens_ms = Some(self.races.opens_ms.map_or(opens, |known| known.min(opens)));
                }
            }
            Effect::Entered { challenge, runner, instance } => {
                let entered = self.races.enter(challenge, runner, instance, now_ms);
                counters.entered.fetch_add(1, Ordering::Relaxed);
                if !matches!(entered, Some(News::Entered { again: true, .. })) {
                    counters.active.fetch_add(1, Ordering::Relaxed);
                }
                news.extend(entered);
            }
            Effect::Left { stay, reason, rank } => {
                news.extend(self.races.leave(stay, reason, rank, now_ms));
                counters.left(reason);
            }
            Effect::Looks(user, nickname, profile_image) => {
                news.extend(self.races.set_looks(user, nickname, profile_image));
            }
            Effect::Over(challenge) => {
                self.endings.pop_front();
                self.races.close(challenge);
                news.push(News::Over { challenge, at_ms: now_ms });
            }
        }
    }
}

/// How somebody stands who was in at the end, or was put out before.
pub fn at_the_end(status: Participation) -> Option<Reason> {
    (status == Participation::Running).then_some(Reason::Expired)
}

/// News as frames.
pub fn encode(news: Vec<News>) -> Vec<Bytes> {
    let frame = |news| {
        let mut frame = Vec::new();
        match codec::encode(&FromWriter::Arena(news), &mut frame) {
            Ok(()) => Some(frame.into()),
            // None that can happen: every frame is bounded.
            Err(error) => {
                tracing::error!(%error, "cannot publish what happens in a challenge");
                None
            }
        }
    };
    news.into_iter().filter_map(frame).collect()
}
