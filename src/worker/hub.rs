//! Who hears what on this worker: users, their rooms, and the sockets seated in each room.
//!
//! Membership belongs to users, seats to sockets: `leave_room` takes one socket's seat, while
//! leaving a room takes the membership and with it the seats of all the user's sockets. Only users
//! with a socket here, and rooms with such a user, are held.
//!
//! A seat knows its place in its room and its place with its socket, so that taking one away costs
//! the same in a room of ten as of ten thousand.

use std::collections::HashMap;

use slab::Slab;
use smallvec::SmallVec;

use crate::chat::{Pace, RoomEvent, UserId};

type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// Index of a connection in the worker's table.
pub type Slot = u32;

/// Index of a room in the hub; valid until the room's last local user is gone.
pub type RoomIdx = u32;

/// The users, rooms and seats of one worker.
#[derive(Default)]
pub struct Hub {
    rooms: Slab<Room>,
    rooms_by_id: Map<Box<str>, RoomIdx>,
    users: Slab<User>,
    users_by_number: Map<UserId, u32>,
    sockets: Vec<Option<Socket>>,
}

struct Room {
    id: Box<str>,
    seats: Vec<Seat>,
    /// Local users that are members; the room is forgotten with the last.
    users: u32,
}

/// A socket in a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    /// The socket.
    pub slot: Slot,
    /// Where the socket keeps this seat.
    entry: u32,
}

struct User {
    number: UserId,
    name: Box<str>,
    sockets: SmallVec<[Slot; 2]>,
    /// Sorted. Most users are in few rooms; those need no memory of their own.
    rooms: SmallVec<[RoomIdx; 4]>,
    pace: Pace,
}

struct Socket {
    user: u32,
    seats: SmallVec<[Place; 2]>,
}

/// A seat as its socket knows it.
struct Place {
    room: RoomIdx,
    /// Index in the room's `seats`.
    at: u32,
}

impl Hub {
    /// Seats a new socket in all rooms of its user. `room_ids` is what the index says now; what the
    /// hub knew of an already connected user is completed by it.
    pub fn connect(&mut self, slot: Slot, number: UserId, name: &str, room_ids: &[String]) {
        let user = match self.users_by_number.get(&number) {
            Some(user) => *user,
            None => {
                let user = index(self.users.insert(User {
                    number,
                    name: name.into(),
                    sockets: SmallVec::new(),
                    rooms: SmallVec::new(),
                    pace: Pace::default(),
                }));
                self.users_by_number.insert(number, user);
                user
            }
        };
        for id in room_ids {
            let room = self.room_or_new(id);
            // The user's other sockets learn of it as well: to its own event it will be no news.
            self.join(user, room);
        }
        let at = usize_of(slot);
        if self.sockets.len() <= at {
            self.sockets.resize_with(at + 1, || None);
        }
        self.sockets[at] = Some(Socket { user, seats: SmallVec::new() });
        self.users[usize_of(user)].sockets.push(slot);
        let rooms = self.users[usize_of(user)].rooms.clone();
        for room in rooms {
            self.take_seat(slot, room);
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
        if user.sockets.is_empty() {
            let gone = self.users.remove(usize_of(socket.user));
            self.users_by_number.remove(&gone.number);
            for room in gone.rooms {
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
                let user = self.users_by_number.get(user).copied();
                let room = self.rooms_by_id.get(room_id.as_str()).copied();
                if let (Some(user), Some(room)) = (user, room) {
                    self.leave(user, room);
                }
            }
        }
    }

    /// Number and name of a socket's user.
    pub fn user(&self, slot: Slot) -> Option<(UserId, &str)> {
        let user = self.users.get(usize_of(self.socket(slot)?.user))?;
        Some((user.number, &user.name))
    }

    /// How fast a socket's user sends.
    pub fn pace(&mut self, slot: Slot) -> Option<&mut Pace> {
        let user = usize_of(self.socket(slot)?.user);
        self.users.get_mut(user).map(|user| &mut user.pace)
    }

    /// Sockets of one user on this worker.
    pub fn sockets_of(&self, number: UserId) -> usize {
        self.users_by_number.get(&number).map_or(0, |user| self.users[usize_of(*user)].sockets.len())
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

    /// Gives a socket its seat back. False: its user is not a member.
    pub fn unmute(&mut self, slot: Slot, room_id: &str) -> bool {
        match self.membership(slot, room_id) {
            Some(room) => {
                self.seat(slot, room);
                true
            }
            None => false,
        }
    }

    /// Takes a socket's seat; its user stays a member. False: the user is not one.
    pub fn mute(&mut self, slot: Slot, room_id: &str) -> bool {
        let Some(room) = self.membership(slot, room_id) else {
            return false;
        };
        self.unseat(slot, room);
        true
    }

    /// The room, if anybody here is in it.
    pub fn room(&self, room_id: &str) -> Option<RoomIdx> {
        self.rooms_by_id.get(room_id).copied()
    }

    /// The sockets seated in a room.
    pub fn seats(&self, room: RoomIdx) -> &[Seat] {
        self.rooms.get(usize_of(room)).map_or(&[], |room| &room.seats)
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
                let room = index(self.rooms.insert(Room { id: id.into(), seats: Vec::new(), users: 0 }));
                self.rooms_by_id.insert(id.into(), room);
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
        if self.admit(user, room) {
            for slot in self.users[usize_of(user)].sockets.clone() {
                self.seat(slot, room);
            }
        }
    }

    fn leave(&mut self, user: u32, room: RoomIdx) {
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

    fn seat(&mut self, slot: Slot, room: RoomIdx) {
        let seated = |socket: &Socket| socket.seats.iter().any(|place| place.room == room);
        if !self.socket(slot).is_none_or(seated) {
            self.take_seat(slot, room);
        }
    }

    /// Seats a socket that is known to have no seat in the room.
    fn take_seat(&mut self, slot: Slot, room: RoomIdx) {
        let Some(socket) = self.sockets.get_mut(usize_of(slot)).and_then(Option::as_mut) else {
            return;
        };
        let seats = &mut self.rooms[usize_of(room)].seats;
        socket.seats.push(Place { room, at: index(seats.len()) });
        seats.push(Seat { slot, entry: index(socket.seats.len() - 1) });
    }

    fn unseat(&mut self, slot: Slot, room: RoomIdx) {
        let Some(socket) = self.sockets.get_mut(usize_of(slot)).and_then(Option::as_mut) else {
            return;
        };
        let Some(entry) = socket.seats.iter().position(|place| place.room == room) else {
            return;
        };
        let place = socket.seats.swap_remove(entry);
        if let Some(moved) = socket.seats.get(entry) {
            self.rooms[usize_of(moved.room)].seats[usize_of(moved.at)].entry = index(entry);
        }
        self.vacate(place);
    }

    /// Takes a seat out of its room and tells the seat that moves into its place.
    fn vacate(&mut self, place: Place) {
        let seats = &mut self.rooms[usize_of(place.room)].seats;
        seats.swap_remove(usize_of(place.at));
        if let Some(moved) = seats.get(usize_of(place.at)).copied()
            && let Some(socket) = self.sockets[usize_of(moved.slot)].as_mut()
        {
            socket.seats[usize_of(moved.entry)].at = place.at;
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
