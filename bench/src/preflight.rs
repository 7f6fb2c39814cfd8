//! What is found out before anything is put on the server: whether this machine can do it at all, and
//! whether the server is ready.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::disrupt;
use crate::frame;
use crate::http::Client;
use crate::mark::{Mark, Marker};
use crate::packet::Reader;
use crate::plan::{CONNECTIONS_PER_SOURCE, Pace, Plan};
use crate::report::Preflight;
use crate::run::Failure;
use crate::seen::Seen;
use crate::watch;

/// File descriptors of this program that are not connections, at most.
const SPARE_FILES: u64 = 64;

/// Longest wait for the server's first answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Deliveries that are read and judged to try this machine out.
const TRIALS: u32 = 10_000;

/// A load above this share of what was tried out is too much to be sure of: waiting for events and the
/// server's share of the machine are not in the trial.
const SURE_SHARE: f64 = 0.3;

/// Looks at this machine and at the server.
pub fn look(plan: &Plan) -> Result<Preflight, Failure> {
    let polling = plan.polling().into_iter().filter(|polls| *polls).count() as u64; // two files each
    let file_limit = raise_file_limit(u64::from(plan.users) + polling)?;
    let ports = source_ports();
    if !plan.target.ip().is_loopback() && u64::from(plan.users) > ports {
        return Err(Failure::Usage(format!(
            "{} connections need as many source ports, one address has {ports} here: \
             widen net.ipv4.ip_local_port_range, or share the load with --shard",
            plan.users
        )));
    }
    is_ready(plan.target).map_err(Failure::Setup)?;
    if let Some(kill) = plan.kill {
        let seen = watch::ask(plan.target);
        disrupt::can_kill(plan.target, seen.as_ref(), kill.process).map_err(Failure::Usage)?;
    }
    let mut found = Preflight { file_limit, ports, ..Preflight::default() };
    if plan.pace == Pace::Open {
        let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get) as f64;
        let judges_per_s = trial(plan).map_err(Failure::System)? * cores.min(f64::from(plan.threads));
        let members = f64::from(plan.users) / f64::from(plan.rooms.max(1));
        (found.judges_per_s, found.asked_per_s) = (judges_per_s, plan.schedule.peak() * members);
        if found.asked_per_s > judges_per_s * SURE_SHARE {
            found.warnings.push(format!(
                "this machine reads and judges some {judges_per_s:.0} deliveries/s, the load comes to {:.0}/s: \
                 its figures may be the load tester's own; share it with --shard",
                found.asked_per_s
            ));
        }
    }
    if u64::from(plan.users.min(CONNECTIONS_PER_SOURCE)) > ports {
        found.warnings.push(format!("one address has only {ports} source ports here"));
    }
    Ok(found)
}

/// Raises the soft limit of open files as far as so many connections need; gives what it is then.
pub(crate) fn raise_file_limit(connections: u64) -> Result<u64, Failure> {
    let need = connections + SPARE_FILES;
    let system = |why: nix::Error| Failure::System(why.into());
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(system)?;
    if need > hard {
        return Err(Failure::Usage(format!(
            "{connections} connections need {need} open files, the limit here is {hard}: raise it with `ulimit -Hn`"
        )));
    }
    if need > soft {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map_err(system)?;
        return Ok(hard);
    }
    Ok(soft)
}

/// How many ports the kernel gives to outgoing connections of one address.
pub(crate) fn source_ports() -> u64 {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut numbers = text.split_ascii_whitespace().filter_map(|number| number.parse::<u64>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(first), Some(last)) if last >= first => last - first + 1,
        _ => u64::from(CONNECTIONS_PER_SOURCE), // no such file: another system's default is about as many
    }
}

/// Asks `/ready`, which not every server offers; one that answers anything is there.
pub(crate) fn is_ready(target: SocketAddr) -> Result<(), String> {
    let answer = Client::with_patience(target, PATIENCE).get("/ready", None).map_err(|why| {
        format!("no server answers at {target}: {why}; is it running, and is --target right?")
    })?;
    if answer.status != 503 {
        return Ok(());
    }
    let reason = String::from_utf8_lossy(&answer.body);
    Err(format!("the server at {target} is not ready: {}", reason.trim()))
}

/// How many deliveries one thread reads and judges per second, each with a `recv` of its own, when
/// nothing else keeps it from doing so.
fn trial(plan: &Plan) -> io::Result<f64> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut client = TcpStream::connect(listener.local_addr()?)?;
    let (mut server, _) = listener.accept()?;
    let marker = Marker::new(plan.run, plan.content);
    let frames: Vec<Vec<u8>> = (0..TRIALS).map(|number| delivery(&marker, number)).collect();
    thread::scope(|scope| {
        let all = &frames;
        let writer = scope.spawn(move || server.write_all(&all.concat()));
        let (reader, mut seen) = (Reader::new(), Seen::default());
        let mut buffer = vec![0; frames.iter().map(Vec::len).max().unwrap_or_default()];
        let begun = Instant::now();
        for frame in &frames {
            let bytes = &mut buffer[..frame.len()];
            client.read_exact(bytes)?;
            let text = match frame::decode(bytes, bytes.len()) {
                frame::Decoded::Frame { payload, .. } => &bytes[payload],
                _ => &[],
            };
            std::hint::black_box(reader.read(text));
            seen.insert(marker.read(text).map_or(0, |mark| mark.number));
        }
        let per_s = f64::from(TRIALS) / begun.elapsed().as_secs_f64().max(1e-9);
        writer.join().unwrap_or_else(|_| Err(io::Error::other("a thread panicked")))?;
        Ok(per_s)
    })
}

/// The frame of a delivery as a server sends it.
fn delivery(marker: &Marker, number: u32) -> Vec<u8> {
    let mut text = br#"42["message",{"type":"message","id":"0000000000000000","seq":1,"roomId":"room","sender":"name","content":""#.to_vec();
    marker.write(&mut text, Mark { room: 0, slot: 0, number, at_ns: 0 });
    text.extend_from_slice(br#"","timestamp":"2026-01-01T00:00:00.000Z"}]"#);
    let mut frame = vec![0x81];
    match u8::try_from(text.len()) {
        Ok(short @ 0..=125) => frame.push(short),
        _ => {
            frame.push(126);
            frame.extend(u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes());
        }
    }
    frame.extend(text);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::typed;

    #[test]
    fn a_trial_reads_and_judges_everything() {
        let plan = Plan::new(&typed("quick").scenario).unwrap();
        assert!(trial(&plan).unwrap() > 0.0);
        let marker = Marker::new(plan.run, plan.content);
        let frame = delivery(&marker, 7);
        let frame::Decoded::Frame { payload, .. } = frame::decode(&frame, frame.len()) else {
            panic!("a frame")
        };
        assert_eq!(marker.read(&frame[payload]).map(|mark| mark.number), Some(7));
    }

    #[test]
    fn this_system_has_source_ports() {
        assert!(source_ports() > 1000);
    }
}
