//! Search for text in the caller's messages.

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::super::{answers, commands};
use super::Rest;
use super::answer::{ApiError, Asked, Problem};
use super::caller::Caller;
use super::messages::{self, StoredMessage};
use super::page;
use super::rooms::{invalid, known_length};
use crate::chat::Refusal;
use crate::config;
use crate::index::search::{Query, Rooms};
use crate::journal::search::Needle;
use crate::wire::events;

/// What to look for; text first, so that a mistake can be named.
#[derive(Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
pub struct SearchQuery {
    /// Text in the content, at most 256 characters; upper and lower case are the same in any script.
    #[param(required = true, min_length = 1, max_length = 256)]
    q: Option<String>,
    /// Only in this room; otherwise in all rooms of the caller.
    room_id: Option<String>,
    /// Only messages of the user of this name.
    sender: Option<String>,
    /// Only messages from this RFC 3339 time on.
    from: Option<String>,
    /// Only messages up to this RFC 3339 time, itself included.
    to: Option<String>,
    /// 1 to 1,000; 100 if not given.
    #[param(value_type = Option<u64>, minimum = 1, maximum = 1000)]
    limit: Option<String>,
    /// `nextCursor` of an earlier answer to the same question.
    cursor: Option<String>,
}

/// A page of what was found.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FoundMessages {
    /// The newest first. May be fewer than `limit`, or none, although there is a next page.
    messages: Vec<StoredMessage>,
    /// Asks for the next page; `null` at the end.
    next_cursor: Option<String>,
}

/// Searches the caller's messages.
#[utoipa::path(get, path = "/api/messages/search", tag = "messages",
    params(SearchQuery), security(("token" = [])),
    responses((status = 200, body = FoundMessages), (status = 400, body = Problem),
        (status = 401, body = Problem), (status = 403, body = Problem), (status = 404, body = Problem),
        (status = 503, body = Problem)))]
pub async fn search(
    State(rest): State<Rest>,
    caller: Caller,
    Asked(asked): Asked<SearchQuery>,
) -> Result<Response, ApiError> {
    let needle = needle(asked.q.as_deref())?;
    let limit = commands::history_limit(messages::number("limit", asked.limit.as_deref())?)?;
    let cursor = page::cursor(asked.cursor.as_deref(), |text| u64::from_str_radix(text, 16))?;
    let (from_ms, to_ms) =
        (messages::time("from", asked.from.as_deref())?, messages::time("to", asked.to.as_deref())?);
    let before = {
        let mut core = rest.app.core.lock();
        if let Some(room_id) = &asked.room_id {
            messages::must_be_member(&core, &known_length(room_id)?, &caller)?;
        }
        // What another worker's client was already told is on the link by now.
        answers::drain(&mut core);
        commands::before(&core, cursor).unwrap_or(0)
    };
    rest.app.wake.notify_one();
    let rooms = asked.room_id.map_or(Rooms::Of(caller.number), Rooms::One);
    let work = config::SEARCH_PAGE_BYTES;
    let query = Query { needle, rooms, sender: asked.sender, from_ms, to_ms, before, limit, work };
    let found = rest.app.searches.run(query).await?;
    let next = found.next.map_or_else(|| "null".to_owned(), |next| format!("\"{next:x}\""));
    let messages = events::messages_json(&found.messages);
    let body = format!("{{\"messages\":{messages},\"nextCursor\":{next}}}");
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

fn needle(text: Option<&str>) -> Result<Needle, Refusal> {
    let text = text.filter(|text| !text.is_empty());
    let text = text.ok_or_else(|| invalid("q must be given: the text to search for"))?;
    let most = config::SEARCH_QUERY_CHARS;
    let short = Some(text).filter(|text| text.chars().count() <= most);
    let too_long = || invalid(&format!("q must not exceed {most} characters"));
    short.and_then(Needle::new).ok_or_else(too_long)
}
