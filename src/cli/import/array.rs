//! The elements of a file that holds one JSON array, one after the other, in memory that does not
//! grow with the file.
//!
//! Where the file stops being JSON, reading goes on at the next place that looks like the beginning of
//! an element: behind a comma or a bracket an opening brace, a key and a colon. No string looks like
//! that from inside, since its quotation marks are escaped.

use std::fs::File;
use std::io::{self, Read};

use super::syntax::{Step, Syntax};

/// Bytes asked of the file at a time.
const READ_BYTES: usize = 256 << 10;

/// Bytes of one element, at most: a room of a million participants has half of that.
const ELEMENT_BYTES: usize = 32 << 20;

/// Bytes looked at to tell the beginning of an element.
const LOOK_BYTES: usize = 512;

/// One element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Element<'a> {
    /// Its bytes.
    pub bytes: &'a [u8],
    /// Where it begins in the file, from 0.
    pub byte: u64,
    /// Which it is, from 1.
    pub number: u64,
}

/// Something that is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaw {
    /// Where in the file, from 0.
    pub byte: u64,
    /// In which element, from 1.
    pub number: u64,
    /// What.
    pub what: String,
}

/// Where something is in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spot {
    /// Its first byte, from 0.
    pub byte: u64,
    /// In which element, from 1.
    pub number: u64,
}

impl Spot {
    /// Something is wrong there.
    pub fn flaw(self, what: String) -> Flaw {
        Flaw { byte: self.byte, number: self.number, what }
    }
}

impl Element<'_> {
    /// Where it is.
    pub fn spot(&self) -> Spot {
        Spot { byte: self.byte, number: self.number }
    }
}

/// The next element, or what is in its place.
pub type Next<'a> = Result<Element<'a>, Flaw>;

/// What comes next in the array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Opening,
    FirstOrEnd,
    CommaOrEnd,
    Element,
    Behind,
    Done,
}

/// Reads an array.
pub struct Array<R = File> {
    file: R,
    buffer: Vec<u8>,
    filled: usize,
    /// Where in the file the buffer begins.
    base: u64,
    /// Bytes of the buffer already done with.
    pos: usize,
    ended: bool,
    place: Place,
    number: u64,
}

impl<R: Read> Array<R> {
    /// From the beginning of a file.
    pub fn new(file: R) -> Array<R> {
        let (buffer, place) = (Vec::new(), Place::Opening);
        Array { file, buffer, filled: 0, base: 0, pos: 0, ended: false, place, number: 0 }
    }

    /// Bytes of the file done with.
    pub fn done(&self) -> u64 {
        self.base + self.pos as u64
    }

    /// The next element, or a flaw behind which it can go on; `None`: that was all.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn next_element(&mut self) -> io::Result<Option<Next<'_>>> {
        loop {
            if self.place == Place::Done {
                return Ok(None);
            }
            if self.place == Place::Opening && self.base == 0 && self.pos == 0 {
                self.have(3)?;
                if self.buffer[..self.filled].starts_with(b"\xef\xbb\xbf") {
                    self.pos = 3;
                }
            }
            let next = self.skip_space()?;
            match (self.place, next) {
                (Place::Behind, None) => self.place = Place::Done,
                (_, None) => {
                    self.place = Place::Done;
                    return Ok(Some(Err(self.flaw(self.pos, "the array does not end"))));
                }
                (Place::Opening, Some(b'[')) => self.advance(Place::FirstOrEnd),
                (Place::FirstOrEnd | Place::CommaOrEnd, Some(b']')) => self.advance(Place::Behind),
                (Place::CommaOrEnd, Some(b',')) => self.advance(Place::Element),
                (Place::FirstOrEnd | Place::Element, Some(_)) => return self.element().map(Some),
                (Place::Opening, Some(_)) => {
                    self.place = Place::Done;
                    return Ok(Some(Err(self.flaw(self.pos, "not a JSON array"))));
                }
                (place, Some(_)) => {
                    let behind = place == Place::Behind;
                    let what = if behind { "something behind the array" } else { "a comma is missing" };
                    self.number += 1;
                    return self.resume(self.pos, what).map(|flaw| Some(Err(flaw)));
                }
            }
        }
    }

    fn advance(&mut self, place: Place) {
        self.pos += 1;
        self.place = place;
    }

    fn flaw(&self, at: usize, what: &str) -> Flaw {
        Flaw { byte: self.base + at as u64, number: self.number, what: what.to_owned() }
    }

    /// The next byte that is no white space, not yet taken.
    fn skip_space(&mut self) -> io::Result<Option<u8>> {
        while self.have(1)? {
            match self.buffer[self.pos] {
                b' ' | b'\t' | b'\r' | b'\n' => self.pos += 1,
                byte => return Ok(Some(byte)),
            }
        }
        Ok(None)
    }

    /// Reads until so many bytes are there behind `pos`; `false`: the file has fewer.
    fn have(&mut self, bytes: usize) -> io::Result<bool> {
        while self.filled - self.pos < bytes && !self.ended {
            self.fill()?;
        }
        Ok(self.filled - self.pos >= bytes)
    }

    /// Reads more; what is before `pos` goes.
    fn fill(&mut self) -> io::Result<()> {
        if self.pos > 0 {
            self.buffer.copy_within(self.pos..self.filled, 0);
            self.base += self.pos as u64;
            self.filled -= self.pos;
            self.pos = 0;
        }
        if self.buffer.len() < self.filled + READ_BYTES {
            let len = (self.filled + READ_BYTES).max(self.buffer.len() * 2);
            self.buffer.resize(len, 0);
        }
        match self.file.read(&mut self.buffer[self.filled..]) {
            Ok(0) => self.ended = true,
            Ok(read) => self.filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn element(&mut self) -> io::Result<Next<'_>> {
        self.number += 1;
        let mut syntax = Syntax::new();
        let mut len = 0;
        let wrong = loop {
            if !self.have(len + 1)? {
                break "the element does not end";
            }
            if len > ELEMENT_BYTES {
                break "the element is too large";
            }
            if syntax.is_text() {
                let rest = &self.buffer[self.pos + len..self.filled];
                len +=
                    rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..b' ')).unwrap_or(rest.len());
                if self.pos + len == self.filled {
                    continue;
                }
            }
            match syntax.step(self.buffer[self.pos + len]) {
                Ok(Step::More) => len += 1,
                Ok(end) => {
                    len += usize::from(end == Step::Last);
                    let (start, byte) = (self.pos, self.done());
                    self.pos += len;
                    self.place = Place::CommaOrEnd;
                    let bytes = &self.buffer[start..self.pos];
                    return Ok(Ok(Element { bytes, byte, number: self.number }));
                }
                Err(what) => break what,
            }
        };
        self.resume(self.pos + len, wrong).map(Err)
    }

    /// Goes on behind a flaw at `at`.
    fn resume(&mut self, at: usize, what: &str) -> io::Result<Flaw> {
        let mut flaw = self.flaw(at, what);
        let from = self.done();
        // What broke the element may have been the next one's beginning.
        self.pos = at;
        let mut before = Some(b',');
        while self.have(1)? {
            self.have(LOOK_BYTES)?;
            let ahead = &self.buffer[self.pos..self.filled];
            if matches!(before, Some(b',' | b'[')) && begins_element(ahead) {
                self.place = Place::Element;
                if self.done() > from {
                    flaw.what += &format!("; left out bytes {from} to {}", self.done() - 1);
                }
                return Ok(flaw);
            }
            if !matches!(ahead[0], b' ' | b'\t' | b'\r' | b'\n') {
                before = Some(ahead[0]);
            }
            self.pos += 1;
        }
        self.place = Place::Done;
        flaw.what += &format!("; left out everything from byte {from}");
        Ok(flaw)
    }
}

/// An opening brace, a key and a colon.
fn begins_element(bytes: &[u8]) -> bool {
    let space =
        |bytes: &[u8]| bytes.iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n')).count();
    let Some(rest) = bytes.strip_prefix(b"{") else {
        return false;
    };
    let Some(rest) = rest[space(rest)..].strip_prefix(b"\"") else {
        return false;
    };
    let key = rest.iter().take_while(|byte| !matches!(byte, b'"' | b'\\' | 0..b' ')).count();
    let Some(rest) = rest[key..].strip_prefix(b"\"") else {
        return false;
    };
    rest[space(rest)..].first() == Some(&b':')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives a few bytes at a time.
    struct Drops<'a>(&'a [u8], usize);

    impl Read for Drops<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            let count = self.1.min(self.0.len()).min(out.len());
            out[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }

    /// Elements with their bytes' place, and flaws, as text.
    fn read(text: &str) -> Vec<String> {
        let mut whole = None;
        for drop in [1, 3, 7, 1_000_000] {
            let mut array = Array::new(Drops(text.as_bytes(), drop));
            let mut found = Vec::new();
            while let Some(next) = array.next_element().unwrap() {
                found.push(match next {
                    Ok(Element { bytes, byte, number }) => {
                        format!("{number}@{byte} {}", std::str::from_utf8(bytes).unwrap())
                    }
                    Err(Flaw { byte, number, what }) => format!("{number}!{byte} {what}"),
                });
            }
            assert_eq!(whole.get_or_insert_with(|| found.clone()), &found, "{drop} bytes at a time");
        }
        whole.unwrap()
    }

    #[test]
    fn elements_come_with_their_place() {
        assert_eq!(read("[]"), [""; 0]);
        assert_eq!(read("\u{feff} [ ] \n"), [""; 0]);
        assert_eq!(
            read("[{\"a\":\"가,}\"},\n  {\"b\": [1]} , 12,null]"),
            ["1@1 {\"a\":\"가,}\"}", "2@18 {\"b\": [1]}", "3@31 12", "4@34 null"]
        );
    }

    #[test]
    fn flaws_are_named_and_the_rest_is_kept() {
        // A brace is missing: the next element is where the mistake shows.
        assert_eq!(
            read(r#"[{"a":1, {"a":2}, {"a":3}]"#),
            ["1!9 a key is missing; left out bytes 1 to 8", "2@9 {\"a\":2}", "3@18 {\"a\":3}"]
        );
        // A string does not end.
        assert_eq!(
            read("[{\"a\":\"x},\n{\"a\":2}]"),
            ["1!10 a control character in a string; left out bytes 1 to 10", "2@11 {\"a\":2}"]
        );
        assert_eq!(
            read(r#"[{"a":1} {"a":2}]"#),
            ["1@1 {\"a\":1}", "2!9 a comma is missing", "3@9 {\"a\":2}"]
        );
        assert_eq!(
            read(r#"[{"a":1},]"#),
            ["1@1 {\"a\":1}", "2!9 a value is missing; left out everything from byte 9"]
        );
        assert_eq!(read(r#"[{"a":1}"#), ["1@1 {\"a\":1}", "1!8 the array does not end"]);
        assert_eq!(
            read(r#"[{"a":1},{"a":"#),
            ["1@1 {\"a\":1}", "2!14 the element does not end; left out everything from byte 9"]
        );
        assert_eq!(read(r#" {"a":1}"#), ["0!1 not a JSON array"]);
        assert_eq!(read(""), ["0!0 the array does not end"]);
        assert_eq!(read("[] x"), ["1!3 something behind the array; left out everything from byte 3"]);
    }
}
