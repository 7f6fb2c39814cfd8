use std::time::Duration;

use super::super::turn::Turn;
use super::super::{Engine, Message, Settings, socketio};
use super::*;

/// Counts events, and rests behind each if it is told to.
struct Counting {
    engine: Engine<()>,
    events: usize,
    rests: bool,
}

impl Host for Counting {
    type State = ();

    fn engine(&mut self) -> &mut Engine<()> {
        &mut self.engine
    }
    fn gone(&mut self, _: Key) {}
    fn namespace(&self, _: &str) -> Option<u8> {
        Some(0)
    }
    fn connect(&mut self, key: Key, namespace: u8, _: &str) -> Result<(), Violation> {
        socketio::join(self, key, namespace);
        Ok(())
    }
    fn event(&mut self, key: Key, _: &Message<'_>) -> Result<(), Violation> {
        self.events += 1;
        if let Some(conn) = self.engine.table.get(key).filter(|_| self.rests) {
            conn.pause = Pause::Backlog;
        }
        Ok(())
    }
    fn left(&mut self, _: Key, _: u8) {}
}

/// A host with so many sessions over long polling.
fn host(sessions: usize) -> (Counting, Vec<Key>) {
    let day = Duration::from_secs(86_400);
    let settings = Settings {
        owner: 0,
        ping_interval: day,
        ping_timeout: day,
        connect_timeout: day,
        max_payload: 1_000_000,
        outgoing_bytes: 1 << 20,
        unfinished_bytes: usize::MAX,
        connections: sessions,
    };
    let mut host = Counting { engine: Engine::new(settings).unwrap(), events: 0, rests: false };
    let session = |_| {
        let mut conn = Conn::new(Transport::Polling(Box::default()), (), 1_000_000);
        conn.heartbeat = Some(Instant::now() + day);
        host.engine.admit(conn).unwrap()
    };
    let keys = (0..sessions).map(session).collect();
    (host, keys)
}

fn brought(host: &mut Counting, key: Key, payload: &[u8]) -> oneshot::Receiver<()> {
    let sid = Sid { owner: 0, key, secret: host.engine.table.get(key).unwrap().secret };
    assert_eq!(begin(host, &sid), Ok(key));
    let (done, acted) = oneshot::channel();
    bring(host, key, Bytes::copy_from_slice(payload), done);
    acted
}

#[test]
fn a_payload_of_many_packets_leaves_turns_to_the_others() {
    const PACKETS: usize = 100_000;
    let (mut host, keys) = host(2);
    let mut many = b"40".to_vec();
    many.extend(b"\x1e42[0]".repeat(PACKETS));
    let mut acted = brought(&mut host, keys[0], &many);
    assert_eq!(host.events, PACKETS_PER_TURN - 1, "and the packet that enters");
    assert!(acted.try_recv().is_err());
    let mut other = brought(&mut host, keys[1], b"40\x1e42[0]");
    assert_eq!((host.events, other.try_recv()), (PACKETS_PER_TURN, Ok(())));
    let (mut turn, mut turns) = (Turn::default(), 0);
    while acted.try_recv().is_err() {
        let before = host.events;
        turn.read(&mut host, Instant::now());
        assert!((1..=PACKETS_PER_TURN).contains(&(host.events - before)));
        turns += 1;
    }
    assert_eq!((host.events, turns), (PACKETS + 1, PACKETS / PACKETS_PER_TURN));
}

#[test]
fn what_stands_behind_a_rest_is_kept_where_it_is() {
    let (mut host, keys) = host(1);
    host.rests = true;
    let payload = b"40\x1e42[1]\x1e42[2]\x1e42[3]";
    let mut acted = brought(&mut host, keys[0], payload);
    let begins = |host: &mut Counting| requests(host, keys[0]).unwrap().payload.as_ptr().addr();
    let first = begins(&mut host);
    for events in 1..=2 {
        assert_eq!((host.events, acted.try_recv().is_err()), (events, true));
        assert_eq!(begins(&mut host) - first, 6 * (events - 1), "nothing is copied");
        host.engine.resume_reading(keys[0]);
        Turn::default().read(&mut host, Instant::now());
    }
    assert_eq!((host.events, acted.try_recv()), (3, Ok(())));
}

#[test]
fn a_session_that_ends_forgets_the_rest_of_its_payload() {
    let (mut host, keys) = host(1);
    host.rests = true;
    let mut acted = brought(&mut host, keys[0], b"40\x1e42[1]\x1e42[2]");
    host.close(keys[0], frame::close_code::GOING_AWAY, "");
    assert_eq!(acted.try_recv(), Ok(()), "an error would be heard before the reason");
    host.engine.resume_reading(keys[0]);
    Turn::default().read(&mut host, Instant::now());
    assert_eq!(host.events, 1);
    assert!(requests(&mut host, keys[0]).unwrap().payload.is_empty());
}

fn fetched(host: &mut Counting, key: Key) -> Result<Vec<u8>, HandshakeError> {
    let secret = host.engine.table.get(key).map(|conn| conn.secret).unwrap_or_default();
    let (request, mut answer) = oneshot::channel();
    fetch(host, &Sid { owner: 0, key, secret }, 0, request)?;
    Ok(answer.try_recv().unwrap())
}

#[test]
fn a_client_that_is_to_come_back_is_not_told_so_beside_other_packets() {
    let (mut host, keys) = host(2);
    let told = |host: &mut Counting, key| host.push_with(key, |out| frame::text(&[b"42[1]"], out));
    told(&mut host, keys[0]);
    host.close(keys[0], frame::close_code::GOING_AWAY, "");
    assert_eq!(fetched(&mut host, keys[0]), Ok(b"42[1]".to_vec()));
    assert_eq!(fetched(&mut host, keys[0]), Err(HandshakeError::UnknownSession));

    told(&mut host, keys[1]);
    assert_eq!(fetched(&mut host, keys[1]), Ok(b"42[1]".to_vec()));
    host.close(keys[1], frame::close_code::GOING_AWAY, "");
    assert_eq!(fetched(&mut host, keys[1]), Ok(b"1".to_vec()));
}
