//! How many connections come from one address, on the whole host (`limits.connections_per_address`).
//!
//! A connection is counted by the worker that accepted it, from then until it is closed, also as a
//! WebSocket. Behind a trusted proxy the connection is the proxy's; there the address is the one that
//! `X-Forwarded-For` names, and what is counted is each request under way and each WebSocket.
//!
//! Each worker tells the storage writer what it has, and is told what others have of the same, some
//! hundred microseconds later ([`crate::link::census`]). The same frames say how many connections each user
//! has (`limits.connections_per_user`), which the hub counts. A burst that arrives everywhere at the same
//! moment can so go past the limit by what the other workers took in meanwhile; whoever is past it gets no
//! further connection anywhere.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::api::answer::ApiError;
use super::core::App;
use super::hub::Hub;
use super::uplink::Uplink;
use crate::chat::{Code, Refusal, UserId};
use crate::config::{Config, Network};
use crate::link::census::{Elsewhere, Untold};
use crate::link::frame::{Others, ToWriter, Visitors};

/// Header in which proxies name whom they speak for, the nearest last.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// Bits of an IPv6 address that name a customer's network, who has all addresses in it.
const IPV6_BITS: u32 = 64;

/// Connections by address; and of users, what the other workers have.
pub struct Addresses {
    /// 0: no address is counted.
    limit: usize,
    trusted: Vec<Network>,
    counts: Mutex<Counts>,
    wake: Arc<Notify>,
}

#[derive(Default)]
struct Counts {
    here: HashMap<IpAddr, u32>,
    elsewhere: Elsewhere<IpAddr>,
    users_elsewhere: Elsewhere<UserId>,
    /// Addresses whose count the storage writer has not been told.
    untold: Untold<IpAddr>,
}

/// One connection that counts until it is dropped.
pub struct Held {
    addresses: Arc<Addresses>,
    address: IpAddr,
}

impl Held {
    /// As it is counted.
    pub fn address(&self) -> IpAddr {
        self.address
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.addresses.leave(self.address);
    }
}

/// The address at the other end of a TCP connection.
#[derive(Clone, Copy)]
pub struct Peer(pub IpAddr);

/// How the other end of a TCP connection is counted.
#[derive(Clone)]
pub enum Visitor {
    /// Nothing is counted.
    Unlimited,
    /// Counted.
    Direct(Arc<Held>),
    /// One too many from its address.
    Refused,
    /// A trusted proxy; whom it speaks for is in each request.
    Proxy(IpAddr),
}

impl Addresses {
    /// Nobody is there yet. `wake` is told when there is something to [`Addresses::tell`].
    pub fn new(config: &Config, wake: Arc<Notify>) -> Addresses {
        Addresses {
            limit: config.limits.connections_per_address,
            // The configuration holds nothing else.
            trusted: config.trusted_proxies.iter().filter_map(|text| Network::parse(text)).collect(),
            counts: Mutex::default(),
            wake,
        }
    }

    /// Takes in a TCP connection.
    pub fn arrive(self: &Arc<Self>, peer: IpAddr) -> Visitor {
        if self.limit == 0 {
            Visitor::Unlimited
        } else if self.is_trusted(peer) {
            Visitor::Proxy(peer)
        } else {
            self.enter(peer).map_or(Visitor::Refused, Visitor::Direct)
        }
    }

    /// Counts one more of an address; `None`: there are as many as allowed.
    fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Arc<Held>> {
        let address = counted_as(address);
        let mut counts = self.counts.lock();
        let here = counts.here.get(&address).copied().unwrap_or(0);
        let everywhere = here.saturating_add(counts.elsewhere.of(&address).connections);
        if usize::try_from(everywhere).unwrap_or(usize::MAX) >= self.limit {
            return None;
        }
        counts.here.insert(address, here + 1);
        counts.untold.add(address);
        drop(counts);
        self.wake.notify_one();
        Some(Arc::new(Held { addresses: self.clone(), address }))
    }

    /// Counts a connection that another worker let in and hands over, whatever the limit.
    pub fn take_over(self: &Arc<Self>, address: IpAddr) -> Arc<Held> {
        let mut counts = self.counts.lock();
        *counts.here.entry(address).or_default() += 1;
        counts.untold.add(address);
        drop(counts);
        self.wake.notify_one();
        Arc::new(Held { addresses: self.clone(), address })
    }

    fn leave(&self, address: IpAddr) {
        let mut counts = self.counts.lock();
        if let Some(here) = counts.here.get_mut(&address) {
            *here -= 1;
            if *here == 0 {
                counts.here.remove(&address);
            }
        }
        counts.untold.add(address);
        drop(counts);
        self.wake.notify_one();
    }

    /// Connections of a user on the other workers.
    pub fn of_user_elsewhere(&self, number: UserId) -> Others {
        self.counts.lock().users_elsewhere.of(&number)
    }

    /// Whom a request comes from, as it is counted; `peer` made the connection.
    pub fn caller(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        counted_as(if self.is_trusted(peer) { self.client(peer, headers) } else { peer })
    }

    /// Whom a proxy speaks for: the last one named that is no trusted proxy itself. What stands before
    /// that name is anybody's invention.
    pub fn client(&self, proxy: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut nearest = proxy;
        let lines = headers.get_all(FORWARDED_FOR).iter().filter_map(|line| line.to_str().ok());
        let named: Vec<&str> = lines.flat_map(|line| line.split(',')).collect();
        for name in named.iter().rev() {
            let Some(address) = address_of(name.trim()) else {
                break;
            };
            nearest = address;
            if !self.is_trusted(address) {
                break;
            }
        }
        nearest
    }

    /// Whether what a connection's other end says of whom it speaks for is believed.
    pub fn is_trusted(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(address))
    }

    /// The link is up: the storage writer knows nothing of this worker, and has told it nothing.
    pub fn introduce(&self, hub: &mut Hub) {
        hub.tell_all();
        let mut counts = self.counts.lock();
        let Counts { here, elsewhere, users_elsewhere, untold } = &mut *counts;
        here.keys().for_each(|address| untold.add(*address));
        elsewhere.forget();
        users_elsewhere.forget();
    }

    /// What the other workers have.
    pub fn hear(&self, addresses: Vec<(IpAddr, Others)>, users: Vec<(UserId, Others)>) {
        let mut counts = self.counts.lock();
        counts.elsewhere.hear(addresses);
        counts.users_elsewhere.hear(users);
    }

    /// Tells the storage writer what has changed here.
    pub fn tell(&self, hub: &mut Hub, uplink: &mut Uplink) {
        let mut counts = self.counts.lock();
        let Counts { here, untold, .. } = &mut *counts;
        if !uplink.is_up() {
            // Everything is told when it is.
            untold.forget();
            hub.untold.forget();
        }
        while uplink.takes_news() && !(untold.is_empty() && hub.untold.is_empty()) {
            let count = |address: IpAddr| here.get(&address).copied().unwrap_or(0);
            let addresses = untold.take().into_iter().map(|address| (address, count(address))).collect();
            let users =
                hub.untold.take().into_iter().map(|user| (user, sockets(hub.sockets_of(user)))).collect();
            uplink.tell(&ToWriter::Visitors(Visitors { addresses, users }));
        }
    }
}

/// Lets a request in if its address has not too many under way.
pub async fn limit(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let held = match request.extensions().get::<Visitor>() {
        None | Some(Visitor::Unlimited) => return next.run(request).await,
        Some(Visitor::Direct(held)) => Some(held.clone()),
        Some(Visitor::Refused) => None,
        Some(Visitor::Proxy(proxy)) => app.addresses.enter(app.addresses.client(*proxy, request.headers())),
    };
    let Some(held) = held else {
        app.core.lock().counters.address_full += 1;
        let refusal = Refusal::new(Code::TooManyConnections, "Too many connections from this address");
        return ApiError::from(refusal).into_response();
    };
    request.extensions_mut().insert(held.clone());
    let response = next.run(request).await;
    drop(held);
    response
}

/// A process has far fewer.
fn sockets(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// What stands for an address in the counts.
fn counted_as(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = u128::from(address) >> (128 - IPV6_BITS) << (128 - IPV6_BITS);
            IpAddr::V6(Ipv6Addr::from(network))
        }
        v4 => v4,
    }
}

/// An address as proxies write it: alone, with a port, or in brackets.
fn address_of(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.split_once(']')).map(|(address, _)| address);
    let without_port = || text.split_once(':').and_then(|(address, _)| address.parse().ok());
    bare.unwrap_or(text).parse().ok().or_else(without_port)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(limit: usize) -> Arc<Addresses> {
        let mut config = Config { trusted_proxies: vec!["10.0.0.0/8".to_owned()], ..Config::default() };
        config.limits.connections_per_address = limit;
        Arc::new(Addresses::new(&config, Arc::default()))
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn others(connections: u32, workers: u16) -> Others {
        Others { connections, workers }
    }

    #[test]
    fn as_many_as_allowed_and_no_more_until_one_leaves() {
        let addresses = addresses(2);
        let mut held: Vec<Arc<Held>> = (0..2).map(|_| addresses.enter(ip("1.2.3.4")).unwrap()).collect();
        assert!(addresses.enter(ip("1.2.3.4")).is_none());
        assert!(addresses.enter(ip("::ffff:1.2.3.4")).is_none(), "the same address");
        assert!(addresses.enter(ip("1.2.3.5")).is_some());
        let copy = held[0].clone();
        held.remove(0);
        assert!(addresses.enter(ip("1.2.3.4")).is_none(), "a copy is there");
        drop(copy);
        assert!(addresses.enter(ip("1.2.3.4")).is_some());
        drop(held);
        assert!(addresses.counts.lock().here.is_empty());
    }

    #[test]
    fn a_network_of_ipv6_is_one_customer() {
        let addresses = addresses(1);
        let _held = addresses.enter(ip("2001:db8:0:1::1")).unwrap();
        assert!(addresses.enter(ip("2001:db8:0:1:ffff::2")).is_none());
        assert!(addresses.enter(ip("2001:db8:0:2::1")).is_some());
    }

    #[test]
    fn what_other_workers_hold_counts_too() {
        let addresses = addresses(5);
        let hear = |address: &str, connections, workers| {
            addresses.hear(vec![(ip(address), others(connections, workers))], Vec::new());
        };
        hear("1.2.3.4", 4, 2);
        hear("9.9.9.9", 5, 1);
        addresses.hear(Vec::new(), vec![(7, others(4, 2))]);
        assert_eq!(addresses.of_user_elsewhere(7), others(4, 2));
        let _held = addresses.enter(ip("1.2.3.4")).unwrap();
        assert!(addresses.enter(ip("1.2.3.4")).is_none());
        assert!(addresses.enter(ip("9.9.9.9")).is_none());
        hear("1.2.3.4", 3, 2);
        let _held = addresses.enter(ip("1.2.3.4")).unwrap();
        assert!(addresses.enter(ip("1.2.3.4")).is_none());
        hear("9.9.9.9", 0, 0);
        let _held = addresses.enter(ip("9.9.9.9")).unwrap();
        // Another storage writer has told nothing yet.
        addresses.introduce(&mut Hub::default());
        assert_eq!(addresses.of_user_elsewhere(7), others(0, 0));
        assert!(addresses.enter(ip("1.2.3.4")).is_some());
        let mut untold = addresses.counts.lock().untold.take();
        untold.sort_unstable();
        assert_eq!(untold, [ip("1.2.3.4"), ip("9.9.9.9")]);
    }

    #[test]
    fn a_proxy_is_believed_as_far_as_it_is_trusted() {
        let addresses = addresses(1);
        let client = |lines: &[&str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(FORWARDED_FOR, line.parse().unwrap());
            }
            addresses.client(ip("10.0.0.1"), &headers).to_string()
        };
        assert_eq!(client(&[]), "10.0.0.1");
        assert_eq!(client(&["1.2.3.4"]), "1.2.3.4");
        assert_eq!(client(&["6.6.6.6, 1.2.3.4"]), "1.2.3.4", "the first one is invented");
        assert_eq!(client(&["6.6.6.6, 1.2.3.4, 10.9.9.9"]), "1.2.3.4", "two proxies");
        assert_eq!(client(&["6.6.6.6", "1.2.3.4", "10.9.9.9 "]), "1.2.3.4", "in lines of their own");
        assert_eq!(client(&["1.2.3.4:5678"]), "1.2.3.4");
        assert_eq!(client(&["[2001:db8::1]:80"]), "2001:db8::1");
        assert_eq!(client(&["2001:db8::1"]), "2001:db8::1");
        assert_eq!(client(&["1.2.3.4, unknown"]), "10.0.0.1");
        assert_eq!(client(&["1.2.3.4, unknown, 10.9.9.9"]), "10.9.9.9");
        assert_eq!(client(&["10.1.1.1, 10.2.2.2"]), "10.1.1.1", "nobody but proxies");
    }
}
