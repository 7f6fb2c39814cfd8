//! Longer reads of the index: on other threads, over a connection of their own, bounded.

use tokio::sync::OwnedSemaphorePermit;

use super::answers::{index_failed, internal};
use super::core::App;
use crate::chat::Refusal;
use crate::index::{IndexError, Reader};

/// Reads the index off the loop.
///
/// # Errors
/// `OVERLOADED` when too many reads are under way; `INTERNAL` when the index can't be read.
pub async fn read<T, F>(app: &App, ask: F) -> Result<T, Refusal>
where
    T: Send + 'static,
    F: FnOnce(&Reader) -> Result<T, IndexError> + Send + 'static,
{
    let permit = app.reads.clone().try_acquire_owned().map_err(|_| Refusal::overloaded())?;
    read_with(permit, app, ask).await
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
    read_with(permit, app, ask).await
}

async fn read_with<T, F>(permit: OwnedSemaphorePermit, app: &App, ask: F) -> Result<T, Refusal>
where
    T: Send + 'static,
    F: FnOnce(&Reader) -> Result<T, IndexError> + Send + 'static,
{
    let reader = app.reader.clone();
    let answer = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        ask(&reader.lock())
    });
    match answer.await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(index_failed(&error)),
        Err(error) => {
            tracing::error!(%error, "a read of the index ended early");
            Err(internal())
        }
    }
}
