//! Something for each of many users that is as good as nothing after a while.

use std::collections::HashMap;

use super::UserId;

/// Entries that are not worth a look at which of them have faded.
pub const FEW: usize = 1_024;

/// Entries by user. Those that have faded are forgotten whenever there are twice as many as were left the
/// last time, so looking at them all costs each entry little.
pub struct Fading<T> {
    pub(super) entries: HashMap<UserId, T, foldhash::fast::RandomState>,
    /// How many there may be before they are looked at.
    most: usize,
}

impl<T> Default for Fading<T> {
    fn default() -> Fading<T> {
        Fading { entries: HashMap::default(), most: FEW }
    }
}

impl<T: Default> Fading<T> {
    /// A user's entry; `counts` says which ones have not faded.
    pub fn of(&mut self, user: UserId, counts: impl Fn(&T) -> bool) -> &mut T {
        if self.entries.len() >= self.most {
            self.entries.retain(|_, entry| counts(entry));
            self.most = FEW.max(2 * self.entries.len());
            self.entries.shrink_to(self.most);
        }
        self.entries.entry(user).or_default()
    }
}
