//! Checkers whose clients are stock ones, and which are therefore Node programs.

use std::path::Path;
use std::process::Command;

/// Runs a program of `tests/e2e` against this build; it has to end with 0. What it prints is for whoever looks.
pub fn check(program: &str, arguments: &[&str]) {
    let e2e = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e");
    if !e2e.join("node_modules").is_dir() {
        let installed = Command::new("npm").arg("ci").current_dir(&e2e).status().expect("npm runs");
        assert!(installed.success(), "npm ci failed in {}", e2e.display());
    }
    let checked = Command::new("node")
        .arg(program)
        .args(arguments)
        .env("MINITALK_BIN", env!("CARGO_BIN_EXE_minitalk"))
        .current_dir(&e2e)
        .status()
        .expect("node runs");
    assert!(checked.success(), "{program}: see the counts above; its seed repeats the random part");
}
