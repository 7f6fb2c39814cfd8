//! What can be had for a token, and how tokens end before their time.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::answers::internal;
use super::super::ids;
use super::super::password::{Asked, Urgency, Verdict};
use super::Rest;
use super::accounts::{token, too_soon, unexpected};
use super::answer::{ApiError, Problem, call, change};
use super::body::Body;
use super::caller::Caller;
use super::fields::Field;
use super::sources::Sources;
use crate::chat::{Code, Refusal, rules};
use crate::link::frame::{Change, NewPassword, Outcome, Purpose, Ticket, ToWriter};

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

/// What `password` carries.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PasswordChange {
    #[serde(default)]
    #[schema(value_type = String)]
    current_password: Field,
    #[serde(default)]
    #[schema(value_type = String, max_length = 1024)]
    new_password: Field,
}

/// Answer of `password`.
#[derive(Serialize, ToSchema)]
pub struct ChangedPassword {
    message: String,
    /// In place of the one of this call, which has ended.
    token: String,
}

/// Changes the caller's password, and ends all earlier tokens and all sockets as `logout-all` does.
#[utoipa::path(post, path = "/api/auth/password", tag = "accounts", request_body = PasswordChange,
    security(("token" = [])),
    responses((status = 200, body = ChangedPassword), (status = 400, body = Problem),
        (status = 401, body = Problem), (status = 403, body = Problem), (status = 429, body = Problem)))]
pub async fn password(
    State(rest): State<Rest>,
    caller: Caller,
    sources: Sources,
    Body(asked, _memory): Body<PasswordChange>,
) -> Result<Json<ChangedPassword>, ApiError> {
    let (Field::Text(current), Field::Text(new)) = (asked.current_password, asked.new_password) else {
        let text = "currentPassword and newPassword are required, as strings";
        return Err(Refusal::new(Code::InvalidRequest, text).into());
    };
    rules::password(&new)?;
    let Caller { number, username, generation, .. } = caller;
    let user = rest.app.core.lock().index.user_by_number(number)?;
    // Whose token has ended meanwhile is not told whether the password is right.
    let Some(user) = user.filter(|user| user.generation == generation) else {
        return Err(Refusal::new(Code::Unauthorized, "Invalid or expired token").into());
    };
    // Whoever has found a token may not guess on.
    let attempt = sources.attempt(&username);
    let asked = Asked { attempt, password: current, stored: user.password.clone() };
    let verdict = rest.passwords.verify(vec![asked], Urgency::Single).await?.pop();
    if let Some(Verdict::TooSoon(wait)) = verdict {
        return Err(too_soon(wait));
    }
    let (Some(Verdict::Right | Verdict::Outdated(_)), Some(replaces)) = (verdict, user.password) else {
        return Err(Refusal::new(Code::WrongPassword, "The current password is wrong").into());
    };
    let hash = rest.passwords.hash(vec![new], Urgency::Single).await?.pop().flatten().ok_or_else(internal)?;
    let password = NewPassword { user: number, replaces, password: hash };
    match change(&rest.app, Change::ChangePassword { password, generation }).await? {
        Outcome::Revoked { generation } => Ok(Json(ChangedPassword {
            message: "Password changed".to_owned(),
            token: token(&rest.app, number, &username, generation)?,
        })),
        other => Err(unexpected(&other)),
    }
}
