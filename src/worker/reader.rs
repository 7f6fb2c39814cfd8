//! Reads that wait for the disk: on other threads, bounded.

use std::fmt::Display;

use tokio::sync::OwnedSemaphorePermit;

use super::answers::internal;
use super::core::App;
use crate::chat::Refusal;
use crate::index::{IndexError, Reader};

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
    let permit = app.reads.clone().acquire_owned().await.map_err(|_| internal())?;
    let reader = app.reader.clone();
    run_with(permit, "the index", move || ask(&reader.lock())).await
}

/// Reads off the loop; `what` names it in the log if it fails.
///
/// # Errors
/// `OVERLOADED` when too many reads are under way; `INTERNAL` when this one fails.
pub async fn run<T, E, F>(app: &App, what: &'static str, read: F) -> Result<T, Refusal>
where
    T: Send + 'static,
    E: Display + Send + 'static,
    F: FnOnce() -> Result<T, E> + Send + 'static,
{
    let permit = app.reads.clone().try_acquire_owned().map_err(|_| Refusal::overloaded())?;
    run_with(permit, what, read).await
}

async fn run_with<T, E, F>(permit: OwnedSemaphorePermit, what: &'static str, read: F) -> Result<T, Refusal>
where
    T: Send + 'static,
    E: Display + Send + 'static,
    F: FnOnce() -> Result<T, E> + Send + 'static,
{
    let answer = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        read()
    });
    match answer.await {
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
