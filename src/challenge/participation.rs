//! What may become of a participant, and by what.

use serde::{Deserialize, Serialize};

use super::Status;

/// How a participant stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Participation {
    /// Has joined.
    Waiting,
    /// Is in.
    Running,
    /// Has reached the distance.
    Completed,
    /// Has given up.
    Quit,
    /// Was silent for too long.
    Timeout,
    /// The connection was lost.
    Disconnected,
    /// Was put out by a mistake.
    Error,
    /// Was put out.
    Kicked,
    /// Was in when time was over.
    Expired,
    /// Had joined and never came.
    NotStarted,
    /// Has cancelled; may join again.
    Left,
}

/// What happens to a participant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Event {
    /// Joins, for the first time or again.
    Join,
    /// Takes that back.
    Cancel,
    /// Comes in with a ticket.
    Enter(TicketKind),
    /// Goes, or is made to.
    Leave(Reason),
    /// The time is over.
    End,
}

/// Why a participant is no longer in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Reason {
    /// Has given up.
    Quit,
    /// Has reached the distance.
    Finish,
    /// Was silent for too long.
    Timeout,
    /// The connection was lost.
    Disconnected,
    /// Was put out.
    Kicked,
    /// The time is over.
    Expired,
    /// Was put out by a mistake.
    Error,
}

/// What a ticket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum TicketKind {
    /// To come in for the first time.
    Enter,
    /// To come back.
    Reenter,
}

/// All states, in the order of their numbers in the index.
pub const STATES: [Participation; 11] = [
    Participation::Waiting,
    Participation::Running,
    Participation::Completed,
    Participation::Quit,
    Participation::Timeout,
    Participation::Disconnected,
    Participation::Error,
    Participation::Kicked,
    Participation::Expired,
    Participation::NotStarted,
    Participation::Left,
];

impl Participation {
    /// The spelling clients see.
    pub fn as_str(self) -> &'static str {
        match self {
            Participation::Waiting => "WAITING",
            Participation::Running => "RUNNING",
            Participation::Completed => "COMPLETED",
            Participation::Quit => "QUIT",
            Participation::Timeout => "TIMEOUT",
            Participation::Disconnected => "DISCONNECTED",
            Participation::Error => "ERROR",
            Participation::Kicked => "KICKED",
            Participation::Expired => "EXPIRED",
            Participation::NotStarted => "NOT_STARTED",
            Participation::Left => "LEFT",
        }
    }

    /// The number in the index.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The state of that number.
    pub fn of(number: u8) -> Option<Participation> {
        STATES.get(usize::from(number)).copied()
    }

    /// Whether it counts towards a challenge's participants.
    pub fn counts(self) -> bool {
        self != Participation::Left
    }

    /// Whether whoever stands so at the end is ranked by how far they came.
    pub fn is_ranked_at_the_end(self) -> bool {
        use Participation::{Disconnected, Error, Expired, Running, Timeout};
        matches!(self, Running | Expired | Timeout | Disconnected | Error)
    }

    /// What becomes of a participant by an event while the challenge is so far; `None` before anything:
    /// somebody who has not joined. `None` after: it is not allowed and nothing happens.
    pub fn after(from: Option<Participation>, event: Event, status: Status) -> Option<Participation> {
        use Participation::{Disconnected, Error, Left, Running, Timeout, Waiting};
        use Status::{Done, Ready, Recruiting};
        match (event, from) {
            (Event::Join, None | Some(Left)) if matches!(status, Recruiting | Ready) => Some(Waiting),
            (Event::Cancel, Some(Waiting)) if matches!(status, Recruiting | Ready) => Some(Left),
            // The ticket was given out in time; a newer socket takes the place of an older one.
            (Event::Enter(TicketKind::Enter), Some(Waiting | Running)) if status.is_live() => Some(Running),
            (Event::Enter(TicketKind::Reenter), Some(Timeout | Disconnected | Error | Running))
                if status.is_live() =>
            {
                Some(Running)
            }
            (Event::Leave(reason), Some(Running)) if reason != Reason::Expired && status.is_live() => {
                Some(reason.state())
            }
            (Event::End, Some(state)) if status == Done => Some(match state {
                Waiting => Participation::NotStarted,
                Running => Participation::Expired,
                other => other,
            }),
            _ => None,
        }
    }

    /// Which ticket somebody who stands so may have while the challenge is so far.
    pub fn ticket(self, status: Status) -> Option<TicketKind> {
        use Participation::{Disconnected, Error, Timeout, Waiting};
        match (self, status) {
            (Waiting, Status::Ready) => Some(TicketKind::Enter),
            (Timeout | Disconnected | Error, Status::Ready | Status::Running) => Some(TicketKind::Reenter),
            _ => None,
        }
    }
}

impl Reason {
    /// The spelling clients see.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Finish => "FINISH",
            other => other.state().as_str(),
        }
    }

    /// How somebody stands who left for it.
    pub fn state(self) -> Participation {
        match self {
            Reason::Quit => Participation::Quit,
            Reason::Finish => Participation::Completed,
            Reason::Timeout => Participation::Timeout,
            Reason::Disconnected => Participation::Disconnected,
            Reason::Kicked => Participation::Kicked,
            Reason::Expired => Participation::Expired,
            Reason::Error => Participation::Error,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STATUSES: [Status; 4] = [Status::Recruiting, Status::Ready, Status::Running, Status::Done];
    const REASONS: [Reason; 7] = [
        Reason::Quit,
        Reason::Finish,
        Reason::Timeout,
        Reason::Disconnected,
        Reason::Kicked,
        Reason::Expired,
        Reason::Error,
    ];

    fn events() -> impl Strategy<Value = Event> {
        let mut all = vec![Event::Join, Event::Cancel, Event::End];
        all.extend([TicketKind::Enter, TicketKind::Reenter].map(Event::Enter));
        all.extend(REASONS.map(Event::Leave));
        prop::sample::select(all)
    }

    /// Whether one state may follow another, said a second time and from the other side.
    fn may_follow(from: Option<Participation>, to: Participation) -> bool {
        use Participation::*;
        match to {
            Waiting => matches!(from, None | Some(Left)),
            Running => matches!(from, Some(Waiting | Timeout | Disconnected | Error)),
            Left | NotStarted => from == Some(Waiting),
            Completed | Quit | Timeout | Disconnected | Error | Kicked | Expired => from == Some(Running),
        }
    }

    #[test]
    fn numbers_and_spellings_agree() {
        for (at, state) in STATES.into_iter().enumerate() {
            assert_eq!(usize::from(state.number()), at);
            assert_eq!(Participation::of(state.number()), Some(state));
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
        }
        assert_eq!(Participation::of(11), None);
        for reason in REASONS {
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.as_str());
        }
        for status in STATUSES {
            assert_eq!(serde_json::to_value(status).unwrap(), status.as_str());
        }
    }

    #[test]
    fn who_gets_which_ticket() {
        use Participation::{Disconnected, Error, Timeout, Waiting};
        for state in STATES {
            for status in STATUSES {
                let expected = match (status, state) {
                    (Status::Ready, Waiting) => Some(TicketKind::Enter),
                    (Status::Ready | Status::Running, Timeout | Disconnected | Error) => {
                        Some(TicketKind::Reenter)
                    }
                    _ => None,
                };
                assert_eq!(state.ticket(status), expected, "{state:?} {status:?}");
                if let Some(kind) = state.ticket(status) {
                    let entered = Participation::after(Some(state), Event::Enter(kind), status);
                    assert_eq!(entered, Some(Participation::Running));
                }
            }
        }
    }

    proptest! {
        #[test]
        fn no_path_leads_to_a_state_that_must_not_be(
            steps in prop::collection::vec((events(), 0..4usize), 0..40),
        ) {
            let (mut state, mut at, mut was_in) = (None, 0, false);
            for (event, progress) in steps {
                // Now and then the clock goes on.
                at = (at + usize::from(progress == 0)).min(3);
                let status = STATUSES[at];
                let Some(next) = Participation::after(state, event, status) else {
                    continue;
                };
                prop_assert!(state == Some(next) || may_follow(state, next), "{:?} {:?} {:?}", state, event, next);
                was_in |= next == Participation::Running;
                let came_in = matches!(next, Participation::Running) && state != Some(next);
                prop_assert!(!came_in || status.is_live());
                if state == Some(next) {
                    continue;
                }
                prop_assert!(!matches!(next, Participation::Left) || status < Status::Running);
                prop_assert!(!matches!(next, Participation::NotStarted) || (!was_in && status == Status::Done));
                state = Some(next);
            }
            let end = Participation::after(state, Event::End, Status::Done);
            prop_assert_eq!(end.is_some(), state.is_some());
            prop_assert!(!matches!(end, Some(Participation::Running | Participation::Waiting)));
            // What is over stays as it is.
            for event in [Event::Join, Event::Cancel, Event::Enter(TicketKind::Enter), Event::Enter(TicketKind::Reenter)]
                .into_iter().chain(REASONS.map(Event::Leave))
            {
                prop_assert_eq!(Participation::after(end, event, Status::Done), None);
            }
            prop_assert_eq!(end.and_then(|end| Participation::after(Some(end), Event::End, Status::Done)), end);
        }
    }
}
