//! What a client is given so that it can come back: a `pid` for its session and an offset with each
//! message (Socket.IO's connection-state recovery,
//! <https://socket.io/docs/v4/connection-state-recovery>).
//!
//! Both are texts that mean nothing to a client and cannot be made by one. They hold all the server
//! needs, so nothing is kept for clients that are away: any worker of any later start with the same
//! secret reads them.
//!
//! - pid: `USER.GENERATION.START.NONCE.SEAL`, hexadecimal: the user's number and generation of tokens, the
//!   last message published before the session began, 16 random digits, and the first 32 digits of the seal.
//! - offset: `SEQ.SEAL`, hexadecimal, with 12 digits of seal: it only keeps accidents out, since who is
//!   in a room may read all of it anyway. It depends on the message alone, so that it is made once and
//!   not for each recipient.
//!
//! A seal is HMAC-SHA-256 (RFC 2104) of the text before it, under a key of its own for either kind,
//! derived from the server's secret.
//!
//! The id that a session has in the namespace (`socket.id`), which is no secret, is made of what its pid
//! names in the same way: a client that goes on with its session has the id that it had before.

use std::fmt::Write as _;
use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::chat::UserId;

/// Bytes of a seal in a pid.
const PID_SEAL: usize = 16;

/// Bytes of a seal in an offset.
const OFFSET_SEAL: usize = 6;

/// Bytes of a session's id before they are spelled in base64url.
const ID_BYTES: usize = 15;

/// Whose a session is: nobody goes on with one that began before all tokens of its user were ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// The user.
    pub user: UserId,
    /// The generation of the user's tokens that is good.
    pub generation: u32,
}

/// A session that may be gone on with, as its pid names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// Whose it is.
    pub owner: Owner,
    /// The last message published before it began.
    pub start: u64,
    /// Tells it from the user's other sessions.
    pub nonce: u64,
}

/// Makes and reads pids and offsets.
pub struct Seals {
    pid: Hmac<Sha256>,
    offset: Hmac<Sha256>,
    id: Hmac<Sha256>,
}

impl Seals {
    /// Under keys derived from the server's secret.
    pub fn new(secret: &str) -> Seals {
        Seals {
            pid: derived(secret, b"minitalk recovery pid"),
            offset: derived(secret, b"minitalk recovery offset"),
            id: derived(secret, b"minitalk recovery id"),
        }
    }

    /// The pid of a session.
    pub fn pid(&self, session: &Session) -> String {
        let mut text = named(session);
        let seal = u128::from_be_bytes(first(&seal(&self.pid, text.as_bytes())));
        // Writing to a string does not fail.
        let _ = write!(text, ".{seal:032x}");
        text
    }

    /// The id of a session in its namespace: 20 characters.
    pub fn id(&self, session: &Session) -> String {
        URL_SAFE_NO_PAD.encode(first::<ID_BYTES>(&seal(&self.id, named(session).as_bytes())))
    }

    /// The session that a pid names; `None`: it is none of ours.
    pub fn read_pid(&self, pid: &str) -> Option<Session> {
        let mut parts =
            opened::<PID_SEAL>(&self.pid, pid)?.split('.').map(|part| u64::from_str_radix(part, 16).ok());
        let (user, generation) = (parts.next()??, u32::try_from(parts.next()??).ok()?);
        let (start, nonce) = (parts.next()??, parts.next()??);
        Some(Session { owner: Owner { user, generation }, start, nonce })
    }

    /// Appends the offset of a message.
    pub fn offset(&self, seq: u64, out: &mut Vec<u8>) {
        let start = out.len();
        // Writing to a vector does not fail.
        let _ = write!(out, "{seq:x}");
        let [a, b, c, d, e, f] = first(&seal(&self.offset, &out[start..]));
        let _ = write!(out, ".{:012x}", u64::from_be_bytes([0, 0, a, b, c, d, e, f]));
    }

    /// The `seq` of the message that an offset names; `None`: it is none of ours.
    pub fn read_offset(&self, offset: &str) -> Option<u64> {
        u64::from_str_radix(opened::<OFFSET_SEAL>(&self.offset, offset)?, 16).ok()
    }
}

/// A session as its pid begins.
fn named(Session { owner: Owner { user, generation }, start, nonce }: &Session) -> String {
    format!("{user:x}.{generation:x}.{start:x}.{nonce:016x}")
}

#[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("a key")
}

fn derived(secret: &str, purpose: &[u8]) -> Hmac<Sha256> {
    keyed(&seal(&keyed(secret.as_bytes()), purpose))
}

fn seal(key: &Hmac<Sha256>, text: &[u8]) -> [u8; 32] {
    key.clone().chain_update(text).finalize().into_bytes().into()
}

fn first<const N: usize>(seal: &[u8; 32]) -> [u8; N] {
    std::array::from_fn(|at| seal[at])
}

/// The text that a sealed one begins with, if its last `N` bytes in hexadecimal are its seal.
fn opened<'a, const N: usize>(key: &Hmac<Sha256>, sealed: &'a str) -> Option<&'a str> {
    let (text, digits) = sealed.rsplit_once('.')?;
    if digits.len() != 2 * N || !digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    let mut claimed = [0; N];
    for (byte, at) in claimed.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(digits.get(at..at + 2)?, 16).ok()?;
    }
    key.clone().chain_update(text).verify_truncated_left(&claimed).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn offset(seals: &Seals, seq: u64) -> String {
        let mut text = Vec::new();
        seals.offset(seq, &mut text);
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn a_later_start_with_the_same_secret_reads_them_and_another_does_not() {
        let session = Session { owner: Owner { user: 7, generation: 11 }, start: 9, nonce: 3 };
        let (pid, at) = (Seals::new("s").pid(&session), offset(&Seals::new("s"), 255));
        assert!(pid.starts_with("7.b.9.0000000000000003."), "{pid}");
        assert!(at.starts_with("ff.") && at.len() == 15, "{at}");
        assert_eq!(
            (Seals::new("s").read_pid(&pid), Seals::new("s").read_offset(&at)),
            (Some(session), Some(255))
        );
        assert_eq!((Seals::new("t").read_pid(&pid), Seals::new("t").read_offset(&at)), (None, None));
        assert_eq!((Seals::new("s").read_pid(&at), Seals::new("s").read_offset(&pid)), (None, None));
        let id = Seals::new("s").id(&session);
        assert_eq!((id.len(), &id), (20, &Seals::new("s").id(&session)));
        assert_ne!(id, Seals::new("s").id(&Session { nonce: 4, ..session }));
        assert_ne!(id, Seals::new("t").id(&session));
    }

    proptest! {
        #[test]
        fn they_round_trip(user: u64, generation: u32, start: u64, nonce: u64) {
            let seals = Seals::new("secret");
            let session = Session { owner: Owner { user, generation }, start, nonce };
            prop_assert_eq!(seals.read_pid(&seals.pid(&session)), Some(session));
            prop_assert_eq!(seals.read_offset(&offset(&seals, start)), Some(start));
        }

        #[test]
        fn no_changed_one_is_read(at in 0..80usize, byte in 0x20..0x7fu8) {
            let seals = Seals::new("secret");
            for good in [seals.pid(&Session { owner: Owner { user: 1, generation: 0 }, start: 2, nonce: 3 }), offset(&seals, 77)] {
                let mut bad = good.clone().into_bytes();
                let at = at % bad.len();
                bad[at] = byte;
                let bad = String::from_utf8(bad).unwrap();
                if bad != good {
                    prop_assert_eq!((seals.read_pid(&bad), seals.read_offset(&bad)), (None, None));
                }
            }
        }

        #[test]
        fn no_text_panics(text in ".{0,80}", digits in "[0-9a-f.]{0,80}") {
            let seals = Seals::new("secret");
            prop_assert_eq!((seals.read_pid(&text), seals.read_offset(&text)), (None, None));
            prop_assert_eq!((seals.read_pid(&digits), seals.read_offset(&digits)), (None, None));
        }
    }
}
