//! `kill -9` of every process at random moments, with 50 clients listening and 20 speaking. The
//! clients are stock ones, so the checker is a Node program; it prints its counts and its seed.
#![allow(clippy::expect_used, reason = "tests")]

use std::path::Path;
use std::process::Command;

#[test]
fn nothing_is_lost_doubled_reordered_or_invented() {
    let e2e = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e");
    if !e2e.join("node_modules").is_dir() {
        let installed = Command::new("npm").arg("ci").current_dir(&e2e).status().expect("npm runs");
        assert!(installed.success(), "npm ci failed in {}", e2e.display());
    }
    let checked = Command::new("node")
        .arg("kill_checker.mjs")
        .env("MINITALK_BIN", env!("CARGO_BIN_EXE_minitalk"))
        .current_dir(&e2e)
        .status()
        .expect("node runs");
    assert!(checked.success(), "see the counts above; the seed repeats the plan");
}
