//! The thread that reads all logs slowly, over and over, to find damage before somebody needs the
//! record.
//!
//! It reads no more per second than it is allowed, from the disk and not from memory, at the lowest
//! priority for processor and disk. Which files are missing it says at once, before it reads. What it finds
//! is reported; nothing else happens: whatever is good is still served. Only of the index, which is made from
//! the logs, it has damaged parts made again. It remembers where it was, in a file that may be lost: then it begins anew.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use serde::{Deserialize, Serialize};

use super::commit;
use super::status::Status;
use crate::config::Storage;
use crate::index::Reader;
use crate::index::runs::file::RunFile;
use crate::index::runs::{self, Run};
use crate::journal::check::Problem;
use crate::journal::scrub::{Place, Scrubbed};
use crate::journal::segment::{self, Segment};
use crate::journal::{CHALLENGES, ROOMS, USERS, deletions};
use crate::priority;

/// Bytes read at a time.
const PIECE_BYTES: u64 = 64 << 10;

/// Time between two notes of how far it is.
const NOTE_INTERVAL: Duration = Duration::from_secs(10);

/// What is said of a file that is not there.
const MISSING: &str = "the file is not there";

/// Missing files that are named.
const MISSING_NAMED: usize = 16;

/// What the thread owns.
pub struct Scrub {
    data_dir: PathBuf,
    bytes_per_second: u64,
    interval: Duration,
    status: Arc<Status>,
    /// Ends when the writer does.
    stop: Receiver<()>,
    /// To the indexer: runs that are not what was written.
    damaged: Sender<Run>,
    at: Position,
    noted: Instant,
}

/// How far it is; what `index/scrub.json` holds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Position {
    /// Unix time in milliseconds at which this round began.
    began_ms: i64,
    /// This round is over.
    done: bool,
    /// The file being read; empty at the beginning of a round.
    file: String,
    place: Place,
    /// What has been found and not been found mended.
    damage: Vec<Problem>,
}

/// The writer ends.
struct Stop;

impl Scrub {
    /// A thread's state; `None`: it is not wanted.
    pub fn new(
        data_dir: &Path,
        storage: &Storage,
        status: Arc<Status>,
        stop: Receiver<()>,
        damaged: Sender<Run>,
    ) -> Option<Scrub> {
        let at: Option<Position> =
            fs::read(file(data_dir)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let at = at.unwrap_or_default();
        at.damage.iter().for_each(|problem| status.note_damage(problem));
        (storage.scrub_bytes_per_second > 0).then(|| Scrub {
            data_dir: data_dir.to_owned(),
            bytes_per_second: storage.scrub_bytes_per_second,
            interval: storage.scrub_interval,
            status,
            stop,
            damaged,
            at,
            noted: Instant::now(),
        })
    }

    /// Works until the writer ends.
    pub fn run(mut self) {
        priority::lower(priority::LEAST, "cannot lower the priority of reading for damage");
        self.look_for_missing();
        while let Ok(()) = self.round() {}
        self.note();
    }

    /// Reads everything once, or what is left of it.
    fn round(&mut self) -> Result<(), Stop> {
        if self.at.done {
            self.wait(self.until_next())?;
            self.at.done = false;
            self.at.file.clear();
        }
        if self.at.file.is_empty() {
            self.at.began_ms = commit::now_ms();
            self.at.place = Place::default();
            self.look_for_missing();
        }
        self.places()?;
        self.messages()?;
        let logs = [USERS, ROOMS, CHALLENGES];
        let at = logs.iter().position(|name| *name == self.at.file).unwrap_or(0);
        for name in &logs[at..] {
            self.begin(name, 0);
            self.file(&self.data_dir.join(name), Scrubbed::growing)?;
        }
        self.at.done = true;
        self.note();
        Ok(())
    }

    /// Time until the next round begins. A clock set back by much begins one at once.
    fn until_next(&self) -> Duration {
        let since = u64::try_from(commit::now_ms() - self.at.began_ms).map(Duration::from_millis);
        since.map_or(Duration::ZERO, |since| self.interval.saturating_sub(since))
    }

    /// The index's runs, which nobody else reads whole. Those that are damaged are the indexer's to mend;
    /// should it have heard of too many, the next round finds the rest.
    fn places(&mut self) -> Result<(), Stop> {
        // Without an index there is nothing to read.
        let Ok(named) = Reader::open(&self.data_dir).and_then(|reader| reader.runs()) else {
            return Ok(());
        };
        for run in named {
            let (mut read, mut stopped) = (0, false);
            let file = RunFile::open(&runs::path(&self.data_dir, run.id), run);
            let checked = file.and_then(|file| {
                file.check(&mut |bytes| {
                    read += bytes;
                    if read >= PIECE_BYTES {
                        stopped = self.pause(std::mem::take(&mut read)).is_err();
                    }
                    !stopped
                })
            });
            if stopped {
                return Err(Stop);
            }
            if checked.is_err() {
                let _ = self.damaged.try_send(run);
            }
            self.pause(read)?;
        }
        Ok(())
    }

    /// All files of messages but the newest, from where it is.
    fn messages(&mut self) -> Result<(), Stop> {
        let at = Segment::number_of(&self.at.file);
        if at.is_none() && !self.at.file.is_empty() {
            return Ok(()); // It is beyond them.
        }
        let mut number = at.unwrap_or(0);
        loop {
            // Listed anew each time: files come, and may be taken away.
            let Ok(listed) = segment::list(&self.data_dir) else {
                return Ok(());
            };
            let sealed = &listed[..listed.len().saturating_sub(1)];
            let Some(next) = sealed.iter().find(|segment| segment.number >= number) else {
                return Ok(());
            };
            let follows = sealed.iter().any(|segment| segment.number + 1 == next.number);
            let expected = if follows { self.at.place.next } else { 0 };
            self.begin(&name(&next.path), expected);
            self.file(&next.path, Scrubbed::sealed)?;
            number = next.number + 1;
        }
    }

    /// Says which files of messages are not there, the oldest included, and no longer of those that are, or
    /// were deleted since.
    fn look_for_missing(&mut self) {
        // What is wrong with the note of deletions was said at the start.
        let Ok((deletions, _)) = deletions::read(&self.data_dir) else {
            return;
        };
        let first = deletions.first_file.max(1);
        let number_of = |path: &Path| Segment::number_of(&name(path));
        let of_no_use = |known: &Problem| match number_of(&known.path) {
            Some(number) => number < first || known.what == MISSING && known.path.exists(),
            None => false,
        };
        let (gone, kept) = std::mem::take(&mut self.at.damage).into_iter().partition(of_no_use);
        self.at.damage = kept;
        let gone: Vec<Problem> = gone;
        gone.iter().for_each(|problem| self.status.clear_damage(&problem.path));
        let Ok(listed) = segment::list(&self.data_dir) else {
            return;
        };
        let mut named = 0;
        let mut expected = first;
        for segment in listed.iter().filter(|segment| segment.number >= first) {
            for number in expected..segment.number {
                let path = Segment::at(&self.data_dir, number).path;
                // It may have been put back since.
                if named < MISSING_NAMED && !path.exists() {
                    named += 1;
                    self.found(Problem { path, line: 0, byte: 0, what: MISSING.to_owned() });
                }
            }
            expected = segment.number + 1;
        }
    }

    /// Goes to a file, unless it is at it already.
    fn begin(&mut self, name: &str, next: u64) {
        if self.at.file != name {
            self.at.file = name.to_owned();
            self.at.place = Place { next, ..Place::default() };
        }
    }

    /// Reads a file from where it is to its end.
    fn file(&mut self, path: &Path, open: impl Fn(&Path, Place) -> io::Result<Scrubbed>) -> Result<(), Stop> {
        let unreadable = |byte, error: io::Error| {
            let what = format!("can't be read: {error}");
            Problem { path: path.to_owned(), line: 0, byte, what }
        };
        let from_the_beginning = self.at.place.byte == 0;
        let mut scrubbed = match open(path, self.at.place) {
            Ok(scrubbed) => scrubbed,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => {
                self.found(unreadable(0, error));
                return Ok(());
            }
        };
        let mut first = None;
        loop {
            let (bytes, problem) = match scrubbed.read(PIECE_BYTES) {
                Ok(read) => read,
                Err(error) => (0, Some(unreadable(scrubbed.place().byte, error))),
            };
            self.at.place = scrubbed.place();
            if let Some(problem) = problem
                && first.is_none()
                && scrubbed.is_current()
            {
                self.found(problem.clone());
                first = Some(problem);
            }
            if bytes == 0 {
                break;
            }
            self.status.set_scrub(&self.at.file, self.at.place.byte);
            self.pause(bytes)?;
            if self.noted.elapsed() >= NOTE_INTERVAL {
                self.note();
            }
        }
        if first.is_none() && from_the_beginning {
            self.mended(path);
        }
        Ok(())
    }

    fn found(&mut self, problem: Problem) {
        self.status.note_damage(&problem);
        self.at.damage.retain(|known| known.path != problem.path);
        self.at.damage.push(problem);
        self.note();
    }

    fn mended(&mut self, path: &Path) {
        self.at.damage.retain(|known| known.path != path);
        self.status.clear_damage(path);
    }

    /// Waits as long as reading so many bytes may take.
    fn pause(&self, bytes: u64) -> Result<(), Stop> {
        self.wait(Duration::from_secs_f64(float(bytes) / float(self.bytes_per_second)))
    }

    fn wait(&self, time: Duration) -> Result<(), Stop> {
        match self.stop.recv_timeout(time) {
            Err(RecvTimeoutError::Timeout) => Ok(()),
            _ => Err(Stop),
        }
    }

    /// Remembers where it is. What can't be noted is read again.
    fn note(&mut self) {
        self.noted = Instant::now();
        if let Ok(bytes) = serde_json::to_vec(&self.at)
            && let Err(error) = fs::write(file(&self.data_dir), bytes)
        {
            tracing::debug!(%error, "cannot note how far the reading for damage is");
        }
    }
}

fn file(data_dir: &Path) -> PathBuf {
    data_dir.join("index").join("scrub.json")
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// For a quotient, whose last digits do not matter.
fn float(bytes: u64) -> f64 {
    f64::from(u32::try_from(bytes).unwrap_or(u32::MAX))
}
