//! What was due to a user who was away: the messages of their rooms between two numbers, as far as
//! they were in those rooms when the messages were said.
//!
//! When they were in which room, the index tells ([`super::schema`]). The messages of a short absence
//! are found by reading all that was said meanwhile, which asks only about rooms in which something
//! was. After a long one that would be too much, so each of the user's rooms that has a newer message
//! is asked for its own. Either way they are given out in pieces, in order. Where messages are damaged or gone, a
//! piece names them as holes: those whose room nobody can tell any more to everybody.

mod due;

use std::collections::HashSet;
use std::path::Path;

use super::ReadError;
use super::history::History;
use crate::chat::UserId;
use crate::journal::after::{MessagesAfter, Next};
use crate::journal::read::Window;
use crate::journal::{deletions, record};

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

/// Bytes that a hole counts for in a piece.
const HOLE_BYTES: usize = 64;

/// Numbers of missing messages that are looked into one by one for one who was away; with more, all is one gap.
const MISSING: usize = 1 << 20;

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
    /// First and last number of messages, between those, that can't be told any more; ascending.
    pub holes: Vec<(u64, u64)>,
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
    /// After a long absence: what was missing, as in [`Piece::holes`].
    holes: Vec<(u64, u64)>,
}

impl Missed {
    /// Finds out what a user missed; `None`: more than `most` messages, or it is no longer known.
    /// Answers the first piece of it as well.
    ///
    /// # Errors
    /// The log or the index can't be read.
    pub fn find(log: Log<'_>, absence: &Absence, most: u64) -> Result<Option<(Piece, Missed)>, ReadError> {
        // What was deleted is not missing.
        let deleted = deletions::read(log.data_dir)?.0.upto.min(absence.upto);
        let absence = &Absence { after: absence.after.max(deleted), ..*absence };
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
            let holes = self.holes_between(absence.after, absence.upto);
            return Ok(Piece { messages: Vec::new(), holes, upto: absence.upto });
        };
        let mut by_room: Vec<(u32, u64)> = chunk.iter().map(|&(seq, room)| (room, seq)).collect();
        by_room.sort_unstable();
        let mut messages = Vec::with_capacity(chunk.len());
        for of_room in by_room.chunk_by(|a, b| a.0 == b.0) {
            self.read_room(log, of_room, &mut messages)?;
        }
        messages.sort_unstable_by_key(|(seq, _)| *seq);
        // Damaged since they were listed.
        let is_read = |seq: u64| messages.binary_search_by_key(&seq, |(seq, _)| *seq).is_ok();
        let lost: Vec<u64> = chunk.iter().map(|(seq, _)| *seq).filter(|seq| !is_read(*seq)).collect();
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
        let mut holes = self.holes_between(absence.after, upto);
        holes.extend(lost.into_iter().filter(|seq| *seq <= upto).map(|seq| (seq, seq)));
        Ok(Piece { messages, holes: joined(holes), upto })
    }

    fn holes_between(&self, after: u64, upto: u64) -> Vec<(u64, u64)> {
        let begin = self.holes.partition_point(|(from, _)| *from <= after);
        let end = self.holes.partition_point(|(from, _)| *from <= upto);
        self.holes.get(begin..end).unwrap_or_default().to_vec()
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
                into.extend(log.history.look(room_id, window, end - begin)?.messages);
            }
        }
        Ok(())
    }
}

/// Messages read of one room at a time while they are counted.
const COUNTED: u64 = 1_000;

/// All that was said is read.
fn short(log: Log<'_>, absence: &Absence, most: u64) -> Result<Option<(Piece, Missed)>, ReadError> {
    let (rooms, whole) = rooms_between(log, absence.after, absence.upto)?;
    let Some(due) = log.history.reader().due(absence, rooms)? else {
        return Ok(None);
    };
    let (piece, count) = match whole && due.0.is_empty() {
        true => (Piece { upto: absence.upto, ..Piece::default() }, 0),
        false => due.read(log, absence, Some(most))?,
    };
    let missed = Missed { due, listed: None, rooms: Vec::new(), holes: Vec::new() };
    Ok((count <= most).then_some((piece, missed)))
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
    rooms.extend(rooms_between(log, known, absence.upto)?.0);
    let Some(due) = reader.due(absence, rooms)? else {
        return Ok(None);
    };
    let (mut listed, mut names, mut missing) = (Vec::new(), Vec::new(), Vec::new());
    for (room_id, spans) in &due.0 {
        let room = u32::try_from(names.len()).unwrap_or(u32::MAX);
        names.push(room_id.clone());
        for &(after, upto) in spans {
            let mut window = Window { after: Some(after), before: Some(upto + 1), since_ms: None };
            loop {
                let limit = most.saturating_add(1).saturating_sub(listed.len() as u64).min(COUNTED);
                let limit = usize::try_from(limit).unwrap_or(usize::MAX);
                let found = log.history.look(room_id, window, limit)?;
                listed.extend(found.messages.iter().map(|(seq, _)| (*seq, room)));
                missing.extend(found.missing.into_iter().map(|seq| (seq, seq)));
                if listed.len() as u64 > most || missing.len() > MISSING {
                    return Ok(None);
                }
                if found.messages.len() < limit {
                    break;
                }
                window.after = listed.last().map(|(seq, _)| *seq);
            }
        }
    }
    listed.sort_unstable();
    let unknown = log.history.unknown(absence.after, absence.upto, MISSING + 1)?;
    missing.extend(unknown.into_iter().map(|seq| (seq, seq)));
    if missing.len() > MISSING {
        return Ok(None);
    }
    missing.extend(reader.not_known(absence.after, absence.upto)?);
    let holes = due.confirm(log, joined(missing), &listed)?;
    let missed = Missed { due, listed: Some(listed), rooms: names, holes };
    Ok(Some((missed.read(log, absence)?, missed)))
}

/// The rooms of the messages behind one number and up to another, and whether all of these are there.
fn rooms_between(log: Log<'_>, after: u64, upto: u64) -> Result<(HashSet<String>, bool), ReadError> {
    let (mut rooms, mut whole) = (HashSet::new(), true);
    let mut messages = MessagesAfter::open(log.data_dir, after, upto)?;
    while let Some(next) = messages.next_item()? {
        match next {
            Next::Message(_, message) if !rooms.contains(&*message.room_id) => {
                rooms.insert(message.room_id.into_owned());
            }
            Next::Message(..) => {}
            Next::Hole(..) => whole = false,
        }
    }
    Ok((rooms, whole))
}

/// In order, and those that touch as one.
fn joined(mut holes: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    holes.sort_unstable();
    holes.dedup_by(|next, before| {
        let touches = next.0 <= before.1.saturating_add(1);
        if touches {
            before.1 = before.1.max(next.1);
        }
        touches
    });
    holes
}

impl Due {
    /// Reads through the log for a piece. With `most` given goes on behind it and counts up to one
    /// message more than that.
    fn read(&self, log: Log<'_>, absence: &Absence, most: Option<u64>) -> Result<(Piece, u64), ReadError> {
        let mut piece = Piece { upto: absence.upto, ..Piece::default() };
        let (mut bytes, mut count, mut last) = (0, 0, absence.after);
        let mut messages = MessagesAfter::open(log.data_dir, absence.after, absence.upto)?;
        while let Some(next) = messages.next_item()? {
            let is_full = bytes >= PIECE_BYTES;
            match next {
                Next::Message(_, message) if !self.holds(&message.room_id, message.seq) => continue,
                Next::Message(line, message) => {
                    count += 1;
                    if !is_full {
                        let fields = record::client_fields(line).unwrap_or_default();
                        (bytes, last) = (bytes + fields.len(), message.seq);
                        piece.messages.push((message.seq, fields.to_owned()));
                    }
                }
                Next::Hole(from, to) if !is_full => {
                    (bytes, last) = (bytes + HOLE_BYTES, to);
                    piece.holes.push((from, to));
                }
                Next::Hole(..) => {}
            }
            if is_full {
                piece.upto = last;
            }
            if piece.upto < absence.upto && most.is_none_or(|most| count > most) {
                break;
            }
        }
        Ok((piece, count))
    }

    /// Which of the messages in some stretches are missing for certain, as the log itself says; those that are
    /// there and were not found are missing as well.
    fn confirm(
        &self,
        log: Log<'_>,
        stretches: Vec<(u64, u64)>,
        listed: &[(u64, u32)],
    ) -> Result<Vec<(u64, u64)>, ReadError> {
        let mut holes = Vec::new();
        for (from, to) in stretches {
            let mut messages = MessagesAfter::open(log.data_dir, from.saturating_sub(1), to)?;
            while let Some(next) = messages.next_item()? {
                match next {
                    Next::Hole(from, to) => holes.push((from, to)),
                    Next::Message(_, message) => {
                        let is_listed = listed.binary_search_by_key(&message.seq, |(seq, _)| *seq).is_ok();
                        if !is_listed && self.holds(&message.room_id, message.seq) {
                            holes.push((message.seq, message.seq));
                        }
                    }
                }
            }
        }
        Ok(joined(holes))
    }
}

#[cfg(test)]
mod tests;
