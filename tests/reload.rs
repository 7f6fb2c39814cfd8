//! Reloads and upgrades in a row under stock clients that chat, with and without kills among them. The
//! clients are stock ones, so the checker is a Node program; it prints its counts, when clients came back,
//! and its seed.
#![allow(clippy::expect_used, reason = "tests")]

use std::path::Path;
use std::process::Command;

fn check(arguments: &[&str]) {
    let e2e = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e");
    if !e2e.join("node_modules").is_dir() {
        let installed = Command::new("npm").arg("ci").current_dir(&e2e).status().expect("npm runs");
        assert!(installed.success(), "npm ci failed in {}", e2e.display());
    }
    let checked = Command::new("node")
        .arg("reload_checker.mjs")
        .args(arguments)
        .env("MINITALK_BIN", env!("CARGO_BIN_EXE_minitalk"))
        .current_dir(&e2e)
        .status()
        .expect("node runs");
    assert!(checked.success(), "see the counts above; the seed repeats the random part");
}

#[test]
fn nobody_is_refused_and_nothing_is_lost_doubled_or_reordered() {
    check(&["--reloads", "2", "--upgrades", "2"]);
}

#[test]
fn nothing_is_lost_doubled_or_reordered_if_processes_die_meanwhile() {
    check(&["--reloads", "2", "--upgrades", "1", "--kills"]);
}
