//! Members of challenges, who are the users.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Rest;
use super::accounts::token;
use super::answer::{ApiError, Asked};
use super::envelope::{Envelope, good};
use super::rooms::invalid;
use crate::chat::{Code, Refusal};

/// Who is to be logged in; text first, so that a mistake can be named.
#[derive(Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
pub struct MemberQuery {
    /// A user's number.
    #[param(value_type = u64, required = true)]
    member_id: Option<String>,
}

/// Answer of `test-login`.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct MemberLogin {
    /// A token like that of `/api/auth/login`.
    access_token: String,
    /// Another one.
    refresh_token: String,
    /// `false`: whoever can be logged in like this has been there.
    is_new_user: bool,
    /// `false`: a member without a nickname goes by the name, which everybody has.
    need_additional_info: bool,
}

/// Gives tokens without a password, for load tests: only where `challenge.test_login` is on, otherwise there
/// is no such call.
#[utoipa::path(post, path = "/api/v1/auth/test-login", tag = "challenges", params(MemberQuery),
    responses((status = 200, body = Envelope<MemberLogin>), (status = 400, description = "memberId is no number"),
        (status = 404, description = "no such member, or the call is off")))]
pub async fn test_login(
    State(rest): State<Rest>,
    Asked(query): Asked<MemberQuery>,
) -> Result<Response, ApiError> {
    let app = &rest.app;
    if !app.config.challenge.test_login {
        return Err(Refusal::new(Code::NotFound, "Not found").into());
    }
    let number = query.member_id.and_then(|text| text.parse().ok()).filter(|number| *number > 0);
    let number = number.ok_or_else(|| invalid("memberId must be given: the number of a member, from 1"))?;
    let user = app.core.lock().index.user_by_number(number)?;
    let user = user.ok_or_else(|| Refusal::new(Code::NotFound, "Member not found"))?;
    let one = || token(app, user.number, &user.username, user.generation);
    let login = MemberLogin {
        access_token: one()?,
        refresh_token: one()?,
        is_new_user: false,
        need_additional_info: false,
    };
    Ok(good(StatusCode::OK, "Logged in", login))
}
