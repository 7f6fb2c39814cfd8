//! The directory thread gives a compacted log its name.

use std::sync::atomic::Ordering;

use super::compaction::{LOGS, Prepared};
use super::directory::Directory;
use super::status::Compaction;
use crate::index::IndexError;
use crate::index::build::BuildError;
use crate::index::compact::{CompactError, Unfinished};
use crate::index::store::{LogName, Progress};
use crate::journal::JournalError;
use crate::journal::append::Log;

impl Directory {
    /// What the compacting thread has to say.
    pub(super) fn hear(&mut self, prepared: Prepared) {
        let log = match prepared {
            Prepared::Ready(log, new) => {
                self.put_in_place(log, *new);
                log
            }
            Prepared::Nothing(log) => log,
        };
        let end = if log == LogName::Users { self.users.end() } else { self.rooms.end() };
        self.compactor.ended(log, end);
        self.compactor.consider([self.users.end(), self.rooms.end()]);
    }

    fn put_in_place(&mut self, log: LogName, mut new: Unfinished) {
        let before = self.log(log).end();
        match self.replace(log, &mut new) {
            Ok(after) => {
                tracing::info!(log = log.file(), before, after, "compacted a log");
                self.status.set_compaction(Compaction::done(log.file(), before, after));
            }
            Err(error) => {
                tracing::error!(log = log.file(), %error, "cannot compact a log; it is as it was");
                self.status.set_compaction(Compaction::failed(log.file(), error.to_string()));
                new.abandon(&*self.disk);
            }
        }
    }

    fn log(&mut self, log: LogName) -> &mut Log {
        if log == LogName::Users { &mut self.users } else { &mut self.rooms }
    }

    /// On an error the log is as it was.
    fn replace(&mut self, name: LogName, new: &mut Unfinished) -> Result<u64, CompactError> {
        let disk = self.disk.clone();
        let log = self.log(name);
        let path = log.path().to_owned();
        log.heal().map_err(JournalError::io(&path))?;
        new.copy(log.end(), &mut |_| true)?;
        let end = new.finish()?;
        disk.rename(new.path(), &path).map_err(JournalError::io(&path))?;
        // From here on it has happened. Nothing is appended before the name is durable.
        *log = Log::broken(disk, path, end, end);
        self.unsynced_name = true;
        if let Err(error) = self.settle() {
            tracing::error!(%error, "cannot make the name of a compacted log durable; trying again");
        }
        let (tail, moved) = new.moves();
        self.repeats.moved(name, tail, moved);
        let kept = new.kept();
        if let Some(at) = LOGS.iter().position(|log| *log == name) {
            self.gone[at] = kept.upto - kept.records;
        }
        self.report_files();
        // If this fails, the next start finds the record by its number.
        if let Err(error) = self.note_place(name, end) {
            tracing::warn!(%error, "the index does not know yet that a log was compacted");
            self.store.rollback().map_err(BuildError::from)?;
        }
        Ok(end)
    }

    fn note_place(&self, log: LogName, bytes: u64) -> Result<(), IndexError> {
        let progress = self.store.progress(log)?;
        self.store.begin()?;
        self.store.set_progress(log, Progress { bytes, ..progress })?;
        self.store.commit()
    }

    /// Makes durable that a compacted log has its name, if that is not known.
    pub(super) fn settle(&mut self) -> std::io::Result<()> {
        if self.unsynced_name {
            let path = self.users.path();
            self.disk.sync_dir(path.parent().unwrap_or(path))?;
            self.unsynced_name = false;
        }
        Ok(())
    }

    /// Tells operators how much is in the logs.
    pub(super) fn report_files(&self) {
        let ends = [
            (LogName::Users, self.ends.users, self.users.end()),
            (LogName::Rooms, self.ends.rooms, self.rooms.end()),
        ];
        for ((log, last, bytes), gone) in ends.into_iter().zip(self.gone) {
            self.status.set_file(log.file(), last.saturating_sub(gone), bytes);
        }
        self.status.rev.store(self.ends.rooms, Ordering::Relaxed);
    }
}
