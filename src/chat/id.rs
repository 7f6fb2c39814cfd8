//! Identifiers: users by number, operations by the worker that first asked for them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A user's number: 1, 2, 3, … in order of creation. The challenge surface calls it `memberId`.
pub type UserId = u64;

/// Names one operation for ever: the worker process that took it in, and that worker's count.
///
/// A worker that loses the storage writer sends its unanswered operations again under the same
/// `OpId`, so the writer can tell a retry from a new wish. A message's public `id` is its `OpId`
/// as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct OpId {
    /// Random number drawn once by each worker process at its start.
    pub instance: u64,
    /// 1, 2, 3, … within that process.
    pub count: u64,
}

impl fmt::Display for OpId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{:x}", self.instance, self.count)
    }
}

/// The text is not 16 hexadecimal digits, `-`, and 1 to 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an operation id")]
pub struct BadOpId;

impl FromStr for OpId {
    type Err = BadOpId;

    fn from_str(text: &str) -> Result<Self, BadOpId> {
        let (instance, count) = text.split_once('-').ok_or(BadOpId)?;
        if instance.len() != 16 || count.is_empty() {
            return Err(BadOpId);
        }
        Ok(OpId { instance: hex(instance)?, count: hex(count)? })
    }
}

/// Lower-case hexadecimal digits only, so that every id has one spelling.
fn hex(digits: &str) -> Result<u64, BadOpId> {
    if !digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(BadOpId);
    }
    u64::from_str_radix(digits, 16).map_err(|_| BadOpId)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_round_trips() {
        for (instance, count) in [(0, 0), (1, 2), (u64::MAX, u64::MAX), (0xabc, 0xdef)] {
            let id = OpId { instance, count };
            assert_eq!(id.to_string().parse(), Ok(id));
        }
    }

    #[test]
    fn other_spellings_are_refused() {
        for text in
            ["", "-", "1-1", "00000000000000AB-1", "0000000000000001-", "0000000000000001-+1", "hello"]
        {
            assert_eq!(text.parse::<OpId>(), Err(BadOpId), "{text:?}");
        }
    }
}
