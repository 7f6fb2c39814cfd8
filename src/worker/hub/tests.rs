//! The hub against the same rules in their plainest form.

use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug)]
enum Step {
    Connect(Slot, UserId),
    Disconnect(Slot),
    Join(UserId, u8),
    Leave(UserId, u8),
    Mute(Slot, u8),
    Unmute(Slot, u8),
}

fn step() -> impl Strategy<Value = Step> {
    let (slot, user, room) = (0_u32..6, 1_u64..4, 0_u8..4);
    prop_oneof![
        (slot.clone(), user.clone()).prop_map(|(s, u)| Step::Connect(s, u)),
        slot.clone().prop_map(Step::Disconnect),
        (user.clone(), room.clone()).prop_map(|(u, r)| Step::Join(u, r)),
        (user, room.clone()).prop_map(|(u, r)| Step::Leave(u, r)),
        (slot.clone(), room.clone()).prop_map(|(s, r)| Step::Mute(s, r)),
        (slot, room).prop_map(|(s, r)| Step::Unmute(s, r)),
    ]
}

/// The same rules in the plainest form.
#[derive(Default)]
struct Model {
    members: BTreeMap<u8, BTreeSet<UserId>>,
    sockets: BTreeMap<Slot, UserId>,
    muted: BTreeSet<(Slot, u8)>,
}

impl Model {
    fn heard(&self, room: u8) -> BTreeSet<Slot> {
        let member = |user: &UserId| self.members.get(&room).is_some_and(|m| m.contains(user));
        let hears = |slot: &Slot, user: &UserId| member(user) && !self.muted.contains(&(*slot, room));
        self.sockets.iter().filter(|(slot, user)| hears(slot, user)).map(|(slot, _)| *slot).collect()
    }
}

fn room_id(room: u8) -> String {
    format!("room-{room}")
}

fn run(hub: &mut Hub, model: &mut Model, step: Step) {
    match step {
        Step::Connect(slot, user) => {
            if model.sockets.insert(slot, user).is_some() {
                hub.disconnect(slot);
            }
            model.muted.retain(|(other, _)| *other != slot);
            let rooms: Vec<String> =
                model.members.iter().filter(|(_, m)| m.contains(&user)).map(|(r, _)| room_id(*r)).collect();
            hub.connect(slot, user, "name", &rooms);
        }
        Step::Disconnect(slot) => {
            model.sockets.remove(&slot);
            hub.disconnect(slot);
        }
        Step::Join(user, room) => {
            model.members.entry(room).or_default().insert(user);
            hub.apply(&RoomEvent::Joined { room_id: room_id(room), users: vec![user] });
        }
        Step::Leave(user, room) => {
            model.members.entry(room).or_default().remove(&user);
            let leavers = model.sockets.iter().filter(|(_, u)| **u == user).map(|(s, _)| *s);
            let leavers: BTreeSet<Slot> = leavers.collect();
            model.muted.retain(|(slot, r)| *r != room || !leavers.contains(slot));
            hub.apply(&RoomEvent::Left { room_id: room_id(room), user, deleted: false });
        }
        Step::Mute(slot, room) => {
            if hub.mute(slot, &room_id(room)) {
                model.muted.insert((slot, room));
            }
        }
        Step::Unmute(slot, room) => {
            if hub.unmute(slot, &room_id(room)) {
                model.muted.remove(&(slot, room));
            }
        }
    }
}

#[test]
fn what_a_second_socket_brings_from_the_index_seats_the_first_as_well() {
    let mut hub = Hub::default();
    hub.connect(1, 7, "name", &[]);
    hub.connect(2, 7, "name", &["r".to_owned()]);
    hub.apply(&RoomEvent::Joined { room_id: "r".to_owned(), users: vec![7] });
    let seats = hub.room("r").map_or(&[][..], |room| hub.seats(room));
    let mut slots: Vec<Slot> = seats.iter().map(|seat| seat.slot).collect();
    slots.sort_unstable();
    assert_eq!(slots, [1, 2]);
}

proptest! {
    #[test]
    fn hears_what_the_plain_rules_say(steps in proptest::collection::vec(step(), 1..80)) {
        let (mut hub, mut model) = (Hub::default(), Model::default());
        for step in steps {
            run(&mut hub, &mut model, step.clone());
            for room in 0..4 {
                let seats = hub.room(&room_id(room)).map_or(&[][..], |r| hub.seats(r));
                let heard: BTreeSet<Slot> = seats.iter().map(|seat| seat.slot).collect();
                prop_assert_eq!(heard.len(), seats.len(), "a seat twice after {:?}", step);
                prop_assert_eq!(heard, model.heard(room), "room {} after {:?}", room, step);
            }
        }
        for slot in 0..6 {
            hub.disconnect(slot);
        }
        prop_assert!(hub.rooms.is_empty() && hub.users.is_empty() && hub.rooms_by_id.is_empty());
    }
}
