//! What can be had for a token, and how tokens end before their time.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::super::ids;
use super::Rest;
use super::answer::{ApiError, Problem, call, change};
use super::caller::Caller;
use crate::link::frame::{Change, Purpose, Ticket, ToWriter};

/// Answer of `ticket`.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct IssuedTicket {
    /// Good once.
    #[schema(format = "uuid")]
    ticket: String,
    /// Seconds until it is good no more.
    expires_in: u64,
}

/// Gives a ticket that lets one socket in, in place of the token: in a URL it may be read by anybody
/// once it was used. The socket has the token's end.
#[utoipa::path(post, path = "/api/auth/ticket", tag = "accounts", security(("token" = [])),
    responses((status = 200, body = IssuedTicket), (status = 401, body = Problem),
        (status = 429, body = Problem)))]
pub async fn ticket(State(rest): State<Rest>, caller: Caller) -> Result<Json<IssuedTicket>, ApiError> {
    let (id, ttl) = (ids::ticket(), rest.app.config.auth.ticket_ttl);
    let ticket = Ticket {
        id,
        purpose: Purpose::Chat,
        user: caller.number,
        payload: caller.pass.pack(),
        ttl_ms: u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX),
    };
    call(&rest.app, |count| ToWriter::IssueTicket { count, ticket }).await?;
    Ok(Json(IssuedTicket { ticket: ids::ticket_text(id), expires_in: ttl.as_secs() }))
}

/// Answer of `logout-all`.
#[derive(Serialize, ToSchema)]
pub struct LoggedOut {
    message: String,
}

/// Ends all tokens and tickets of the caller, the one of this call included, and all sockets. When this is
/// answered, no worker takes any of them. The next login gives a good one.
#[utoipa::path(post, path = "/api/auth/logout-all", tag = "accounts", security(("token" = [])),
    responses((status = 200, body = LoggedOut), (status = 401, body = Problem)))]
pub async fn logout_all(State(rest): State<Rest>, caller: Caller) -> Result<Json<LoggedOut>, ApiError> {
    let Caller { number: user, generation, .. } = caller;
    change(&rest.app, Change::Revoke { user, generation }).await?;
    Ok(Json(LoggedOut { message: "Logged out everywhere".to_owned() }))
}
