//! How calls of the challenge surface are answered: everything under `/api/v1/` comes in an envelope,
//! `{"isSuccess", "code", "message", "data"}`, refusals as well, whoever made them.

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::chat::Refusal;

/// Paths that are answered so begin like this.
const PATHS: &str = "/api/v1/";

/// What every answer is in.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Envelope<T> {
    /// Whether what was asked for was done.
    is_success: bool,
    /// The HTTP status.
    code: u16,
    /// One sentence for a person.
    message: String,
    /// What was asked for; of a refusal `null`, or what is wrong with each field.
    data: T,
}

/// A good answer.
pub fn good<T: Serialize>(status: StatusCode, message: &str, data: T) -> Response {
    let envelope = Envelope { is_success: true, code: status.as_u16(), message: message.to_owned(), data };
    (status, axum::Json(envelope)).into_response()
}

/// An answer to fields that are not what they must be; `data` says which.
pub fn invalid<T: Serialize>(message: &str, data: T) -> Response {
    let status = StatusCode::BAD_REQUEST;
    let envelope = Envelope { is_success: false, code: status.as_u16(), message: message.to_owned(), data };
    (status, axum::Json(envelope)).into_response()
}

/// Puts refusals of the challenge surface into the envelope.
pub async fn shape(request: Request, next: Next) -> Response {
    let is_ours = request.uri().path().starts_with(PATHS);
    let response = next.run(request).await;
    match response.extensions().get::<Refusal>() {
        Some(refusal) if is_ours => {
            let message = refusal.message.clone();
            refused(response, message)
        }
        _ => response,
    }
}

fn refused(response: Response, message: String) -> Response {
    let (mut parts, _) = response.into_parts();
    let envelope = Envelope { is_success: false, code: parts.status.as_u16(), message, data: Value::Null };
    // Texts and numbers; writing to a vector can't fail.
    let body = serde_json::to_vec(&envelope).unwrap_or_default();
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Response::from_parts(parts, Body::from(body))
}
