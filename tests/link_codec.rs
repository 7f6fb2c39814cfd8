//! The link's bytes: what is written is read, however it is cut, and no bytes do harm.

use std::net::IpAddr;

use minitalk::chat::{Code, OpId, Refusal, RoomEvent};
use minitalk::link::codec::{decode, encode, split};
use minitalk::link::frame::{
    AtHome, Change, FromWriter, Login, Message, NewPassword, NewRoom, NewUser, Others, Outcome, Position,
    Purpose, Ticket, ToWriter, Visitors,
};
use proptest::prelude::*;

fn changes() -> impl Strategy<Value = Change> {
    let names = || prop::collection::vec(".{0,12}", 0..4);
    let user = ("\\PC*", ".*").prop_map(|(username, password)| NewUser { username, password });
    let room = (".{0,9}", ".*", names(), any::<bool>())
        .prop_map(|(room_id, name, participants, open)| NewRoom { room_id, name, participants, open });
    prop_oneof![
        prop::collection::vec(user, 0..4).prop_map(Change::CreateUsers),
        (any::<u64>(), prop::collection::vec(room, 0..4))
            .prop_map(|(creator, rooms)| Change::CreateRooms { creator, rooms }),
        (".*", any::<u64>(), names()).prop_map(|(room_id, by, participants)| Change::Invite {
            room_id,
            by,
            participants
        }),
        (".*", any::<u64>()).prop_map(|(room_id, user)| Change::Join { room_id, user }),
        (".*", any::<u64>()).prop_map(|(room_id, user)| Change::Leave { room_id, user }),
        any::<(u64, u32)>().prop_map(|(user, generation)| Change::Revoke { user, generation }),
        (any::<(u64, u32)>(), ".*", ".*").prop_map(|((user, generation), replaces, password)| {
            let password = NewPassword { user, replaces, password };
            Change::ChangePassword { password, generation }
        }),
        any::<u64>().prop_map(|by| Change::DeleteUsers { by }),
        (any::<u64>(), ".*", ".*").prop_map(|(user, replaces, password)| {
            Change::SetPasswords(vec![NewPassword { user, replaces, password }])
        }),
    ]
}

fn events() -> impl Strategy<Value = RoomEvent> {
    let users = || prop::collection::vec(any::<u64>(), 0..6);
    prop_oneof![
        (".*", users()).prop_map(|(room_id, members)| RoomEvent::Created { room_id, members }),
        (".*", users()).prop_map(|(room_id, users)| RoomEvent::Joined { room_id, users }),
        (".*", any::<u64>(), any::<bool>()).prop_map(|(room_id, user, deleted)| RoomEvent::Left {
            room_id,
            user,
            deleted
        }),
    ]
}

fn outcomes() -> impl Strategy<Value = Outcome> {
    let refusal = || ".*".prop_map(|text| Refusal::new(Code::UsernameTaken, text));
    let user = prop_oneof![any::<u64>().prop_map(Ok), refusal().prop_map(Err)];
    let room = prop_oneof![Just(Ok(())), refusal().prop_map(Err)];
    prop_oneof![
        (any::<[u64; 3]>(), any::<i64>()).prop_map(|([seq, instance, count], timestamp_ms)| {
            Outcome::Posted { seq, id: OpId { instance, count }, timestamp_ms }
        }),
        prop::collection::vec(user, 0..5).prop_map(Outcome::Users),
        prop::collection::vec(room, 0..5).prop_map(Outcome::Rooms),
        (any::<u64>(), any::<i64>()).prop_map(|(count, at_ms)| Outcome::Deleted { count, at_ms }),
        Just(Outcome::Ok),
        any::<u32>().prop_map(|generation| Outcome::Revoked { generation }),
        any::<(u64, Vec<u8>)>().prop_map(|(user, payload)| Outcome::Ticket { user, payload }),
    ]
}

fn visitors() -> impl Strategy<Value = Visitors> {
    let addresses = prop::collection::vec(any::<(IpAddr, u32)>(), 0..5);
    let users = prop::collection::vec(any::<(u64, u32)>(), 0..5);
    (addresses, users).prop_map(|(addresses, users)| Visitors { addresses, users })
}

proptest! {
    #[test]
    fn what_workers_say(
        numbers: [u64; 4],
        texts: [String; 3],
        client_id: Option<String>,
        known: Option<(u64, u64)>,
        ticket: (u128, Vec<u8>),
        change in changes(),
        visitors in visitors(),
        login: (u16, IpAddr, bool),
        pairs: Vec<(u64, u64)>,
    ) {
        let [count, user, instance, ttl_ms] = numbers;
        let (id, payload) = ticket;
        let [sender, room_id, content] = &texts;
        let known = known.map(|(seq, rev)| Position { seq, rev });
        let said = [
            ToWriter::Hello { version: 1, worker: 3, instance, known },
            ToWriter::Post { count, sent_us: ttl_ms, user, sender, room_id, content, client_id: client_id.as_deref() },
            ToWriter::Change { count, change },
            ToWriter::Sync { count },
            ToWriter::Typing { room_id, user, username: sender },
            ToWriter::IssueTicket {
                count,
                ticket: Ticket { id, purpose: Purpose::Challenge, user, payload, ttl_ms },
            },
            ToWriter::RedeemTicket { count, purpose: Purpose::Chat, id },
            ToWriter::Visitors(visitors),
            ToWriter::Login(Login { worker: login.0, name: sender, address: login.1, with_token: login.2, right: !login.2 }),
            ToWriter::AtHome(AtHome { worker: login.0, ask: login.2, pairs }),
            ToWriter::DeleteMessages { count, by: user },
        ];
        let mut bytes = Vec::new();
        for frame in &said {
            encode(frame, &mut bytes)?;
        }
        let mut at = 0;
        for frame in &said {
            let (body, used) = split(&bytes[at..])?.expect("a whole frame");
            prop_assert_eq!(&decode::<ToWriter<'_>>(body)?, frame);
            at += used;
        }
        prop_assert_eq!(at, bytes.len());
    }

    #[test]
    fn what_the_writer_says(
        numbers: [u64; 4],
        texts: [String; 2],
        timestamp_ms: i64,
        events in prop::collection::vec(events(), 0..4),
        outcome in outcomes(),
        elsewhere: (IpAddr, u32, u16),
        login: (u16, IpAddr, bool),
        pairs: Vec<(u64, u64)>,
    ) {
        let (address, connections, workers) = elsewhere;
        let others = Others { connections, workers };
        let [seq, rev, instance, count] = numbers;
        let [room_id, fields] = &texts;
        let message = Message { seq, origin: OpId { instance, count }, timestamp_ms, room_id, fields };
        let said = [
            FromWriter::Welcome { position: Position { seq, rev } },
            FromWriter::Messages { messages: vec![message; 3] },
            FromWriter::Rooms { rev, events },
            FromWriter::Typing { room_id, user: count, username: fields },
            FromWriter::Done { count, outcome },
            FromWriter::Refused { count, refusal: Refusal::overloaded() },
            FromWriter::Revoked,
            FromWriter::Elsewhere { addresses: vec![(address, others)], users: vec![(count, others); 2] },
            FromWriter::Login(Login { worker: login.0, name: room_id, address: login.1, with_token: login.2, right: !login.2 }),
            FromWriter::AtHome(AtHome { worker: login.0, ask: login.2, pairs }),
            FromWriter::UsersDeleted { last_user: count },
            FromWriter::Afresh { position: Position { seq, rev } },
        ];
        for frame in &said {
            let mut bytes = Vec::new();
            encode(frame, &mut bytes)?;
            let (body, _) = split(&bytes)?.expect("a whole frame");
            prop_assert_eq!(&decode::<FromWriter<'_>>(body)?, frame);
        }
    }

    #[test]
    fn no_bytes_do_harm(bytes: Vec<u8>) {
        if let Ok(Some((body, used))) = split(&bytes) {
            prop_assert!(used <= bytes.len());
            let _ = decode::<ToWriter<'_>>(body);
        }
        let _ = decode::<ToWriter<'_>>(&bytes);
        let _ = decode::<FromWriter<'_>>(&bytes);
    }
}
