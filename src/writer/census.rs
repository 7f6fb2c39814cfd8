//! Who is on which worker: what the publishing thread adds up and has to tell ([`crate::link::census`]).

use std::collections::HashMap;
use std::net::IpAddr;

use slab::Slab;

use super::batch::PeerId;
use crate::chat::UserId;
use crate::link::census::{self, KEYS_PER_FRAME};
use crate::link::frame::{FromWriter, Others, Visitors};

/// Counts of all workers, by address and by user.
pub struct Census {
    workers: Slab<Worker>,
    addresses: census::Census<IpAddr>,
    users: census::Census<UserId>,
}

/// How many connections are told to all workers, since no further one is allowed; 0: never.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Of one address.
    pub per_address: usize,
    /// Of one user.
    pub per_user: usize,
}

struct Worker {
    peer: PeerId,
    instance: u64,
}

/// What workers have to be told, each by frames of its own.
#[derive(Default)]
pub struct News(HashMap<u16, Told>);

#[derive(Default)]
struct Told {
    addresses: Vec<(IpAddr, Others)>,
    users: Vec<(UserId, Others)>,
}

impl Census {
    /// No worker is connected.
    pub fn new(limits: Limits) -> Census {
        let connections = |limit: usize| match u32::try_from(limit) {
            Ok(0) | Err(_) => u32::MAX,
            Ok(limit) => limit,
        };
        Census {
            workers: Slab::new(),
            addresses: census::Census::new(connections(limits.per_address)),
            users: census::Census::new(connections(limits.per_user)),
        }
    }

    /// A worker is connected, and has nothing until it says so. An earlier connection of the same process
    /// is over, even if its end has not been read yet.
    pub fn enter(&mut self, peer: PeerId, instance: u64) -> News {
        let earlier = self.workers.iter().find(|(_, worker)| worker.instance == instance);
        let mut news = match earlier.map(|(_, worker)| worker.peer) {
            Some(earlier) => self.leave(earlier),
            None => News::default(),
        };
        self.workers.insert(Worker { peer, instance });
        if let Some(worker) = self.number(peer) {
            self.addresses.enter(worker, |to, key, others| news.address(to, key, others));
            self.users.enter(worker, |to, key, others| news.user(to, key, others));
        }
        news
    }

    /// A worker's counts have changed.
    pub fn hear(&mut self, peer: PeerId, visitors: Visitors) -> News {
        let mut news = News::default();
        if let Some(worker) = self.number(peer) {
            for (address, count) in visitors.addresses {
                self.addresses.set(worker, address, count, |to, key, others| news.address(to, key, others));
            }
            for (user, count) in visitors.users {
                self.users.set(worker, user, count, |to, key, others| news.user(to, key, others));
            }
        }
        news
    }

    /// A connection has ended, and what was counted by it with it.
    pub fn leave(&mut self, peer: PeerId) -> News {
        let mut news = News::default();
        if let Some(worker) = self.number(peer) {
            self.addresses.leave(worker, |to, key, others| news.address(to, key, others));
            self.users.leave(worker, |to, key, others| news.user(to, key, others));
            self.workers.remove(usize::from(worker));
        }
        news
    }

    /// Calls `send` with every frame of the news and whom it is for.
    pub fn tell(&self, news: News, mut send: impl FnMut(PeerId, &FromWriter<'_>)) {
        for (to, Told { addresses, users }) in news.0 {
            let Some(worker) = self.workers.get(usize::from(to)) else {
                continue;
            };
            for addresses in addresses.chunks(KEYS_PER_FRAME) {
                let frame = FromWriter::Elsewhere { addresses: addresses.to_vec(), users: Vec::new() };
                send(worker.peer, &frame);
            }
            for users in users.chunks(KEYS_PER_FRAME) {
                let frame = FromWriter::Elsewhere { addresses: Vec::new(), users: users.to_vec() };
                send(worker.peer, &frame);
            }
        }
    }

    /// The number by which a worker is counted.
    fn number(&self, peer: PeerId) -> Option<u16> {
        let (number, _) = self.workers.iter().find(|(_, worker)| worker.peer == peer)?;
        u16::try_from(number).ok()
    }
}

impl News {
    fn address(&mut self, to: u16, key: IpAddr, others: Others) {
        self.0.entry(to).or_default().addresses.push((key, others));
    }

    fn user(&mut self, to: u16, key: UserId, others: Others) {
        self.0.entry(to).or_default().users.push((key, others));
    }
}
