//! Password hashing on a thread of its own, below everything else in priority.
//!
//! A hash is meant to be slow. One thread per worker does them, single logins before batches, with
//! a bounded queue, so that logins wait for each other and messages wait for none of them.

use std::sync::Arc;
use std::time::Duration;

use argon2::Params;
use crossbeam_channel::{Receiver, Sender, after, bounded, never, select_biased};
use tokio::sync::{Semaphore, oneshot};

use super::brake::{Attempt, Brake};
use super::hasher::Hasher;
use crate::chat::Refusal;
use crate::config::{self, Argon2 as Cost};
use crate::priority;

/// Added to the hashing thread's niceness; 19 would be the least of all.
const NICENESS: i32 = 10;

/// How long the hashing thread keeps its memory for the next password.
const MEMORY_KEPT: Duration = Duration::from_secs(1);

/// Chunks of batch calls with the hashing thread at a time: one in work, one to go on with.
const BULK_TURNS: usize = 2;

/// Work for the hashing thread: a few passwords, answered together.
enum Job {
    Hash(Vec<String>, oneshot::Sender<Vec<Option<String>>>),
    Verify(Vec<Asked>, oneshot::Sender<Vec<Verdict>>),
}

/// A password to check.
pub struct Asked {
    /// Who gave it for whom.
    pub attempt: Attempt,
    /// The password.
    pub password: String,
    /// The stored hash; none for a user that is not there.
    pub stored: Option<String>,
}

/// Whether a password is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is not, or there is no such user, or no password opens the account.
    Wrong,
    /// Nobody looked: too many wrong ones came before. The next one is looked at after so long.
    TooSoon(Duration),
    /// It is.
    Right,
    /// It is, and the stored hash is one of bcrypt's, of an imported user: this is to replace it.
    Outdated(String),
}

/// The hashing thread's front.
#[derive(Clone)]
pub struct Passwords {
    single: Sender<Job>,
    bulk: Sender<Job>,
    bulk_turns: Arc<Semaphore>,
    /// Passwords of a batch call that go to the thread at a time.
    pub chunk: usize,
}

/// Who waits for the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// One person.
    Single,
    /// A batch call.
    Bulk,
}

impl Passwords {
    /// Starts the thread.
    ///
    /// # Errors
    /// The cost is outside Argon2's range, or no thread can be started.
    pub fn start(cost: Cost, brake: Arc<Brake>) -> std::io::Result<Passwords> {
        let params = Params::new(cost.memory_kib, cost.iterations, cost.parallelism, None)
            .map_err(|error| std::io::Error::new(std::io::ErrorKind::InvalidInput, error.to_string()))?;
        let (single, singles) = bounded(config::PASSWORD_QUEUE);
        let (bulk, bulks) = bounded(BULK_TURNS);
        std::thread::Builder::new()
            .name("passwords".to_owned())
            .spawn(move || work(Hasher::new(params), &brake, &singles, &bulks))?;
        // About a MiB of memory passes a chunk: a single login never waits long behind one.
        let chunk = usize::try_from(1024 / cost.memory_kib.max(1)).unwrap_or(1).clamp(1, 128);
        Ok(Passwords { single, bulk, bulk_turns: Arc::new(Semaphore::new(BULK_TURNS)), chunk })
    }

    /// Hashes; `None` for a password that the library does not take.
    ///
    /// # Errors
    /// `OVERLOADED` when too many are waiting.
    pub async fn hash(
        &self,
        passwords: Vec<String>,
        urgency: Urgency,
    ) -> Result<Vec<Option<String>>, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.run(Job::Hash(passwords, reply), answer, urgency).await
    }

    /// Checks; a missing hash costs the same time and is never right.
    ///
    /// # Errors
    /// `OVERLOADED` when too many are waiting.
    pub async fn verify(&self, asked: Vec<Asked>, urgency: Urgency) -> Result<Vec<Verdict>, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.run(Job::Verify(asked, reply), answer, urgency).await
    }

    /// Queues a job. A batch call waits for its turn and holds it until its answer is there.
    async fn run<T>(&self, job: Job, answer: oneshot::Receiver<T>, urgency: Urgency) -> Result<T, Refusal> {
        let (queue, _turn) = match urgency {
            Urgency::Single => (&self.single, None),
            Urgency::Bulk => (&self.bulk, self.bulk_turns.acquire().await.ok()),
        };
        queue.try_send(job).map_err(|_| Refusal::overloaded())?;
        answer.await.map_err(|_| Refusal::overloaded())
    }
}

fn work(mut hasher: Hasher, brake: &Brake, singles: &Receiver<Job>, bulks: &Receiver<Job>) {
    priority::lower(NICENESS, "password hashing runs at normal priority");
    // Whoever is not there has this password hash; nobody knows its password.
    let nobody = hasher.hash(&super::ids::session_id());
    loop {
        let idle = if hasher.is_warm() { after(MEMORY_KEPT) } else { never() };
        let job = select_biased! {
            recv(singles) -> job => job,
            recv(bulks) -> job => job,
            recv(idle) -> _ => {
                hasher.rest();
                continue;
            }
        };
        match job {
            Ok(Job::Hash(passwords, reply)) => {
                let hashes = passwords.iter().map(|password| hasher.hash(password)).collect();
                drop(reply.send(hashes));
            }
            Ok(Job::Verify(asked, reply)) => {
                let judge = |asked: &Asked| {
                    if let Err(wait) = brake.check(&asked.attempt) {
                        return Verdict::TooSoon(wait);
                    }
                    let stored = asked.stored.as_deref();
                    let verdict = verify(&mut hasher, &asked.password, stored, nobody.as_deref());
                    brake.judged(&asked.attempt, verdict != Verdict::Wrong);
                    verdict
                };
                drop(reply.send(asked.iter().map(judge).collect()));
            }
            Err(_) => return,
        }
    }
}

/// `nobody` is the hash that those have who are not there.
fn verify(hasher: &mut Hasher, password: &str, stored: Option<&str>, nobody: Option<&str>) -> Verdict {
    match stored {
        Some(stored) if is_bcrypt(stored) => verify_bcrypt(hasher, password, stored),
        Some(stored) if hasher.matches(password, stored) => Verdict::Right,
        Some(_) => Verdict::Wrong,
        None => {
            nobody.map(|nobody| hasher.matches(password, nobody));
            Verdict::Wrong
        }
    }
}

/// Only imported users have such a hash, until they log in.
fn is_bcrypt(stored: &str) -> bool {
    stored.starts_with("$2")
}

fn verify_bcrypt(hasher: &mut Hasher, password: &str, stored: &str) -> Verdict {
    // Like the one that made the hash, it looks at the first 72 bytes of a password only.
    if !bcrypt::verify(password, stored).unwrap_or(false) {
        return Verdict::Wrong;
    }
    hasher.hash(password).map_or(Verdict::Right, Verdict::Outdated)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::super::brake::Source;
    use super::*;
    use crate::config::Config;

    const CHEAP: Cost = Cost { memory_kib: 8, iterations: 1, parallelism: 1 };

    fn asked_one(password: &str, stored: Option<String>) -> Asked {
        let source = Source { address: Ipv4Addr::LOCALHOST.into(), with_token: false };
        let attempt = Attempt { name: "x".to_owned(), source };
        Asked { attempt, password: password.to_owned(), stored }
    }

    #[tokio::test]
    async fn every_kind_of_hash_is_known() {
        let brake = Brake::new(&Config::default(), 0, Arc::default());
        let passwords = Passwords::start(CHEAP, Arc::new(brake)).unwrap();
        let own = passwords.hash(vec!["비밀".to_owned()], Urgency::Single).await.unwrap().pop().flatten();
        let bcrypt = bcrypt::hash_with_result("비밀", 4).unwrap();
        let variants = [bcrypt::Version::TwoA, bcrypt::Version::TwoB, bcrypt::Version::TwoY]
            .map(|version| Some(bcrypt.format_for_version(version)));
        let asked = |password: &str| {
            let stored = [own.clone()].into_iter().chain(variants.clone()).chain([None, Some("?".into())]);
            stored.map(|stored| asked_one(password, stored)).collect::<Vec<_>>()
        };
        let right = passwords.verify(asked("비밀"), Urgency::Single).await.unwrap();
        assert_eq!(right[0], Verdict::Right);
        for verdict in &right[1..4] {
            let Verdict::Outdated(new) = verdict else { panic!("{verdict:?}") };
            assert!(new.starts_with("$argon2id$"), "{new}");
            let again = vec![asked_one("비밀", Some(new.clone()))];
            assert_eq!(passwords.verify(again, Urgency::Single).await.unwrap(), [Verdict::Right]);
        }
        assert_eq!(right[4..], [Verdict::Wrong, Verdict::Wrong]);
        let wrong = passwords.verify(asked("other"), Urgency::Single).await.unwrap();
        assert!(wrong.iter().all(|verdict| *verdict == Verdict::Wrong), "{wrong:?}");
    }
}
