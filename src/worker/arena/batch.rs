//! Frames for all sockets of a challenge, made once and written to each, but for what is about the socket's
//! own user.

use std::collections::HashMap;
use std::ops::Range;

use bytes::{Bytes, BytesMut};

use crate::chat::UserId;
use crate::wire::challenge::{self, Told};

/// Frames that wait for the next hand-out.
#[derive(Default)]
pub struct Batch {
    bytes: Vec<u8>,
    /// What is about users with a socket here.
    own: HashMap<UserId, Vec<Range<usize>>, foldhash::fast::RandomState>,
}

/// Frames that are being handed out.
pub struct HandOut {
    bytes: Bytes,
    own: HashMap<UserId, Vec<Range<usize>>, foldhash::fast::RandomState>,
}

impl Batch {
    /// Adds a frame. `has_socket`: its user is not told.
    pub fn add(&mut self, about: UserId, has_socket: bool, told: &Told<'_>) {
        let start = self.bytes.len();
        challenge::write(told, &mut self.bytes);
        if has_socket {
            self.own.entry(about).or_default().push(start..self.bytes.len());
        }
    }

    /// Bytes that wait; whoever comes now hears what stands behind.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Takes what waits.
    pub fn take(&mut self) -> HandOut {
        HandOut { bytes: std::mem::take(&mut self.bytes).into(), own: std::mem::take(&mut self.own) }
    }
}

impl HandOut {
    /// What a user's socket is sent that has been there since the batch had `from` bytes: the same bytes for
    /// all, unless something in them is about the user.
    pub fn of(&self, user: UserId, from: usize) -> Bytes {
        let all = self.bytes.slice(from.min(self.bytes.len())..);
        let Some(own) = self.own.get(&user) else {
            return all;
        };
        let mut kept = BytesMut::with_capacity(all.len());
        let mut at = from;
        for range in own.iter().filter(|range| range.start >= from) {
            kept.extend_from_slice(&self.bytes[at..range.start]);
            at = range.end;
        }
        kept.extend_from_slice(&self.bytes[at..]);
        kept.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frame;

    fn heard(frames: &[u8]) -> Vec<String> {
        frame::written(frames).map(|(_, payload)| String::from_utf8_lossy(payload).into_owned()).collect()
    }

    #[test]
    fn everybody_hears_the_same_but_nothing_of_themselves_or_before_they_came() {
        let mut batch = Batch::default();
        let update =
            |user_id, timestamp| Told::ParticipantUpdate { user_id, distance: 1.0, pace: 6.0, timestamp };
        batch.add(1, true, &update(1, 10));
        batch.add(2, false, &update(2, 11));
        let from = batch.len();
        batch.add(1, true, &update(1, 12));
        batch.add(3, true, &update(3, 13));
        let out = batch.take();
        assert_eq!(batch.len(), 0);
        let times = |user, from| -> Vec<String> {
            let heard = heard(&out.of(user, from));
            heard.iter().map(|text| text[text.len() - 3..text.len() - 1].to_owned()).collect()
        };
        assert_eq!(times(9, 0), ["10", "11", "12", "13"]);
        assert_eq!(times(1, 0), ["11", "13"]);
        assert_eq!(times(3, 0), ["10", "11", "12"]);
        assert_eq!(times(9, from), ["12", "13"]);
        assert_eq!(times(1, from), ["13"]);
        assert_eq!(out.of(8, 0).as_ptr(), out.of(9, 0).as_ptr(), "the same bytes");
    }
}
