//! What Engine.IO demands of an HTTP request, in its order, and how it is answered.
//!
//! Source: <https://socket.io/docs/v4/engine-io-protocol/>, and the reference server where that is
//! silent.

use std::collections::HashMap;

use axum::body::Body;
use axum::extract::{Query, Request};
use axum::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};

use super::sid::Sid;
use super::unfinished;
use crate::wire::engine::HandshakeError;

/// A request's query, decoded.
pub type Params = HashMap<String, String>;

/// What tells a request from the one before, shortened to a number: clients put the time, or more, into the
/// parameter `t` of each, so that no cache answers it. 0: there is none.
pub type Mark = u64;

/// Bit of a [`Mark`] that no two requests of a session have in common, whoever made them. Others may be as
/// coarse as a second (socket.io-client-csharp) or a hash that repeats itself (rust_engineio).
pub const UNIQUE: Mark = 1 << 33;

/// Digits behind the point of a time that never comes twice: python-engineio's `time.time()`.
const FINE_DIGITS: usize = 5;

fn mark(params: &Params) -> Mark {
    let Some(t) = params.get("t") else {
        return 0;
    };
    let is_number = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    let is_fine = t.split_once('.').is_some_and(|(seconds, fraction)| {
        is_number(seconds) && is_number(fraction) && fraction.len() >= FINE_DIGITS
    });
    // The same in every worker.
    Mark::from(crc32fast::hash(t.as_bytes())) | 1 << 32 | if is_fine { UNIQUE } else { 0 }
}

/// What a request wants of Engine.IO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A session over long polling.
    Session,
    /// A session over a WebSocket.
    WebSocketSession,
    /// The packets of a session.
    Fetch(Sid, Mark),
    /// To bring packets to a session.
    Bring(Sid),
    /// To go on over a WebSocket.
    Upgrade(Sid),
}

/// What Engine.IO demands of a request, in the reference server's order.
pub fn wanted(
    params: &Params,
    method: &Method,
    headers: &HeaderMap,
    allowed: bool,
) -> Result<Wanted, HandshakeError> {
    let value = |name: &str| params.get(name).map(String::as_str);
    let upgrading = upgrades(headers);
    let websocket = match value("transport") {
        Some("websocket") => true,
        Some("polling") => false,
        _ => return Err(HandshakeError::UnknownTransport),
    };
    let permitted = if allowed { Ok(()) } else { Err(HandshakeError::Forbidden) };
    if let Some(sid) = value("sid") {
        let sid = Sid::parse(sid).ok_or(HandshakeError::UnknownSession)?;
        permitted?;
        return match (websocket, upgrading, method) {
            (true, true, &Method::GET) if has_key(headers) => Ok(Wanted::Upgrade(sid)),
            (false, false, &Method::GET) => Ok(Wanted::Fetch(sid, mark(params))),
            (false, false, &Method::POST) => Ok(Wanted::Bring(sid)),
            (false, false, _) => Err(HandshakeError::BadMethod),
            _ => Err(HandshakeError::BadRequest),
        };
    }
    if method != Method::GET {
        return Err(HandshakeError::BadMethod);
    }
    if websocket != upgrading || websocket && !has_key(headers) {
        return Err(HandshakeError::BadRequest);
    }
    permitted?;
    if value("EIO") != Some("4") {
        return Err(HandshakeError::UnsupportedVersion);
    }
    Ok(if websocket { Wanted::WebSocketSession } else { Wanted::Session })
}

/// Whether a request is a proper WebSocket handshake (RFC 6455 §4.2.1), but for its version.
pub fn is_websocket_handshake(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::GET && upgrades(headers) && has_key(headers)
}

fn upgrades(headers: &HeaderMap) -> bool {
    has_token(headers, &header::CONNECTION, "upgrade") && has_token(headers, &header::UPGRADE, "websocket")
}

/// Whether any of a header's lines lists the token, in any case.
fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .any(|listed| listed.trim().eq_ignore_ascii_case(token))
}

/// The protocol inside the WebSocket that the client is told to be spoken: the first that it offers, for
/// many clients break off when none of those they offered is chosen. What is spoken is the same.
pub fn subprotocol(headers: &HeaderMap) -> Option<HeaderValue> {
    let offered = headers.get(header::SEC_WEBSOCKET_PROTOCOL)?.to_str().ok()?;
    let first = offered.split(',').map(str::trim).find(|offered| !offered.is_empty())?;
    HeaderValue::from_str(first).ok()
}

/// 16 random bytes in base64 (RFC 6455 §4.1).
fn has_key(headers: &HeaderMap) -> bool {
    headers.get(header::SEC_WEBSOCKET_KEY).is_some_and(|key| key.len() == 24)
}

/// The query of a request; one that cannot be decoded asks for nothing.
pub fn params(request: &Request) -> Params {
    Query::try_from_uri(request.uri()).map_or_else(|_| Params::new(), |Query(params)| params)
}

/// What a request about a session is answered with, wherever the session lies.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// Packets.
    Payload(Vec<u8>),
    /// What was brought has been acted on.
    Taken,
    /// What was brought is more than a payload may have; the session is over.
    TooLarge,
    /// It did not arrive in time; the session is over.
    TooSlow,
    /// All clients together have begun to send more than may be held; the session is over.
    Overloaded,
    /// Go on over the WebSocket.
    Switch,
    /// Not like this.
    Refused(HandshakeError),
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let (status, kind, body) = match self {
            Answer::Payload(payload) => (StatusCode::OK, "text/plain; charset=UTF-8", Body::from(payload)),
            // Not text/plain: some browsers offer that as a download.
            Answer::Taken => (StatusCode::OK, "text/html", Body::from("ok")),
            Answer::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "text/plain", "payload too large".into()),
            Answer::TooSlow => (StatusCode::REQUEST_TIMEOUT, "text/plain", "body too slow".into()),
            Answer::Overloaded => (StatusCode::SERVICE_UNAVAILABLE, "text/plain", unfinished::REASON.into()),
            Answer::Switch => return StatusCode::SWITCHING_PROTOCOLS.into_response(),
            Answer::Refused(error) => {
                let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_REQUEST);
                (status, "application/json", Body::from(error.body()))
            }
        };
        (status, [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-store")], body).into_response()
    }
}

/// Tells the browser that the page may read the answer, if it may.
pub fn cors(origin: Option<&HeaderValue>, response: &mut Response) {
    let headers = response.headers_mut();
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
    }
}

/// What a browser is told that asks beforehand. `None`: that is not what the request does.
pub fn preflight(method: &Method, headers: &HeaderMap) -> Option<Response> {
    let asks =
        headers.contains_key(header::ORIGIN) && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    if method != Method::OPTIONS || !asks {
        return None;
    }
    let mut response = StatusCode::NO_CONTENT.into_response();
    let answer = response.headers_mut();
    answer.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET,POST"));
    if let Some(wanted) = headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        answer.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
        answer.append(header::VARY, HeaderValue::from_static("Access-Control-Request-Headers"));
    }
    Some(response)
}
