//! Whether everybody is in the ranking once, when nobody moves any more.
//!
//! Pages of it are read one after another, and it may shift between two of them while late positions come in.
//! So whoever was seen once in any reading is cleared, and what is left is read again for a while: a member
//! that is really missing is missing each time, one that is there twice is so each time.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use super::calls::{self, Place};
use super::faults::Kind;
use crate::http::Client;

/// Longest wait for the ranking to be right.
const PATIENCE: Duration = Duration::from_secs(30);

/// From one reading to the next.
const PAUSE: Duration = Duration::from_millis(250);

/// What is said of somebody who is in and not ranked as such.
const AWAY: &str = "DISCONNECTED";

/// A member that has to be ranked.
#[derive(Clone, Copy, Debug)]
pub struct Runner {
    /// The user's number.
    pub user: u64,
    /// Its connection is there.
    pub is_in: bool,
}

/// A user, and what is wrong with its place.
pub type Wrong = (u64, Kind, &'static str);

/// What is wrong with a challenge's ranking; `None` where the server has no rankings.
pub fn judge(
    client: &mut Client,
    token: &str,
    challenge: u64,
    runners: &[Runner],
) -> Result<Option<Vec<Wrong>>, String> {
    let since = Instant::now();
    let mut suspects: BTreeMap<u64, bool> = runners.iter().map(|one| (one.user, one.is_in)).collect();
    loop {
        let over = since.elapsed() > PATIENCE;
        match calls::ranking(client, token, challenge) {
            Ok(None) => return Ok(None),
            Ok(Some(places)) => {
                let found = wrong(&places, &suspects);
                if found.is_empty() || over {
                    return Ok(Some(found));
                }
                suspects = found.into_iter().map(|(user, ..)| (user, suspects[&user])).collect();
            }
            Err(why) if over => return Err(why),
            Err(_) => {} // the server may be starting again
        }
        thread::sleep(PAUSE);
    }
}

/// Those of the suspects that are not there once.
fn wrong(places: &[Place], suspects: &BTreeMap<u64, bool>) -> Vec<Wrong> {
    let mut seen: BTreeMap<u64, (u32, bool)> = suspects.keys().map(|user| (*user, (0, false))).collect();
    for place in places {
        if let Some((times, away)) = seen.get_mut(&place.user) {
            *times += 1;
            *away |= place.status == AWAY;
        }
    }
    let verdict = |(user, (times, away)): (u64, (u32, bool))| match times {
        0 => Some((user, Kind::Lost, "not in the ranking")),
        1 if away && suspects[&user] => Some((user, Kind::Lost, "DISCONNECTED in the ranking, though in")),
        1 => None,
        _ => Some((user, Kind::Duplicated, "in the ranking a second time")),
    };
    seen.into_iter().filter_map(verdict).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_missing_twice_there_or_away_is_found() {
        let place = |user, status: &str| Place { user, status: status.to_owned() };
        let suspects = BTreeMap::from([(1, true), (2, true), (3, true), (4, false), (5, true)]);
        let places = [
            place(1, "RUNNING"),
            place(3, "RUNNING"),
            place(4, "DISCONNECTED"),
            place(5, "DISCONNECTED"),
            place(9, "RUNNING"),
            place(9, "RUNNING"),
            place(3, "RUNNING"),
        ];
        let found: Vec<(u64, Kind)> =
            wrong(&places, &suspects).into_iter().map(|(user, kind, _)| (user, kind)).collect();
        assert_eq!(found, [(2, Kind::Lost), (3, Kind::Duplicated), (5, Kind::Lost)]);
    }
}
