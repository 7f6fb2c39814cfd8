//! Taking up what the executable before this one has handed over ([`crate::handover`]).

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::error::StartError;
use crate::handover::{self, Document, Purpose};
use crate::listeners::Listeners;
use crate::lock::Lock;
use crate::slot::Slot;
use crate::status::LastChange;
use crate::{Executable, Notify, Outcome, Plan, Program, Reload, Settings, host};

/// A running host, taken up by a new executable in the same process.
#[derive(Debug)]
pub struct Inherited {
    pub(crate) listeners: Listeners,
    pub(crate) lock: Lock,
    places: Places,
    kept: Kept,
    path: std::path::PathBuf,
}

/// The private sockets and the children.
#[derive(Debug)]
pub(crate) struct Places {
    pub(crate) storage: UnixListener,
    pub(crate) control: UnixListener,
    pub(crate) slots: Vec<Slot>,
}

/// What the supervisor before knew.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) generation: u32,
    pub(crate) last_change: LastChange,
    pub(crate) age: Duration,
    /// In force until now; if this is the way back, again.
    pub(crate) settings: Settings,
    /// The executable to go back to.
    pub(crate) back: Option<OwnedFd>,
    /// This is the way back, and that is why.
    pub(crate) failure: Option<String>,
}

/// How a host goes on.
#[derive(Debug)]
pub struct Next {
    /// What it works by; an error takes the upgrade back.
    pub settings: Result<Settings, String>,
    /// What each child is started with.
    pub program: Program,
    /// What is executed at the next upgrade.
    pub executable: Executable,
    /// What systemd wants to be told.
    pub notify: Notify,
}

impl Inherited {
    /// Takes up what was handed over with the argument [`TAKE_OVER`](crate::TAKE_OVER).
    pub fn take_up(number: RawFd) -> Result<Inherited, StartError> {
        Inherited::adopt(number)
            .map_err(|error| StartError::System { what: "take over from the supervisor before", error })
    }

    fn adopt(number: RawFd) -> io::Result<Inherited> {
        let Document { purpose, body, .. } = Document::read(&File::from(handover::adopt(number)?))?;
        let now = Instant::now();
        let (back, failure) = match purpose {
            Purpose::Upgrade(old) => (Some(handover::adopt(old)?), None),
            Purpose::Back(failure) => (None, Some(failure)),
            Purpose::Trial => return Err(io::Error::other("it was only for a trial")),
        };
        let adopt_all = |of_worker: Vec<RawFd>| of_worker.into_iter().map(handover::adopt).collect();
        let listeners: io::Result<Vec<Vec<OwnedFd>>> = body.listeners.into_iter().map(adopt_all).collect();
        let hang_timeout = body.settings.hang_timeout;
        let slots: io::Result<Vec<Slot>> =
            body.slots.into_iter().map(|parts| parts.into_slot(hang_timeout, now)).collect();
        Ok(Inherited {
            listeners: Listeners::handed_over(body.addresses, listeners?),
            lock: Lock::handed_over(handover::adopt(body.lock)?, body.data_dir)?,
            places: Places {
                storage: UnixListener::from(handover::adopt(body.storage)?),
                control: UnixListener::from(handover::adopt(body.control)?),
                slots: slots?,
            },
            kept: Kept {
                generation: body.generation,
                last_change: body.last_change,
                age: body.age,
                settings: body.settings,
                back,
                failure,
            },
            path: body.path,
        })
    }

    /// The settings in force until now.
    pub fn settings(&self) -> &Settings {
        &self.kept.settings
    }

    /// An upgrade is being taken back: the settings stay.
    pub fn is_going_back(&self) -> bool {
        self.kept.failure.is_some()
    }

    /// The addresses listened on.
    pub fn addresses(&self) -> &[SocketAddr] {
        self.listeners.addresses()
    }

    /// Where the next version will be put.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Goes on with it, like [`run`](crate::run).
    pub fn resume(self, next: Next, reload: Reload<'_>) -> Result<Outcome, StartError> {
        let Inherited { listeners, lock, places, kept, .. } = self;
        let (settings, fault) = match next.settings {
            Ok(settings) => (settings, None),
            Err(fault) => (kept.settings.clone(), Some(fault)),
        };
        let standing = places.slots.iter().filter(|slot| slot.is_standing()).count();
        let plan = Plan {
            listeners,
            lock,
            workers: u16::try_from(standing.saturating_sub(1)).unwrap_or(0),
            settings,
            program: next.program,
            executable: next.executable,
            notify: next.notify,
        };
        host::resume(plan, places, kept, fault, reload)
    }
}
