//! What is wrong with a source, and what is done about it.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::ImportError;
use super::array::Flaw;

/// Entries that are shown, at most; a file takes all.
const SHOWN: usize = 1_000;

/// What was left out of an import.
pub struct Skipped {
    /// Whether anything may be.
    allowed: bool,
    file: Option<(PathBuf, BufWriter<File>)>,
    first: Vec<String>,
    total: u64,
}

impl Skipped {
    /// Nothing yet. With `file`, that takes the whole list.
    ///
    /// # Errors
    /// The file can't be made.
    pub fn new(allowed: bool, file: Option<PathBuf>) -> Result<Skipped, ImportError> {
        let made = match file {
            Some(path) => match File::create(&path) {
                Ok(made) => Some((path, BufWriter::new(made))),
                Err(error) => return Err(ImportError::Source { path, error }),
            },
            None => None,
        };
        Ok(Skipped { allowed, file: made, first: Vec::new(), total: 0 })
    }

    /// Whether anything may be left out.
    pub fn allowed(&self) -> bool {
        self.allowed
    }

    /// What was left out, a line each, and how much more there is.
    pub fn into_lines(mut self) -> Vec<String> {
        let more = self.total - self.first.len() as u64;
        if more > 0 {
            self.first.push(format!("and {more} more"));
        }
        self.first
    }

    /// How much was left out.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Forgets what was left out: the source is read from its beginning again.
    ///
    /// # Errors
    /// The list's file can't be written.
    pub fn again(&mut self) -> Result<(), ImportError> {
        self.first.clear();
        self.total = 0;
        if let Some((path, _)) = self.file.take() {
            *self = Skipped::new(self.allowed, Some(path))?;
        }
        Ok(())
    }

    /// Leaves something out, or ends the import.
    ///
    /// # Errors
    /// Nothing may be left out.
    pub fn leave_out(&mut self, path: &Path, flaw: &Flaw) -> Result<(), ImportError> {
        let Flaw { byte, number, what } = flaw;
        let text = format!("{}: byte {byte} (element {number}): {what}", path.display());
        if !self.allowed {
            return Err(ImportError::Bad(vec![text]));
        }
        self.total += 1;
        if let Some((path, file)) = &mut self.file {
            writeln!(file, "{text}").map_err(|error| ImportError::Source { path: path.clone(), error })?;
        }
        if self.first.len() < SHOWN {
            self.first.push(text);
        }
        Ok(())
    }

    /// Says what was left out.
    ///
    /// # Errors
    /// The list can't be written.
    pub fn tell(&mut self) -> io::Result<()> {
        if let Some((_, file)) = &mut self.file {
            file.flush()?;
        }
        let mut out = io::stderr().lock();
        for text in &self.first {
            writeln!(out, "left out: {text}")?;
        }
        let more = self.total - self.first.len() as u64;
        if more > 0 {
            writeln!(out, "left out: {more} more (--skipped FILE lists all)")?;
        }
        if self.total > 0 {
            writeln!(out, "left out in all: {}", self.total)?;
        }
        Ok(())
    }
}
