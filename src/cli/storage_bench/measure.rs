//! What is measured on the files themselves, in this process, by the code that a worker calls.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::report::{Report, Times, float};
use super::world::{self, World};
use crate::config::HISTORY_DEFAULT;
use crate::index::Reader;
use crate::index::history::History;
use crate::journal::read::Window;
use crate::journal::search::{self, Needle};
use crate::journal::segment;

/// Look-ups of each kind.
const LOOK_UPS: u64 = 100_000;

/// Reads of history.
const READS: u64 = 2_000;

/// Looks up random users by name and by number, as a login and every call with a token do.
///
/// # Errors
/// The index can't be read, or does not know a user; so for all below.
pub fn look_ups(world: &World, data_dir: &Path, report: &mut Report) -> io::Result<()> {
    let reader = Reader::open(data_dir).map_err(io::Error::other)?;
    let user = |at: u64| 1 + world::mix(at) % world.users;
    // The first few open files and read the root of each tree.
    for at in 0..LOOK_UPS / 100 {
        reader.user_by_number(user(at)).map_err(io::Error::other)?;
    }
    for (what, by_name) in [("user by name", true), ("user by number", false)] {
        first_and_again(what, LOOK_UPS, report, |at| {
            let number = user(at ^ (LOOK_UPS << 1));
            let name = world::name(number);
            let begun = Instant::now();
            let found = if by_name { reader.user_by_name(&name) } else { reader.user_by_number(number) };
            let took = begun.elapsed();
            let found = found.map_err(io::Error::other)?;
            if found.is_none_or(|user| user.number != number || user.username != name) {
                return Err(io::Error::other(format!("{what}: {name} was not found")));
            }
            Ok(took)
        })?;
    }
    Ok(())
}

/// Asks `count` questions and then the same once more: what the first round costs is also a matter of the
/// disk, what the second costs is a matter of this program, as far as memory holds the pages of the files.
fn first_and_again(
    what: &str,
    count: u64,
    report: &mut Report,
    ask: impl Fn(u64) -> io::Result<Duration>,
) -> io::Result<()> {
    for round in ["first", "again"] {
        let mut times = times()?;
        for at in 0..count {
            times.add(ask(at)?);
        }
        report.add_times(&format!("{what}, {round}"), &times);
    }
    Ok(())
}

/// Reads history at random depths, of the large room and of random ones.
pub fn histories(world: &World, data_dir: &Path, report: &mut Report) -> io::Result<()> {
    if world.messages == 0 {
        return Ok(());
    }
    let history = History::open(data_dir).map_err(io::Error::other)?;
    for (what, large) in [("100 messages of the large room", true), ("100 messages of a room", false)] {
        first_and_again(what, READS, report, |at| {
            let room = if large { 1 } else { 1 + world::mix(at) % world.rooms };
            let before = 1 + world::mix(at ^ (READS << 1)) % world.messages;
            let window = Window { before: Some(before), ..Window::default() };
            let begun = Instant::now();
            let found = history.read(&world::room_id(room), window, HISTORY_DEFAULT);
            let took = begun.elapsed();
            found.map_err(io::Error::other)?;
            Ok(took)
        })?;
    }
    Ok(())
}

/// Searches all messages with the server's engine and with `rg --count`, if there is one, one after the
/// other on the same files; the best of three counts, so that they come from the page cache.
pub fn searches(world: &World, data_dir: &Path, report: &mut Report) -> io::Result<()> {
    let files: Vec<PathBuf> =
        segment::list(data_dir).map_err(io::Error::other)?.into_iter().map(|segment| segment.path).collect();
    let mut bytes = 0;
    for file in &files {
        bytes += std::fs::metadata(file)?.len();
    }
    if bytes == 0 {
        return Ok(());
    }
    for (what, search) in searchers(data_dir, &files) {
        let mut best = f64::MAX;
        for _ in 0..3 {
            let begun = Instant::now();
            let Some(found) = search()? else {
                break;
            };
            best = best.min(begun.elapsed().as_secs_f64());
            if found != world.needles() {
                return Err(io::Error::other(format!("{what}: found {found} of {}", world.needles())));
            }
        }
        if best < f64::MAX {
            report.add(format!("search of all messages, {what}"), float(bytes) / best / 1e9, "GB/s");
        }
    }
    Ok(())
}

/// Counts the messages that hold the needle; `None`: there is no such program.
type Search<'a> = Box<dyn Fn() -> io::Result<Option<u64>> + 'a>;

fn searchers<'a>(data_dir: &'a Path, files: &'a [PathBuf]) -> Vec<(&'static str, Search<'a>)> {
    vec![("all cores", Box::new(|| engine(data_dir))), ("rg --count", Box::new(|| ripgrep(files)))]
}

fn engine(data_dir: &Path) -> io::Result<Option<u64>> {
    let needle = Needle::new(world::NEEDLE).ok_or_else(|| io::Error::other("the text is no needle"))?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    search::count(data_dir, &needle, threads).map(Some).map_err(io::Error::other)
}

fn ripgrep(files: &[PathBuf]) -> io::Result<Option<u64>> {
    let spawned = Command::new("rg")
        .args(["--count", "--no-filename", "--fixed-strings", "--ignore-case", world::NEEDLE])
        .args(files)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output();
    let output = match spawned {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let counts =
        String::from_utf8_lossy(&output.stdout).lines().map(str::parse).collect::<Result<Vec<u64>, _>>();
    Ok(Some(counts.map_err(io::Error::other)?.into_iter().sum()))
}

/// No times yet.
pub fn times() -> io::Result<Times> {
    Times::new().ok_or_else(|| io::Error::other("no histogram"))
}
