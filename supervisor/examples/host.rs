//! The smallest host: a supervisor whose children do next to nothing, and misbehave on request.
//!
//! `host serve DATA_DIR ADDRESS WORKERS DRAIN_MS HANG_MS SETTINGS` runs one; the children are this program
//! again. `SETTINGS` maps a child (`storage`, `worker 0`) to its manners:
//!
//! | manner | the child |
//! |---|---|
//! | `{"exit_before_ready": N}` | exits with N instead of getting ready |
//! | `{"never_ready": true}` | hangs while it comes up |
//! | `{"exit_at_drain": N}` | exits with N when told to drain |
//! | `{"deaf": true}` | does not drain |
//! | `{"stays": true}` | does not leave when it has a successor |
//! | `{"sleeps": true}` | does nothing more once it is ready |
//! | `{"leaves": true}` | closes its lifeline once it is ready and lives on |
//!
//! SIGHUP takes the settings from the file `DATA_DIR/manners`, where `ready_ms` is the time to get ready, and
//! replaces storage as well if something is said of it.
//!
//! SIGUSR2 does so too, with whatever executable is in its place by then; one that finds `"refuses": true` there
//! says that it cannot take over.
//!
//! Workers answer each TCP connection with their name. Everybody writes what happens to it into
//! `DATA_DIR/events`.

use std::error::Error;
use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, exit};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use minitalk_supervisor::child::{Child, Command, Lifeline};
use minitalk_supervisor::{
    Executable, Inherited, Listeners, Lock, Next, Notify, Outcome, Plan, Program, Reloaded, Settings,
    TAKE_OVER, TRY, run, say_understood, tried,
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::{Value, json};

/// Time between two reports.
const REPORT_INTERVAL: Duration = Duration::from_millis(50);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.first().map(String::as_str) {
        Some("serve") => serve(&arguments[1..]),
        Some("role") => child(),
        _ => Err("serve or role".into()),
    };
    result.unwrap_or_else(|error| {
        eprintln!("minitalk: {error}");
        ExitCode::from(2)
    })
}

fn serve(arguments: &[String]) -> Result<ExitCode, Box<dyn Error>> {
    let [data_dir, address, workers, drain_ms, hang_ms, manners, more @ ..] = arguments else {
        return Err("six arguments, please".into());
    };
    let (data_dir, workers) = (PathBuf::from(data_dir), workers.parse()?);
    let (drain_ms, hang_ms) = (drain_ms.parse()?, hang_ms.parse()?);
    let settings = |manners: &Value| Settings {
        drain_timeout: Duration::from_millis(drain_ms),
        hang_timeout: Duration::from_millis(hang_ms),
        ready_timeout: Duration::from_millis(manners["ready_ms"].as_u64().unwrap_or(60_000)),
        for_children: json!({"data_dir": data_dir, "manners": manners}),
    };
    let mut reload = |_: &Settings| {
        let text = fs::read_to_string(data_dir.join("manners")).map_err(|error| error.to_string())?;
        let manners: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        let storage = manners["storage"].is_object();
        Ok(Reloaded { settings: settings(&manners), storage, notes: vec!["read the manners".to_owned()] })
    };
    let executable = |path: PathBuf| Executable {
        path,
        arguments: std::env::args_os().skip(1).take(1 + arguments.len() - more.len()).collect(),
    };
    let notify = Notify {
        socket: std::env::var_os("NOTIFY_SOCKET").filter(|name| *name != OsString::new()),
        watchdog: std::env::var("WATCHDOG_USEC")
            .ok()
            .and_then(|usec| usec.parse().ok())
            .map(Duration::from_micros),
    };
    let program = Program::same();
    let outcome = match more {
        [word] if word == TRY => {
            let manners = reload(&tried()?)?.settings.for_children;
            if manners["manners"]["refuses"] == true {
                return Err("it does not want to".into());
            }
            say_understood()?;
            return Ok(ExitCode::SUCCESS);
        }
        [word, number] if word == TAKE_OVER => {
            let inherited = Inherited::take_up(number.parse()?)?;
            let settings = match inherited.is_going_back() {
                true => Ok(inherited.settings().clone()),
                false => reload(inherited.settings()).map(|reloaded| reloaded.settings),
            };
            let executable = executable(inherited.path().to_owned());
            inherited.resume(Next { settings, program, executable, notify }, &mut reload)?
        }
        _ => {
            let listeners = Listeners::open(&[address.parse::<SocketAddr>()?], workers, &data_dir)?;
            let lock = Lock::take(&data_dir)?;
            let settings = settings(&serde_json::from_str(manners)?);
            let executable = executable(std::env::current_exe()?);
            run(Plan { listeners, lock, workers, settings, program, executable, notify }, &mut reload)?
        }
    };
    Ok(if outcome == Outcome::Drained { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn child() -> Result<ExitCode, Box<dyn Error>> {
    let mut child = Child::adopt()?;
    let settings: Value = child.settings()?;
    let name = match child.role() {
        "worker" => format!("worker {}", child.id()),
        other => other.to_owned(),
    };
    let data_dir = PathBuf::from(settings["data_dir"].as_str().unwrap_or_default());
    let manners = settings["manners"][&name].clone();
    event(&data_dir, &format!("{name} started"))?;
    if let Some(code) = manners["exit_before_ready"].as_i64() {
        exit(i32::try_from(code)?);
    }
    let kept = (child.take_fds("lock"), child.take_fds("storage"));
    let answering = Arc::new(Mutex::new(()));
    for listener in child.take_fds("listen") {
        let (name, answering) = (name.clone(), answering.clone());
        thread::spawn(move || answer(&TcpListener::from(listener), &name, &answering));
    }
    let lifeline = child.into_lifeline();
    if manners["never_ready"] != true {
        lifeline.report(&figures(&data_dir))?; // first, so that whoever is ready has told how the disk is
        lifeline.ready()?;
    }
    if manners["leaves"] != true && manners["sleeps"] != true {
        let (lifeline, data_dir) = (lifeline.clone(), data_dir.clone());
        thread::spawn(move || report(&lifeline, &data_dir));
    }
    if manners["leaves"] == true {
        drop(lifeline);
        loop {
            thread::park();
        }
    }
    while let Some(command) = lifeline.next_command()? {
        let (what, stays) = match command {
            Command::Drain => ("drains", &manners["deaf"]),
            Command::Leave => ("leaves", &manners["stays"]),
        };
        event(&data_dir, &format!("{name} {what}"))?;
        if stays != true {
            break;
        }
    }
    drop(kept);
    let _nobody_is_cut_off = answering.lock();
    let code = manners["exit_at_drain"].as_i64().unwrap_or(0);
    Ok(ExitCode::from(u8::try_from(code)?))
}

/// Whoever is taken from the queue is answered: both under the lock, behind which the process ends.
fn answer(listener: &TcpListener, name: &str, answering: &Mutex<()>) {
    let _ = listener.set_nonblocking(true);
    loop {
        let _ = poll(&mut [PollFd::new(listener.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE);
        let _lock = answering.lock();
        if let Ok((mut stream, _)) = listener.accept() {
            let _ = writeln!(stream, "{name} {}", std::process::id());
        }
    }
}

/// The disk is as well as `DATA_DIR/disk` says.
fn figures(data_dir: &Path) -> Value {
    let disk = fs::read_to_string(data_dir.join("disk")).unwrap_or_else(|_| "ok".to_owned());
    json!({"connections": 7, "disk": disk})
}

fn report(lifeline: &Lifeline, data_dir: &Path) {
    loop {
        let _ = lifeline.prove_alive(); // the report says the same if the supervisor is gone
        if lifeline.report(&figures(data_dir)).is_err() {
            return;
        }
        thread::sleep(REPORT_INTERVAL);
    }
}

fn event(data_dir: &Path, what: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new().append(true).create(true).open(data_dir.join("events"))?;
    file.write_all(format!("{what}\n").as_bytes())
}
