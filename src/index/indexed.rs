//! Where messages stand in full files, asked of the runs.
//!
//! A run whose file is gone or damaged costs nobody but those whose question reaches it: what it would
//! have said is found in the files of messages ([`super::unlisted`]) until the storage writer has made it again
//! ([`super::remake`]).

use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use super::runs::file::{Cursor, RunFile};
use super::runs::{self, Part, Run};
use super::unlisted::{self, Order};
use super::{IndexError, ReadError, Reader};
use crate::journal::places::{self, Located};
use crate::journal::sparing::Sparing;

/// Times a reader asks again which runs there are, having found one of them gone: each time it was
/// merged with others meanwhile.
const ASK_AGAIN: usize = 8;

/// Says that a run can't be used.
static UNUSABLE: Sparing = Sparing::new();

/// Where messages stand in full files, at one moment. Rooms are named by [`runs::room_key`].
#[derive(Clone)]
pub struct Indexed {
    data_dir: PathBuf,
    /// Number of the last file.
    pub number: u64,
    /// Number of its last message.
    pub last_seq: u64,
    /// Oldest first.
    runs: Vec<Listed>,
}

/// A run, and its file if that is what was written, as far as opening it tells.
#[derive(Clone)]
struct Listed {
    run: Run,
    file: Option<Arc<RunFile>>,
}

impl Reader {
    /// What is known of where messages stand, as it is at this moment.
    ///
    /// # Errors
    /// The index can't be read. A run that can't be is no error before a question needs it.
    pub fn indexed(&self) -> Result<Indexed, IndexError> {
        let (mut last, mut runs) = self.last_file_and_runs()?;
        let mut listed = self.open_runs(&runs);
        for _ in 0..ASK_AGAIN {
            if listed.iter().all(|listed| listed.file.is_some()) {
                break;
            }
            let before = std::mem::take(&mut runs);
            (last, runs) = self.last_file_and_runs()?;
            if runs == before {
                break; // Not merged: gone.
            }
            listed = self.open_runs(&runs);
        }
        let (number, last_seq) = last.map_or((0, 0), |file| (file.number, file.last_seq));
        Ok(Indexed { data_dir: self.data_dir().to_owned(), number, last_seq, runs: listed })
    }

    /// Opens those that are not open yet, and closes all others.
    fn open_runs(&self, runs: &[Run]) -> Vec<Listed> {
        let mut open = self.runs.lock();
        let find = |run: &Run| match open.iter().find(|file| file.run == *run) {
            Some(file) => Some(file.clone()),
            None => RunFile::open(&runs::path(self.data_dir(), run.id), *run)
                .inspect_err(|error| unusable(run, error))
                .ok()
                .map(Arc::new),
        };
        let listed: Vec<Listed> = runs.iter().map(|run| Listed { run: *run, file: find(run) }).collect();
        *open = listed.iter().filter_map(|listed| listed.file.clone()).collect();
        listed
    }
}

fn unusable(run: &Run, error: &io::Error) {
    if UNUSABLE.is_due() {
        let run = run.id;
        tracing::warn!(run, %error, "a part of the index can't be read: messages are looked for without it");
    }
}

impl Listed {
    /// Asks the run; `None`: it can't be read, and what was told is not all.
    fn ask(&self, question: impl FnOnce(Cursor<'_>) -> io::Result<()>) -> Option<()> {
        let file = self.file.as_ref()?;
        question(file.cursor()).inspect_err(|error| unusable(&self.run, error)).ok()
    }
}

impl Indexed {
    /// The newest `most` places of a room's messages in `from..below`, ascending.
    ///
    /// # Errors
    /// A run can't be read, and the messages neither, or they are too many to be read for one question.
    pub fn places_before(
        &self,
        room: u64,
        from: u64,
        below: u64,
        most: usize,
    ) -> Result<Vec<Located>, ReadError> {
        // Newest first, until turned round.
        let mut found = Vec::new();
        for listed in self.within(from, below).rev() {
            let had = found.len();
            if had >= most {
                break;
            }
            let asked = listed.ask(|mut cursor| {
                cursor.before(room, below, &mut |part| {
                    let places = located(&part);
                    let more = places.first().is_some_and(|first| first.place.seq > from);
                    let wanted = places.into_iter().rev().filter(|at| (from..below).contains(&at.place.seq));
                    found.extend(wanted.take(most.saturating_sub(found.len())));
                    more && found.len() < most
                })
            });
            if asked.is_none() {
                found.truncate(had);
                found.extend(self.unlisted(listed, room, from..below, Order::NewestFirst, most - had)?);
            }
        }
        found.reverse();
        Ok(found)
    }

    /// The first `most` places of a room's messages in `from..below`, ascending.
    ///
    /// # Errors
    /// As [`Indexed::places_before`].
    pub fn places_from(
        &self,
        room: u64,
        from: u64,
        below: u64,
        most: usize,
    ) -> Result<Vec<Located>, ReadError> {
        let mut found = Vec::new();
        for listed in self.within(from, below) {
            let had = found.len();
            if had >= most {
                break;
            }
            let asked = listed.ask(|mut cursor| {
                cursor.from(room, from, &mut |part| {
                    let wanted =
                        located(&part).into_iter().filter(|at| (from..below).contains(&at.place.seq));
                    found.extend(wanted.take(most.saturating_sub(found.len())));
                    part.first_seq < below && found.len() < most
                })
            });
            if asked.is_none() {
                found.truncate(had);
                found.extend(self.unlisted(listed, room, from..below, Order::OldestFirst, most - had)?);
            }
        }
        Ok(found)
    }

    /// How many messages rooms, in ascending order, have in stretches that begin in `from..below`: tells
    /// `add` the room, the number of the file and how many. Answers of which files that is not known: from
    /// one number to another, both included.
    pub fn count(
        &self,
        rooms: &[u64],
        from: u64,
        below: u64,
        add: &mut dyn FnMut(u64, u64, u64),
    ) -> Vec<(u64, u64)> {
        let mut unknown = Vec::new();
        for listed in self.within(from, below) {
            let asked = listed.ask(|mut cursor| {
                rooms.iter().try_for_each(|room| {
                    cursor.from(*room, from, &mut |part| {
                        if (from..below).contains(&part.first_seq) {
                            add(part.room, part.segment, part.count);
                        }
                        part.first_seq < below
                    })
                })
            });
            if asked.is_none() {
                unknown.push((listed.run.first_segment, listed.run.last_segment));
            }
        }
        unknown
    }

    fn unlisted(
        &self,
        listed: &Listed,
        room: u64,
        within: Range<u64>,
        order: Order,
        most: usize,
    ) -> Result<Vec<Located>, ReadError> {
        unlisted::places(&self.data_dir, &listed.run, room, &within, order, most)
    }

    /// The runs that may have messages in `from..below`, oldest first.
    fn within(&self, from: u64, below: u64) -> impl DoubleEndedIterator<Item = &Listed> {
        self.runs.iter().filter(move |listed| listed.run.last_seq >= from && listed.run.first_seq < below)
    }
}

fn located(part: &Part) -> Vec<Located> {
    let places = places::unpack(part.first_seq, &part.places);
    places.into_iter().map(|place| Located { segment: part.segment, place }).collect()
}
