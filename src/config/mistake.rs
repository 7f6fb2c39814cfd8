//! What is wrong with a configuration, in words an operator can act on.

use std::fmt;

/// One mistake: where it is and what was expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// `FILE:LINE`, a flag or an environment variable.
    pub place: String,
    /// The setting, as `section.key`; empty where the place says it all.
    pub key: String,
    /// What was expected, and what was found.
    pub text: String,
}

/// A configuration that cannot be used; at least one mistake. Shown as one line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct BadConfig(pub Vec<Mistake>);

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.place)?;
        if !self.place.is_empty() {
            f.write_str(": ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.text)
    }
}

impl fmt::Display for BadConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [] => f.write_str("bad configuration"),
            [only] => only.fmt(f),
            [first, second] => write!(f, "{first}; {second}"),
            [first, rest @ ..] => write!(f, "{first} (and {} more; check-config lists them)", rest.len()),
        }
    }
}
