//! A machine that loses power: the file system forgets what the device does not have. With
//! `fsync = "always"` nothing confirmed is lost. With `"never"` something is, or the test proves
//! nothing.

use std::sync::Arc;

use nix::sys::signal::Signal;

use crate::common::{Options, Server};
use crate::crew::{Crew, Ledger, assert_good, judge, start_on_mounted_again};
use crate::volume::Volume;

/// The smallest XFS there is has 300 MiB.
const MIB: u64 = 320;

/// Posts, loses power, starts again.
fn lose_power(volume: &Volume, tables: &'static str) -> (Ledger, Server) {
    let options = Options { tables, ..Options::default() };
    let server = Arc::new(Server::on(&options, &volume.data_dir()));
    let crew = Crew::start(&server, "crew", 200);
    crew.wait_for_confirmed(300);
    volume.lose_power();
    // What is asked for now can't be stored; some hear that, and some wait until the end.
    server.signal(Signal::SIGKILL);
    let ledger = crew.finish();
    let server = start_on_mounted_again(server, volume);
    (ledger, server)
}

#[test]
fn what_was_confirmed_survives() {
    let volume = Volume::new("xfs", MIB);
    let (ledger, server) = lose_power(&volume, "");
    assert_good(&ledger, &server);
}

#[test]
fn without_the_sync_something_is_lost() {
    let volume = Volume::new("xfs", MIB);
    let (ledger, server) = lose_power(&volume, "[storage]\nfsync = \"never\"");
    let faults = judge(&ledger, &server.data_dir);
    assert!(faults.iter().any(|fault| fault.starts_with("lost")), "nothing was lost: {faults:?}");
    assert!(faults.iter().all(|fault| fault.starts_with("lost") || fault.starts_with("user")), "{faults:?}");
    assert!(server.verify().status.success());
}
