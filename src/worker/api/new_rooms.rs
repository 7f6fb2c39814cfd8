//! Creating rooms, single and in batches.

use std::collections::HashSet;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::answers::internal;
use super::super::core::App;
use super::super::ids;
use super::Rest;
use super::accounts::unexpected;
use super::answer::{ApiError, Problem, change};
use super::body::Body;
use super::caller::Caller;
use super::fields::{Entry, Field, Names, entries};
use super::rooms::invalid;
use super::steps::Steps;
use crate::chat::{Refusal, name, rules};
use crate::config;
use crate::index::PARTICIPANTS_SHOWN;
use crate::link::frame::{Change, NewRoom, Outcome};

/// Rooms in one step of a batch call.
const STEP_ROOMS: usize = 500;

/// Participants named in one step of a batch call, unless a single room names more.
const STEP_PARTICIPANTS: usize = 20_000;

type Answer<T> = Result<(StatusCode, Json<T>), ApiError>;

/// A room to create, as it came.
#[derive(Default, Deserialize, ToSchema)]
pub struct WantedRoom {
    #[serde(default)]
    #[schema(value_type = String, max_length = 200)]
    name: Field,
    /// User names beside the caller's.
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>)]
    participants: Names,
    /// Anybody may join.
    #[serde(default)]
    #[schema(value_type = Option<bool>)]
    open: Field,
}

/// A batch of them, at most 100,000.
#[derive(Deserialize, ToSchema)]
pub struct RoomBatch {
    #[serde(deserialize_with = "entries")]
    #[schema(value_type = Vec<WantedRoom>)]
    rooms: Vec<Entry<WantedRoom>>,
}

/// A room that was created.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CreatedRoom {
    room_id: String,
    name: String,
    /// The first 1,000, the creator before all.
    participants: Vec<String>,
    /// How many there are.
    participant_count: usize,
}

/// A room of a batch that was refused.
#[derive(Serialize, ToSchema)]
pub struct RefusedRoom {
    /// The name as it came; `null` for an array or an object.
    #[schema(value_type = String)]
    name: Field,
    error: String,
}

/// Answer of `chatrooms-batch`.
#[derive(Serialize, ToSchema)]
pub struct RoomBatchAnswer {
    message: String,
    created: Vec<CreatedRoom>,
    errors: Vec<RefusedRoom>,
}

impl WantedRoom {
    /// The room with its whole list of participants: the creator first, nobody twice.
    fn take(self, creator: &str) -> Result<NewRoom, Refusal> {
        let Field::Text(name) = self.name else {
            return Err(invalid("name is required, as a string"));
        };
        rules::room_name(&name)?;
        let open = match self.open {
            Field::Null => false,
            Field::Flag(open) => open,
            _ => return Err(invalid("open must be true or false")),
        };
        let mut participants = vec![creator.to_owned()];
        participants.extend(self.participants.take()?.unwrap_or_default());
        let mut seen = HashSet::new();
        participants.retain(|name| seen.insert(name.clone()));
        Ok(NewRoom { room_id: ids::room_id(), name, participants, open })
    }
}

/// Creates a room.
#[utoipa::path(post, path = "/api/chatrooms", tag = "rooms", request_body = WantedRoom, security(("token" = [])),
    responses((status = 201, body = CreatedRoom), (status = 400, body = Problem), (status = 401, body = Problem)))]
pub async fn create(
    State(rest): State<Rest>,
    caller: Caller,
    Body(wanted, _memory): Body<WantedRoom>,
) -> Answer<CreatedRoom> {
    let room = wanted.take(&caller.username)?;
    let mut outcomes = create_rooms(&rest.app, &caller, vec![room]).await?;
    match outcomes.pop() {
        Some((room, Ok(()))) => Ok((StatusCode::CREATED, Json(room.into()))),
        Some((_, Err(refusal))) => Err(refusal.into()),
        None => Err(internal().into()),
    }
}

impl From<NewRoom> for CreatedRoom {
    fn from(room: NewRoom) -> CreatedRoom {
        let NewRoom { room_id, name, participants, .. } = room;
        let mut participants = as_stored(participants);
        let participant_count = participants.len();
        participants.truncate(PARTICIPANTS_SHOWN);
        participants.shrink_to_fit();
        CreatedRoom { room_id, name, participants, participant_count }
    }
}

/// Names as their users have them, nobody twice. The first came from there.
fn as_stored(names: Vec<String>) -> Vec<String> {
    if names.iter().all(|named| name::is_composed(named)) {
        return names;
    }
    let mut seen = HashSet::new();
    let named = names.into_iter().enumerate();
    let stored = named.map(|(at, name)| if at == 0 { name } else { name::composed(&name).into_owned() });
    stored.filter(|name| seen.insert(name::composed(name).into_owned())).collect()
}

/// Creates many rooms; one that is refused does not hinder the next, and what was created stays.
#[utoipa::path(post, path = "/api/chatrooms-batch", tag = "rooms", request_body = RoomBatch,
    security(("token" = [])),
    responses((status = 201, body = RoomBatchAnswer), (status = 400, body = Problem), (status = 401, body = Problem)))]
pub async fn create_batch(
    State(rest): State<Rest>,
    caller: Caller,
    Body(batch, _memory): Body<RoomBatch>,
) -> Answer<RoomBatchAnswer> {
    if batch.rooms.len() > config::BATCH_ENTRIES {
        return Err(invalid(&format!("a call carries at most {} entries", config::BATCH_ENTRIES)).into());
    }
    let (mut made, mut errors, mut steps) = (Vec::new(), Vec::new(), Steps::default());
    let (mut step, mut participants) = (Vec::new(), 0);
    for Entry(wanted) in batch.rooms {
        let shown = wanted.name.clone();
        let room = match wanted.take(&caller.username) {
            Ok(room) => room,
            Err(refusal) => {
                errors.push(RefusedRoom { name: shown, error: refusal.message });
                continue;
            }
        };
        // A room that is too large for a step is alone in it, and refused alone.
        if step.len() >= STEP_ROOMS || participants + room.participants.len() > STEP_PARTICIPANTS {
            let rooms = std::mem::take(&mut step);
            create_step(&rest.app, &caller, rooms, &mut steps, &mut made, &mut errors).await;
            participants = 0;
        }
        participants += room.participants.len();
        step.push(room);
    }
    create_step(&rest.app, &caller, step, &mut steps, &mut made, &mut errors).await;
    steps.outcome()?;
    let message = format!("{} rooms created", made.len());
    Ok((StatusCode::CREATED, Json(RoomBatchAnswer { message, created: made, errors })))
}

async fn create_step(
    app: &App,
    caller: &Caller,
    rooms: Vec<NewRoom>,
    steps: &mut Steps,
    made: &mut Vec<CreatedRoom>,
    errors: &mut Vec<RefusedRoom>,
) {
    if rooms.is_empty() {
        return;
    }
    let refused = |name, message| RefusedRoom { name: Field::Text(name), error: message };
    let names: Vec<String> = rooms.iter().map(|room| room.name.clone()).collect();
    match create_rooms(app, caller, rooms).await {
        Ok(outcomes) => {
            steps.answered();
            for (room, outcome) in outcomes {
                match outcome {
                    Ok(()) => made.push(room.into()),
                    Err(refusal) => errors.push(refused(room.name, refusal.message)),
                }
            }
        }
        Err(error) => {
            let refusal = Refusal::from(error);
            errors.extend(names.into_iter().map(|name| refused(name, refusal.message.clone())));
            steps.refused(refusal);
        }
    }
}

async fn create_rooms(
    app: &App,
    caller: &Caller,
    rooms: Vec<NewRoom>,
) -> Result<Vec<(NewRoom, Result<(), Refusal>)>, ApiError> {
    match change(app, Change::CreateRooms { creator: caller.number, rooms: rooms.clone() }).await? {
        Outcome::Rooms(outcomes) => Ok(rooms.into_iter().zip(outcomes).collect()),
        other => Err(unexpected(&other)),
    }
}
