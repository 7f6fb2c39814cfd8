//! The `minitalk` binary: arguments → command → exit code.

use std::process::ExitCode;

use minitalk::cli::{self, Invocation};

fn main() -> ExitCode {
    let outcome = match cli::parse(std::env::args_os()) {
        Ok(Invocation::Show(text)) => cli::show(&text),
        Ok(Invocation::Run(command)) => cli::run(command, &|name| std::env::var_os(name)),
        Err(fault) => Err(fault),
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(fault) => {
            fault.tell();
            ExitCode::from(fault.exit_code())
        }
    }
}
