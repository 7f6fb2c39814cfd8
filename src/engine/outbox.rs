//! Frames waiting for one connection: empty unless its socket would block or its request has not come.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};

use bytes::{Buf, Bytes};

use crate::wire::engine;

/// Slices handed to one `writev`; the kernel takes up to 1,024.
const SLICES: usize = 64;

/// Bytes of memory that a chunk takes beside its own: its place in the queue and its allocation.
const CHUNK_BYTES: usize = 96;

/// What a connection still has to be sent, in order.
#[derive(Default)]
pub struct Outbox {
    chunks: VecDeque<Bytes>,
    bytes: usize,
    /// Part of the first chunk is already sent.
    begun: bool,
    /// Something was sent since [`Outbox::has_moved`] was last asked.
    moved: bool,
    /// How much of what waits the table has taken note of.
    pub(super) accounted: u32,
}

/// How a flush went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush {
    /// Everything is with the kernel.
    Empty,
    /// The socket takes no more now; it says so when it does.
    Blocked,
}

impl Outbox {
    /// Bytes of memory that would wait behind the first chunk if one of `len` bytes were pushed. Many
    /// small chunks are more than their bytes.
    pub fn held_with(&self, len: usize) -> usize {
        match self.chunks.front() {
            Some(first) => self.bytes - first.len() + len + self.chunks.len() * CHUNK_BYTES,
            None => 0,
        }
    }

    /// Bytes that wait.
    pub fn held(&self) -> usize {
        self.bytes
    }

    /// Nothing waits.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Puts whole frames at the end.
    pub fn push(&mut self, chunk: Bytes) {
        self.bytes += chunk.len();
        self.chunks.push_back(chunk);
    }

    /// Puts the end of a chunk whose beginning the socket has just taken into an empty outbox.
    pub fn push_rest(&mut self, rest: Bytes) {
        debug_assert!(self.is_empty(), "what waits goes first");
        self.push(rest);
        self.begun = true;
    }

    /// Forgets all but the chunk whose first bytes are already sent, so that what is pushed next
    /// begins where the client expects a frame.
    pub fn keep_begun(&mut self) {
        self.chunks.truncate(usize::from(self.begun));
        self.bytes = self.chunks.iter().map(Bytes::len).sum();
    }

    /// Whether the socket has taken anything of what waited since this was last asked.
    pub fn has_moved(&mut self) -> bool {
        std::mem::take(&mut self.moved)
    }

    /// Puts what another outbox holds before everything here.
    pub fn put_first(&mut self, mut first: Outbox) {
        if first.is_empty() {
            return;
        }
        debug_assert!(!self.begun, "the rest of a frame goes before any other");
        first.bytes += self.bytes;
        first.chunks.append(&mut self.chunks);
        first.accounted = self.accounted;
        *self = first;
    }

    /// Takes up to `most` packets, as the payload of long polling.
    pub fn take_payload(&mut self, mut most: usize) -> Vec<u8> {
        let mut payload = Vec::new();
        while most > 0
            && let Some(first) = self.chunks.front_mut()
        {
            let done = engine::append_frames(first, &mut most, &mut payload);
            self.bytes -= done;
            self.moved |= done > 0;
            first.advance(done);
            // Nothing is left of it, or nothing that can be read.
            if most > 0 {
                self.bytes -= first.len();
                self.chunks.pop_front();
            }
        }
        if self.bytes == 0 {
            self.chunks = VecDeque::new();
        }
        payload
    }

    /// Writes what the socket takes, all waiting chunks in one call.
    ///
    /// # Errors
    /// The socket is broken.
    pub fn flush(&mut self, socket: &mut impl Write) -> io::Result<Flush> {
        while self.bytes > 0 {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let count = self
                .chunks
                .iter()
                .zip(&mut slices)
                .map(|(chunk, slice)| *slice = IoSlice::new(chunk))
                .count();
            match socket.write_vectored(&slices[..count]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(sent) => self.advance(sent),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Flush::Blocked),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        // An idle connection keeps no memory for its queue.
        self.chunks = VecDeque::new();
        Ok(Flush::Empty)
    }

    fn advance(&mut self, mut sent: usize) {
        self.bytes -= sent;
        self.moved |= sent > 0;
        while let Some(first) = self.chunks.front_mut() {
            if sent < first.len() {
                first.advance(sent);
                self.begun |= sent > 0;
                return;
            }
            sent -= first.len();
            self.begun = false;
            self.chunks.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes `room` bytes, then blocks.
    struct Socket {
        taken: Vec<u8>,
        room: usize,
    }

    impl Write for Socket {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = bytes.len().min(self.room);
            if taken == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.taken.extend_from_slice(&bytes[..taken]);
            self.room -= taken;
            Ok(taken)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn only_a_begun_chunk_is_kept() {
        let mut outbox = Outbox::default();
        outbox.push(Bytes::from_static(b"one"));
        outbox.push(Bytes::from_static(b"two"));
        let mut socket = Socket { taken: Vec::new(), room: 3 };
        outbox.flush(&mut socket).unwrap();
        outbox.keep_begun();
        assert!(outbox.is_empty());
        outbox.push(Bytes::from_static(b"three"));
        outbox.push(Bytes::from_static(b"four"));
        socket.room = 1;
        outbox.flush(&mut socket).unwrap();
        outbox.keep_begun();
        assert_eq!(outbox.bytes, 4);
    }

    #[test]
    fn one_outbox_before_the_other_and_both_as_a_payload() {
        let frame = |text: &[u8]| {
            let mut frame = Vec::new();
            crate::wire::frame::text(&[text], &mut frame);
            Bytes::from(frame)
        };
        let (mut outbox, mut first) = (Outbox::default(), Outbox::default());
        outbox.push(frame(b"4b"));
        outbox.put_first(Outbox::default());
        first.push(frame(b"4a"));
        outbox.put_first(first);
        outbox.push([frame(b"4c"), frame(b"4d")].concat().into());
        assert_eq!(outbox.take_payload(3), b"4a\x1e4b\x1e4c");
        assert!(!outbox.is_empty());
        assert_eq!(outbox.take_payload(3), b"4d");
        assert!(outbox.is_empty());
    }

    #[test]
    fn what_is_being_sent_does_not_count_and_small_chunks_do() {
        let mut outbox = Outbox::default();
        assert_eq!(outbox.held_with(1 << 30), 0);
        outbox.push(Bytes::from(vec![0; 1 << 20]));
        assert_eq!(outbox.held_with(10), 10 + CHUNK_BYTES);
        (0..1_000).for_each(|_| outbox.push(Bytes::from_static(b"xx")));
        assert!(outbox.held_with(2) > 1_000 * CHUNK_BYTES);
    }

    #[test]
    fn every_split_arrives_in_order() {
        for step in 1..10 {
            let mut outbox = Outbox::default();
            for chunk in [&b"one"[..], b"", b"two", b"three"] {
                outbox.push(Bytes::from_static(chunk));
            }
            let mut socket = Socket { taken: Vec::new(), room: step };
            while outbox.flush(&mut socket).unwrap() == Flush::Blocked {
                assert_eq!(outbox.bytes + socket.taken.len(), 11);
                socket.room = step;
            }
            assert_eq!(socket.taken, b"onetwothree");
            assert!(outbox.is_empty());
        }
    }
}
