//! `minitalk bench` without arguments on a terminal: nine entries, and questions for one's own numbers.
//!
//! What is chosen becomes the same command line that could have been typed, so the menu can do nothing
//! that a script cannot.

use std::io::{self, BufRead, Write};

use clap::Parser;

use crate::args::{self, BenchArgs};
use crate::plan::Plan;
use crate::presets;

/// The entries that are presets, by the names of their scenario files.
const PRESETS: [&str; 6] = ["quick", "medium", "strong", "extreme", "mega", "ultra"];

/// What was chosen.
#[derive(Clone, Debug)]
pub enum Choice {
    /// A run; the line that is typed for it.
    Run(Box<BenchArgs>, String),
    /// To leave.
    Exit,
}

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    bench: BenchArgs,
}

/// A person who is shown text and answers in lines.
pub struct Menu<R, W> {
    input: R,
    out: W,
    target: String,
}

impl<R: BufRead, W: Write> Menu<R, W> {
    /// Begins with the default target.
    pub fn new(input: R, out: W) -> Menu<R, W> {
        Menu { input, out, target: args::TARGET.to_owned() }
    }

    /// Shows the entries and asks until one is chosen. The end of the input is the last entry.
    pub fn choose(&mut self) -> io::Result<Choice> {
        self.show()?;
        loop {
            write!(self.out, "Choose 1 to 9: ")?;
            let Some(answer) = self.line()? else { return Ok(Choice::Exit) };
            let choice = match answer.parse::<usize>() {
                Ok(preset @ 1..=6) => self.preset(PRESETS[preset - 1]),
                Ok(7) => self.custom()?,
                Ok(8) => self.target()?.and_then(|_| self.preset("connect")),
                Ok(9) => Some(Choice::Exit),
                _ => {
                    writeln!(self.out, "That is not an entry of the menu.")?;
                    continue;
                }
            };
            return Ok(choice.unwrap_or(Choice::Exit));
        }
    }

    /// Tells something before the menu is shown again.
    pub fn tell(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{text}")
    }

    fn show(&mut self) -> io::Result<()> {
        writeln!(self.out, "\nMinitalk load test of {}\n", self.target)?;
        for (place, name) in PRESETS.iter().enumerate() {
            let file = presets::named(name).map_err(io::Error::other)?;
            let (title, users, rooms) = (capital(name), file.users, file.rooms);
            let (rate, duration) = (file.rate, file.duration().as_secs());
            writeln!(
                self.out,
                "  {}  {title:<10} {users:>6} users {rooms:>4} rooms {duration:>4} s {rate:>6} messages/s",
                place + 1
            )?;
        }
        writeln!(self.out, "  7  Custom     your own numbers")?;
        writeln!(self.out, "  8  Connection test")?;
        writeln!(self.out, "  9  Exit\n")
    }

    /// What needs no more than the target.
    fn preset(&mut self, name: &str) -> Option<Choice> {
        let words = vec![name.to_owned(), "--target".to_owned(), self.target.clone()];
        parse(&words).ok()
    }

    /// Asks for each value, all of them again when they make no sense together; `None`: no more input.
    fn custom(&mut self) -> io::Result<Option<Choice>> {
        let file = presets::named("custom").map_err(io::Error::other)?;
        writeln!(self.out, "\nEnter takes what stands in brackets.")?;
        loop {
            let Some(target) = self.target()? else { return Ok(None) };
            let numbers = [
                ("--users", "Users", file.users.to_string()),
                ("--rooms", "Rooms", file.rooms.to_string()),
                ("--duration", "Duration", format!("{}s", file.duration().as_secs())),
                ("--rate", "Messages per second", file.rate.to_string()),
                ("--json", "JSON report to file", String::new()),
                ("--html", "HTML report to file", String::new()),
            ];
            let mut words = vec!["custom".to_owned(), "--target".to_owned(), target];
            for (flag, question, default) in numbers {
                let check =
                    |answer: &str| parse(&["custom".to_owned(), format!("{flag}={answer}")]).map(|_| ());
                let Some(answer) = self.ask(question, &default, check)? else { return Ok(None) };
                if !answer.is_empty() {
                    words.push(format!("{flag}={answer}"));
                }
            }
            match parse(&words) {
                Ok(choice) => return Ok(Some(choice)),
                Err(why) => writeln!(self.out, "{why}. Once more:")?,
            }
        }
    }

    /// Asks for the target and keeps it for what is chosen next.
    fn target(&mut self) -> io::Result<Option<String>> {
        let default = self.target.clone();
        let target = self.ask("Target", &default, |answer| args::target(answer).map(|_| ()))?;
        self.target.clone_from(target.as_ref().unwrap_or(&default));
        Ok(target)
    }

    /// Asks until the answer is sound; Enter takes the default. `None`: no more input.
    fn ask(
        &mut self,
        question: &str,
        default: &str,
        check: impl Fn(&str) -> Result<(), String>,
    ) -> io::Result<Option<String>> {
        loop {
            let shown = if default.is_empty() { "none" } else { default };
            write!(self.out, "{question} [{shown}]: ")?;
            let Some(mut answer) = self.line()? else { return Ok(None) };
            if answer.is_empty() {
                default.clone_into(&mut answer);
            }
            match if answer.is_empty() { Ok(()) } else { check(&answer) } {
                Ok(()) => return Ok(Some(answer)),
                Err(why) => writeln!(self.out, "  {why}")?,
            }
        }
    }

    fn line(&mut self) -> io::Result<Option<String>> {
        self.out.flush()?;
        let mut text = String::new();
        match self.input.read_line(&mut text)? {
            0 => Ok(None),
            _ => Ok(Some(text.trim().to_owned())),
        }
    }
}

/// The run that a line stands for, or what is wrong with it.
fn parse(words: &[String]) -> Result<Choice, String> {
    let line = std::iter::once("bench").chain(words.iter().map(String::as_str));
    let bench = Line::try_parse_from(line).map_err(|why| reason(&why.to_string()))?.bench;
    Plan::new(&bench.scenario)?;
    Ok(Choice::Run(Box::new(bench), format!("minitalk bench {}", words.join(" "))))
}

/// What clap complains of, in one line and without the flag that nobody typed.
fn reason(told: &str) -> String {
    let first = told.lines().next().unwrap_or_default();
    first.rsplit_once("': ").map_or(first, |(_, why)| why).trim_start_matches("error: ").to_owned()
}

fn capital(name: &str) -> String {
    let (first, rest) = name.split_at(name.len().min(1));
    first.to_uppercase() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is chosen with those lines, and what is shown meanwhile.
    fn choose(typed: &str) -> (Choice, String) {
        let mut out = vec![];
        let choice = Menu::new(typed.as_bytes(), &mut out).choose().unwrap();
        (choice, String::from_utf8(out).unwrap())
    }

    fn line(typed: &str) -> (String, String) {
        match choose(typed) {
            (Choice::Run(_, line), shown) => (line, shown),
            (other, shown) => panic!("{other:?} after {shown}"),
        }
    }

    #[test]
    fn the_nine_entries_have_their_numbers() {
        let (choice, shown) = choose("9\n");
        assert!(matches!(choice, Choice::Exit));
        let flat = shown.split_whitespace().collect::<Vec<_>>().join(" ");
        for entry in [
            "1 Quick 30 users 10 rooms 30 s",
            "2 Medium 100 users 15 rooms 60 s",
            "3 Strong 500 users 20 rooms 120 s",
            "4 Extreme 1000 users 25 rooms 180 s",
            "5 Mega 5000 users 30 rooms 300 s",
            "6 Ultra 10000 users 35 rooms 600 s",
            "7 Custom",
            "8 Connection test",
            "9 Exit",
        ] {
            assert!(flat.contains(entry), "{entry} in {flat}");
        }
    }

    #[test]
    fn a_preset_needs_no_more_than_its_number() {
        assert_eq!(line("4\n").0, "minitalk bench extreme --target 127.0.0.1:4000");
        let (again, shown) = line("x\n0\n10\n1\n");
        assert_eq!((again.contains("quick"), shown.matches("not an entry").count()), (true, 3));
    }

    #[test]
    fn custom_asks_each_value_again_until_it_is_sound() {
        let (all_defaults, _) = line("7\n\n\n\n\n\n\n\n");
        assert_eq!(
            all_defaults,
            "minitalk bench custom --target 127.0.0.1:4000 --users=100 --rooms=15 --duration=60s --rate=100"
        );
        let (own, shown) = line("7\nhttps://x\n127.0.0.1:1\n0\n8\n2\n5\n5s\nmany\n20\n\nr.html\n");
        assert_eq!(
            own,
            "minitalk bench custom --target 127.0.0.1:1 --users=8 --rooms=2 --duration=5s --rate=20 --html=r.html"
        );
        for told in [
            "TLS is not spoken",
            "whole number from 1",
            "duration such as 500ms",
            "number per second above 0",
        ] {
            assert!(shown.contains(&format!("  {told}")) || shown.contains(told), "{told} in {shown}");
        }
        assert!(!shown.contains("--users"), "nobody typed a flag: {shown}");
        let (_, shown) = line("7\n\n2\n9\n\n\n\n\n\n9\n9\n\n\n\n\n");
        assert!(shown.contains("9 rooms need at least as many users. Once more:"), "{shown}");
    }

    #[test]
    fn the_end_of_the_input_ends_it_anywhere() {
        for typed in ["", "7\n", "7\n\n5\n", "8\n", "x\n"] {
            assert!(matches!(choose(typed).0, Choice::Exit), "{typed:?}");
        }
    }

    #[test]
    fn the_target_of_one_choice_is_that_of_the_next() {
        let mut out = vec![];
        let mut menu = Menu::new("8\n127.0.0.1:5\n1\n".as_bytes(), &mut out);
        assert!(
            matches!(menu.choose().unwrap(), Choice::Run(_, line) if line.ends_with("connect --target 127.0.0.1:5"))
        );
        assert!(
            matches!(menu.choose().unwrap(), Choice::Run(_, line) if line.ends_with("quick --target 127.0.0.1:5"))
        );
    }
}
