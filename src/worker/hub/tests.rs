//! The hub against the same rules in their plainest form, with an index that is ahead of the events.

use super::learning::RoomKey;
use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

#[derive(Clone, Debug)]
enum Step {
    /// A socket wants to enter as a user.
    Begin(Slot, UserId),
    /// Reads the page that an entering socket wants.
    Read(Slot),
    /// Hands the page read over, and some seats.
    TakeIn(Slot, usize),
    Disconnect(Slot),
    /// The index changes; the event is on its way.
    Join(UserId, u8),
    Leave(UserId, u8),
    /// The next event arrives.
    Deliver,
    Mute(Slot, u8),
    Unmute(Slot, u8),
}

fn step() -> impl Strategy<Value = Step> {
    let (slot, user, room) = (0_u32..6, 1_u64..4, 0_u8..6);
    prop_oneof![
        2 => (slot.clone(), user.clone()).prop_map(|(s, u)| Step::Begin(s, u)),
        4 => slot.clone().prop_map(Step::Read),
        4 => (slot.clone(), 0_usize..3).prop_map(|(s, n)| Step::TakeIn(s, n)),
        1 => slot.clone().prop_map(Step::Disconnect),
        3 => (user.clone(), room.clone()).prop_map(|(u, r)| Step::Join(u, r)),
        3 => (user, room.clone()).prop_map(|(u, r)| Step::Leave(u, r)),
        4 => Just(Step::Deliver),
        1 => (slot.clone(), room.clone()).prop_map(|(s, r)| Step::Mute(s, r)),
        1 => (slot, room).prop_map(|(s, r)| Step::Unmute(s, r)),
    ]
}

/// Rooms in a page of this index.
const PAGE: usize = 2;

/// The same rules in the plainest form.
#[derive(Default)]
struct Model {
    /// What the index says.
    index: BTreeMap<UserId, BTreeSet<u8>>,
    /// What the events that have arrived say.
    heard_of: BTreeMap<UserId, BTreeSet<u8>>,
    events: VecDeque<RoomEvent>,
    sockets: BTreeMap<Slot, UserId>,
    /// Sockets that sit in all their rooms.
    inside: BTreeSet<Slot>,
    /// Pages on their way: where each began, its rooms, where the next begins.
    pages: BTreeMap<Slot, (RoomKey, Vec<String>, Option<RoomKey>)>,
    muted: BTreeSet<(Slot, u8)>,
}

impl Model {
    /// Rooms of a user behind a key; a room's key is its number and one.
    fn page(&self, user: UserId, after: RoomKey) -> (RoomKey, Vec<String>, Option<RoomKey>) {
        let rooms = self.index.get(&user).into_iter().flatten().map(|room| RoomKey::from(*room) + 1);
        let page: Vec<RoomKey> = rooms.filter(|key| *key > after).take(PAGE).collect();
        let next = if page.len() == PAGE { page.last().copied() } else { None };
        (after, page.iter().map(|key| format!("room-{}", key - 1)).collect(), next)
    }

    fn forget(&mut self, slot: Slot) {
        self.sockets.remove(&slot);
        self.inside.remove(&slot);
        self.pages.remove(&slot);
        self.muted.retain(|(other, _)| *other != slot);
    }
}

fn room_id(room: u8) -> String {
    format!("room-{room}")
}

fn run(hub: &mut Hub, model: &mut Model, step: Step) {
    match step {
        Step::Begin(slot, user) => {
            if model.sockets.contains_key(&slot) {
                hub.disconnect(slot);
            }
            model.forget(slot);
            model.sockets.insert(slot, user);
            hub.begin(slot, user, "name");
        }
        Step::Read(slot) => {
            if let (Some(user), Some(after)) = (model.sockets.get(&slot), hub.wanted_page(slot)) {
                model.pages.insert(slot, model.page(*user, after));
            }
        }
        Step::TakeIn(slot, mut seats) => {
            if let Some((after, rooms, next)) = model.pages.remove(&slot) {
                hub.learn_page(slot, after, &rooms, next);
            }
            if model.sockets.contains_key(&slot)
                && !model.inside.contains(&slot)
                && hub.seat_some(slot, &mut seats)
            {
                model.inside.insert(slot);
            }
        }
        Step::Disconnect(slot) => {
            model.forget(slot);
            hub.disconnect(slot);
        }
        Step::Join(user, room) => {
            if model.index.entry(user).or_default().insert(room) {
                model.events.push_back(RoomEvent::Joined { room_id: room_id(room), users: vec![user] });
            }
        }
        Step::Leave(user, room) => {
            if model.index.entry(user).or_default().remove(&room) {
                let event = RoomEvent::Left { room_id: room_id(room), user, deleted: false };
                model.events.push_back(event);
            }
        }
        Step::Deliver => deliver(hub, model),
        Step::Mute(slot, room) => {
            if model.inside.contains(&slot) && hub.mute(slot, &room_id(room)) {
                model.muted.insert((slot, room));
            }
        }
        Step::Unmute(slot, room) => {
            if model.inside.contains(&slot) && hub.unmute(slot, &room_id(room)) {
                model.muted.remove(&(slot, room));
            }
        }
    }
}

fn deliver(hub: &mut Hub, model: &mut Model) {
    let Some(event) = model.events.pop_front() else {
        return;
    };
    match &event {
        RoomEvent::Joined { room_id, users } => {
            let room = room_id[5..].parse().unwrap();
            model.heard_of.entry(users[0]).or_default().insert(room);
        }
        RoomEvent::Left { room_id, user, .. } => {
            let room = room_id[5..].parse().unwrap();
            model.heard_of.entry(*user).or_default().remove(&room);
            let theirs = |slot: &Slot| model.sockets.get(slot) == Some(user);
            model.muted.retain(|(slot, its)| *its != room || !theirs(slot));
        }
        RoomEvent::Created { .. } => {}
    }
    hub.apply(&event);
}

fn sits(hub: &Hub, slot: Slot, room: u8) -> bool {
    let seats = hub.room(&room_id(room)).map_or(&[][..], |room| hub.seats(room));
    let count = seats.iter().filter(|seat| seat.slot == slot).count();
    assert!(count <= 1, "a seat twice");
    count == 1
}

/// Who is inside hears its rooms but for those it muted. Events on their way may make a difference
/// of one room each; when none is, there is none.
fn check(hub: &Hub, model: &Model) {
    for slot in &model.inside {
        let user = model.sockets[slot];
        for room in 0..6 {
            let has = |of: &BTreeMap<UserId, BTreeSet<u8>>| of.get(&user).is_some_and(|r| r.contains(&room));
            let on_its_way = model.events.iter().any(|event| match event {
                RoomEvent::Joined { room_id: id, users } => users[0] == user && *id == room_id(room),
                RoomEvent::Left { room_id: id, user: who, .. } => *who == user && *id == room_id(room),
                RoomEvent::Created { .. } => false,
            });
            if on_its_way {
                continue;
            }
            assert_eq!(has(&model.index), has(&model.heard_of));
            let expected = has(&model.index) && !model.muted.contains(&(*slot, room));
            assert_eq!(sits(hub, *slot, room), expected, "socket {slot} in room {room}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]
    #[test]
    fn no_change_is_lost_or_undone_by_entering(steps in prop::collection::vec(step(), 1..120)) {
        let (mut hub, mut model) = (Hub::default(), Model::default());
        for step in steps {
            run(&mut hub, &mut model, step);
            check(&hub, &model);
        }
        // Everybody comes in, everything arrives.
        for slot in 0..6 {
            while model.sockets.contains_key(&slot) && !model.inside.contains(&slot) {
                run(&mut hub, &mut model, Step::Read(slot));
                run(&mut hub, &mut model, Step::TakeIn(slot, 1));
                check(&hub, &model);
            }
        }
        while !model.events.is_empty() {
            deliver(&mut hub, &mut model);
        }
        check(&hub, &model);
        for slot in 0..6 {
            hub.disconnect(slot);
        }
        prop_assert!(hub.rooms.is_empty() && hub.users.is_empty() && hub.rooms_by_id.is_empty());
    }
}
