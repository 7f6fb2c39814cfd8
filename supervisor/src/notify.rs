//! Tells systemd how the host is (`sd_notify(3)`), where systemd asked for it.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

use crate::host::complain;

/// Everything is up.
pub(crate) const READY: &str = "READY=1";
/// The end has begun.
pub(crate) const STOPPING: &str = "STOPPING=1";
/// The host does its work.
const WATCHDOG: &str = "WATCHDOG=1";
/// Signs of life within one of systemd's intervals: one may come late.
const BEATS: u32 = 3;

/// What systemd wants to know of a service, taken from its environment.
#[derive(Clone, Debug, Default)]
pub struct Notify {
    /// `NOTIFY_SOCKET`: a path, or an abstract name after `@`. None: nobody asked.
    pub socket: Option<OsString>,
    /// `WATCHDOG_USEC`: systemd ends a service that gives no sign of life for this long.
    pub watchdog: Option<Duration>,
}

/// What systemd was told.
#[derive(Debug)]
pub(crate) struct Systemd {
    asked: Notify,
    next_beat: Instant,
    status: String,
}

impl Systemd {
    pub(crate) fn new(asked: Notify, now: Instant) -> Systemd {
        Systemd { asked, next_beat: now, status: String::new() }
    }

    /// systemd gives up on its own if it does not hear; the host goes on either way.
    pub(crate) fn tell(&self, state: &str) {
        let Some(socket) = &self.asked.socket else { return };
        if let Err(error) = send(socket, state) {
            complain(format_args!("cannot tell systemd {state}: {error}"));
        }
    }

    /// A reload has begun; [`READY`] ends it.
    pub(crate) fn tell_reloading(&self) {
        // Refused by no Linux; without the time systemd takes it for a reload all the same.
        let since = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={}", since.as_micros()));
    }

    /// The line that `systemctl status` shows. Sent if it has changed.
    pub(crate) fn tell_status(&mut self, status: String) {
        if status != self.status {
            self.tell(&format!("STATUS={status}"));
            self.status = status;
        }
    }

    /// Gives a sign of life if one is due and `is_alive`.
    pub(crate) fn beat(&mut self, is_alive: bool, now: Instant) {
        if let Some(interval) = self.asked.watchdog
            && self.next_beat <= now
        {
            self.next_beat = now + interval / BEATS;
            if is_alive {
                self.tell(WATCHDOG);
            }
        }
    }

    pub(crate) fn next_beat(&self) -> Option<Instant> {
        self.asked.watchdog.map(|_| self.next_beat)
    }
}

fn send(socket: &OsStr, state: &str) -> io::Result<()> {
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        path => SocketAddr::from_pathname(OsStr::from_bytes(path))?,
    };
    let sender = UnixDatagram::unbound()?;
    sender.set_nonblocking(true)?;
    sender.send_to_addr(state.as_bytes(), &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(receiver: &UnixDatagram) -> String {
        let mut bytes = [0; 256];
        let count = receiver.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..count].to_vec()).unwrap()
    }

    fn check(receiver: &UnixDatagram, name: &str) {
        send(OsStr::new(name), READY).unwrap();
        assert_eq!(received(receiver), "READY=1");
    }

    #[test]
    fn reaches_a_path_and_an_abstract_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        check(&UnixDatagram::bind(&path).unwrap(), path.to_str().unwrap());

        let name = format!("minitalk-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        check(&UnixDatagram::bind_addr(&address).unwrap(), &format!("@{name}"));
    }

    #[test]
    fn a_socket_nobody_reads_is_an_error_and_no_wait() {
        send(OsStr::new("/nonexistent/notify"), STOPPING).unwrap_err();
    }

    #[test]
    fn signs_of_life_come_when_due_and_only_of_the_living() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let receiver = UnixDatagram::bind(&path).unwrap();
        receiver.set_nonblocking(true).unwrap();
        let now = Instant::now();
        let watchdog = Some(Duration::from_secs(30));
        let mut systemd = Systemd::new(Notify { socket: Some(path.into()), watchdog }, now);
        systemd.beat(true, now);
        assert_eq!(received(&receiver), WATCHDOG);
        systemd.beat(true, now + Duration::from_secs(9));
        systemd.beat(false, now + Duration::from_secs(10));
        receiver.recv(&mut [0; 8]).unwrap_err();
        assert_eq!(systemd.next_beat(), Some(now + Duration::from_secs(20)));
        systemd.beat(true, now + Duration::from_secs(20));
        assert_eq!(received(&receiver), WATCHDOG);

        systemd.tell_status("serving".to_owned());
        systemd.tell_status("serving".to_owned());
        systemd.tell_reloading();
        assert_eq!(received(&receiver), "STATUS=serving");
        let (first, usec) = received(&receiver)
            .split_once("\nMONOTONIC_USEC=")
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
            .unwrap();
        assert_eq!(first, "RELOADING=1");
        assert!(usec.parse::<u64>().unwrap() > 0);
    }
}
