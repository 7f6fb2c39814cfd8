//! Starting where one can't: one clear line on stderr, exit 2, and nothing touched.
#![allow(clippy::expect_used, reason = "tests")]

mod common;

use std::path::Path;
use std::process::Output;

use common::server::minitalk;
use common::{Options, Server, listing};

/// Runs `serve` that must not come up.
fn serve(args: &[&str], data_dir: &Path, dir: &Path) -> Output {
    minitalk()
        .current_dir(dir)
        .arg("serve")
        .args(args)
        .arg("--data-dir")
        .arg(data_dir)
        .output()
        .expect("the binary runs")
}

fn check_refused(what: &str, output: &Output, mentions: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{what}: {said}");
    assert_eq!(said.trim_end().lines().count(), 1, "{what}: one line, not\n{said}");
    for word in mentions {
        assert!(said.contains(word), "{what}: {word:?} is not in: {said}");
    }
    assert_eq!(output.stdout, b"", "{what}");
}

fn fresh() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory")
}

#[test]
fn a_second_one_on_the_same_directory() {
    let mut server = Server::start(&Options::default());
    let processes = server.fingerprint();
    let before = listing(&server.data_dir);
    let dir = fresh();
    let second = serve(&["--listen", "127.0.0.1:0"], &server.data_dir, dir.path());
    check_refused("locked", &second, &[&server.data_dir.display().to_string()]);
    assert_eq!(listing(&server.data_dir), before);
    assert_eq!(server.fingerprint(), processes);
    assert_eq!(server.get("/ready", None).status, 200);
    server.stop();
    assert!(listing(dir.path()).len() == 1, "nothing appeared beside it");
}

#[test]
fn a_second_one_on_the_same_port() {
    let mut server = Server::start(&Options::default());
    let processes = server.fingerprint();
    let dir = fresh();
    let before = listing(dir.path());
    let address = format!("127.0.0.1:{}", server.port);
    for workers in ["1", "2"] {
        let args = ["--listen", &address, "--workers", workers];
        let second = serve(&args, &dir.path().join("data"), dir.path());
        check_refused("port in use", &second, &[&address]);
        assert_eq!(listing(dir.path()), before);
    }
    assert_eq!(server.fingerprint(), processes);
    server.stop();
}

#[test]
fn a_port_that_another_program_has() {
    let other = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = other.local_addr().expect("its address").to_string();
    let dir = fresh();
    let before = listing(dir.path());
    let refused = serve(&["--listen", &address], &dir.path().join("data"), dir.path());
    check_refused("port in use", &refused, &[&address]);
    assert_eq!(listing(dir.path()), before);
}

#[test]
fn a_directory_that_cannot_be() {
    let dir = fresh();
    let file = dir.path().join("a file");
    std::fs::write(&file, "in the way").expect("written");
    let before = listing(dir.path());
    // A file in its place, a file on its way, and places where even root may create nothing.
    let below = file.join("data");
    for bad in [file.as_path(), &below, Path::new("/proc/minitalk-data"), Path::new("/proc")] {
        let refused = serve(&["--listen", "127.0.0.1:0"], bad, dir.path());
        check_refused(&bad.display().to_string(), &refused, &[&bad.display().to_string()]);
    }
    assert_eq!(listing(dir.path()), before);
}

#[test]
fn a_bad_flag() {
    let dir = fresh();
    let before = listing(dir.path());
    let data = dir.path().join("data");
    for (args, word) in [
        (&["--no-such-flag"][..], "no-such-flag"),
        (&["--listen", "nonsense"], "nonsense"),
        (&["--listen", "127.0.0.1:99999"], "99999"),
        (&["--workers", "many"], "many"),
        (&["--workers", "-1"], "-1"),
        (&["--workers", "70000"], "70000"),
        (&["--listen"], "listen"),
        (&["surplus"], "surplus"),
        (&["--config", "/nowhere/minitalk.toml"], "/nowhere/minitalk.toml"),
    ] {
        check_refused(&args.join(" "), &serve(args, &data, dir.path()), &[word]);
        assert_eq!(listing(dir.path()), before, "{args:?}");
    }
    for args in [&["no-such-command"][..], &[]] {
        let output = minitalk().current_dir(dir.path()).args(args).output().expect("the binary runs");
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert_eq!(listing(dir.path()), before, "{args:?}");
    }
}

#[test]
fn a_bad_environment() {
    let dir = fresh();
    let before = listing(dir.path());
    for (name, value) in [("MINITALK_LISTEN", "nonsense"), ("MINITALK_WORKERS", "many")] {
        let data = dir.path().join("data");
        let output = minitalk()
            .env(name, value)
            .current_dir(dir.path())
            .args(["serve", "--data-dir"])
            .arg(data)
            .output()
            .expect("the binary runs");
        check_refused(name, &output, &[name]);
        assert_eq!(listing(dir.path()), before, "{name}");
    }
}

#[test]
fn a_bad_configuration_file() {
    let dir = fresh();
    let config = dir.path().join("minitalk.toml");
    let path = config.display().to_string();
    for (text, words) in [
        ("workers = \"two\"", &["workers", "minitalk.toml:1:"][..]),
        ("\nnonsense = 1", &["nonsense", "minitalk.toml:2:"]),
        ("[socketio]\nping_interval = 25", &["ping_interval", "minitalk.toml:2:"]),
        ("[socketio]\nping_interval = \"25 parsecs\"", &["ping_interval", "minitalk.toml:2:"]),
        ("[storage]\nfsync = \"sometimes\"", &["fsync", "minitalk.toml:2:"]),
        ("[auth]\nmode = \"closed\"", &["mode", "minitalk.toml:2:"]),
        ("listen = [\"nonsense\"]", &["listen", "minitalk.toml:1:"]),
        ("[auth]\n\njwt_secrets = \"x\"", &["jwt_secrets", "minitalk.toml:3:"]),
        ("workers = ", &["minitalk.toml:1:"]),
    ] {
        std::fs::write(&config, text).expect("written");
        let before = listing(dir.path());
        let refused =
            serve(&["--listen", "127.0.0.1:0", "--config", &path], &dir.path().join("data"), dir.path());
        check_refused(text, &refused, words);
        assert_eq!(listing(dir.path()), before, "{text}");
    }
}

#[test]
fn open_mode_where_others_can_reach_it() {
    let dir = fresh();
    let config = dir.path().join("minitalk.toml");
    std::fs::write(&config, "[auth]\nmode = \"open\"\n").expect("written");
    let before = listing(dir.path());
    let path = config.display().to_string();
    let args = ["--listen", "0.0.0.0:0", "--config", &path];
    let refused = serve(&args, &dir.path().join("data"), dir.path());
    check_refused("open on all addresses", &refused, &["open"]);
    assert_eq!(listing(dir.path()), before);
}

#[test]
fn what_is_made_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let mut server = Server::start(&Options::default());
    server.new_users("user", 1);
    let mode = |name: &str| {
        let path = server.data_dir.join(name);
        path.metadata().expect(name).permissions().mode() & 0o777
    };
    assert_eq!((mode(""), mode("run"), mode("index")), (0o700, 0o700, 0o700));
    for name in ["run/storage.sock", "run/control.sock", "users.jsonl"] {
        assert_eq!(mode(name), 0o600, "{name}");
    }
    server.stop();
}

#[test]
fn a_generated_secret_is_private_and_used_again() {
    use std::os::unix::fs::PermissionsExt;
    let mut server = Server::start(&Options { secret: "", ..Options::default() });
    let user = server.new_users("user", 1).remove(0);
    let secret = server.data_dir.join("secret");
    assert_eq!(secret.metadata().expect("it is there").permissions().mode() & 0o777, 0o600);
    let before = std::fs::read(&secret).expect("readable");
    server.stop();
    let mut server = server.start_again();
    assert_eq!(std::fs::read(&secret).expect("readable"), before);
    assert_eq!(server.get("/api/chatrooms", Some(&user)).status, 200, "tokens outlive a restart");
    server.stop();
}
