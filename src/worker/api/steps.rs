//! A batch call is carried out in steps, and each can be refused by itself: what was stored before
//! stays stored, so a refused step is told entry by entry and the call goes on.

use crate::chat::Refusal;

/// What came of a batch call's steps so far.
#[derive(Debug, Default)]
pub struct Steps {
    answered: bool,
    /// The first refusal, while all were alike.
    refusal: Option<Refusal>,
    unlike: bool,
}

impl Steps {
    /// A step was answered, whatever became of its entries.
    pub fn answered(&mut self) {
        self.answered = true;
    }

    /// A step was refused as a whole.
    pub fn refused(&mut self, refusal: Refusal) {
        match &self.refusal {
            Some(first) => self.unlike |= first.code != refusal.code,
            None => self.refusal = Some(refusal),
        }
    }

    /// Whether the call is answered with its lists.
    ///
    /// # Errors
    /// Every step was refused, and for the same reason: the call is, too.
    pub fn outcome(self) -> Result<(), Refusal> {
        match self.refusal {
            Some(refusal) if !self.answered && !self.unlike => Err(refusal),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::Code;

    fn outcome(steps: &[Option<Code>]) -> Result<(), Code> {
        let mut tally = Steps::default();
        for step in steps {
            match step {
                Some(code) => tally.refused(Refusal::new(*code, "no")),
                None => tally.answered(),
            }
        }
        tally.outcome().map_err(|refusal| refusal.code)
    }

    #[test]
    fn a_call_is_refused_only_if_nothing_else_can_be_said_of_it() {
        let (full, busy) = (Some(Code::StorageFull), Some(Code::Overloaded));
        assert_eq!(outcome(&[]), Ok(()));
        assert_eq!(outcome(&[None, None]), Ok(()));
        assert_eq!(outcome(&[full]), Err(Code::StorageFull));
        assert_eq!(outcome(&[busy, busy, busy]), Err(Code::Overloaded));
        assert_eq!(outcome(&[busy, full]), Ok(()));
        assert_eq!(outcome(&[None, full]), Ok(()));
        assert_eq!(outcome(&[full, full, None]), Ok(()));
    }
}
