//! A server of one's own: started, asked, weighed, stopped in order or killed.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;
use minitalk_supervisor::ask_status;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// Longest wait for a server to be ready: it may have a billion records to index.
const READY: Duration = Duration::from_secs(24 * 3600);

/// Longest wait for an answer or an end.
const PATIENCE: Duration = Duration::from_secs(600);

/// Settings of the server: users by name alone, since imported ones have no password, and the cheapest
/// password hashes there are, since they are not what is measured.
const CONFIG: &str =
    "[auth]\nmode = \"open\"\n[auth.argon2]\nmemory_kib = 8\niterations = 1\nparallelism = 1\n";

/// Begins the line that says where a server listens.
const READY_LINE: &str = "minitalk: ready on ";

/// A command of this program, without what the environment would tell it.
pub fn command(name: &str) -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    for name in ["MINITALK_CONFIG", "MINITALK_LISTEN", "MINITALK_DATA_DIR", "MINITALK_WORKERS", "JWT_SECRET"]
    {
        command.env_remove(name);
    }
    command.arg(name).stdin(Stdio::null());
    Ok(command)
}

/// A process's memory.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// `storage`, `worker`, …
    pub role: String,
    /// Which of them.
    pub id: u64,
    /// Resident now, in bytes.
    pub rss: u64,
    /// Resident at most, in bytes.
    pub peak: u64,
}

/// A running server.
pub struct Host {
    child: Child,
    data_dir: PathBuf,
    address: String,
    /// From the start of the command to its word that it is ready.
    pub ready_in: Duration,
}

impl Host {
    /// Starts a server on a data directory and waits until it is ready.
    ///
    /// # Errors
    /// It does not start; its own words went to standard error.
    pub fn start(dir: &Path, data_dir: &Path, workers: u16) -> io::Result<Host> {
        let config = dir.join("minitalk.toml");
        fs::write(&config, CONFIG)?;
        let begun = Instant::now();
        let mut child = command("serve")?
            .args(["--listen", "127.0.0.1:0", "--workers", &workers.to_string(), "--config"])
            .arg(config)
            .arg("--data-dir")
            .arg(data_dir)
            .env("RUST_LOG", "warn")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let stderr = child.stderr.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let (tell, told) = bounded(1);
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                match line.strip_prefix(READY_LINE) {
                    Some(address) => drop(tell.try_send(address.to_owned())),
                    None => eprintln!("{line}"),
                }
            }
        });
        match told.recv_timeout(READY) {
            Ok(addresses) => {
                let address = addresses.split([',', ' ']).next().unwrap_or_default().to_owned();
                Ok(Host { child, data_dir: data_dir.to_owned(), address, ready_in: begun.elapsed() })
            }
            Err(_) => {
                let _ = child.kill();
                Err(io::Error::other(format!("the server did not start: {}", child.wait()?)))
            }
        }
    }

    /// Ends it in order.
    ///
    /// # Errors
    /// It does not end with success.
    pub fn stop(mut self) -> io::Result<()> {
        kill(self.pid()?, Signal::SIGTERM)?;
        let status = self.child.wait()?;
        if status.success() { Ok(()) } else { Err(io::Error::other(format!("the server ended: {status}"))) }
    }

    /// Kills all of it, as a power cut would but for the page cache.
    ///
    /// # Errors
    /// A process does not go away.
    pub fn kill(mut self) -> io::Result<()> {
        let pids: Vec<u64> = self.processes()?.iter().filter_map(|process| process["pid"].as_u64()).collect();
        kill(self.pid()?, Signal::SIGKILL)?;
        self.child.wait()?;
        let begun = Instant::now();
        while pids.iter().any(|pid| Path::new(&format!("/proc/{pid}")).exists()) {
            if begun.elapsed() > PATIENCE {
                return Err(io::Error::other("a killed process is still there"));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// What each process takes.
    ///
    /// # Errors
    /// The supervisor does not answer.
    pub fn memory(&self) -> io::Result<Vec<Memory>> {
        let weigh = |process: &Value| {
            let (rss, peak) = memory_of(process["pid"].as_u64().unwrap_or(0));
            let role = process["role"].as_str().unwrap_or_default().to_owned();
            Memory { role, id: process["id"].as_u64().unwrap_or(0), rss, peak }
        };
        Ok(self.processes()?.iter().map(weigh).collect())
    }

    fn processes(&self) -> io::Result<Vec<Value>> {
        let status = ask_status(&self.data_dir, PATIENCE)?;
        Ok(status["processes"].as_array().cloned().unwrap_or_default())
    }

    /// One call, on a connection of its own; the body of a success.
    ///
    /// # Errors
    /// No answer, or a refusal.
    pub fn call(&self, method: &str, path: &str, body: &str) -> io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(&self.address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            self.address,
            body.len(),
        )?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let split = memchr::memmem::find(&answer, b"\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
        let head = String::from_utf8_lossy(&answer[..split]).into_owned();
        if !head.starts_with("HTTP/1.1 2") {
            return Err(io::Error::other(format!("{method} {path}: {}", head.lines().next().unwrap_or(""))));
        }
        Ok(answer.split_off(split + 4))
    }

    fn pid(&self) -> io::Result<Pid> {
        i32::try_from(self.child.id()).map(Pid::from_raw).map_err(io::Error::other)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Of no consequence where it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Resident bytes of a process now and at most; 0 when it is gone.
pub fn memory_of(pid: u64) -> (u64, u64) {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kib = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0)
    };
    (kib("VmRSS:") << 10, kib("VmHWM:") << 10)
}

/// Runs a command to its end; how long it took and what it had resident at most.
///
/// # Errors
/// It does not start, or fails; its own words went to standard error.
pub fn run(mut command: Command) -> io::Result<(Duration, u64)> {
    let begun = Instant::now();
    let mut child = command.stdout(Stdio::null()).spawn()?;
    let mut peak = 0;
    let status = loop {
        peak = peak.max(memory_of(child.id().into()).1);
        match child.try_wait()? {
            Some(status) => break status,
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    if status.success() {
        Ok((begun.elapsed(), peak))
    } else {
        Err(io::Error::other(format!("{command:?}: {status}")))
    }
}
