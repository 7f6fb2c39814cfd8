//! `kill -9` of every process at random moments, with 50 clients listening and 20 speaking. The checker
//! prints its counts and its seed.

mod common;

use common::node::check;

#[test]
fn nothing_is_lost_doubled_reordered_or_invented() {
    check("kill_checker.mjs", &[]);
}
