//! Goes through the messages of a file and says of each where it stands and in which room, for those
//! who keep such places.

use std::borrow::Borrow;
use std::fs::File;
use std::path::Path;

use super::JournalError;
use super::lines::Lines;
use super::places::Place;
use super::record;
use super::recover::From;

/// A message as it is passed.
#[derive(Clone, Copy, Debug)]
pub struct Passed<'a> {
    /// Where it stands.
    pub place: Place,
    /// Where the next begins.
    pub end: u64,
    /// Its room.
    pub room_id: &'a str,
    /// Unix time in milliseconds; `None`: the line is damaged, and this is what can still be read.
    pub timestamp_ms: Option<i64>,
}

/// Goes from a place, which must be the beginning of a line, up to the end of the file or before the
/// first message above `upto`, or until `pass` answers false; answers where it stopped. A number 0
/// stands for one that is not known.
///
/// A damaged line is said to the log, and passed on under the number that belongs there if its room
/// can be read, so that whoever needs it comes upon the damage.
///
/// # Errors
/// The file can't be read.
pub fn walk(
    file: impl Borrow<File>,
    path: &Path,
    from: From,
    upto: u64,
    pass: &mut dyn FnMut(Passed<'_>) -> bool,
) -> Result<From, JournalError> {
    let mut at = from;
    let mut lines = Lines::new(file, from.byte);
    while let Some(line) = lines.next_line().map_err(JournalError::io(path))? {
        let leading = record::leading_number(line.bytes);
        let number = if at.number == 0 { leading.unwrap_or(0) } else { at.number };
        if !line.finished || number > upto {
            break;
        }
        let place = |seq| Place { seq, byte: line.start };
        let more = match record::decode_message(line.bytes) {
            Ok(message) if message.seq > upto => break,
            Ok(message) => {
                at.number = message.seq + 1;
                let timestamp_ms = Some(message.timestamp_ms);
                pass(Passed {
                    place: place(message.seq),
                    end: line.end,
                    room_id: &message.room_id,
                    timestamp_ms,
                })
            }
            Err(error) => {
                tracing::error!(file = %path.display(), byte = line.start, %error, "a message is damaged");
                at.number = number + 1;
                match record::room_of(line.bytes) {
                    Some(room_id) => {
                        let passed = Passed {
                            place: place(number),
                            end: line.end,
                            room_id: &room_id,
                            timestamp_ms: None,
                        };
                        pass(passed)
                    }
                    None => true,
                }
            }
        };
        at.byte = line.end;
        if !more {
            break;
        }
    }
    Ok(at)
}
