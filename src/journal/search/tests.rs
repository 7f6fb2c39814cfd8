use std::borrow::Cow;

use proptest::prelude::*;

use super::*;
use crate::chat::OpId;
use crate::journal::record::Message;
use crate::journal::segment::Segment;
use crate::journal::stamp::Stamp;

fn needle(text: &str) -> Needle {
    Needle::new(text).unwrap()
}

fn log(contents: &[String]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut text = Vec::new();
    for (seq, content) in (1..).zip(contents) {
        let message = Message {
            seq,
            id: OpId { instance: 0xabc, count: seq },
            room_id: Cow::Borrowed("room \"n\""),
            sender: Cow::Borrowed("nobody \u{1}"),
            content: Cow::Borrowed(content),
            timestamp_ms: 0,
            client_id: Some(Cow::Borrowed("client")),
            user: 7,
            imported: None,
            synced: 0,
        };
        record::encode_message(&message, &mut Stamp::default(), &mut text);
    }
    text.extend_from_slice(b"{\"seq\":99,\"content\":\"not finished");
    std::fs::write(Segment::at(dir.path(), 1).path, text).unwrap();
    dir
}

/// The numbers of the messages that have a text, with the file cut into ranges.
fn found(dir: &Path, text: &str, ranges: &[u64]) -> Vec<u64> {
    let file = File::open(Segment::at(dir, 1).path).unwrap();
    let (needle, stop) = (needle(text), AtomicBool::new(false));
    let mut seqs = Vec::new();
    let bounds: Vec<u64> = [0].iter().chain(ranges).chain(&[1 << 40]).copied().collect();
    for range in bounds.windows(2) {
        scan(&file, range[0], range[1], &needle, &stop, &mut |candidate| {
            let message = record::decode_message(candidate.line).unwrap();
            let is_in = needle.is_in(&message.content);
            assert!(is_in || !candidate.certain, "{text:?} in {:?}", message.content);
            seqs.extend(is_in.then_some(message.seq));
        })
        .unwrap();
    }
    seqs
}

#[test]
fn texts_that_are_the_same_to_their_readers() {
    for (text, content, is_in) in [
        ("hello", "Say HELLO!", true),
        ("안녕", "여러분 안녕하세요", true),
        ("안녕", "\u{110b}\u{1161}\u{11ab}\u{1102}\u{1167}\u{11bc}", true),
        ("\u{110b}\u{1161}\u{11ab}\u{1102}\u{1167}\u{11bc}", "안녕", true),
        ("하", "한", false),
        ("하", "\u{1112}\u{1161}\u{11ab}", false),
        ("é", "CAFE\u{301}", true),
        ("cafe", "CAFE\u{301}", false),
        ("cafe", "CAFE\u{301} cafe", true),
        ("\u{316}x", "b\u{301}\u{316}x", false),
        ("하", "\u{1112}\u{1161}", true),
        ("하", "하\u{11ab}", false),
        ("\u{1161}", "\u{1112}\u{1161}", false),
        ("🎉", "party 🎉🎉", true),
        ("👩‍👩‍👧", "a family 👩‍👩‍👧", true),
        ("straße", "STRAẞE", true),
        ("ΣΊΣΥΦΟΣ", "σίσυφος", true),
        ("привет", "ПРИВЕТ", true),
        ("ı", "I", false),
        ("İ", "i", false),
        ("ığdır", "IĞDIR", false),
        ("çay şöyle", "ÇAY ŞÖYLE", true),
        ("kelvin", "\u{212a}ELVIN", true),
        ("\n", "two\nlines", true),
        ("n", "a\nb", false),
        ("u0007", "a\u{7}b", false),
        ("\u{7}", "a\u{7}b", true),
        ("\"quoted\"", "say \"QUOTED\"", true),
        ("\\", "C:\\users", true),
        ("\\\"", "a\\\"b", true),
        ("c:\\new", "C:\\NEW", true),
        (".*", "anything", false),
        (".*", "grep .* files", true),
        ("a b", "a  b", false),
        ("\",\"timestamp\":\"", "see \",\"timestamp\":\" there", true),
    ] {
        assert_eq!(needle(text).is_in(content), is_in, "{text:?} in {content:?}");
        let expected: &[u64] = if is_in { &[1] } else { &[] };
        assert_eq!(found(log(&[content.to_owned()]).path(), text, &[]), expected, "{text:?} in {content:?}");
    }
}

#[test]
fn only_contents_are_searched() {
    let dir = log(&["hello".to_owned(), "room abc client".to_owned()]);
    for (text, expected) in [
        ("nobody", &[][..]),
        ("roomId", &[]),
        ("client", &[2]),
        ("room", &[2]),
        ("abc", &[2]),
        ("seq", &[]),
        ("not finished", &[]),
        ("\"", &[]),
        (",", &[]),
        ("o", &[1, 2]),
    ] {
        assert_eq!(found(dir.path(), text, &[]), expected, "{text:?}");
    }
}

#[test]
fn a_line_written_by_others_with_other_escapes_is_found() {
    let dir = log(&["x".to_owned()]);
    let path = Segment::at(dir.path(), 1).path;
    let text = std::fs::read_to_string(&path).unwrap();
    let line = text.lines().next().unwrap();
    let body = line.split_once(",\"crc\"").unwrap().0;
    let body = body.replace("\"content\":\"x\"", r#""content":"\uc548\ub155 \/path \u0048\u0065LLO""#);
    let sealed = format!("{body},\"crc\":\"{:08x}\"}}\n", crc32fast::hash(body.as_bytes()));
    std::fs::write(&path, sealed).unwrap();
    for text in ["안녕", "/PATH", "hello", "녕 /p"] {
        assert_eq!(found(dir.path(), text, &[]), [1], "{text:?}");
    }
    assert_eq!(found(dir.path(), "uc548", &[]), [0; 0]);
}

#[test]
fn a_search_that_is_stopped_reads_no_further() {
    let contents: Vec<String> = (0..20_000).map(|n| format!("message {n} {}", "x".repeat(50))).collect();
    let dir = log(&contents);
    let file = File::open(Segment::at(dir.path(), 1).path).unwrap();
    let stop = AtomicBool::new(false);
    let mut hits = 0;
    let searched = scan(&file, 0, u64::MAX, &needle("message"), &stop, &mut |_| {
        hits += 1;
        stop.store(true, Ordering::Relaxed);
    })
    .unwrap();
    assert!(hits > 0 && hits < 3_000, "{hits}");
    assert_eq!(searched.first_seq, None);
    assert!(searched.bytes <= BLOCK_BYTES as u64);
}

#[test]
fn counting_counts_messages() {
    let contents: Vec<String> = (0..3_000).map(|n| format!("NEEDLE {n} needle")).collect();
    let dir = log(&contents);
    assert_eq!(count(dir.path(), &needle("needle"), 2).unwrap(), 3_000);
    // 7, 70 to 79, 700 to 799.
    assert_eq!(count(dir.path(), &needle("needle 7"), 1).unwrap(), 111);
}

proptest! {
    #[test]
    fn a_search_finds_what_a_look_at_each_message_finds(
        contents in prop::collection::vec("[aAbBsSkKßẞſéÉ가각\u{1100}\u{1161}\u{11a8}\u{301}\u{316} \"\\\\/n\n\u{1}🎉,:]{0,12}", 1..30),
        text in "[aAbBsSkKßéÉ가각\u{301}\u{316} \"\\\\/n\n\u{1}🎉,:]{1,3}",
        form in 0..3,
        mut ranges in prop::collection::vec(0u64..6_000, 0..6),
    ) {
        ranges.sort_unstable();
        let whole = |content: &String| -> String {
            match form {
                0 => content.nfc().collect(),
                1 => content.nfd().collect(),
                _ => content.chars().filter(|c| !"\u{1100}\u{1161}\u{11a8}\u{301}\u{316}".contains(*c)).collect(),
            }
        };
        let contents: Vec<String> = contents.iter().map(whole).collect();
        let dir = log(&contents);
        let needle = needle(&text);
        let expected: Vec<u64> =
            (1..).zip(&contents).filter(|(_, content)| needle.is_in(content)).map(|(seq, _)| seq).collect();
        prop_assert_eq!(found(dir.path(), &text, &ranges), expected);
    }
}
