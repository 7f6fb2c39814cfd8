//! `minitalk role NAME --id N`: one process of a host, started by the supervisor.

use clap::{Args, ValueEnum};
use minitalk_supervisor::child::Child;

use super::Fault;
use crate::config::{Config, Environment};
use crate::observe;

/// `role`
#[derive(Debug, Args)]
pub struct RoleArgs {
    /// What the process is
    role: Role,
    /// Which of its role it is
    #[arg(long, value_name = "N")]
    id: u16,
}

/// The roles there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Role {
    Storage,
    Worker,
}

/// What a process that the supervisor started is to be.
pub enum Part {
    /// The storage writer.
    Storage(Config, Child),
    /// A worker.
    Worker(Config, Child),
}

/// Takes up what the supervisor hands over. The arguments are for people who look at `ps`; what
/// counts is the start message.
pub fn adopt(args: &RoleArgs, environment: Environment<'_>) -> Result<Part, Fault> {
    let child = Child::adopt()?;
    let config: Config = child.settings()?;
    let who = match args.role {
        Role::Storage => "storage".to_owned(),
        Role::Worker => format!("worker {}", child.id()),
    };
    observe::start(&who, environment);
    tracing::debug!(data_dir = %config.data_dir.display(), "started");
    Ok(match args.role {
        Role::Storage => Part::Storage(config, child),
        Role::Worker => Part::Worker(config, child),
    })
}
