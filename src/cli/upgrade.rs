//! `minitalk upgrade`: asks the running server to go on as the executable that is at its path now.

use std::io;
use std::thread;
use std::time::Duration;

use minitalk_supervisor::{ask_status, ask_to_upgrade};

use super::{DataArgs, Fault, show};
use crate::config::Environment;

/// Longest wait for the supervisor, also while it becomes another executable.
const PATIENCE: Duration = Duration::from_secs(30);
/// Time between two looks at how far it is.
const LOOK: Duration = Duration::from_millis(100);

fn was_cut_off(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
}

fn is_nobody_there(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

/// Waits until the upgrade is done, or taken back, and says which.
pub(super) fn run(args: DataArgs, environment: Environment<'_>) -> Result<u8, Fault> {
    let data_dir = args.data_dir(environment)?;
    let fault = |error: io::Error| match is_nobody_there(&error) {
        true => Fault::NotRunning { data_dir: data_dir.clone() },
        false => Fault::NoAnswer { data_dir: data_dir.clone(), error },
    };
    let has_ended = || Fault::EndedInUpgrade { data_dir: data_dir.clone() };
    let status = ask_status(&data_dir, PATIENCE).map_err(fault)?;
    let (before, supervisor) = (status["change"]["number"].as_u64(), &status["processes"][0]["pid"]);
    ask_to_upgrade(&data_dir, PATIENCE).map_err(fault)?;
    loop {
        let status = match ask_status(&data_dir, PATIENCE) {
            // Asked in the moment in which it became another: the connection ended without an answer.
            Err(error) if was_cut_off(&error) => continue,
            Err(error) if is_nobody_there(&error) => return Err(has_ended()),
            other => other.map_err(fault)?,
        };
        if status["processes"][0]["pid"] != *supervisor {
            return Err(has_ended());
        }
        let change = &status["change"];
        // A reload that went on already is waited for as well.
        if change["kind"] == "upgrade" && change["number"].as_u64() > before {
            match change["state"].as_str() {
                Some("done") => {
                    return show(&format!("upgraded, generation {}\n", status["processes"][0]["generation"]));
                }
                Some("failed") => {
                    return Err(Fault::NotUpgraded(change["reason"].as_str().unwrap_or_default().to_owned()));
                }
                _ => {}
            }
        }
        thread::sleep(LOOK);
    }
}
