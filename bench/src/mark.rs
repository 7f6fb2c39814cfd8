//! The content of every message sent: a mark that says which message it is and when it should
//! have left, then padding, or a greeting that its number picks.
//!
//! `mt1:` run (8 hex digits) room (8) sender (4) number (8) intended ns (16) check (8) rest…
//!
//! A delivery is recognised, timed and checked for unchanged content from these bytes alone. A server
//! may escape what is not ASCII in its JSON; only then the content is unescaped to be compared.

use memchr::memmem::Finder;

use crate::greet::GREETINGS;

const PREFIX: &[u8] = b"mt1:";
const DIGITS: usize = 8 + 8 + 4 + 8 + 16 + 8;

/// Bytes of the mark itself: the smallest content.
pub const BYTES: usize = PREFIX.len() + DIGITS;

/// Which message, and when it should have left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Index of the room in the plan.
    pub room: u32,
    /// Which of the room's senders.
    pub slot: u16,
    /// 0, 1, 2, … within the room, in the order of sending.
    pub number: u32,
    /// Intended time of sending, in ns of the run's clock.
    pub at_ns: u64,
}

/// What follows the mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Letters, up to so many bytes in all; at least [`BYTES`].
    Padded(usize),
    /// A blank and a greeting.
    Greetings,
}

impl Content {
    /// Bytes of a content, the mean where they differ.
    pub fn bytes(self) -> usize {
        match self {
            Content::Padded(bytes) => bytes,
            Content::Greetings => {
                BYTES + 1 + GREETINGS.iter().map(|text| text.len()).sum::<usize>() / GREETINGS.len()
            }
        }
    }
}

/// Writes and recognises the contents of one run.
pub struct Marker {
    run: u32,
    /// What may follow a mark; a message's number picks one.
    rests: Vec<Vec<u8>>,
    prefix: Finder<'static>,
}

impl Marker {
    /// Contents for the run of that random number.
    pub fn new(run: u32, content: Content) -> Marker {
        let rests = match content {
            Content::Padded(bytes) => {
                vec![(b'a'..=b'z').cycle().take(bytes.saturating_sub(BYTES)).collect()]
            }
            Content::Greetings => GREETINGS.iter().map(|text| format!(" {text}").into_bytes()).collect(),
        };
        Marker { run, rests, prefix: Finder::new(PREFIX) }
    }

    fn rest(&self, number: u32) -> &[u8] {
        &self.rests[number as usize % self.rests.len()]
    }

    /// Appends the content that carries `mark`; nothing in it needs escaping in JSON.
    pub fn write(&self, out: &mut Vec<u8>, mark: Mark) {
        out.extend_from_slice(PREFIX);
        push_hex(out, u64::from(self.run), 8);
        push_hex(out, u64::from(mark.room), 8);
        push_hex(out, u64::from(mark.slot), 4);
        push_hex(out, u64::from(mark.number), 8);
        push_hex(out, mark.at_ns, 16);
        push_hex(out, u64::from(self.check(mark)), 8);
        out.extend_from_slice(self.rest(mark.number));
    }

    /// The mark in a delivered packet, if a whole content of this run is in it, unchanged.
    pub fn read(&self, packet: &[u8]) -> Option<Mark> {
        let start = self.prefix.find(packet)?;
        let opening = start.checked_sub(1)?;
        let digits = packet.get(start + PREFIX.len()..start + BYTES)?;
        let (run, rest) = digits.split_at(8);
        let (room, rest) = rest.split_at(8);
        let (slot, rest) = rest.split_at(4);
        let (number, rest) = rest.split_at(8);
        let (at, check) = rest.split_at(16);
        let mark = Mark {
            room: hex32(room)?,
            slot: u16::try_from(hex(slot)?).ok()?,
            number: hex32(number)?,
            at_ns: hex(at)?,
        };
        let rest = &packet[start + BYTES..];
        let whole = rest.strip_prefix(self.rest(mark.number)).is_some_and(|rest| rest.first() == Some(&b'"'));
        let quoted =
            packet[opening] == b'"' && (whole || unescaped(rest).as_deref() == Some(self.rest(mark.number)));
        let known = hex32(run)? == self.run && hex32(check)? == self.check(mark);
        (quoted && known).then_some(mark)
    }

    /// Ties the fields to each other and to the run, so that no altered mark passes for another.
    fn check(&self, mark: Mark) -> u32 {
        let words =
            [u64::from(mark.room) << 32 | u64::from(mark.number), mark.at_ns ^ u64::from(mark.slot) << 48];
        let mixed = words.iter().fold(u64::from(self.run), |sum, word| {
            let product = (sum ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            product ^ product >> 29
        });
        u32::try_from(mixed >> 32).unwrap_or_default()
    }
}

/// The rest of a JSON string that has escapes in it.
fn unescaped(rest: &[u8]) -> Option<Vec<u8>> {
    let end = (0..rest.len()).find(|&at| rest[at] == b'"' && !rest[..at].ends_with(b"\\"))?;
    let quoted = [b"\"", &rest[..=end]].concat();
    serde_json::from_slice::<String>(&quoted).ok().map(String::into_bytes)
}

fn push_hex(out: &mut Vec<u8>, value: u64, digits: u32) {
    for digit in (0..digits).rev() {
        out.push(b"0123456789abcdef"[(value >> (4 * digit) & 15) as usize]);
    }
}

fn hex(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |value, byte| match byte {
        b'0'..=b'9' => Some(value << 4 | u64::from(byte - b'0')),
        b'a'..=b'f' => Some(value << 4 | u64::from(byte - b'a' + 10)),
        _ => None,
    })
}

fn hex32(digits: &[u8]) -> Option<u32> {
    hex(digits).and_then(|value| u32::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARK: Mark = Mark { room: 7, slot: 3, number: 41, at_ns: 123_456_789 };

    fn packet(marker: &Marker) -> Vec<u8> {
        let mut out = br#"42["message",{"seq":9,"content":""#.to_vec();
        marker.write(&mut out, MARK);
        out.extend(br#"","timestamp":"x"}]"#);
        out
    }

    #[test]
    fn what_was_written_is_read() {
        for size in [BYTES, BYTES + 1, 100, 4000] {
            let marker = Marker::new(5, Content::Padded(size));
            let mut content = vec![];
            marker.write(&mut content, MARK);
            assert_eq!(content.len(), size);
            assert_eq!(marker.read(&packet(&marker)), Some(MARK));
        }
    }

    #[test]
    fn greetings_are_read_as_they_are_and_escaped() {
        let marker = Marker::new(5, Content::Greetings);
        for number in 0..2 * u32::try_from(GREETINGS.len()).unwrap() {
            let mark = Mark { number, ..MARK };
            let mut content = vec![];
            marker.write(&mut content, mark);
            let content = String::from_utf8(content).unwrap();
            assert_eq!(marker.read(format!("{{\"content\":\"{content}\"}}").as_bytes()), Some(mark));
            let escape = |c: char| match c.is_ascii() {
                true => c.to_string(),
                false => c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect(),
            };
            let escaped: String = content.chars().map(escape).collect();
            assert_eq!(marker.read(format!("{{\"content\":\"{escaped}\"}}").as_bytes()), Some(mark));
            let other = content.replace(GREETINGS[number as usize % GREETINGS.len()], "other");
            assert_eq!(marker.read(format!("{{\"content\":\"{other}\"}}").as_bytes()), None);
        }
    }

    #[test]
    fn one_changed_byte_of_the_content_is_noticed() {
        let marker = Marker::new(5, Content::Padded(100));
        let good = packet(&marker);
        let start = good.windows(4).position(|four| four == PREFIX).unwrap();
        for at in start - 1..=start + 100 {
            let mut bad = good.clone();
            bad[at] = if bad[at] == b'0' { b'1' } else { b'0' };
            assert_eq!(marker.read(&bad), None, "byte {}", at - start);
        }
    }

    #[test]
    fn another_runs_content_is_not_ours() {
        assert_eq!(
            Marker::new(6, Content::Padded(100)).read(&packet(&Marker::new(5, Content::Padded(100)))),
            None
        );
        assert_eq!(
            Marker::new(5, Content::Padded(101)).read(&packet(&Marker::new(5, Content::Padded(100)))),
            None
        );
        assert_eq!(Marker::new(5, Content::Padded(100)).read(b"42[\"message\",{}]"), None);
    }
}
