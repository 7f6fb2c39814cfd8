//! Durations as people write them: a whole number and a unit, `"50ms"`, `"30s"`, `"5m"`, `"24h"`, `"7d"`.

use std::time::Duration;

/// Units in milliseconds, the smallest first.
const UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// None: not a duration, or one past 580 million years.
pub(super) fn parse(text: &str) -> Option<Duration> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(unit_at);
    let (_, unit_ms) = UNITS.iter().find(|(name, _)| *name == unit)?;
    Some(Duration::from_millis(number.parse::<u64>().ok()?.checked_mul(*unit_ms)?))
}

/// The shortest text that [`parse`] turns back into the duration, whole milliseconds given.
pub(super) fn show(duration: Duration) -> String {
    let ms = duration.as_millis();
    let fits = |(_, unit_ms): &&(&str, u64)| ms.is_multiple_of(u128::from(*unit_ms)) && ms > 0;
    let (name, unit_ms) = UNITS.iter().rfind(fits).unwrap_or(&("s", 1_000));
    format!("{}{name}", ms / u128::from(*unit_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_forms_are_read() {
        for (text, ms) in [("0s", 0), ("50ms", 50), ("30s", 30_000), ("5m", 300_000), ("24h", 86_400_000)] {
            assert_eq!(parse(text), Some(Duration::from_millis(ms)), "{text}");
        }
        assert_eq!(parse("7d"), Some(Duration::from_secs(7 * 86_400)));
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "30", "s", "-1s", "1.5s", "1 s", "1S", "1h30m", "5 minutes", "99999999999999999999s"]
        {
            assert_eq!(parse(text), None, "{text:?}");
        }
        assert_eq!(parse("999999999999999999d"), None);
    }

    #[test]
    fn what_is_shown_is_read_back() {
        for text in ["0s", "1ms", "1500ms", "90s", "2m", "36h", "3d"] {
            assert_eq!(show(parse(text).unwrap()), text);
        }
    }
}
