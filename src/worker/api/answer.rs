//! How a call is answered: JSON, and refusals as `{"error", "code"}` with their status.

use std::marker::PhantomData;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::de::{DeserializeOwned, IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use tokio::sync::oneshot;
use utoipa::ToSchema;

use super::super::answers::{index_failed, internal};
use super::super::core::App;
use super::super::uplink::Asker;
use crate::chat::{Code, Refusal};
use crate::config;
use crate::link::frame::{Change, Outcome, ToWriter};
use crate::wire::object::Object;

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
pub struct ApiError(Refusal);

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> ApiError {
        ApiError(refusal)
    }
}

impl From<crate::index::IndexError> for ApiError {
    fn from(error: crate::index::IndexError) -> ApiError {
        ApiError(index_failed(&error))
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let code = self.0.code;
        let problem = Problem { error: self.0.message, code: code.as_str().to_owned() };
        (status(code), axum::Json(problem)).into_response()
    }
}

fn status(code: Code) -> StatusCode {
    match code {
        Code::InvalidRequest
        | Code::InvalidJson
        | Code::UnknownParticipants
        | Code::ContentTooLong
        | Code::UnknownEvent => StatusCode::BAD_REQUEST,
        Code::Unauthorized | Code::InvalidCredentials => StatusCode::UNAUTHORIZED,
        Code::NotAMember | Code::RoomNotOpen => StatusCode::FORBIDDEN,
        Code::RoomNotFound | Code::NotFound => StatusCode::NOT_FOUND,
        Code::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        Code::UsernameTaken | Code::TooManyRooms => StatusCode::CONFLICT,
        Code::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Code::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        Code::Overloaded | Code::StorageFailed => StatusCode::SERVICE_UNAVAILABLE,
        Code::StorageFull => StatusCode::INSUFFICIENT_STORAGE,
        Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// Bytes of a body that is read between two turns of the loop; a larger one is read on another thread.
const AT_ONCE_BYTES: usize = 64 << 10;

/// A JSON object as body, whatever its content type says. An empty body is `{}`.
pub struct Body<T>(pub T);

impl<T: DeserializeOwned + Send + 'static, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let bytes = Bytes::from_request(request, state).await.map_err(unreadable)?;
        let bytes = if bytes.is_empty() { Bytes::from_static(b"{}") } else { bytes };
        if bytes.len() <= AT_ONCE_BYTES {
            return read(&bytes);
        }
        tokio::task::spawn_blocking(move || read(&bytes)).await.map_err(|_| internal())?
    }
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<Body<T>, ApiError> {
    match serde_json::from_slice(bytes) {
        Ok(Object(value)) => Ok(Body(value)),
        Err(error) if error.is_data() => {
            Err(Refusal::new(Code::InvalidRequest, format!("Invalid request: {error}")).into())
        }
        Err(error) => Err(Refusal::new(Code::InvalidJson, format!("Invalid JSON: {error}")).into()),
    }
}

/// Reads the entries of a batch call. Of more than one call may carry just one is kept, so that the
/// call is refused and costs no more memory than one that is not.
pub fn entries<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    struct Entries<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
        type Value = Vec<T>;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an array")
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
            let mut entries = Vec::new();
            while entries.len() <= config::BATCH_ENTRIES {
                match seq.next_element()? {
                    Some(entry) => entries.push(entry),
                    None => return Ok(entries),
                }
            }
            while seq.next_element::<IgnoredAny>()?.is_some() {}
            Ok(entries)
        }
    }
    deserializer.deserialize_seq(Entries(PhantomData))
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

fn unreadable(rejection: BytesRejection) -> ApiError {
    let refusal = if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        Refusal::new(Code::BodyTooLarge, "The body is too large")
    } else {
        Refusal::new(Code::InvalidRequest, "The body could not be read")
    };
    refusal.into()
}

/// Has the storage writer make a change, and waits for it.
pub async fn change(app: &App, change: Change) -> Result<Outcome, ApiError> {
    call(app, |count| ToWriter::Change { count, change }).await
}

/// Waits until the index shows everything that was published before.
pub async fn sync(app: &App) -> Result<(), ApiError> {
    call(app, |count| ToWriter::Sync { count }).await.map(|_| ())
}

async fn call(app: &App, frame: impl FnOnce(u64) -> ToWriter<'static>) -> Result<Outcome, ApiError> {
    let (reply, answer) = oneshot::channel();
    app.core.lock().uplink.submit(Asker::Call(reply), frame)?;
    app.wake.notify_one();
    Ok(answer.await.map_err(|_| internal())??)
}
