//! A quarter of a million messages roll over three files, and a kill afterwards costs little.
#![allow(clippy::expect_used, reason = "tests")]

mod common;

use std::time::Instant;

use common::socket::Socket;
use common::{Options, Server};

const SENDERS: u32 = 4;
const EACH: u32 = 62_500;
const WINDOW: u32 = 500;

#[test]
fn messages_roll_to_the_next_file_at_one_hundred_thousand() {
    let mut server =
        Server::start(&Options { tables: "[limits]\nmessages_per_second = 0\n", ..Options::default() });
    let users = server.new_users("sender", SENDERS as usize);
    let began = Instant::now();
    let mut seqs: Vec<u64> = std::thread::scope(|scope| {
        let server = &server;
        let senders: Vec<_> = users
            .iter()
            .map(|user| {
                scope.spawn(move || {
                    // A room of one: each message goes to one socket only, and this is about files.
                    let room = server.new_room(std::slice::from_ref(user), "alone");
                    let mut socket = Socket::connect(server, user);
                    let windows = (0..EACH).step_by(WINDOW as usize);
                    let acks = windows.flat_map(|from| socket.say_many(&room, from, from + WINDOW));
                    acks.map(|ack| ack["seq"].as_u64().expect("a seq")).collect::<Vec<_>>()
                })
            })
            .collect();
        senders.into_iter().flat_map(|sender| sender.join().expect("all acked")).collect()
    });
    println!("250,000 messages acked in {:.1?}", began.elapsed());
    seqs.sort_unstable();
    assert!(seqs.iter().copied().eq(1..=250_000), "each seq once, without gaps");

    let sizes: Vec<(String, usize)> =
        server.message_files().into_iter().map(|(name, lines)| (name, lines.len())).collect();
    let expected = [
        ("messages_000001.jsonl", 100_000),
        ("messages_000002.jsonl", 100_000),
        ("messages_000003.jsonl", 50_000),
    ];
    assert_eq!(sizes, expected.map(|(name, count)| (name.to_owned(), count)));

    server.kill_supervisor();
    let before = server.message_files();
    let verify = server.verify();
    assert!(verify.status.success(), "{verify:?}");
    let began = Instant::now();
    let mut server = server.start_again();
    println!("ready again {:.0?} after a kill, with 250,000 messages", began.elapsed());
    assert_eq!(server.message_files(), before);

    let room = server.get("/api/chatrooms", Some(&users[0])).body[0]["roomId"].as_str().map(str::to_owned);
    let ack = Socket::connect(&server, &users[0]).say_many(&room.expect("a room"), EACH, EACH + 1);
    assert_eq!(ack[0]["seq"], 250_001);
    server.stop();
    let verify = server.verify();
    assert!(verify.status.success(), "{verify:?}");
}
