//! Whether reports are of one run, made by several machines: what is added up must belong together.

use crate::page::parts::date;

/// How far machines may be apart in time and still have made one run: they sign their users up at their own
/// pace, and their clocks differ.
const APART_MS: u64 = 60_000;

/// What a report says of itself, and the file it came from.
#[derive(Clone, Debug)]
pub struct Share {
    /// Of the file.
    pub name: String,
    /// Kind of load.
    pub scenario: String,
    /// Which machine, of how many.
    pub shard: Option<(u32, u32)>,
    /// When it began, in ms since 1970.
    pub started_unix_ms: u64,
    /// Seconds that it has rows of.
    pub lasted_s: u64,
}

impl Share {
    fn overlaps(&self, other: &Share) -> bool {
        let end = |one: &Share| one.started_unix_ms.saturating_add(one.lasted_s * 1000 + APART_MS);
        self.started_unix_ms <= end(other) && other.started_unix_ms <= end(self)
    }
}

/// What is missing of a run, if anything is; or why the shares are not of one run.
pub fn of_one_run(shares: &[Share]) -> Result<Option<String>, String> {
    let Some((first, others)) = shares.split_first() else {
        return Err("there is no report to merge".to_owned());
    };
    for (place, share) in others.iter().enumerate() {
        let (one, two) = (&first.name, &share.name);
        match (first.shard, share.shard) {
            (Some((_, of)), Some((_, other))) if of != other => {
                return Err(format!(
                    "{one} is of {of} machines, {two} of {other}: they are of different runs"
                ));
            }
            (Some((which, of)), None) | (None, Some((which, of))) => {
                let (part, whole) = if first.shard.is_some() { (one, two) } else { (two, one) };
                return Err(format!(
                    "{part} is of machine {which} of {of}, {whole} of a run without --shard: they are of \
                     different runs"
                ));
            }
            (Some(_), Some(_)) if first.scenario != share.scenario => {
                let (one_is, two_is) = (&first.scenario, &share.scenario);
                return Err(format!("{one} is of {one_is}, {two} of {two_is}: they are of different runs"));
            }
            _ => {}
        }
        let same = |known: &&Share| match share.shard {
            Some(shard) => known.shard == Some(shard),
            None => known.name == share.name || known.started_unix_ms == share.started_unix_ms,
        };
        if let Some(known) = shares[..=place].iter().find(same) {
            let what = share
                .shard
                .map_or("the same run".to_owned(), |(which, of)| format!("machine {which} of {of}"));
            return Err(format!("{} and {two} are both of {what}: it would count twice", known.name));
        }
        if !first.overlaps(share) {
            let [began, other] = [first, share].map(|one| date(one.started_unix_ms));
            return Err(format!(
                "{one} began at {began}, {two} at {other} UTC, and they were never under way together: they are \
                 of different runs, or the machines' clocks are wrong"
            ));
        }
    }
    let Some((_, of)) = first.shard else { return Ok(None) };
    let missing: Vec<String> = (1..=of)
        .filter(|which| shares.iter().all(|share| share.shard != Some((*which, of))))
        .map(|which| which.to_string())
        .collect();
    let text = || format!("of {of} machines these are missing: {}", missing.join(", "));
    Ok((!missing.is_empty()).then(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(name: &str, shard: Option<(u32, u32)>, began_s: u64) -> Share {
        let (name, scenario) = (name.to_owned(), "quick".to_owned());
        Share { name, scenario, shard, started_unix_ms: 1_000_000 + began_s * 1000, lasted_s: 30 }
    }

    #[test]
    fn shares_of_one_run_are_taken_and_what_is_missing_is_told() {
        let all = [share("a", Some((2, 3)), 5), share("b", Some((1, 3)), 0), share("c", Some((3, 3)), 80)];
        assert_eq!(of_one_run(&all), Ok(None));
        let told = of_one_run(&all[..1]).unwrap().unwrap();
        assert_eq!(told, "of 3 machines these are missing: 1, 3");
        assert_eq!(of_one_run(&[share("a", None, 0), share("b", None, 1)]), Ok(None));
        assert!(of_one_run(&[]).is_err());
    }

    #[test]
    fn what_is_not_of_one_run_is_refused_by_name() {
        let (one, two) = (share("a.json", Some((1, 2)), 0), share("b.json", Some((2, 2)), 0));
        let other = Share { scenario: "soak".to_owned(), ..two.clone() };
        for (shares, told) in [
            (vec![one.clone(), share("b.json", Some((2, 3)), 0)], "a.json is of 2 machines, b.json of 3"),
            (
                vec![one.clone(), two.clone(), share("c.json", Some((2, 2)), 0)],
                "b.json and c.json are both of machine 2",
            ),
            (
                vec![one.clone(), share("b.json", None, 0)],
                "a.json is of machine 1 of 2, b.json of a run without",
            ),
            (
                vec![share("b.json", None, 0), one.clone()],
                "a.json is of machine 1 of 2, b.json of a run without",
            ),
            (vec![one.clone(), other], "a.json is of quick, b.json of soak"),
            (vec![one, share("b.json", Some((2, 2)), 91)], "never under way together"),
            (vec![share("a.json", None, 0), share("a.json", None, 0)], "both of the same run"),
            (vec![share("a.json", None, 0), share("copy.json", None, 0)], "both of the same run"),
        ] {
            let why = of_one_run(&shares).unwrap_err();
            assert!(why.contains(told), "{why}");
        }
    }
}
