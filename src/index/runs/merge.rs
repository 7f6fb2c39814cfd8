//! Makes one run of several, and says which.

use std::io;
use std::path::Path;

use super::file::{Entries, RunFile};
use super::writer::Writer;
use super::{PARTIAL, Part, Run};

/// Runs of one size that become one of the next.
pub const FAN_IN: usize = 8;

/// Entries between two looks at whether to stop.
const LOOK_EVERY: u64 = 4_096;

/// The runs to be merged next: of one level, without a file of messages between them.
pub fn due(runs: &[Run]) -> Option<&[Run]> {
    let joins =
        |pair: &[Run]| pair[0].level == pair[1].level && pair[0].last_segment + 1 == pair[1].first_segment;
    let whole = runs.windows(FAN_IN).filter(|window| window[0].level != PARTIAL);
    whole.filter(|window| window.windows(2).all(joins)).min_by_key(|window| window[0].level)
}

/// Writes one run with all entries of several, which follow each other; `None`: told to stop.
///
/// # Errors
/// The disk refuses; `InvalidData`: one of them is damaged.
pub fn merge(
    path: &Path,
    id: u64,
    inputs: &[RunFile],
    stop: &mut dyn FnMut() -> bool,
) -> io::Result<Option<Run>> {
    let (Some(first), Some(last)) = (inputs.first(), inputs.last()) else {
        return Ok(None);
    };
    let (first, last) = (first.run, last.run);
    let mut writer = Writer::create(path, first.first_segment, first.first_seq)?;
    let mut entries: Vec<Entries<'_>> = inputs.iter().map(Entries::of).collect();
    let mut heads: Vec<Option<Part>> =
        entries.iter_mut().map(Entries::next_part).collect::<io::Result<_>>()?;
    let mut written = 0;
    loop {
        // Of one room the older run comes first. A handful of runs needs no heap.
        let least = heads.iter().enumerate().filter_map(|(at, head)| Some((head.as_ref()?.room, at))).min();
        let Some((_, at)) = least else {
            break;
        };
        if let Some(part) = heads[at].take() {
            writer.push(&part)?;
        }
        heads[at] = entries[at].next_part()?;
        written += 1;
        if written % LOOK_EVERY == 0 && stop() {
            return Ok(None);
        }
    }
    let (bytes, messages, sum) = writer.finish()?;
    let level = first.level + 1;
    let (last_segment, last_seq) = (last.last_segment, last.last_seq);
    Ok(Some(Run { id, level, last_segment, last_seq, bytes, messages, sum, ..first }))
}
