//! The REST surface (contract §3 and the operator's pages of §8).
//!
//! [`caller`] says who asks, [`answer`] how refusals look, [`envelope`] what those of the challenge surface
//! (contract §5) are put into; each other file is one group of calls.

mod accounts;
mod admin;
pub mod answer;
mod body;
pub mod caller;
mod challenges;
mod envelope;
mod fields;
mod members;
mod messages;
mod metrics;
mod new_challenge;
mod new_rooms;
mod openapi;
mod operator;
mod page;
mod participants;
mod participation;
mod profile;
mod ranking;
pub mod rooms;
mod search;
mod sources;
mod steps;
mod tokens;

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRef};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{any, delete, get, post};
use tokio::sync::watch;

use super::address;
use super::arena::socket;
use super::core::App;
use super::cors;
use super::password::Passwords;
use super::upgrade;
use crate::chat::{Code, Refusal};
use crate::config;
use answer::ApiError;

/// What REST handlers share.
#[derive(Clone)]
pub struct Rest {
    /// The worker.
    pub app: App,
    /// The hashing thread.
    pub passwords: Passwords,
    /// What is known of the whole host.
    pub supervisor: Arc<operator::Supervisor>,
    /// How bodies come in.
    pub bodies: body::Bodies,
}

impl Rest {
    /// What the handlers of one worker share; it ends when `stop` turns true.
    pub fn new(app: App, passwords: Passwords, stop: watch::Receiver<bool>) -> Rest {
        let bodies = body::Bodies::new(&app.config.limits, stop);
        Rest { app, passwords, supervisor: Arc::default(), bodies }
    }
}

impl FromRef<Rest> for App {
    fn from_ref(rest: &Rest) -> App {
        rest.app.clone()
    }
}

/// All paths of a worker.
pub fn router(rest: Rest) -> Router {
    let body_bytes = rest.app.config.limits.body_bytes;
    let single = DefaultBodyLimit::max(body_bytes.min(config::SINGLE_BODY_BYTES));
    let per_address = from_fn_with_state(rest.app.clone(), address::limit);
    Router::new()
        .route("/api/auth/signup", post(accounts::signup).layer(single))
        .route("/api/auth/signup-batch", post(accounts::signup_batch))
        .route("/api/auth/login", post(accounts::login).layer(single))
        .route("/api/auth/login-batch", post(accounts::login_batch))
        .route("/api/auth/ticket", post(tokens::ticket).layer(single))
        .route("/api/auth/logout-all", post(tokens::logout_all).layer(single))
        .route("/api/auth/password", post(tokens::password).layer(single))
        .route("/api/users/me", get(profile::show).patch(profile::edit).layer(single))
        .route("/api/auth/delete-all-users", delete(admin::delete_all_users).layer(single))
        .route("/api/messages/delete-all", delete(admin::delete_all_messages).layer(single))
        .route("/api/chatrooms", post(new_rooms::create).get(rooms::list))
        .route("/api/chatrooms-batch", post(new_rooms::create_batch))
        .route("/api/chatrooms/{room_id}/invite", post(rooms::invite))
        .route("/api/chatrooms/{room_id}/join", post(rooms::join))
        .route("/api/chatrooms/{room_id}/leave", post(rooms::leave))
        .route("/api/chatrooms/{room_id}/participants", get(participants::participants))
        .route("/api/chatrooms/{room_id}/messages", get(messages::history))
        .route("/api/messages/search", get(search::search))
        .route("/api/v1/auth/test-login", post(members::test_login))
        .route("/api/v1/admin/challenges", post(challenges::create).layer(single))
        .route("/api/v1/challenges", get(challenges::list))
        .route("/api/v1/challenges/{challenge_id}", get(challenges::one))
        .route(
            "/api/v1/challenges/{challenge_id}/join",
            post(participation::join).delete(participation::cancel).layer(single),
        )
        .route("/api/v1/challenges/{challenge_id}/enter", post(participation::enter).layer(single))
        .route("/api/v1/challenges/{challenge_id}/ranking", get(ranking::ranking))
        .route("/api/v1/challenges/{challenge_id}/stream", get(ranking::stream))
        .route("/api/openapi.json", get(openapi::document))
        .route("/api/stats", get(operator::stats))
        .route("/metrics", get(metrics::metrics))
        .route("/actuator/prometheus", get(metrics::prometheus))
        .route("/health", get(operator::health))
        .route("/ready", get(operator::ready))
        .fallback(|| async { ApiError::from(Refusal::new(Code::NotFound, "Not found")) })
        .method_not_allowed_fallback(|| async {
            ApiError::from(Refusal::new(Code::MethodNotAllowed, "Method not allowed"))
        })
        .layer(DefaultBodyLimit::max(body_bytes))
        .layer(per_address.clone())
        .layer(from_fn_with_state(rest.app.config.clone(), cors::share))
        .layer(from_fn(envelope::shape))
        .route("/ws", any(socket::open).layer(per_address.clone()))
        .route("/ws/{server_id}", any(socket::open).layer(per_address.clone()))
        // Socket.IO's clients are used to other answers about origins.
        .route("/socket.io/", any(upgrade::socketio).layer(per_address))
        .with_state(rest)
}
