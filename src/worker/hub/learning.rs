//! Pages of a user's rooms, on their way in from the index ([`crate::worker::entry`]).
//!
//! Changes of the rooms arrive as events meanwhile. The user is held from before the first page is read: a
//! room that it leaves is remembered, so that a page read earlier does not bring it back, and one that it
//! joins is there whether or not a page shows it. So when all pages are in, the user is where the events say.

use std::collections::HashSet;

use super::{Hub, RoomIdx, usize_of};
use crate::engine::table::Slot;

/// What is known of a user whose rooms are still being read. Bounded by the rooms a user may be in.
#[derive(Default)]
pub(super) struct Learning {
    /// Where the next page begins.
    after: RoomKey,
    /// Rooms of the pages so far, each with the user counted.
    pub(super) found: Vec<RoomIdx>,
    /// Rooms that the user has left since it is held.
    pub(super) left: HashSet<Box<str>>,
}

/// A room's place in the order in which the index lists a user's rooms.
pub(super) type RoomKey = i64;

impl Hub {
    /// Behind which key the next page of the socket's user's rooms begins; `None`: all are known.
    pub fn wanted_page(&self, slot: Slot) -> Option<RoomKey> {
        let user = self.users.get(usize_of(self.socket(slot)?.user))?;
        user.learning.as_ref().map(|learning| learning.after)
    }

    /// Takes up a page of the socket's user's rooms that was read after [`Hub::begin`] of that socket.
    /// `after` is where it began, `next` where the one behind it begins, if there is one. A page that
    /// another socket of the user has brought already changes nothing.
    pub fn learn_page(&mut self, slot: Slot, after: RoomKey, room_ids: &[String], next: Option<RoomKey>) {
        if self.wanted_page(slot) != Some(after) {
            return;
        }
        let Some(user) = self.socket(slot).map(|socket| usize_of(socket.user)) else {
            return;
        };
        let mut found = Vec::with_capacity(room_ids.len());
        for id in room_ids {
            let room = self.room_or_new(id);
            self.rooms[usize_of(room)].users += 1;
            found.push(room);
        }
        if let Some(learning) = &mut self.users[user].learning {
            learning.found.append(&mut found);
            match next {
                Some(next) => learning.after = next,
                None => self.know_all(user),
            }
        }
    }

    /// The last page is in: the user is in the rooms found, but for those left since, and in those
    /// joined since.
    fn know_all(&mut self, user: usize) {
        let Some(mut learning) = self.users[user].learning.take() else {
            return;
        };
        learning.found.sort_unstable();
        let joined = std::mem::take(&mut self.users[user].rooms);
        let (mut rooms, mut surplus) = (joined.clone(), Vec::new());
        let mut last = None;
        for room in learning.found {
            let left = learning.left.contains(&*self.rooms[usize_of(room)].id);
            if left || last == Some(room) || joined.binary_search(&room).is_ok() {
                surplus.push(room);
            } else {
                rooms.push(room);
                last = Some(room);
            }
        }
        rooms.sort_unstable();
        rooms.shrink_to_fit();
        self.users[user].rooms = rooms;
        for room in surplus {
            self.release(room);
        }
    }
}
