//! Longer reads of the index: on other threads, over a connection of their own, bounded.

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
    let Ok(permit) = app.reads.clone().try_acquire_owned() else {
        return Err(Refusal::overloaded());
    };
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
