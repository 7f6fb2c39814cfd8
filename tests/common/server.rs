//! A real `minitalk serve`.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use super::{until, whole_lines};

/// Signs the tokens of every test server, so that tests can forge some.
pub const SECRET: &str = "a secret that only these tests know, 32+ bytes";

/// The least Argon2id that there is, for tests that are not about its strength.
pub const CHEAP: &str = "memory_kib = 8\niterations = 1\nparallelism = 1";

/// What a test server may be told.
pub struct Options {
    /// Worker processes.
    pub workers: u16,
    /// Lines of the configuration file before the first table.
    pub top: &'static str,
    /// `auth.jwt_secret`
    pub secret: &'static str,
    /// More lines of its `[auth]` table.
    pub auth: &'static str,
    /// Its `[auth.argon2]` table.
    pub argon2: &'static str,
    /// Its other tables.
    pub tables: &'static str,
    /// More of its environment.
    pub env: Vec<(&'static str, String)>,
}

impl Default for Options {
    fn default() -> Options {
        let (secret, argon2) = (SECRET, CHEAP);
        Options { workers: 2, top: "", secret, auth: "", argon2, tables: "", env: Vec::new() }
    }
}

/// A running server. Dropping it kills it and removes its directory.
pub struct Server {
    /// Where it keeps its data.
    pub data_dir: PathBuf,
    /// Where it listens on 127.0.0.1.
    pub port: u16,
    config_file: PathBuf,
    workers: u16,
    env: Vec<(&'static str, String)>,
    child: Child,
    stderr: Arc<Mutex<String>>,
    _dir: Arc<TempDir>,
}

/// The binary with nothing of this environment that it would listen to.
pub fn minitalk() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_minitalk"));
    for name in ["MINITALK_CONFIG", "MINITALK_LISTEN", "MINITALK_DATA_DIR", "MINITALK_WORKERS", "JWT_SECRET"]
    {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

impl Server {
    /// Starts one in a fresh directory and waits until it is ready.
    pub fn start(options: &Options) -> Server {
        Server::make(options, None)
    }

    /// Starts one on a data directory that is there already, and stays.
    pub fn on(options: &Options, data_dir: &Path) -> Server {
        Server::make(options, Some(data_dir.to_owned()))
    }

    fn make(options: &Options, there: Option<PathBuf>) -> Server {
        let dir = Arc::new(tempfile::Builder::new().prefix("minitalk-").tempdir().unwrap());
        let config_file = dir.path().join("minitalk.toml");
        let Options { workers, top, secret, auth, argon2, tables, env } = options;
        let text = format!(
            "{top}\n[auth]\njwt_secret = \"{secret}\"\n{auth}\n\
             [auth.argon2]\n{argon2}\n{tables}\n"
        );
        std::fs::write(&config_file, text).unwrap();
        let data_dir = there.unwrap_or_else(|| dir.path().join("data"));
        Server::serve(dir, config_file, data_dir, *workers, env.clone())
    }

    /// Starts again on the same directory and configuration.
    pub fn start_again(self) -> Server {
        let (dir, config, data) = (self._dir.clone(), self.config_file.clone(), self.data_dir.clone());
        let (workers, env) = (self.workers, self.env.clone());
        drop(self);
        Server::serve(dir, config, data, workers, env)
    }

    fn serve(
        dir: Arc<TempDir>,
        config_file: PathBuf,
        data_dir: PathBuf,
        workers: u16,
        env: Vec<(&'static str, String)>,
    ) -> Server {
        let mut child = minitalk()
            .args(["serve", "--listen", "127.0.0.1:0", "--workers", &workers.to_string(), "--config"])
            .arg(&config_file)
            .arg("--data-dir")
            .arg(&data_dir)
            .envs(env.iter().map(|(name, value)| (name, value)))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = Arc::new(Mutex::new(String::new()));
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let heard = stderr.clone();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let mut heard = heard.lock().unwrap();
                heard.push_str(&line);
                heard.push('\n');
            }
        });
        let mut server = Server { data_dir, port: 0, config_file, workers, env, child, stderr, _dir: dir };
        server.port = until("the server is ready", || server.ready_port());
        server
    }

    fn ready_port(&mut self) -> Option<u16> {
        let text = self.stderr();
        if let Some((_, rest)) = text.split_once("minitalk: ready on 127.0.0.1:") {
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            return Some(digits.parse().unwrap());
        }
        let ended = self.child.try_wait().unwrap();
        assert!(ended.is_none(), "serve ended with {ended:?} before it was ready:\n{text}");
        None
    }

    /// What it has said so far.
    pub fn stderr(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    /// `minitalk status --json`
    pub fn status(&self) -> Value {
        let output =
            minitalk().args(["status", "--json", "--data-dir"]).arg(&self.data_dir).output().unwrap();
        assert!(output.status.success(), "status: {output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Pids of the processes of a role, by id.
    pub fn pids(&self, role: &str) -> Vec<i32> {
        let status = self.status();
        let mut found: Vec<(u64, i32)> = status["processes"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|process| process["role"] == role)
            .map(|p| (p["id"].as_u64().unwrap_or(0), i32::try_from(p["pid"].as_i64().unwrap()).unwrap()))
            .collect();
        found.sort_unstable();
        found.into_iter().map(|(_, pid)| pid).collect()
    }

    /// What must not change while clients misbehave: every process with its pid and restarts.
    pub fn fingerprint(&self) -> Vec<String> {
        let status = self.status();
        let of = |p: &Value| format!("{} {} {} {}", p["role"], p["id"], p["pid"], p["restarts"]);
        status["processes"].as_array().unwrap().iter().map(of).collect()
    }

    /// TERM; it must end with 0.
    pub fn stop(&mut self) {
        self.signal(Signal::SIGTERM);
        let end = until("the server ends on TERM", || self.child.try_wait().unwrap());
        assert_eq!(end.code(), Some(0), "{}", self.stderr());
    }

    /// Sends a signal to the supervisor.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// Waits until it and its children are gone.
    pub fn wait_for_the_end(&mut self) {
        self.child.wait().unwrap();
        // They die with it, and hold files of the data directory until then.
        let held = self.data_dir.clone();
        until("the children died with the supervisor", || (!is_held(&held)).then_some(()));
    }

    /// kill -9 of the supervisor; returns when its children are gone too.
    pub fn kill_supervisor(&mut self) {
        let children = [self.pids("storage"), self.pids("worker")].concat();
        self.signal(Signal::SIGKILL);
        self.child.wait().unwrap();
        until("the children died with the supervisor", || {
            children.iter().all(|pid| !alive(*pid)).then_some(())
        });
    }

    /// `minitalk verify`
    pub fn verify(&self) -> Output {
        minitalk().arg("verify").arg("--data-dir").arg(&self.data_dir).output().unwrap()
    }

    /// The message files, in order, each with its lines.
    pub fn message_files(&self) -> Vec<(String, Vec<String>)> {
        let mut names: Vec<String> = std::fs::read_dir(&self.data_dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.starts_with("messages_") && name.ends_with(".jsonl"))
            .collect();
        names.sort();
        let lines = |name: &str| whole_lines(&self.data_dir.join(name));
        names.into_iter().map(|name| (name.clone(), lines(&name))).collect()
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the server said ---\n{}", self.stderr());
        } else {
            self.wait_for_the_end();
        }
    }
}

/// Whether a process is there and no zombie.
pub fn alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// Whether a process has a file below a directory open.
fn is_held(dir: &Path) -> bool {
    let fds = |process: std::fs::DirEntry| std::fs::read_dir(process.path().join("fd")).ok();
    let processes = std::fs::read_dir("/proc").unwrap().map_while(Result::ok);
    let mut files = processes.filter_map(fds).flatten().map_while(Result::ok);
    files.any(|fd| std::fs::read_link(fd.path()).is_ok_and(|target| target.starts_with(dir)))
}
