//! Times as the log spells them: RFC 3339, UTC, milliseconds (`2026-01-01T00:00:00.000Z`).

use jiff::Timestamp;

/// Bytes of a time's text.
const LEN: usize = 24;

/// Spells times; remembers the last second, since most records share it with the one before.
pub struct Stamp {
    second: i64,
    text: [u8; LEN],
}

impl Default for Stamp {
    fn default() -> Stamp {
        Stamp { second: 0, text: *b"1970-01-01T00:00:00.000Z" }
    }
}

impl Stamp {
    /// The text of a Unix time in milliseconds. Years outside 0 to 9999 are spelt as the epoch.
    pub fn text(&mut self, unix_ms: i64) -> &str {
        let second = unix_ms.div_euclid(1_000);
        if second != self.second {
            *self = Stamp::of_second(second).unwrap_or_default();
        }
        let ms = unix_ms.rem_euclid(1_000);
        for (at, power) in [(20, 100), (21, 10), (22, 1)] {
            self.text[at] = b'0' + u8::try_from(ms / power % 10).unwrap_or(0);
        }
        // The text holds only what this module wrote into it: ASCII.
        std::str::from_utf8(&self.text).unwrap_or_default()
    }

    fn of_second(second: i64) -> Option<Stamp> {
        let time = Timestamp::from_second(second).ok()?.strftime("%Y-%m-%dT%H:%M:%S.000Z").to_string();
        Some(Stamp { second, text: time.into_bytes().try_into().ok()? })
    }
}

/// The Unix time in milliseconds of such a text. `None`: it is not one.
pub fn parse(text: &str) -> Option<i64> {
    text.parse::<Timestamp>().ok().map(Timestamp::as_millisecond)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spelling_and_reading_agree() {
        let mut stamp = Stamp::default();
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (7, "1970-01-01T00:00:00.007Z"),
            (1_767_225_600_999, "2026-01-01T00:00:00.999Z"),
            (1_767_225_599_123, "2025-12-31T23:59:59.123Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(stamp.text(ms), text);
            assert_eq!(parse(text), Some(ms));
        }
        assert_eq!(stamp.text(i64::MAX), "1970-01-01T00:00:00.807Z");
    }
}
