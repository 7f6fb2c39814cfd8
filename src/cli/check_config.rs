//! `minitalk check-config FILE`: says each mistake, starts nothing.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;

use super::{Fault, show};
use crate::config::{self, BadConfig};

/// `check-config`
#[derive(Debug, Args)]
pub struct CheckConfigArgs {
    /// The file to check
    file: PathBuf,
}

/// Exit code of a file with mistakes.
const EXIT_MISTAKES: u8 = 2;

pub(super) fn run(args: &CheckConfigArgs) -> Result<u8, Fault> {
    let text = fs::read_to_string(&args.file)
        .map_err(|error| Fault::Unreadable { path: args.file.clone(), error })?;
    let name = args.file.display().to_string();
    match config::check_file(&name, &text) {
        Ok(_) => show(&format!("{name}: ok\n")),
        Err(BadConfig(mistakes)) => {
            let lines: String = mistakes.iter().map(|mistake| format!("{mistake}\n")).collect();
            io::stderr().write_all(lines.as_bytes()).map_err(Fault::Output)?;
            Ok(EXIT_MISTAKES)
        }
    }
}
