//! What only administrators may ask for: the end of everything there is.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::Rest;
use super::accounts::unexpected;
use super::answer::{ApiError, Problem, call, change};
use super::body::Body;
use super::caller::Caller;
use crate::chat::{Code, Refusal, name};
use crate::journal::stamp::Stamp;
use crate::link::frame::{Change, Outcome, ToWriter};

/// What has to be said to delete all users.
const USERS: &str = "DELETE_ALL_USERS_CONFIRM";

/// What has to be said to delete all messages.
const MESSAGES: &str = "DELETE_ALL_MESSAGES_CONFIRM";

/// Says that the caller means it.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Confirmation {
    /// `DELETE_ALL_USERS_CONFIRM` or `DELETE_ALL_MESSAGES_CONFIRM`, whichever the call is about.
    #[serde(default)]
    #[schema(value_type = String)]
    confirmation_code: Value,
}

/// Answer of a deletion.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Deleted {
    message: String,
    /// How many there were.
    deleted_count: u64,
    /// RFC 3339.
    timestamp: String,
}

/// Deletes all users, the caller included, and all rooms. Names are free again, numbers are not.
#[utoipa::path(delete, path = "/api/auth/delete-all-users", tag = "admin", request_body = Confirmation,
    security(("token" = [])),
    responses((status = 200, body = Deleted), (status = 400, body = Problem),
        (status = 401, body = Problem), (status = 403, body = Problem)))]
pub async fn delete_all_users(
    State(rest): State<Rest>,
    Administrator(caller): Administrator,
    Body(confirmation, _memory): Body<Confirmation>,
) -> Result<Json<Deleted>, ApiError> {
    confirmation.check(USERS)?;
    deleted(change(&rest.app, Change::DeleteUsers { by: caller.number }).await?, "users")
}

/// Deletes all messages. Rooms stay; the next message gets the next number.
#[utoipa::path(delete, path = "/api/messages/delete-all", tag = "admin", request_body = Confirmation,
    security(("token" = [])),
    responses((status = 200, body = Deleted), (status = 400, body = Problem),
        (status = 401, body = Problem), (status = 403, body = Problem)))]
pub async fn delete_all_messages(
    State(rest): State<Rest>,
    Administrator(caller): Administrator,
    Body(confirmation, _memory): Body<Confirmation>,
) -> Result<Json<Deleted>, ApiError> {
    confirmation.check(MESSAGES)?;
    let by = caller.number;
    deleted(call(&rest.app, |count| ToWriter::DeleteMessages { count, by }).await?, "messages")
}

fn deleted(outcome: Outcome, what: &str) -> Result<Json<Deleted>, ApiError> {
    match outcome {
        Outcome::Deleted { count, at_ms } => Ok(Json(Deleted {
            message: format!("{count} {what} deleted"),
            deleted_count: count,
            timestamp: Stamp::default().text(at_ms).to_owned(),
        })),
        other => Err(unexpected(&other)),
    }
}

impl Confirmation {
    fn check(&self, wanted: &str) -> Result<(), Refusal> {
        if self.confirmation_code == wanted {
            return Ok(());
        }
        Err(Refusal::new(Code::InvalidRequest, format!("confirmationCode must be {wanted}")))
    }
}

/// A caller named in `admins`.
pub struct Administrator(Caller);

impl axum::extract::FromRequestParts<Rest> for Administrator {
    type Rejection = ApiError;

    async fn from_request_parts(
        parts: &mut axum::http::request::Parts,
        rest: &Rest,
    ) -> Result<Self, ApiError> {
        let caller = Caller::from_request_parts(parts, rest).await?;
        if rest.app.config.admins.iter().any(|admin| name::same(admin, &caller.username)) {
            return Ok(Administrator(caller));
        }
        Err(Refusal::new(Code::Forbidden, "Only an administrator may do this").into())
    }
}
