//! Reads single messages from where they stand, while the writer appends.
//!
//! What is read is checked before it is believed: the sum, the number, the room, the window. So a
//! place that is out of date costs a read and never a wrong answer. What is damaged is said to the log and left out.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::lines::LINE_BYTES;
use super::places::{Located, Place};
use super::record::{self, Message};
use super::segment::Segment;
use super::unreadable::{self, Patience};
use super::{JournalError, damage};

/// Bytes read for a line that stands alone; most are shorter.
const ALONE_BYTES: usize = 2 << 10;

/// Bytes read at a time where the next place is near.
const NEAR_BYTES: usize = 64 << 10;

/// Which messages of a room are asked for. All bounds given must hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// Only those with a lower `seq`.
    pub before: Option<u64>,
    /// Only those with a higher `seq`.
    pub after: Option<u64>,
    /// Only those of this Unix time in milliseconds or later.
    pub since_ms: Option<i64>,
}

impl Window {
    /// Whether a number is within `before` and `after`.
    pub fn holds_seq(&self, seq: u64) -> bool {
        self.before.is_none_or(|before| seq < before) && self.after.is_none_or(|after| seq > after)
    }

    fn holds(&self, message: &Message<'_>) -> bool {
        self.holds_seq(message.seq) && self.since_ms.is_none_or(|since_ms| message.timestamp_ms >= since_ms)
    }
}

/// What stands at places.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Of each message its number and the fields that clients see, as a JSON object without its braces.
    pub messages: Vec<(u64, String)>,
    /// Numbers of those that are not there any more: damaged, or gone with their file.
    pub missing: Vec<u64>,
}

/// Reads the messages at places, which must ascend, and keeps those of a room and a window.
///
/// # Errors
/// A file is there and can't be read.
pub fn read_places(
    data_dir: &Path,
    room_id: &str,
    window: Window,
    places: &[Located],
) -> Result<Found, JournalError> {
    let mut found = Found { messages: Vec::with_capacity(places.len()), missing: Vec::new() };
    for of_file in places.chunk_by(|a, b| a.segment == b.segment) {
        let Some(mut reader) = PlaceReader::open(Segment::at(data_dir, of_file[0].segment).path)? else {
            found.missing.extend(of_file.iter().map(|located| located.place.seq));
            continue;
        };
        for (at, located) in of_file.iter().enumerate() {
            let next = of_file.get(at + 1).map(|next| next.place.byte);
            let Some((line, message)) = reader.message_at(located.place, next)? else {
                found.missing.push(located.place.seq);
                continue;
            };
            if message.room_id == room_id
                && window.holds(&message)
                && let Some(fields) = record::client_fields(line)
            {
                found.messages.push((message.seq, fields.to_owned()));
            }
        }
    }
    Ok(found)
}

/// Reads lines of one file by their places, in ascending order for the fewest reads.
pub struct PlaceReader {
    path: PathBuf,
    file: File,
    buffer: Vec<u8>,
    /// Where in the file the buffer begins.
    base: u64,
    patience: Patience,
}

impl PlaceReader {
    /// Opens a file; `None`: it is gone.
    ///
    /// # Errors
    /// It can't be opened.
    pub fn open(path: PathBuf) -> Result<Option<PlaceReader>, JournalError> {
        match File::open(&path) {
            Ok(file) => {
                let patience = Patience::default();
                Ok(Some(PlaceReader { path, file, buffer: Vec::new(), base: 0, patience }))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(JournalError::Io { path, source }),
        }
    }

    /// The message at a place, with its line. `None`: none is, or the disk can't read it, which is said to the log;
    /// or a good one of another number, so the place is of another file that was there before. `next` is where
    /// reading will go on.
    ///
    /// # Errors
    /// The file can't be read, not only here.
    pub fn message_at(
        &mut self,
        place: Place,
        next: Option<u64>,
    ) -> Result<Option<(&[u8], Message<'_>)>, JournalError> {
        if self.patience.is_out() {
            return Ok(None); // The rest of the file is given up, as if it were gone.
        }
        let (start, end) = match self.load(place.byte, next) {
            Err(error) if unreadable::is(&error) => {
                self.patience.take();
                self.buffer.clear();
                (0, 0)
            }
            other => other.map_err(JournalError::io(&self.path))?,
        };
        let line = &self.buffer[start..end];
        match record::decode_message(line) {
            Ok(message) if message.seq == place.seq => Ok(Some((line, message))),
            Ok(_) => Ok(None),
            Err(_) => {
                damage::say(&self.path, place.byte);
                Ok(None)
            }
        }
    }

    /// Brings the line at a byte into the buffer; answers where it is there, without its line feed.
    fn load(&mut self, byte: u64, next: Option<u64>) -> io::Result<(usize, usize)> {
        let held = byte.checked_sub(self.base).and_then(|skip| usize::try_from(skip).ok());
        if let Some(start) = held.filter(|start| *start < self.buffer.len())
            && let Some(len) = memchr::memchr(b'\n', &self.buffer[start..])
        {
            return Ok((start, start + len));
        }
        let is_near = next.is_some_and(|next| next.saturating_sub(byte) < NEAR_BYTES as u64);
        let mut wanted = if is_near { NEAR_BYTES } else { ALONE_BYTES };
        self.base = byte;
        self.buffer.clear();
        loop {
            let had = self.buffer.len();
            self.buffer.resize(wanted, 0);
            let read = read_some(&self.file, &mut self.buffer[had..], byte + had as u64)?;
            self.buffer.truncate(had + read);
            if let Some(len) = memchr::memchr(b'\n', &self.buffer[had..]) {
                return Ok((0, had + len));
            }
            if read == 0 || wanted > LINE_BYTES {
                // No line ends here, so it is none; its sum will say so.
                return Ok((0, self.buffer.len()));
            }
            wanted *= 4;
        }
    }
}

/// As `read_at`, also after interruptions.
pub(super) fn read_some(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    loop {
        match file.read_at(buffer, at) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

/// Opens a log for reading; answers its length, too.
///
/// # Errors
/// It can't be opened.
pub(super) fn open(path: &Path) -> Result<(File, u64), JournalError> {
    let file = File::open(path).map_err(JournalError::io(path))?;
    let end = file.metadata().map_err(JournalError::io(path))?.len();
    Ok((file, end))
}
