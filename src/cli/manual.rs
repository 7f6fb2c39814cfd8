//! What a package is made of: manual pages and shell completions, out of the command line itself.

use std::fs;
use std::path::PathBuf;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Fault, Line, show};

/// `man`
#[derive(Debug, Args)]
pub struct ManArgs {
    /// Directory for the pages; made if it is not there
    dir: PathBuf,
}

/// `completions`
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

/// Writes a page for each command, such as `minitalk-serve.1`.
pub(super) fn man(args: &ManArgs) -> Result<u8, Fault> {
    let written =
        fs::create_dir_all(&args.dir).and_then(|()| clap_mangen::generate_to(Line::command(), &args.dir));
    written.map_err(Fault::Output)?;
    Ok(0)
}

/// Writes the shell's script to standard output.
pub(super) fn completions(args: &CompletionsArgs) -> Result<u8, Fault> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Line::command(), "minitalk", &mut script);
    show(&String::from_utf8_lossy(&script))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_its_page() {
        let dir = tempfile::tempdir().unwrap();
        man(&ManArgs { dir: dir.path().join("man") }).unwrap();
        for name in ["minitalk", "minitalk-serve", "minitalk-status", "minitalk-bench-quick"] {
            let page = fs::read_to_string(dir.path().join(format!("man/{name}.1"))).unwrap();
            assert!(page.contains(".SH SYNOPSIS"), "{name}: {page}");
        }
        let serve = fs::read_to_string(dir.path().join("man/minitalk-serve.1")).unwrap();
        assert!(serve.contains("data\\-dir"), "{serve}");
        assert!(!dir.path().join("man/minitalk-role.1").exists());
    }
}
