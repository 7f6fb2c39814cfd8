//! Payloads of Engine.IO long polling.

use arbitrary::{Arbitrary, Unstructured};
use bytes::Bytes;
use minitalk::wire::engine::{BadPayload, Packet, SEPARATOR, append_frames, first_packet};
use minitalk::wire::frame;

#[derive(Arbitrary, Debug)]
enum Said<'a> {
    Text(&'a str),
    Binary(&'a [u8]),
}

/// Reads the bytes as a payload; makes a payload of packets that they describe and reads that.
pub fn run(data: &[u8]) {
    if let Ok(packets) = read(data) {
        let separators = data.iter().filter(|byte| **byte == SEPARATOR).count();
        assert_eq!(packets.len(), separators + 1);
        let written = write(&packets);
        // Only base64 has a second spelling: without padding.
        assert!(written.len() <= data.len() + 2 * packets.len());
        assert_eq!(read(&written).as_ref(), Ok(&packets));
        if !packets.iter().any(|packet| matches!(packet, Packet::Binary(_))) {
            assert_eq!(written, data);
        }
    }
    let said = Vec::<Said<'_>>::arbitrary(&mut Unstructured::new(data)).unwrap_or_default();
    let packets: Vec<Packet<'_>> = said.iter().filter_map(packet).collect();
    if !packets.is_empty() {
        assert_eq!(read(&write(&packets)), Ok(packets));
    }
}

/// What can be a packet: a text begins with its type, which is no `b`, and holds no separator.
fn packet<'a>(said: &Said<'a>) -> Option<Packet<'a>> {
    match *said {
        Said::Text(text) if text.is_empty() || text.starts_with('b') || text.contains('\x1e') => None,
        Said::Text(text) => Some(Packet::Text(text)),
        Said::Binary(bytes) => Some(Packet::Binary(Bytes::copy_from_slice(bytes))),
    }
}

fn read(mut payload: &[u8]) -> Result<Vec<Packet<'_>>, BadPayload> {
    let mut packets = Vec::new();
    loop {
        let (packet, used) = first_packet(payload)?;
        assert!((1..=payload.len()).contains(&used));
        if let Packet::Binary(bytes) = &packet {
            assert!(bytes.len() <= used, "base64 never grows when it is read");
        }
        packets.push(packet);
        payload = &payload[used..];
        if payload.is_empty() {
            return Ok(packets);
        }
    }
}

fn write(packets: &[Packet<'_>]) -> Vec<u8> {
    let (mut frames, mut payload) = (Vec::new(), Vec::new());
    for packet in packets {
        match packet {
            Packet::Text(text) => frame::text(&[text.as_bytes()], &mut frames),
            Packet::Binary(bytes) => frame::binary(&[bytes], &mut frames),
        }
    }
    let mut most = usize::MAX;
    append_frames(&frames, &mut most, &mut payload);
    payload
}
