//! Which parts of which files a search has to read, newest first.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::Query;
use crate::index::indexed::Indexed;
use crate::index::sealed::SealedFile;
use crate::index::{ReadError, Reader};
use crate::journal::places::Located;
use crate::journal::segment::{self, Segment};
use crate::journal::{JournalError, unreadable};

/// Bytes of a file that one thread searches at a time.
const UNIT_BYTES: u64 = 4 << 20;

/// Messages that one thread reads one by one at a time.
const UNIT_PLACES: usize = 512;

/// Files about which the index is asked at a time.
const WINDOW_FILES: usize = 64;

/// Rooms about which the index is asked; who is in more is likely to have messages in every file.
const ROOMS_ASKED: usize = 2_048;

/// What reading one message by its place costs, in bytes searched instead.
const PLACE_COST: u64 = 16 << 10;

/// What asking the index about one room and one window of files costs, in bytes searched instead.
const ASK_COST: u64 = 16 << 10;

/// A piece of work.
pub enum Unit {
    /// The lines of a file that begin in a range.
    Scan {
        /// Number of the file.
        segment: u64,
        /// First byte.
        from: u64,
        /// Byte behind the last.
        to: u64,
        /// It is never written again.
        sealed: bool,
    },
    /// Single messages, ascending.
    Places(Vec<Located>),
}

/// What the rooms have in one file.
#[derive(Default)]
struct Share {
    messages: u64,
    /// Those that have any.
    rooms: Vec<u64>,
}

/// The work of one page.
pub struct Plan {
    data_dir: PathBuf,
    /// The rooms' keys in runs, ascending; empty: the index need not be asked.
    rooms: Vec<u64>,
    indexed: Indexed,
    ask: bool,
    from_ms: i64,
    to_ms: i64,
    before: u64,
    /// Files that the index does not have, oldest first.
    tail: Vec<Segment>,
    /// Files of the index to be looked at next, newest first, with what the rooms have in each; `None`:
    /// not known.
    window: VecDeque<(SealedFile, Option<Share>)>,
    /// The window ends above this file.
    below: u64,
    /// What is left of the file at hand.
    scan: Option<(u64, u64, bool)>,
    /// Messages to be read one by one, ascending.
    places: Vec<Located>,
    work: u64,
    most_work: u64,
    cut: bool,
    /// Something was given out or passed over: a page without that would not end where it began.
    moved: bool,
    /// Everything from this number on has been given out or passed over.
    low: u64,
}

impl Plan {
    /// The work for rooms of these keys.
    pub fn new(
        data_dir: &Path,
        mut rooms: Vec<u64>,
        query: &Query,
        reader: &Reader,
    ) -> Result<Plan, ReadError> {
        rooms.sort_unstable();
        let indexed = reader.indexed()?;
        let number = indexed.number;
        let needs_tail = !rooms.is_empty() && query.before > indexed.last_seq + 1;
        let mut tail = if needs_tail { segment::list(data_dir)? } else { Vec::new() };
        tail.retain(|segment| segment.number > number);
        let below = if rooms.is_empty() { 0 } else { number + 1 };
        Ok(Plan {
            data_dir: data_dir.to_owned(),
            ask: rooms.len() <= ROOMS_ASKED,
            rooms,
            indexed,
            from_ms: query.from_ms.unwrap_or(i64::MIN),
            to_ms: query.to_ms.unwrap_or(i64::MAX),
            before: query.before,
            tail,
            window: VecDeque::new(),
            below,
            scan: None,
            places: Vec::new(),
            work: 0,
            most_work: query.work,
            cut: false,
            moved: false,
            low: u64::MAX,
        })
    }

    /// Whether there would be more work.
    pub fn is_cut_short(&self) -> bool {
        self.cut
    }

    /// The number from which on everything was given out or passed over; more may have been given out.
    pub fn low(&self) -> u64 {
        self.low
    }

    /// The next piece of work; `None`: that was all, or all for one page.
    ///
    /// # Errors
    /// The index or a file can't be read.
    pub fn next(&mut self, reader: &Reader) -> Result<Option<Unit>, ReadError> {
        loop {
            if self.work >= self.most_work && self.moved && self.has_more() {
                self.cut = true;
                return Ok(None);
            }
            if let Some((segment, end, sealed)) = self.scan.take() {
                let from = end.saturating_sub(UNIT_BYTES);
                self.work += end - from;
                self.moved = true;
                self.scan = (from > 0).then_some((segment, from, sealed));
                return Ok(Some(Unit::Scan { segment, from, to: end, sealed }));
            }
            if !self.places.is_empty() {
                let unit = self.places.split_off(self.places.len().saturating_sub(UNIT_PLACES));
                self.work += unit.len() as u64 * PLACE_COST;
                self.moved = true;
                return Ok(Some(Unit::Places(unit)));
            }
            if let Some(newest) = self.tail.pop() {
                self.begin_scan(newest.number, &newest.path, false)?;
            } else if let Some((file, count)) = self.window.pop_front() {
                self.begin_file(file, count)?;
            } else if !self.open_window(reader)? {
                return Ok(None);
            }
        }
    }

    fn has_more(&self) -> bool {
        self.scan.is_some()
            || !self.places.is_empty()
            || !self.tail.is_empty()
            || !self.window.is_empty()
            || self.below > 1
    }

    fn begin_scan(&mut self, segment: u64, path: &Path, sealed: bool) -> Result<(), ReadError> {
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(JournalError::io(path))?,
        };
        let len = file.metadata().map_err(JournalError::io(path))?.len();
        // A later page begins in the middle of a file.
        let last = self.before.saturating_sub(1);
        let end = match segment::find_after(&file, len, last) {
            // What is too new is left out one by one.
            Err(error) if unreadable::is(&error) => len,
            other => other.map_err(JournalError::io(path))?,
        };
        self.scan = (end > 0).then_some((segment, end, sealed));
        Ok(())
    }

    fn begin_file(&mut self, file: SealedFile, share: Option<Share>) -> Result<(), ReadError> {
        // Of a file that is not whole nobody knows what is in it: whoever searches comes upon that.
        let share = share.filter(|_| file.whole);
        let out_of_time = file.whole && (file.to_ms < self.from_ms || file.from_ms > self.to_ms);
        if out_of_time || share.as_ref().is_some_and(|share| share.messages == 0) {
            self.low = self.low.min(file.first_seq);
            self.moved = true;
            return Ok(());
        }
        self.low = self.low.min(file.last_seq + 1);
        match share {
            Some(share) if share.messages.saturating_mul(PLACE_COST) < file.bytes => {
                let below = self.before.min(file.last_seq + 1);
                for room in share.rooms {
                    self.places.extend(self.indexed.places_before(
                        room,
                        file.first_seq,
                        below,
                        usize::MAX,
                    )?);
                }
                self.places.sort_unstable_by_key(|located| located.place.seq);
                Ok(())
            }
            _ => self.begin_scan(file.number, &Segment::at(&self.data_dir, file.number).path, true),
        }
    }

    /// Takes up the next files of the index; false: there are no more.
    fn open_window(&mut self, reader: &Reader) -> Result<bool, ReadError> {
        if self.below <= 1 {
            return Ok(false);
        }
        let files = reader.files_before(self.below, WINDOW_FILES)?;
        let (Some(newest), Some(oldest)) = (files.first(), files.last()) else {
            self.below = 0;
            return Ok(false);
        };
        self.below = oldest.number;
        let in_range = |file: &&SealedFile| file.first_seq < self.before;
        if !self.ask {
            self.window = files.iter().filter(in_range).map(|file| (*file, None)).collect();
            return Ok(true);
        }
        let mut shares: HashMap<u64, Share> = HashMap::new();
        let mut unknown = Vec::new();
        if oldest.first_seq < self.before {
            let below = self.before.min(newest.last_seq + 1);
            unknown =
                self.indexed.count(&self.rooms, oldest.first_seq, below, &mut |room, segment, count| {
                    let share = shares.entry(segment).or_default();
                    share.messages += count;
                    if share.rooms.last() != Some(&room) {
                        share.rooms.push(room);
                    }
                });
            self.work += self.rooms.len() as u64 * ASK_COST;
        }
        let mut counted = |file: &SealedFile| {
            let is_known = !unknown.iter().any(|(first, last)| (*first..=*last).contains(&file.number));
            (*file, is_known.then(|| shares.remove(&file.number).unwrap_or_default()))
        };
        self.window = files.iter().filter(in_range).map(&mut counted).collect();
        Ok(true)
    }
}
