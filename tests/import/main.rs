//! `minitalk import` and `minitalk export`, as an operator who moves in or out sees them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
#![allow(missing_docs, reason = "tests")]

#[path = "../common/mod.rs"]
mod common;

mod bad;
mod kill;
mod lived;
mod members;
mod moved;
mod round;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::server::minitalk;
use serde_json::Value;
use tempfile::TempDir;

/// A place for a source, a data directory and an export.
pub struct Place {
    dir: TempDir,
}

impl Place {
    pub fn empty() -> Place {
        Place { dir: tempfile::Builder::new().prefix("minitalk-").tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn data(&self) -> PathBuf {
        self.path("data")
    }

    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    /// A command on the data directory.
    pub fn command(&self, name: &str) -> Command {
        let mut command = minitalk();
        command.arg(name).arg("--data-dir").arg(self.data());
        command
    }

    pub fn import(&self, source: &Path, more: &[&str]) -> Output {
        self.command("import").arg(source).args(more).output().unwrap()
    }

    pub fn import_well(&self, source: &Path) -> String {
        let output = self.import(source, &[]);
        assert!(output.status.success(), "{}", stderr(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn export(&self, name: &str) -> PathBuf {
        let to = self.path(name);
        let output = self.command("export").arg(&to).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        to
    }

    /// The lines of a log.
    pub fn log(&self, name: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.data().join(name)).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub fn assert_clean(&self) -> String {
        let output = self.command("verify").output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && said.contains("clean"), "{said}");
        said
    }

    /// The logs' bytes, by name.
    pub fn logs(&self) -> Vec<(String, Vec<u8>)> {
        let mut logs: Vec<_> = std::fs::read_dir(self.data())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|end| end == "jsonl"))
            .map(|path| {
                (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read(&path).unwrap())
            })
            .collect();
        logs.sort();
        logs
    }

    /// The whole index as text, row by row.
    pub fn index(&self) -> Vec<String> {
        let file = self.data().join("index/index.sqlite");
        let index = rusqlite::Connection::open(file).unwrap();
        let names = "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name";
        let names: Vec<String> = index
            .prepare(names)
            .unwrap()
            .query_map([], |row| row.get(0))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        let mut rows = Vec::new();
        for name in names {
            let mut statement = index.prepare(&format!("SELECT * FROM {name}")).unwrap();
            let columns = statement.column_count();
            let found = statement.query_map([], |row| {
                let values = (0..columns).map(|at| format!("{:?}", row.get_ref(at).unwrap()));
                Ok(format!("{name}: {}", values.collect::<Vec<_>>().join(", ")))
            });
            rows.extend(found.unwrap().map(Result::unwrap));
        }
        rows.sort();
        rows
    }
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub fn array(path: &Path) -> Vec<Value> {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Two directories of the older layout have the same files with equal elements in the same order.
pub fn assert_same_layout(one: &Path, other: &Path) {
    let names = |dir: &Path| {
        let mut names: Vec<_> =
            std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names(one), names(other));
    for name in names(one) {
        let (one, other) = (array(&one.join(&name)), array(&other.join(&name)));
        assert_eq!(one.len(), other.len(), "{}", name.display());
        for (at, (one, other)) in one.iter().zip(&other).enumerate() {
            assert_eq!(one, other, "{} element {at}", name.display());
        }
    }
}
