//! Chat rooms: create, list, invite, join, leave.

use std::collections::HashSet;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::core::App;
use super::super::{ids, reader};
use super::Rest;
use super::accounts::unexpected;
use super::answer::{ApiError, Body, change, sync};
use super::caller::Caller;
use crate::chat::{Code, Refusal, rules};
use crate::config;
use crate::index::{Page, RoomInfo};
use crate::link::frame::{Change, NewRoom, Outcome};
use crate::wire::stamp::Stamp;

/// Rooms in one step of a batch call.
const STEP_ROOMS: usize = 500;

/// Participants named in one step of a batch call: bounds the frame to the storage writer.
const STEP_PARTICIPANTS: usize = 20_000;

/// Most rooms in one answer of the list.
const LIST_LIMIT: usize = 1_000;

/// Header that carries the next `cursor` of the list; absent on the last page.
const NEXT_CURSOR: &str = "x-next-cursor";

type Answer = Result<(StatusCode, Json<Value>), ApiError>;

/// A room to create, as it came.
#[derive(Deserialize)]
pub struct Wanted {
    #[serde(default)]
    name: Value,
    #[serde(default)]
    participants: Value,
    #[serde(default)]
    open: Value,
}

/// A batch of them.
#[derive(Deserialize)]
pub struct Batch {
    rooms: Vec<Wanted>,
}

/// Whom to invite.
#[derive(Deserialize)]
pub struct Invitation {
    #[serde(default)]
    participants: Value,
}

impl Wanted {
    /// The room with its whole list of participants: the creator first, nobody twice.
    fn take(self, creator: &str) -> Result<NewRoom, Refusal> {
        let Value::String(name) = self.name else {
            return Err(invalid("name is required, as a string"));
        };
        rules::room_name(&name)?;
        let open = match self.open {
            Value::Null => false,
            Value::Bool(open) => open,
            _ => return Err(invalid("open must be true or false")),
        };
        let mut participants = vec![creator.to_owned()];
        if !self.participants.is_null() {
            participants.append(&mut names(self.participants)?);
        }
        let mut seen = HashSet::new();
        participants.retain(|name| seen.insert(name.clone()));
        Ok(NewRoom { room_id: ids::room_id(), name, participants, open })
    }
}

fn invalid(message: &str) -> Refusal {
    Refusal::new(Code::InvalidRequest, message)
}

fn names(participants: Value) -> Result<Vec<String>, Refusal> {
    let Value::Array(listed) = participants else {
        return Err(invalid("participants must be an array of user names"));
    };
    if listed.len() > rules::PARTICIPANTS_PER_CALL {
        return Err(invalid(&format!("participants must not exceed {}", rules::PARTICIPANTS_PER_CALL)));
    }
    let text = |name: Value| match name {
        // A longer name belongs to nobody; cut short, so does what is left of it.
        Value::String(name) => Ok(name.chars().take(rules::USERNAME_CHARS + 1).collect()),
        _ => Err(invalid("participants must be an array of user names")),
    };
    listed.into_iter().map(text).collect()
}

/// `POST /api/chatrooms`
pub async fn create(State(rest): State<Rest>, caller: Caller, Body(wanted): Body<Wanted>) -> Answer {
    let room = wanted.take(&caller.username)?;
    let mut outcomes = create_rooms(&rest.app, &caller, vec![room]).await?;
    match outcomes.pop() {
        Some((room, Ok(()))) => Ok((StatusCode::CREATED, Json(created(&room)))),
        Some((_, Err(refusal))) => Err(refusal.into()),
        None => Err(super::super::answers::internal().into()),
    }
}

fn created(room: &NewRoom) -> Value {
    json!({"roomId": room.room_id, "name": room.name, "participants": room.participants})
}

/// `POST /api/chatrooms-batch`
pub async fn create_batch(State(rest): State<Rest>, caller: Caller, Body(batch): Body<Batch>) -> Answer {
    if batch.rooms.len() > config::BATCH_ENTRIES {
        return Err(invalid(&format!("a call carries at most {} entries", config::BATCH_ENTRIES)).into());
    }
    let (mut made, mut errors) = (Vec::new(), Vec::new());
    let (mut step, mut participants) = (Vec::new(), 0);
    for wanted in batch.rooms {
        let shown = wanted.name.clone();
        match wanted.take(&caller.username) {
            Ok(room) => {
                participants += room.participants.len();
                step.push(room);
            }
            Err(refusal) => errors.push(json!({"name": shown, "error": refusal.message})),
        }
        if step.len() >= STEP_ROOMS || participants >= STEP_PARTICIPANTS {
            create_step(&rest.app, &caller, std::mem::take(&mut step), &mut made, &mut errors).await?;
            participants = 0;
        }
    }
    create_step(&rest.app, &caller, step, &mut made, &mut errors).await?;
    let message = format!("{} rooms created", made.len());
    Ok((StatusCode::CREATED, Json(json!({"message": message, "created": made, "errors": errors}))))
}

async fn create_step(
    app: &App,
    caller: &Caller,
    step: Vec<NewRoom>,
    made: &mut Vec<Value>,
    errors: &mut Vec<Value>,
) -> Result<(), ApiError> {
    for (room, outcome) in create_rooms(app, caller, step).await? {
        match outcome {
            Ok(()) => made.push(created(&room)),
            Err(refusal) => errors.push(json!({"name": room.name, "error": refusal.message})),
        }
    }
    Ok(())
}

async fn create_rooms(
    app: &App,
    caller: &Caller,
    rooms: Vec<NewRoom>,
) -> Result<Vec<(NewRoom, Result<(), Refusal>)>, ApiError> {
    if rooms.is_empty() {
        return Ok(Vec::new());
    }
    match change(app, Change::CreateRooms { creator: caller.number, rooms: rooms.clone() }).await? {
        Outcome::Rooms(outcomes) => Ok(rooms.into_iter().zip(outcomes).collect()),
        other => Err(unexpected(&other)),
    }
}

/// Paging of the list.
#[derive(Deserialize)]
pub struct ListQuery {
    limit: Option<String>,
    cursor: Option<String>,
}

impl ListQuery {
    fn page(&self) -> Result<Page, Refusal> {
        let limit = match self.limit.as_deref().map(str::parse::<usize>) {
            None => LIST_LIMIT,
            Some(Ok(limit)) if (1..=LIST_LIMIT).contains(&limit) => limit,
            Some(_) => return Err(invalid(&format!("limit must be 1 to {LIST_LIMIT}"))),
        };
        let after = match self.cursor.as_deref().map(str::parse) {
            None => None,
            Some(Ok(after)) => Some(after),
            Some(Err(_)) => return Err(invalid("cursor must be one that an earlier answer gave")),
        };
        Ok(Page { after, limit })
    }
}

/// `GET /api/chatrooms`
pub async fn list(
    State(rest): State<Rest>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> Result<Response, ApiError> {
    let page = query.page()?;
    let limit = page.limit;
    sync(&rest.app).await?;
    let rooms = reader::read(&rest.app, move |index| index.rooms_of(caller.number, page)).await?;
    let mut stamp = Stamp::default();
    let body: Vec<Value> = rooms.iter().map(|room| listed(room, &mut stamp)).collect();
    let mut response = Json(body).into_response();
    if let Some(last) = rooms.last().filter(|_| rooms.len() == limit) {
        response.headers_mut().insert(NEXT_CURSOR, last.key.into());
    }
    Ok(response)
}

fn listed(room: &RoomInfo, stamp: &mut Stamp) -> Value {
    json!({
        "roomId": room.room_id,
        "name": room.name,
        "open": room.open,
        "participants": room.participants,
        "participantCount": room.participant_count,
        "createdBy": room.created_by,
        "createdAt": stamp.text(room.created_at_ms),
        "lastSeq": room.last_seq,
    })
}

/// `POST /api/chatrooms/{roomId}/invite`
pub async fn invite(
    State(rest): State<Rest>,
    caller: Caller,
    Path(room_id): Path<String>,
    Body(invitation): Body<Invitation>,
) -> Answer {
    let participants = names(invitation.participants)?;
    if participants.is_empty() {
        return Err(invalid("participants must name somebody").into());
    }
    let invite = Change::Invite { room_id: known_length(&room_id)?, by: caller.number, participants };
    change(&rest.app, invite).await?;
    let room = reader::read(&rest.app, move |index| index.room(&room_id)).await?;
    let participants = room.map(|room| room.participants).unwrap_or_default();
    Ok((StatusCode::OK, Json(json!({"message": "Participants invited", "participants": participants}))))
}

/// `POST /api/chatrooms/{roomId}/join`
pub async fn join(State(rest): State<Rest>, caller: Caller, Path(room_id): Path<String>) -> Answer {
    change(&rest.app, Change::Join { room_id: known_length(&room_id)?, user: caller.number }).await?;
    Ok((StatusCode::OK, Json(json!({"message": "Joined the chat room", "roomId": room_id}))))
}

/// `POST /api/chatrooms/{roomId}/leave`
pub async fn leave(State(rest): State<Rest>, caller: Caller, Path(room_id): Path<String>) -> Answer {
    change(&rest.app, Change::Leave { room_id: known_length(&room_id)?, user: caller.number }).await?;
    Ok((StatusCode::OK, Json(json!({"message": "Left the chat room"}))))
}

/// An id over the limit belongs to no room.
fn known_length(room_id: &str) -> Result<String, Refusal> {
    if room_id.len() > rules::ROOM_ID_BYTES { Err(Refusal::room_not_found()) } else { Ok(room_id.to_owned()) }
}
