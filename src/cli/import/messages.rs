//! Messages of the older layout: numbered in the order of the files, and in each file of its array.

use std::borrow::Cow;
use std::fs::File;
use std::path::PathBuf;

use super::ImportError;
use super::array::Array;
use super::bad::Skipped;
use super::old::{self, OldMessage};
use super::target::Target;
use crate::chat::{OpId, UserId};
use crate::cli::known::Known;
use crate::cli::progress::Progress;
use crate::journal::JournalError;
use crate::journal::record::{self, Imported, Message};
use crate::journal::stamp::Stamp;

/// Bytes of lines written at a time.
const WRITE_BYTES: usize = 1 << 20;

/// Bytes of lines between two syncs.
const SYNC_BYTES: u64 = 64 << 20;

/// Reads all files; answers how many messages are in.
///
/// # Errors
/// A file is bad and nothing may be left out of it, or the disk refuses.
pub fn import(
    files: &[(u64, PathBuf)],
    content_chars: usize,
    target: &mut Target,
    skipped: &mut Skipped,
) -> Result<u64, ImportError> {
    let bytes = files.iter().filter_map(|(_, path)| path.metadata().ok()).map(|file| file.len()).sum();
    let mut progress = Progress::new("messages", bytes);
    let mut writing = Writing {
        synced: target.next_seq - 1,
        target,
        lines: Vec::new(),
        count: 0,
        unsynced: 0,
        stamp: Stamp::default(),
        users: Known::default(),
        rooms: Known::default(),
    };
    let (mut stamp, mut messages, mut before) = (Stamp::default(), 0, 0);
    for (number, path) in files {
        let unreadable = |error| ImportError::Source { path: path.clone(), error };
        let mut array = Array::new(File::open(path).map_err(unreadable)?);
        let mut file = Some(*number);
        loop {
            progress.item(before + array.done());
            let Some(next) = array.next_element().map_err(unreadable)? else {
                break;
            };
            let read = next.and_then(|element| {
                let message = old::read(element, |fields| old::message(fields, content_chars, &mut stamp))?;
                Ok((element.spot(), message))
            });
            let flaw = match read {
                Ok((spot, message)) => writing.write(message, file)?.map(|what| spot.flaw(what)),
                Err(flaw) => Some(flaw),
            };
            match flaw {
                Some(flaw) => skipped.leave_out(path, &flaw)?,
                None => {
                    messages += 1;
                    file = None;
                }
            }
        }
        before += array.done();
    }
    writing.flush()?;
    progress.finish();
    Ok(messages)
}

/// Messages on their way to the log.
struct Writing<'a> {
    target: &'a mut Target,
    lines: Vec<u8>,
    /// Messages in `lines`.
    count: u64,
    unsynced: u64,
    /// The last message known to be durable.
    synced: u64,
    stamp: Stamp,
    users: Known<UserId>,
    rooms: Known<()>,
}

impl Writing<'_> {
    /// Writes one message, the first of the file of number `file`, if any; says what is wrong with it.
    fn write(&mut self, message: OldMessage<'_>, file: Option<u64>) -> Result<Option<String>, ImportError> {
        let OldMessage { id, room_id, sender, content, client_id, at, source } = message;
        let store = &self.target.bulk.store;
        let Some(user) = self.users.look_up(&sender, |name| store.user_number(name))? else {
            return Ok(Some(format!("sender: there is no user {sender}")));
        };
        let room = |id: &str| Ok(store.room(id)?.map(drop));
        if self.rooms.look_up(&room_id, room)?.is_none() {
            return Ok(Some(format!("roomId: there is no room {room_id}")));
        }
        let seq = self.target.next_seq;
        let message = Message {
            seq,
            id: OpId { instance: self.target.op.instance, count: seq },
            room_id,
            sender,
            content,
            timestamp_ms: at,
            client_id,
            user,
            imported: Some(Imported { id, file, source: source.map(Cow::Owned) }),
            synced: self.synced,
        };
        record::encode_message(&message, &mut self.stamp, &mut self.lines);
        self.target.next_seq += 1;
        self.count += 1;
        if self.lines.len() >= WRITE_BYTES || self.count >= self.target.segments.room() {
            self.flush()?;
        }
        Ok(None)
    }

    fn flush(&mut self) -> Result<(), ImportError> {
        if self.count == 0 {
            return Ok(());
        }
        self.unsynced += self.lines.len() as u64;
        let sync = self.unsynced >= SYNC_BYTES;
        if let Err(source) = self.target.segments.append(&self.lines, self.count, sync) {
            let path = self.target.segments.newest().0.path().to_owned();
            return Err(JournalError::Io { path, source }.into());
        }
        if sync {
            (self.synced, self.unsynced) = (self.target.next_seq - 1, 0);
        }
        self.lines.clear();
        self.count = 0;
        Ok(())
    }
}
