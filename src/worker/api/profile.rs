//! How a user is seen by others: nickname and picture.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use super::super::core::App;
use super::Rest;
use super::accounts::{nickname, profile_image};
use super::answer::{ApiError, Problem, change};
use super::body::Body;
use super::caller::Caller;
use super::challenges::ask;
use super::fields::Field;
use crate::chat::{Code, Refusal, UserId};
use crate::link::arena::Ask;
use crate::link::frame::Change;

/// What is to change; what is missing stays.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProfileChange {
    /// How others see the caller in live challenges; `null` or empty: by the name.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, max_length = 100)]
    nickname: Option<Field>,
    /// The address of a picture; `null` or empty: none.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, max_length = 2048)]
    profile_image: Option<Field>,
}

/// A field that is there, if only as `null`.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Field>, D::Error> {
    Field::deserialize(deserializer).map(Some)
}

/// The caller.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct OwnProfile {
    /// The user's number.
    user_id: UserId,
    username: String,
    nickname: Option<String>,
    profile_image: Option<String>,
}

/// Shows the caller.
#[utoipa::path(get, path = "/api/users/me", tag = "accounts", security(("token" = [])),
    responses((status = 200, body = OwnProfile), (status = 401, body = Problem)))]
pub async fn show(State(rest): State<Rest>, caller: Caller) -> Result<Json<OwnProfile>, ApiError> {
    own(&rest.app, caller.number)
}

/// Changes nickname and picture. When this is answered, every worker shows them to whoever asks or comes into
/// a live challenge.
#[utoipa::path(patch, path = "/api/users/me", tag = "accounts", request_body = ProfileChange,
    security(("token" = [])),
    responses((status = 200, body = OwnProfile), (status = 400, body = Problem), (status = 401, body = Problem),
        (status = 429, body = Problem)))]
pub async fn edit(
    State(rest): State<Rest>,
    caller: Caller,
    Body(asked, _memory): Body<ProfileChange>,
) -> Result<Json<OwnProfile>, ApiError> {
    let user = caller.number;
    let nickname = asked.nickname.map(nickname).transpose()?;
    let profile_image = asked.profile_image.map(profile_image).transpose()?;
    change(&rest.app, Change::SetLooks { user, nickname, profile_image }).await?;
    ask(&rest.app, Ask::Refresh { user }).await?;
    own(&rest.app, user)
}

fn own(app: &App, number: UserId) -> Result<Json<OwnProfile>, ApiError> {
    let user = app.core.lock().index.user_by_number(number)?;
    // Deleted meanwhile.
    let user = user.ok_or_else(|| Refusal::new(Code::Unauthorized, "Invalid or expired token"))?;
    let (username, nickname, profile_image) = (user.username, user.nickname, user.profile_image);
    Ok(Json(OwnProfile { user_id: number, username, nickname, profile_image }))
}
