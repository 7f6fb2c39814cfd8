//! A room's history.

use axum::extract::{Path, Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::super::{answers, commands, history as log};
use super::Rest;
use super::answer::ApiError;
use super::caller::Caller;
use crate::chat::{Code, Refusal};
use crate::journal::read::Window;
use crate::wire::{events, stamp};

/// Which messages; text first, so that a mistake can be named.
#[derive(Deserialize)]
pub struct HistoryQuery {
    limit: Option<String>,
    before: Option<String>,
    after: Option<String>,
    since: Option<String>,
}

/// `GET /api/chatrooms/{roomId}/messages`
pub async fn history(
    State(rest): State<Rest>,
    caller: Caller,
    Path(room_id): Path<String>,
    Query(query): Query<HistoryQuery>,
) -> Result<Response, ApiError> {
    let limit = commands::history_limit(number("limit", query.limit.as_deref())?)?;
    let since_ms = match query.since.as_deref() {
        None => None,
        // A plus sign in a query stands for a space unless it is escaped.
        Some(text) => Some(stamp::parse(&text.replace(' ', "+")).ok_or_else(|| {
            Refusal::new(Code::InvalidRequest, "since must be a time like 2026-01-01T00:00:00.000Z")
        })?),
    };
    let asked = (number("before", query.before.as_deref())?, number("after", query.after.as_deref())?);
    let window = {
        let mut core = rest.app.core.lock();
        if !core.index.is_member(&room_id, caller.number)? {
            let refusal = match core.index.room(&room_id)? {
                Some(_) => Refusal::not_a_member(),
                None => Refusal::room_not_found(),
            };
            return Err(refusal.into());
        }
        // What another worker's client was already told is on the link by now.
        answers::drain(&mut core);
        Window { before: commands::before(&core, asked.0), after: asked.1, since_ms }
    };
    rest.app.wake.notify_one();
    let messages = log::read(&rest.app, room_id, window, limit).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], events::messages_json(&messages)).into_response())
}

fn number(name: &str, text: Option<&str>) -> Result<Option<u64>, Refusal> {
    let wrong = || Refusal::new(Code::InvalidRequest, format!("{name} must be a whole number"));
    text.map(|text| text.parse().map_err(|_| wrong())).transpose()
}
