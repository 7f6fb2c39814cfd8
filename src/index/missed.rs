//! What was due to a user who was away: the messages of their rooms between two numbers, as far as
//! they were in those rooms when the messages were said.
//!
//! When they were in which room, the index tells ([`super::schema`]). The messages of a short absence
//! are found by reading all that was said meanwhile, which asks only about rooms in which something
//! was. After a long one that would be too much, so each of the user's rooms that has a newer message
//! is asked for its own. Either way they are given out in pieces, in order.

mod due;

use std::collections::HashSet;
use std::path::Path;

use super::ReadError;
use super::history::History;
use crate::chat::UserId;
use crate::journal::after::MessagesAfter;
use crate::journal::read::Window;
use crate::journal::record;

use due::Due;

/// Messages of an absence, in all rooms of the server, up to which all of them are read. A thousand
/// cost about as much as asking twenty rooms.
const SHORT: u64 = 2_048;

/// Messages behind the last one the index knows of, up to which they are looked through for rooms.
const UNKNOWN: u64 = 1 << 20;

/// Messages in a piece, if they are short.
const PIECE_MESSAGES: usize = 512;

/// Bytes of messages in a piece, about.
const PIECE_BYTES: usize = 256 << 10;

/// Where messages are read from.
#[derive(Clone, Copy)]
pub struct Log<'a> {
    /// The data directory.
    pub data_dir: &'a Path,
    /// The histories of its rooms.
    pub history: &'a History,
}

/// One user's time away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Absence {
    /// Who.
    pub user: UserId,
    /// The last message they have had, or were not due.
    pub after: u64,
    /// The last message that does not come to them live.
    pub upto: u64,
    /// The last change of rooms before they came back; what changed later comes to them live.
    pub rev: u64,
}

/// Some of what was missed, in order.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Piece {
    /// `seq` of each message, and the fields that clients see, as a JSON object without its braces.
    pub messages: Vec<(u64, String)>,
    /// Up to here this is all; the next piece begins behind it.
    pub upto: u64,
}

/// What one user missed.
#[derive(Debug)]
pub struct Missed {
    due: Due,
    /// After a long absence: of each message its number and its room's place in `rooms`, in order.
    listed: Option<Vec<(u64, u32)>>,
    rooms: Vec<String>,
}

impl Missed {
    /// Finds out what a user missed; `None`: more than `most` messages, or it is no longer known.
    /// Answers the first piece of it as well.
    ///
    /// # Errors
    /// The log or the index can't be read.
    pub fn find(log: Log<'_>, absence: &Absence, most: u64) -> Result<Option<(Piece, Missed)>, ReadError> {
        if absence.upto - absence.after <= SHORT {
            short(log, absence, most)
        } else {
            long(log, absence, most)
        }
    }

    /// Reads the piece behind message `absence.after`.
    ///
    /// # Errors
    /// The log can't be read.
    pub fn read(&self, log: Log<'_>, absence: &Absence) -> Result<Piece, ReadError> {
        match &self.listed {
            Some(listed) => self.read_listed(log, absence, listed),
            None => Ok(self.due.read(log, absence, None)?.0),
        }
    }

    fn read_listed(
        &self,
        log: Log<'_>,
        absence: &Absence,
        listed: &[(u64, u32)],
    ) -> Result<Piece, ReadError> {
        let begin = listed.partition_point(|(seq, _)| *seq <= absence.after);
        let chunk = &listed[begin..listed.len().min(begin + PIECE_MESSAGES)];
        let Some(&(last, _)) = chunk.last() else {
            return Ok(Piece { messages: Vec::new(), upto: absence.upto });
        };
        let mut by_room: Vec<(u32, u64)> = chunk.iter().map(|&(seq, room)| (room, seq)).collect();
        by_room.sort_unstable();
        let mut messages = Vec::with_capacity(chunk.len());
        for of_room in by_room.chunk_by(|a, b| a.0 == b.0) {
            self.read_room(log, of_room, &mut messages)?;
        }
        messages.sort_unstable_by_key(|(seq, _)| *seq);
        let mut bytes = 0;
        let fit = messages.iter().take_while(|(_, fields)| {
            let fits = bytes < PIECE_BYTES;
            bytes += fields.len();
            fits
        });
        let fit = fit.count();
        let whole = fit == messages.len();
        messages.truncate(fit);
        let all = begin + chunk.len() == listed.len();
        // What is behind the last message of all is nothing that was missed.
        let upto = match messages.last() {
            _ if whole && all => absence.upto,
            _ if whole => last,
            Some((seq, _)) => *seq,
            None => last,
        };
        Ok(Piece { messages, upto })
    }

    /// Reads some messages of one room. Within one stay they are all there is in the room between the
    /// first and the last of them.
    fn read_room(
        &self,
        log: Log<'_>,
        of_room: &[(u32, u64)],
        into: &mut Vec<(u64, String)>,
    ) -> Result<(), ReadError> {
        let Some(room_id) = of_room.first().and_then(|(room, _)| self.rooms.get(*room as usize)) else {
            return Ok(());
        };
        for &(after, upto) in self.due.0.get(room_id).into_iter().flatten() {
            let begin = of_room.partition_point(|(_, seq)| *seq <= after);
            let end = of_room.partition_point(|(_, seq)| *seq <= upto);
            if let Some(&[(_, first), ..]) = of_room.get(begin..end)
                && let Some(&(_, last)) = of_room[begin..end].last()
            {
                let window = Window { after: Some(first - 1), before: Some(last + 1), since_ms: None };
                let found = log.history.read(room_id, window, end - begin)?;
                into.extend(found.into_iter().filter_map(|fields| Some((seq_of(&fields)?, fields))));
            }
        }
        Ok(())
    }
}

/// Messages read of one room at a time while they are counted.
const COUNTED: u64 = 1_000;

/// All that was said is read.
fn short(log: Log<'_>, absence: &Absence, most: u64) -> Result<Option<(Piece, Missed)>, ReadError> {
    let rooms = rooms_between(log, absence.after, absence.upto)?;
    let Some(due) = log.history.reader().due(absence, rooms)? else {
        return Ok(None);
    };
    let (piece, count) = due.read(log, absence, Some(most))?;
    Ok((count <= most).then(|| (piece, Missed { due, listed: None, rooms: Vec::new() })))
}

/// The user's rooms are asked one by one.
fn long(log: Log<'_>, absence: &Absence, most: u64) -> Result<Option<(Piece, Missed)>, ReadError> {
    let reader = log.history.reader();
    let (mut rooms, known) = reader.rooms_with_news(absence)?;
    // What the index does not know of yet.
    let known = known.clamp(absence.after, absence.upto);
    if absence.upto - known > UNKNOWN {
        return Ok(None);
    }
    rooms.extend(rooms_between(log, known, absence.upto)?);
    let Some(due) = reader.due(absence, rooms)? else {
        return Ok(None);
    };
    let (mut listed, mut names) = (Vec::new(), Vec::new());
    for (room_id, spans) in &due.0 {
        let room = u32::try_from(names.len()).unwrap_or(u32::MAX);
        names.push(room_id.clone());
        for &(after, upto) in spans {
            let mut window = Window { after: Some(after), before: Some(upto + 1), since_ms: None };
            loop {
                let limit = most.saturating_add(1).saturating_sub(listed.len() as u64).min(COUNTED);
                let found =
                    log.history.read(room_id, window, usize::try_from(limit).unwrap_or(usize::MAX))?;
                listed.extend(found.iter().filter_map(|fields| Some((seq_of(fields)?, room))));
                if listed.len() as u64 > most {
                    return Ok(None);
                }
                if (found.len() as u64) < limit {
                    break;
                }
                window.after = listed.last().map(|(seq, _)| *seq);
            }
        }
    }
    listed.sort_unstable();
    let missed = Missed { due, listed: Some(listed), rooms: names };
    Ok(Some((missed.read(log, absence)?, missed)))
}

/// The rooms of the messages behind one number and up to another.
fn rooms_between(log: Log<'_>, after: u64, upto: u64) -> Result<HashSet<String>, ReadError> {
    let mut rooms = HashSet::new();
    let mut messages = MessagesAfter::open(log.data_dir, after, upto)?;
    while let Some((_, message)) = messages.next_message()? {
        if !rooms.contains(&*message.room_id) {
            rooms.insert(message.room_id.into_owned());
        }
    }
    Ok(rooms)
}

/// The number that a message's fields begin with.
fn seq_of(fields: &str) -> Option<u64> {
    let digits = fields.strip_prefix("\"seq\":")?;
    digits[..digits.bytes().position(|byte| !byte.is_ascii_digit())?].parse().ok()
}

impl Due {
    /// Reads through the log for a piece. With `most` given goes on behind it and counts up to one
    /// message more than that.
    fn read(&self, log: Log<'_>, absence: &Absence, most: Option<u64>) -> Result<(Piece, u64), ReadError> {
        let mut piece = Piece { messages: Vec::new(), upto: absence.upto };
        let (mut bytes, mut count) = (0, 0);
        if self.0.is_empty() {
            return Ok((piece, count));
        }
        let mut messages = MessagesAfter::open(log.data_dir, absence.after, absence.upto)?;
        while let Some((line, message)) = messages.next_message()? {
            if !self.holds(&message.room_id, message.seq) {
                continue;
            }
            count += 1;
            if bytes < PIECE_BYTES {
                let fields = record::client_fields(line).unwrap_or_default();
                bytes += fields.len();
                piece.messages.push((message.seq, fields.to_owned()));
            } else {
                piece.upto = piece.messages.last().map_or(absence.after, |(seq, _)| *seq);
            }
            if piece.upto < absence.upto && most.is_none_or(|most| count > most) {
                break;
            }
        }
        Ok((piece, count))
    }
}

#[cfg(test)]
mod tests;
