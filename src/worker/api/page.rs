//! Which part of a list a query asks for.

use super::rooms::invalid;
use crate::chat::Refusal;

/// The `limit` of a query: 1 to `most`, which it is if nothing is given.
pub fn limit(text: Option<&str>, most: usize) -> Result<usize, Refusal> {
    match text.map(str::parse::<usize>) {
        None => Ok(most),
        Some(Ok(limit)) if (1..=most).contains(&limit) => Ok(limit),
        Some(_) => Err(invalid(&format!("limit must be 1 to {most}"))),
    }
}

/// The `cursor` of a query, spelt as `read` reads it.
pub fn cursor<T, E>(
    text: Option<&str>,
    read: impl FnOnce(&str) -> Result<T, E>,
) -> Result<Option<T>, Refusal> {
    let wrong = |_| invalid("cursor must be one that an earlier answer gave");
    text.map(read).transpose().map_err(wrong)
}
