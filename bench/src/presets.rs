//! The presets, their scenario files, and what flags change of them.

use std::fs;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use crate::args::Preset;
use crate::scenario::{Kill, ScenarioFile, Storm};

/// In the order of the menu.
const FILES: [(&str, &str); 8] = [
    ("quick", include_str!("../scenarios/quick.toml")),
    ("medium", include_str!("../scenarios/medium.toml")),
    ("strong", include_str!("../scenarios/strong.toml")),
    ("extreme", include_str!("../scenarios/extreme.toml")),
    ("mega", include_str!("../scenarios/mega.toml")),
    ("ultra", include_str!("../scenarios/ultra.toml")),
    ("custom", include_str!("../scenarios/custom.toml")),
    ("soak", include_str!("../scenarios/soak.toml")),
];

/// From one kill to the next where nothing is said.
pub const KILL_EVERY: Duration = Duration::from_secs(10);

/// The names of the presets, in the order of the menu.
pub fn names() -> impl Iterator<Item = &'static str> {
    FILES.iter().map(|(name, _)| *name)
}

/// The scenario file of a preset.
pub fn named(name: &str) -> Result<ScenarioFile, String> {
    let (_, text) =
        FILES.iter().find(|(known, _)| *known == name).ok_or(format!("there is no preset {name}"))?;
    ScenarioFile::parse(text)
}

/// A scenario file of the user's own.
pub fn read(path: &Path) -> Result<ScenarioFile, String> {
    let named = |why: String| format!("{}: {why}", path.display());
    let text = fs::read_to_string(path).map_err(|why| named(why.to_string()))?;
    ScenarioFile::parse(&text).map_err(named)
}

/// What the flags say instead of the file.
pub fn change(file: &mut ScenarioFile, flags: &Preset) -> Result<(), String> {
    file.users = flags.users.unwrap_or(file.users);
    file.rooms = flags.rooms.unwrap_or(file.rooms.min(file.users));
    file.rate = flags.rate.unwrap_or(file.rate);
    file.connect_rate = flags.connect_rate.unwrap_or(file.connect_rate);
    file.size = flags.size.or(file.size);
    file.clients.polling = flags.polling.unwrap_or(file.clients.polling);
    file.clients.slow_readers = flags.slow_readers.unwrap_or(file.clients.slow_readers);
    if file.clients.polling + file.clients.slow_readers > 100.0 {
        return Err("polling clients and slow readers are more than 100 percent together".into());
    }
    if let Some(reconnect) = flags.reconnect_storm {
        file.storm = Some(Storm { reconnect, every: flags.every });
    }
    if let Some(process) = flags.kill {
        file.kill = Some(Kill { process, every: flags.every.unwrap_or(KILL_EVERY) });
    }
    if flags.every.is_some() && flags.kill.is_none() && flags.reconnect_storm.is_none() {
        return Err("--every needs --kill or --reconnect-storm".into());
    }
    if let Some(duration) = flags.duration {
        if duration.is_zero() {
            return Err("--duration 0s leaves nothing to measure".into());
        }
        let factor = duration.as_secs_f64() / file.duration().as_secs_f64().max(1e-9);
        file.phases.iter_mut().for_each(|phase| phase.duration = phase.duration.mul_f64(factor));
    }
    flags.shard.map_or(Ok(()), |shard| take_share(file, shard))
}

/// Leaves machine `which` of `of` its part; rooms are not shared between machines.
fn take_share(file: &mut ScenarioFile, (which, of): (u32, u32)) -> Result<(), String> {
    if file.rooms < of {
        return Err(format!(
            "each of {of} machines needs at least one room of its own; there are {}",
            file.rooms
        ));
    }
    let part = |whole: u32| u32::try_from(share(whole as usize, (which, of)).len()).unwrap_or(whole);
    (file.users, file.rooms) = (part(file.users), part(file.rooms));
    file.rate /= f64::from(of);
    file.connect_rate /= f64::from(of);
    Ok(())
}

/// Which of so many things are those of machine `which` of `of`.
pub fn share(whole: usize, (which, of): (u32, u32)) -> Range<usize> {
    let until = |which: u32| whole * which as usize / of as usize;
    until(which - 1)..until(which)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_is_a_sound_scenario_of_its_own_name() {
        for name in names() {
            let file = named(name).unwrap_or_else(|why| panic!("{name}: {why}"));
            assert_eq!(file.name, name);
            assert!(!file.about.is_empty());
        }
        assert!(named("none").is_err());
    }

    #[test]
    fn shares_are_everything_once() {
        let shares = (1..=3).flat_map(|which| share(10, (which, 3)));
        assert_eq!(shares.collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
        assert_eq!((share(10, (1, 1)), share(1, (1, 2)).len()), (0..10, 0));
    }
}
