//! `/socket.io/`: who may ask, who asks, and which worker answers.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{self, HeaderMap};
use axum::response::{IntoResponse, Response};

use super::address::Held;
use super::answers::index_failed;
use super::core::{App, Client, Hello, Presented, Standing};
use super::token::{Known, Pass};
use super::{client, origin};
use crate::config::AuthMode;
use crate::engine::http::{self, Answer, Params, Wanted};

/// Answers every request on the path.
pub async fn socketio(State(app): State<App>, request: Request) -> Response {
    let headers = request.headers();
    let allowed = origin::allowed(headers, &app.config.allowed_origins);
    let origin = headers.get(header::ORIGIN).filter(|_| allowed).cloned();
    let preflight = http::preflight(request.method(), headers).filter(|_| allowed);
    let mut response = match preflight {
        Some(response) => response,
        None => {
            app.core.lock().counters.origins_refused += u64::from(!allowed);
            answer(&app, allowed, request).await
        }
    };
    http::cors(origin.as_ref(), &mut response);
    response
}

async fn answer(app: &App, allowed: bool, request: Request) -> Response {
    let params = http::params(&request);
    let wanted = match http::wanted(&params, request.method(), request.headers(), allowed) {
        Ok(wanted) => wanted,
        Err(error) => return Answer::Refused(error).into_response(),
    };
    let owner = match wanted {
        Wanted::Fetch(sid, _) | Wanted::Bring(sid) | Wanted::Upgrade(sid) => Some(sid.owner),
        Wanted::Session | Wanted::WebSocketSession => None,
    };
    if owner.is_some_and(|owner| owner != app.worker) {
        return app.relay.forward(&app.door, wanted, request).await;
    }
    let state = |request: &Request| {
        let presented = match wanted {
            Wanted::Upgrade(_) => Presented::Nothing,
            _ => presented(app, &params, request.headers()),
        };
        let place = request.extensions().get::<Arc<Held>>().filter(|_| wanted != Wanted::Session);
        let query = request.uri().query().unwrap_or_default();
        Client {
            standing: Standing::Coming(Box::new(Hello { presented, ..Hello::default() })),
            javascript: client::is_javascript(query, request.headers()),
            place: place.cloned(),
            ..Client::default()
        }
    };
    app.door.serve(wanted, request, state).await
}

/// Whom the request names, by query or header. A bad token is refused later, in answer to CONNECT,
/// where clients expect it.
fn presented(app: &App, params: &Params, headers: &HeaderMap) -> Presented {
    let bearer = super::api::caller::bearer(headers);
    if let Some(token) = params.get("token").map(String::as_str).or(bearer) {
        return app.tokens.present(token);
    }
    if let Some(ticket) = params.get("ticket") {
        return Presented::ticket(ticket);
    }
    match params.get("username") {
        Some(name) if app.config.auth.mode == AuthMode::Open => by_name(app, name),
        _ => Presented::Nothing,
    }
}

fn by_name(app: &App, name: &str) -> Presented {
    match app.core.lock().index.user_by_name(name) {
        Ok(Some(user)) => {
            let pass = Pass::without_token(user.generation);
            Presented::User(Known { number: user.number, name: user.username, pass })
        }
        Ok(None) => Presented::Refused,
        Err(error) => {
            index_failed(&error);
            Presented::Unread
        }
    }
}
