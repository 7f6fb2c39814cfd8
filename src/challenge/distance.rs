//! The distances that can be run, and the time each has.

use serde::{Deserialize, Serialize};

use super::Amount;

/// A distance of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[allow(missing_docs, reason = "the names are the codes; `TABLE` says the rest")]
pub enum Distance {
    M100,
    M500,
    One,
    Two,
    Three,
    Four,
    Five,
    Six,
    Seven,
    Eight,
    Nine,
    Ten,
    Fifteen,
    Half,
}

/// Code, kilometres, minutes.
const TABLE: [(Distance, &str, f64, i64); 14] = [
    (Distance::M100, "M100", 0.1, 5),
    (Distance::M500, "M500", 0.5, 10),
    (Distance::One, "ONE", 1.0, 20),
    (Distance::Two, "TWO", 2.0, 30),
    (Distance::Three, "THREE", 3.0, 45),
    (Distance::Four, "FOUR", 4.0, 60),
    (Distance::Five, "FIVE", 5.0, 60),
    (Distance::Six, "SIX", 6.0, 75),
    (Distance::Seven, "SEVEN", 7.0, 90),
    (Distance::Eight, "EIGHT", 8.0, 105),
    (Distance::Nine, "NINE", 9.0, 120),
    (Distance::Ten, "TEN", 10.0, 120),
    (Distance::Fifteen, "FIFTEEN", 15.0, 135),
    (Distance::Half, "HALF", 21.0975, 180),
];

impl Distance {
    /// All of them, the shortest first.
    pub fn all() -> impl Iterator<Item = Distance> {
        TABLE.iter().map(|row| row.0)
    }

    /// The distance of a code; `None`: there is none.
    pub fn of(code: &str) -> Option<Distance> {
        TABLE.iter().find(|row| row.1 == code).map(|row| row.0)
    }

    /// The code.
    pub fn code(self) -> &'static str {
        self.row().1
    }

    /// Kilometres.
    pub fn km(self) -> Amount {
        Amount::try_from(self.row().2).unwrap_or_default()
    }

    /// Milliseconds from the start of a challenge to its end.
    pub fn time_ms(self) -> i64 {
        self.row().3 * 60_000
    }

    fn row(self) -> &'static (Distance, &'static str, f64, i64) {
        &TABLE[self as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_codes() {
        for (at, distance) in Distance::all().enumerate() {
            assert_eq!(distance as usize, at);
            assert_eq!(Distance::of(distance.code()), Some(distance));
            let text = format!("\"{}\"", distance.code());
            assert_eq!(serde_json::to_string(&distance).unwrap(), text);
        }
        assert_eq!((Distance::Half.km().get(), Distance::Half.time_ms()), (21.0975, 10_800_000));
        assert_eq!((Distance::M100.km().get(), Distance::M100.time_ms()), (0.1, 300_000));
        assert_eq!(Distance::of("half"), None);
    }
}
