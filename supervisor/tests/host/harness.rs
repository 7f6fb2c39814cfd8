//! A running host and what a test does with it. Waits are for conditions, up to [`PATIENCE`].

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Far more than anything here takes on a slow machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// Drain time of hosts that are not expected to use it up.
pub const LONG_DRAIN_MS: u32 = 60_000;
/// Time to answer of children that are not expected to hang.
pub const LONG_HANG_MS: u32 = 600_000;

/// How to start a host.
#[derive(Clone)]
pub struct Setup {
    pub program: PathBuf,
    pub data_dir: PathBuf,
    pub address: SocketAddr,
    pub workers: u16,
    pub drain_ms: u32,
    pub hang_ms: u32,
    /// See `examples/host.rs`.
    pub manners: Value,
    pub notify_socket: String,
    /// `WATCHDOG_USEC`
    pub watchdog_usec: String,
}

/// A host process; killed when dropped, and its children with it.
pub struct Host {
    process: Child,
    pub data_dir: PathBuf,
    lines: Arc<Mutex<Vec<String>>>,
}

/// A directory for one test, and the plainest setup in it.
pub fn setup() -> (TempDir, Setup) {
    let root = tempfile::tempdir().unwrap();
    let setup = Setup {
        program: example(),
        data_dir: root.path().join("data"),
        address: "127.0.0.1:0".parse().unwrap(),
        workers: 2,
        drain_ms: LONG_DRAIN_MS,
        hang_ms: LONG_HANG_MS,
        manners: json!({}),
        notify_socket: String::new(),
        watchdog_usec: String::new(),
    };
    (root, setup)
}

impl Setup {
    pub fn with_manners(mut self, manners: Value) -> Setup {
        self.manners = manners;
        self
    }

    pub fn start(&self) -> Host {
        let mut process = Command::new(&self.program)
            .arg("serve")
            .arg(&self.data_dir)
            .args([self.address.to_string(), self.workers.to_string()])
            .args([self.drain_ms.to_string(), self.hang_ms.to_string()])
            .arg(self.manners.to_string())
            .env("NOTIFY_SOCKET", &self.notify_socket)
            .env("WATCHDOG_USEC", &self.watchdog_usec)
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (stderr, kept) = (process.stderr.take().unwrap(), lines.clone());
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                kept.lock().unwrap().push(line);
            }
        });
        Host { process, data_dir: self.data_dir.clone(), lines }
    }

    pub fn start_ready(&self) -> Host {
        let host = self.start();
        host.wait_for_line("ready on ");
        host
    }
}

impl Host {
    pub fn pid(&self) -> i32 {
        i32::try_from(self.process.id()).unwrap()
    }

    /// What it has written to standard error.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    pub fn wait_for_line(&self, part: &str) -> String {
        eventually(&format!("a line with {part:?}"), || {
            self.lines().into_iter().find(|line| line.contains(part)).ok_or(self.lines())
        })
    }

    /// The address of its "ready" line.
    pub fn address(&self) -> SocketAddr {
        let line = self.wait_for_line("ready on ");
        line.split(' ').nth(3).unwrap().parse().unwrap()
    }

    pub fn status(&self) -> Value {
        eventually("an answer", || minitalk_supervisor::ask_status(&self.data_dir, PATIENCE))
    }

    /// The status, once it is as wanted.
    pub fn status_when(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        eventually(what, || Some(self.status()).filter(&is_so).ok_or_else(|| (self.status(), self.lines())))
    }

    /// The row of `storage`, `worker 1`, … in the status.
    pub fn process(&self, name: &str) -> Value {
        row(&self.status(), name)
    }

    /// The child of that name once it is ready and is not `old`.
    pub fn successor(&self, name: &str, old: i32) -> Value {
        let status = self.status_when(&format!("a successor of {name}"), |status| {
            let row = row(status, name);
            row["ready"] == true && row["pid"] != old
        });
        row(&status, name)
    }

    pub fn pid_of(&self, name: &str) -> i32 {
        i32::try_from(self.process(name)["pid"].as_i64().unwrap()).unwrap()
    }

    /// Its children, alive or not yet reaped.
    pub fn child_pids(&self) -> Vec<i32> {
        let status = self.status();
        let pids =
            status["processes"].as_array().unwrap().iter().map(|process| process["pid"].as_i64().unwrap());
        pids.map(|pid| i32::try_from(pid).unwrap()).filter(|pid| *pid != 0 && *pid != self.pid()).collect()
    }

    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal);
    }

    /// The exit code; none: killed by a signal.
    pub fn wait_for_end(&mut self) -> Option<i32> {
        let status = eventually("the end", || {
            self.process.try_wait().unwrap().ok_or_else(|| self.lines.lock().unwrap().clone())
        });
        status.code()
    }

    /// What the children wrote down.
    pub fn events(&self) -> Vec<String> {
        let text = fs::read_to_string(self.data_dir.join("events")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Calls `attempt` until it succeeds; the last error says what is wrong.
pub fn eventually<T, E: std::fmt::Debug>(what: &str, mut attempt: impl FnMut() -> Result<T, E>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match attempt() {
            Ok(value) => return value,
            Err(error) if Instant::now() > deadline => panic!("no {what}: {error:?}"),
            Err(_) => thread::sleep(Duration::from_millis(5)),
        }
    }
}

pub fn kill(pid: i32, signal: Signal) {
    signal::kill(Pid::from_raw(pid), signal).unwrap();
}

/// Waits until a process is dead with all its threads; one that nobody has reaped counts.
pub fn wait_until_dead(pid: i32) {
    eventually(&format!("end of {pid}"), || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let threads = fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
        if stat.is_empty() || stat.contains(") Z") && threads <= 1 { Ok(()) } else { Err(stat) }
    });
}

/// What a worker says to a new connection: its name and pid.
pub fn greeting(mut stream: TcpStream) -> String {
    let mut text = String::new();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.read_to_string(&mut text).unwrap();
    text.trim().to_owned()
}

pub fn row(status: &Value, name: &str) -> Value {
    let (role, id) = name.split_once(' ').unwrap_or((name, "0"));
    let id: u64 = id.parse().unwrap();
    let rows = status["processes"].as_array().unwrap();
    let row = rows.iter().find(|row| row["role"] == role && row["id"] == id);
    row.unwrap_or_else(|| panic!("no {name} in {status}")).clone()
}

/// Cargo builds it along with the tests, into `examples/` beside their own directory.
fn example() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let path = tests.parent().and_then(Path::parent).unwrap().join("examples/host");
    assert!(path.exists(), "not built: {}; run cargo test -p minitalk-supervisor", path.display());
    path
}
