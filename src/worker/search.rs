//! Searches for text: on threads of their own, below everything else in priority, bounded.
//!
//! Every search is offered to all threads; each takes from it what there is to do, so that a search
//! alone has all cores that nobody else wants. Whoever asked and goes away takes the search along.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::answers::internal;
use crate::chat::Refusal;
use crate::config;
use crate::index::search::{Found, Query, Search};
use crate::index::{ReadError, Reader};
use crate::priority;

type Answer = Result<Found, ReadError>;

/// One search with its asker.
struct Job {
    search: Search,
    reply: Mutex<Option<oneshot::Sender<Answer>>>,
    /// Given back when the last thread has let go of the search.
    _place: OwnedSemaphorePermit,
}

/// The searching threads' front.
#[derive(Clone)]
pub struct Searches {
    data_dir: PathBuf,
    offers: Sender<Arc<Job>>,
    threads: usize,
    places: Arc<Semaphore>,
    counts: Arc<Counts>,
}

/// What operators watch.
#[derive(Default)]
pub struct Counts {
    /// Searches begun.
    pub begun: AtomicU64,
    /// Searches whose asker went away before they had ended.
    pub given_up: AtomicU64,
}

impl Searches {
    /// Starts the threads.
    ///
    /// # Errors
    /// The system gives no threads.
    pub fn start(data_dir: &Path) -> std::io::Result<Searches> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = cores.min(config::SEARCH_THREADS);
        let (offers, offered) = bounded(config::SEARCHES * threads);
        for _ in 0..threads {
            let (offered, data_dir) = (offered.clone(), data_dir.to_owned());
            std::thread::Builder::new().name("search".to_owned()).spawn(move || work(&data_dir, &offered))?;
        }
        let places = Arc::new(Semaphore::new(config::SEARCHES));
        Ok(Searches { data_dir: data_dir.to_owned(), offers, threads, places, counts: Arc::default() })
    }

    /// One page of a search.
    ///
    /// # Errors
    /// `OVERLOADED` when too many are under way; `INTERNAL` when what it needs can't be read.
    pub async fn run(&self, query: Query) -> Result<Found, Refusal> {
        let Ok(place) = self.places.clone().try_acquire_owned() else {
            return Err(Refusal::overloaded());
        };
        self.counts.begun.fetch_add(1, Ordering::Relaxed);
        let (reply, answer) = oneshot::channel();
        let search = Search::new(&self.data_dir, query);
        let job = Arc::new(Job { search, reply: Mutex::new(Some(reply)), _place: place });
        let mut asker = Asker { job: job.clone(), counts: self.counts.clone(), answered: false };
        for _ in 0..self.threads {
            // There is room for every search that has a place.
            let _ = self.offers.try_send(job.clone());
        }
        drop(job);
        let answer = answer.await;
        asker.answered = true;
        match answer {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(error)) => {
                tracing::error!(%error, "cannot search");
                Err(internal())
            }
            Err(error) => {
                tracing::error!(%error, "a search ended early");
                Err(internal())
            }
        }
    }

    /// What operators watch.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Searches under way, given up ones included that a thread has not let go of.
    pub fn under_way(&self) -> usize {
        config::SEARCHES - self.places.available_permits()
    }
}

/// Whoever waits for a search; gone, there is no need for it.
struct Asker {
    job: Arc<Job>,
    counts: Arc<Counts>,
    answered: bool,
}

impl Drop for Asker {
    fn drop(&mut self) {
        if !self.answered {
            self.job.search.stop();
            self.counts.given_up.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn work(data_dir: &Path, offered: &Receiver<Arc<Job>>) {
    priority::lower(priority::LEAST, "searches run at normal priority");
    let mut reader = None;
    for job in offered {
        let opened = match reader.take().map_or_else(|| Reader::open(data_dir), Ok) {
            Ok(opened) => reader.insert(opened),
            Err(error) => {
                answer(&job, Err(error.into()));
                continue;
            }
        };
        if let Some(result) = job.search.work(opened) {
            answer(&job, result);
        }
    }
}

fn answer(job: &Job, result: Answer) {
    if let Some(reply) = job.reply.lock().take() {
        // The asker may have gone away meanwhile.
        drop(reply.send(result));
    }
}
