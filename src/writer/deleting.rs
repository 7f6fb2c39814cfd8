//! Deletions that administrators ask for, done by the directory thread.
//!
//! A deletion is one line of `admin.jsonl`: when that is durable it has happened, and everything else
//! follows from it, now or at the next start. Where the line can be neither completed nor cut off again
//! the process ends: the next one finds out which of both it is.

use std::sync::atomic::Ordering;

use super::batch::{Answer, Batch, PeerId};
use super::commit;
use super::directory::{Asked, Directory};
use super::heads::Sealed;
use super::judge::Failure;
use super::publish::Event;
use super::withheld;
use crate::chat::{Code, OpId, Refusal, UserId};
use crate::index::IndexError;
use crate::journal::record::{self, AdminRecord, Deletion};
use crate::journal::segment;
use crate::link::frame::Outcome;

/// Who asks for a deletion.
#[derive(Clone, Copy)]
struct Who {
    peer: PeerId,
    op: OpId,
    by: UserId,
}

impl Directory {
    /// Deletes all users and rooms.
    ///
    /// # Errors
    /// Nobody knows what is in the log: the process must end.
    pub(super) fn delete_users(&mut self, asked: &Asked, by: UserId) -> Result<(), IndexError> {
        let who = Who { peer: asked.peer, op: asked.op, by };
        let deletion = |directory: &mut Directory| {
            // What the line says of them must not be more than they have after a loss of power.
            directory.users.sync()?;
            directory.rooms.sync()?;
            directory.durable = directory.ends;
            Ok(Deletion::UsersDeleted {
                users: directory.store.count_users()?,
                last_user: directory.ends.last_user,
                users_rev: directory.ends.users,
                rooms_rev: directory.ends.rooms,
            })
        };
        let Some(done) = self.delete(who, deletion)? else {
            return Ok(());
        };
        self.status.afresh.store(self.deletions.rooms_rev + 1, Ordering::Release);
        self.publisher.send(Event::UsersDeleted(self.deletions.last_user));
        self.answer(&[(who.peer, who.op.count)], &Ok(outcome(&done)));
        self.compactor.want_all();
        self.compactor.consider([self.users.end(), self.rooms.end()]);
        Ok(())
    }

    /// Deletes all messages in files before the one that was begun for this.
    ///
    /// # Errors
    /// As for users.
    pub(super) fn delete_messages(&mut self, sealed: &Sealed) -> Result<(), IndexError> {
        let Sealed { peer, op, by, upto, first_file } = *sealed;
        let who = Who { peer, op, by };
        let deletion = |directory: &mut Directory| {
            let messages = upto.saturating_sub(directory.deletions.upto);
            Ok(Deletion::MessagesDeleted { messages, upto, first_file })
        };
        let Some(done) = self.delete(who, deletion)? else {
            return Ok(());
        };
        self.status.deleted_upto.store(upto, Ordering::Release);
        self.status.forget_messages_before(first_file);
        self.remove_files(first_file, Answer { peer, count: op.count, result: Ok(outcome(&done)) });
        Ok(())
    }

    /// Removing many files takes a while; nobody but the one who asked waits for it.
    fn remove_files(&self, first_file: u64, answer: Answer) {
        let (disk, publisher, sealed) = (self.disk.clone(), self.publisher.clone(), self.sealed.clone());
        let dir = self.users.path().parent().map(std::path::Path::to_owned).unwrap_or_default();
        let mut answers = Batch::default();
        answers.answers.push(answer);
        let started = std::thread::Builder::new().name("remove".to_owned()).spawn(move || {
            if let Err(error) = segment::remove_before(&dir, &*disk, first_file) {
                tracing::error!(%error, "cannot remove deleted messages; the next start tries again");
            }
            // One that waits already will do.
            let _ = sealed.try_send(());
            publisher.send(Event::Batch(Box::new(answers)));
        });
        if let Err(error) = started {
            tracing::error!(%error, "cannot start a thread to remove deleted messages");
        }
    }

    /// Does a deletion if it may be done; `None`: it may not, or was done before, and that was said.
    fn delete(
        &mut self,
        who: Who,
        deletion: impl FnOnce(&mut Directory) -> Result<Deletion, Failure>,
    ) -> Result<Option<AdminRecord>, IndexError> {
        let told = [(who.peer, who.op.count)];
        if let Some(done) = self.deletions.find(who.op) {
            let outcome = outcome(done);
            self.answer(&told, &Ok(outcome));
            return Ok(None);
        }
        let before = self.admin.end();
        let failure = match self.try_delete(who, deletion) {
            Ok(Ok(done)) => {
                let (by, count) = (done.by_name.as_str(), done.deletion.count());
                tracing::warn!(by, count, deletion = ?done.deletion, "deleted on an administrator's word");
                return Ok(Some(done));
            }
            Ok(Err(refusal)) => {
                self.store.rollback()?;
                self.answer(&told, &Err(refusal));
                return Ok(None);
            }
            Err(failure) => failure,
        };
        tracing::error!(error = %failure, "cannot delete");
        self.store.rollback()?;
        if self.admin.end() != before || self.admin.is_broken() {
            self.admin.take_back(before);
            self.admin.heal()?;
        }
        let code = match &failure {
            Failure::Disk(error) => withheld::code(error),
            Failure::Index(error) if error.is_full() => Code::StorageFull,
            _ => Code::StorageFailed,
        };
        self.answer(&told, &Err(Refusal::new(code, "Nothing was deleted: the storage failed")));
        match failure {
            Failure::Index(error) if error.is_damage() => Err(error),
            _ => Ok(None),
        }
    }

    fn try_delete(
        &mut self,
        who: Who,
        deletion: impl FnOnce(&mut Directory) -> Result<Deletion, Failure>,
    ) -> Result<Result<AdminRecord, Refusal>, Failure> {
        self.settle()?;
        self.users.heal()?;
        self.rooms.heal()?;
        self.admin.heal()?;
        self.store.begin()?;
        let Some((by_name, _)) = self.store.user(who.by)? else {
            return Ok(Err(Refusal::new(Code::Unauthorized, "There is no such user")));
        };
        let deletion = deletion(self)?;
        let (rev, at) = (self.admin_rev + 1, commit::now_ms());
        let done = AdminRecord { rev, deletion, op: who.op, by: who.by, by_name, at, synced: self.admin_rev };
        let mut line = Vec::new();
        record::encode(&done, &mut line);
        let mut deletions = self.deletions.clone();
        deletions.add(done.clone());
        self.store.apply_deletions(&deletions)?;
        // Whatever the policy: what follows cannot be taken back.
        self.admin.append(&line, true)?;
        self.store.commit()?;
        (self.admin_rev, self.deletions) = (rev, deletions);
        Ok(Ok(done))
    }
}

fn outcome(done: &AdminRecord) -> Outcome {
    Outcome::Deleted { count: done.deletion.count(), at_ms: done.at }
}
