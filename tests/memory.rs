//! What a client's bytes cost in memory before anything is known of it: a small multiple of their number,
//! whatever they are. One test, since memory is measured for the whole process.
#![allow(clippy::expect_used, reason = "tests")]

use minitalk::wire::events::Event;
use minitalk::wire::socketio::{Arguments, attachments_fit, decode};
use minitalk::wire::{engine, recovery};
use minitalk::worker::recovery::{Asked, wish};
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// `socketio.max_payload` unless an operator says otherwise.
const PAYLOAD_BYTES: usize = 1_000_000;

/// Bytes of memory for each byte of input. A list of borrowed elements, of two bytes each, takes eight,
/// and up to as many again while it grows.
const FACTOR: usize = 16;

/// So many bytes of `unit`.
fn full(begin: &str, unit: &str, end: &str) -> String {
    let count = (PAYLOAD_BYTES - begin.len() - end.len()) / unit.len();
    [begin, &unit.repeat(count), end].concat()
}

fn costs(what: &str, input: &str, act: impl Fn(&str)) {
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    act(input);
    let cost = MEMORY.peak_usage() - before;
    assert!(cost <= FACTOR * input.len(), "{what}: {cost} bytes for {}", input.len());
}

#[test]
fn nothing_a_client_sends_costs_many_times_its_bytes() {
    let many = [("{\"\":0},", "objects"), ("[],", "arrays"), ("0,", "numbers"), ("\"\",", "strings")];
    let seals = recovery::Seals::new("secret");
    for (unit, what) in many {
        let array = full("[\"send_message\",{\"roomId\":\"r\",\"content\":5,\"x\":[", unit, "0]}]");
        costs(&format!("a refused command with many {what}"), &array, |array| {
            assert!(Event::parse(array).expect("an event").command().is_err());
        });
        let arguments = full("[\"e\",", unit, "0]");
        costs(&format!("an event with many {what}"), &arguments, |array| {
            assert!(Event::parse(array).is_some() && Arguments::event(array).is_some());
        });
        costs(&format!("placeholders among many {what}"), &arguments, |array| {
            assert!(attachments_fit(array, 1));
        });
        for field in ["pid", "since", "x"] {
            let connect = full(&format!("0{{\"{field}\":["), unit, "0]}");
            costs(&format!("CONNECT with many {what} in {field}"), &connect, |connect| {
                let data = decode(connect).expect("a packet").data;
                let asked: Asked<'_> = serde_json::from_str(data).expect("an object");
                let owner = recovery::Owner { user: 7, generation: 0 };
                let wish = wish(&seals, minitalk::config::Recovery::Auto, true, owner, &asked);
                assert_eq!(wish.is_err(), field == "since");
            });
        }
    }
    let payload = full("4", "\x1e6", "");
    costs("a payload of many packets", &payload, |payload| {
        let mut rest = payload.as_bytes();
        while !rest.is_empty() {
            let (_, used) = engine::first_packet(rest).expect("a packet");
            rest = &rest[used..];
        }
    });
}
