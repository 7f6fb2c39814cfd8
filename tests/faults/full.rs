//! A disk that fills up while clients post: writers are refused, everybody else is served, and when
//! there is space again it all goes on by itself.

use std::fs::{self, File};
use std::sync::Arc;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::common::{Options, Server, until};
use crate::crew::{Crew, assert_good, assert_reads, judge, ready, wait_until_not_ready, wait_until_ready};
use crate::volume::Volume;

fn server_on(volume: &Volume, tables: &'static str) -> Arc<Server> {
    Arc::new(Server::on(&Options { tables, ..Options::default() }, &volume.data_dir()))
}

/// Each worker shows what it was told a moment ago.
fn wait_for_stats(server: &Server, is_right: impl Fn(&Value) -> bool) {
    until("the statistics say so, too", || {
        is_right(&server.get("/api/stats", None).body["disk"]["state"]).then_some(())
    });
}

fn fill_while_clients_post(volume: &Volume) {
    let mut server = server_on(volume, "[storage]\nmessages_per_file = 1000");
    let crew = Crew::start(&server, "crew", 1_500);
    crew.wait_for_confirmed(100);
    let before = server.fingerprint();
    for _ in 0..3 {
        volume.fill();
        let codes = crew.wait_for_refused(20);
        assert_eq!(codes.into_iter().collect::<Vec<_>>(), ["STORAGE_FULL"]);
        let reason = wait_until_not_ready(&server);
        let reasons = ["No space left on device", "disk is full"];
        assert!(reasons.iter().any(|known| reason.contains(known)), "{reason}");
        until("a signup is refused", || crew.ledger().codes.contains("STORAGE_FULL").then_some(()));
        assert_reads(&server, &crew.user, &crew.room);
        let disk = server.get("/api/stats", None).body["disk"].clone();
        assert!(disk["freeBytes"].as_u64().unwrap() < disk["bytes"].as_u64().unwrap(), "{disk}");
        wait_for_stats(&server, |state| state != "ok");
        volume.make_space();
        crew.wait_for_confirmed(50);
        wait_until_ready(&server);
        wait_for_stats(&server, |state| state == "ok");
    }
    assert_eq!(server.fingerprint(), before, "nobody was restarted");
    // The storage writer ends in the middle of it, and its successor begins on a full disk.
    volume.fill();
    crew.wait_for_refused(20);
    let storage = server.pids("storage")[0];
    kill(Pid::from_raw(storage), Signal::SIGKILL).unwrap();
    until("another storage writer", || {
        let found = server.pids("storage");
        (found.len() == 1 && found[0] > 0 && found[0] != storage && ready(&server).0 == 503).then_some(())
    });
    assert_reads(&server, &crew.user, &crew.room);
    crew.wait_for_refused(20);
    volume.make_space();
    crew.wait_for_confirmed(50);
    wait_until_ready(&server);
    let ledger = crew.finish();
    assert_good(&ledger, &server);
    assert!(!server.stderr().contains("building it anew"), "the index was damaged");
    Arc::get_mut(&mut server).unwrap().stop();
    let server = Arc::try_unwrap(server).ok().unwrap().start_again();
    assert_good(&ledger, &server);
    // The checker finds what it looks for.
    let mut wrong = ledger.clone();
    let (content, seq) = wrong.confirmed.iter().next().map(|(c, s)| (c.clone(), *s)).unwrap();
    wrong.confirmed.remove(&content);
    wrong.refused.insert(content, "STORAGE_FULL".to_owned());
    wrong.confirmed.insert("never said".to_owned(), seq);
    assert_eq!(judge(&wrong, &server.data_dir).len(), 2);
}

#[test]
fn ext4() {
    fill_while_clients_post(&Volume::new("ext4", 48));
}

#[test]
fn tmpfs() {
    fill_while_clients_post(&Volume::new("tmpfs", 32));
}

/// Space, but no room for another file: the newest one is full and the next can't be made.
#[test]
fn no_file_can_be_made() {
    let volume = Volume::new("ext4", 48);
    let server = server_on(&volume, "[storage]\nmessages_per_file = 40");
    let crew = Crew::start(&server, "crew", 50);
    crew.wait_for_confirmed(10);
    let many = volume.root().join("many");
    fs::create_dir(&many).unwrap();
    let mut made = 0;
    while File::create(many.join(made.to_string())).is_ok() {
        made += 1;
    }
    // What the server gives up of its own may be taken as well.
    crew.wait_for_refused(20);
    wait_until_not_ready(&server);
    assert_reads(&server, &crew.user, &crew.room);
    fs::remove_dir_all(&many).unwrap();
    crew.wait_for_confirmed(100);
    wait_until_ready(&server);
    assert_good(&crew.finish(), &server);
}
