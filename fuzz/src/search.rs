//! Search for text in a log.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::sync::atomic::AtomicBool;

use arbitrary::{Arbitrary, Unstructured};
use minitalk::chat::OpId;
use minitalk::config::SEARCH_QUERY_CHARS;
use minitalk::journal::record::{Message, decode_message, encode_message};
use minitalk::journal::search::{Needle, scan};
use minitalk::journal::stamp::Stamp;
use unicode_normalization::is_nfc;

/// What is looked for, and where.
#[derive(Arbitrary, Debug)]
struct Search<'a> {
    needle: &'a str,
    contents: Vec<Vec<Piece<'a>>>,
    room: &'a str,
    cut: u16,
}

#[derive(Arbitrary, Debug)]
enum Piece<'a> {
    Needle,
    Upper,
    Lower,
    Other(&'a str),
}

/// Writes a log that the bytes describe; finds in it what reading every message finds.
pub fn run(data: &[u8]) {
    let Ok(search) = Search::arbitrary(&mut Unstructured::new(data)) else {
        return;
    };
    if search.needle.chars().count() > SEARCH_QUERY_CHARS {
        return;
    }
    let Some(needle) = Needle::new(search.needle) else {
        assert!(search.needle.is_empty(), "what may be asked for is looked for");
        return;
    };
    let contents: Vec<String> = search.contents.iter().map(|pieces| content(search.needle, pieces)).collect();
    let (mut log, mut expected) = (Vec::new(), BTreeSet::new());
    for (seq, content) in (1..).zip(&contents) {
        let message = Message {
            seq,
            id: OpId { instance: 1, count: seq },
            room_id: Cow::Borrowed(search.room),
            sender: Cow::Borrowed(search.needle),
            content: Cow::Borrowed(content),
            timestamp_ms: 0,
            client_id: None,
            user: 1,
            imported: None,
            synced: 0,
        };
        encode_message(&message, &mut Stamp::default(), &mut log);
        // A text that mixes composed and decomposed characters is found only as far as it is spelt.
        if is_nfc(content) && needle.is_in(content) {
            expected.insert(seq);
        }
    }
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(&log).expect("the file is written");
    let cut = u64::from(search.cut) % (log.len() as u64 + 1);
    let whole = found(&file, &needle, &[(0, u64::MAX)]);
    assert!(expected.is_subset(&whole), "not found: {:?}", expected.difference(&whole));
    assert_eq!(found(&file, &needle, &[(0, cut), (cut, log.len() as u64)]), whole, "in two ranges");
}

fn content(needle: &str, pieces: &[Piece<'_>]) -> String {
    let pieces = pieces.iter().map(|piece| match piece {
        Piece::Needle => needle.to_owned(),
        Piece::Upper => needle.to_uppercase(),
        Piece::Lower => needle.to_lowercase(),
        Piece::Other(text) => (*text).to_owned(),
    });
    pieces.collect()
}

fn found(file: &File, needle: &Needle, ranges: &[(u64, u64)]) -> BTreeSet<u64> {
    let mut found = BTreeSet::new();
    for (from, to) in ranges {
        let stop = AtomicBool::new(false);
        scan(file, *from, *to, needle, &stop, &mut |candidate| {
            let message = decode_message(candidate.line).expect("every line is good");
            let is_in = needle.is_in(&message.content);
            assert!(is_in || !candidate.certain, "certain and wrong");
            if is_in {
                assert!(found.insert(message.seq), "found twice");
            }
        })
        .expect("the file is read");
    }
    found
}
