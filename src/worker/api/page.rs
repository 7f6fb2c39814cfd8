//! Which part of a list a query asks for.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

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

/// Items of one page of the challenge surface, at most.
const PAGE_SIZE: u32 = 100;

/// Items of one page if nothing is said.
const PAGE_SIZE_DEFAULT: u32 = 20;

/// Which page of a list of the challenge surface; text first, so that a mistake can be named.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Pages {
    /// From 0, which it is if not given.
    #[param(value_type = Option<u32>)]
    page: Option<String>,
    /// 1 to 100; 20 if not given.
    #[param(value_type = Option<u32>)]
    size: Option<String>,
}

/// A page that may be asked for.
#[derive(Debug, PartialEq, Eq)]
pub struct Page {
    page: u32,
    /// How many items it has, at most.
    pub size: u32,
}

/// A page of a list.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Paged<T> {
    content: Vec<T>,
    /// From 0.
    page: u32,
    size: u32,
    total_elements: u64,
    total_pages: u64,
    /// Whether there is another page.
    has_next: bool,
}

impl Pages {
    /// The page.
    ///
    /// # Errors
    /// `INVALID_REQUEST`: which is no number, or out of range.
    pub fn read(&self) -> Result<Page, Refusal> {
        let number = |text: &Option<String>, default| match text {
            None => Some(default),
            Some(text) => text.parse().ok(),
        };
        let page = number(&self.page, 0).ok_or_else(|| invalid("page must be a whole number from 0"))?;
        let size = number(&self.size, PAGE_SIZE_DEFAULT).filter(|size| (1..=PAGE_SIZE).contains(size));
        let size = size.ok_or_else(|| invalid(&format!("size must be 1 to {PAGE_SIZE}")))?;
        Ok(Page { page, size })
    }
}

impl Page {
    /// How many items are on the pages before.
    pub fn skip(&self) -> u64 {
        u64::from(self.page) * u64::from(self.size)
    }

    /// The page with its items; `total` there are on all.
    pub fn of<T>(self, content: Vec<T>, total_elements: u64) -> Paged<T> {
        let Page { page, size } = self;
        let total_pages = total_elements.div_ceil(size.into());
        let has_next = u64::from(page) + 1 < total_pages;
        Paged { content, page, size, total_elements, total_pages, has_next }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_counted_from_nought() {
        let read = |page: Option<&str>, size: Option<&str>| {
            Pages { page: page.map(str::to_owned), size: size.map(str::to_owned) }.read()
        };
        assert_eq!(read(None, None), Ok(Page { page: 0, size: 20 }));
        let page = read(Some("2"), Some("10")).unwrap();
        assert_eq!(page.skip(), 20);
        let paged = page.of(vec![1], 21);
        assert_eq!((paged.total_pages, paged.has_next), (3, false));
        assert!(read(Some("1"), Some("10")).unwrap().of(vec![1], 21).has_next);
        for (page, size) in [("-1", "1"), ("x", "1"), ("", "1"), ("0", "0"), ("0", "101"), ("0", "x")] {
            assert!(read(Some(page), Some(size)).is_err(), "{page} {size}");
        }
    }
}
