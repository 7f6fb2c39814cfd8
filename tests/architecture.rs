//! The shape of the code, kept by machine: who may import whom, what the supervisor and the load
//! tester must never link, and which files grow too long.
#![allow(clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Modules by how far to the left they stand; one may import only from columns left of its own.
const COLUMNS: [&[&str]; 5] = [
    &["chat", "challenge", "config", "metrics", "observe", "priority"],
    &["wire", "link", "journal"],
    &["index", "engine"],
    &["writer", "worker", "feed", "bridge", "cli"],
    &["main"],
];

/// Imports within a column that the map in `src/lib.rs` allows.
const NEIGHBOURS: [(&str, &str); 2] = [("observe", "config"), ("challenge", "chat")];

/// Lines of a file without its tests: over the first it is worth a look, over the second it is split.
const LOOK_LINES: usize = 250;
const MOST_LINES: usize = 500;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// The module a file below `src` belongs to.
fn module(file: &Path) -> String {
    let below = file.strip_prefix(root().join("src")).expect("below src");
    let first = below.components().next().expect("a name");
    first.as_os_str().to_string_lossy().trim_end_matches(".rs").to_owned()
}

/// How many `super`s lead from a file to the crate.
fn depth(file: &Path) -> usize {
    let below = file.strip_prefix(root().join("src")).expect("below src");
    below.components().count() - usize::from(below.ends_with("mod.rs"))
}

/// Every module of this crate that a file's code names; comments and their links don't count.
fn named(file: &Path, all: &BTreeSet<String>) -> BTreeSet<String> {
    let text = std::fs::read_to_string(file).expect("readable");
    let code: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let code = code.join("\n");
    let climb = "super::".repeat(depth(file));
    let starts =
        ["crate::", &climb].map(|prefix| code.match_indices(prefix).map(|(at, _)| at + prefix.len()));
    let names = starts.into_iter().flatten().flat_map(|at| first_names(&code[at..]));
    names.filter(|name| all.contains(name)).collect()
}

/// The first name of a path, or of each path of a group in braces.
fn first_names(path: &str) -> Vec<String> {
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let Some(group) = path.strip_prefix('{') else {
        return vec![word(path)];
    };
    let (mut names, mut level, mut start) = (Vec::new(), 0, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => level += 1,
            '}' if level > 0 => level -= 1,
            '}' => {
                names.push(word(group[start..at].trim()));
                break;
            }
            ',' if level == 0 => {
                names.push(word(group[start..at].trim()));
                start = at + 1;
            }
            _ => {}
        }
    }
    names
}

#[test]
fn grouped_imports_are_read() {
    assert_eq!(first_names("chat::{self, x};"), ["chat"]);
    assert_eq!(first_names("{chat, link::{a, b},\n    wire};"), ["chat", "link", "wire"]);
}

fn column(module: &str) -> usize {
    let place = COLUMNS.iter().position(|column| column.contains(&module));
    place.unwrap_or_else(|| panic!("{module} has no place in the order; give it one here and in src/lib.rs"))
}

#[test]
fn a_module_imports_only_from_its_left() {
    let files = sources(&root().join("src"));
    let all: BTreeSet<String> = files.iter().map(|file| module(file)).filter(|name| name != "lib").collect();
    let mut wrong = Vec::new();
    for file in files.iter().filter(|file| module(file) != "lib") {
        let from = module(file);
        for to in named(file, &all).into_iter().filter(|to| *to != from) {
            let neighbours = NEIGHBOURS.contains(&(from.as_str(), to.as_str()));
            if column(&to) >= column(&from) && !neighbours {
                wrong.push(format!("{}: {from} must not import {to}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Names of everything a package links, itself included.
fn linked(package: &str) -> BTreeSet<String> {
    let tree = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--locked",
            "--offline",
            "-e",
            "normal",
            "--prefix",
            "none",
            "--format",
            "{p}",
            "-p",
            package,
        ])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let text = String::from_utf8(tree.stdout).expect("text");
    text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

#[test]
fn the_supervisor_links_no_runtime() {
    let linked = linked("minitalk-supervisor");
    assert!(linked.contains("nix"), "{linked:?}");
    for name in ["tokio", "mio", "hyper", "axum", "minitalk", "minitalk-bench"] {
        assert!(!linked.contains(name), "the supervisor links {name}");
    }
}

#[test]
fn the_load_tester_shares_no_code_with_what_it_judges() {
    let linked = linked("minitalk-bench");
    for name in ["minitalk", "minitalk-supervisor", "tungstenite", "axum", "hyper"] {
        assert!(!linked.contains(name), "the load tester links {name}");
    }
}

#[test]
fn no_file_grows_without_end() {
    let mut too_long = Vec::new();
    for dir in ["src", "supervisor/src", "bench/src"] {
        for file in sources(&root().join(dir)) {
            let text = std::fs::read_to_string(&file).expect("readable");
            let own = text.lines().take_while(|line| *line != "#[cfg(test)]").count();
            let shown = file.strip_prefix(root()).expect("below the root").display().to_string();
            if own > LOOK_LINES {
                println!("{shown}: {own} lines; does it have one reason to change?");
            }
            if own > MOST_LINES {
                too_long.push(format!("{shown}: {own} lines"));
            }
        }
    }
    assert!(too_long.is_empty(), "split these: {too_long:?}");
}

#[test]
fn nothing_is_left_to_do() {
    for dir in ["src", "supervisor/src", "bench/src", "tests"] {
        for file in sources(&root().join(dir)) {
            let text = std::fs::read_to_string(&file).expect("readable");
            for mark in [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("#[ign", "ore")] {
                assert!(!text.contains(mark), "{}: {mark}", file.display());
            }
        }
    }
}
