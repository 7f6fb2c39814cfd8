//! Says what may be, by the database in the open transaction, and makes records of it.

use std::collections::VecDeque;
use std::time::Instant;

use super::step::{Effect, Leaving, Step};
use super::{Arena, STEP_ENDS, Told};
use crate::challenge::{Amount, ChallengeId, Event, Participation, Reason, Status, TicketKind};
use crate::chat::{Code, OpId, Refusal, UserId};
use crate::index::User;
use crate::index::challenges::{ChallengeState, ParticipantState};
use crate::journal::record::ChallengeChange;
use crate::link::arena::{Ask, Asked, NewChallenge, Place, Record, Runner, Standing};
use crate::link::frame::{Outcome, Purpose, Ticket};
use crate::writer::judge::{Failure, Judged};

/// What a ticket is for, and the generation of tokens that it ends with.
type Admission = (ChallengeId, TicketKind, u32);

impl Arena {
    /// Everything of a step that may fail. What is left of `group` was not looked at.
    pub(super) fn work(&mut self, step: &mut Step, group: &mut VecDeque<Told>) -> Result<(), Failure> {
        step.leaving = self.owed.take(STEP_ENDS);
        for leaving in step.leaving.clone() {
            self.leave(step, leaving)?;
        }
        self.end_some(step)?;
        while let Some(told) = group.pop_front() {
            match told {
                Told::Record(record) => {
                    if self.races.record(&record) {
                        self.leave_now(step, finished(&record))?;
                    }
                }
                Told::Asked { peer, op, ask: Ask::Leave { challenge, user, entry, reason } }
                    if !is_ours(reason) =>
                {
                    let told = vec![(peer, op.count)];
                    self.leave_now(step, Leaving { challenge, user, entry, reason, told })?;
                }
                Told::Asked { peer, op, ask } => {
                    step.asked.push((peer, op));
                    let result = self.ask(step, op, ask)?;
                    step.answer(peer, op.count, result);
                }
                // Not put into a group.
                Told::Attached { .. } | Told::Gone(_) => {}
            }
        }
        self.make_durable(step)
    }

    fn leave_now(&self, step: &mut Step, leaving: Leaving) -> Result<(), Failure> {
        step.leaving.push(leaving.clone());
        self.leave(step, leaving)
    }

    fn ask(&self, step: &mut Step, op: OpId, ask: Ask) -> Judged<Asked> {
        match ask {
            Ask::Create(new) => self.create(step, op, *new),
            Ask::Join { challenge, user } => self.join(step, op, challenge, user),
            Ask::Cancel { challenge, user } => self.cancel(step, op, challenge, user),
            Ask::Enter { challenge, user, generation, ticket } => {
                self.enter(step, challenge, (user, generation), ticket)
            }
            Ask::Redeem { ticket } => self.redeem(step, op, ticket),
            Ask::Refresh { user } => {
                step.effects.extend(self.looks(user)?);
                Ok(Ok(Asked::Refreshed))
            }
            // For reasons that are not a worker's to give.
            Ask::Leave { .. } => Ok(Err(Refusal::new(Code::Internal, "Internal error"))),
        }
    }

    fn create(&self, step: &mut Step, op: OpId, new: NewChallenge) -> Judged<Asked> {
        if let Some(challenge) = self.parts.store.created_by(op)? {
            return Ok(Ok(Asked::Created { challenge }));
        }
        let NewChallenge {
            by: created_by,
            title,
            description,
            max_participants,
            start_ms: start_at,
            distance,
            password,
            broadcast,
        } = new;
        let id = step.ends.challenge + 1;
        let end_at = start_at.saturating_add(distance.time_ms());
        let change = ChallengeChange::Created {
            title,
            description,
            max_participants,
            start_at,
            end_at,
            distance,
            password,
            broadcast,
            created_by,
        };
        self.record(step, id, Some(op), change)?;
        step.ends.challenge = id;
        if let Some(state) = self.parts.store.challenge(id)? {
            step.effects.push(Effect::Created(state));
        }
        Ok(Ok(Asked::Created { challenge: id }))
    }

    fn join(&self, step: &mut Step, op: OpId, challenge: ChallengeId, user: UserId) -> Judged<Asked> {
        self.begin(step)?;
        let Some(state) = self.parts.store.challenge(challenge)? else {
            return Ok(Err(not_found()));
        };
        let known = self.parts.store.participant(challenge, user)?;
        if let Some(known) = known.filter(|known| known.status.counts()) {
            let joined = Asked::Joined { participant: known.id };
            return Ok(if known.op == op { Ok(joined) } else { Err(already_joined()) });
        }
        let status = self.status_of(&state, step.now_ms);
        if Participation::after(known.map(|known| known.status), Event::Join, status).is_none() {
            return Ok(Err(wrong_state("The challenge cannot be joined any more")));
        }
        if state.participants >= state.max_participants {
            return Ok(Err(Refusal::new(Code::ChallengeFull, "The challenge is full")));
        }
        self.record(step, challenge, Some(op), ChallengeChange::Joined { user_id: user })?;
        let joined = self.parts.store.participant(challenge, user)?;
        Ok(joined.map(|joined| Asked::Joined { participant: joined.id }).ok_or_else(not_found))
    }

    fn cancel(&self, step: &mut Step, op: OpId, challenge: ChallengeId, user: UserId) -> Judged<Asked> {
        self.begin(step)?;
        let Some(state) = self.parts.store.challenge(challenge)? else {
            return Ok(Err(not_found()));
        };
        let not_joined = || Refusal::new(Code::NotJoined, "You have not joined this challenge");
        let Some(known) = self.parts.store.participant(challenge, user)? else {
            return Ok(Err(not_joined()));
        };
        let cancelled = Asked::Cancelled { participant: known.id };
        if known.status == Participation::Left {
            return Ok(if known.op == op { Ok(cancelled) } else { Err(not_joined()) });
        }
        let status = self.status_of(&state, step.now_ms);
        if Participation::after(Some(known.status), Event::Cancel, status).is_none() {
            return Ok(Err(wrong_state("The participation cannot be cancelled any more")));
        }
        self.record(step, challenge, Some(op), ChallengeChange::Cancelled { user_id: user })?;
        Ok(Ok(cancelled))
    }

    pub(super) fn enter(
        &self,
        step: &Step,
        challenge: ChallengeId,
        (user, generation): (UserId, u32),
        id: u128,
    ) -> Judged<Asked> {
        let Some(state) = self.parts.store.challenge(challenge)? else {
            return Ok(Err(not_found()));
        };
        let known = self.parts.store.participant(challenge, user)?;
        let status = self.status_of(&state, step.now_ms);
        let Some(kind) = known.as_ref().and_then(|known| known.status.ticket(status)) else {
            return Ok(Err(wrong_state(no_ticket(known.map(|known| known.status), status))));
        };
        let payload = postcard::to_stdvec(&(challenge, kind, generation)).unwrap_or_default();
        let ttl_ms = u64::try_from(self.parts.settings.ticket_ttl.as_millis()).unwrap_or(u64::MAX);
        let ticket = Ticket { id, purpose: Purpose::Challenge, user, payload, ttl_ms };
        let issued = self.parts.tickets.lock().issue(ticket, Instant::now());
        Ok(issued.map(|_| Asked::Ticket { kind }))
    }

    fn redeem(&self, step: &mut Step, op: OpId, ticket: u128) -> Judged<Asked> {
        let redeemed = self.parts.tickets.lock().redeem(op, Purpose::Challenge, ticket, Instant::now());
        let Ok(Outcome::Ticket { user, payload }) = redeemed else {
            return Ok(Err(bad_ticket()));
        };
        let Ok((challenge, kind, generation)) = postcard::from_bytes::<Admission>(&payload) else {
            return Ok(Err(bad_ticket()));
        };
        self.begin(step)?;
        let state = self.parts.store.challenge(challenge)?;
        let known = self.parts.store.participant(challenge, user)?;
        let (Some(state), Some(known)) = (state, known) else {
            return Ok(Err(bad_ticket()));
        };
        if known.op == op && known.status == Participation::Running {
            return Ok(Ok(Asked::Entered { challenge, user, entry: known.entry, generation }));
        }
        // One that was given out while the tokens were ended is not among those forgotten with them.
        if self.parts.users.revocation(user)?.generation != generation {
            return Ok(Err(bad_ticket()));
        }
        let status = self.status_of(&state, step.now_ms);
        let next = Participation::after(Some(known.status), Event::Enter(kind), status);
        let entry = step.ends.entry + 1;
        let runner = self.runner(challenge, &known, Standing::In);
        let (Some(_), Some(runner)) = (next.filter(|_| self.races.get(challenge).is_some()), runner) else {
            return Ok(Err(bad_ticket()));
        };
        self.record(step, challenge, Some(op), ChallengeChange::Entered { user_id: user, entry })?;
        step.ends.entry = entry;
        let runner = Runner { entry, ..runner };
        step.effects.push(Effect::Entered { challenge, runner, instance: op.instance });
        Ok(Ok(Asked::Entered { challenge, user, entry, generation }))
    }

    /// A participant as others see them; `None`: the user is gone, or nobody can tell.
    pub(super) fn runner(
        &self,
        challenge: ChallengeId,
        known: &ParticipantState,
        standing: Standing,
    ) -> Option<Runner> {
        let user = known.user;
        let live = self.races.get(challenge).and_then(|race| race.runner(user));
        let found = match self.parts.users.user_by_number(user) {
            Ok(found) => found?,
            Err(error) => {
                tracing::error!(%error, "cannot read who takes part in a challenge");
                return live.map(|runner| Runner { standing, ..runner.clone() });
            }
        };
        let stored = Place { distance: known.distance, pace: known.pace, timestamp_ms: 0, reached: 0 };
        let at = live.map_or(stored, |runner| runner.at);
        let (nickname, profile_image) = seen_as(found);
        Some(Runner { user, entry: known.entry, nickname, profile_image, at, standing })
    }

    /// How a member is seen by now; `None`: there is no such member any more.
    pub(super) fn looks(&self, user: UserId) -> Result<Option<Effect>, Failure> {
        let found = self.parts.users.user_by_number(user)?;
        Ok(found.map(|found| {
            let (nickname, profile_image) = seen_as(found);
            Effect::Looks(user, nickname, profile_image)
        }))
    }

    /// Ends a stay, if it is the one that there is.
    fn leave(&self, step: &mut Step, leaving: Leaving) -> Result<(), Failure> {
        let Leaving { challenge, user, entry, reason, told } = leaving;
        self.begin(step)?;
        let state = self.parts.store.challenge(challenge)?;
        let known = self.parts.store.participant(challenge, user)?;
        if let (Some(state), Some(known)) = (state, known.filter(|known| known.entry == entry)) {
            // Somebody is in, so it can be left, whatever the clock was set to.
            let status = self.status_of(&state, step.now_ms).max(Status::Ready);
            if Participation::after(Some(known.status), Event::Leave(reason), status).is_some() {
                let rank = (reason == Reason::Finish).then_some(state.ranked + 1);
                self.note_status(step, &state, &known, reason.state(), rank)?;
                step.effects.push(Effect::Left { stay: (challenge, user, entry), reason, rank });
            }
        }
        for (peer, count) in told {
            step.answer(peer, count, Ok(Asked::Left));
        }
        Ok(())
    }

    /// Writes how a participant stands from now on.
    pub(super) fn note_status(
        &self,
        step: &mut Step,
        state: &ChallengeState,
        known: &ParticipantState,
        status: Participation,
        rank: Option<u32>,
    ) -> Result<(), Failure> {
        let live = self.races.get(state.id).and_then(|race| race.runner(known.user));
        let (distance, pace) =
            live.map_or((known.distance, known.pace), |live| (live.at.distance, live.at.pace));
        let average_pace = match (rank, known.entered_ms) {
            (Some(_), Some(entered_ms)) => average_pace(state, entered_ms, step.now_ms, distance),
            _ => None,
        };
        let user_id = known.user;
        let change = ChallengeChange::Status { user_id, status, rank, distance, pace, average_pace };
        self.record(step, state.id, None, change)
    }

    /// How far a challenge is. Never goes back while it can be entered.
    pub(super) fn status_of(&self, state: &ChallengeState, now_ms: i64) -> Status {
        let by_clock = self.schedule(state).at(now_ms);
        self.races.get(state.id).map_or(by_clock, |race| race.status.max(by_clock))
    }
}

/// What others call a user, and their picture.
fn seen_as(user: User) -> (String, Option<String>) {
    (user.nickname.unwrap_or(user.username), user.profile_image)
}

/// Whether it is decided here and nowhere else.
fn is_ours(reason: Reason) -> bool {
    matches!(reason, Reason::Finish | Reason::Expired)
}

fn finished(record: &Record) -> Leaving {
    let Record { challenge, user, entry, .. } = *record;
    Leaving { challenge, user, entry, reason: Reason::Finish, told: Vec::new() }
}

/// Minutes per kilometre since the start, or since the first entry if that was later; who comes in and
/// finishes before the start is counted from there.
fn average_pace(state: &ChallengeState, entered_ms: i64, now_ms: i64, distance: Amount) -> Option<Amount> {
    let from = if now_ms > state.start_ms { entered_ms.max(state.start_ms) } else { entered_ms };
    let seconds = u32::try_from(now_ms.saturating_sub(from) / 1_000).ok()?;
    Amount::try_from(f64::from(seconds) / 60.0 / distance.get()).ok()
}

fn not_found() -> Refusal {
    Refusal::new(Code::ChallengeNotFound, "Challenge not found")
}

fn already_joined() -> Refusal {
    Refusal::new(Code::AlreadyJoined, "You have already joined this challenge")
}

/// Why nobody who stands like that gets a ticket now, and what would help.
fn no_ticket(standing: Option<Participation>, status: Status) -> &'static str {
    match (standing, status) {
        (None | Some(Participation::Left), _) => "You have not joined this challenge",
        (_, Status::Recruiting) => "The challenge cannot be entered yet: ask again when it is READY",
        (_, Status::Done) => "The challenge is over",
        (Some(Participation::Waiting), Status::Running) => {
            "The challenge has started; it could be entered before that"
        }
        (Some(Participation::Running), _) => "You are in already: close the other connection first",
        _ => "Your participation has ended",
    }
}

fn wrong_state(text: &str) -> Refusal {
    Refusal::new(Code::WrongState, text)
}

fn bad_ticket() -> Refusal {
    Refusal::new(Code::InvalidTicket, "The ticket is not good (any more)")
}
