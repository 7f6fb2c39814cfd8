//! Those who only watch a challenge: Server-Sent Events
//! (<https://html.spec.whatwg.org/multipage/server-sent-events.html>) over HTTP connections that stay open.
//!
//! Each has a bounded queue of what was framed once for all. Whoever does not take it is let go; a browser
//! comes back by itself.

use std::collections::HashMap;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame};
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::challenge::ChallengeId;

/// Hand-outs that may wait for one of them.
const QUEUE: usize = 64;

/// Of all challenges on one worker, at most.
const SPECTATORS: usize = 10_000;

/// Time between two signs of life, at most; below what proxies wait for.
pub const ALIVE: Duration = Duration::from_secs(15);

/// A comment, which no client shows.
const SIGN_OF_LIFE: &[u8] = b": \n\n";

/// All of a worker.
#[derive(Default)]
pub struct Watchers {
    of: HashMap<ChallengeId, Vec<mpsc::Sender<Bytes>>, foldhash::fast::RandomState>,
    count: usize,
}

impl Watchers {
    /// One more, who is shown every so often that the stream is alive. `None`: there are as many as there may
    /// be.
    pub fn enter(&mut self, challenge: ChallengeId, alive: Duration) -> Option<Events> {
        if self.count >= SPECTATORS {
            self.forget_the_gone();
        }
        if self.count >= SPECTATORS {
            return None;
        }
        let (sender, receiver) = mpsc::channel(QUEUE);
        self.of.entry(challenge).or_default().push(sender);
        self.count += 1;
        let mut alive = interval(alive);
        alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Some(Events { receiver, alive })
    }

    /// Tells all of a challenge; who is behind is let go. False: nobody is left.
    pub fn tell(&mut self, challenge: ChallengeId, events: &Bytes) -> bool {
        let Some(senders) = self.of.get_mut(&challenge) else {
            return false;
        };
        let before = senders.len();
        senders.retain(|sender| sender.try_send(events.clone()).is_ok());
        self.count -= before - senders.len();
        if senders.is_empty() {
            self.of.remove(&challenge);
        }
        self.has(challenge)
    }

    /// Whether anybody watches a challenge, as far as is known.
    pub fn has(&self, challenge: ChallengeId) -> bool {
        self.of.contains_key(&challenge)
    }

    /// There is nothing more to see.
    pub fn end(&mut self, challenge: ChallengeId) {
        self.count -= self.of.remove(&challenge).map_or(0, |senders| senders.len());
    }

    /// How many there are; some may have gone.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Ends the streams of some, who come back by themselves.
    pub fn let_go(&mut self, most: usize) {
        let mut left = most.min(self.count);
        self.count -= left;
        for senders in self.of.values_mut() {
            let here = left.min(senders.len());
            senders.truncate(senders.len() - here);
            left -= here;
        }
        self.of.retain(|_, senders| !senders.is_empty());
    }

    fn forget_the_gone(&mut self) {
        for senders in self.of.values_mut() {
            senders.retain(|sender| !sender.is_closed());
        }
        self.of.retain(|_, senders| !senders.is_empty());
        self.count = self.of.values().map(Vec::len).sum();
    }
}

/// What one of them is sent, as the body of an answer.
pub struct Events {
    receiver: mpsc::Receiver<Bytes>,
    alive: Interval,
}

impl Body for Events {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Poll::Ready(events) = self.receiver.poll_recv(context) {
            return Poll::Ready(events.map(|events| Ok(Frame::data(events))));
        }
        self.alive.poll_tick(context).map(|_| Some(Ok(Frame::data(Bytes::from_static(SIGN_OF_LIFE)))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_takes_nothing_is_let_go_and_the_others_hear_all() {
        let mut watchers = Watchers::default();
        let (mut good, lazy) = (watchers.enter(1, ALIVE).unwrap(), watchers.enter(1, ALIVE).unwrap());
        for at in 0..=QUEUE {
            assert!(watchers.tell(1, &Bytes::from(vec![u8::try_from(at).unwrap()])));
            assert_eq!(good.receiver.recv().await.unwrap()[0], u8::try_from(at).unwrap());
        }
        assert_eq!((watchers.count, lazy.receiver.len()), (1, QUEUE));
        assert!(!watchers.tell(2, &Bytes::from_static(b"to nobody")));
        watchers.end(1);
        assert_eq!((watchers.count, good.receiver.recv().await), (0, None));
    }

    #[tokio::test]
    async fn some_are_let_go_at_a_time() {
        let mut watchers = Watchers::default();
        let mut all: Vec<Events> = [1, 1, 2].iter().map(|of| watchers.enter(*of, ALIVE).unwrap()).collect();
        for left in [1, 0] {
            watchers.let_go(2);
            let ended = all.iter_mut().filter_map(|events| events.receiver.try_recv().err());
            let still = ended.filter(|end| *end == mpsc::error::TryRecvError::Empty).count();
            assert_eq!((watchers.count(), still), (left, left));
        }
    }
}
