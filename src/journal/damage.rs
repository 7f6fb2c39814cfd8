//! Damaged messages that readers come upon: said to the log once each, and passed over.
//!
//! A reader serves what is good. That something is missing it says to whoever can do something about
//! it, not again for everybody who asks.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

/// Places in one file that are said. Which further ones there are `minitalk verify` says.
const OF_A_FILE: usize = 16;

/// Files that are remembered. Of further ones this process says nothing; the reading for damage does.
const FILES: usize = 1_024;

/// Files, and the bytes in them that were said.
static SAID: Mutex<BTreeMap<PathBuf, BTreeSet<u64>>> = Mutex::new(BTreeMap::new());

/// Says that what stands at a byte of a file is not the message that was written, unless that was said.
pub fn say(path: &Path, byte: u64) {
    if is_new(path, byte) {
        tracing::error!(file = %path.display(), byte, "a message is damaged: it is left out");
    }
}

fn is_new(path: &Path, byte: u64) -> bool {
    let mut said = SAID.lock();
    if !said.contains_key(path) && said.len() >= FILES {
        return false;
    }
    let of_file = said.entry(path.to_owned()).or_default();
    of_file.len() < OF_A_FILE && of_file.insert(byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_said_once_and_of_one_file_not_too_many() {
        let path = Path::new("/nowhere/messages_000001.jsonl");
        let new = (0..100).chain(0..100).filter(|byte| is_new(path, *byte));
        assert_eq!(new.collect::<Vec<u64>>(), (0..16).collect::<Vec<u64>>());
    }
}
