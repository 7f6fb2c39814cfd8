//! When messages are due: phases one after another, each with its pace at its begin and at its end.
//!
//! Message k is due when the area under the pace reaches k, so a schedule needs no list of times and
//! every thread can ask for those of its own messages.

use std::time::Duration;

use crate::clock::{SECOND_NS, ns};

/// One stretch of the load.
#[derive(Clone, Debug, PartialEq)]
pub struct Stretch {
    /// The name of its phase.
    pub name: String,
    /// How long.
    pub duration: Duration,
    /// Messages per second at its begin.
    pub from: f64,
    /// At its end; between them the pace changes evenly.
    pub to: f64,
    /// Whether it is part of what is measured.
    pub measured: bool,
}

/// A load over time.
#[derive(Clone, Debug, Default)]
pub struct Schedule {
    stretches: Vec<Placed>,
    due: u64,
}

#[derive(Clone, Debug)]
struct Placed {
    stretch: Stretch,
    begin_ns: u64,
    /// Messages due before it.
    before: f64,
}

/// Parts of a message that are rounding, not a message.
const GRAIN: f64 = 1e-6;

impl Schedule {
    /// Those stretches one after another.
    pub fn new(stretches: Vec<Stretch>) -> Schedule {
        let (mut begin_ns, mut before) = (0, 0.0);
        let mut placed = vec![];
        for stretch in stretches {
            let (length, area) = (ns(stretch.duration), area(&stretch));
            placed.push(Placed { stretch, begin_ns, before });
            begin_ns += length;
            before += area;
        }
        Schedule { stretches: placed, due: whole(before) }
    }

    /// The same with `factor` times as many messages.
    pub fn scaled(&self, factor: f64) -> Schedule {
        let stretch = |placed: &Placed| Stretch {
            from: placed.stretch.from * factor,
            to: placed.stretch.to * factor,
            ..placed.stretch.clone()
        };
        Schedule::new(self.stretches.iter().map(stretch).collect())
    }

    /// How many messages are due in all.
    #[cfg(test)]
    pub fn messages(&self) -> u64 {
        self.due
    }

    /// When message `k` (from 0) is due, in ns since the begin; `None`: there are not so many.
    pub fn due_ns(&self, k: u64) -> Option<u64> {
        if k >= self.due {
            return None;
        }
        let place = self.stretches.partition_point(|placed| placed.before <= k as f64 + GRAIN);
        let placed = &self.stretches[place.checked_sub(1)?];
        let into_s = time_of(&placed.stretch, (k as f64 - placed.before).max(0.0));
        let into = Duration::try_from_secs_f64(into_s).unwrap_or_default().min(placed.stretch.duration);
        Some(placed.begin_ns + ns(into))
    }

    /// The stretches with their begins and ends, in ns since the begin.
    pub fn stretches(&self) -> impl Iterator<Item = (&Stretch, u64, u64)> {
        self.stretches
            .iter()
            .map(|placed| (&placed.stretch, placed.begin_ns, placed.begin_ns + ns(placed.stretch.duration)))
    }

    /// The highest pace, in messages per second.
    pub fn peak(&self) -> f64 {
        self.stretches.iter().map(|placed| placed.stretch.from.max(placed.stretch.to)).fold(0.0, f64::max)
    }
}

/// Messages due in a stretch, parts included.
fn area(stretch: &Stretch) -> f64 {
    (stretch.from + stretch.to) / 2.0 * stretch.duration.as_secs_f64()
}

/// How many messages start in an area: the first at its very begin.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "saturates, and is never negative"
)]
fn whole(area: f64) -> u64 {
    (area - GRAIN).ceil().max(0.0) as u64
}

/// Seconds until the area under the pace is `messages`.
fn time_of(stretch: &Stretch, messages: f64) -> f64 {
    let Stretch { from, to, duration, .. } = stretch;
    let slope = (to - from) / duration.as_secs_f64().max(1.0 / SECOND_NS as f64);
    // from·t + slope/2·t² = messages, in the form that is exact for a slope of 0.
    let root = (from * from + 2.0 * slope * messages).max(0.0).sqrt();
    if messages == 0.0 { 0.0 } else { 2.0 * messages / (from + root) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stretch(seconds: f64, from: f64, to: f64) -> Stretch {
        let duration = Duration::from_secs_f64(seconds);
        Stretch { name: "x".into(), duration, from, to, measured: true }
    }

    #[test]
    fn an_even_pace_is_a_message_each_interval() {
        let schedule = Schedule::new(vec![stretch(0.4, 500.0, 500.0)]);
        assert_eq!(schedule.messages(), 200);
        assert!((0..200).all(|k| schedule.due_ns(k).unwrap().abs_diff(k * 2_000_000) <= 1));
        assert_eq!(schedule.due_ns(200), None);
    }

    #[test]
    fn ramps_steps_and_stops_join_without_a_gap() {
        let schedule = Schedule::new(vec![
            stretch(2.0, 0.0, 100.0),
            stretch(1.0, 100.0, 100.0),
            stretch(1.0, 0.0, 0.0),
            stretch(1.0, 400.0, 0.0),
        ]);
        assert_eq!(schedule.messages(), 100 + 100 + 200);
        let due: Vec<u64> = (0..400).map(|k| schedule.due_ns(k).unwrap()).collect();
        assert!(due.is_sorted());
        let within = |from_s: u64, to_s: u64| {
            due.iter().filter(|at| (from_s * SECOND_NS..to_s * SECOND_NS).contains(at)).count()
        };
        assert_eq!(
            (within(0, 1), within(1, 2), within(2, 3), within(3, 4), within(4, 5)),
            (25, 75, 100, 0, 200)
        );
        assert_eq!((schedule.peak(), schedule.scaled(0.5).messages()), (400.0, 200));
    }

    #[test]
    fn nothing_is_due_without_a_pace() {
        assert_eq!(Schedule::default().due_ns(0), None);
        assert_eq!(Schedule::new(vec![stretch(10.0, 0.0, 0.0)]).messages(), 0);
        assert_eq!(Schedule::new(vec![stretch(0.0, 5.0, 5.0)]).messages(), 0);
    }
}
