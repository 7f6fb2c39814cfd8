//! The newest message of each room, on its way from the commit thread to the index.
//!
//! Committing must never wait for the index, so this is not a queue but a table: what is not taken
//! in time is overwritten by what is newer. It is bounded, too: while the index can't be written, more
//! rooms may have new messages than there are places, and then the table is emptied and only remembers
//! that the index has to be told from the log. `Sync`s travel with it, which puts them behind
//! everything that was published before them.

use std::collections::HashMap;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;

use super::batch::{Batch, PeerId};
use crate::chat::{OpId, UserId};
use crate::config::HEADS;

/// What is waiting.
#[derive(Default)]
pub struct Waiting {
    /// For each room with new messages, the newest.
    pub rooms: HashMap<String, u64, foldhash::fast::RandomState>,
    /// There were too many rooms: the log has to tell what the table lost.
    pub spilt: bool,
    /// The last message of all; 0: none is waiting.
    pub last: u64,
    /// Whom to tell that the index shows all this. Bounded by what workers may leave unanswered.
    pub syncs: Vec<(PeerId, u64)>,
    /// Deletions of messages that are asked for.
    pub sealed: Vec<Sealed>,
}

/// A deletion of messages, put in order: all that was stored before it is in files before a new one.
#[derive(Clone, Copy, Debug)]
pub struct Sealed {
    /// The connection it came on.
    pub peer: PeerId,
    /// The operation.
    pub op: OpId,
    /// Who asks.
    pub by: UserId,
    /// The last message before it.
    pub upto: u64,
    /// Number of the new file.
    pub first_file: u64,
}

impl Waiting {
    fn note(&mut self, room: &str, seq: u64) {
        if let Some(head) = self.rooms.get_mut(room) {
            *head = seq.max(*head);
        } else if self.rooms.len() >= HEADS {
            self.rooms = HashMap::default();
            self.spilt = true;
        } else if !self.spilt {
            self.rooms.insert(room.to_owned(), seq);
        }
    }
}

/// The commit thread's end. The other end hears when it is gone.
pub struct HeadsIn {
    table: Arc<Mutex<Waiting>>,
    wake: Sender<()>,
}

/// The directory thread's end.
pub struct HeadsOut {
    table: Arc<Mutex<Waiting>>,
}

/// An empty table, and what hears of its first entry and of every `Sync`.
pub fn table() -> (HeadsIn, HeadsOut, Receiver<()>) {
    let table = Arc::new(Mutex::new(Waiting::default()));
    let (wake, woken) = bounded(1);
    (HeadsIn { table: table.clone(), wake }, HeadsOut { table }, woken)
}

impl HeadsIn {
    /// Adds what is handed over for publication, and the `Sync`s behind it.
    pub fn add(&self, batch: Option<&Batch>, syncs: &mut Vec<(PeerId, u64)>) {
        let mut waiting = self.table.lock();
        let (first, before) = (waiting.last == 0, waiting.rooms.len());
        for (room, seq) in batch.into_iter().flat_map(Batch::heads) {
            waiting.note(room, seq);
        }
        waiting.last = waiting.last.max(batch.map_or(0, Batch::last_seq));
        let filling = before < HEADS / 2 && waiting.rooms.len() >= HEADS / 2;
        let wake = first || filling || !syncs.is_empty();
        waiting.syncs.append(syncs);
        drop(waiting);
        if wake {
            // Full: it has been woken and has not looked yet.
            let _ = self.wake.try_send(());
        }
    }
}

impl HeadsIn {
    /// Adds a deletion of messages, behind what was added before.
    pub fn seal(&self, sealed: Sealed) {
        self.table.lock().sealed.push(sealed);
        // Full: it has been woken and has not looked yet.
        let _ = self.wake.try_send(());
    }
}

impl HeadsOut {
    /// Whether somebody waits for an answer, or the table fills up.
    pub fn is_urgent(&self) -> bool {
        let waiting = self.table.lock();
        !waiting.syncs.is_empty() || !waiting.sealed.is_empty() || waiting.rooms.len() >= HEADS / 2
    }

    /// Takes all there is.
    pub fn take(&self) -> Waiting {
        std::mem::take(&mut self.table.lock())
    }

    /// Puts back what could not be applied, behind what has come meanwhile.
    pub fn put_back(&self, earlier: Waiting) {
        let mut waiting = self.table.lock();
        if earlier.spilt {
            waiting.spilt = true;
            waiting.rooms = HashMap::default();
        }
        for (room, seq) in earlier.rooms {
            waiting.note(&room, seq);
        }
        waiting.last = waiting.last.max(earlier.last);
        waiting.syncs.splice(0..0, earlier.syncs);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_applied_stays_bounded_and_nothing_is_forgotten() {
        let (_heads, out, _woken) = table();
        let mut earlier = Waiting { last: 7, ..Waiting::default() };
        earlier.rooms.insert("a".to_owned(), 7);
        out.put_back(earlier);
        {
            let mut waiting = out.table.lock();
            waiting.note("a", 6);
            waiting.note("b", 8);
            assert_eq!((waiting.rooms["a"], waiting.rooms["b"], waiting.spilt), (7, 8, false));
            for room in 0..HEADS {
                waiting.note(&room.to_string(), 9 + room as u64);
                assert!(waiting.rooms.len() <= HEADS);
            }
            assert!(waiting.spilt && waiting.rooms.is_empty());
        }
        let taken = out.take();
        assert!(taken.spilt && taken.last == 7 && !out.table.lock().spilt);
        out.table.lock().note("c", 1);
        out.put_back(taken);
        assert!(out.table.lock().spilt && out.table.lock().rooms.is_empty());
    }
}
