//! The names of users who called lately: every call with a token asks whether its user is still there.
//!
//! Bounded, and forgets roughly those who have not called for longest: when the younger half is full, it
//! becomes the older one, and what was the older one goes; who is found there is young again.
//!
//! Only who was found is remembered, and a user once made keeps number and name until all users are
//! deleted, when all are forgotten; so nothing in here turns wrong: who is not in here is looked up. Memberships and rooms are not kept: they change on other
//! workers, an index look-up costs five microseconds, and a socket's memberships are in the hub anyway.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::chat::UserId;
use crate::index::{IndexError, Reader};

/// Users remembered, at most; with their names about 100 bytes each.
pub const NAMES: usize = 32_768;

type Half = HashMap<UserId, Arc<str>, foldhash::fast::RandomState>;

/// Names by number.
#[derive(Default)]
pub struct Names {
    young: Half,
    old: Half,
    hits: u64,
    misses: u64,
}

impl Names {
    /// The name of a user; `None`: there is no such user.
    ///
    /// # Errors
    /// The index had to be asked and can't be read.
    pub fn name(&mut self, number: UserId, index: &Reader) -> Result<Option<Arc<str>>, IndexError> {
        if let Some(name) = self.young.get(&number) {
            self.hits += 1;
            return Ok(Some(name.clone()));
        }
        let name = match self.old.remove(&number) {
            Some(name) => {
                self.hits += 1;
                name
            }
            None => {
                self.misses += 1;
                match index.user_by_number(number)? {
                    Some(user) => user.username.into(),
                    None => return Ok(None),
                }
            }
        };
        self.keep(number, name.clone());
        Ok(Some(name))
    }

    /// Forgets all: they are deleted.
    pub fn forget(&mut self) {
        self.young.clear();
        self.old.clear();
    }

    fn keep(&mut self, number: UserId, name: Arc<str>) {
        if self.young.len() >= NAMES / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(number, name);
    }

    /// What operators watch.
    pub fn report(&self) -> Value {
        json!({
            "name": "users",
            "entries": self.young.len() + self.old.len(),
            "limit": NAMES,
            "hits": self.hits,
            "misses": self.misses,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_no_more_than_its_bound_and_those_who_call_again() {
        let mut names = Names::default();
        for number in 1..=3 * NAMES as u64 {
            names.keep(number, "name".into());
            // One calls again and again.
            if number.is_multiple_of(100)
                && let Some(name) = names.old.remove(&1).or_else(|| names.young.get(&1).cloned())
            {
                names.keep(1, name);
            }
            assert!(names.young.len() + names.old.len() <= NAMES);
        }
        assert!(names.young.contains_key(&1) || names.old.contains_key(&1));
        assert!(!names.young.contains_key(&2) && !names.old.contains_key(&2));
    }
}
