//! The rooms of a user: list, invite, join, leave.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::super::reader;
use super::Rest;
use super::answer::{ApiError, Asked, Named, Problem, change, sync};
use super::body::Body;
use super::caller::Caller;
use super::fields::Names;
use super::page;
use crate::chat::{Code, Refusal, rules};
use crate::index::{PARTICIPANTS_SHOWN, Page, RoomInfo};
use crate::journal::stamp::Stamp;
use crate::link::frame::Change;

/// Most rooms in one answer of the list.
const LIST_LIMIT: usize = 1_000;

/// Header that carries the next `cursor` of the list; absent on the last page.
pub const NEXT_CURSOR: &str = "x-next-cursor";

type Answer<T> = Result<(StatusCode, Json<T>), ApiError>;

/// Whom to invite.
#[derive(Deserialize, ToSchema)]
pub struct Invitation {
    /// User names.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    participants: Names,
}

/// One of the caller's rooms.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ListedRoom {
    room_id: String,
    name: String,
    open: bool,
    /// The first 1,000; when the answer has named 100,000 for other rooms, the first 10.
    participants: Vec<String>,
    /// How many there are; `/participants` names them all.
    participant_count: u64,
    created_by: String,
    /// RFC 3339.
    created_at: String,
    /// `seq` of the room's last message; 0 if there is none.
    last_seq: u64,
}

/// Answer of `invite`.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Invited {
    message: String,
    /// The room's participants, the first 1,000.
    participants: Vec<String>,
    /// How many there are; `/participants` names them all.
    participant_count: u64,
}

/// Answer of `join`.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Joined {
    message: String,
    room_id: String,
}

/// Answer of `leave`.
#[derive(Serialize, ToSchema)]
pub struct Left {
    message: String,
}

/// A field is not what it has to be.
pub fn invalid(message: &str) -> Refusal {
    Refusal::new(Code::InvalidRequest, message)
}

/// Paging of the list.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// 1 to 1,000; 1,000 if not given.
    #[param(value_type = Option<u64>, minimum = 1, maximum = 1000)]
    limit: Option<String>,
    /// What the `x-next-cursor` header of an earlier answer said.
    cursor: Option<String>,
}

impl ListQuery {
    fn page(&self) -> Result<Page, Refusal> {
        let limit = page::limit(self.limit.as_deref(), LIST_LIMIT)?;
        let after = page::cursor(self.cursor.as_deref(), str::parse)?;
        Ok(Page { after, limit })
    }
}

/// Lists the caller's rooms, 1,000 at most: more are on the next page, whose `cursor` the header
/// `x-next-cursor` says.
#[utoipa::path(get, path = "/api/chatrooms", tag = "rooms", params(ListQuery), security(("token" = [])),
    responses((status = 200, body = Vec<ListedRoom>, headers(
        ("x-next-cursor" = String, description = "`cursor` of the next page; absent on the last"))), (status = 400, body = Problem), (status = 401, body = Problem)))]
pub async fn list(
    State(rest): State<Rest>,
    caller: Caller,
    Asked(query): Asked<ListQuery>,
) -> Result<Response, ApiError> {
    let page = query.page()?;
    let limit = page.limit;
    sync(&rest.app).await?;
    let rooms = reader::read(&rest.app, move |index| index.rooms_of(caller.number, page)).await?;
    let mut stamp = Stamp::default();
    let next = rooms.last().filter(|_| rooms.len() == limit).map(|last| last.key);
    let body: Vec<ListedRoom> = rooms.into_iter().map(|room| listed(room, &mut stamp)).collect();
    let mut response = Json(body).into_response();
    if let Some(next) = next {
        response.headers_mut().insert(NEXT_CURSOR, next.into());
    }
    Ok(response)
}

fn listed(room: RoomInfo, stamp: &mut Stamp) -> ListedRoom {
    ListedRoom {
        created_at: stamp.text(room.created_at_ms).to_owned(),
        room_id: room.room_id,
        name: room.name,
        open: room.open,
        participants: room.participants,
        participant_count: room.participant_count,
        created_by: room.created_by,
        last_seq: room.last_seq,
    }
}

/// Puts users into a room of the caller's.
#[utoipa::path(post, path = "/api/chatrooms/{roomId}/invite", tag = "rooms", request_body = Invitation,
    params(("roomId" = String, Path)), security(("token" = [])),
    responses((status = 200, body = Invited), (status = 400, body = Problem), (status = 401, body = Problem),
        (status = 403, body = Problem), (status = 404, body = Problem)))]
pub async fn invite(
    State(rest): State<Rest>,
    caller: Caller,
    Named(room_id): Named,
    Body(invitation, _memory): Body<Invitation>,
) -> Answer<Invited> {
    let participants = invitation.participants.take()?.ok_or_else(Names::wrong)?;
    if participants.is_empty() {
        return Err(invalid("participants must name somebody").into());
    }
    let invited = participants.clone();
    let invite = Change::Invite { room_id: known_length(&room_id)?, by: caller.number, participants };
    change(&rest.app, invite).await?;
    // Done and stored: nothing that follows can make a failure of it.
    let (participants, participant_count) =
        match reader::read_in_turn(&rest.app, move |index| index.room(&room_id)).await {
            // Gone already: whoever was in it has left meanwhile.
            Ok(room) => room.map(|room| (room.participants, room.participant_count)).unwrap_or_default(),
            Err(_) => named(caller.username, invited),
        };
    let message = "Participants invited".to_owned();
    Ok((StatusCode::OK, Json(Invited { message, participants, participant_count })))
}

/// Who is known to be in a room that can't be looked up just now.
fn named(caller: String, invited: Vec<String>) -> (Vec<String>, u64) {
    let participants: Vec<String> = std::iter::once(caller).chain(invited).take(PARTICIPANTS_SHOWN).collect();
    let count = participants.len() as u64;
    (participants, count)
}

/// Enters an open room.
#[utoipa::path(post, path = "/api/chatrooms/{roomId}/join", tag = "rooms",
    params(("roomId" = String, Path)), security(("token" = [])),
    responses((status = 200, body = Joined), (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 404, body = Problem)))]
pub async fn join(State(rest): State<Rest>, caller: Caller, Named(room_id): Named) -> Answer<Joined> {
    change(&rest.app, Change::Join { room_id: known_length(&room_id)?, user: caller.number }).await?;
    Ok((StatusCode::OK, Json(Joined { message: "Joined the chat room".to_owned(), room_id })))
}

/// Leaves a room; the last one out deletes it.
#[utoipa::path(post, path = "/api/chatrooms/{roomId}/leave", tag = "rooms",
    params(("roomId" = String, Path)), security(("token" = [])),
    responses((status = 200, body = Left), (status = 401, body = Problem), (status = 403, body = Problem),
        (status = 404, body = Problem)))]
pub async fn leave(State(rest): State<Rest>, caller: Caller, Named(room_id): Named) -> Answer<Left> {
    change(&rest.app, Change::Leave { room_id: known_length(&room_id)?, user: caller.number }).await?;
    Ok((StatusCode::OK, Json(Left { message: "Left the chat room".to_owned() })))
}

/// An id over the limit belongs to no room.
pub fn known_length(room_id: &str) -> Result<String, Refusal> {
    if room_id.len() > rules::ROOM_ID_BYTES { Err(Refusal::room_not_found()) } else { Ok(room_id.to_owned()) }
}
