//! The reader of large JSON arrays for `minitalk import`.

use std::io::{self, Read};

use minitalk::cli::import::array::{Array, Element, Flaw};
use minitalk::cli::import::fields::Fields;
use serde_json::value::RawValue;

/// Gives so many bytes at a time.
struct Pieces<'a>(&'a [u8], usize);

impl Read for Pieces<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.1.min(self.0.len()).min(out.len());
        out[..count].copy_from_slice(&self.0[..count]);
        self.0 = &self.0[count..];
        Ok(count)
    }
}

/// An element's place and bytes, or a flaw.
type Found = Result<(u64, u64, Vec<u8>), Flaw>;

/// Reads the bytes as a file, whole and in pieces of as many bytes as the first says.
pub fn run(data: &[u8]) {
    let Some((first, file)) = data.split_first() else {
        return;
    };
    let found = read(file, usize::MAX);
    assert_eq!(found, read(file, usize::from(*first) + 1), "in pieces");
    let whole = found.iter().all(Result::is_ok);
    let bare = file.strip_prefix(b"\xef\xbb\xbf").unwrap_or(file);
    let too_deep = |flaw: &Flaw| flaw.what.starts_with("too many brackets");
    match serde_json::from_slice::<Vec<&RawValue>>(bare) {
        Ok(_) if found.iter().any(|next| next.as_ref().is_err_and(too_deep)) => {}
        Ok(elements) => {
            assert!(whole, "JSON has no flaws: {found:?}");
            let found: Vec<&[u8]> = found.iter().flatten().map(|(_, _, bytes)| &**bytes).collect();
            assert_eq!(elements.iter().map(|element| element.get().as_bytes()).collect::<Vec<_>>(), found);
        }
        Err(_) => {
            let good = |bytes: &[u8]| serde_json::from_slice::<&RawValue>(bytes).is_ok();
            let all = found.iter().all(|next| next.as_ref().is_ok_and(|(_, _, bytes)| good(bytes)));
            assert!(!all, "what is not JSON has a flaw somewhere");
        }
    }
}

fn read(file: &[u8], piece: usize) -> Vec<Found> {
    let mut array = Array::new(Pieces(file, piece));
    let (mut found, mut before) = (Vec::new(), 0);
    while let Ok(Some(next)) = array.next_element() {
        found.push(match next {
            Ok(element) => {
                let Element { bytes, byte, number } = element;
                let start = usize::try_from(byte).unwrap_or(usize::MAX);
                assert_eq!(file.get(start..start + bytes.len()), Some(bytes));
                assert!(byte >= before, "no byte is in two elements");
                before = byte + bytes.len() as u64;
                if let Err(flaw) = Fields::read(element) {
                    assert!((byte..=before).contains(&flaw.byte) && flaw.number == number);
                }
                Ok((number, byte, bytes.to_vec()))
            }
            Err(flaw) => {
                assert!(flaw.byte <= file.len() as u64);
                Err(flaw)
            }
        });
    }
    assert!(array.done() <= file.len() as u64);
    assert!(found.len() <= file.len() + 1);
    found
}
