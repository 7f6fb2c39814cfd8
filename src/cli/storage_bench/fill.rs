//! Puts the world into files: users as a source for `minitalk import`, rooms and messages as lines of
//! the logs themselves, through the same encoder and the same files as the storage writer's. (Through a
//! running server a message costs a socket, too; `minitalk bench ingest` measures that.)

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use super::world::{self, World};
use crate::chat::OpId;
use crate::cli::progress::Progress;
use crate::journal::ROOMS;
use crate::journal::append::Log;
use crate::journal::disk::{Disk, RealDisk};
use crate::journal::record::{self, Message, RoomChange, RoomRecord};
use crate::journal::rolling::Segments;
use crate::journal::segment::Segment;
use crate::journal::stamp::Stamp;

/// Bytes written and synced together.
const BATCH_BYTES: usize = 4 << 20;

/// The [`OpId::instance`] of what is made here.
const INSTANCE: u64 = 0xbe7c;

/// Unix time in milliseconds of the first record: the beginning of 2026.
const BEGIN_MS: i64 = 1_767_225_600_000;

/// Writes the members to import, a JSON object a line; answers how many bytes.
///
/// # Errors
/// The disk refused; so for all below.
pub fn members(world: &World, file: &Path) -> io::Result<u64> {
    let mut out = BufWriter::new(File::create(file)?);
    let mut progress = Progress::counted("members", world.users);
    for user in 1..=world.users {
        let (name, nickname) = (world::name(user), world::nickname(user));
        writeln!(out, "{{\"number\":{user},\"name\":\"{name}\",\"nickname\":\"{nickname}\"}}")?;
        progress.item(user);
    }
    progress.finish();
    let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    Ok(file.metadata()?.len())
}

/// Appends the rooms to a log that has none.
pub fn rooms(world: &World, data_dir: &Path) -> io::Result<()> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let mut log = Log::create(disk, data_dir.join(ROOMS))?;
    let mut progress = Progress::counted("rooms", world.rooms);
    let (mut lines, mut synced) = (Vec::new(), 0);
    for room in 1..=world.rooms {
        let members = world.members(room);
        let change = RoomChange::Created {
            op: OpId { instance: INSTANCE, count: room },
            room_id: world::room_id(room),
            name: format!("room {room}"),
            open: room <= world::OPEN_ROOMS,
            created_by: world.creator(room),
            members,
            source: None,
        };
        let record = RoomRecord { rev: room, change, at: BEGIN_MS, after_seq: 0, synced };
        record::encode(&record, &mut lines);
        if lines.len() >= BATCH_BYTES || room == world.rooms {
            log.append(&lines, true)?;
            lines.clear();
            synced = room;
        }
        progress.item(room);
    }
    progress.finish();
    Ok(())
}

/// Writes the messages' files of a data directory that has none, or none with a message in it.
pub fn messages(world: &World, data_dir: &Path, per_file: u64) -> io::Result<()> {
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let log = Log::create(disk.clone(), Segment::at(data_dir, 1).path)?;
    let mut segments = Segments::resume(disk, data_dir.to_owned(), 1, 0, log, per_file);
    let mut progress = Progress::counted("messages", world.messages);
    let (mut lines, mut count, mut synced) = (Vec::new(), 0, 0);
    let (mut content, mut stamp) = (String::new(), Stamp::default());
    for seq in 1..=world.messages {
        let room = world.room_of(seq);
        let sender = world.creator(room);
        World::content(seq, &mut content);
        let message = Message {
            seq,
            id: OpId { instance: INSTANCE, count: world.rooms + seq },
            room_id: Cow::Owned(world::room_id(room)),
            sender: Cow::Owned(world::name(sender)),
            content: Cow::Borrowed(&content),
            timestamp_ms: BEGIN_MS + i64::try_from(seq).unwrap_or(0),
            client_id: None,
            user: sender,
            synced,
            imported: None,
        };
        record::encode_message(&message, &mut stamp, &mut lines);
        count += 1;
        if lines.len() >= BATCH_BYTES || count >= segments.room() || seq == world.messages {
            segments.append(&lines, count, true)?;
            lines.clear();
            (count, synced) = (0, seq);
        }
        progress.item(seq);
    }
    progress.finish();
    Ok(())
}
