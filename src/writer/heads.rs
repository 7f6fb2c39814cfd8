//! The newest message of each room, on its way from the commit thread to the index.
//!
//! Committing must never wait for the index, so this is not a queue but a table: what is not taken
//! in time is overwritten by what is newer. `Sync`s travel with it, which puts them behind
//! everything that was published before them.

use std::collections::HashMap;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;

use super::batch::{Batch, PeerId};

/// What is waiting.
#[derive(Default)]
pub struct Waiting {
    /// For each room with new messages, the newest.
    pub rooms: HashMap<String, u64, foldhash::fast::RandomState>,
    /// The last message of all; 0: none is waiting.
    pub last: u64,
    /// Whom to tell that the index shows all this. Bounded by what workers may leave unanswered.
    pub syncs: Vec<(PeerId, u64)>,
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
        let wake = waiting.last == 0 || !syncs.is_empty();
        for (room, seq) in batch.into_iter().flat_map(Batch::heads) {
            match waiting.rooms.get_mut(room) {
                Some(head) => *head = seq,
                None => drop(waiting.rooms.insert(room.to_owned(), seq)),
            }
        }
        waiting.last = waiting.last.max(batch.map_or(0, Batch::last_seq));
        waiting.syncs.append(syncs);
        drop(waiting);
        if wake {
            // Full: it has been woken and has not looked yet.
            let _ = self.wake.try_send(());
        }
    }
}

impl HeadsOut {
    /// Whether somebody waits for an answer.
    pub fn is_urgent(&self) -> bool {
        !self.table.lock().syncs.is_empty()
    }

    /// Takes all there is.
    pub fn take(&self) -> Waiting {
        std::mem::take(&mut self.table.lock())
    }

    /// Puts back what could not be applied, behind what has come meanwhile.
    pub fn put_back(&self, earlier: Waiting) {
        let mut waiting = self.table.lock();
        for (room, seq) in earlier.rooms {
            let head = waiting.rooms.entry(room).or_insert(seq);
            *head = seq.max(*head);
        }
        waiting.last = waiting.last.max(earlier.last);
        waiting.syncs.splice(0..0, earlier.syncs);
    }
}
