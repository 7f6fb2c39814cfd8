//! A room's messages at any depth: where they stand is looked up, and only they are read.
//!
//! Full files are in the index ([`super::indexed`]); of the files behind those, [`Tail`] knows. Both say
//! only where to look: [`read`] checks what stands there.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use super::indexed::Indexed;
use super::{IndexError, ReadError, Reader, runs};
use crate::journal::places::Located;
use crate::journal::read::{self, Window};
use crate::journal::tail::Tail;
use crate::journal::walk::UNKNOWN_ROOM;

/// What one process needs to answer history.
pub struct History {
    data_dir: PathBuf,
    reader: Reader,
    tail: Mutex<Tail>,
}

/// One question on its way.
struct Asked<'a> {
    history: &'a History,
    room_id: &'a str,
    window: Window,
    limit: usize,
    /// The last message that may be shown.
    upto: u64,
    /// What the index has.
    indexed: Indexed,
    /// Numbers of messages that are not there any more, of those looked at.
    missing: Vec<u64>,
}

/// A room's messages.
#[derive(Debug, Default)]
pub(super) struct Read {
    /// Ascending: of each its number and the fields that clients see.
    pub messages: VecDeque<(u64, String)>,
    /// Numbers of messages that were there once, among and between those.
    pub missing: Vec<u64>,
}

impl History {
    /// Over an index that is there.
    ///
    /// # Errors
    /// The index can't be opened.
    pub fn open(data_dir: &Path) -> Result<History, IndexError> {
        let tail = Mutex::new(Tail::new(data_dir));
        Ok(History { data_dir: data_dir.to_owned(), reader: Reader::open(data_dir)?, tail })
    }

    /// The messages of a room in a window, ascending by `seq`: of each the fields that clients see,
    /// as a JSON object without its braces. With `after` or `since_ms` given, the first `limit`; else
    /// the newest. `before` must keep out what is not published yet. Damaged messages are left out.
    ///
    /// # Errors
    /// The index or a file can't be read.
    pub fn read(&self, room_id: &str, window: Window, limit: usize) -> Result<Vec<String>, ReadError> {
        let read = self.look(room_id, window, limit)?;
        Ok(read.messages.into_iter().map(|(_, fields)| fields).collect())
    }

    /// As [`History::read`]; says as well what should have been there.
    pub(super) fn look(&self, room_id: &str, window: Window, limit: usize) -> Result<Read, ReadError> {
        let upto = window.before.map_or(u64::MAX, |before| before.saturating_sub(1));
        if limit == 0 || upto == 0 {
            return Ok(Read::default());
        }
        let mut asked = self.ask(room_id, window, limit, upto)?;
        let messages = match window.after.is_some() || window.since_ms.is_some() {
            true => asked.first()?.into(),
            false => asked.newest()?,
        };
        Ok(Read { messages, missing: asked.missing })
    }

    /// Numbers, up to `most`, of messages in a window of which nobody knows the room, ascending. Some may be
    /// there after all.
    pub(super) fn unknown(&self, after: u64, upto: u64, most: usize) -> Result<Vec<u64>, ReadError> {
        let window = Window { after: Some(after), before: Some(upto.saturating_add(1)), since_ms: None };
        let asked = self.ask(UNKNOWN_ROOM, window, most, upto)?;
        let below = upto.saturating_add(1).min(asked.indexed.last_seq + 1);
        let room = runs::room_key(UNKNOWN_ROOM);
        let mut places = asked.indexed.places_from(room, after.saturating_add(1), below, most)?;
        for file in asked.tail_files()? {
            places.extend(asked.tail_places(file)?);
        }
        Ok(places.into_iter().map(|located| located.place.seq).take(most).collect())
    }

    fn ask<'a>(
        &'a self,
        room_id: &'a str,
        window: Window,
        limit: usize,
        upto: u64,
    ) -> Result<Asked<'a>, ReadError> {
        // Before the tail is looked at: what enters the index meanwhile is still in the tail.
        let indexed = self.reader.indexed()?;
        Ok(Asked { history: self, room_id, window, limit, upto, indexed, missing: Vec::new() })
    }
}

impl History {
    /// The index it looks into.
    pub(super) fn reader(&self) -> &Reader {
        &self.reader
    }
}

impl Asked<'_> {
    fn newest(&mut self) -> Result<VecDeque<(u64, String)>, ReadError> {
        let mut found = VecDeque::new();
        for file in self.tail_files()?.into_iter().rev() {
            if found.len() == self.limit {
                return Ok(found);
            }
            let mut places = self.tail_places(file)?;
            while found.len() < self.limit && !places.is_empty() {
                let batch = places.split_off(places.len().saturating_sub(self.limit - found.len()));
                self.push_front(&batch, &mut found)?;
            }
        }
        let room = runs::room_key(self.room_id);
        let mut below = self.upto.saturating_add(1).min(self.indexed.last_seq + 1);
        while found.len() < self.limit {
            let most = self.limit - found.len();
            let batch = self.indexed.places_before(room, 0, below, most)?;
            let Some(first) = batch.first() else {
                break;
            };
            below = first.place.seq;
            self.push_front(&batch, &mut found)?;
        }
        Ok(found)
    }

    fn push_front(
        &mut self,
        batch: &[Located],
        found: &mut VecDeque<(u64, String)>,
    ) -> Result<(), ReadError> {
        let read = read::read_places(&self.history.data_dir, self.room_id, self.window, batch)?;
        self.missing.extend(read.missing);
        read.messages.into_iter().rev().for_each(|message| found.push_front(message));
        Ok(())
    }

    fn first(&mut self) -> Result<Vec<(u64, String)>, ReadError> {
        let mut found = Vec::new();
        self.first_indexed(&mut found)?;
        if found.len() == self.limit {
            return Ok(found);
        }
        for file in self.tail_files()? {
            if found.len() == self.limit {
                break;
            }
            let places = self.tail_places(file)?;
            let mut rest = &places[..];
            while found.len() < self.limit && !rest.is_empty() {
                let (batch, behind) = rest.split_at(rest.len().min(self.limit - found.len()));
                self.push(batch, &mut found)?;
                rest = behind;
            }
        }
        Ok(found)
    }

    fn first_indexed(&mut self, found: &mut Vec<(u64, String)>) -> Result<(), ReadError> {
        let mut from = self.window.after.map_or(0, |after| after.saturating_add(1));
        let below = self.upto.saturating_add(1).min(self.indexed.last_seq + 1);
        if let Some(since_ms) = self.window.since_ms {
            match self.history.reader.seq_since(since_ms, self.indexed.last_seq)? {
                Some(seq) => from = from.max(seq),
                None => return Ok(()),
            }
        }
        let room = runs::room_key(self.room_id);
        while found.len() < self.limit && from < below {
            let batch = self.indexed.places_from(room, from, below, self.limit - found.len())?;
            let Some(last) = batch.last() else {
                break;
            };
            from = last.place.seq + 1;
            self.push(&batch, found)?;
        }
        Ok(())
    }

    fn push(&mut self, batch: &[Located], found: &mut Vec<(u64, String)>) -> Result<(), ReadError> {
        let read = read::read_places(&self.history.data_dir, self.room_id, self.window, batch)?;
        self.missing.extend(read.missing);
        found.extend(read.messages);
        Ok(())
    }

    /// The files behind those in the index, oldest first, if the window reaches them.
    fn tail_files(&self) -> Result<Vec<u64>, ReadError> {
        let Indexed { number, last_seq, .. } = self.indexed;
        if self.upto <= last_seq {
            return Ok(Vec::new());
        }
        Ok(self.history.tail.lock().follow(number, self.upto)?)
    }

    fn tail_places(&self, file: u64) -> Result<Vec<Located>, ReadError> {
        Ok(self.history.tail.lock().places(file, self.room_id, self.window, self.upto)?)
    }
}

#[cfg(test)]
mod tests;
