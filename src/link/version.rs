//! Which frames both ends know, and what they say if those are not the same.
//!
//! At an upgrade the storage writer is replaced first, so for a moment workers of before talk to a writer of
//! another version. Frames have no names and no lengths of their own, so one of another version would be taken
//! for something else: nothing is understood by half, the writer refuses the link by its first frame. That and
//! the answer to it are therefore the same in all versions:
//!
//! | frame | body |
//! |---|---|
//! | [`ToWriter::Hello`] | a byte 0, the version as a varint, then whatever that version has |
//! | [`FromWriter::OtherVersion`] | a byte 1, the writer's version as a varint |
//!
//! A refused worker has nothing to offer any more. As soon as it has a successor it sends its clients there,
//! all at once; what they repeat under the same `clientId` is stored once.
//!
//! [`ToWriter::Hello`]: super::frame::ToWriter::Hello
//! [`FromWriter::OtherVersion`]: super::frame::FromWriter::OtherVersion

/// Grows by one with every change of what a frame looks like; `tests/link_codec.rs` notices one.
pub const VERSION: u16 = 7;

/// The first byte of a greeting.
const HELLO: u8 = 0;

/// The version of whoever sent this greeting, whatever else it says; `None`: it is no greeting.
pub fn of_greeting(body: &[u8]) -> Option<u16> {
    let (first, rest) = body.split_first()?;
    let (version, _) = postcard::take_from_bytes(rest).ok()?;
    (*first == HELLO).then_some(version)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::codec::{self, HEADER_BYTES};
    use crate::link::frame::{FromWriter, Position, ToWriter};

    fn body(frame: &impl serde::Serialize) -> Vec<u8> {
        let mut bytes = Vec::new();
        codec::encode(frame, &mut bytes).unwrap();
        bytes.split_off(HEADER_BYTES)
    }

    #[test]
    fn the_greeting_and_its_refusal_never_change() {
        let known = Some(Position { seq: 3, rev: 2 });
        for version in [0, 6, VERSION, 300, u16::MAX] {
            let hello = body(&ToWriter::Hello { version, worker: 1, instance: 7, known });
            assert_eq!(of_greeting(&hello), Some(version));
        }
        let hello = ToWriter::Hello { version: 300, worker: 1, instance: 7, known: None };
        assert_eq!(body(&hello)[..3], [0, 0xac, 0x02]);
        assert_eq!(body(&FromWriter::OtherVersion { version: 300 }), [1, 0xac, 0x02]);
    }

    #[test]
    fn a_greeting_of_a_later_version_is_known_whatever_follows() {
        assert_eq!(of_greeting(&[0, 9, 0xff, 0xff, 0xff]), Some(9));
        for other in [&[][..], &[0], &[1, 9], &[0, 0xff, 0xff, 0xff]] {
            assert_eq!(of_greeting(other), None, "{other:?}");
        }
    }
}
