//! Times on the challenge surface of REST: ISO 8601 without an offset, in the zone that is configured
//! (`2026-01-01T09:00:00`).

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// A time zone by its rules, daylight saving included.
#[derive(Clone, Debug)]
pub struct Zone(TimeZone);

impl Zone {
    /// The zone of that name in the IANA database: the host's, or else the one linked in. `None`: there is
    /// no such.
    pub fn named(name: &str) -> Option<Zone> {
        TimeZone::get(name).ok().map(Zone)
    }

    /// The Unix time in milliseconds of a text with a date and a time of day. One with an offset or `Z` says
    /// it all; one without is a time of this zone. An hour that a change of clocks leaves out is read as if
    /// the clocks had not changed yet, and of an hour that comes twice the first is meant.
    ///
    /// `None`: it is no such text.
    pub fn read(&self, text: &str) -> Option<i64> {
        if text.len() > MOST_BYTES || !text.contains(['T', 't', ' ']) {
            return None;
        }
        if let Ok(time) = text.parse::<Timestamp>() {
            return Some(time.as_millisecond());
        }
        // The library would read a date and a time out of a text with more behind them as well.
        let is_local = text.bytes().all(|byte| byte.is_ascii_digit() || b"-:.Tt ".contains(&byte));
        let local = text.parse::<DateTime>().ok().filter(|_| is_local)?;
        let time = self.0.to_ambiguous_timestamp(local).compatible().ok()?;
        Some(time.as_millisecond())
    }

    /// The text of a Unix time in milliseconds, to the second. One that no calendar has is spelt as the
    /// epoch.
    pub fn text(&self, unix_ms: i64) -> String {
        let time = Timestamp::from_millisecond(unix_ms).unwrap_or_default();
        self.0.to_datetime(time).strftime("%Y-%m-%dT%H:%M:%S").to_string()
    }
}

/// Bytes of a time, at most: one with nanoseconds and the name of its zone is shorter.
const MOST_BYTES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    const NEW_YEAR_UTC: i64 = 1_767_225_600_000;

    #[test]
    fn times_without_an_offset_are_of_the_zone() {
        let seoul = Zone::named("Asia/Seoul").unwrap();
        for text in [
            "2026-01-01T09:00:00",
            "2026-01-01T09:00",
            "2026-01-01T09:00:00.000",
            "2026-01-01 09:00:00",
            "2026-01-01T00:00:00Z",
            "2026-01-01T00:00:00.000Z",
            "2026-01-01T01:00:00+01:00",
            "2025-12-31T19:00:00-05:00",
        ] {
            assert_eq!(seoul.read(text), Some(NEW_YEAR_UTC), "{text}");
        }
        assert_eq!(seoul.text(NEW_YEAR_UTC + 999), "2026-01-01T09:00:00");
        assert_eq!(Zone::named("UTC").unwrap().text(NEW_YEAR_UTC), "2026-01-01T00:00:00");
    }

    #[test]
    fn what_is_no_time_is_none() {
        let seoul = Zone::named("Asia/Seoul").unwrap();
        let long = format!("2026-01-01T09:00:00{}", " ".repeat(100));
        for text in [
            "",
            "2026",
            "2026-01-01",
            "T",
            "09:00:00",
            "2026-13-01T00:00:00",
            "2026-02-30T00:00:00",
            "2026-01-01T25:00:00",
            "2026-01-01T09:00:00 x",
            "2026-01-01T09:00:00[Asia/Tokyo]",
            "1767225600000",
            &long,
        ] {
            assert_eq!(seoul.read(text), None, "{text}");
        }
        assert!(Zone::named("Mars/Olympus").is_none());
    }

    #[test]
    fn changing_clocks_are_read_one_way() {
        let berlin = Zone::named("Europe/Berlin").unwrap();
        let utc = |text: &str| text.parse::<Timestamp>().unwrap().as_millisecond();
        // 02:30 is left out on this day, and comes twice on the other.
        assert_eq!(berlin.read("2026-03-29T02:30:00"), Some(utc("2026-03-29T01:30:00Z")));
        assert_eq!(berlin.read("2026-10-25T02:30:00"), Some(utc("2026-10-25T00:30:00Z")));
    }
}
