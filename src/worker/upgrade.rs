//! `GET /socket.io/`: from an HTTP request to a row in the table.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Query, Request, State};
use axum::http::header::{self, HeaderMap, HeaderName};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tungstenite::handshake::derive_accept_key;

use super::address::Held;
use super::answers::index_failed;
use super::core::App;
use super::outbox::Outbox;
use super::table::{Conn, Pause, Presented, State as ConnState};
use super::{ids, origin, websocket};
use crate::config::AuthMode;
use crate::wire::engine::{self, HandshakeError};
use crate::wire::frame;

/// Answers a handshake.
pub async fn handshake(
    State(app): State<App>,
    Query(query): Query<HashMap<String, String>>,
    mut request: Request,
) -> Response {
    if let Err(error) = check(&app, &query, &request) {
        let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_REQUEST);
        return (status, [(header::CONTENT_TYPE, "application/json")], error.body()).into_response();
    }
    if header_text(request.headers(), &header::SEC_WEBSOCKET_VERSION) != Some("13") {
        return (StatusCode::UPGRADE_REQUIRED, [(header::SEC_WEBSOCKET_VERSION, "13")]).into_response();
    }
    if !app.core.lock().has_room() {
        return (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")], "too many connections")
            .into_response();
    }
    let key = request.headers().get(header::SEC_WEBSOCKET_KEY).map(|key| key.as_bytes().to_vec());
    let accept = derive_accept_key(&key.unwrap_or_default());
    let presented = presented(&app, &query, request.headers());
    let place = request.extensions_mut().remove::<Arc<Held>>();
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        match upgrade.await {
            Ok(upgraded) => take_over(&app, upgraded, presented, place),
            Err(error) => tracing::debug!(%error, "a client left during its handshake"),
        }
    });
    let headers = [
        (header::CONNECTION, "Upgrade".to_owned()),
        (header::UPGRADE, "websocket".to_owned()),
        (header::SEC_WEBSOCKET_ACCEPT, accept),
    ];
    (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}

/// What Engine.IO demands of a handshake, in its order.
fn check(app: &App, query: &HashMap<String, String>, request: &Request) -> Result<(), HandshakeError> {
    let value = |name: &str| query.get(name).map(String::as_str);
    if value("EIO").is_some_and(|version| version != "4") {
        return Err(HandshakeError::UnsupportedVersion);
    }
    if value("transport") != Some("websocket") {
        return Err(HandshakeError::UnknownTransport);
    }
    if value("sid").is_some() {
        return Err(HandshakeError::UnknownSession);
    }
    if request.method() != Method::GET {
        return Err(HandshakeError::BadMethod);
    }
    if value("EIO").is_none() {
        return Err(HandshakeError::UnsupportedVersion);
    }
    let headers = request.headers();
    if !has_token(headers, &header::CONNECTION, "upgrade")
        || !has_token(headers, &header::UPGRADE, "websocket")
    {
        return Err(HandshakeError::BadRequest);
    }
    // 16 random bytes in base64 (RFC 6455 §4.1).
    if header_text(headers, &header::SEC_WEBSOCKET_KEY).is_none_or(|key| key.len() != 24) {
        return Err(HandshakeError::BadRequest);
    }
    if !origin::allowed(headers, &app.config.allowed_origins) {
        return Err(HandshakeError::Forbidden);
    }
    Ok(())
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

fn header_text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Whom the request names, by query or header. A bad token is refused later, in answer to CONNECT,
/// where clients expect it.
fn presented(app: &App, query: &HashMap<String, String>, headers: &HeaderMap) -> Presented {
    let bearer = super::api::caller::bearer(headers);
    if let Some(token) = query.get("token").map(String::as_str).or(bearer) {
        return app.tokens.present(token);
    }
    match query.get("username") {
        Some(name) if app.config.auth.mode == AuthMode::Open => by_name(app, name),
        _ => Presented::Nothing,
    }
}

fn by_name(app: &App, name: &str) -> Presented {
    match app.core.lock().index.user_by_name(name) {
        Ok(Some(user)) => Presented::User(user.number, user.username),
        Ok(None) => Presented::Refused,
        Err(error) => {
            index_failed(&error);
            Presented::Refused
        }
    }
}

/// Takes the raw socket out of the HTTP library's hands and into the table.
fn take_over(app: &App, upgraded: hyper::upgrade::Upgraded, presented: Presented, place: Option<Arc<Held>>) {
    let Ok(parts) = upgraded.downcast::<TokioIo<TcpStream>>() else {
        tracing::error!("the HTTP library gave back another stream than it was given");
        return;
    };
    let stream = match parts.io.into_inner().into_std() {
        Ok(stream) => mio::net::TcpStream::from_std(stream),
        Err(error) => return tracing::debug!(%error, "a client left during its handshake"),
    };
    let now = Instant::now();
    let settings = &app.config.socketio;
    let deadline = now + app.config.limits.handshake_timeout;
    let mut core = app.core.lock();
    let admitted = core.admit(|key| Conn {
        stream,
        generation: key.generation,
        state: ConnState::Open { presented: Box::new(presented), deadline },
        unread: parts.read_buf.to_vec(),
        fragments: None,
        outbox: Outbox::default(),
        dirty: false,
        heartbeat: now + settings.ping_interval,
        ping_sent: false,
        wake_at: None,
        unanswered: 0,
        pause: Pause::No,
        ended: false,
        place,
        attachments: 0,
    });
    if let Some(key) = admitted {
        let open = engine::open(
            &ids::session_id(),
            settings.ping_interval,
            settings.ping_timeout,
            settings.max_payload,
        );
        core.push_with(key, |out| frame::text(&[open.as_bytes()], out));
        let mut buffer = [0; websocket::FIRST_READ_BYTES];
        websocket::readable(&mut core, key, &mut buffer);
        drop(core);
        app.wake.notify_one();
    }
}
