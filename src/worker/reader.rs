//! Reads that wait for the disk: on other threads, each in its turn, bounded.
//!
//! A crowd that enters the chat asks for history at one moment; so who finds others reading waits, and only
//! an endless crowd is refused. What was read counts as under way until whoever asked has taken it: how much
//! of it is in memory does not depend on how many wait.

use std::fmt::Display;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::answers::internal;
use super::core::App;
use crate::chat::Refusal;
use crate::config;
use crate::index::{IndexError, Reader};

/// Who may read now, and who may wait for it.
pub struct Turns {
    reading: Arc<Semaphore>,
    /// Those who read and those who wait.
    present: Semaphore,
}

impl Default for Turns {
    fn default() -> Turns {
        Turns {
            reading: Arc::new(Semaphore::new(config::READS)),
            present: Semaphore::new(config::READS + config::READS_WAITING),
        }
    }
}

/// Reads the index off the loop, over a connection of its own.
///
/// # Errors
/// As [`run`].
pub async fn read<T, F>(app: &App, ask: F) -> Result<T, Refusal>
where
    T: Send + 'static,
    F: FnOnce(&Reader) -> Result<T, IndexError> + Send + 'static,
{
    let reader = app.reader.clone();
    run(app, "the index", move || ask(&reader.lock())).await
}

/// Reads the index off the loop, in its turn, for a call that cannot be refused any more.
///
/// # Errors
/// `INTERNAL` when the index can't be read.
pub async fn read_in_turn<T, F>(app: &App, ask: F) -> Result<T, Refusal>
where
    T: Send + 'static,
    F: FnOnce(&Reader) -> Result<T, IndexError> + Send + 'static,
{
    let reader = app.reader.clone();
    in_turn(app, "the index", move || ask(&reader.lock())).await
}

/// Reads off the loop; `what` names it in the log if it fails.
///
/// # Errors
/// `OVERLOADED` when too many wait; `INTERNAL` when this one fails.
pub async fn run<T, E, F>(app: &App, what: &'static str, read: F) -> Result<T, Refusal>
where
    T: Send + 'static,
    E: Display + Send + 'static,
    F: FnOnce() -> Result<T, E> + Send + 'static,
{
    let _present = app.reads.present.try_acquire().map_err(|_| Refusal::overloaded())?;
    in_turn(app, what, read).await
}

async fn in_turn<T, E, F>(app: &App, what: &'static str, read: F) -> Result<T, Refusal>
where
    T: Send + 'static,
    E: Display + Send + 'static,
    F: FnOnce() -> Result<T, E> + Send + 'static,
{
    let turn = app.reads.reading.clone().acquire_owned().await.map_err(|_| internal())?;
    let answer = tokio::task::spawn_blocking(move || Taken { read: read(), _turn: turn });
    match answer.await.map(|taken| taken.read) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => {
            tracing::error!(%error, "cannot read {what}");
            Err(internal())
        }
        Err(error) => {
            tracing::error!(%error, "a read of {what} ended early");
            Err(internal())
        }
    }
}

/// What was read, with the turn that it took: also if nobody waits for it any more.
struct Taken<T> {
    read: T,
    _turn: OwnedSemaphorePermit,
}
