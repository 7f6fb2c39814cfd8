//! What the index says of names that come again and again: asked once, for as long as it is remembered.

use std::collections::HashMap;

use crate::index::IndexError;

/// Names that are remembered, at most; then all are forgotten.
const REMEMBERED: usize = 100_000;

/// Names, with what there is of each.
pub struct Known<T>(HashMap<String, Option<T>>);

impl<T> Default for Known<T> {
    fn default() -> Known<T> {
        Known(HashMap::new())
    }
}

impl<T: Copy> Known<T> {
    /// What there is of a name.
    ///
    /// # Errors
    /// The index, which is asked, can't be read.
    pub fn look_up(
        &mut self,
        name: &str,
        ask: impl FnOnce(&str) -> Result<Option<T>, IndexError>,
    ) -> Result<Option<T>, IndexError> {
        if let Some(found) = self.0.get(name) {
            return Ok(*found);
        }
        if self.0.len() == REMEMBERED {
            self.0.clear();
        }
        let found = ask(name)?;
        self.0.insert(name.to_owned(), found);
        Ok(found)
    }
}
