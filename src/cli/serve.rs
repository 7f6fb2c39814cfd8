//! `minitalk serve`: makes everything ready for the supervisor and hands over.
//!
//! The order is such that an error changes nothing: the configuration is whole before a socket is
//! opened, the port is ours before the data directory is touched, and the directory is locked before
//! anything in it is read.

use std::ffi::OsString;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use minitalk_supervisor::{
    Executable, Inherited, Listeners, Lock, Next, Notify, Outcome, Plan, Program, Reloaded, Settings,
    StartError, TAKE_OVER,
};

use super::{Fault, HostArgs, secret, show};
use crate::config::{self, Config, Environment, Flags};

/// `serve`
#[derive(Debug, Args)]
pub struct ServeArgs {
    #[command(flatten)]
    pub(super) host: HostArgs,
    /// Show the settings in effect and where each came from, secrets masked, and start nothing
    #[arg(long)]
    print_config: bool,
    /// What the executable before hands over
    #[arg(long, hide = true, value_name = "FD")]
    take_over: Option<RawFd>,
    /// Only say whether it could be taken over from what is on standard input
    #[arg(long, hide = true)]
    try_to_take_over: bool,
}

pub(super) fn run(args: ServeArgs, environment: Environment<'_>) -> Result<u8, Fault> {
    let mut flags = Flags::from(args.host);
    if args.print_config {
        let (config, origins) = config::load_with_origins(&flags, environment)?;
        return show(&config::show(&config, &origins));
    }
    if args.try_to_take_over {
        reload(&flags, environment, &minitalk_supervisor::tried().map_err(not_taken_over)?)?;
        minitalk_supervisor::say_understood().map_err(Fault::Output)?;
        return Ok(0);
    }
    if let Some(number) = args.take_over {
        return take_over(number, flags, environment);
    }
    let given = Listeners::from_systemd()?;
    if let Some(given) = &given {
        // As if they had been asked for: what is refused on a public address still is.
        flags.listen = Listeners::addresses_of(given)?;
    }
    let mut config = config::load(&flags, environment)?;
    let listeners = match given {
        Some(given) => Listeners::share(given, config.workers)?,
        None => Listeners::open(&config.listen, config.workers, &config.data_dir)?,
    };
    config.listen = listeners.addresses().to_vec();
    let lock = Lock::take(&config.data_dir)?;
    if config.auth.jwt_secret.is_empty() {
        config.auth.jwt_secret = secret::read_or_make(&config.data_dir)?;
    }
    let plan = Plan {
        listeners,
        lock,
        workers: config.workers,
        settings: settings(&config)?,
        program: Program::same(),
        executable: executable(std::env::current_exe().unwrap_or_default()),
        notify: asked_by_systemd(environment),
    };
    let outcome = minitalk_supervisor::run(plan, &mut |running| {
        reload(&flags, environment, running).map_err(|fault| fault.to_string())
    })?;
    Ok(exit_code(outcome))
}

/// Goes on with a host that another executable has served in this process until now.
fn take_over(number: RawFd, mut flags: Flags, environment: Environment<'_>) -> Result<u8, Fault> {
    let inherited = Inherited::take_up(number).map_err(Fault::NotTakenOver)?;
    if environment("LISTEN_FDS").is_some() {
        flags.listen = inherited.addresses().to_vec();
    }
    let mut reload =
        |running: &Settings| reload(&flags, environment, running).map_err(|fault| fault.to_string());
    let settings = if inherited.is_going_back() {
        Ok(inherited.settings().clone())
    } else {
        reload(inherited.settings()).map(|reloaded| reloaded.settings)
    };
    let next = Next {
        settings,
        program: Program::same(),
        executable: executable(inherited.path().to_owned()),
        notify: asked_by_systemd(environment),
    };
    Ok(exit_code(inherited.resume(next, &mut reload).map_err(Fault::NotTakenOver)?))
}

/// What will take over from this process: the same command, from the same place.
fn executable(path: PathBuf) -> Executable {
    let mut arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    if let Some(at) = arguments.iter().position(|argument| argument == TAKE_OVER) {
        arguments.truncate(at); // it was appended, with its number
    }
    Executable { path, arguments }
}

fn exit_code(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Drained => 0,
        Outcome::Failed => 1,
    }
}

fn not_taken_over(error: std::io::Error) -> StartError {
    StartError::System { what: "read what is handed over", error }
}

/// What the supervisor and the children work by.
fn settings(config: &Config) -> Result<Settings, Fault> {
    let for_children = serde_json::to_value(config).map_err(not_written)?;
    let Config { drain_timeout, hang_timeout, ready_timeout, .. } = *config;
    Ok(Settings { drain_timeout, hang_timeout, ready_timeout, for_children })
}

fn not_written(error: serde_json::Error) -> StartError {
    StartError::System { what: "write the settings down", error: error.into() }
}

/// Reads the configuration again, from the same sources as at the start.
fn reload(flags: &Flags, environment: Environment<'_>, running: &Settings) -> Result<Reloaded, Fault> {
    let running = config::of_other_version(&running.for_children).map_err(not_written)?;
    let mut read = config::load(flags, environment)?;
    if read.auth.jwt_secret.is_empty() {
        read.auth.jwt_secret = secret::read_or_make(&running.data_dir)?;
    }
    let config::Next { config, notes, concerns_storage } = config::next(&running, read);
    Ok(Reloaded { settings: settings(&config)?, storage: concerns_storage, notes })
}

/// What systemd has put into the environment for this process (`sd_notify(3)`, `sd_watchdog_enabled(3)`).
fn asked_by_systemd(environment: Environment<'_>) -> Notify {
    let text = |name| environment(name).and_then(|text| text.into_string().ok());
    let is_ours = text("WATCHDOG_PID").is_none_or(|pid| pid == std::process::id().to_string());
    let usec = text("WATCHDOG_USEC").and_then(|usec| usec.parse().ok()).filter(|usec| *usec > 0);
    Notify {
        socket: environment("NOTIFY_SOCKET").filter(|socket| *socket != OsString::new()),
        watchdog: usec.filter(|_| is_ours).map(Duration::from_micros),
    }
}
