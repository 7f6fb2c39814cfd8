//! Which of a room's messages one receiver has got: exact, at one bit for each still owed.
//!
//! Numbers come nearly in order, so everything below a moving base has been seen and only what is
//! above it needs bits. A duplicate is told from an overtaken message however late it comes.

use std::collections::VecDeque;

const WORD: u32 = u64::BITS;

/// A set of numbers that is nearly always a prefix of the whole.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// All below are in the set; a multiple of the word size.
    base: u32,
    words: VecDeque<u64>,
}

impl Seen {
    /// Adds `number`; false if it was there already.
    ///
    /// Memory grows with the distance of `number` from the first one missing: give it only numbers
    /// known to have been sent.
    pub fn insert(&mut self, number: u32) -> bool {
        let Some(above) = number.checked_sub(self.base) else { return false };
        let (word, bit) = ((above / WORD) as usize, 1 << (above % WORD));
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        let new = self.words[word] & bit == 0;
        self.words[word] |= bit;
        while self.words.front() == Some(&u64::MAX) {
            self.words.pop_front();
            self.base = self.base.saturating_add(WORD);
        }
        new
    }

    /// Whether `number` is in the set.
    pub fn contains(&self, number: u32) -> bool {
        number.checked_sub(self.base).is_none_or(|above| {
            self.words.get((above / WORD) as usize).is_some_and(|word| word >> (above % WORD) & 1 == 1)
        })
    }

    /// Everything below this is in the set.
    pub fn base(&self) -> u32 {
        self.base
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_number_is_new_once_in_any_order() {
        let mut seen = Seen::default();
        let order: Vec<u32> = (0..1000).map(|n| n * 387 % 1000).collect();
        assert!(order.iter().all(|&n| !seen.contains(n) && seen.insert(n) && seen.contains(n)));
        assert!(order.iter().all(|&n| !seen.insert(n)));
        assert!(!seen.contains(1000));
    }

    #[test]
    fn what_is_complete_takes_no_memory() {
        let mut seen = Seen::default();
        for number in 0..6400 {
            seen.insert(number);
        }
        assert_eq!((seen.base(), seen.words.len()), (6400, 0));
        seen.insert(6500);
        assert!(!seen.contains(6499) && seen.contains(6500) && seen.contains(3));
    }
}
