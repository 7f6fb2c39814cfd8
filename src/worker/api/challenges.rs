//! Live challenges: made, listed, shown.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::super::answers::internal;
use super::super::arena::socket::unix_ms;
use super::super::core::{App, Core};
use super::super::password::Urgency;
use super::Rest;
use super::accounts::unexpected;
use super::answer::{ApiError, Asked, Named, call};
use super::body::Body;
use super::caller::Caller;
use super::envelope::{Envelope, good};
use super::new_challenge::{ChallengeBody, Wanted};
use super::page::{Paged, Pages};
use crate::challenge::{ChallengeId, Participation, Status};
use crate::chat::{Code, Refusal, UserId};
use crate::index::challenges::ChallengeInfo;
use crate::link::arena::{self, Ask, NewChallenge};
use crate::link::frame::{Outcome, ToWriter};

/// Participants named with a challenge; the ranking names them all.
const PARTICIPANTS_SHOWN: u32 = 100;

/// A challenge as its callers see it. Times are of the server's zone, without an offset.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ShownChallenge {
    challenge_id: ChallengeId,
    title: String,
    /// `RECRUITING`, `READY`, `RUNNING` or `DONE`.
    status: &'static str,
    current_participants: u32,
    max_participants: u32,
    #[schema(example = "2026-01-01T09:00:00")]
    start_at: String,
    end_at: String,
    description: String,
    /// Its code.
    distance: &'static str,
    is_private: bool,
    is_broadcast: bool,
    /// Whether the caller takes part.
    joined: bool,
    /// The first 100; empty in lists.
    participants: Vec<ShownParticipant>,
    created_at: String,
    updated_at: String,
}

/// A participant of a challenge.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ShownParticipant {
    participant_id: u64,
    member_id: UserId,
    nickname: String,
    profile_image: Option<String>,
    /// `WAITING`, `RUNNING`, `COMPLETED` and so on.
    status: &'static str,
    rank: Option<u32>,
}

/// Makes a challenge. Whoever makes it does not take part by that.
#[utoipa::path(post, path = "/api/v1/admin/challenges", tag = "challenges", request_body = ChallengeBody,
    security(("token" = [])), responses((status = 201, body = Envelope<ShownChallenge>),
        (status = 400, description = "`data` says what is wrong with each field"), (status = 401)))]
pub async fn create(
    State(rest): State<Rest>,
    caller: Caller,
    Body(body, _memory): Body<ChallengeBody>,
) -> Result<Response, ApiError> {
    let wanted = match body.check(&rest.app.zone, unix_ms()) {
        Ok(wanted) => wanted,
        Err(mistakes) => return Ok(mistakes.into_response()),
    };
    let Wanted { title, description, max_participants, start_ms, distance, password, broadcast } = wanted;
    let password = match password {
        None => None,
        Some(password) => {
            let hash = rest.passwords.hash(vec![password], Urgency::Single).await?.pop().flatten();
            Some(hash.ok_or_else(internal)?)
        }
    };
    let by = caller.number;
    let new =
        NewChallenge { by, title, description, max_participants, start_ms, distance, password, broadcast };
    match ask(&rest.app, Ask::Create(Box::new(new))).await? {
        arena::Asked::Created { challenge } => {
            let core = rest.app.core.lock();
            let shown = show(&rest.app, &core, &found(&core, challenge)?, by, true)?;
            Ok(good(StatusCode::CREATED, "Challenge created", shown))
        }
        other => Err(unexpected(&Outcome::Arena(other))),
    }
}

/// Lists challenges, the newest first.
#[utoipa::path(get, path = "/api/v1/challenges", tag = "challenges", params(Pages), security(("token" = [])),
    responses((status = 200, body = Envelope<Paged<ShownChallenge>>), (status = 400), (status = 401)))]
pub async fn list(
    State(rest): State<Rest>,
    caller: Caller,
    Asked(pages): Asked<Pages>,
) -> Result<Response, ApiError> {
    let page = pages.read()?;
    let core = rest.app.core.lock();
    let total = core.challenges.count()?;
    let infos = core.challenges.challenges(page.skip(), page.size)?;
    let shown = infos.iter().map(|info| show(&rest.app, &core, info, caller.number, false));
    let shown = shown.collect::<Result<Vec<_>, ApiError>>()?;
    Ok(good(StatusCode::OK, "Challenges", page.of(shown, total)))
}

/// Shows a challenge.
#[utoipa::path(get, path = "/api/v1/challenges/{challengeId}", tag = "challenges",
    params(("challengeId" = u64, Path)), security(("token" = [])),
    responses((status = 200, body = Envelope<ShownChallenge>), (status = 401), (status = 404)))]
pub async fn one(State(rest): State<Rest>, caller: Caller, Named(id): Named) -> Result<Response, ApiError> {
    let core = rest.app.core.lock();
    let info = found(&core, number(&id)?)?;
    let shown = show(&rest.app, &core, &info, caller.number, true)?;
    Ok(good(StatusCode::OK, "Challenge", shown))
}

/// A challenge's number in a path.
pub fn number(text: &str) -> Result<ChallengeId, Refusal> {
    text.parse().map_err(|_| not_found())
}

/// There is no challenge of that number.
pub fn not_found() -> Refusal {
    Refusal::new(Code::ChallengeNotFound, "Challenge not found")
}

/// A challenge that has to be there.
pub fn found(core: &Core, id: ChallengeId) -> Result<ChallengeInfo, ApiError> {
    Ok(core.challenges.challenge(id)?.ok_or_else(not_found)?)
}

/// Has the storage writer do something about a challenge, and waits for it.
pub async fn ask(app: &App, ask: Ask) -> Result<arena::Asked, ApiError> {
    match call(app, |count| ToWriter::Arena { count, ask }).await? {
        Outcome::Arena(asked) => Ok(asked),
        other => Err(unexpected(&other)),
    }
}

/// How far a challenge is.
pub fn status(app: &App, info: &ChallengeInfo) -> Status {
    let ready_before = i64::try_from(app.config.challenge.ready_before.as_millis()).unwrap_or(i64::MAX);
    info.schedule(ready_before).at(unix_ms())
}

fn show(
    app: &App,
    core: &Core,
    info: &ChallengeInfo,
    caller: UserId,
    with_participants: bool,
) -> Result<ShownChallenge, ApiError> {
    let own = core.challenges.participant(info.id, caller)?;
    let participants = if with_participants {
        core.challenges.participants(info.id, 0, PARTICIPANTS_SHOWN)?
    } else {
        Vec::new()
    };
    let participants = participants.into_iter().map(|participant| {
        let (nickname, profile_image) = looks(core, participant.user)?;
        Ok(ShownParticipant {
            participant_id: participant.id,
            member_id: participant.user,
            nickname,
            profile_image,
            status: participant.status.as_str(),
            rank: participant.rank,
        })
    });
    let participants = participants.collect::<Result<Vec<_>, ApiError>>()?;
    Ok(ShownChallenge {
        challenge_id: info.id,
        title: info.title.clone(),
        status: status(app, info).as_str(),
        current_participants: info.participants,
        max_participants: info.max_participants,
        start_at: app.zone.text(info.start_ms),
        end_at: app.zone.text(info.end_ms),
        description: info.description.clone(),
        distance: info.distance.code(),
        is_private: info.password.is_some(),
        is_broadcast: info.broadcast,
        joined: own.is_some_and(|own| own.status != Participation::Left),
        participants,
        created_at: app.zone.text(info.created_ms),
        updated_at: app.zone.text(info.updated_ms),
    })
}

/// A member's nickname, or name, and picture.
pub fn looks(core: &Core, user: UserId) -> Result<(String, Option<String>), ApiError> {
    let found = core.index.user_by_number(user)?;
    Ok(found.map(|user| (user.nickname.unwrap_or(user.username), user.profile_image)).unwrap_or_default())
}
