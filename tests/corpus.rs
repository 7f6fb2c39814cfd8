//! The inputs that fuzzing has found worth keeping, as tests: what was broken once stays mended, without
//! a fuzzer (docs/testing.md). Some others beside them, always the same.
#![allow(clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use proptest::collection::vec;
use proptest::prelude::any;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

#[path = "../fuzz/src/lib.rs"]
mod targets;

/// Bytes of one target's inputs, at most: they are kept in the repository.
const CORPUS_BYTES: u64 = 100 << 10;

/// Other inputs for each target, and bytes of one.
const OTHERS: u32 = 256;
const OTHER_BYTES: usize = 400;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).expect("a directory");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    files
}

/// Runs a target on all its inputs; a panic is told with the file that caused it.
fn replay(name: &str) {
    let (_, run) = targets::TARGETS.iter().find(|target| target.0 == name).expect("a target");
    let mut bytes = 0;
    for file in files(&fuzz().join("corpus").join(name)) {
        let input = std::fs::read(&file).expect("an input");
        bytes += input.len() as u64;
        if std::panic::catch_unwind(|| run(&input)).is_err() {
            panic!("{} breaks the target {name}; what broke is above", file.display());
        }
    }
    assert!((1..=CORPUS_BYTES).contains(&bytes), "{bytes} bytes of inputs for {name}");
}

/// Runs a target on bytes that nobody has chosen. What breaks it is made small before it is told.
fn others(name: &str) {
    let (_, run) = targets::TARGETS.iter().find(|target| target.0 == name).expect("a target");
    let config = Config { cases: OTHERS, failure_persistence: None, ..Config::default() };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let act = |input: Vec<u8>| {
        run(&input);
        Ok(())
    };
    let result = TestRunner::new_with_rng(config, rng).run(&vec(any::<u8>(), 0..OTHER_BYTES), act);
    assert!(result.is_ok(), "{result:?}");
}

/// Two tests for each target.
macro_rules! targets {
    ($($name:ident),*) => {
        const NAMES: &[&str] = &[$(stringify!($name)),*];
        $(mod $name {
            #[test]
            fn inputs_that_are_kept() {
                super::replay(stringify!($name));
            }
            #[test]
            fn other_inputs() {
                super::others(stringify!($name));
            }
        })*
    };
}

targets!(array, link, log, packet, payload, record, request, search, session);

#[test]
fn every_target_has_its_inputs_and_its_test() {
    let names: BTreeSet<String> = NAMES.iter().map(|name| (*name).to_owned()).collect();
    let stems = |dir: &str| -> BTreeSet<String> {
        let stem = |file: &PathBuf| file.file_stem().expect("a name").to_string_lossy().into_owned();
        files(&fuzz().join(dir)).iter().map(stem).collect()
    };
    assert_eq!(stems("fuzz_targets"), names);
    assert_eq!(stems("corpus"), names);
    assert_eq!(targets::TARGETS.iter().map(|target| target.0.to_owned()).collect::<BTreeSet<_>>(), names);
}
