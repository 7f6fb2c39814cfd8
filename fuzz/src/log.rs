//! A log file after an accident: what recovery keeps, and what it calls damage.

use std::borrow::Cow;
use std::path::Path;

use arbitrary::{Arbitrary, Unstructured};
use minitalk::chat::OpId;
use minitalk::journal::check;
use minitalk::journal::record::{self, Message, encode_message};
use minitalk::journal::recover::{Found, From, Scan, scan};
use minitalk::journal::segment::Segment;
use minitalk::journal::stamp::Stamp;
use minitalk::journal::{JournalError, lines::Lines};

/// Messages, and what happens to their file.
#[derive(Arbitrary, Debug)]
struct Written<'a> {
    /// Of each its text, and whether all before it were durable when it was written.
    messages: Vec<(&'a str, bool)>,
    accident: Accident<'a>,
}

#[derive(Arbitrary, Debug)]
enum Accident<'a> {
    /// The end is missing.
    Cut(u16),
    /// One byte is another.
    Flip(u16, u8),
    /// Something stands behind the end.
    More(&'a [u8]),
    /// One part was never written.
    Hole(u16, u16),
}

/// Reads the bytes as a log; makes one that they describe, has the accident happen, and reads that.
pub fn run(data: &[u8]) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = Segment::at(dir.path(), 1).path;
    if let Ok(found) = read(&path, data, false) {
        assert_eq!(found.end + found.torn, data.len() as u64);
        assert_eq!(found.next, found.records + 1);
        // What is left is a log in which nothing is wrong.
        let end = usize::try_from(found.end).unwrap_or(usize::MAX);
        let mended = read(&path, &data[..end], true).expect("what was mended is sound");
        assert_eq!((mended.records, mended.torn), (found.records, 0));
    }
    if let Ok(written) = Written::arbitrary(&mut Unstructured::new(data))
        && !written.messages.is_empty()
    {
        accident(dir.path(), &path, &written);
    }
}

fn read(path: &Path, bytes: &[u8], sealed: bool) -> Result<Scan, JournalError> {
    std::fs::write(path, bytes).expect("the file is written");
    let file = std::fs::File::open(path).expect("the file is there");
    let (mut lines, mut joined) = (Lines::new(&file, 0), 0);
    while let Some(line) = lines.next_line().expect("the file is read") {
        assert_eq!(
            (line.start, line.end),
            (joined, joined + line.bytes.len() as u64 + u64::from(line.finished))
        );
        joined = line.end;
    }
    assert_eq!(joined, bytes.len() as u64);
    scan(path, From { byte: 0, number: 1 }, sealed, &mut |line, _, _| {
        let message = record::decode_message(line)?;
        Ok(Found { number: message.seq, synced: message.synced })
    })
}

fn accident(dir: &Path, path: &Path, written: &Written<'_>) {
    let (mut bytes, mut starts, mut synced) = (Vec::new(), Vec::new(), Vec::new());
    for (seq, (text, all)) in (1..).zip(&written.messages) {
        starts.push(bytes.len());
        let before = synced.last().copied().unwrap_or(0);
        synced.push(if *all { seq - 1 } else { before });
        let message = Message {
            seq,
            id: OpId { instance: 1, count: seq },
            room_id: Cow::Borrowed("r"),
            sender: Cow::Borrowed("s"),
            content: Cow::Borrowed(text),
            timestamp_ms: 0,
            client_id: None,
            user: 1,
            imported: None,
            synced: synced[synced.len() - 1],
        };
        encode_message(&message, &mut Stamp::default(), &mut bytes);
    }
    let whole = bytes.len();
    // Which byte is the first that is not as it was written.
    let first = match written.accident {
        Accident::Cut(at) => {
            bytes.truncate(usize::from(at) % (whole + 1));
            bytes.len()
        }
        Accident::Flip(at, mask) => {
            let at = usize::from(at) % whole;
            bytes[at] ^= mask.max(1);
            at
        }
        Accident::More(more) => {
            bytes.extend_from_slice(more);
            whole
        }
        Accident::Hole(at, len) => {
            let at = usize::from(at) % whole;
            let end = (at + usize::from(len)).min(whole);
            bytes[at..end].fill(0);
            if at == end { whole } else { at }
        }
    };
    // Records that are as they were written, up to the first that is not.
    let good = starts.partition_point(|start| *start <= first) - usize::from(first < whole);
    let end = starts.get(good).copied().unwrap_or(whole);
    let sound = first == whole && bytes.len() == whole || bytes.len() == end;
    let problems = |live| {
        let mut told = 0;
        check::check(dir, live, &mut |_| told += 1).expect("the file is read");
        told
    };
    let number = good as u64 + 1;
    match read(path, &bytes, false) {
        Ok(found) => {
            assert_eq!((found.records, found.next), (good as u64, number));
            assert_eq!((found.end, found.torn), (end as u64, (bytes.len() - end) as u64));
            if let Accident::Flip(..) = written.accident {
                // A later record that says so would have made it damage.
                assert!(synced[good..].iter().skip(1).all(|synced| *synced < number));
            }
        }
        Err(JournalError::Damaged { byte, line, .. }) => {
            assert_eq!((byte, line), (end as u64, number), "the first bad record is named");
            assert!(!sound && !matches!(written.accident, Accident::Cut(_)), "no cut is damage");
            if let Accident::Flip(..) | Accident::Hole(..) = written.accident {
                assert!(synced[good..].iter().any(|synced| *synced >= number), "it was never durable");
            }
        }
        Err(error) => panic!("{error}"),
    }
    assert_eq!(problems(false) == 0, sound);
    assert_eq!(read(path, &bytes, true).is_ok(), sound, "nothing is wrong with a sealed file");
}
