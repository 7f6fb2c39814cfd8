//! Who hears what on this worker: users, their rooms, and the sockets seated in each room.
//!
//! Membership belongs to users, seats to sockets: `leave_room` takes one socket's seat, while
//! leaving a room takes the membership and with it the seats of all the user's sockets. Only users
//! with a socket here, and rooms with such a user, are held.
//!
//! [`seats`] says who sits where, [`learning`] how a user's rooms come in from the index while they change.

mod learning;
mod seats;

use std::collections::HashMap;
use std::sync::Arc;

use slab::Slab;
use smallvec::SmallVec;

use self::learning::Learning;
use self::seats::{Seat, Socket};
use crate::chat::{Pace, RoomEvent, UserId};
use crate::engine::table::Slot;
use crate::link::census::Untold;

type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// Index of a room in the hub; valid until the room's last local user is gone.
pub type RoomIdx = u32;

/// The users, rooms and seats of one worker.
#[derive(Default)]
pub struct Hub {
    rooms: Slab<Room>,
    rooms_by_id: Map<Arc<str>, RoomIdx>,
    users: Slab<User>,
    users_by_number: Map<UserId, u32>,
    sockets: Vec<Option<Socket>>,
    /// Users whose number of sockets the storage writer has not been told.
    pub untold: Untold<UserId>,
}

/// What a user does that has a rate of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// `send_message`
    Message,
    /// `typing`
    Typing,
    /// `join_room`
    Join,
    /// `leave_room`
    Leave,
    /// `get_messages`
    History,
}

/// How many of them there are.
const DOINGS: usize = 5;

struct Room {
    /// Shared with the map that finds it.
    id: Arc<str>,
    seats: SmallVec<[Seat; 2]>,
    /// Local users that are members; the room is forgotten with the last.
    users: u32,
}

struct User {
    number: UserId,
    name: Box<str>,
    sockets: SmallVec<[Slot; 2]>,
    /// Sorted. Most users are in few rooms; those need no memory of their own.
    rooms: SmallVec<[RoomIdx; 4]>,
    /// By [`Doing`].
    paces: [Pace; DOINGS],
    /// There until the index has told all of its rooms.
    learning: Option<Box<Learning>>,
}

impl Hub {
    /// Takes in a socket that wants to enter. It has no seat yet; [`Hub::wanted_page`] says what has to
    /// be read first, [`Hub::seat_some`] gives the seats.
    pub fn begin(&mut self, slot: Slot, number: UserId, name: &str) {
        let user = match self.users_by_number.get(&number) {
            Some(user) => *user,
            None => {
                let user = index(self.users.insert(User {
                    number,
                    name: name.into(),
                    sockets: SmallVec::new(),
                    rooms: SmallVec::new(),
                    paces: [Pace::default(); DOINGS],
                    learning: Some(Box::default()),
                }));
                self.users_by_number.insert(number, user);
                user
            }
        };
        let at = usize_of(slot);
        if self.sockets.len() <= at {
            self.sockets.resize_with(at + 1, || None);
        }
        self.sockets[at] = Some(Socket { user, seats: SmallVec::new(), next: 0 });
        self.users[usize_of(user)].sockets.push(slot);
        self.untold.add(number);
    }

    /// Gives a socket's user the name that the index has.
    pub fn rename(&mut self, slot: Slot, name: &str) {
        let user = self.socket(slot).map(|socket| usize_of(socket.user));
        if let Some(user) = user.and_then(|user| self.users.get_mut(user))
            && *user.name != *name
        {
            user.name = name.into();
        }
    }

    /// Forgets a socket, its user with the last one, and rooms nobody here is in any more.
    pub fn disconnect(&mut self, slot: Slot) {
        let Some(socket) = self.sockets.get_mut(usize_of(slot)).and_then(Option::take) else {
            return;
        };
        for place in socket.seats {
            self.vacate(place);
        }
        let user = &mut self.users[usize_of(socket.user)];
        user.sockets.retain(|other| *other != slot);
        self.untold.add(user.number);
        if user.sockets.is_empty() {
            let gone = self.users.remove(usize_of(socket.user));
            self.users_by_number.remove(&gone.number);
            for room in gone.rooms.into_iter().chain(gone.learning.into_iter().flat_map(|l| l.found)) {
                self.release(room);
            }
        }
    }

    /// Follows a change of membership made anywhere.
    pub fn apply(&mut self, event: &RoomEvent) {
        match event {
            RoomEvent::Created { room_id, members } | RoomEvent::Joined { room_id, users: members } => {
                for number in members {
                    if let Some(user) = self.users_by_number.get(number).copied() {
                        let room = self.room_or_new(room_id);
                        self.join(user, room);
                    }
                }
            }
            RoomEvent::Left { room_id, user, .. } => {
                if let Some(user) = self.users_by_number.get(user).copied() {
                    self.leave(user, room_id);
                }
            }
        }
    }

    /// Number and name of a socket's user.
    pub fn user(&self, slot: Slot) -> Option<(UserId, &str)> {
        let user = self.users.get(usize_of(self.socket(slot)?.user))?;
        Some((user.number, &user.name))
    }

    /// How fast a socket's user does something.
    pub fn pace(&mut self, slot: Slot, doing: Doing) -> Option<&mut Pace> {
        let user = usize_of(self.socket(slot)?.user);
        self.users.get_mut(user).map(|user| &mut user.paces[doing as usize])
    }

    /// The storage writer knows of nobody here.
    pub fn tell_all(&mut self) {
        self.users.iter().for_each(|(_, user)| self.untold.add(user.number));
    }

    /// Sockets of one user on this worker.
    pub fn sockets_of(&self, number: UserId) -> usize {
        self.users_by_number.get(&number).map_or(0, |user| self.users[usize_of(*user)].sockets.len())
    }

    /// The sockets of one user on this worker.
    pub fn slots_of(&self, number: UserId) -> &[Slot] {
        self.users_by_number.get(&number).map_or(&[], |user| &self.users[usize_of(*user)].sockets)
    }

    /// Whether a socket's user is a member of the room.
    pub fn is_member(&self, slot: Slot, room_id: &str) -> bool {
        self.membership(slot, room_id).is_some()
    }

    /// Takes up a membership that the index shows and whose event has not arrived yet.
    pub fn learn(&mut self, slot: Slot, room_id: &str) {
        if let Some(user) = self.socket(slot).map(|socket| socket.user) {
            let room = self.room_or_new(room_id);
            self.join(user, room);
        }
    }

    /// The room, if anybody here is in it.
    pub fn room(&self, room_id: &str) -> Option<RoomIdx> {
        self.rooms_by_id.get(room_id).copied()
    }

    /// Number of a socket's user, for leaving that user's sockets out.
    pub fn number(&self, slot: Slot) -> Option<UserId> {
        self.user(slot).map(|(number, _)| number)
    }

    fn socket(&self, slot: Slot) -> Option<&Socket> {
        self.sockets.get(usize_of(slot))?.as_ref()
    }

    fn membership(&self, slot: Slot, room_id: &str) -> Option<RoomIdx> {
        let room = self.room(room_id)?;
        let user = &self.users[usize_of(self.socket(slot)?.user)];
        user.rooms.binary_search(&room).is_ok().then_some(room)
    }

    fn room_or_new(&mut self, id: &str) -> RoomIdx {
        match self.rooms_by_id.get(id) {
            Some(room) => *room,
            None => {
                let id: Arc<str> = id.into();
                let room = Room { id: id.clone(), seats: SmallVec::new(), users: 0 };
                let room = index(self.rooms.insert(room));
                self.rooms_by_id.insert(id, room);
                room
            }
        }
    }

    /// Makes a user a member; false if it was one.
    fn admit(&mut self, user: u32, room: RoomIdx) -> bool {
        let rooms = &mut self.users[usize_of(user)].rooms;
        let Err(at) = rooms.binary_search(&room) else {
            return false;
        };
        rooms.insert(at, room);
        self.rooms[usize_of(room)].users += 1;
        true
    }

    fn join(&mut self, user: u32, room: RoomIdx) {
        if let Some(learning) = &mut self.users[usize_of(user)].learning {
            learning.left.remove(&*self.rooms[usize_of(room)].id);
        }
        if self.admit(user, room) {
            for slot in self.users[usize_of(user)].sockets.clone() {
                // A socket that is still being seated comes to rooms behind its place by itself.
                if self.socket(slot).is_some_and(|socket| room < socket.next) {
                    self.take_seat(slot, room);
                }
            }
        }
    }

    fn leave(&mut self, user: u32, room_id: &str) {
        if let Some(learning) = &mut self.users[usize_of(user)].learning {
            learning.left.insert(room_id.into());
        }
        let Some(room) = self.room(room_id) else {
            return;
        };
        let rooms = &mut self.users[usize_of(user)].rooms;
        if let Ok(at) = rooms.binary_search(&room) {
            rooms.remove(at);
            for slot in self.users[usize_of(user)].sockets.clone() {
                self.unseat(slot, room);
            }
            self.release(room);
        }
    }

    /// One local user less; the room goes with the last.
    fn release(&mut self, room: RoomIdx) {
        let at = usize_of(room);
        self.rooms[at].users -= 1;
        if self.rooms[at].users == 0 {
            let gone = self.rooms.remove(at);
            debug_assert!(gone.seats.is_empty(), "seats belong to users of the room");
            self.rooms_by_id.remove(&gone.id);
        }
    }
}

fn usize_of(index: u32) -> usize {
    index as usize
}

/// Slabs here hold at most as many entries as a process has connections times rooms; past four
/// billion the process is long out of memory.
fn index(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
