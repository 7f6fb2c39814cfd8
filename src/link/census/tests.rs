//! Both ends against the plain truth, over links that deliver late, break and come back.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::*;

const WORKERS: u16 = 4;
const USERS: u64 = 4;

/// Few enough to be reached often.
const LIMIT: u32 = 6;

#[derive(Clone, Debug)]
enum Step {
    Connect(u16, u64),
    Disconnect(u16, u64),
    /// A worker tells what has changed.
    Tell(u16),
    /// The writer reads a worker's next frame.
    Read(u16),
    /// A worker reads the writer's next frame.
    Hear(u16),
    /// A worker dies; its successor has nothing.
    RestartWorker(u16),
    /// A link breaks and comes back.
    Relink(u16),
    RestartWriter,
}

fn step() -> impl Strategy<Value = Step> {
    let (worker, user) = (0..WORKERS, 1..=USERS);
    prop_oneof![
        6 => (worker.clone(), user.clone()).prop_map(|(w, u)| Step::Connect(w, u)),
        5 => (worker.clone(), user).prop_map(|(w, u)| Step::Disconnect(w, u)),
        6 => worker.clone().prop_map(Step::Tell),
        6 => worker.clone().prop_map(Step::Read),
        6 => worker.clone().prop_map(Step::Hear),
        1 => worker.clone().prop_map(Step::RestartWorker),
        1 => worker.prop_map(Step::Relink),
        1 => Just(Step::RestartWriter),
    ]
}

/// A worker, and the frames between it and the writer.
#[derive(Default)]
struct Worker {
    here: BTreeMap<u64, u32>,
    untold: Untold<u64>,
    elsewhere: Elsewhere<u64>,
    to_writer: VecDeque<Vec<(u64, u32)>>,
    from_writer: VecDeque<(u64, Others)>,
}

impl Worker {
    /// What the worker does when it is welcomed.
    fn link_up(&mut self) {
        self.to_writer.clear();
        self.from_writer.clear();
        self.elsewhere.forget();
        self.here.keys().for_each(|user| self.untold.add(*user));
    }

    fn tell(&mut self) {
        let keys = self.untold.take();
        let counts = keys.into_iter().map(|key| (key, self.here.get(&key).copied().unwrap_or(0)));
        self.to_writer.push_back(counts.collect());
    }
}

struct Host {
    workers: [Worker; WORKERS as usize],
    census: Census<u64>,
}

impl Host {
    fn new(limit: u32) -> Host {
        let mut host = Host { workers: Default::default(), census: Census::new(limit) };
        (0..WORKERS).for_each(|worker| host.enter(worker));
        host
    }

    fn enter(&mut self, worker: u16) {
        let workers = &mut self.workers;
        self.census.enter(worker, |to, key, others| {
            workers[usize::from(to)].from_writer.push_back((key, others));
        });
    }

    fn worker(&mut self, worker: u16) -> &mut Worker {
        &mut self.workers[usize::from(worker)]
    }

    fn read(&mut self, worker: u16) {
        let workers = &mut self.workers;
        for (user, count) in workers[usize::from(worker)].to_writer.pop_front().unwrap_or_default() {
            self.census.set(worker, user, count, |to, key, others| {
                workers[usize::from(to)].from_writer.push_back((key, others));
            });
        }
    }

    fn leave(&mut self, worker: u16) {
        let workers = &mut self.workers;
        self.census.leave(worker, |to, key, others| {
            workers[usize::from(to)].from_writer.push_back((key, others));
        });
    }

    fn hear(&mut self, worker: u16) {
        let worker = self.worker(worker);
        worker.elsewhere.hear(worker.from_writer.pop_front());
    }

    fn act(&mut self, step: Step) {
        match step {
            Step::Connect(worker, user) => {
                let worker = self.worker(worker);
                *worker.here.entry(user).or_default() += 1;
                worker.untold.add(user);
            }
            Step::Disconnect(worker, user) => {
                let worker = self.worker(worker);
                if let Some(count) = worker.here.get_mut(&user) {
                    *count -= 1;
                    worker.here.retain(|_, count| *count > 0);
                    worker.untold.add(user);
                }
            }
            Step::Tell(worker) => self.worker(worker).tell(),
            Step::Read(worker) => self.read(worker),
            Step::Hear(worker) => self.hear(worker),
            Step::RestartWorker(worker) => {
                self.leave(worker);
                *self.worker(worker) = Worker::default();
                self.enter(worker);
            }
            Step::Relink(worker) => {
                self.leave(worker);
                self.worker(worker).link_up();
                self.enter(worker);
            }
            Step::RestartWriter => {
                self.census = Census::new(self.census.limit);
                self.workers.iter_mut().for_each(Worker::link_up);
                (0..WORKERS).for_each(|worker| self.enter(worker));
            }
        }
    }

    /// Everything told has arrived.
    fn settle(&mut self) {
        for worker in 0..WORKERS {
            self.worker(worker).tell();
            while !self.worker(worker).to_writer.is_empty() {
                self.read(worker);
            }
        }
        for worker in 0..WORKERS {
            while !self.worker(worker).from_writer.is_empty() {
                self.hear(worker);
            }
        }
    }

    /// What is elsewhere, from the workers' own counts.
    fn truth(&self, of: usize, user: u64) -> Others {
        let counts: Vec<u32> =
            self.workers.iter().map(|worker| worker.here.get(&user).copied().unwrap_or(0)).collect();
        if counts[of] == 0 && counts.iter().sum::<u32>() < self.census.limit {
            return Others::default();
        }
        let workers = counts.iter().enumerate().filter(|(at, count)| *at != of && **count > 0).count();
        let connections = counts.iter().sum::<u32>() - counts[of];
        Others { connections, workers: u16::try_from(workers).unwrap() }
    }
}

proptest! {
    #[test]
    fn what_workers_believe_becomes_true(steps in prop::collection::vec(step(), 0..200)) {
        let mut host = Host::new(LIMIT);
        steps.into_iter().for_each(|step| host.act(step));
        host.settle();
        for at in 0..host.workers.len() {
            let mut held = 0;
            for user in 1..=USERS {
                let truth = host.truth(at, user);
                prop_assert_eq!(host.workers[at].elsewhere.of(&user), truth, "worker {}, user {}", at, user);
                held += usize::from(truth != Others::default());
            }
            prop_assert_eq!(host.workers[at].elsewhere.0.len(), held, "and nothing of anything else");
        }
        let here = |user: &u64| host.workers.iter().filter(|worker| worker.here.contains_key(user)).count();
        let (alone, shared) = ((1..=USERS).filter(|user| here(user) == 1), (1..=USERS).filter(|user| here(user) > 1));
        prop_assert_eq!(host.census.alone.len(), alone.count());
        prop_assert_eq!(host.census.shared.len(), shared.count());
    }
}

#[test]
fn users_on_one_worker_cost_the_workers_nothing() {
    let mut host = Host::new(1_000);
    for user in 0..10_000 {
        let worker = u16::try_from(user % u64::from(WORKERS)).unwrap();
        (0..=user % 3).for_each(|_| host.act(Step::Connect(worker, user)));
    }
    host.settle();
    assert!(host.workers.iter().all(|worker| worker.elsewhere.0.capacity() == 0));
    assert_eq!((host.census.alone.len(), host.census.shared.len()), (10_000, 0));
    assert_eq!(size_of::<(u64, Share)>(), 16);
    host.act(Step::Connect(0, 1));
    host.act(Step::Tell(0));
    host.read(0);
    let told: Vec<usize> = host.workers.iter().map(|worker| worker.from_writer.len()).collect();
    assert_eq!(told, [1, 1, 0, 0], "the two workers that have the user");
}

/// Told late, both ends took in more than allowed together; from then on nobody takes in one more.
#[test]
fn who_is_past_a_limit_gets_no_further() {
    let mut host = Host::new(LIMIT);
    let admit = |host: &mut Host, worker: u16| {
        let at = &host.workers[usize::from(worker)];
        let admitted = at.here.get(&7).copied().unwrap_or(0) + at.elsewhere.of(&7).connections < LIMIT;
        admitted.then(|| host.act(Step::Connect(worker, 7))).is_some()
    };
    for worker in 0..WORKERS {
        while admit(&mut host, worker) {}
    }
    host.settle();
    for worker in 0..WORKERS {
        assert!(!admit(&mut host, worker));
    }
    // Nor does one that has none any more, or one that is new.
    (0..LIMIT).for_each(|_| host.act(Step::Disconnect(0, 7)));
    host.act(Step::RestartWorker(1));
    host.settle();
    for worker in 0..WORKERS {
        assert!(!admit(&mut host, worker));
    }
    (0..LIMIT).for_each(|_| host.act(Step::Disconnect(2, 7)));
    (0..LIMIT).for_each(|_| host.act(Step::Disconnect(3, 7)));
    host.settle();
    assert!(host.workers.iter().all(|worker| worker.elsewhere.0.is_empty()));
    (0..LIMIT).for_each(|_| assert!(admit(&mut host, 0)));
}

#[test]
fn tables_give_memory_back() {
    let mut census = Census::new(1_000);
    (0..100_000_u64).for_each(|user| census.set(0, user, 1, |_, _, _| panic!("nobody is to be told")));
    let full = census.alone.capacity();
    (100..100_000).for_each(|user| census.set(0, user, 0, |_, _, _| panic!("nobody is to be told")));
    assert!(census.alone.capacity() < full / 10);
    assert_eq!(census.alone.len(), 100);
}
