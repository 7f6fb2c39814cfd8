//! The commands an operator types, and what their ends mean to a script.
//!
//! Exit codes: 0 done; 1 something went wrong while it ran; 2 the request itself was wrong (a flag, the
//! configuration, a port or a directory in use) and nothing was changed.

mod check_config;
pub mod compact;
mod export;
mod fault;
pub mod import;
mod known;
pub mod lock;
mod manual;
mod progress;
pub mod reindex;
mod role;
mod secret;
mod serve;
mod status;
mod storage_bench;
mod upgrade;
pub mod verify;

use std::ffi::OsString;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};
use minitalk_supervisor::NAME;

use crate::config::{Config, Environment, Flags, WORKERS_MAX, load};

pub use fault::Fault;
pub use role::Part;

/// What a command line asks for.
#[derive(Debug)]
pub enum Invocation {
    /// To be shown a text: help or the version.
    Show(String),
    /// A command.
    Run(Command),
}

/// What follows the options in the help and the manual page.
const EXITS: &str = "\
Environment: MINITALK_CONFIG, MINITALK_LISTEN, MINITALK_DATA_DIR, MINITALK_WORKERS, JWT_SECRET, \
WEBSOCKET_TICKET_TTL (seconds), RUST_LOG. Flags beat the environment, which beats the configuration file.

Exit status: 0 done; 1 something went wrong; 2 the request was wrong and nothing was changed.";

/// Realtime chat and live-event server for one host
#[derive(Debug, Parser)]
#[command(name = "minitalk", version, disable_help_subcommand = true, after_help = EXITS)]
struct Line {
    #[command(subcommand)]
    command: Command,
}

/// One command with its arguments.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the server: the supervisor, the storage writer and one worker per core
    Serve(serve::ServeArgs),
    /// Show the processes of a running server
    Status(status::StatusArgs),
    /// Have a running server go on as the version of this program that is installed now
    Upgrade(DataArgs),
    /// Check a configuration file and name every mistake with its line
    CheckConfig(check_config::CheckConfigArgs),
    /// Read every record of a data directory and check it
    Verify(DataArgs),
    /// Make the logs of users and rooms as short as they can be
    Compact(DataArgs),
    /// Build everything derived from the logs anew
    Reindex(DataArgs),
    /// Take in the older JSON layout, or members of challenges from CSV or NDJSON; no server may be running
    Import(import::ImportArgs),
    /// Write everything out in the older JSON layout; no server may be running
    Export(export::ExportArgs),
    /// Load a server and judge it: correctness first, then speed
    Bench(BenchArgs),
    /// Write the manual pages
    #[command(hide = true)]
    Man(manual::ManArgs),
    /// Print the completions for a shell
    #[command(hide = true)]
    Completions(manual::CompletionsArgs),
    /// What the supervisor starts
    #[command(hide = true)]
    Role(role::RoleArgs),
}

/// What follows `bench`.
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// Without it, a menu on a terminal
    #[command(subcommand)]
    what: Option<Bench>,
}

/// What `bench` measures.
#[derive(Debug, Subcommand)]
pub enum Bench {
    /// A load on a server, which is judged from outside.
    #[command(flatten)]
    Load(Box<minitalk_bench::Scenario>),
    /// Fill a data directory of a given size and measure it: memory, starts, look-ups, history, search
    Storage(storage_bench::StorageArgs),
}

/// Which server, and how it runs. Flags beat the environment, the environment beats the file.
#[derive(Debug, Args)]
pub struct HostArgs {
    /// Configuration file [env: MINITALK_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address to listen on, may be given again; port 0: any free one [env: MINITALK_LISTEN] [default: 127.0.0.1:4000]
    #[arg(long, value_name = "ADDR")]
    listen: Vec<SocketAddr>,
    /// Where logs, index and private sockets live [env: MINITALK_DATA_DIR] [default: data/storage]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Worker processes; 0: one per available core [env: MINITALK_WORKERS] [default: 0]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(..=i64::from(WORKERS_MAX)))]
    workers: Option<u16>,
}

/// Which data directory, whether or not a server runs in it.
#[derive(Debug, Args)]
pub struct DataArgs {
    /// Configuration file that names it [env: MINITALK_CONFIG]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The data directory [env: MINITALK_DATA_DIR] [default: data/storage]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

impl DataArgs {
    /// The directory, found as `serve` finds it.
    fn data_dir(self, environment: Environment<'_>) -> Result<PathBuf, Fault> {
        Ok(self.config(environment)?.data_dir)
    }

    /// The whole configuration, found as `serve` finds it.
    fn config(self, environment: Environment<'_>) -> Result<Config, Fault> {
        let flags = Flags { config: self.config, data_dir: self.data_dir, ..Flags::default() };
        Ok(load(&flags, environment)?)
    }
}

impl From<HostArgs> for Flags {
    fn from(args: HostArgs) -> Flags {
        Flags { config: args.config, listen: args.listen, data_dir: args.data_dir, workers: args.workers }
    }
}

/// Makes sense of a command line, program name included.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Invocation, Fault> {
    use clap::error::ErrorKind;
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let usage = |what| Fault::Usage { what, of: command_of(&arguments) };
    match Line::try_parse_from(&arguments) {
        Ok(line) => Ok(Invocation::Run(line.command)),
        Err(error) => match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Ok(Invocation::Show(error.to_string())),
            ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => {
                Err(usage("a command is missing".to_owned()))
            }
            _ => Err(usage(one_line(&error.to_string()))),
        },
    }
}

/// The command that was meant, as far as it was typed right: whose help says more.
fn command_of(arguments: &[OsString]) -> String {
    let (mut command, mut typed) = (Line::command(), NAME.to_owned());
    for word in arguments.iter().skip(1) {
        let Some(meant) = command.find_subcommand(word).cloned() else { break };
        typed = format!("{typed} {}", meant.get_name());
        command = meant;
    }
    typed
}

/// Runs a command to its end; the exit code. `play` is what one of a server's processes does: only
/// the program itself knows all of them.
pub fn run(
    command: Command,
    environment: Environment<'_>,
    play: impl FnOnce(Part) -> Result<(), Fault>,
) -> Result<ExitCode, Fault> {
    let code = match command {
        Command::Serve(args) => serve::run(args, environment),
        Command::Status(args) => status::run(args, environment),
        Command::Upgrade(args) => upgrade::run(args, environment),
        Command::CheckConfig(args) => check_config::run(&args),
        Command::Verify(args) => return Ok(verify::run(&args.data_dir(environment)?)),
        Command::Compact(args) => return Ok(compact::run(&args.data_dir(environment)?)),
        Command::Reindex(args) => return Ok(reindex::run(&args.data_dir(environment)?, environment)),
        Command::Import(args) => return import::run(args, environment),
        Command::Export(args) => return export::run(args, environment),
        Command::Bench(BenchArgs { what: Some(Bench::Load(scenario)) }) => {
            return Ok(minitalk_bench::run(minitalk_bench::BenchArgs { scenario: *scenario }));
        }
        Command::Bench(BenchArgs { what: Some(Bench::Storage(args)) }) => storage_bench::run(&args),
        Command::Bench(BenchArgs { what: None }) => return minitalk_bench::ask().ok_or_else(no_terminal),
        Command::Man(args) => manual::man(&args),
        Command::Completions(args) => manual::completions(&args),
        Command::Role(args) => role::adopt(&args, environment).and_then(play).map(|()| 0),
    }?;
    Ok(ExitCode::from(code))
}

/// `bench` alone asks what to do, which needs somebody to ask.
fn no_terminal() -> Fault {
    let what = "'minitalk bench' alone shows a menu, which needs a terminal; without one say what to do: \
                minitalk bench quick|medium|strong|extreme|mega|ultra|custom|connect|challenge|soak \
                [--target HOST:PORT] [--users N] [--rooms N] [--duration 60s] [--rate MSGS_PER_S] [--json FILE] \
                [--html FILE]";
    Fault::Usage { what: what.to_owned(), of: "minitalk bench".to_owned() }
}

/// Writes to standard output. A reader that went away (`minitalk status | head -1`) is no mistake.
pub fn show(text: &str) -> Result<u8, Fault> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Fault::Output(error)),
        _ => Ok(0),
    }
}

/// The first paragraph of an error of clap's on one line, without its `error: `, and its tip, if it has one.
fn one_line(error: &str) -> String {
    let paragraph = error.lines().take_while(|line| !line.trim().is_empty());
    let words: Vec<&str> = paragraph.flat_map(str::split_whitespace).collect();
    let text = words.join(" ");
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    match error.lines().find_map(|line| line.trim().strip_prefix("tip: ")) {
        Some(tip) => format!("{text}; {tip}"),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(line: &str) -> String {
        match parse(line.split(' ').map(OsString::from)) {
            Ok(invocation) => panic!("{line}: {invocation:?}"),
            Err(fault) => {
                assert_eq!(fault.exit_code(), 2, "{line}");
                fault.to_string()
            }
        }
    }

    #[test]
    fn a_bad_command_line_is_one_line_that_names_what_is_wrong() {
        for (line, named) in [
            ("minitalk", "command"),
            ("minitalk dance", "dance"),
            ("minitalk serve --prot 1", "--prot"),
            ("minitalk serve --workers many", "many"),
            ("minitalk serve --workers 1025", "1025"),
            ("minitalk serve --listen localhost", "localhost"),
            ("minitalk serve --listen", "--listen"),
            ("minitalk check-config", "<FILE>"),
            ("minitalk role worker", "--id"),
        ] {
            let fault = fault(line);
            assert!(fault.contains(named) && fault.contains("--help"), "{line}: {fault}");
            assert_eq!(fault.lines().count(), 1, "{line}: {fault}");
        }
    }

    #[test]
    fn a_mistake_leads_to_the_help_of_its_command() {
        for (line, told) in [
            ("minitalk dance", "(try 'minitalk --help')"),
            ("minitalk bench qick", "a similar subcommand exists: 'quick' (try 'minitalk bench --help')"),
            ("minitalk bench quick --users 0", "(try 'minitalk bench quick --help')"),
            ("minitalk serve --data-dir bench --prot 1", "(try 'minitalk serve --help')"),
        ] {
            let fault = fault(line);
            assert!(fault.ends_with(told), "{line}: {fault}");
        }
    }

    #[test]
    fn help_and_version_are_shown() {
        for (line, text) in [("minitalk --help", "serve"), ("minitalk -V", "minitalk ")] {
            match parse(line.split(' ').map(OsString::from)) {
                Ok(Invocation::Show(shown)) => assert!(shown.contains(text), "{shown}"),
                other => panic!("{line}: {other:?}"),
            }
        }
    }

    #[test]
    fn serve_takes_its_flags() {
        let line =
            "minitalk serve --config m.toml --listen 127.0.0.1:1 --listen [::1]:2 --data-dir d --workers 3";
        let Ok(Invocation::Run(Command::Serve(args))) = parse(line.split(' ').map(OsString::from)) else {
            panic!("not taken: {line}");
        };
        let flags = Flags::from(args.host);
        assert_eq!(flags.config, Some(PathBuf::from("m.toml")));
        assert_eq!(flags.listen.len(), 2);
        assert_eq!(flags.data_dir, Some(PathBuf::from("d")));
        assert_eq!(flags.workers, Some(3));
    }
}
