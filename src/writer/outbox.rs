//! What waits to be written to one worker, shared between workers where it is the same for all.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use bytes::Bytes;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, sendmsg};

/// Pieces handed to the kernel at a time.
const SLICES: usize = 64;

/// Bytes in order of sending.
#[derive(Default)]
pub struct Outbox {
    queue: VecDeque<Bytes>,
    /// Behind the queue: small frames for this worker alone, gathered.
    tail: Vec<u8>,
    /// Bytes of the queue.
    queued: usize,
}

impl Outbox {
    /// Bytes waiting.
    pub fn bytes(&self) -> usize {
        self.queued + self.tail.len()
    }

    /// Nothing waits.
    pub fn is_empty(&self) -> bool {
        self.bytes() == 0
    }

    /// Adds bytes that other outboxes hold as well.
    pub fn push(&mut self, bytes: Bytes) {
        self.close_tail();
        self.queued += bytes.len();
        self.queue.push_back(bytes);
    }

    /// Where to append a frame for this worker alone.
    pub fn tail(&mut self) -> &mut Vec<u8> {
        &mut self.tail
    }

    /// Moves all of another outbox behind this one's.
    pub fn append(&mut self, mut other: Outbox) {
        self.close_tail();
        other.close_tail();
        self.queued += other.queued;
        self.queue.append(&mut other.queue);
    }

    /// Writes as much as the socket takes, without waiting.
    ///
    /// # Errors
    /// The other end is gone.
    pub fn flush(&mut self, stream: &UnixStream) -> io::Result<()> {
        self.close_tail();
        while !self.queue.is_empty() {
            let slices: Vec<IoSlice<'_>> =
                self.queue.iter().take(SLICES).map(|bytes| IoSlice::new(bytes)).collect();
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            match sendmsg::<()>(stream.as_raw_fd(), &slices, &[], flags, None) {
                Ok(sent) => self.advance(sent),
                Err(Errno::EAGAIN) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn advance(&mut self, mut sent: usize) {
        self.queued -= sent;
        while let Some(front) = self.queue.front_mut() {
            if front.len() > sent {
                bytes::Buf::advance(front, sent);
                return;
            }
            sent -= front.len();
            self.queue.pop_front();
        }
    }

    fn close_tail(&mut self) {
        if !self.tail.is_empty() {
            self.queued += self.tail.len();
            self.queue.push_back(std::mem::take(&mut self.tail).into());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn order_survives_a_reader_that_takes_little() {
        let (mut reader, writer) = UnixStream::pair().unwrap();
        let mut outbox = Outbox::default();
        let mut expected = Vec::new();
        for round in 0..300u32 {
            let shared = Bytes::from(vec![u8::try_from(round % 251).unwrap(); 5_000]);
            expected.extend_from_slice(&shared);
            outbox.push(shared);
            expected.extend_from_slice(&round.to_le_bytes());
            outbox.tail().extend_from_slice(&round.to_le_bytes());
        }
        assert_eq!(outbox.bytes(), expected.len());
        let mut got = vec![0; expected.len()];
        let mut at = 0;
        while at < got.len() {
            outbox.flush(&writer).unwrap();
            let end = (at + 7_777).min(got.len());
            at += reader.read(&mut got[at..end]).unwrap();
        }
        assert!(got == expected);
        assert!(outbox.is_empty());
    }
}
