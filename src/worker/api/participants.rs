//! Who is in a room, page by page: every other answer names only the first.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::super::reader;
use super::Rest;
use super::answer::{ApiError, Asked, Named, Problem};
use super::caller::Caller;
use super::page;
use super::rooms::known_length;
use crate::chat::Refusal;
use crate::index::{PARTICIPANTS_SHOWN, Page};

/// Participants in one answer, at most.
const PAGE_LIMIT: usize = PARTICIPANTS_SHOWN;

/// Paging.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ParticipantsQuery {
    /// 1 to 1,000; 1,000 if not given.
    #[param(value_type = Option<u64>, minimum = 1, maximum = 1000)]
    limit: Option<String>,
    /// The `nextCursor` of an earlier answer about the same room.
    cursor: Option<String>,
}

/// A page of a room's participants.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ParticipantsPage {
    /// User names, in order of joining.
    participants: Vec<String>,
    /// How many are in the room, on whichever page.
    participant_count: u64,
    /// Asks for the next page; `null` on the last.
    next_cursor: Option<String>,
}

impl ParticipantsQuery {
    fn page(&self) -> Result<Page, Refusal> {
        let limit = page::limit(self.limit.as_deref(), PAGE_LIMIT)?;
        let after = page::cursor(self.cursor.as_deref(), |cursor| i64::from_str_radix(cursor, 16))?;
        Ok(Page { after, limit })
    }
}

/// Lists who is in a room, in order of joining. Who stays in the room while the pages are asked for is
/// named exactly once.
#[utoipa::path(get, path = "/api/chatrooms/{roomId}/participants", tag = "rooms",
    params(("roomId" = String, Path), ParticipantsQuery), security(("token" = [])),
    responses((status = 200, body = ParticipantsPage), (status = 400, body = Problem),
        (status = 401, body = Problem), (status = 403, body = Problem), (status = 404, body = Problem)))]
pub async fn participants(
    State(rest): State<Rest>,
    caller: Caller,
    Named(room_id): Named,
    Asked(query): Asked<ParticipantsQuery>,
) -> Result<Json<ParticipantsPage>, ApiError> {
    let (page, room_id) = (query.page()?, known_length(&room_id)?);
    let found = reader::read(&rest.app, move |index| {
        let member = index.is_member(&room_id, caller.number)?;
        // Who is not a member needs to know no more than whether there is such a room.
        let page = if member { page } else { Page { after: None, limit: 1 } };
        Ok(index.participants(&room_id, page)?.map(|found| (member, found)))
    });
    match found.await? {
        Some((true, found)) => Ok(Json(ParticipantsPage {
            participants: found.names,
            participant_count: found.count,
            next_cursor: found.next.map(|next| format!("{next:x}")),
        })),
        Some((false, _)) => Err(Refusal::not_a_member().into()),
        None => Err(Refusal::room_not_found().into()),
    }
}
