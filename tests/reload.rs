//! Reloads and upgrades in a row under stock clients that chat, with and without kills among them. The
//! checker prints its counts, when clients came back, and its seed.

mod common;

use common::node::check;

#[test]
fn nobody_is_refused_and_nothing_is_lost_doubled_or_reordered() {
    check("reload_checker.mjs", &["--reloads", "2", "--upgrades", "2"]);
}

#[test]
fn nothing_is_lost_doubled_or_reordered_if_processes_die_meanwhile() {
    check("reload_checker.mjs", &["--reloads", "2", "--upgrades", "1", "--kills"]);
}
