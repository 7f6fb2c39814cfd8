//! Users to be imported, whatever file they come from; here, members of challenges as lines of JSON or
//! CSV.

use std::borrow::Cow;
use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::rc::Rc;

use csv::{ByteRecord, ErrorKind, Reader, ReaderBuilder};

use super::array::{Element, Flaw, Spot};
use super::fields::Fields;
use super::old::{check_looks, looks, read};
use crate::chat::{name, rules};
use crate::journal::lines::Lines;
use crate::journal::record::Profile;

/// Names that the column of the number may have.
const NUMBER: [&str; 4] = ["number", "memberId", "userId", "id"];
/// Names that the column of the name may have.
const NAME: [&str; 3] = ["name", "username", "email"];

/// Bytes of one CSV record, at most; more is a quotation mark that nobody closed.
const RECORD_BYTES: u64 = 1 << 20;

/// The highest number of a user: every client can tell it from its neighbours.
pub const NUMBER_MAX: u64 = (1 << 53) - 1;

/// What a source says of a user's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Given {
    /// Nothing.
    Nothing,
    /// This.
    Number(u64),
    /// Something that is no number of ours.
    Other,
}

/// A user to be imported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// Their number.
    pub given: Given,
    /// Everything else.
    pub profile: Profile,
    /// When they were created, in Unix milliseconds.
    pub at: i64,
}

/// A user with their place in the file, or what is in their place.
pub type Found = Result<(Spot, Person), Flaw>;

/// A file of users.
pub trait People {
    /// The next one, or a flaw in their place; `None`: that was all.
    ///
    /// # Errors
    /// The file can't be read.
    fn next(&mut self) -> io::Result<Option<Found>>;

    /// Bytes of the file done with.
    fn done(&self) -> u64;
}

/// Makes a member of what a line says. The number goes to the source, too, so that an export names it.
fn member(
    number: Option<u64>,
    username: String,
    looks: (Option<String>, Option<String>),
    at: i64,
) -> Result<Person, String> {
    let username = name::composed(&username).into_owned();
    rules::username(&username).map_err(|refusal| refusal.message)?;
    let (given, source) = match number {
        Some(number) if !(1..=NUMBER_MAX).contains(&number) => {
            return Err(format!("numbers are 1 to {NUMBER_MAX}"));
        }
        Some(number) => (Given::Number(number), Some(format!("{{\"id\":{number}}}"))),
        None => (Given::Nothing, None),
    };
    let (nickname, profile_image) = looks;
    Ok(Person { given, profile: Profile { username, password: None, nickname, profile_image, source }, at })
}

/// Members, a JSON object to a line.
pub struct NdJson {
    lines: Lines<File>,
    number: u64,
    done: u64,
    /// The rest of a line that was too long.
    inside: bool,
    at: i64,
}

impl NdJson {
    /// From a file's beginning; all are created at time `at`.
    ///
    /// # Errors
    /// It can't be read.
    pub fn open(path: &Path, at: i64) -> io::Result<NdJson> {
        Ok(NdJson { lines: Lines::new(File::open(path)?, 0), number: 0, done: 0, inside: false, at })
    }
}

impl People for NdJson {
    fn next(&mut self) -> io::Result<Option<Found>> {
        while let Some(line) = self.lines.next_line()? {
            let rest = std::mem::replace(&mut self.inside, !line.finished);
            self.done = line.end;
            if rest {
                continue;
            }
            self.number += 1;
            let bom = if line.start == 0 && line.bytes.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
            let (bytes, byte) = (line.bytes[bom..].trim_ascii(), line.start + bom as u64);
            if bytes.is_empty() {
                continue;
            }
            if bytes.len() > usize::try_from(RECORD_BYTES).unwrap_or(usize::MAX) {
                let what = format!("a line of more than {RECORD_BYTES} bytes");
                return Ok(Some(Err(Flaw { byte, number: self.number, what })));
            }
            let at = self.at;
            let element = Element { bytes, byte, number: self.number };
            let person = read(element, |mut fields| {
                let number = number(&mut fields)?;
                let name = name(&mut fields)?.into_owned();
                member(number, name, looks(&mut fields)?, at)
            });
            return Ok(Some(person.map(|person| (element.spot(), person))));
        }
        Ok(None)
    }

    fn done(&self) -> u64 {
        self.done
    }
}

/// The number may come as a number or as its digits.
fn number(fields: &mut Fields<'_>) -> Result<Option<u64>, String> {
    for name in NUMBER {
        if let Some(value) = fields.take(name) {
            let digits = value.get().trim_matches('"');
            return digits.parse().map(Some).map_err(|_| format!("{name} must be a number"));
        }
    }
    Ok(None)
}

fn name<'a>(fields: &mut Fields<'a>) -> Result<Cow<'a, str>, String> {
    for name in NAME {
        if let Some(text) = fields.optional_text(name)? {
            return Ok(text);
        }
    }
    Err("name is missing".to_owned())
}

/// Members, a CSV record each, under a header.
pub struct Csv {
    reader: Reader<Guard>,
    allowance: Rc<Cell<u64>>,
    path: std::path::PathBuf,
    /// Where in the file the reader began.
    base: u64,
    columns: Columns,
    record: ByteRecord,
    number: u64,
    at: i64,
}

/// Which column is what.
#[derive(Clone, Copy)]
struct Columns {
    count: usize,
    number: Option<usize>,
    name: usize,
    nickname: Option<usize>,
    image: Option<usize>,
}

/// Refuses to read on when one record takes too much.
struct Guard(File, Rc<Cell<u64>>);

impl Read for Guard {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let Some(left) = self.1.get().checked_sub(1) else {
            return Err(io::Error::from(io::ErrorKind::QuotaExceeded));
        };
        let count = self.0.read(out)?;
        self.1.set((left + 1).saturating_sub(count as u64));
        Ok(count)
    }
}

impl Csv {
    /// Reads the header; all members are created at time `at`. `Ok(Err(_))`: it is no header.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn open(path: &Path, at: i64) -> io::Result<Result<Csv, Flaw>> {
        let (mut reader, allowance) = reader(path, 0, true)?;
        let flaw = |what: String| Flaw { byte: 0, number: 0, what };
        let header = match reader.headers() {
            Ok(header) => header.clone(),
            Err(error) => return Ok(Err(flaw(format!("no CSV header: {error}")))),
        };
        let find = |names: &[&str]| {
            let is = |column: &str| names.iter().any(|name| name.eq_ignore_ascii_case(column.trim()));
            header.iter().position(is)
        };
        let Some(name) = find(&NAME) else {
            let what = format!("the CSV header names no column {}", NAME.join(" or "));
            return Ok(Err(flaw(what)));
        };
        let [number, nickname, image] = [&NUMBER[..], &["nickname"], &["profileImage"]].map(find);
        let columns = Columns { count: header.len(), number, name, nickname, image };
        let (path, record) = (path.to_owned(), ByteRecord::new());
        Ok(Ok(Csv { reader, allowance, path, base: 0, columns, record, number: 0, at }))
    }

    /// A record swallowed what is behind it: goes on at the line behind its beginning.
    fn reopen(&mut self, byte: u64) -> io::Result<Flaw> {
        let mut lines = Lines::new(File::open(&self.path)?, byte);
        let next = loop {
            match lines.next_line()? {
                Some(line) if !line.finished => {}
                Some(line) => break line.end,
                None => break std::fs::metadata(&self.path)?.len(),
            }
        };
        (self.reader, self.allowance) = reader(&self.path, next, false)?;
        self.base = next;
        let what = "the record goes on over other lines: a quotation mark is not closed".to_owned();
        Ok(Flaw { byte, number: self.number, what })
    }

    fn person(&self) -> Result<Person, String> {
        let Columns { count, number, name, nickname, image } = self.columns;
        if self.record.len() != count {
            return Err(format!("{} fields where the header has {count}", self.record.len()));
        }
        let field = |at: Option<usize>| -> Result<Option<&str>, String> {
            let bytes = at.and_then(|at| self.record.get(at)).filter(|bytes| !bytes.is_empty());
            bytes.map(std::str::from_utf8).transpose().map_err(|_| "not UTF-8".to_owned())
        };
        let number = match (number, field(number)?) {
            (None, _) => None,
            (Some(_), None) => return Err("the number is missing".to_owned()),
            (Some(_), Some(digits)) => {
                Some(digits.trim().parse().map_err(|_| "the number is no number".to_owned())?)
            }
        };
        let name = field(Some(name))?.ok_or("name is missing")?.to_owned();
        let looks = (field(nickname)?.map(str::to_owned), field(image)?.map(str::to_owned));
        check_looks(looks.0.as_deref(), looks.1.as_deref())?;
        member(number, name, looks, self.at)
    }
}

fn reader(path: &Path, byte: u64, header: bool) -> io::Result<(Reader<Guard>, Rc<Cell<u64>>)> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(byte))?;
    let allowance = Rc::new(Cell::new(RECORD_BYTES));
    let guard = Guard(file, allowance.clone());
    let reader =
        ReaderBuilder::new().has_headers(header).flexible(true).buffer_capacity(256 << 10).from_reader(guard);
    Ok((reader, allowance))
}

impl People for Csv {
    fn next(&mut self) -> io::Result<Option<Found>> {
        // What the reader has read ahead is not charged again: the bound is not exact and need not be.
        self.allowance.set(RECORD_BYTES);
        let before = self.base + self.reader.position().byte();
        match self.reader.read_byte_record(&mut self.record) {
            Ok(false) => return Ok(None),
            Ok(true) => {}
            Err(error) => {
                return match error.into_kind() {
                    ErrorKind::Io(error) if error.kind() == io::ErrorKind::QuotaExceeded => {
                        self.number += 1;
                        self.reopen(before).map(|flaw| Some(Err(flaw)))
                    }
                    ErrorKind::Io(error) => Err(error),
                    other => Err(io::Error::other(format!("{other:?}"))),
                };
            }
        }
        self.number += 1;
        let byte = self.record.position().map_or(before, |position| self.base + position.byte());
        if self.record.len() != self.columns.count && self.record.as_slice().contains(&b'\n') {
            return self.reopen(byte).map(|flaw| Some(Err(flaw)));
        }
        let spot = Spot { byte, number: self.number };
        Ok(Some(self.person().map(|person| (spot, person)).map_err(|what| spot.flaw(what))))
    }

    fn done(&self) -> u64 {
        self.base + self.reader.position().byte()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(people: &mut dyn People) -> Vec<String> {
        let mut found = Vec::new();
        while let Some(next) = people.next().unwrap() {
            found.push(match next {
                Ok((_, Person { given, profile, .. })) => {
                    let looks =
                        (profile.nickname.unwrap_or_default(), profile.profile_image.unwrap_or_default());
                    format!("{given:?} {} {looks:?}", profile.username)
                }
                Err(Flaw { byte, number, what }) => format!("{number}!{byte} {what}"),
            });
        }
        found
    }

    fn csv(text: &str) -> Vec<String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        match Csv::open(file.path(), 0).unwrap() {
            Ok(mut people) => all(&mut people),
            Err(flaw) => vec![flaw.what],
        }
    }

    #[test]
    fn csv_in_every_dress() {
        let text = "\u{feff}memberId,Name,nickname,profileImage\r\n7,가나,\"별, \"\"명\"\"\",\r\n\"8\",\"b\nc\",,x\r\n\r\n9,d,,\r\n";
        assert_eq!(
            csv(text),
            [
                r#"Number(7) 가나 ("별, \"명\"", "")"#,
                "2!65 username must not contain control characters",
                r#"Number(9) d ("", "")"#
            ]
        );
        assert_eq!(csv("username\na\nb\n"), [r#"Nothing a ("", "")"#, r#"Nothing b ("", "")"#]);
        assert!(csv("a,b\n1,2\n")[0].contains("names no column"));
        assert!(csv("")[0].contains("names no column"));
    }

    #[test]
    fn csv_flaws_name_their_byte() {
        let flaws = csv("id,name\n1\nx,a\n,b\n0,c\n5,\n6,d");
        assert_eq!(
            flaws,
            [
                "1!8 1 fields where the header has 2",
                "2!10 the number is no number",
                "3!14 the number is missing",
                "4!17 numbers are 1 to 9007199254740991",
                "5!21 name is missing",
                r#"Number(6) d ("", "")"#
            ]
        );
    }

    #[test]
    fn an_open_quotation_mark_costs_one_record() {
        let more: String = (2..200_000).map(|number| format!("{number},user{number}\n")).collect();
        let found = csv(&format!("id,name\n1,\"a\n{more}"));
        assert!(found[0].starts_with("1!8 the record goes on"), "{}", found[0]);
        assert_eq!(found.len(), 199_999);
        assert_eq!(found[1], r#"Number(2) user2 ("", "")"#);
    }

    #[test]
    fn lines_of_json() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let long = "x".repeat(9 << 20);
        let text = format!(
            "\u{feff}{{\"number\":1,\"name\":\"a\",\"nickname\":\"별\"}}\r\n\n{{\"id\":\"2\",\"email\":\"b@c\"}}\n{{\"id\":3}}\n{long}\n{{\"name\":\"d\"}}"
        );
        std::fs::write(file.path(), text).unwrap();
        let found = all(&mut NdJson::open(file.path(), 0).unwrap());
        assert_eq!(found[0], r#"Number(1) a ("별", "")"#);
        assert_eq!(found[1], r#"Number(2) b@c ("", "")"#);
        assert_eq!(found[2], "4!71 name is missing");
        assert!(found[3].starts_with("5!80 a line of more than"), "{}", &found[3][..60]);
        assert_eq!(found[4], r#"Nothing d ("", "")"#);
    }
}
