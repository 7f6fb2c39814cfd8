//! Rooms of the older layout.

use std::collections::HashSet;
use std::fs::File;
use std::path::Path;

use super::ImportError;
use super::array::Array;
use super::bad::Skipped;
use super::old::{self, OldRoom};
use super::target::Target;
use crate::chat::UserId;
use crate::cli::progress::Progress;
use crate::journal::record::{RoomChange, RoomRecord};
use crate::journal::stamp::Stamp;

/// Members that one record names, at most: keeps its line below the longest there may be.
const MEMBERS: usize = 100_000;

/// Names that a flaw mentions, at most.
const MENTIONED: usize = 5;

/// Reads all rooms; answers how many are in.
///
/// # Errors
/// The file is bad and nothing may be left out of it, or the disk refuses.
pub fn import(path: &Path, target: &mut Target, skipped: &mut Skipped) -> Result<u64, ImportError> {
    let unreadable = |error| ImportError::Source { path: path.to_owned(), error };
    let file = File::open(path).map_err(unreadable)?;
    let mut progress = Progress::new("rooms", file.metadata().map_or(0, |file| file.len()));
    let (mut array, mut stamp, mut rooms) = (Array::new(file), Stamp::default(), 0);
    loop {
        progress.item(array.done());
        let Some(next) = array.next_element().map_err(unreadable)? else {
            break;
        };
        let read = next.and_then(|element| {
            Ok((element.spot(), old::read(element, |fields| old::room(fields, &mut stamp))?))
        });
        let flaw = match read {
            Ok((spot, room)) => write(target, room)?.map(|what| spot.flaw(what)),
            Err(flaw) => Some(flaw),
        };
        match flaw {
            Some(flaw) => skipped.leave_out(path, &flaw)?,
            None => rooms += 1,
        }
    }
    progress.finish();
    Ok(rooms)
}

/// Writes one room; says what is wrong with it.
fn write(target: &mut Target, room: OldRoom) -> Result<Option<String>, ImportError> {
    let OldRoom { room_id, name, participants, created_by, open, at, source } = room;
    let store = &target.bulk.store;
    if store.room(&room_id)?.is_some() {
        return Ok(Some(format!("the room id {room_id} is taken")));
    }
    let Some(created_by) = store.user_number(&created_by)? else {
        return Ok(Some(format!("createdBy: there is no user {created_by}")));
    };
    let (mut members, mut unknown): (Vec<UserId>, Vec<String>) = (Vec::new(), Vec::new());
    let (mut seen, mut named) = (HashSet::new(), HashSet::new());
    for name in participants {
        match store.user_number(&name)? {
            // In two spellings one may be named.
            Some(_) if named.contains(&name) => return Ok(Some(format!("participants name {name} twice"))),
            Some(number) => {
                if seen.insert(number) {
                    members.push(number);
                }
                named.insert(name);
            }
            None => unknown.push(name),
        }
    }
    if !unknown.is_empty() {
        let more = unknown.len().saturating_sub(MENTIONED);
        unknown.truncate(MENTIONED);
        let and = if more > 0 { format!(" and {more} more") } else { String::new() };
        return Ok(Some(format!("participants that are not there: {}{and}", unknown.join(", "))));
    }
    let op = target.op;
    let rest = members.split_off(members.len().min(MEMBERS));
    push(
        target,
        at,
        RoomChange::Created { op, room_id: room_id.clone(), name, open, created_by, members, source },
    )?;
    for users in rest.chunks(MEMBERS) {
        let joined =
            RoomChange::Joined { op, room_id: room_id.clone(), users: users.to_vec(), by: created_by };
        push(target, at, joined)?;
    }
    Ok(None)
}

fn push(target: &mut Target, at: i64, change: RoomChange) -> Result<(), ImportError> {
    let rev = target.rooms.last + 1;
    let after_seq = target.next_seq - 1;
    let record = RoomRecord { rev, change, at, after_seq, synced: target.rooms.synced };
    target.bulk.store.apply_room(&record)?;
    target.rooms.push(&record)
}
