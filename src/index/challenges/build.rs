//! Brings the database of challenges into step with the log: from where it stopped, or from nothing.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::store::ChallengeStore;
use super::{TABLES, VERSION, file};
use crate::index::build::{self, BuildError, log};
use crate::index::bulk;
use crate::index::database::Database;
use crate::index::store::{self, LogName};
use crate::index::{IndexError, schema};
use crate::journal::record::ChallengeRecord;
use crate::journal::recover::Scan;

/// Records applied in one transaction.
const STEP_RECORDS: usize = 50_000;

/// Opens the database and brings it into step, building it anew if need be.
///
/// # Errors
/// The log is damaged, or the database can't be written.
pub fn open(data_dir: &Path) -> Result<(ChallengeStore, Scan), BuildError> {
    store::make_directory(data_dir)?;
    match usable(data_dir) {
        Ok(Some(store)) => match catch_up(data_dir, &store) {
            Err(BuildError::Index(error)) if error.is_damage() => {
                tracing::warn!(%error, "the index of challenges is damaged; building it anew");
            }
            done => return done.map(|scan| (store, scan)),
        },
        Ok(None) => {}
        Err(error) => build::give_up(error)?,
    }
    let scan = rebuild(data_dir)?;
    match ChallengeStore::open(data_dir)? {
        Some(store) => Ok((store, scan)),
        None => Err(io::Error::from(io::ErrorKind::NotFound).into()),
    }
}

/// The database, if it is sound and was made from this log. `Ok(None)`: there is none.
fn usable(data_dir: &Path) -> Result<Option<ChallengeStore>, BuildError> {
    let Some(store) = ChallengeStore::open(data_dir)? else {
        return Ok(None);
    };
    build::check_sound(&file(data_dir), &store)?;
    build::check_origin(data_dir, &store, LogName::Challenges)?;
    Ok(Some(store))
}

/// Builds the database anew from the log.
///
/// # Errors
/// The log is damaged, or the database can't be written. The old one, if any, is as it was.
pub fn rebuild(data_dir: &Path) -> Result<Scan, BuildError> {
    store::make_directory(data_dir)?;
    let building = building(data_dir);
    bulk::discard_building(&building)?;
    let store = ChallengeStore::of(Database::create(&building, TABLES)?);
    let scan = catch_up(data_dir, &store)?;
    store.into_database().finish(VERSION)?;
    File::open(&building)?.sync_all()?;
    bulk::take_place(data_dir, &building, &file(data_dir))?;
    Ok(scan)
}

/// Removes the database; the next start of the storage writer builds it anew.
///
/// # Errors
/// The directory can't be written.
pub fn discard(data_dir: &Path) -> io::Result<()> {
    bulk::discard_database(&file(data_dir))
}

fn building(data_dir: &Path) -> PathBuf {
    schema::directory(data_dir).join("challenges.building")
}

fn catch_up(data_dir: &Path, store: &ChallengeStore) -> Result<Scan, BuildError> {
    log::catch_up(data_dir, store, LogName::Challenges, &mut |_, _, _| {}, Records { store, taken: 0 })
}

struct Records<'s> {
    store: &'s ChallengeStore,
    taken: usize,
}

impl log::Apply for Records<'_> {
    type Record = ChallengeRecord;
    fn take(&mut self, record: &ChallengeRecord) -> Result<(), IndexError> {
        self.taken += 1;
        self.store.apply(record)
    }
    fn is_full(&self) -> bool {
        self.taken >= STEP_RECORDS
    }
    fn put(&mut self, _: u64) -> Result<(), IndexError> {
        self.taken = 0;
        Ok(())
    }
}
