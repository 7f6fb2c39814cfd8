//! A search for text in rooms' messages, newest first, worked on by several threads.
//!
//! [`Search`] is one page of it. Threads take pieces of work from its plan: parts of files to be
//! searched through, or, where the rooms have few messages in a file, just those. The plan goes from
//! the newest message to the oldest; what the pieces bring is put together in that order, and when
//! there is enough, the work ends. A page also ends after a bounded amount of work, and says where the
//! next one begins.

mod plan;

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use self::plan::{Plan, Unit};
use super::{ReadError, Reader, runs};
use crate::chat::{UserId, name};
use crate::journal::read::PlaceReader;
use crate::journal::record::{self, Message};
use crate::journal::search::{self, Candidate, Needle};
use crate::journal::segment::Segment;
use crate::journal::{JournalError, damage};

/// Bytes of messages in one page; a page ends with the message that reaches it.
const PAGE_BYTES: usize = 4 << 20;

/// Where to look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rooms {
    /// In one room.
    One(String),
    /// In all rooms of a user.
    Of(UserId),
}

/// What is looked for.
pub struct Query {
    /// Text in the content.
    pub needle: Needle,
    /// Where.
    pub rooms: Rooms,
    /// Only messages of this sender.
    pub sender: Option<String>,
    /// Only messages of this Unix time in milliseconds or later.
    pub from_ms: Option<i64>,
    /// Only messages of this Unix time in milliseconds or earlier.
    pub to_ms: Option<i64>,
    /// Only messages with a lower number; must keep out what is not published yet.
    pub before: u64,
    /// Messages, at most.
    pub limit: usize,
    /// Work, at most, in bytes searched; a page with less than `limit` messages may have a next one.
    pub work: u64,
}

/// A page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Newest first: of each the fields that clients see, as a JSON object without its braces.
    pub messages: Vec<String>,
    /// `before` of the next page; `None`: there is none.
    pub next: Option<u64>,
}

/// One page on its way.
pub struct Search {
    data_dir: PathBuf,
    query: Query,
    stop: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// `None`: nobody has begun.
    plan: Option<Plan>,
    /// Ids of the rooms.
    rooms: std::sync::Arc<HashSet<String>>,
    /// Pieces of work given out.
    given: u64,
    /// Pieces put together.
    merged: u64,
    /// Results that wait for those before them.
    waiting: BTreeMap<u64, Part>,
    messages: Vec<(u64, String)>,
    bytes: usize,
    /// Everything from this number on was looked at.
    low: u64,
    ended: bool,
}

/// What a piece of work brought.
#[derive(Default)]
struct Part {
    /// Ascending.
    messages: VecDeque<(u64, String)>,
    bytes: usize,
    /// Number of the first message that was looked at.
    low: Option<u64>,
}

impl Search {
    /// A page that nobody works on yet.
    pub fn new(data_dir: &Path, query: Query) -> Search {
        let low = query.before;
        let state = Mutex::new(State { low, ..State::default() });
        Search { data_dir: data_dir.to_owned(), query, stop: AtomicBool::new(false), state }
    }

    /// Nobody wants the page any more.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Works until there is nothing more to do for this thread. The one that comes to the end gets the
    /// page; all others, and all after [`Search::stop`], get `None`.
    pub fn work(&self, reader: &Reader) -> Option<Result<Found, ReadError>> {
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return None;
            }
            let mut state = self.state.lock();
            if state.ended {
                return None;
            }
            let (unit, rooms) = match self.take(&mut state, reader) {
                Ok(Some(unit)) => (unit, state.rooms.clone()),
                Ok(None) => return self.end(&mut state).map(Ok),
                Err(error) => {
                    state.ended = true;
                    return Some(Err(error));
                }
            };
            let number = state.given;
            state.given += 1;
            drop(state);
            let part = self.part(&unit, &rooms);
            let mut state = self.state.lock();
            match part {
                _ if state.ended => return None,
                Ok(part) => state.merge(number, part),
                Err(error) => {
                    state.ended = true;
                    return Some(Err(error));
                }
            }
            if state.has_enough(self.query.limit) {
                return self.end(&mut state).map(Ok);
            }
        }
    }

    /// The next piece of work.
    fn take(&self, state: &mut State, reader: &Reader) -> Result<Option<Unit>, ReadError> {
        if state.plan.is_none() {
            let rooms = match &self.query.rooms {
                Rooms::One(room_id) if reader.has_room(room_id)? => vec![room_id.clone()],
                Rooms::One(_) => Vec::new(),
                Rooms::Of(user) => reader.all_room_ids_of(*user)?,
            };
            let keys = rooms.iter().map(|room_id| runs::room_key(room_id)).collect();
            state.rooms = std::sync::Arc::new(rooms.into_iter().collect());
            state.plan = Some(Plan::new(&self.data_dir, keys, &self.query, reader)?);
        }
        match &mut state.plan {
            Some(plan) => plan.next(reader),
            None => Ok(None),
        }
    }

    /// The page, if all that was given out has come back, or there is enough.
    fn end(&self, state: &mut State) -> Option<Found> {
        let enough = state.has_enough(self.query.limit);
        if state.ended || self.stop.load(Ordering::Relaxed) || !enough && state.merged < state.given {
            return None;
        }
        state.ended = true;
        let found = std::mem::take(&mut state.messages);
        let (mut messages, mut bytes) = (Vec::new(), 0);
        let mut rest = found.into_iter().peekable();
        while let Some((seq, fields)) = rest.next() {
            bytes += fields.len();
            messages.push(fields);
            let full = messages.len() == self.query.limit && rest.peek().is_some();
            // Beyond a page's bytes a part may have left out older ones.
            if full || bytes >= PAGE_BYTES {
                return Some(Found { messages, next: Some(seq) });
            }
        }
        let plan = state.plan.take().filter(Plan::is_cut_short);
        let next = plan.map(|plan| state.low.min(plan.low())).filter(|next| *next < self.query.before);
        Some(Found { messages, next })
    }

    fn part(&self, unit: &Unit, rooms: &HashSet<String>) -> Result<Part, ReadError> {
        match unit {
            Unit::Scan { segment, from, to, sealed } => self.scan(*segment, *from..*to, *sealed, rooms),
            Unit::Places(places) => {
                let mut part = Part::default();
                for of_file in places.chunk_by(|a, b| a.segment == b.segment) {
                    let path = Segment::at(&self.data_dir, of_file[0].segment).path;
                    let Some(mut reader) = PlaceReader::open(path)? else {
                        continue;
                    };
                    for (at, located) in of_file.iter().enumerate() {
                        if self.stop.load(Ordering::Relaxed) {
                            break;
                        }
                        let next = of_file.get(at + 1).map(|next| next.place.byte);
                        if let Some((line, message)) = reader.message_at(located.place, next)? {
                            self.take_up(line, &message, false, rooms, &mut part);
                        }
                    }
                }
                part.low = places.first().map(|first| first.place.seq);
                Ok(part)
            }
        }
    }

    fn scan(
        &self,
        segment: u64,
        range: std::ops::Range<u64>,
        sealed: bool,
        rooms: &HashSet<String>,
    ) -> Result<Part, ReadError> {
        let path = Segment::at(&self.data_dir, segment).path;
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Part::default()),
            other => other.map_err(JournalError::io(&path))?,
        };
        let mut part = Part::default();
        let mut hit = |candidate: Candidate<'_>| {
            if !self.candidate(&candidate, sealed, rooms, &mut part) {
                damage::say(&path, candidate.start);
            }
        };
        let searched = search::scan(&file, range.start, range.end, &self.query.needle, &self.stop, &mut hit)
            .map_err(JournalError::io(&path))?;
        let first_found = part.messages.front().map(|(seq, _)| *seq);
        part.low = searched.first_seq.into_iter().chain(first_found).min();
        Ok(part)
    }

    /// False: the line is damaged, or begins with damage.
    fn candidate(
        &self,
        candidate: &Candidate<'_>,
        sealed: bool,
        rooms: &HashSet<String>,
        part: &mut Part,
    ) -> bool {
        let line = candidate.line;
        // Cheap questions first. What is not published may be of any shape.
        match record::leading_number(line) {
            Some(seq) if seq >= self.query.before => return true,
            None if !sealed => return true,
            _ => {}
        }
        let Some((begin, _)) = record::find_good(line) else {
            return false;
        };
        let line = &line[begin..];
        if record::room_of(line).is_some_and(|room_id| !rooms.contains(&*room_id)) {
            return begin == 0;
        }
        let Ok(message) = record::decode_message(line) else {
            return false;
        };
        self.take_up(line, &message, candidate.certain && begin == 0, rooms, part);
        begin == 0
    }

    fn take_up(
        &self,
        line: &[u8],
        message: &Message<'_>,
        certain: bool,
        rooms: &HashSet<String>,
        part: &mut Part,
    ) {
        let query = &self.query;
        let wanted = message.seq < query.before
            && rooms.contains(&*message.room_id)
            && query.sender.as_ref().is_none_or(|sender| name::same(sender, &message.sender))
            && query.from_ms.is_none_or(|from_ms| message.timestamp_ms >= from_ms)
            && query.to_ms.is_none_or(|to_ms| message.timestamp_ms <= to_ms)
            && (certain || query.needle.is_in(&message.content));
        if let Some(fields) = record::client_fields(line).filter(|_| wanted) {
            part.bytes += fields.len();
            part.messages.push_back((message.seq, fields.to_owned()));
            // The newest fill the page alone: one more than a page says that there is another.
            while part.messages.len() > query.limit + 1
                || part.messages.len() > 1 && part.bytes - part.messages[0].1.len() >= PAGE_BYTES
            {
                part.bytes -= part.messages.pop_front().map_or(0, |(_, fields)| fields.len());
            }
        }
    }
}

impl State {
    fn merge(&mut self, number: u64, part: Part) {
        self.waiting.insert(number, part);
        while let Some(part) = self.waiting.remove(&self.merged) {
            self.merged += 1;
            self.low = self.low.min(part.low.unwrap_or(u64::MAX));
            self.bytes += part.bytes;
            self.messages.extend(part.messages.into_iter().rev());
        }
    }

    fn has_enough(&self, limit: usize) -> bool {
        self.messages.len() > limit || self.bytes >= PAGE_BYTES
    }
}

#[cfg(test)]
mod tests;
