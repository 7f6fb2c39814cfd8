//! Who hears what on this worker: users, their rooms, and the sockets seated in each room.
//!
//! Membership belongs to users, seats to sockets: `leave_room` takes one socket's seat, while
//! leaving a room takes the membership and with it the seats of all the user's sockets. Only users
//! with a socket here, and rooms with such a user, are held.
//!
//! A seat knows its place in its room and its place with its socket, so that taking one away costs
//! the same in a room of ten as of ten thousand.
//!
//! A user's rooms come from the index in pages ([`super::entry`]), while changes of them arrive as
//! events. The user is held from before the first page is read: a room that it leaves meanwhile is
//! remembered, so that a page read earlier does not bring it back, and one that it joins is there
//! whether or not a page shows it. So when all pages are in, the user is where the events say.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use slab::Slab;
use smallvec::SmallVec;

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
    /// By [`Doing`].
    paces: [Pace; DOINGS],
    /// There until the index has told all of its rooms.
    learning: Option<Box<Learning>>,
}

/// What is known of a user whose rooms are still being read. Bounded by the rooms a user may be in.
#[derive(Default)]
struct Learning {
    /// Where the next page begins.
    after: RoomKey,
    /// Rooms of the pages so far, each with the user counted.
    found: Vec<RoomIdx>,
    /// Rooms that the user has left since it is held.
    left: HashSet<Box<str>>,
}

/// A room's place in the order in which the index lists a user's rooms.
type RoomKey = i64;

struct Socket {
    user: u32,
    seats: SmallVec<[Place; 2]>,
    /// Rooms from this one on have not been given a seat yet; [`SEATED`] when all have.
    next: RoomIdx,
}

/// Behind every room there can be.
const SEATED: RoomIdx = RoomIdx::MAX;

/// A seat as its socket knows it.
struct Place {
    room: RoomIdx,
    /// Index in the room's `seats`.
    at: u32,
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

    /// Gives a socket up to `most` of the seats it lacks, and takes them off that number. True: it sits
    /// in all rooms of its user.
    pub fn seat_some(&mut self, slot: Slot, most: &mut usize) -> bool {
        let Some(socket) = self.socket(slot) else {
            return false;
        };
        let user = &self.users[usize_of(socket.user)];
        if user.learning.is_some() {
            return false;
        }
        let from = user.rooms.partition_point(|room| *room < socket.next);
        let rooms: Vec<RoomIdx> = user.rooms[from..].iter().take(*most).copied().collect();
        let all = from + rooms.len() == user.rooms.len();
        *most -= rooms.len();
        for room in &rooms {
            self.take_seat(slot, *room);
        }
        if let Some(socket) = self.sockets[usize_of(slot)].as_mut() {
            match rooms.last() {
                _ if all => socket.next = SEATED,
                Some(last) => socket.next = last + 1,
                None => {}
            }
        }
        all
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
        self.rooms.get(usize_of(room)).map_or(&[], |room| room.seats.as_slice())
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
