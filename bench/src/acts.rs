//! What is done beside sending, each kind on a schedule of its own that follows the load's.

use crate::plan::Plan;
use crate::schedule::Schedule;

/// Kinds of what is done on the connections themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// A `typing` event.
    Typing,
    /// A page of history.
    History,
    /// The connection is dropped and made again.
    Reconnect,
}

/// One thread's share of all that.
pub struct Acts {
    streams: Vec<Stream>,
    threads: u64,
    start_ns: Option<u64>,
    end_ns: u64,
}

struct Stream {
    act: Act,
    schedule: Schedule,
    /// The next of the whole schedule that is this thread's.
    next: u64,
}

impl Acts {
    /// That of `thread`; nothing is due until [`Acts::begin`].
    pub fn new(plan: &Plan, thread: u32) -> Acts {
        let mix = plan.mix;
        let kinds = [(Act::Typing, mix.typing), (Act::History, mix.history), (Act::Reconnect, mix.reconnect)];
        let streams = kinds.into_iter().filter(|(_, share)| *share > 0.0).map(|(act, share)| Stream {
            act,
            schedule: plan.schedule.scaled(share / 100.0),
            next: u64::from(thread),
        });
        Acts {
            streams: streams.collect(),
            threads: u64::from(plan.threads),
            start_ns: None,
            end_ns: u64::MAX,
        }
    }

    /// The load starts.
    pub fn begin(&mut self, start_ns: u64) {
        self.start_ns = Some(start_ns);
    }

    /// The load ends early: nothing is due from `cut_ns` on.
    pub fn cut(&mut self, cut_ns: u64) {
        self.end_ns = cut_ns;
    }

    /// When the next is due; `None`: none will be.
    pub fn next_due_ns(&self) -> Option<u64> {
        self.first().map(|(due, _)| due)
    }

    /// The next that is due by now: what, which of its kind, and when it should have been.
    pub fn take_due(&mut self, now_ns: u64) -> Option<(Act, u64, u64)> {
        let (due, place) = self.first().filter(|(due, _)| *due <= now_ns)?;
        let stream = &mut self.streams[place];
        let nth = stream.next;
        stream.next += self.threads;
        Some((stream.act, nth, due))
    }

    fn first(&self) -> Option<(u64, usize)> {
        let start_ns = self.start_ns?;
        let due = |(place, stream): (usize, &Stream)| {
            Some((start_ns + stream.schedule.due_ns(stream.next)?, place))
        };
        self.streams.iter().enumerate().filter_map(due).min().filter(|(due, _)| *due < self.end_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::typed;

    #[test]
    fn threads_share_all_acts_and_nothing_is_due_before_the_load() {
        let line = "quick --users 20 --duration 10s --rate 100 --threads 3";
        let plan = Plan::new(&typed(line).scenario).unwrap();
        let (mut typing, mut history) = (vec![], vec![]);
        for thread in 0..3 {
            let mut acts = Acts::new(&plan, thread);
            assert_eq!((acts.next_due_ns(), acts.take_due(u64::MAX)), (None, None));
            acts.begin(1000);
            while let Some((act, nth, due)) = acts.take_due(u64::MAX) {
                assert!(due >= 1000);
                match act {
                    Act::Typing => typing.push(nth),
                    Act::History => history.push(nth),
                    Act::Reconnect => panic!("not in this mix"),
                }
            }
        }
        typing.sort_unstable();
        assert_eq!(typing, (0..190).collect::<Vec<_>>()); // 950 messages, 20 typing a hundred
        assert_eq!(history.len(), 10);
        let mut acts = Acts::new(&plan, 0);
        acts.begin(1000);
        acts.cut(1001);
        assert!(
            acts.take_due(u64::MAX).is_some_and(|(_, _, due)| due == 1000) || acts.next_due_ns().is_none()
        );
        while acts.take_due(u64::MAX).is_some() {}
        assert_eq!(acts.next_due_ns(), None);
    }
}
