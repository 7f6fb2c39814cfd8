//! What strangers write into requests: queries, headers, session ids, tokens, and what they come back
//! with.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arbitrary::{Arbitrary, Unstructured};
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use minitalk::config::{Config, Recovery};
use minitalk::engine::http::{self, Wanted};
use minitalk::engine::sid::Sid;
use minitalk::engine::table::Key;
use minitalk::wire::recovery::{Owner, Seals, Session};
use minitalk::worker::address::Addresses;
use minitalk::worker::recovery::{Asked, wish};
use minitalk::worker::token::Tokens;

/// A request.
#[derive(Arbitrary, Debug)]
struct Said<'a> {
    query: &'a str,
    post: bool,
    headers: Vec<(Named, &'a [u8])>,
    numbers: [u64; 3],
    secret: [u8; 14],
    text: &'a str,
    change: (u16, u8),
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Named {
    Connection,
    Upgrade,
    Key,
    ForwardedFor,
}

/// Makes a request that the bytes describe.
pub fn run(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        strangers(text);
    }
    let Ok(said) = Said::arbitrary(&mut Unstructured::new(data)) else {
        return;
    };
    strangers(said.text);
    ours(&said);
    let headers = headers(&said.headers);
    forwarded(&headers);
    query(&said, headers);
}

fn headers(listed: &[(Named, &[u8])]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in listed {
        let name = match name {
            Named::Connection => header::CONNECTION,
            Named::Upgrade => header::UPGRADE,
            Named::Key => header::SEC_WEBSOCKET_KEY,
            Named::ForwardedFor => HeaderName::from_static("x-forwarded-for"),
        };
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.append(name, value);
        }
    }
    headers
}

fn query(said: &Said<'_>, headers: HeaderMap) {
    let method = if said.post { Method::POST } else { Method::GET };
    let uri = format!("/socket.io/?{}", said.query);
    let Ok(request) = Request::builder().uri(uri).method(method.clone()).body(Body::empty()) else {
        return;
    };
    let params = http::params(&request);
    assert!(http::wanted(&params, &method, &headers, false).is_err(), "nobody from a forbidden page");
    let Ok(wanted) = http::wanted(&params, &method, &headers, true) else {
        return;
    };
    let handshake = http::is_websocket_handshake(&method, &headers);
    let (socket, post, sid) = match wanted {
        Wanted::Session => (false, false, None),
        Wanted::WebSocketSession => (true, false, None),
        Wanted::Fetch(sid, _) => (false, false, Some(sid)),
        Wanted::Bring(sid) => (false, true, Some(sid)),
        Wanted::Upgrade(sid) => (true, false, Some(sid)),
    };
    assert_eq!((handshake, said.post), (socket, post));
    assert_eq!(
        params.get("transport").map(String::as_str),
        Some(if socket { "websocket" } else { "polling" })
    );
    assert_eq!(params.get("sid").cloned(), sid.map(|sid| sid.to_string()));
}

/// The address is one that a trusted proxy has vouched for.
fn forwarded(headers: &HeaderMap) {
    let config = Config { trusted_proxies: vec!["10.0.0.0/8".to_owned()], ..Config::default() };
    let addresses = Addresses::new(&config, Arc::default());
    let proxy = IpAddr::from([10, 0, 0, 1]);
    let client = addresses.client(proxy, headers);
    let trusted = |address: IpAddr| matches!(address, IpAddr::V4(address) if address.octets()[0] == 10);
    let mut behind = HeaderMap::new();
    for line in headers.get_all("x-forwarded-for") {
        behind.append("x-forwarded-for", line.clone());
    }
    behind.append("x-forwarded-for", HeaderValue::from_static("192.0.2.7"));
    assert_eq!(addresses.client(proxy, &behind), IpAddr::from([192, 0, 2, 7]), "nothing before it counts");
    behind.append("x-forwarded-for", HeaderValue::from_static("10.2.3.4"));
    assert_eq!(addresses.client(proxy, &behind), IpAddr::from([192, 0, 2, 7]));
    if !trusted(client) && client.to_canonical() == client {
        let mut more = headers.clone();
        more.append("x-forwarded-for", HeaderValue::from_static("10.2.3.4"));
        assert_eq!(addresses.client(proxy, &more), client, "one more proxy changes nothing");
    }
}

/// A text of which nothing was made here.
fn strangers(text: &str) {
    if let Some(sid) = Sid::parse(text) {
        assert_eq!(sid.to_string(), text);
    }
    // Under a secret of its own: a fuzzer watches comparisons and so learns what `ours` has sealed.
    let seals = Seals::new("another secret");
    assert_eq!((seals.read_pid(text), seals.read_offset(text)), (None, None));
    assert!(Tokens::new("another secret", Duration::from_secs(60)).check(text).is_none());
    if let Ok(asked) = serde_json::from_str::<Asked>(text)
        && let Ok(wish) = wish(&seals, Recovery::Auto, false, Owner { user: 7, generation: 0 }, &asked)
    {
        assert!(!wish.is_ahead_of(u64::MAX));
    }
}

/// What was made here is read, and nothing that differs from it in one byte.
fn ours(said: &Said<'_>) {
    let [user, start, nonce] = said.numbers;
    let narrow = |number: u64| u32::try_from(number & 0xffff_ffff).unwrap_or(0);
    let key = Key { slot: narrow(start), generation: narrow(nonce) };
    let sid = Sid { owner: u16::try_from(user & 0xffff).unwrap_or(0), key, secret: said.secret };
    assert_eq!(Sid::parse(&sid.to_string()), Some(sid));
    let seals = Seals::new("secret");
    let session = Session { owner: Owner { user, generation: narrow(nonce) }, start, nonce };
    let pid = seals.pid(&session);
    assert_eq!(seals.read_pid(&pid), Some(session));
    let mut offset = Vec::new();
    seals.offset(start, &mut offset);
    let offset = String::from_utf8(offset).unwrap_or_default();
    assert_eq!(seals.read_offset(&offset), Some(start));
    let tokens = Tokens::new("secret", Duration::from_secs(86_400));
    let token = tokens.issue(user, said.text, narrow(nonce)).expect("claims are signed");
    let claims = tokens.check(&token).expect("our own token");
    assert_eq!((claims.sub, &*claims.username, claims.generation), (user, said.text, Some(narrow(nonce))));
    for good in [pid, offset, token] {
        let mut bytes = good.clone().into_bytes();
        let at = usize::from(said.change.0) % bytes.len();
        bytes[at] = said.change.1 & 0x7f;
        let bad = String::from_utf8(bytes).unwrap_or_default();
        if bad != good {
            assert_eq!((seals.read_pid(&bad), seals.read_offset(&bad)), (None, None));
            assert!(tokens.check(&bad).is_none(), "{bad} beside {good}");
        }
    }
}
