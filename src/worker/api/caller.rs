//! Who calls: a bearer token, or a name in open mode.

use axum::extract::FromRequestParts;
use axum::http::header::{self, HeaderMap};
use axum::http::request::Parts;

use super::super::answers;
use super::super::token::{Known, Pass};
use super::Rest;
use super::answer::ApiError;
use crate::chat::{Code, Refusal, UserId};
use crate::config::AuthMode;

/// The user that calls; exists.
pub struct Caller {
    /// Number.
    pub number: UserId,
    /// Name.
    pub username: String,
    /// How long that is believed.
    pub pass: Pass,
    /// The generation of the user's tokens that is good.
    pub generation: u32,
}

/// The token of an `Authorization: Bearer` header.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

impl FromRequestParts<Rest> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, rest: &Rest) -> Result<Self, ApiError> {
        let app = &rest.app;
        let unauthorized = |message: &str| ApiError::from(Refusal::new(Code::Unauthorized, message));
        if let Some(token) = bearer(&parts.headers) {
            let claims = app.tokens.check(token).ok_or_else(|| unauthorized("Invalid or expired token"))?;
            let (name, revocation) = {
                let mut core = app.core.lock();
                // That all users are deleted is on the link by now, if somebody was told so.
                answers::drain(&mut core);
                // That tokens are revoked is in the index by then.
                (core.user_name(claims.sub)?, core.index.revocation(claims.sub)?)
            };
            app.wake.notify_one();
            let Known { number, name: username, pass } = claims.into();
            return match name {
                Some(name) if *name == *username && pass.survives(&revocation) => {
                    Ok(Caller { number, username, pass, generation: revocation.generation })
                }
                _ => Err(unauthorized("Invalid or expired token")),
            };
        }
        match open_name(app.config.auth.mode, parts) {
            Some(name) => {
                let user = app.core.lock().index.user_by_name(&name)?;
                let user = user.ok_or_else(|| unauthorized("Unknown user"))?;
                let pass = Pass::without_token(user.generation);
                Ok(Caller { number: user.number, username: user.username, pass, generation: user.generation })
            }
            None => Err(unauthorized("Access token required")),
        }
    }
}

fn open_name(mode: AuthMode, parts: &Parts) -> Option<String> {
    if mode != AuthMode::Open {
        return None;
    }
    let query = axum::extract::Query::<std::collections::HashMap<String, String>>::try_from_uri(&parts.uri);
    query.ok()?.0.remove("username")
}
