//! Taking part in a challenge: join, take that back, and the ticket for its WebSocket.

use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::address::Peer;
use super::super::core::App;
use super::super::ids;
use super::super::password::{Asked, Urgency, Verdict};
use super::Rest;
use super::accounts::{too_soon, unexpected};
use super::answer::{ApiError, Named};
use super::body::Body;
use super::caller::Caller;
use super::challenges::{ask, found, number};
use super::envelope::{Envelope, good};
use super::fields::Field;
use super::sources::Sources;
use crate::challenge::{ChallengeId, Participation};
use crate::chat::{Code, Refusal, UserId};
use crate::link::arena::{self, Ask};
use crate::link::frame::Outcome;

/// What `join` carries.
#[derive(Default, Deserialize, ToSchema)]
#[serde(default)]
pub struct Entrance {
    /// Of a private challenge.
    #[schema(value_type = Option<String>)]
    password: Field,
}

/// How somebody takes part.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ShownParticipation {
    participant_id: u64,
    challenge_id: ChallengeId,
    member_id: UserId,
    /// `WAITING`, or `LEFT`.
    status: &'static str,
    /// Nobody has one before the race.
    rank: Option<u32>,
    average_pace: Option<f64>,
}

/// Answer of `enter`.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Admission {
    /// Good once.
    #[schema(format = "uuid")]
    ticket: String,
    /// Where to connect, with `?ticket=` and the ticket behind it.
    ws_url: String,
    challenge_id: ChallengeId,
    user_id: UserId,
    /// Seconds until the ticket is good no more.
    expires_in: u64,
}

/// Takes part.
#[utoipa::path(post, path = "/api/v1/challenges/{challengeId}/join", tag = "challenges",
    params(("challengeId" = u64, Path)), request_body = Entrance, security(("token" = [])),
    responses((status = 201, body = Envelope<ShownParticipation>), (status = 400, description = "full"),
        (status = 401), (status = 403, description = "wrong password"), (status = 404),
        (status = 409, description = "joined already, or under way"),
        (status = 429, description = "too many wrong passwords; `Retry-After` says how long")))]
pub async fn join(
    State(rest): State<Rest>,
    caller: Caller,
    sources: Sources,
    Named(id): Named,
    Body(entrance, _memory): Body<Entrance>,
) -> Result<Response, ApiError> {
    let (challenge, user) = (number(&id)?, caller.number);
    let info = found(&rest.app.core.lock(), challenge)?;
    if let Some(stored) = info.password {
        check(&rest, &sources, &caller, challenge, stored, entrance.password).await?;
    }
    match ask(&rest.app, Ask::Join { challenge, user }).await? {
        arena::Asked::Joined { participant } => {
            let shown = shown(participant, challenge, user, Participation::Waiting);
            Ok(good(StatusCode::CREATED, "Joined the challenge", shown))
        }
        other => Err(unexpected(&Outcome::Arena(other))),
    }
}

/// Whether the caller knows the password of a private challenge.
async fn check(
    rest: &Rest,
    sources: &Sources,
    caller: &Caller,
    challenge: ChallengeId,
    stored: String,
    given: Field,
) -> Result<(), ApiError> {
    let wrong = || Refusal::new(Code::WrongPassword, "The password of the challenge is wrong");
    let Field::Text(password) = given else {
        return Err(wrong().into());
    };
    // Guesses of one caller hold up nobody else. No user's name has a line end in it.
    let attempt = sources.attempt(&format!("challenge {challenge}\n{}", caller.number));
    rest.app.brake.check(&attempt).map_err(too_soon)?;
    let asked = Asked { attempt, password, stored: Some(stored) };
    match rest.passwords.verify(vec![asked], Urgency::Single).await?.pop() {
        Some(Verdict::Right | Verdict::Outdated(_)) => Ok(()),
        Some(Verdict::TooSoon(wait)) => Err(too_soon(wait)),
        Some(Verdict::Wrong) | None => Err(wrong().into()),
    }
}

/// Takes it back, before the start.
#[utoipa::path(delete, path = "/api/v1/challenges/{challengeId}/join", tag = "challenges",
    params(("challengeId" = u64, Path)), security(("token" = [])),
    responses((status = 200, body = Envelope<ShownParticipation>), (status = 401),
        (status = 404, description = "no such challenge, or not joined"), (status = 409)))]
pub async fn cancel(
    State(rest): State<Rest>,
    caller: Caller,
    Named(id): Named,
) -> Result<Response, ApiError> {
    let (challenge, user) = (number(&id)?, caller.number);
    match ask(&rest.app, Ask::Cancel { challenge, user }).await? {
        arena::Asked::Cancelled { participant } => {
            let shown = shown(participant, challenge, user, Participation::Left);
            Ok(good(StatusCode::OK, "Left the challenge", shown))
        }
        other => Err(unexpected(&Outcome::Arena(other))),
    }
}

fn shown(
    participant_id: u64,
    challenge_id: ChallengeId,
    member_id: UserId,
    status: Participation,
) -> ShownParticipation {
    let status = status.as_str();
    ShownParticipation { participant_id, challenge_id, member_id, status, rank: None, average_pace: None }
}

/// Gives a ticket for the challenge's WebSocket: to those who wait once it is `READY`, and to those who were
/// in and lost their connection.
#[utoipa::path(post, path = "/api/v1/challenges/{challengeId}/enter", tag = "challenges",
    params(("challengeId" = u64, Path)), security(("token" = [])),
    responses((status = 200, body = Envelope<Admission>), (status = 401), (status = 404),
        (status = 409, description = "not now, or not in this state"), (status = 429)))]
pub async fn enter(
    State(rest): State<Rest>,
    caller: Caller,
    Named(id): Named,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let (challenge, ticket) = (number(&id)?, ids::ticket());
    let Caller { number: user, generation, .. } = caller;
    match ask(&rest.app, Ask::Enter { challenge, user, generation, ticket }).await? {
        arena::Asked::Ticket { .. } => {
            let admission = Admission {
                ticket: ids::ticket_text(ticket),
                ws_url: ws_url(&rest.app, peer, &headers),
                challenge_id: challenge,
                user_id: user,
                expires_in: rest.app.config.challenge.ticket_ttl.as_secs(),
            };
            Ok(good(StatusCode::OK, "Ticket issued", admission))
        }
        other => Err(unexpected(&Outcome::Arena(other))),
    }
}

/// Scheme and host that a proxy's client asked for.
const FORWARDED: [&str; 2] = ["x-forwarded-proto", "x-forwarded-host"];

/// Where the caller finds the WebSocket: as configured, or where it found this call. That may be a proxy, if
/// the proxy is one of `trusted_proxies`.
fn ws_url(app: &App, Peer(peer): Peer, headers: &HeaderMap) -> String {
    let configured = &app.config.challenge.ws_url;
    let server = &app.server_id;
    if !configured.is_empty() {
        // Whoever has named the path as well means the same.
        let base = configured.trim_end_matches('/').trim_end_matches("/ws");
        return format!("{base}/ws/{server}");
    }
    let is_trusted = app.addresses.is_trusted(peer);
    let [proto, host] = FORWARDED.map(|name| first(headers, name).filter(|_| is_trusted));
    let scheme = if proto.is_some_and(|proto| proto.eq_ignore_ascii_case("https")) { "wss" } else { "ws" };
    let host = host.or_else(|| first(headers, header::HOST.as_str())).unwrap_or("localhost");
    format!("{scheme}://{host}/ws/{server}")
}

/// The first of what a header lists: each proxy on the way may have put its own behind.
fn first<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let value = headers.get(name)?.to_str().ok()?;
    value.split(',').next().map(str::trim).filter(|value| !value.is_empty())
}
