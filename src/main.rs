//! The `minitalk` binary: arguments → command → exit code.

use std::process::ExitCode;

use minitalk::cli::{self, Fault, Invocation, Part};
use minitalk::{worker, writer};

fn main() -> ExitCode {
    let outcome = match cli::parse(std::env::args_os()) {
        Ok(Invocation::Show(text)) => cli::show(&text).map(ExitCode::from),
        Ok(Invocation::Run(command)) => cli::run(command, &|name| std::env::var_os(name), play),
        Err(fault) => Err(fault),
    };
    match outcome {
        Ok(code) => code,
        Err(fault) => {
            fault.tell();
            ExitCode::from(fault.exit_code())
        }
    }
}

/// Plays one part in a server until the supervisor ends it.
fn play(part: Part) -> Result<(), Fault> {
    match part {
        Part::Storage(config, child) => writer::run(&config, child).map_err(|error| Fault::Process {
            what: format!("storage: {error}"),
            exit_code: error.exit_code(),
        }),
        Part::Worker(config, child) => worker::run(config, child)
            .map_err(|error| Fault::Process { what: format!("worker: {error}"), exit_code: 1 }),
    }
}
