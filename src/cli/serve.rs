//! `minitalk serve`: makes everything ready for the supervisor and hands over.
//!
//! The order is such that an error changes nothing: the configuration is whole before a socket is
//! opened, the port is ours before the data directory is touched, and the directory is locked before
//! anything in it is read.

use minitalk_supervisor::{Listeners, Lock, Outcome, Plan, Program, StartError};

use super::{Fault, HostArgs, secret};
use crate::config::{self, Environment};

pub(super) fn run(args: HostArgs, environment: Environment<'_>) -> Result<u8, Fault> {
    let mut config = config::load(&args.into(), environment)?;
    let listeners = Listeners::open(&config.listen, config.workers, &config.data_dir)?;
    config.listen = listeners.addresses().to_vec();
    let lock = Lock::take(&config.data_dir)?;
    if config.auth.jwt_secret.is_empty() {
        config.auth.jwt_secret = secret::read_or_make(&config.data_dir)?;
    }
    let settings = serde_json::to_value(&config)
        .map_err(|error| StartError::System { what: "write the settings down", error: error.into() })?;
    let outcome = minitalk_supervisor::run(Plan {
        listeners,
        lock,
        workers: config.workers,
        drain_timeout: config.drain_timeout,
        program: Program::same(),
        settings,
        notify_socket: environment("NOTIFY_SOCKET"),
    })?;
    Ok(match outcome {
        Outcome::Drained => 0,
        Outcome::Failed => 1,
    })
}
