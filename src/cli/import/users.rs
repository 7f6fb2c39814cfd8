//! Users: numbered, written, indexed; names that two of them have are found by sorting, at the end.

use std::path::Path;

use super::ImportError;
use super::bad::Skipped;
use super::people::{Given, People, Person};
use super::target::Target;
use crate::chat::UserId;
use crate::cli::progress::Progress;
use crate::journal::record::{UserChange, UserRecord};

/// Users of the same name as another that are remembered, at most; 80 MB.
const SAME_NAMES: usize = 10_000_000;

/// What numbers users get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numbering {
    /// Those that the source gives, which must rise; one that gives none gets the next.
    Given,
    /// Those that the source gives, which has been sorted by them.
    Sorted,
    /// The next ones, in the order of the source.
    InOrder,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All are in.
    Done,
    /// A number does not rise: the source has to be read from its beginning, otherwise.
    NotRising,
    /// These have a name that another has: the number each would have if all were let in. The source
    /// has to be read again, without them.
    SameNames(Vec<UserId>),
}

/// How one reading of the source goes.
pub struct Pass<'a> {
    /// The source, to be named.
    pub path: &'a Path,
    /// Which numbers.
    pub numbering: Numbering,
    /// Those to be left out since their name is taken, by the number they would have, rising.
    pub taken: &'a [UserId],
    /// With that: nothing is written, only said.
    pub dry: bool,
}

impl Pass<'_> {
    /// Reads all users.
    ///
    /// # Errors
    /// The source is bad and nothing may be left out of it, or the disk refuses.
    pub fn run(
        &self,
        people: &mut dyn People,
        target: &mut Target,
        skipped: &mut Skipped,
        progress: &mut Progress,
    ) -> Result<Outcome, ImportError> {
        let mut taken = self.taken.iter().copied().peekable();
        let mut last = target.bulk.store.last_user()?;
        // The last number if those were let in whose name is taken.
        let mut last_with_taken = last;
        let unreadable = |error| ImportError::Source { path: self.path.to_owned(), error };
        while let Some(next) = people.next().map_err(unreadable)? {
            progress.item(people.done());
            let (spot, person) = match next {
                Ok(found) => found,
                Err(flaw) => {
                    skipped.leave_out(self.path, &flaw)?;
                    continue;
                }
            };
            let number = match (self.numbering, person.given) {
                (Numbering::Given, Given::Number(number)) if number > last_with_taken => number,
                (Numbering::Given, Given::Number(_) | Given::Other) => return Ok(Outcome::NotRising),
                (Numbering::Sorted, Given::Number(number)) if number > last_with_taken => number,
                (Numbering::Sorted, given) => {
                    skipped.leave_out(self.path, &spot.flaw(unfit(given, last_with_taken)))?;
                    continue;
                }
                _ => last_with_taken + 1,
            };
            last_with_taken = number;
            if taken.next_if_eq(&number).is_some() {
                let what = format!("the user name {} is taken", person.profile.username);
                skipped.leave_out(self.path, &spot.flaw(what))?;
                continue;
            }
            if self.dry {
                continue;
            }
            let number = if self.numbering == Numbering::InOrder { last + 1 } else { number };
            if let Some(what) = write(target, number, person)? {
                skipped.leave_out(self.path, &spot.flaw(what))?;
                if self.numbering == Numbering::InOrder {
                    last_with_taken -= 1;
                }
                continue;
            }
            last = number;
        }
        if self.dry {
            return Ok(Outcome::Done);
        }
        progress.note("sorting the names");
        if target.bulk.store.index_names()? {
            return Ok(Outcome::Done);
        }
        progress.note("looking for those that have the same name");
        let mut numbers = Vec::new();
        target.bulk.store.same_names(&mut |number| {
            numbers.push(number);
            numbers.len() < SAME_NAMES
        })?;
        if numbers.len() == SAME_NAMES {
            return Err(ImportError::TooManySameNames(SAME_NAMES));
        }
        numbers.sort_unstable();
        Ok(Outcome::SameNames(numbers))
    }
}

/// Why somebody can't have the number that the sorted source gives.
fn unfit(given: Given, last: UserId) -> String {
    match given {
        Given::Number(number) if number == last => format!("the user number {number} is taken"),
        Given::Number(number) => format!("the user number {number} is below {last}, which is taken"),
        Given::Nothing | Given::Other => "the number is missing".to_owned(),
    }
}

/// Whether an older user's name is another spelling of this one. While there is no index of names, nobody can
/// tell, and each is found by their own spelling.
fn is_taken(target: &Target, record: &UserRecord) -> Result<bool, ImportError> {
    let UserChange::Created(profile) = &record.change else {
        return Ok(false);
    };
    let asked = target.finds_names && !profile.username.is_ascii();
    Ok(asked && target.bulk.store.user_number(&profile.username)?.is_some())
}

/// Writes one user; says why not, if the name is known to be taken.
fn write(target: &mut Target, number: UserId, person: Person) -> Result<Option<String>, ImportError> {
    let record = UserRecord {
        rev: target.users.last + 1,
        op: target.op,
        user_id: number,
        at: person.at,
        synced: target.users.synced,
        change: UserChange::Created(person.profile),
    };
    if !is_taken(target, &record)? && target.bulk.store.apply_user(&record)? {
        target.users.push(&record)?;
        return Ok(None);
    }
    Ok(match record.change {
        UserChange::Created(profile) => Some(format!("the user name {} is taken", profile.username)),
        _ => None,
    })
}
