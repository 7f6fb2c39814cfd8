//! Kilometres and minutes per kilometre, as clients say them.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

/// A finite number that is not below zero; says itself exactly as it was said, and can be compared.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Amount(f64);

/// The number is below zero, infinite, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a finite number of at least 0")]
pub struct BadAmount;

impl Amount {
    /// Nothing.
    pub const ZERO: Amount = Amount(0.0);

    /// The number.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl TryFrom<f64> for Amount {
    type Error = BadAmount;

    fn try_from(number: f64) -> Result<Amount, BadAmount> {
        // Negative zero is zero.
        if number.is_finite() && number >= 0.0 { Ok(Amount(number.abs())) } else { Err(BadAmount) }
    }
}

impl From<Amount> for f64 {
    fn from(amount: Amount) -> f64 {
        amount.0
    }
}

impl PartialEq for Amount {
    fn eq(&self, other: &Amount) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Amount {}

impl PartialOrd for Amount {
    fn partial_cmp(&self, other: &Amount) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Amount {
    fn cmp(&self, other: &Amount) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_run_is_an_amount() {
        for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.001] {
            assert_eq!(Amount::try_from(number), Err(BadAmount), "{number}");
        }
        for number in [0.0, 0.1, 21.0975, f64::MAX] {
            assert_eq!(Amount::try_from(number).map(Amount::get), Ok(number));
        }
        assert_eq!(Amount::try_from(-0.0), Ok(Amount::ZERO));
        assert!(Amount::try_from(0.3).unwrap() > Amount::try_from(0.2).unwrap());
    }
}
