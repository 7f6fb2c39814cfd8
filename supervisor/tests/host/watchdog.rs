//! Children that hang, and what systemd hears.

use std::os::unix::net::UnixDatagram;
use std::path::Path;

use nix::sys::signal::Signal;
use serde_json::json;

use crate::harness::{Setup, eventually, kill, setup, wait_until_dead};

/// A limit far above what an answer takes, and far below what a test waits.
const HANG_MS: u32 = 2_000;

/// What systemd would hear; waits do not end before something comes.
struct Systemd(UnixDatagram);

impl Systemd {
    fn of(setup: &mut Setup, root: &Path) -> Systemd {
        let path = root.join("notify");
        path.to_str().unwrap().clone_into(&mut setup.notify_socket);
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        Systemd(socket)
    }

    fn heard(&self) -> Option<String> {
        let mut bytes = [0; 1_024];
        let count = self.0.recv(&mut bytes).ok()?;
        Some(String::from_utf8(bytes[..count].to_vec()).unwrap())
    }

    fn wait_for(&self, state: &str) -> String {
        self.wait_for_either(state, state)
    }

    fn wait_for_either(&self, one: &str, other: &str) -> String {
        let is_wanted = |heard: &String| heard.starts_with(one) || heard.starts_with(other);
        eventually(one, || self.heard().filter(is_wanted).ok_or(()))
    }
}

#[test]
fn a_stopped_child_is_found_killed_and_replaced() {
    let (_root, mut setup) = setup();
    setup.hang_ms = HANG_MS;
    let host = setup.start_ready();
    for (name, hung) in [("worker 1", "worker 1 does not answer"), ("storage", "storage does not answer")] {
        let old = host.pid_of(name);
        kill(old, Signal::SIGSTOP);
        host.status_when("a doubt", |status| status["ready"] == false && status["reason"] == hung);
        wait_until_dead(old);
        let new = host.successor(name, old);
        assert_eq!((&new["restarts"], &new["hangs"]), (&json!(1), &json!(1)), "{name}");
        host.wait_for_line(&format!("{name} (pid {old}) has not answered for "));
        host.status_when("ready again", |status| status["ready"] == true);
    }
    assert_eq!(host.process("worker 0")["restarts"], 0);
}

#[test]
fn a_child_whose_work_stands_still_is_replaced_although_it_lives() {
    let (_root, mut setup) = setup();
    setup.hang_ms = HANG_MS;
    let host = setup.with_manners(json!({"worker 0": {"sleeps": true}})).start_ready();
    host.status_when("a successor", |status| status["processes"][2]["hangs"] != 0);
    assert_eq!(host.process("worker 1")["restarts"], 0);
}

#[test]
fn nobody_is_killed_for_what_the_supervisor_missed() {
    let (_root, mut setup) = setup();
    setup.hang_ms = 2 * HANG_MS;
    let host = setup.start_ready();
    let children = host.child_pids();
    // Another host is the clock: what hangs there from now on is killed when it would be time here.
    let (_elsewhere, mut clock) = crate::harness::setup();
    clock.hang_ms = setup.hang_ms;
    let clock = clock.start_ready();
    for pid in children.iter().copied().chain([host.pid()]) {
        kill(pid, Signal::SIGSTOP);
    }
    let hung = clock.pid_of("storage");
    kill(hung, Signal::SIGSTOP);
    wait_until_dead(hung);
    for pid in [host.pid()].into_iter().chain(children.iter().copied()) {
        kill(pid, Signal::SIGCONT);
    }
    host.status_when("ready again", |status| status["ready"] == true);
    assert_eq!(host.child_pids(), children);
}

#[test]
fn systemd_hears_of_the_whole_life() {
    let (root, mut setup) = setup();
    let systemd = Systemd::of(&mut setup, root.path());
    let mut host = setup.start();
    systemd.wait_for("STATUS=starting: storage is not up");
    systemd.wait_for("READY=1");
    systemd.wait_for(&format!("STATUS=serving on {}", host.address()));
    host.signal(Signal::SIGHUP);
    let reloading = systemd.wait_for("RELOADING=1");
    let usec = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
    assert!(usec.parse::<u64>().unwrap() > 0, "{usec}");
    systemd.wait_for("READY=1");
    host.signal(Signal::SIGTERM);
    systemd.wait_for("STOPPING=1");
    systemd.wait_for("STATUS=not ready: stopping");
    assert_eq!(host.wait_for_end(), Some(0));
}

#[test]
fn systemd_hears_no_sign_of_life_while_a_child_is_silent() {
    let (root, mut setup) = setup();
    "300000".clone_into(&mut setup.watchdog_usec); // a sign of life is due every 0.1 s
    setup.hang_ms = 2 * HANG_MS; // a quarter of it is waited for before it is doubted
    let systemd = Systemd::of(&mut setup, root.path());
    let host = setup.start_ready();
    host.wait_for_line("systemd's watchdog is no longer than hang_timeout (4s)");
    systemd.wait_for("WATCHDOG=1");
    let old = host.pid_of("worker 0");
    kill(old, Signal::SIGSTOP);
    systemd.wait_for("STATUS=not ready: worker 0 does not answer");
    // From there until it is replaced, some thirty would have been due.
    let heard = systemd.wait_for_either("STATUS=", "WATCHDOG=1");
    assert!(heard.starts_with("STATUS="), "{heard}");
    host.successor("worker 0", old);
    systemd.wait_for("STATUS=serving");
    systemd.wait_for("WATCHDOG=1");
}
