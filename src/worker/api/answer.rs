//! How a call is answered: JSON, and refusals as `{"error", "code"}` with their status.

use std::time::Duration;

use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;
use utoipa::ToSchema;

use super::super::answers::{index_failed, internal};
use super::super::core::App;
use super::super::uplink::Asker;
use crate::chat::{Code, Refusal};
use crate::link::frame::{Change, Outcome, ToWriter};

/// Body of every refusal.
#[derive(Serialize, ToSchema)]
pub struct Problem {
    /// One sentence for a person.
    error: String,
    /// What a program acts on, such as `NOT_A_MEMBER`.
    code: String,
}

/// A refusal on its way to the caller.
#[derive(Debug)]
pub struct ApiError {
    refusal: Refusal,
    /// Seconds after which trying again makes sense, if that is known.
    retry_after: Option<u64>,
}

/// When somebody who was too fast, or met a moment's failure, may try again, in seconds.
const AGAIN_SECONDS: u64 = 1;

impl ApiError {
    /// A refusal for so long.
    pub fn for_a_while(refusal: Refusal, wait: Duration) -> ApiError {
        ApiError { refusal, retry_after: Some(wait.as_secs() + 1) }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> ApiError {
        let soon = matches!(refusal.code, Code::RateLimited | Code::Unavailable | Code::Overloaded);
        let retry_after = soon.then_some(AGAIN_SECONDS);
        ApiError { refusal, retry_after }
    }
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Refusal {
        error.refusal
    }
}

impl From<crate::index::IndexError> for ApiError {
    fn from(error: crate::index::IndexError) -> ApiError {
        index_failed(&error).into()
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let code = self.refusal.code;
        let problem = Problem { error: self.refusal.message.clone(), code: code.as_str().to_owned() };
        let mut response = (status(code), axum::Json(problem)).into_response();
        // Other surfaces say the same in another form.
        response.extensions_mut().insert(self.refusal);
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        if response.status() == StatusCode::UNAUTHORIZED {
            // RFC 9110, section 15.5.2: how to be let in is always said.
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if matches!(code, Code::RequestTimeout | Code::TooManyConnections) {
            // What may still come is not waited for.
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

fn status(code: Code) -> StatusCode {
    match code {
        Code::InvalidRequest
        | Code::InvalidJson
        | Code::UnknownParticipants
        | Code::ContentTooLong
        | Code::ChallengeFull
        | Code::UnknownEvent => StatusCode::BAD_REQUEST,
        Code::Unauthorized
        | Code::InvalidCredentials
        | Code::InvalidTicket
        | Code::TokenExpired
        | Code::LoggedOut => StatusCode::UNAUTHORIZED,
        Code::NotAMember
        | Code::RoomNotOpen
        | Code::OriginNotAllowed
        | Code::Forbidden
        | Code::WrongPassword => StatusCode::FORBIDDEN,
        Code::RoomNotFound | Code::ChallengeNotFound | Code::NotJoined | Code::NotFound => {
            StatusCode::NOT_FOUND
        }
        Code::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        Code::UsernameTaken | Code::TooManyRooms | Code::AlreadyJoined | Code::WrongState => {
            StatusCode::CONFLICT
        }
        Code::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Code::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
        Code::RateLimited | Code::TooManyConnections | Code::TooManyAttempts => StatusCode::TOO_MANY_REQUESTS,
        Code::Overloaded | Code::StorageFailed | Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::StorageFull => StatusCode::INSUFFICIENT_STORAGE,
        Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The one variable part of a path.
pub struct Named(pub String);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        path.map(|Path(name)| Named(name)).map_err(|error| invalid(&error.body_text()))
    }
}

/// What stands behind the question mark.
pub struct Asked<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let query = Query::<T>::from_request_parts(parts, state).await;
        query.map(|Query(asked)| Asked(asked)).map_err(|error| invalid(&error.body_text()))
    }
}

fn invalid(text: &str) -> ApiError {
    Refusal::new(Code::InvalidRequest, text).into()
}

/// Has the storage writer make a change, and waits for it. Both look whether its user makes too many:
/// the writer for all workers, this one before that.
pub async fn change(app: &App, change: Change) -> Result<Outcome, ApiError> {
    let in_pace = change.user().is_none_or(|user| {
        let mut core = app.core.lock();
        let now_us = core.now_us();
        core.changes.take(user, now_us)
    });
    if !in_pace {
        return Err(Refusal::too_many_requests().into());
    }
    call(app, |count| ToWriter::Change { count, change }).await
}

/// Waits until the index shows everything that was published before.
pub async fn sync(app: &App) -> Result<(), ApiError> {
    call(app, |count| ToWriter::Sync { count }).await.map(|_| ())
}

/// Has the storage writer do something, and waits for it.
pub async fn call(app: &App, frame: impl FnOnce(u64) -> ToWriter<'static>) -> Result<Outcome, ApiError> {
    let (reply, answer) = oneshot::channel();
    app.core.lock().uplink.submit(Asker::Call(reply), frame)?;
    app.wake.notify_one();
    Ok(answer.await.map_err(|_| internal())??)
}
