//! How members of a run move: a position says by itself which record of its sender it is.

/// How far a position may be from what was sent, in km: servers may keep rounded ones.
const NEAR_KM: f64 = 1e-6;

/// How everybody runs: a member's record `n` is `n` steps of time and of way from where it began.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gait {
    /// From one record to the next.
    pub every_ms: i64,
    /// Way between them.
    pub step_km: f64,
    /// Length of the course: the record that reaches it is the last.
    pub course_km: f64,
}

impl Gait {
    /// Where record `number` is.
    pub fn distance(&self, number: u16) -> f64 {
        (self.step_km * f64::from(number)).min(self.course_km)
    }

    /// Whether record `number` reaches the end of the course.
    pub fn finishes(&self, number: u16) -> bool {
        self.step_km * f64::from(number) >= self.course_km
    }

    /// The first number up to `sent` whose record is at `distance`.
    pub fn number_at(&self, distance: f64, sent: u16) -> Option<u16> {
        let (mut low, mut high) = (0, sent);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.distance(middle) + NEAR_KM < distance {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        ((self.distance(low) - distance).abs() <= NEAR_KM).then_some(low)
    }

    /// Which record up to `sent` is at `distance`, so long after record 0.
    pub fn number_of(&self, distance: f64, since_ms: i64, sent: u16) -> Option<u16> {
        let number = (since_ms % self.every_ms == 0).then_some(since_ms / self.every_ms)?;
        let number = u16::try_from(number).ok().filter(|number| (1..=sent).contains(number))?;
        ((self.distance(number) - distance).abs() <= NEAR_KM).then_some(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_tells_its_number() {
        let gait = Gait { every_ms: 500, step_km: 0.1, course_km: 0.95 };
        let numbers = [0.0, 0.3, 0.30000001, 0.31, 0.9, 0.95].map(|km| gait.number_at(km, 10));
        assert_eq!(numbers, [Some(0), Some(3), Some(3), None, Some(9), Some(10)]);
        assert_eq!(gait.number_at(0.4, 3), None);
        assert_eq!(gait.number_of(0.3, 1500, 3), Some(3));
        for (km, since_ms) in [(0.3, 1000), (0.3, 1501), (0.4, 2000), (0.0, 0), (0.1, -500)] {
            assert_eq!(gait.number_of(km, since_ms, 3), None, "{km} after {since_ms}");
        }
        assert!(gait.finishes(10) && !gait.finishes(9));
    }
}
