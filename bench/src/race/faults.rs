//! What was wrong, counted, with the first of each kind in full.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Faults of each kind that are told in full.
const EXAMPLES: usize = 10;

/// The verdict.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Faults {
    /// Owed to somebody who was there throughout, and never told.
    pub lost: u64,
    /// Told a second time.
    pub duplicated: u64,
    /// Told after something later: positions that go back, news of somebody who has left, two members'
    /// coming or going in another order than others were told.
    pub out_of_order: u64,
    /// Told though it never was so.
    pub foreign: u64,
    /// PINGs without a PONG on a connection that is still there.
    pub unanswered: u64,
    /// The first ten of each kind.
    pub examples: BTreeMap<String, Vec<Sighting>>,
}

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sighting {
    /// Number of the user who met it.
    pub who: u64,
    /// Number of the user it is about.
    pub about: u64,
    /// What is wrong.
    pub what: String,
}

/// The kinds of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// [`Faults::lost`].
    Lost,
    /// [`Faults::duplicated`].
    Duplicated,
    /// [`Faults::out_of_order`].
    OutOfOrder,
    /// [`Faults::foreign`].
    Foreign,
    /// [`Faults::unanswered`].
    Unanswered,
}

impl Faults {
    /// Notes one.
    pub fn note(&mut self, kind: Kind, who: u64, about: u64, what: impl Into<String>) {
        let (count, name) = match kind {
            Kind::Lost => (&mut self.lost, "lost"),
            Kind::Duplicated => (&mut self.duplicated, "duplicated"),
            Kind::OutOfOrder => (&mut self.out_of_order, "out_of_order"),
            Kind::Foreign => (&mut self.foreign, "foreign"),
            Kind::Unanswered => (&mut self.unanswered, "unanswered"),
        };
        *count += 1;
        let examples = self.examples.entry(name.to_owned()).or_default();
        if examples.len() < EXAMPLES {
            examples.push(Sighting { who, about, what: what.into() });
        }
    }

    /// Adds those of another challenge.
    pub fn add(&mut self, other: Faults) {
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.out_of_order += other.out_of_order;
        self.foreign += other.foreign;
        self.unanswered += other.unanswered;
        for (kind, examples) in other.examples {
            let all = self.examples.entry(kind).or_default();
            all.extend(examples);
            all.truncate(EXAMPLES);
        }
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.lost + self.duplicated + self.out_of_order + self.foreign + self.unanswered
    }
}
