//! Figures agree with what clients did.

use serde_json::json;

use crate::common::rest::User;
use crate::common::socket::Socket;
use crate::common::{Options, Server, until};
use crate::page::Page;

/// As many misses as one name may have; forgiven so late that no test sees it.
const TABLES: &str = "[limits]\nlogin_failures_per_user = 3\nlogin_failures_window = \"24h\"\n\
    connections_per_user = 10\n";

fn server() -> Server {
    Server::start(&Options { tables: TABLES, ..Options::default() })
}

#[test]
fn messages_are_counted_where_they_come_in_and_where_they_go_out() {
    const MESSAGES: u32 = 50;
    let mut server = server();
    let users = server.new_users("user", 6);
    let room = server.new_room(&users, "talk");
    let mut sockets: Vec<Socket> = users.iter().map(|user| Socket::connect(&server, user)).collect();
    let stranger = server.new_users("stranger", 1);
    let mut outside = Socket::connect(&server, &stranger[0]);
    let refused = outside.say(1, &json!({"roomId": room, "content": "x"})).expect("an ack");
    assert_eq!(refused["code"], "NOT_A_MEMBER");
    sockets[0].say_many(&room, 0, MESSAGES);
    let delivered = f64::from(MESSAGES) * users.len() as f64;
    // Each process reports for itself.
    let page = Page::when(&server, "all is delivered and reported", |page| {
        let batches = page.sum("minitalk_storage_batches_total", &[]);
        page.sum("minitalk_messages_delivered_total", &[]) >= delivered
            && page.sum("minitalk_connections", &[]) >= 7.0
            && page.sum("minitalk_messages_refused_total", &[]) >= 1.0
            && page.sum("minitalk_storage_batch_messages_sum", &[]) >= f64::from(MESSAGES)
            && page.sum("minitalk_storage_batch_messages_count", &[]) == batches
            && page.sum("minitalk_storage_seq", &[]) >= f64::from(MESSAGES)
    });
    assert_eq!(page.sum("minitalk_storage_messages_total", &[]), f64::from(MESSAGES));
    assert_eq!(page.sum("minitalk_messages_delivered_total", &[]), delivered);
    assert_eq!(page.sum("minitalk_messages_received_total", &[]), f64::from(MESSAGES));
    assert_eq!(page.sum("minitalk_messages_refused_total", &[("reason", "other")]), 1.0);
    assert_eq!(page.sum("minitalk_messages_refused_total", &[]), 1.0);
    assert_eq!(page.sum("minitalk_connections", &[("transport", "websocket")]), 7.0);
    assert_eq!(page.sum("minitalk_connections", &[("transport", "polling")]), 0.0);
    assert_eq!(page.sum("minitalk_connections_accepted_total", &[]), 7.0);
    assert_eq!(page.sum("minitalk_link_up", &[]), 2.0);
    // Each worker that somebody in the room is on has handed out each message once.
    let handed_out = |worker: &str| {
        let labels = [("worker", worker)];
        let count = page.sum("minitalk_delivery_seconds_count", &labels);
        assert_eq!(page.sum("minitalk_delivery_seconds_bucket", &[labels[0], ("le", "+Inf")]), count);
        let any = page.sum("minitalk_messages_delivered_total", &labels) > 0.0;
        assert_eq!(count, if any { f64::from(MESSAGES) } else { 0.0 }, "worker {worker}");
        page.sum("minitalk_delivery_seconds_sum", &labels)
    };
    let took = handed_out("0") + handed_out("1");
    assert!(took > 0.0 && took < 60.0 * delivered, "{took} s");
    let batches = page.sum("minitalk_storage_batches_total", &[]);
    assert_eq!(page.sum("minitalk_storage_batch_messages_count", &[]), batches);
    assert_eq!(page.sum("minitalk_storage_batch_messages_sum", &[]), f64::from(MESSAGES));
    // A batch is synced once.
    assert_eq!(page.sum("minitalk_storage_fsync_seconds_count", &[]), batches);
    assert_eq!(page.sum("minitalk_storage_seq", &[]), f64::from(MESSAGES));
    assert_eq!(page.sum("minitalk_storage_peers", &[]), 2.0);
    assert_eq!(page.sum("minitalk_storage_writable", &[]), 1.0);
    server.stop();
}

#[test]
fn who_is_turned_away_is_counted_by_reason() {
    let mut server = server();
    let users = server.new_users("user", 1);
    let login = |password: &str| {
        let body = json!({"username": "user0", "password": password});
        server.post("/api/auth/login", None, &body).status
    };
    assert_eq!([login("wrong"), login("wrong"), login("password"), login("wrong")], [401, 401, 200, 401]);
    until("it is too much", || (login("wrong") == 429).then_some(()));
    let nobody = User { token: "no token".to_owned(), ..users[0].clone() };
    Socket::try_connect(&server, &nobody).expect_err("nobody is let in");
    let held: Vec<Socket> = (0..10).map(|_| Socket::connect(&server, &users[0])).collect();
    until("its user has too many", || Socket::try_connect(&server, &users[0]).err());
    let elsewhere = "GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
                     origin: https://elsewhere.example\r\n\r\n";
    assert_eq!(server.raw_call(elsewhere.as_bytes()).status, 403);
    let refused = |page: &Page, reason| page.sum("minitalk_connections_refused_total", &[("reason", reason)]);
    let page = Page::when(&server, "all is reported", |page| {
        ["origin", "user_limit", "authentication"].iter().all(|reason| refused(page, reason) == 1.0)
            && page.sum("minitalk_logins_failed_total", &[]) >= 3.0
            && page.sum("minitalk_logins_braked_total", &[]) >= 1.0
    });
    assert_eq!(refused(&page, "address_limit") + refused(&page, "worker_limit"), 0.0);
    // A worker may have looked at a wrong password before it had heard of the other's.
    let failed = page.sum("minitalk_logins_failed_total", &[]);
    assert!((3.0..=6.0).contains(&failed), "{failed}");
    assert_eq!(page.sum("minitalk_logins_braked_total", &[]), 1.0);
    drop(held);
    server.stop();
}

#[test]
fn who_comes_back_is_counted_with_what_was_missed() {
    let mut server = server();
    let users = server.new_users("user", 2);
    let room = server.new_room(&users, "talk");
    let mut alice = Socket::connect(&server, &users[0]);
    alice.say_many(&room, 0, 5);
    let mut bob = Socket::returning(&server, &users[1], 2);
    (0..3).for_each(|_| assert!(bob.next().contains("\"message\"")));
    let came_back =
        |page: &Page, result| page.sum("minitalk_sessions_recovered_total", &[("result", result)]);
    let delivered = |page: &Page| page.sum("minitalk_messages_delivered_total", &[]);
    let page = Page::when(&server, "bob came back", |page| {
        came_back(page, "recovered") == 1.0 && delivered(page) >= 5.0 + 3.0
    });
    assert_eq!(page.sum("minitalk_messages_replayed_total", &[]), 3.0);
    assert_eq!(delivered(&page), 5.0 + 3.0);
    // Has heard of what this server never said.
    let _carol = Socket::returning(&server, &users[1], 1_000);
    Page::when(&server, "somebody began anew", |page| came_back(page, "gap") == 1.0);
    server.stop();
}

#[test]
fn long_polling_is_told_apart_relayed_and_upgraded() {
    let mut server = server();
    let users = server.new_users("user", 1);
    let opened = server.get("/socket.io/?EIO=4&transport=polling", None);
    let open: serde_json::Value = serde_json::from_str(&opened.text[1..]).expect("OPEN");
    let sid = open["sid"].as_str().expect("an id");
    let path = format!("/socket.io/?EIO=4&transport=polling&sid={sid}");
    let connect = format!("40{}", json!({"token": users[0].token}));
    assert_eq!(server.call_bytes("POST", &path, None, connect.as_bytes()).text, "ok");
    let by = |page: &Page, transport| page.sum("minitalk_connections", &[("transport", transport)]);
    Page::when(&server, "one session polls", |page| {
        (by(page, "polling"), by(page, "websocket")) == (1.0, 0.0)
    });
    // Whichever worker a connection comes to.
    until("a request came to the other worker", || {
        assert_eq!(server.call_bytes("POST", &path, None, b"3").text, "ok");
        (Page::of(&server).sum("minitalk_requests_relayed_total", &[]) > 0.0).then_some(())
    });
    let fetched = server.get(&path, None);
    assert!(fetched.text.starts_with("40{"), "{fetched:?}");
    let url = format!("ws://127.0.0.1:{}/socket.io/?EIO=4&transport=websocket&sid={sid}", server.port);
    let (mut socket, _) = tungstenite::client(url, server.connect()).expect("a handshake");
    let mut say = |text: &str| socket.send(tungstenite::Message::text(text)).expect("sent");
    say("2probe");
    assert_eq!(socket.read().expect("an answer"), tungstenite::Message::text("3probe"));
    socket.send(tungstenite::Message::text("5")).expect("sent");
    let page = Page::when(&server, "it goes on as a WebSocket", |page| {
        (by(page, "polling"), by(page, "websocket")) == (0.0, 1.0)
    });
    assert_eq!(page.sum("minitalk_transport_upgrades_total", &[]), 1.0);
    drop(socket);
    Page::when(&server, "it is gone", |page| (by(page, "polling"), by(page, "websocket")) == (0.0, 0.0));
    server.stop();
}

#[test]
fn bytes_that_wait_for_a_client_are_seen_until_it_is_gone() {
    let mut server = server();
    let users = server.new_users("user", 1);
    let room = server.new_room(&users, "talk");
    // Over long polling, what is not fetched waits.
    let opened = server.get("/socket.io/?EIO=4&transport=polling", None);
    let open: serde_json::Value = serde_json::from_str(&opened.text[1..]).expect("OPEN");
    let path = format!("/socket.io/?EIO=4&transport=polling&sid={}", open["sid"].as_str().expect("an id"));
    let connect = format!("40{}", json!({"token": users[0].token}));
    assert_eq!(server.call_bytes("POST", &path, None, connect.as_bytes()).text, "ok");
    assert!(server.get(&path, None).text.starts_with("40{"));
    let mut alice = Socket::connect(&server, &users[0]);
    let long = "x".repeat(3_000);
    alice.say_all(&room, &[&long, &long]);
    let waiting = |page: &Page| page.sum("minitalk_outgoing_bytes", &[]);
    let page = Page::when(&server, "two messages wait", |page| waiting(page) > 6_000.0);
    assert!(waiting(&page) < 8_000.0, "{}", waiting(&page));
    let fetched = server.get(&path, None).text;
    assert!(fetched.contains(&long), "{fetched}");
    Page::when(&server, "nothing waits", |page| waiting(page) == 0.0);
    alice.say_all(&room, &[&long]);
    Page::when(&server, "one message waits", |page| waiting(page) > 3_000.0);
    assert_eq!(server.call_bytes("POST", &path, None, b"1").text, "ok");
    Page::when(&server, "the session is over, and what waited with it", |page| waiting(page) == 0.0);
    server.stop();
}
