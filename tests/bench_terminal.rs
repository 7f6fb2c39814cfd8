//! `minitalk bench` on a real terminal: the menu, its questions and the live screen, driven by tmux;
//! and what it does where there is none.
#![allow(clippy::unwrap_used, reason = "a helper that fails ends its test")]

mod common;

use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use common::server::minitalk;
use common::{Options, Server};

/// Longest wait for anything to show; reached only by a test that has failed.
const DEADLINE: Duration = Duration::from_secs(90);

/// A terminal of 100 × 40 with a program in it, on a tmux server of its own.
struct Terminal {
    socket: std::path::PathBuf,
}

impl Terminal {
    /// Runs `minitalk bench` there; when that ends, `ended with CODE` is shown.
    fn new(name: &str) -> Terminal {
        let socket = std::env::temp_dir().join(format!("minitalk-{name}-{}", std::process::id()));
        let terminal = Terminal { socket };
        let program = format!("'{}' bench; echo ended with $?; cat", env!("CARGO_BIN_EXE_minitalk"));
        let size = ["-x", "100", "-y", "40"];
        terminal.tmux(&[&["-f", "/dev/null", "new-session", "-d"], &size[..], &[&program]].concat());
        terminal
    }

    fn tmux(&self, words: &[&str]) -> String {
        let output = Command::new("tmux").arg("-S").arg(&self.socket).args(words).output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p", "-S", "-2000"])
    }

    /// Waits until something is shown for the `times`th time; tmux leaves out blanks at the end of a line.
    fn sees(&self, text: &str, times: usize) -> String {
        let text = text.trim_end();
        let begun = Instant::now();
        loop {
            let screen = self.screen();
            if screen.matches(text).count() >= times {
                return screen;
            }
            assert!(begun.elapsed() < DEADLINE, "no {text:?} (×{times}) in:\n{screen}");
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Types a line.
    fn types(&self, line: &str) {
        self.tmux(&["send-keys", line, "Enter"]);
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        Command::new("tmux").arg("-S").arg(&self.socket).arg("kill-server").output().ok();
        std::fs::remove_file(&self.socket).ok();
    }
}

#[test]
fn the_menu_tests_a_connection_runs_own_numbers_and_ends() {
    let server = Server::start(&Options::default());
    let target = format!("127.0.0.1:{}", server.port);
    let terminal = Terminal::new("menu");
    terminal.sees("Choose 1 to 9: ", 1);
    terminal.types("8");
    terminal.sees("Target [127.0.0.1:4000]: ", 1);
    terminal.types(&target);
    let screen = terminal.sees("Everything works.", 1);
    let steps = [
        "address",
        "TCP",
        "HTTP /health",
        "sign up",
        "log in",
        "WebSocket + CONNECT",
        "long polling + CONNECT",
        "message round trip",
    ];
    for step in steps {
        assert!(
            screen.lines().any(|line| line.starts_with(&format!("  ok    {step} "))),
            "{step} in:\n{screen}"
        );
    }

    terminal.sees("Choose 1 to 9: ", 2);
    terminal.types("7");
    terminal.sees(&format!("Target [{target}]: "), 1);
    terminal.types("");
    for (question, answer) in [("Users [100]: ", "many"), ("  expected a whole number", "")] {
        terminal.sees(question, 1);
        if !answer.is_empty() {
            terminal.types(answer);
        }
    }
    for (question, times, answer) in [
        ("Users [100]: ", 2, "6"),
        ("Rooms [15]: ", 1, "2"),
        ("Duration [60s]: ", 1, "3s"),
        ("Messages per second [100]: ", 1, "20"),
        ("JSON report to file [none]: ", 1, ""),
        ("HTML report to file [none]: ", 1, ""),
    ] {
        terminal.sees(question, times);
        terminal.types(answer);
    }
    let screen = terminal.sees("lost 0, duplicated 0, out of order 0, foreign 0", 1);
    for told in ["custom on", "connections         6", "delivered/s", "Ctrl-C ends the load early"] {
        assert!(screen.contains(told), "{told:?} in:\n{screen}");
    }
    let drawn = screen.lines().filter(|line| line.starts_with("connections ") && line.contains("sent/s"));
    assert_eq!(drawn.count(), 1, "the screen is drawn in place:\n{screen}");
    terminal.sees("Choose 1 to 9: ", 3);
    terminal.types("9");
    terminal.sees("ended with 0", 1);
}

#[test]
fn an_interrupt_ends_the_load_early_and_what_was_sent_is_judged() {
    let server = Server::start(&Options::default());
    let terminal = Terminal::new("interrupt");
    terminal.sees("Choose 1 to 9: ", 1);
    terminal.types("7");
    terminal.sees("Target [", 1);
    terminal.types(&format!("127.0.0.1:{}", server.port));
    for (question, answer) in [
        ("Users [", "6"),
        ("Rooms [", "2"),
        ("Duration [", "1h"),
        ("Messages per", "20"),
        ("JSON", ""),
        ("HTML", ""),
    ] {
        terminal.sees(question, 1);
        terminal.types(answer);
    }
    terminal.sees("load, phase", 1);
    terminal.tmux(&["send-keys", "C-c"]);
    let screen = terminal.sees("ended early, after ", 1);
    assert!(screen.contains("lost 0, duplicated 0, out of order 0, foreign 0"), "{screen}");
    terminal.sees("Choose 1 to 9: ", 2);
    terminal.types("9");
    terminal.sees("ended with 0", 1);
}

#[test]
fn without_a_terminal_nobody_is_asked() {
    let output = minitalk().arg("bench").stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{said}");
    assert!(said.contains("needs a terminal") && said.contains("minitalk bench quick|medium"), "{said}");
}

#[test]
fn a_connection_test_says_what_fails_and_what_to_do() {
    let output = minitalk().args(["bench", "connect", "--target", "127.0.0.1:1"]).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(2), "{told}");
    assert!(told.contains("  ok    address") && told.contains("  FAIL  TCP"), "{told}");
    assert!(told.contains("→ nothing listens there: start the server"), "{told}");
    assert_eq!(told.matches("not tried").count(), 6, "{told}");
}
