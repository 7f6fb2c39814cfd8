//! Times as the chat surface spells them: RFC 3339, UTC, milliseconds.

use std::io::Write;

use jiff::Timestamp;

/// Bytes of `2026-01-01T00:00:00.000Z`.
const LEN: usize = 24;

/// Spells times; remembers the last second, since most times share it.
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
    /// The text of a Unix time in milliseconds (years 0 to 9999; others are spelt as the epoch).
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
        let time = Timestamp::from_second(second).ok()?;
        let mut text = [0; LEN];
        let written = write!(&mut text[..], "{}", time.strftime("%Y-%m-%dT%H:%M:%S.000Z"));
        (written.is_ok() && text[LEN - 1] == b'Z').then_some(Stamp { second, text })
    }
}

/// The Unix time in milliseconds of an RFC 3339 text, with any offset. `None`: it is not one.
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
            (1_767_225_600_000, "2026-01-01T00:00:00.000Z"),
            (1_767_225_600_999, "2026-01-01T00:00:00.999Z"),
            (1_767_225_599_123, "2025-12-31T23:59:59.123Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(stamp.text(ms), text);
            assert_eq!(parse(text), Some(ms));
        }
        assert_eq!(parse("2026-01-01T09:00:00+09:00"), Some(1_767_225_600_000));
        assert_eq!(parse("yesterday"), None);
    }
}
