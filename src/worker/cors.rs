//! Which pages may read the answers: cross-origin resource sharing as browsers ask for it
//! (<https://fetch.spec.whatwg.org/#http-cors-protocol>), by the rule of the WebSocket handshake.
//!
//! Tokens come in a header and never in a cookie. Pages that were written for another back end may send
//! their requests with credentials all the same (`withCredentials`), and with headers of their own: nothing
//! is done with either, and a browser that was not told that they are fine would refuse the call.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::api::answer::ApiError;
use super::api::rooms::NEXT_CURSOR;
use super::origin;
use crate::chat::{Code, Refusal};
use crate::config::Config;

const METHODS: HeaderValue = HeaderValue::from_static("GET, POST, PATCH, DELETE");
const HEADERS: HeaderValue = HeaderValue::from_static("Authorization, Content-Type");
/// Seconds for which a browser may remember a preflight; none does for longer.
const MAX_AGE: HeaderValue = HeaderValue::from_static("7200");
/// Headers, beside the usual ones, that a page may read.
const EXPOSED: HeaderValue = HeaderValue::from_static(NEXT_CURSOR);

/// Answers preflights, and says on every other answer whether the page that asked may read it.
pub async fn share(State(config): State<Arc<Config>>, request: Request, next: Next) -> Response {
    let origin = request.headers().get(header::ORIGIN).cloned();
    let allowed = origin.filter(|_| origin::allowed(request.headers(), &config.allowed_origins));
    let mut response = if is_preflight(&request) {
        preflight(allowed.is_some(), request.headers())
    } else {
        next.run(request).await
    };
    let headers = response.headers_mut();
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    if let Some(origin) = allowed {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    }
    response
}

fn is_preflight(request: &Request) -> bool {
    let has = |name: HeaderName| request.headers().contains_key(name);
    request.method() == Method::OPTIONS && has(header::ORIGIN) && has(header::ACCESS_CONTROL_REQUEST_METHOD)
}

fn preflight(allowed: bool, asked: &HeaderMap) -> Response {
    if !allowed {
        let refusal = Refusal::new(Code::OriginNotAllowed, "This origin is not in allowed_origins");
        return ApiError::from(refusal).into_response();
    }
    let mut headers = HeaderMap::new();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    let wanted = asked.get(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned();
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted.unwrap_or(HEADERS));
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    (StatusCode::NO_CONTENT, headers).into_response()
}
