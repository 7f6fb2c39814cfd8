//! An index that is made beside the one in use and then takes its place.
//!
//! Nobody else knows it yet, so it is written in the fastest way there is, which a crash would spoil;
//! readers see a whole index at any time.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::store::{self, Store};
use super::{IndexError, schema};

/// An index in the making.
pub struct Bulk {
    /// To be written to.
    pub store: Store,
    data_dir: PathBuf,
}

impl Bulk {
    /// An empty one, without an index of names yet.
    ///
    /// # Errors
    /// The directory takes no file.
    pub fn empty(data_dir: &Path) -> Result<Bulk, IndexError> {
        store::make_directory(data_dir)?;
        discard_unfinished(data_dir)?;
        Ok(Bulk { store: Store::create(&building(data_dir))?, data_dir: data_dir.to_owned() })
    }

    /// A copy of the one in use, which must not be open anywhere.
    ///
    /// # Errors
    /// There is none, or no room for another.
    pub fn copy(data_dir: &Path) -> Result<Bulk, IndexError> {
        discard_unfinished(data_dir)?;
        fs::copy(schema::file(data_dir), building(data_dir))?;
        Ok(Bulk { store: Store::open_copy(&building(data_dir))?, data_dir: data_dir.to_owned() })
    }

    /// Makes it whole and durable, still beside the one in use.
    ///
    /// # Errors
    /// The disk refused.
    pub fn finish(self) -> Result<Finished, IndexError> {
        self.store.finish()?;
        File::open(building(&self.data_dir))?.sync_all()?;
        Ok(Finished { data_dir: self.data_dir })
    }
}

/// A whole index that is not in use yet.
pub struct Finished {
    data_dir: PathBuf,
}

impl Finished {
    /// Puts it in the place of the one in use, if there is one.
    ///
    /// # Errors
    /// The directory can't be written.
    pub fn take_place(self) -> io::Result<()> {
        take_place(&self.data_dir, &building(&self.data_dir), &schema::file(&self.data_dir))
    }
}

/// Puts a whole database in the place of another, if there is one.
///
/// # Errors
/// The directory can't be written.
pub(super) fn take_place(data_dir: &Path, building: &Path, file: &Path) -> io::Result<()> {
    discard_database(file)?;
    fs::rename(building, file)?;
    File::open(schema::directory(data_dir))?.sync_all()
}

/// Removes what an interrupted making has left behind.
///
/// # Errors
/// The directory can't be written.
pub fn discard_unfinished(data_dir: &Path) -> io::Result<()> {
    discard_building(&building(data_dir))
}

/// Removes a database in the making.
///
/// # Errors
/// The directory can't be written.
pub(super) fn discard_building(file: &Path) -> io::Result<()> {
    remove(&side_file(file, "-journal"))?;
    remove(file)
}

/// Removes the index; the next start of the storage writer builds it anew.
///
/// # Errors
/// The directory can't be written.
pub fn discard(data_dir: &Path) -> io::Result<()> {
    discard_database(&schema::file(data_dir))
}

/// Removes a database.
///
/// # Errors
/// The directory can't be written.
pub(super) fn discard_database(file: &Path) -> io::Result<()> {
    // The database goes first and its side files after it: what is left at any moment is either
    // whole or not taken for an index.
    remove(file)?;
    remove(&side_file(file, "-wal"))?;
    remove(&side_file(file, "-shm"))
}

fn building(data_dir: &Path) -> PathBuf {
    schema::directory(data_dir).join("building.sqlite")
}

fn side_file(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn remove(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
