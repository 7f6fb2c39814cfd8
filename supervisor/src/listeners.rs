//! The listening sockets: one per worker and address, opened once, kept for the host's whole life.
//!
//! Each worker has its own socket, so the kernel spreads the connections and no worker wakes another.
//! With `SO_REUSEPORT` a closing socket takes the connections waiting in its queue with it; held open
//! here, the queue of a dead worker waits for its successor and nobody is refused.
//!
//! `SO_REUSEPORT` alone would also let a second host of the same user share the port unnoticed. So the
//! first socket of an address binds without it, which fails when anything else has the port, and only
//! then allows the others to join.
//!
//! systemd may have opened the ports itself (`systemd.socket(5)`). Such a socket is root's, so nobody of
//! another user may join it by `SO_REUSEPORT`: all workers share it, and its queue is even kept while the
//! whole host is away.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use listenfd::ListenFd;
use socket2::{Domain, Protocol, Socket, Type};

use crate::error::StartError;
use crate::lock::{self, HOLDER_DIES, Holder};

/// Connections waiting for one worker to accept them; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;
/// Time for the orphans of a killed host to let go of the port.
const ORPHANS_DIE: Duration = Duration::from_secs(3);
const RETRY: Duration = Duration::from_millis(20);

/// All listening sockets of a host.
#[derive(Debug)]
pub struct Listeners {
    addresses: Vec<SocketAddr>,
    /// By worker, then in the order of the addresses.
    sockets: Vec<Vec<Socket>>,
}

impl Listeners {
    /// Opens a socket for each of `workers` on each address; with port 0 all get the same free port.
    ///
    /// An address in use is an error at once, unless it may be a killed host in `data_dir` that has
    /// it: three seconds are given to the orphans of one that is dead, half a second to one that seems
    /// alive. Touches nothing on disk.
    pub fn open(addresses: &[SocketAddr], workers: u16, data_dir: &Path) -> Result<Listeners, StartError> {
        let begun = Instant::now();
        loop {
            let fault = match Listeners::open_now(addresses, workers) {
                Err(fault) if fault.is_address_in_use() => fault,
                other => return other,
            };
            let patience = match lock::holder(data_dir) {
                Holder::Dead(_) => ORPHANS_DIE,
                Holder::Living(_) => HOLDER_DIES,
                Holder::Unknown => Duration::ZERO,
            };
            if begun.elapsed() >= patience {
                return Err(fault);
            }
            thread::sleep(RETRY);
        }
    }

    /// The sockets that systemd has opened for this process, each shared by all workers; none: it has
    /// opened none. To be called once.
    pub fn from_systemd() -> Result<Option<Vec<TcpListener>>, StartError> {
        let mut given = ListenFd::from_env();
        let take = |index| given.take_tcp_listener(index).transpose();
        let sockets: io::Result<Vec<TcpListener>> = (0..).map_while(take).collect();
        let sockets = sockets.map_err(unusable)?;
        Ok(Some(sockets).filter(|sockets| !sockets.is_empty()))
    }

    /// The addresses of such sockets.
    pub fn addresses_of(given: &[TcpListener]) -> Result<Vec<SocketAddr>, StartError> {
        let addresses: io::Result<_> = given.iter().map(TcpListener::local_addr).collect();
        addresses.map_err(unusable)
    }

    /// All workers listen on each of these sockets.
    pub fn share(given: Vec<TcpListener>, workers: u16) -> Result<Listeners, StartError> {
        let addresses = Listeners::addresses_of(&given)?;
        let given: Vec<Socket> = given.into_iter().map(Socket::from).collect();
        let copies = |_| given.iter().map(copy).collect::<io::Result<Vec<Socket>>>();
        let sockets: io::Result<_> = (0..workers).map(copies).collect();
        Ok(Listeners { addresses, sockets: sockets.map_err(unusable)? })
    }

    /// Those of the executable before.
    pub(crate) fn handed_over(addresses: Vec<SocketAddr>, sockets: Vec<Vec<OwnedFd>>) -> Listeners {
        let sockets = sockets.into_iter().map(|of_worker| of_worker.into_iter().map(Socket::from).collect());
        Listeners { addresses, sockets: sockets.collect() }
    }

    /// The addresses listened on, with their real ports, in the order given.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    pub(crate) fn of_worker(&self, id: u16) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.sockets.get(usize::from(id)).into_iter().flatten().map(AsFd::as_fd)
    }

    /// From here on only the workers' own copies accept.
    pub(crate) fn close(&mut self) {
        self.sockets.clear();
    }

    fn open_now(wanted: &[SocketAddr], workers: u16) -> Result<Listeners, StartError> {
        let mut addresses = Vec::with_capacity(wanted.len());
        let mut sockets: Vec<Vec<Socket>> = (0..workers).map(|_| Vec::with_capacity(wanted.len())).collect();
        for &address in wanted {
            let v6_only = has_v4_twin(address, wanted);
            let (address, opened) = open_address(address, v6_only, workers)
                .map_err(|error| StartError::Listen { address, error })?;
            addresses.push(address);
            for (of_worker, socket) in sockets.iter_mut().zip(opened) {
                of_worker.push(socket);
            }
        }
        Ok(Listeners { addresses, sockets })
    }
}

/// One socket per worker on one address, and the address with its real port.
fn open_address(address: SocketAddr, v6_only: bool, workers: u16) -> io::Result<(SocketAddr, Vec<Socket>)> {
    let first = new_socket(address, v6_only)?;
    first.bind(&address.into())?;
    first.set_reuse_port(true)?;
    let real = address_of(&first)?;
    let mut sockets = vec![first];
    for _ in 1..workers {
        let socket = new_socket(real, v6_only)?;
        socket.set_reuse_port(true)?;
        socket.bind(&real.into())?;
        sockets.push(socket);
    }
    for socket in &sockets {
        socket.listen(BACKLOG)?;
    }
    Ok((real, sockets))
}

fn copy(socket: &Socket) -> io::Result<Socket> {
    if !socket.is_listener()? {
        return Err(io::Error::other("one of them does not listen"));
    }
    socket.set_nonblocking(true)?; // for all copies together
    socket.try_clone()
}

fn unusable(error: io::Error) -> StartError {
    StartError::System { what: "use systemd's sockets", error }
}

fn address_of(socket: &Socket) -> io::Result<SocketAddr> {
    let address = socket.local_addr()?.as_socket();
    address.ok_or_else(|| io::Error::other("the system named no address for the socket"))
}

fn new_socket(address: SocketAddr, v6_only: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?; // connections of an earlier life may still be in TIME_WAIT
    socket.set_nonblocking(true)?;
    if v6_only {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

/// `[::]:4000` also takes IPv4 where the system says so, which would collide with `0.0.0.0:4000`.
fn has_v4_twin(address: SocketAddr, all: &[SocketAddr]) -> bool {
    matches!(address.ip(), IpAddr::V6(ip) if ip.is_unspecified())
        && all.iter().any(|other| other.is_ipv4() && other.port() == address.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    fn loopback(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn open(addresses: &[SocketAddr], workers: u16) -> Result<Listeners, StartError> {
        Listeners::open(addresses, workers, Path::new("/nonexistent"))
    }

    #[test]
    fn every_worker_gets_a_socket_on_the_same_free_port() {
        let listeners = open(&[loopback(0), loopback(0)], 3).unwrap();
        assert_eq!(listeners.addresses().len(), 2);
        assert_ne!(listeners.addresses()[0], listeners.addresses()[1]);
        for worker in 0..3 {
            let sockets: Vec<_> = listeners.of_worker(worker).collect();
            assert_eq!(sockets.len(), 2);
            for (socket, address) in sockets.iter().zip(listeners.addresses()) {
                let socket = Socket::from(socket.try_clone_to_owned().unwrap());
                assert_eq!(socket.local_addr().unwrap().as_socket(), Some(*address));
            }
        }
        for address in listeners.addresses() {
            TcpStream::connect(address).unwrap();
        }
    }

    #[test]
    fn a_port_in_use_by_anything_is_an_error_that_names_it() {
        let plain = TcpListener::bind(loopback(0)).unwrap();
        let ours = open(&[loopback(0)], 2).unwrap();
        for taken in [plain.local_addr().unwrap(), ours.addresses()[0]] {
            let error = open(&[taken], 2).unwrap_err();
            assert!(error.to_string().contains(&taken.to_string()), "{error}");
            assert!(error.to_string().contains("in use"), "{error}");
        }
    }

    #[test]
    fn a_given_socket_is_shared_by_all_workers() {
        let given = TcpListener::bind(loopback(0)).unwrap();
        let address = given.local_addr().unwrap();
        let mut listeners = Listeners::share(vec![given], 3).unwrap();
        assert_eq!(listeners.addresses(), [address]);
        let of_last: Vec<_> = listeners.of_worker(2).map(|fd| fd.try_clone_to_owned().unwrap()).collect();
        assert_eq!(of_last.len(), 1);
        listeners.close();
        let client = TcpStream::connect(address).unwrap();
        let accepting = TcpListener::from(of_last.into_iter().next().unwrap());
        accepting.set_nonblocking(false).unwrap();
        assert_eq!(accepting.accept().unwrap().1, client.local_addr().unwrap());
    }

    #[test]
    fn both_families_can_have_every_address() {
        let any: SocketAddr = "0.0.0.0:0".parse().unwrap();
        let port = open(&[any], 1).unwrap().addresses()[0].port();
        let both = [SocketAddr::from(([0, 0, 0, 0], port)), format!("[::]:{port}").parse().unwrap()];
        match open(&both, 2) {
            Ok(listeners) => assert_eq!(listeners.addresses(), both),
            Err(error) => assert!(error.to_string().contains("[::]"), "no IPv6 here? {error}"),
        }
    }
}
