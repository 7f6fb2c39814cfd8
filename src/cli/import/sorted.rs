//! Members in the order of their numbers, whatever order their file has.

use std::collections::VecDeque;
use std::io;
use std::path::Path;

use super::ImportError;
use super::array::Spot;
use super::bad::Skipped;
use super::people::{Found, Given, People, Person};
use crate::cli::progress::Progress;
use crate::index::IndexError;
use crate::index::sort::Sorter;
use crate::journal::record::Profile;

/// What is kept of a member while they are sorted.
type Kept = (u64, u64, u64, String, Option<String>, Option<String>, Option<String>);

/// Sorted members.
pub struct Sorted {
    sorter: Sorter,
    page: VecDeque<Vec<u8>>,
    answered: u64,
    at: i64,
    done: u64,
}

impl Sorted {
    /// Reads all of a file's members and sorts them. Flaws are left out here, if that is allowed.
    ///
    /// # Errors
    /// The file is bad, or the disk refuses.
    pub fn of(
        people: &mut dyn People,
        (path, data_dir): (&Path, &Path),
        skipped: &mut Skipped,
    ) -> Result<Sorted, ImportError> {
        let mut progress = Progress::new("sorting", std::fs::metadata(path).map_or(0, |file| file.len()));
        let sorter = Sorter::new(data_dir)?;
        let (mut at, unreadable) = (0, |error| ImportError::Source { path: path.to_owned(), error });
        while let Some(next) = people.next().map_err(unreadable)? {
            progress.item(people.done());
            match next {
                Ok((spot, Person { given: Given::Number(number), profile, at: created })) => {
                    at = created;
                    let Profile { username, nickname, profile_image, source, .. } = profile;
                    let kept: Kept =
                        (spot.byte, spot.number, number, username, nickname, profile_image, source);
                    let bytes = postcard::to_stdvec(&kept).map_err(io::Error::other)?;
                    sorter.add(number, &bytes)?;
                }
                Ok((spot, _)) => skipped.leave_out(path, &spot.flaw("the number is missing".to_owned()))?,
                Err(flaw) => skipped.leave_out(path, &flaw)?,
            }
        }
        sorter.sort()?;
        progress.finish();
        Ok(Sorted { sorter, page: VecDeque::new(), answered: 0, at, done: 0 })
    }
}

impl People for Sorted {
    fn next(&mut self) -> io::Result<Option<Found>> {
        if self.page.is_empty() {
            let page = self.sorter.page(self.answered).map_err(|error| match error {
                IndexError::Io(error) => error,
                other => io::Error::other(other),
            })?;
            self.answered += page.len() as u64;
            self.page = page.into();
        }
        let Some(bytes) = self.page.pop_front() else {
            return Ok(None);
        };
        self.done += bytes.len() as u64;
        let (byte, number, key, username, nickname, profile_image, source): Kept =
            postcard::from_bytes(&bytes).map_err(io::Error::other)?;
        let profile = Profile { username, password: None, nickname, profile_image, source };
        let person = Person { given: Given::Number(key), profile, at: self.at };
        Ok(Some(Ok((Spot { byte, number }, person))))
    }

    fn done(&self) -> u64 {
        self.done
    }
}
