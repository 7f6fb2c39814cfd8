//! Who is before whom, and the same as it happens for those who only watch.

use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::super::core::Core;
use super::Rest;
use super::answer::{ApiError, Asked, Named};
use super::caller::Caller;
use super::challenges::{found, looks, number, status};
use super::envelope::{Envelope, good};
use super::page::{Page, Paged, Pages};
use crate::challenge::{ChallengeId, Status};
use crate::chat::{Code, Refusal, UserId};
use crate::link::arena::Standing;

/// A place in a challenge.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Place {
    /// From 1.
    rank: u32,
    user_id: UserId,
    nickname: String,
    profile_image: Option<String>,
    /// Kilometres.
    distance: f64,
    /// Minutes a kilometre: the latest while the challenge is under way, over all when it is over.
    pace: Option<f64>,
    /// `RUNNING`, `COMPLETED` and so on.
    status: &'static str,
}

/// The ranking: of this moment while the challenge is under way, for good when it is over.
#[utoipa::path(get, path = "/api/v1/challenges/{challengeId}/ranking", tag = "challenges",
    params(("challengeId" = u64, Path), Pages), security(("token" = [])),
    responses((status = 200, body = Envelope<Paged<Place>>), (status = 400), (status = 401), (status = 404)))]
pub async fn ranking(
    State(rest): State<Rest>,
    _caller: Caller,
    Named(id): Named,
    Asked(pages): Asked<Pages>,
) -> Result<Response, ApiError> {
    let (page, challenge) = (pages.read()?, number(&id)?);
    let core = rest.app.core.lock();
    let info = found(&core, challenge)?;
    let (places, total) = match live(&core, challenge, &page).filter(|_| status(&rest.app, &info).is_live()) {
        Some(live) => live,
        None => stored(&core, challenge, &page)?,
    };
    Ok(good(StatusCode::OK, "Ranking", page.of(places, total)))
}

fn live(core: &Core, challenge: ChallengeId, page: &Page) -> Option<(Vec<Place>, u64)> {
    let mirror = core.arena.mirror(challenge)?;
    let skip = usize::try_from(page.skip()).unwrap_or(usize::MAX);
    let size = usize::try_from(page.size).unwrap_or(usize::MAX);
    let places = mirror.ranked().skip(skip).take(size).map(|(rank, runner)| Place {
        rank,
        user_id: runner.user,
        nickname: runner.nickname.clone(),
        profile_image: runner.profile_image.clone(),
        distance: runner.at.distance.get(),
        pace: Some(runner.at.pace.get()),
        status: match runner.standing {
            Standing::In => "RUNNING",
            Standing::Finished(_) => "COMPLETED",
            Standing::Away => "DISCONNECTED",
        },
    });
    Some((places.collect(), u64::try_from(mirror.ranked_count()).unwrap_or(u64::MAX)))
}

fn stored(core: &Core, challenge: ChallengeId, page: &Page) -> Result<(Vec<Place>, u64), ApiError> {
    let skip = u32::try_from(page.skip()).unwrap_or(u32::MAX);
    let ranked = core.challenges.ranking(challenge, skip, page.size)?;
    let places = ranked.into_iter().map(|participant| {
        let (nickname, profile_image) = looks(core, participant.user)?;
        Ok(Place {
            rank: participant.rank.unwrap_or_default(),
            user_id: participant.user,
            nickname,
            profile_image,
            distance: participant.distance.get(),
            pace: participant.average_pace.map(f64::from),
            status: participant.status.as_str(),
        })
    });
    let places = places.collect::<Result<Vec<_>, ApiError>>()?;
    Ok((places, core.challenges.ranked(challenge)?.into()))
}

/// Shows a challenge as it happens, to anybody, if it is broadcast: events `start`, `running`, `finish`,
/// `leave` and in the end `end`.
#[utoipa::path(get, path = "/api/v1/challenges/{challengeId}/stream", tag = "challenges",
    params(("challengeId" = u64, Path)),
    responses((status = 200, description = "Server-Sent Events", content_type = "text/event-stream"),
        (status = 403, description = "not broadcast"), (status = 404, description = "no such challenge, or over"),
        (status = 503)))]
pub async fn stream(State(rest): State<Rest>, Named(id): Named) -> Result<Response, ApiError> {
    let challenge = number(&id)?;
    let mut core = rest.app.core.lock();
    let info = found(&core, challenge)?;
    if !info.broadcast {
        return Err(Refusal::new(Code::Forbidden, "This challenge is not broadcast").into());
    }
    if status(&rest.app, &info) == Status::Done {
        return Err(Refusal::new(Code::ChallengeNotFound, "This challenge is over").into());
    }
    let events = core
        .arena
        .watch(challenge, rest.app.config.limits.keep_alive_timeout)
        .ok_or_else(Refusal::overloaded)?;
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, Body::new(events)).into_response())
}
