//! The first line of a log that was compacted, and how such a log is written.
//!
//! A compacted log begins with a header, then has those of the older records that still matter, under
//! their own numbers and so with gaps between them, then all newer ones as they were. The header says
//! where the gaps end. It has a fixed length, since it is written last.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::record::{self, BadRecord};
use crate::chat::UserId;

/// Bytes of the header's line with its line feed.
pub const HEADER_BYTES: usize = 256;

/// How a header begins, and no other line.
const BEGINS: &[u8] = b"{\"rev\":0,\"event\":\"compacted\",";

/// What a compacted log says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Compacted {
    /// Records up to this number stand there only if they still matter; behind it all do.
    pub upto: u64,
    /// How many of them stand there.
    pub records: u64,
    /// Byte of the file where the first one behind them begins.
    pub bytes: u64,
    /// In `users.jsonl`: the highest user number that was given up to there.
    pub last_user: UserId,
}

impl Compacted {
    /// The line, with its line feed.
    pub fn encode(&self) -> Vec<u8> {
        let mut line = BEGINS.to_vec();
        line.extend_from_slice(
            format!(
                "\"upto\":{},\"records\":{},\"bytes\":{},\"lastUser\":{},\"fill\":\"",
                self.upto, self.records, self.bytes, self.last_user
            )
            .as_bytes(),
        );
        // The quotation mark behind the filling, and the sum.
        line.resize(HEADER_BYTES - record::TAIL_BYTES - 1, b'.');
        line.push(b'"');
        record::seal(&mut line, 0);
        line
    }

    /// Reads the line (without its line feed); `None`: it is a record like any other.
    ///
    /// # Errors
    /// It is a header and not what was written.
    pub fn decode(line: &[u8]) -> Result<Option<Compacted>, BadRecord> {
        if !line.starts_with(BEGINS) {
            return Ok(None);
        }
        record::check(line)?;
        record::read_json(line).map(Some)
    }

    /// The header of an open log; `None`: it has never been compacted.
    ///
    /// # Errors
    /// It can't be read. A header that is not what was written is `InvalidData`.
    pub fn of(file: &File) -> io::Result<Option<Compacted>> {
        let mut line = [0; HEADER_BYTES];
        match file.read_exact_at(&mut line, 0) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            other => other?,
        }
        Compacted::decode(&line[..HEADER_BYTES - 1])
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("the header: {error}")))
    }
}

/// Where a log is compacted to before it takes the log's place. One that is found at a start was not
/// finished.
pub fn unfinished(log: &Path) -> PathBuf {
    let mut name = log.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_have_one_length_and_come_back() {
        for number in [0, 7, u64::MAX] {
            let header = Compacted { upto: number, records: number, bytes: number, last_user: number };
            let line = header.encode();
            assert_eq!((line.len(), line.last()), (HEADER_BYTES, Some(&b'\n')));
            assert_eq!(Compacted::decode(&line[..HEADER_BYTES - 1]).unwrap(), Some(header));
            assert_eq!(record::leading_number(&line), Some(0));
            let mut bad = line.clone();
            bad[100] ^= 1;
            assert!(Compacted::decode(&bad[..HEADER_BYTES - 1]).is_err());
        }
        assert_eq!(Compacted::decode(b"{\"rev\":1,\"event\":\"created\"").unwrap(), None);
    }
}
