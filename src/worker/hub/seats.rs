//! The sockets seated in each room.
//!
//! A seat knows its place in its room and its place with its socket, so that taking one away costs the same in
//! a room of ten as of ten thousand.

use smallvec::SmallVec;

use super::{Hub, RoomIdx, index, usize_of};
use crate::engine::table::Slot;

/// A socket in a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    /// The socket.
    pub slot: Slot,
    /// Where the socket keeps this seat.
    entry: u32,
}

/// A socket of a user's.
pub(super) struct Socket {
    pub(super) user: u32,
    pub(super) seats: SmallVec<[Place; 2]>,
    /// Rooms from this one on have not been given a seat yet; [`SEATED`] when all have.
    pub(super) next: RoomIdx,
}

/// Behind every room there can be.
const SEATED: RoomIdx = RoomIdx::MAX;

/// A seat as its socket knows it.
pub(super) struct Place {
    room: RoomIdx,
    /// Index in the room's `seats`.
    at: u32,
}

impl Hub {
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

    /// The sockets seated in a room.
    pub fn seats(&self, room: RoomIdx) -> &[Seat] {
        self.rooms.get(usize_of(room)).map_or(&[], |room| room.seats.as_slice())
    }

    fn seat(&mut self, slot: Slot, room: RoomIdx) {
        let seated = |socket: &Socket| socket.seats.iter().any(|place| place.room == room);
        if !self.socket(slot).is_none_or(seated) {
            self.take_seat(slot, room);
        }
    }

    /// Seats a socket that is known to have no seat in the room.
    pub(super) fn take_seat(&mut self, slot: Slot, room: RoomIdx) {
        let Some(socket) = self.sockets.get_mut(usize_of(slot)).and_then(Option::as_mut) else {
            return;
        };
        let seats = &mut self.rooms[usize_of(room)].seats;
        socket.seats.push(Place { room, at: index(seats.len()) });
        seats.push(Seat { slot, entry: index(socket.seats.len() - 1) });
    }

    pub(super) fn unseat(&mut self, slot: Slot, room: RoomIdx) {
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
    pub(super) fn vacate(&mut self, place: Place) {
        let seats = &mut self.rooms[usize_of(place.room)].seats;
        seats.swap_remove(usize_of(place.at));
        if let Some(moved) = seats.get(usize_of(place.at)).copied()
            && let Some(socket) = self.sockets[usize_of(moved.slot)].as_mut()
        {
            socket.seats[usize_of(moved.entry)].at = place.at;
        }
    }
}
