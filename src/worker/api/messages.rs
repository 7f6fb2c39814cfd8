//! A room's history.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::super::core::Core;
use super::super::{answers, commands, history as log};
use super::Rest;
use super::answer::{ApiError, Asked, Named, Problem};
use super::caller::Caller;
use crate::chat::{Code, Refusal};
use crate::journal::read::Window;
use crate::journal::stamp;
use crate::wire::events;

/// Which messages; text first, so that a mistake can be named.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct HistoryQuery {
    /// 1 to 1,000; 100 if not given.
    #[param(value_type = Option<u64>, minimum = 1, maximum = 1000)]
    limit: Option<String>,
    /// Only messages with a lower `seq`.
    #[param(value_type = Option<u64>)]
    before: Option<String>,
    /// Only messages with a higher `seq`, the oldest first.
    #[param(value_type = Option<u64>)]
    after: Option<String>,
    /// Only messages from this RFC 3339 time on, the oldest first.
    since: Option<String>,
}

/// A message as clients see it. Its text is the log's own, so this only describes it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct StoredMessage {
    seq: u64,
    id: String,
    room_id: String,
    sender: String,
    content: String,
    /// RFC 3339.
    timestamp: String,
    client_id: Option<String>,
}

/// Reads a room's messages, ascending.
#[utoipa::path(get, path = "/api/chatrooms/{roomId}/messages", tag = "messages",
    params(("roomId" = String, Path), HistoryQuery), security(("token" = [])),
    responses((status = 200, body = Vec<StoredMessage>), (status = 400, body = Problem),
        (status = 401, body = Problem), (status = 403, body = Problem), (status = 404, body = Problem)))]
pub async fn history(
    State(rest): State<Rest>,
    caller: Caller,
    Named(room_id): Named,
    Asked(query): Asked<HistoryQuery>,
) -> Result<Response, ApiError> {
    let limit = commands::history_limit(number("limit", query.limit.as_deref())?)?;
    let since_ms = time("since", query.since.as_deref())?;
    let asked = (number("before", query.before.as_deref())?, number("after", query.after.as_deref())?);
    let window = {
        let mut core = rest.app.core.lock();
        must_be_member(&core, &room_id, &caller)?;
        // What another worker's client was already told is on the link by now.
        answers::drain(&mut core);
        Window { before: commands::before(&core, asked.0), after: asked.1, since_ms }
    };
    rest.app.wake.notify_one();
    let messages = log::read(&rest.app, room_id, window, limit).await?;
    Ok(([(header::CONTENT_TYPE, "application/json")], events::messages_json(&messages)).into_response())
}

/// Refuses a room that the caller is not in, or that is not there.
pub fn must_be_member(core: &Core, room_id: &str, caller: &Caller) -> Result<(), ApiError> {
    if core.index.is_member(room_id, caller.number)? {
        return Ok(());
    }
    let is_there = core.index.has_room(room_id)?;
    Err(if is_there { Refusal::not_a_member() } else { Refusal::room_not_found() }.into())
}

/// A time in a query.
pub fn time(name: &str, text: Option<&str>) -> Result<Option<i64>, Refusal> {
    let wrong = || {
        let message = format!("{name} must be a time like 2026-01-01T00:00:00.000Z");
        Refusal::new(Code::InvalidRequest, message)
    };
    // A plus sign in a query stands for a space unless it is escaped.
    text.map(|text| stamp::parse(&text.replace(' ', "+")).ok_or_else(wrong)).transpose()
}

/// A whole number in a query.
pub fn number(name: &str, text: Option<&str>) -> Result<Option<u64>, Refusal> {
    let wrong = || Refusal::new(Code::InvalidRequest, format!("{name} must be a whole number"));
    text.map(|text| text.parse().map_err(|_| wrong())).transpose()
}
