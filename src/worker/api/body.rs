//! How a body comes in: at a pace, in bounded memory, off the loop when it is long.
//!
//! A client that trickles holds memory and a connection for nothing, so a body has to keep up with
//! `limits.body_bytes_per_second` after a first `limits.body_timeout`. And however many clients send
//! at once, the bodies of one worker share `limits.body_bytes_per_worker`: who does not fit is
//! refused at once rather than kept waiting, because what holds the memory may be a call that works
//! for minutes.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::RequestExt;
use axum::extract::{FromRequest, Request};
use http_body_util::{BodyExt, LengthLimitError};
use serde::de::DeserializeOwned;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::super::answers::internal;
use super::super::http::{self, LAST_WORDS};
use super::Rest;
use super::answer::ApiError;
use crate::chat::{Code, Refusal};
use crate::config::Limits;
use crate::wire::object::Object;

/// Bytes of a body that is read between two turns of the loop; a larger one is read on another
/// thread. Also the unit in which a worker's memory for bodies is counted; the first is free.
const AT_ONCE_BYTES: usize = 64 << 10;

/// What the bodies of a worker share.
#[derive(Clone)]
pub struct Bodies {
    /// Memory, in units of [`AT_ONCE_BYTES`].
    memory: Arc<Semaphore>,
    timeout: Duration,
    bytes_per_second: usize,
    stop: watch::Receiver<bool>,
}

/// A body's share of the memory, given back when its call is answered.
#[derive(Default)]
pub struct Memory(Option<OwnedSemaphorePermit>);

impl Bodies {
    /// The bodies of a worker that ends when `stop` turns true.
    pub fn new(limits: &Limits, stop: watch::Receiver<bool>) -> Bodies {
        Bodies {
            memory: Arc::new(Semaphore::new(limits.body_bytes_per_worker / AT_ONCE_BYTES)),
            timeout: limits.body_timeout,
            bytes_per_second: limits.body_bytes_per_second,
            stop,
        }
    }

    async fn receive(&self, request: Request) -> Result<(Vec<u8>, Memory), Refusal> {
        let mut body = request.with_limited_body().into_body();
        let start = Instant::now();
        let mut stop = self.stop.clone();
        let mut leaving = pin!(async move {
            http::stopping(&mut stop).await;
            sleep(LAST_WORDS).await;
        });
        let (mut bytes, mut memory) = (Vec::new(), Memory::default());
        loop {
            let frame = tokio::select! {
                biased;
                frame = body.frame() => frame,
                () = sleep_until(start + self.time_for(bytes.len())) => return Err(too_slow()),
                () = &mut leaving => return Err(too_late()),
            };
            let Some(frame) = frame else {
                return Ok((bytes, memory));
            };
            let frame = frame.map_err(|error| unreadable(&error))?;
            if let Some(data) = frame.data_ref() {
                self.make_room(&mut memory, bytes.len() + data.len())?;
                bytes.extend_from_slice(data);
            }
        }
    }

    /// How long after its start a body may have come no further than this.
    fn time_for(&self, received: usize) -> Duration {
        let seconds = received / self.bytes_per_second;
        self.timeout + Duration::from_secs(u64::try_from(seconds).unwrap_or(u64::MAX))
    }

    fn make_room(&self, memory: &mut Memory, bytes: usize) -> Result<(), Refusal> {
        let held = memory.0.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let more = (bytes / AT_ONCE_BYTES).saturating_sub(held);
        if more == 0 {
            return Ok(());
        }
        let more = u32::try_from(more).map_err(|_| Refusal::overloaded())?;
        let permit = self.memory.clone().try_acquire_many_owned(more).map_err(|_| Refusal::overloaded())?;
        match &mut memory.0 {
            Some(held) => held.merge(permit),
            none => *none = Some(permit),
        }
        Ok(())
    }
}

fn too_slow() -> Refusal {
    Refusal::new(Code::RequestTimeout, "The body took too long to arrive")
}

fn too_late() -> Refusal {
    Refusal::new(Code::Overloaded, "The server is shutting down, try again shortly")
}

fn unreadable(error: &axum::Error) -> Refusal {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        if error.is::<LengthLimitError>() {
            return Refusal::new(Code::BodyTooLarge, "The body is too large");
        }
        cause = error.source();
    }
    Refusal::new(Code::InvalidRequest, "The body could not be read")
}

/// A JSON object as body, whatever its content type says, and the memory it takes. An empty body is
/// `{}`.
pub struct Body<T>(pub T, pub Memory);

impl<T: DeserializeOwned + Send + 'static> FromRequest<Rest> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, rest: &Rest) -> Result<Self, ApiError> {
        let (bytes, memory) = rest.bodies.receive(request).await?;
        let value = if bytes.len() <= AT_ONCE_BYTES {
            read(&bytes)?
        } else {
            tokio::task::spawn_blocking(move || read(&bytes)).await.map_err(|_| internal())??
        };
        Ok(Body(value, memory))
    }
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Refusal> {
    let bytes = if bytes.is_empty() { b"{}" } else { bytes };
    match serde_json::from_slice(bytes) {
        Ok(Object(value)) => Ok(value),
        Err(error) if error.is_data() => {
            Err(Refusal::new(Code::InvalidRequest, format!("Invalid request: {error}")))
        }
        Err(error) => Err(Refusal::new(Code::InvalidJson, format!("Invalid JSON: {error}"))),
    }
}
