//! Members in a CSV file: made for `minitalk import`, read for a run, and told which challenge is theirs.
//!
//! Columns are found by their names, so one file serves both: `memberId,challengeId` is what a run needs;
//! an import takes `memberId`, `name` and `nickname`, and passes over the rest.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use csv::{ReaderBuilder, StringRecord, Writer};

use super::args::MembersArgs;

/// The columns of a file that is made here. Names are those of test accounts; `name` stands before `email`,
/// since an import takes the first of both as the user's name.
const HEADER: [&str; 5] = ["memberId", "challengeId", "name", "email", "nickname"];

/// A member and the challenge it takes part in, if the file says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The user's number.
    pub member: u64,
    /// The challenge's.
    pub challenge: Option<u64>,
}

/// A file as it was read.
pub struct Roster {
    path: PathBuf,
    header: StringRecord,
    records: Vec<StringRecord>,
    challenge_column: usize,
    /// Its members, in order.
    pub entries: Vec<Entry>,
}

/// Makes members: `test_uid_N`, `testN@test.com`, `테스트유저N`.
pub fn make(args: &MembersArgs) -> io::Result<()> {
    let named = |why: io::Error| io::Error::new(why.kind(), format!("{}: {why}", args.csv.display()));
    let challenge = args.challenge.map(|id| id.to_string()).unwrap_or_default();
    let mut out = Writer::from_writer(BufWriter::new(File::create(&args.csv).map_err(named)?));
    out.write_record(HEADER)?;
    for place in 0..args.count {
        let number = (u64::from(args.first) + u64::from(place)).to_string();
        let (name, email) = (format!("test_uid_{number}"), format!("test{number}@test.com"));
        let nickname = format!("테스트유저{number}");
        out.write_record([&number, &challenge, &name, &email, &nickname])?;
    }
    out.flush().map_err(named)
}

impl Roster {
    /// Reads a file, or says in which line it is wrong.
    pub fn read(path: &Path) -> Result<Roster, String> {
        let named = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
        // Whoever writes the file in a spreadsheet may leave a byte order mark.
        let text = fs::read_to_string(path).map_err(|why| named(&why))?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        let mut reader = ReaderBuilder::new().flexible(false).from_reader(text.as_bytes());
        let header = reader.headers().map_err(|why| named(&why))?.clone();
        let column = |name: &str| {
            let found = header.iter().position(|column| column.trim().eq_ignore_ascii_case(name));
            found.ok_or_else(|| named(&format!("the header names no column {name}")))
        };
        let (member_column, challenge_column) = (column("memberId")?, column("challengeId")?);
        let records = reader.records().collect::<Result<Vec<_>, _>>().map_err(|why| named(&why))?;
        let entry = |(place, record): (usize, &StringRecord)| {
            let wrong = |name: &str| named(&format!("line {}: {name} must be a number from 1", place + 2));
            let field = |column: usize| record.get(column).unwrap_or_default().trim().to_owned();
            let number = |text: &str| text.parse::<u64>().ok().filter(|number| *number > 0);
            let challenge = match field(challenge_column).as_str() {
                "" => None,
                text => Some(number(text).ok_or_else(|| wrong("challengeId"))?),
            };
            let member = number(&field(member_column)).ok_or_else(|| wrong("memberId"))?;
            Ok(Entry { member, challenge })
        };
        let entries = records.iter().enumerate().map(entry).collect::<Result<Vec<_>, String>>()?;
        if entries.is_empty() {
            return Err(named(&"there are no members in it"));
        }
        let mut seen = std::collections::HashSet::new();
        if let Some(twice) = entries.iter().find(|entry| !seen.insert((entry.member, entry.challenge))) {
            return Err(named(&format!("member {} is there twice", twice.member)));
        }
        Ok(Roster { path: path.to_owned(), header, records, challenge_column, entries })
    }

    /// Writes a challenge's id to all members; the file is replaced in one step.
    pub fn assign(&mut self, challenge: u64) -> io::Result<()> {
        let mut temporary = self.path.clone().into_os_string();
        temporary.push(".new");
        let temporary = PathBuf::from(temporary);
        let mut out = Writer::from_writer(BufWriter::new(File::create(&temporary)?));
        out.write_record(&self.header)?;
        let id = challenge.to_string();
        for record in &self.records {
            let changed = |(column, field)| if column == self.challenge_column { id.as_str() } else { field };
            out.write_record(record.iter().enumerate().map(changed))?;
        }
        out.into_inner().map_err(|why| io::Error::other(why.to_string()))?.flush()?;
        self.entries.iter_mut().for_each(|entry| entry.challenge = Some(challenge));
        fs::rename(temporary, &self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("minitalk-roster-{}-{name}.csv", std::process::id()))
    }

    #[test]
    fn what_is_made_is_read_and_assigned() {
        let path = file("made");
        let args = MembersArgs { count: 3, csv: path.clone(), first: 7, challenge: None };
        make(&args).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let first = "memberId,challengeId,name,email,nickname\n7,,test_uid_7,test7@test.com,테스트유저7\n";
        assert!(text.starts_with(first), "{text}");
        let mut roster = Roster::read(&path).unwrap();
        assert_eq!(roster.entries[2], Entry { member: 9, challenge: None });
        roster.assign(41).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains("9,41,test_uid_9,test9@test.com,테스트유저9\n"), "{text}");
        assert_eq!(Roster::read(&path).unwrap().entries, roster.entries);
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_wrong_file_is_named_with_its_line() {
        for (name, text, told) in [
            ("column", "memberId,room\n1,2\n", "no column challengeId"),
            ("number", "memberId,challengeId\n1,2\nx,2\n", "line 3: memberId must be a number"),
            ("zero", "challengeId,memberId\n0,1\n", "line 2: challengeId must be a number"),
            ("twice", "memberId,challengeId\n1,2\n1,2\n", "member 1 is there twice"),
            ("none", "memberId,challengeId\n", "no members"),
            ("fields", "memberId,challengeId\n1\n", "fields"),
        ] {
            let path = file(name);
            fs::write(&path, text).unwrap();
            let why = Roster::read(&path).err().unwrap();
            assert!(why.contains(told) && why.contains(name), "{why}");
            fs::remove_file(path).unwrap();
        }
        assert!(Roster::read(Path::new("/nonexistent.csv")).err().unwrap().contains("/nonexistent.csv"));
    }
}
