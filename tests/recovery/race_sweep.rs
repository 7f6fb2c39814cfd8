//! `challenges.jsonl` cut at every byte, changed in every bit, and on a disk that forgets or refuses: how
//! everybody stands and what came of it is neither lost nor invented, and nobody stands as nobody may.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use minitalk::challenge::{Amount, ChallengeId, Distance, EntryId, Participation, Reason};
use minitalk::chat::{OpId, UserId};
use minitalk::index::challenges::ChallengeReader;
use minitalk::journal::record::{self, ChallengeChange, ChallengeRecord};
use minitalk::link::arena::{Ask, Asked, News, Record};
use minitalk::link::frame::ToWriter;

use crate::bad_disk::{BadDisk, Fault};
use crate::host::{Heard, Host, Worker, now_ms};

const LOG: &str = "challenges.jsonl";

/// How everybody stands, and their places; who has never joined is not in it.
type Standings = BTreeMap<(ChallengeId, UserId), (Participation, Option<u32>)>;

/// What a log says, and all that may not be in one.
#[derive(Default)]
struct Replayed {
    standings: Standings,
    faults: Vec<String>,
}

/// Reads the whole lines of a log by its own rules, which are not the server's.
fn replay(log: &[u8]) -> Replayed {
    use Participation::{Disconnected, Error, Left, NotStarted, Running, Timeout, Waiting};
    let mut seen = Replayed::default();
    let (mut last_rev, mut last_entry) = (0, 0);
    for line in log.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n")) {
        let read: ChallengeRecord = record::decode(&line[..line.len() - 1]).unwrap();
        let before = read.user().and_then(|user| seen.standings.get(&(read.challenge_id, user)).copied());
        let from = before.map(|(status, _)| status);
        let mut rank = None;
        let (allowed, to) = match &read.change {
            ChallengeChange::Created { .. } | ChallengeChange::Ended => (true, None),
            ChallengeChange::Joined { .. } => (matches!(from, None | Some(Left)), Some(Waiting)),
            ChallengeChange::Cancelled { .. } => (from == Some(Waiting), Some(Left)),
            ChallengeChange::Entered { entry, .. } => {
                let is_new = *entry > last_entry;
                last_entry = *entry;
                let may = matches!(from, Some(Waiting | Running | Timeout | Disconnected | Error));
                (may && is_new, Some(Running))
            }
            ChallengeChange::Status { status, rank: place, .. } => {
                rank = *place;
                let stays = matches!(from, Some(Timeout | Disconnected | Error)) && from == Some(*status);
                let leaves =
                    from == Some(Running) && !matches!(status, Waiting | Running | Left | NotStarted);
                let never_came = (from, *status) == (Some(Waiting), NotStarted);
                (stays || leaves || never_came, Some(*status))
            }
        };
        if !allowed || read.rev != last_rev + 1 {
            seen.faults.push(format!("illegal after {from:?}: {read:?}"));
        }
        last_rev = read.rev;
        if let (Some(user), Some(to)) = (read.user(), to) {
            seen.standings.insert((read.challenge_id, user), (to, rank));
        }
    }
    seen
}

/// Says what is wrong with places: two the same, or one missing.
fn wrong_places(standings: &Standings) -> Vec<String> {
    let mut of: BTreeMap<ChallengeId, Vec<u32>> = BTreeMap::new();
    for ((challenge, _), (_, rank)) in standings {
        of.entry(*challenge).or_default().extend(rank);
    }
    let mut faults = Vec::new();
    for (challenge, mut ranks) in of {
        ranks.sort_unstable();
        if ranks.iter().zip(1..).any(|(rank, place)| *rank != place) {
            faults.push(format!("places in {challenge}: {ranks:?}"));
        }
    }
    faults
}

/// What the index says of those who may be there.
fn indexed(host: &Host) -> Standings {
    let index = ChallengeReader::open(host.data_dir()).unwrap();
    let all = (1..=2).flat_map(|challenge| (1..=6).map(move |user| (challenge, user)));
    all.filter_map(|(challenge, user)| {
        let known = index.participant(challenge, user).unwrap()?;
        Some(((challenge, user), (known.status, known.rank)))
    })
    .collect()
}

/// A crash leaves nobody in.
fn after_a_crash(mut standings: Standings) -> Standings {
    for (status, _) in standings.values_mut().filter(|(status, _)| *status == Participation::Running) {
        *status = Participation::Disconnected;
    }
    standings
}

/// Starts, waits until nobody is in, and says all that is not as expected. `good`: the part of the log that
/// can be read.
fn start_and_judge(host: &mut Host, good: &[u8], expected: &Standings) -> Vec<String> {
    let there = replay(good).standings;
    let was_in = there.values().filter(|(status, _)| *status == Participation::Running).count();
    host.start().unwrap();
    host.wait_until(|report| report["challenges"]["disconnected_total"] == was_in);
    judge(host, expected)
}

fn judge(host: &Host, expected: &Standings) -> Vec<String> {
    let Replayed { standings, mut faults } = replay(&host.read(LOG));
    faults.extend(wrong_places(&standings));
    let index = indexed(host);
    for (name, found) in [("log", &standings), ("index", &index)] {
        for (who, stands) in expected {
            if found.get(who) != Some(stands) {
                faults.push(format!("lost: {who:?} {stands:?}, the {name} has {:?}", found.get(who)));
            }
        }
        let invented = found.iter().filter(|(who, _)| !expected.contains_key(who));
        faults.extend(invented.map(|(who, stands)| format!("invented: {who:?} {stands:?}, in the {name}")));
    }
    faults
}

/// A race of six, told step by step; `standings` is what everybody was told of it.
struct Life<'a> {
    worker: &'a mut Worker,
    challenge: ChallengeId,
    ticket: u128,
    standings: Standings,
}

impl Life<'_> {
    fn stands(&mut self, user: UserId, status: Participation, rank: Option<u32>) {
        self.standings.insert((self.challenge, user), (status, rank));
    }

    fn joins(&mut self, user: UserId) {
        if self.worker.asks(Ask::Join { challenge: self.challenge, user }).is_ok() {
            self.stands(user, Participation::Waiting, None);
        }
    }

    fn cancels(&mut self, user: UserId) {
        if self.worker.asks(Ask::Cancel { challenge: self.challenge, user }).is_ok() {
            self.stands(user, Participation::Left, None);
        }
    }

    /// `None`: it was refused.
    fn enters(&mut self, user: UserId) -> Option<EntryId> {
        self.ticket += 1;
        let (challenge, ticket) = (self.challenge, self.ticket);
        self.worker.asks(Ask::Enter { challenge, user, generation: 0, ticket }).ok()?;
        let Ok(Asked::Entered { entry, .. }) = self.worker.asks(Ask::Redeem { ticket }) else {
            return None;
        };
        self.stands(user, Participation::Running, None);
        Some(entry)
    }

    fn leaves(&mut self, user: UserId, entry: Option<EntryId>, reason: Reason) {
        let Some(entry) = entry else { return };
        let leave = Ask::Leave { challenge: self.challenge, user, entry, reason };
        assert_eq!(self.worker.asks(leave), Ok(Asked::Left), "nobody is kept in");
        self.stands(user, reason.state(), None);
    }

    fn runs(&mut self, user: UserId, entry: Option<EntryId>, kilometres: f64) {
        let Some(entry) = entry else { return };
        let (distance, pace) = (Amount::try_from(kilometres).unwrap(), Amount::ZERO);
        let challenge = self.challenge;
        let record = Record { challenge, user, entry, distance, pace, timestamp_ms: now_ms() };
        self.worker.send(&ToWriter::Record(record));
        if distance < Distance::M100.km() {
            return;
        }
        let rank = loop {
            let left = self.worker.hear().into_iter().find_map(|heard| match heard {
                Heard::Arena(News::Left { user: who, rank, .. }) if who == user => Some(rank),
                _ => None,
            });
            if let Some(rank) = left {
                break rank;
            }
        };
        self.stands(user, Participation::Completed, rank);
    }
}

/// Lives; when there is a challenge, and after each step, `look` is shown how everybody stands.
fn live(worker: &mut Worker, look: &mut dyn FnMut(&Standings)) -> Standings {
    worker.hears_challenges = true;
    let challenge = worker.new_challenge(1, Distance::M100, 9);
    let mut life = Life { worker, challenge, ticket: 0, standings: Standings::new() };
    look(&life.standings);
    for user in 1..=6 {
        life.joins(user);
        look(&life.standings);
    }
    let [one, two, three] = [1, 2, 3].map(|user| life.enters(user));
    look(&life.standings);
    life.runs(1, one, 0.05);
    life.leaves(1, one, Reason::Timeout);
    look(&life.standings);
    life.runs(2, two, 0.2);
    look(&life.standings);
    life.leaves(3, three, Reason::Quit);
    life.cancels(5);
    look(&life.standings);
    let again = life.enters(1);
    look(&life.standings);
    life.runs(1, again, 0.1);
    life.joins(5);
    look(&life.standings);
    let _stays = life.enters(4);
    look(&life.standings);
    life.standings
}

fn peopled(mut host: Host) -> (Host, Worker) {
    host.start().unwrap();
    let mut worker = host.worker(1);
    assert_eq!(worker.create_users(&["a", "b", "c", "d", "e", "f"]).len(), 6);
    (host, worker)
}

/// A stopped host with such a race behind it, which the end of the process left as it was.
fn raced() -> (Host, Vec<u8>) {
    let (mut host, mut worker) = peopled(Host::new());
    live(&mut worker, &mut |_| {});
    let log = host.read(LOG);
    drop(worker);
    host.stop();
    host.write(LOG, &log);
    (host, log)
}

/// A stopped host with a race whose end was carried out.
fn ended() -> (Host, Vec<u8>) {
    let (mut host, worker) = peopled(Host::new());
    drop(worker);
    host.stop();
    let end_at = now_ms() - 1_000;
    let (distance, start_at) = (Distance::M100, end_at - Distance::M100.time_ms());
    let (title, description) = ("t".to_owned(), "d".to_owned());
    let mut changes = vec![ChallengeChange::Created {
        title,
        description,
        max_participants: 9,
        start_at,
        end_at,
        distance,
        password: None,
        broadcast: false,
        created_by: 1,
    }];
    changes.extend((1..=5).map(|user_id| ChallengeChange::Joined { user_id }));
    changes.extend([1, 2, 4].map(|user_id| ChallengeChange::Entered { user_id, entry: user_id }));
    let status = |user_id, status, rank, kilometres: f64| {
        let distance = Amount::try_from(kilometres).unwrap();
        ChallengeChange::Status { user_id, status, rank, distance, pace: Amount::ZERO, average_pace: None }
    };
    changes.push(status(4, Participation::Timeout, None, 0.07));
    changes.push(status(2, Participation::Completed, Some(1), 0.1));
    let (mut lines, op) = (Vec::new(), Some(OpId { instance: 9, count: 0 }));
    for (rev, change) in (1..).zip(changes) {
        let at = end_at - 100_000;
        let record = ChallengeRecord { rev, change, challenge_id: 1, op, at, synced: rev - 1 };
        record::encode(&record, &mut lines);
    }
    host.write(LOG, &lines);
    host.start().unwrap();
    host.wait_until(|report| report["challenges"]["live"] == 0 && report["queue"] == 0);
    host.wait_until(|_| host.read(LOG).split(|byte| *byte == b'\n').any(is_end));
    host.stop();
    let log = host.read(LOG);
    (host, log)
}

fn is_end(line: &[u8]) -> bool {
    memchr::memmem::find(line, br#""event":"ended""#).is_some()
}

/// Where the last `count` lines of a log begin, and where it ends.
fn starts(log: &[u8], count: usize) -> Vec<usize> {
    let mut starts = vec![0];
    starts.extend(log.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1));
    starts[starts.len() - 1 - count..].to_vec()
}

/// Every fourth byte, and all of them around the ends of lines: what a cut leaves differs only there.
fn cuts(starts: &[usize]) -> impl Iterator<Item = usize> {
    let near = |cut: usize| starts.iter().any(|start| cut.abs_diff(*start) <= 3);
    (starts[0]..*starts.last().unwrap()).filter(move |cut| cut % 4 == 0 || near(*cut))
}

#[test]
fn a_race_may_be_cut_anywhere() {
    let (mut host, log) = raced();
    let last = log.iter().filter(|byte| **byte == b'\n').count();
    for cut in cuts(&starts(&log, last - 1)) {
        let whole = log[..cut].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let expected = after_a_crash(replay(&log[..whole]).standings);
        host.write(LOG, &log[..cut]);
        assert_eq!(start_and_judge(&mut host, &log[..whole], &expected), [""; 0], "cut at {cut}");
        host.stop();
        host.assert_clean();
        // The index of a longer log must not be used with a shorter one; it is built anew, or this one is.
        if cut % 2 == 0 {
            fs::remove_dir_all(host.path("index")).unwrap();
        }
    }
}

#[test]
fn an_end_that_is_cut_off_comes_to_the_same() {
    let (mut host, log) = ended();
    let Replayed { standings, faults } = replay(&log);
    assert_eq!(faults, [""; 0]);
    let stands = |user| standings[&(1, user)];
    assert_eq!(stands(2), (Participation::Completed, Some(1)));
    assert_eq!(stands(4), (Participation::Timeout, Some(2)));
    assert_eq!(stands(1), (Participation::Expired, Some(3)));
    let never = (Participation::NotStarted, None);
    assert_eq!([stands(3), stands(5)], [never; 2]);
    // From the first line on that the server has written.
    let lines = log.iter().filter(|byte| **byte == b'\n').count();
    for cut in cuts(&starts(&log, lines - 11)) {
        host.write(LOG, &log[..cut]);
        host.start().unwrap();
        host.wait_until(|report| report["challenges"]["live"] == 0 && report["queue"] == 0);
        host.wait_until(|_| host.read(LOG).split(|byte| *byte == b'\n').any(is_end));
        host.stop();
        assert_eq!(judge(&host, &standings), [""; 0], "cut at {cut}");
        host.assert_clean();
        assert_eq!(host.read(LOG).split(|byte| *byte == b'\n').filter(|line| is_end(line)).count(), 1);
    }
}

/// A changed bit in a record that a later one shows to have been durable is never passed over; one in the
/// very last is a record that was not written to its end, as far as anybody can tell.
#[test]
fn any_bit_of_the_last_records() {
    let (mut host, log) = raced();
    let starts = starts(&log, 3);
    let expected = after_a_crash(replay(&log[..starts[2]]).standings);
    let line = log[..starts[0]].iter().filter(|byte| **byte == b'\n').count();
    for byte in starts[0]..log.len() {
        let at = starts.iter().rposition(|start| *start <= byte).unwrap();
        for bit in 0..8 {
            let mut changed = log.clone();
            changed[byte] ^= 1 << bit;
            host.write(LOG, &changed);
            let place = format!("{}:{}: byte {}: ", host.path(LOG).display(), line + at + 1, starts[at]);
            let (clean, said) = host.verify();
            assert!(!clean && said.starts_with(&place), "byte {byte} bit {bit}: {said}");
            if bit != byte % 8 {
                continue;
            }
            if at < 2 {
                assert!(host.start().is_err(), "byte {byte}: started on a damaged log");
                assert_eq!(host.read(LOG), changed, "a damaged file is left as it is");
                continue;
            }
            assert_eq!(start_and_judge(&mut host, &log[..starts[2]], &expected), [""; 0], "byte {byte}");
            host.stop();
            host.assert_clean();
        }
    }
}

fn judge_dir(files: &Path, expected: &Standings) -> Vec<String> {
    let mut host = Host::of_copy(files);
    if !host.path(LOG).exists() {
        return vec!["lost: the log".to_owned()];
    }
    let log = host.read(LOG);
    start_and_judge(&mut host, &log, &after_a_crash(expected.clone()))
}

/// Power is lost after each step; `fault` is what the disk has.
fn lives_without_power(fault: Option<Fault>) -> Vec<String> {
    let disk = BadDisk::default();
    let (host, mut worker) = peopled(Host::new().with_disk(Arc::new(disk.clone())));
    let mut faults = Vec::new();
    live(&mut worker, &mut |told| {
        if let Some(fault) = fault.filter(|_| told.is_empty()) {
            disk.plan(fault, "challenges", 0, usize::MAX);
        }
        let left = tempfile::tempdir().unwrap();
        disk.lose_power(host.data_dir(), left.path());
        faults.extend(judge_dir(left.path(), told));
    });
    faults
}

#[test]
fn what_was_told_survives_a_loss_of_power_after_each_step() {
    assert_eq!(lives_without_power(None), [""; 0]);
}

/// The checker finds what it looks for.
#[test]
fn without_the_sync_the_loss_would_be_noticed() {
    let faults = lives_without_power(Some(Fault::Lie));
    assert!(faults.iter().any(|fault| fault.starts_with("lost")), "{faults:?}");
    let mut wrong = Standings::new();
    wrong.insert((1, 1), (Participation::Completed, Some(2)));
    assert!(!wrong_places(&wrong).is_empty());
    let (_, log) = raced();
    let lines: Vec<&[u8]> = log.split_inclusive(|byte| *byte == b'\n').collect();
    let swapped = [lines[0], lines[2], lines[1]].concat();
    assert!(!replay(&swapped).faults.is_empty());
}

/// Every write, sync and cut fails once, or a few times; nothing that was refused is there.
#[test]
fn a_disk_that_refuses_leaves_what_was_told() {
    let other = ErrorKind::Other;
    let ways: [&[Fault]; 4] = [
        &[Fault::Write(ErrorKind::StorageFull)],
        &[Fault::Sync(other)],
        &[Fault::Sync(other), Fault::Cut(other)],
        &[Fault::Part(60, other), Fault::Cut(other)],
    ];
    for faults in ways {
        for (after, times) in (0..=20).step_by(4).map(|after| (after, 1)).chain([(5, 3)]) {
            let disk = BadDisk::default();
            let (host, mut worker) = peopled(Host::new().with_disk(Arc::new(disk.clone())));
            let told = live(&mut worker, &mut |told| {
                for fault in faults.iter().filter(|_| told.is_empty()) {
                    // What fails first is cut for the first time.
                    let after = if matches!(fault, Fault::Cut(_)) { 0 } else { after };
                    disk.plan(*fault, "challenges", after, times);
                }
            });
            let what = format!("{faults:?}, {times} after {after}");
            assert_eq!(judge(&host, &told), [""; 0], "{what}");
            let [crash, power] = [(); 2].map(|()| tempfile::tempdir().unwrap());
            BadDisk::crash(host.data_dir(), crash.path());
            assert_eq!(judge_dir(crash.path(), &told), [""; 0], "{what}, process ended");
            disk.lose_power(host.data_dir(), power.path());
            assert_eq!(judge_dir(power.path(), &told), [""; 0], "{what}, power lost");
        }
    }
}
